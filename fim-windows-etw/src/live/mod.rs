//! Collecting on a live system.

pub mod registry;
pub mod site;
pub mod watch;
