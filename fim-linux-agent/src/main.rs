//! The `fim` command.
fn main() {}
