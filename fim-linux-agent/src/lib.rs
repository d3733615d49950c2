//! fim for Linux.
pub mod bpf;
//pub mod commands;
//pub mod fanotify;
//pub mod process;
