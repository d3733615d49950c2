//! Whether the agent compiles for arm64.
//!
//! rustup's own library for the target may be out of reach; Debian ships the sources of the one
//! that belongs to its compiler, and cargo builds it (`-Z build-std`).

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::{Workspace, probe, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Debian's; see [`crate::toolchain`] for why it is not looked for in PATH.
const RUSTC: &str = "/usr/bin/rustc";
/// Some dependencies compile C.
const CC: &str = "aarch64-linux-gnu-gcc";

/// Whether the compiler's own sources are there.
pub(crate) fn has_sources() -> bool {
    probe(RUSTC, &["--print", "sysroot"]).is_some_and(|sysroot| {
        PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/std").is_dir()
    })
}

/// Whether C can be compiled.
pub(crate) fn has_c() -> bool {
    probe(CC, &["-print-file-name=crt1.o"]).is_some_and(|path| path.trim_start().starts_with('/'))
}

/// Type-checks the agent and what it is made of, with the BPF object of this machine: BPF is the
/// same on both.
pub(crate) fn check(ws: &Workspace) -> Result<()> {
    let mut cargo = ws.cargo();
    cargo
        .args(["check", "--package", "fim-linux-agent", "--target", TARGET])
        .args(["-Z", "build-std=std,panic_abort", "--target-dir"])
        .arg(ws.target.join("arm64"))
        .env("FIM_EBPF_OBJECT", ws.ebpf_object())
        .env("RUSTC", RUSTC)
        // Allows `-Z` on a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CC_aarch64_unknown_linux_gnu", CC)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CC)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    run(&mut cargo)
}
