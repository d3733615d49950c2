//! Who did it: the process table both Linux backends share.
//!
//! `records of the eBPF programs, /proc => Description => Table => event::actor::Actor`
//!
//! A process is described once per execution and then referred to by its [`Key`]. The table keeps
//! what has exited for a while, so that an operation read after its process is gone is still
//! attributed. Where there are no records (no eBPF at all), `/proc` is the only source: then a
//! process that is gone before its operation is read has nothing but its id.

mod actor;
pub mod cgroup;
pub mod clock;
mod description;
mod entry;
pub mod procfs;
mod resolve;
mod table;
pub mod users;
mod views;
mod workload;

#[cfg(test)]
mod tests;

pub use description::{Ancestor, ArgsState, Credentials, Description, Key, Namespaces, Tty};
pub use resolve::{Alive, Sighting};
pub use table::{Options, Table};
