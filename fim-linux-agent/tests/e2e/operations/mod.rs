//! The table of operations, each through its real system call.

pub(crate) mod attributes;
pub(crate) mod content;
pub(crate) mod create;
pub(crate) mod failures;
pub(crate) mod names;
