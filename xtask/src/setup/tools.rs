//! Rust programs that the build needs, installed below `target/tools`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    toolchain::LLVM_MAJOR,
    workspace::{Workspace, probe, run, say},
};

/// A program from crates.io, at one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    features: Option<&'static str>,
}

/// The linker for BPF bitcode. Its default feature asks for a newer LLVM than Debian 12 has.
pub(crate) const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.13.0", features: Some("llvm-22") };

/// The dependency linter.
pub(crate) const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: None };

/// Makes the Debian package. What its default features are for, the compression and the ids of debug
/// information, Debian's own programs do, or nobody needs.
pub(crate) const CARGO_DEB: Tool =
    Tool { name: "cargo-deb", version: "3.8.0", features: Some("gzip") };

impl Tool {
    /// Whether this version is installed, by cargo's own record of it.
    pub(crate) fn installed(self, ws: &Workspace) -> bool {
        let record = fs::read_to_string(ws.tools().join(".crates.toml")).unwrap_or_default();
        record.contains(&format!("\"{} {} (", self.name, self.version))
            && ws.tools().join("bin").join(self.name).is_file()
    }
}

/// Builds and installs a tool.
pub(crate) fn install(ws: &Workspace, tool: Tool) -> Result<()> {
    say(format!("building {} {} (once; about a minute)", tool.name, tool.version));
    let mut cargo = ws.cargo();
    cargo
        .args(["install", tool.name, "--version", tool.version, "--locked", "--quiet"])
        // They work for seconds, and optimising them takes minutes.
        .arg("--debug")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .arg("--root")
        .arg(ws.tools())
        .arg("--target-dir")
        .arg(ws.tools().join("build"));
    if let Some(features) = tool.features {
        cargo.args(["--no-default-features", "--features", features]);
    }
    if tool == BPF_LINKER {
        let prefix = llvm_prefix()
            .with_context(|| format!("LLVM {LLVM_MAJOR} is not installed, so neither can this"))?;
        // The first is read by llvm-sys, the second by bpf-linker's own build script, which takes
        // the first llvm-config in PATH without it.
        cargo.env(format!("LLVM_SYS_{LLVM_MAJOR}1_PREFIX"), &prefix).env("LLVM_PREFIX", &prefix);
    }
    // Flags meant for the project's own build are not for its tools.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    run(&mut cargo).with_context(|| {
        format!("installing {} from crates.io (is the registry reachable?)", tool.name)
    })?;
    // Half a gigabyte of intermediate files that are never used again.
    fs::remove_dir_all(ws.tools().join("build")).ok();
    Ok(())
}

/// The validator that has Kubernetes' schemas with it; Kubernetes' own archive of them is on GitHub.
pub(crate) const KUBERNETES_VALIDATE: &str = "1.37.0";

/// Whether it is there.
pub(crate) fn has_kubernetes_validate(ws: &Workspace) -> bool {
    let program = ws.tools().join("python/bin/kubernetes-validate");
    probe(program, &["--version"]).is_some_and(|version| version.contains(KUBERNETES_VALIDATE))
}

/// Installs it from PyPI, apart from what else there is of Python.
pub(crate) fn install_kubernetes_validate(ws: &Workspace) -> Result<()> {
    let place = ws.tools().join("python");
    run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&place))?;
    let package = format!("kubernetes-validate=={KUBERNETES_VALIDATE}");
    run(Command::new(place.join("bin/pip")).args(["install", "--quiet", &package]))
        .context("installing kubernetes-validate from PyPI")
}

/// Where the LLVM for bpf-linker is installed.
pub(crate) fn llvm_prefix() -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}"));
    if has_llvm(&debian) {
        return Some(debian);
    }
    [format!("llvm-config-{LLVM_MAJOR}"), "llvm-config".into()].iter().find_map(|config| {
        let version = probe(config, &["--version"])?;
        version.starts_with(&format!("{LLVM_MAJOR}.")).then_some(())?;
        let prefix = PathBuf::from(probe(config, &["--prefix"])?.trim());
        has_llvm(&prefix).then_some(prefix)
    })
}

fn has_llvm(prefix: &Path) -> bool {
    ["lib", "lib64"].iter().any(|lib| prefix.join(lib).join("libLLVM.so").exists())
        && prefix.join("bin/llvm-config").exists()
}
