//! The `fim-windows-etw` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    fim_windows_etw::cli::main()
}
