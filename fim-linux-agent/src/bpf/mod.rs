//! The bpf backend: eBPF programs on the VFS and security functions.
pub mod btf;
pub mod layout;
pub mod loader;
pub mod programs;
