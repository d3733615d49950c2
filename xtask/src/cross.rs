//! Building for machines of another kind.
//!
//! rustup's own library for a target may be out of reach; Debian ships the sources of the one that
//! belongs to its compiler, and cargo builds it (`-Z build-std`).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::workspace::{Workspace, probe};

/// Debian's; see [`crate::toolchain`] for why it is not looked for in PATH.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";

/// Another kind of machine.
pub(crate) struct Target {
    /// rustc's name of it.
    pub(crate) triple: &'static str,
    /// What links for it, and compiles the C that some dependencies have.
    pub(crate) cc: &'static str,
    /// The folder below `target`: builds for the host must not undo those for others.
    pub(crate) folder: &'static str,
}

impl Target {
    /// Where cargo puts what it builds.
    pub(crate) fn dir(&self, ws: &Workspace) -> PathBuf {
        ws.target.join(self.folder)
    }

    /// `cargo COMMAND` for this target.
    pub(crate) fn cargo(&self, ws: &Workspace, command: &str) -> Command {
        // cargo looks for its `clippy` beside rustup's programs first, and that one would bring
        // rustup's compiler along.
        let mut cargo = if command == "clippy" {
            let mut clippy = Command::new(Path::new(RUSTC).with_file_name("cargo-clippy"));
            clippy.current_dir(&ws.root).env("CARGO", ws.cargo().get_program());
            clippy
        } else {
            ws.cargo()
        };
        let variable =
            |prefix: &str, end: &str| format!("{prefix}{}{end}", self.triple.replace('-', "_"));
        cargo
            .args([command, "--target", self.triple, "-Z", "build-std=std,panic_abort"])
            .arg("--target-dir")
            .arg(self.dir(ws))
            // It is compiled in full, and run for moments.
            .args(["--config", "profile.dev.opt-level=0"])
            .args(["--config", "profile.dev.package.\"*\".opt-level=0"])
            .args(["--config", "profile.dev.package.libsqlite3-sys.opt-level=1"])
            .env("RUSTC", RUSTC)
            // Allows `-Z` on a stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(variable("CC_", ""), self.cc)
            .env(variable("CARGO_TARGET_", "_LINKER").to_uppercase(), self.cc)
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTFLAGS");
        cargo
    }

    /// Whether C can be compiled.
    pub(crate) fn has_c(&self, probed: &str) -> bool {
        probe(self.cc, &[&format!("-print-file-name={probed}")])
            .is_some_and(|path| path.trim_start().starts_with('/'))
    }
}

/// Whether clippy comes with the compiler.
pub(crate) fn has_clippy() -> bool {
    ["cargo-clippy", "clippy-driver"]
        .iter()
        .all(|program| Path::new(RUSTC).with_file_name(program).is_file())
}

/// Whether the compiler's own sources are there.
pub(crate) fn has_sources() -> bool {
    probe(RUSTC, &["--print", "sysroot"]).is_some_and(|sysroot| {
        PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/std").is_dir()
    })
}
