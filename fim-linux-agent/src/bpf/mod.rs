//! The bpf backend: eBPF programs on the VFS and security functions of the kernel.
//!
//! `ring => decode => resolve => Operation`: [`reader`] empties the ring on one thread,
//! [`collector`] decodes and resolves on another. [`loader`] loads each program on its own, with
//! field offsets from [`layout`] and the fitting variant from [`programs`]; [`scope`] says which
//! directories the kernel has to know, [`roots`] makes them known and [`pin`] keeps them in memory.
//! [`attached`] holds each program by its link, [`kept`] what maps have to hold, and [`guard`] finds
//! out when somebody meddles with either.
//! [`links`] has the other names of watched files, [`mounting`] who mounted what, [`opened`] what was
//! open before. [`losses`] finds what is missing. [`replay`] stands in for the ring, to measure
//! everything behind it.

mod attached;
pub mod btf;
pub mod collector;
#[cfg(test)]
mod fixtures;
mod guard;
mod kept;
pub mod layout;
mod links;
pub mod loader;
mod losses;
mod mounting;
mod opened;
mod pin;
pub mod processes;
pub mod programs;
mod reader;
pub(crate) mod replay;
pub mod resolve;
mod roots;
mod scope;
