//! The `fim-windows-etw` command.

fn main() {}
