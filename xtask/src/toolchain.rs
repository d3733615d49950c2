//! The compiler for the BPF target.
//!
//! `bpfel-unknown-none` is a tier 3 target, so rustup has no prebuilt `core` for it. Two ways lead
//! to one: a nightly with `rust-src` builds it (`-Z build-std`), or the distribution ships it
//! (Debian: `libstd-rust-web-dev-bpf`), which works where no nightly can be downloaded.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, output, probe, which};

/// The LLVM that bpf-linker is built with. It reads the bitcode of rustc, and LLVM reads bitcode
/// of its own and of older versions only.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// A rustc that can compile for BPF.
#[derive(Debug, Clone)]
pub(crate) enum BpfToolchain {
    /// rustup's nightly, which builds `core` from `rust-src`.
    Nightly,
    /// A rustc whose sysroot has `core` for BPF.
    Prebuilt {
        /// The compiler.
        rustc: PathBuf,
    },
}

impl BpfToolchain {
    /// The first toolchain that is usable here.
    pub(crate) fn find() -> Option<Self> {
        if nightly_usable() {
            return Some(Self::Nightly);
        }
        // Not through PATH alone: a rustup proxy stands before the distribution's rustc there.
        let rustc = PathBuf::from("/usr/bin/rustc");
        let sysroot = probe(&rustc, &["--print", "sysroot"])?;
        let core = PathBuf::from(sysroot.trim()).join("lib/rustlib/bpfel-unknown-none/lib");
        core.is_dir().then_some(Self::Prebuilt { rustc })
    }

    /// `cargo COMMAND` for the BPF target with this toolchain, in release mode.
    pub(crate) fn cargo(&self, ws: &Workspace, command: &str) -> Result<Command> {
        let linker = linker(ws).context("bpf-linker is missing: run `cargo xtask setup`")?;
        let mut cargo = match self {
            // Through rustup, as the cargo of one toolchain does not take `+nightly`.
            Self::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.current_dir(&ws.root).args(["run", "nightly", "cargo", command]);
                cargo.args(["-Z", "build-std=core"]).env_remove("RUSTC").env_remove("CARGO");
                cargo
            }
            Self::Prebuilt { rustc } => {
                // cargo looks for its `clippy` beside rustup's programs first, and that one would
                // bring rustup's compiler along.
                let mut cargo = if command == "clippy" {
                    let mut clippy = Command::new(rustc.with_file_name("cargo-clippy"));
                    clippy.current_dir(&ws.root).env("CARGO", ws.cargo().get_program());
                    clippy
                } else {
                    ws.cargo()
                };
                // The BPF target and its link arguments are unstable; the distribution's compiler
                // is a stable one of known version, so allowing them is safe.
                cargo.arg(command).env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        cargo
            .args(["--release", "--target", "bpfel-unknown-none", "--package", "fim-ebpf"])
            .arg("--target-dir")
            .arg(ws.target.join("bpf"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
            // The host's flags must not reach the BPF build, whichever way they are given
            // (CARGO_ENCODED_RUSTFLAGS would win over RUSTFLAGS). `debuginfo=2` and `--btf` give
            // the object its BTF, without which fexit programs cannot be loaded.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env("RUSTFLAGS", r#"--cfg bpf_target_arch="x86_64" -Cdebuginfo=2 -Clink-arg=--btf"#);
        Ok(cargo)
    }
}

/// Whether clippy comes with the toolchain that is used.
pub(crate) fn has_clippy() -> bool {
    match BpfToolchain::find() {
        Some(BpfToolchain::Nightly) => {
            rustup(&["run", "nightly", "cargo", "clippy", "-V"]).is_some()
        }
        Some(BpfToolchain::Prebuilt { rustc }) => ["cargo-clippy", "clippy-driver"]
            .iter()
            .all(|program| rustc.with_file_name(program).is_file()),
        None => false,
    }
}

/// bpf-linker: ours, else one that the user has.
pub(crate) fn linker(ws: &Workspace) -> Option<PathBuf> {
    let ours = ws.tools().join("bin/bpf-linker");
    if ours.is_file() { Some(ours) } else { which("bpf-linker") }
}

fn nightly_usable() -> bool {
    let Some(sysroot) = rustup(&["run", "nightly", "rustc", "--print", "sysroot"]) else {
        return false;
    };
    if !PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library").is_dir() {
        return false;
    }
    rustup(&["run", "nightly", "rustc", "-vV"])
        .and_then(|version| llvm_major(&version))
        .is_some_and(|major| major <= LLVM_MAJOR)
}

fn rustup(args: &[&str]) -> Option<String> {
    // Never let a probe download a toolchain.
    output(Command::new("rustup").env("RUSTUP_AUTO_INSTALL", "0").args(args)).ok()
}

fn llvm_major(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn llvm_major_is_read_from_the_verbose_version() {
        let text = "rustc 1.96.0\nbinary: rustc\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(text), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
