//! Builds the BPF object and the agent that embeds it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    setup::{self, Need},
    toolchain::BpfToolchain,
    workspace::{Workspace, output, run, say, which},
};

/// Builds `target/fim-ebpf.o`.
pub(crate) fn build_object(ws: &Workspace) -> Result<PathBuf> {
    let toolchain =
        BpfToolchain::find().context("no BPF toolchain: run `cargo xtask setup` to see why")?;
    // A debug build of BPF code does not pass the verifier (bounds checks, no inlining), so the
    // object is a release build whatever the agent is.
    run(toolchain.cargo(ws, "build")?.args(["--bin", "fim-ebpf"]))
        .context("building the BPF object")?;
    let built = ws.target.join("bpf/bpfel-unknown-none/release/fim-ebpf");
    let object = ws.ebpf_object();
    let partial = object.with_extension(format!("{}.partial", std::process::id()));
    strip(&built, &partial)?;
    let bytes = fs::read(&partial).with_context(|| format!("reading {}", partial.display()))?;
    // Replacing only what changed keeps the agent's `rerun-if-changed` quiet, and renaming keeps a
    // build that runs at the same time from reading half of it.
    if fs::read(&object).ok().as_ref() == Some(&bytes) {
        fs::remove_file(&partial)
    } else {
        fs::rename(&partial, &object)
    }
    .with_context(|| format!("writing {}", object.display()))?;
    say(format!("BPF object: {} ({} bytes)", object.display(), bytes.len()));
    Ok(object)
}

/// Copies the object without its DWARF, which is three quarters of it. The kernel and the loader
/// read BTF, which stays.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let ours = setup::llvm_prefix().map(|prefix| prefix.join("bin/llvm-strip"));
    match ours.filter(|strip| strip.is_file()).or_else(|| which("llvm-strip")) {
        Some(strip) => output(Command::new(strip).arg("-g").arg("-o").arg(to).arg(from)).map(drop),
        None => {
            say("no llvm-strip: the object keeps its debug information, and is larger");
            fs::copy(from, to).map(drop).map_err(Into::into)
        }
    }
    .with_context(|| format!("copying {}", from.display()))
}

/// Builds the object and then the agent; gives the agent's path.
pub(crate) fn build(ws: &Workspace, release: bool) -> Result<PathBuf> {
    setup::ensure(ws, &[Need::Build])?;
    let object = build_object(ws)?;
    let mut cargo = ws.cargo();
    cargo.args(["build", "--package", "fim-linux-agent"]).env("FIM_EBPF_OBJECT", object);
    if release {
        cargo.arg("--release");
    }
    run(&mut cargo).context("building the agent")?;
    Ok(ws.fim(release))
}
