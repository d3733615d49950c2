//! Development tasks of fim: `cargo xtask --help`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "progress of a terminal tool; stdout is for results")]

mod ahead;
mod arm64;
mod bench;
mod btf;
mod cli;
mod conformance;
mod cross;
mod deploy;
mod dist;
mod e2e;
mod ebpf;
mod kernels;
mod lint;
mod setup;
mod sinks;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod windows;
mod workspace;

fn main() -> std::process::ExitCode {
    cli::main()
}
