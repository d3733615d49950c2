//! Collecting on a live system.

pub mod choice;
pub mod config_file;
pub mod etw;
pub mod registry;
pub mod site;
pub mod watch;
