//! fim for Linux: the collectors of operations, the process table behind them, and the commands.

pub mod backend;
pub mod bpf;
pub mod canary;
pub mod cli;
pub mod commands;
pub mod confine;
pub mod containers;
pub mod fanotify;
#[cfg(test)]
mod fuzz_seeds;
pub mod host;
pub mod host_root;
mod memory;
mod mounts;
pub mod process;
pub mod service;
mod shares;
