//! The `fim` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    fim_linux_agent::cli::main()
}
