//! Collecting on a live system.

pub mod config_file;
pub mod registry;
pub mod site;
pub mod watch;
