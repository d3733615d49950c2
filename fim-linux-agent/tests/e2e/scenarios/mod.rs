//! What is more than one operation.

pub(crate) mod actors;
pub(crate) mod load;
pub(crate) mod paths;
pub(crate) mod roots;
pub(crate) mod writers;
