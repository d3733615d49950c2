//! Where the cells come from: the end-to-end test program, in a machine or here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    conformance::{
        Backend, Selection,
        cell::{self, Cell},
    },
    e2e::{self, Equipment},
    kernels::Kernel,
    vm::{self, VmEnd},
    workspace::{Workspace, output, say},
};

const EQUIPMENT: Equipment = Equipment {
    modules: &["ext4", "xfs", "btrfs", "loop", "overlay"],
    programs: &["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "btrfs"],
};
/// Images of file systems are in memory, as everything is.
const MEMORY_MB: u32 = 3072;
/// The test in the test program.
const TEST: &[&str] = &["conformance::conformance", "--exact"];
/// Below `target`.
const DIRECTORY: &str = "conformance";
/// Names of files beside the results, without their endings.
const NAME: &str = "cells";

/// What came of a run.
pub(crate) struct Results {
    pub(crate) cells: Vec<Cell>,
    /// It went wrong otherwise.
    pub(crate) failure: Option<String>,
}

/// In a machine of this kernel.
pub(crate) fn guest(
    ws: &Workspace,
    kernel: &'static Kernel,
    backend: Backend,
    selection: &Selection,
    program: &Path,
) -> Result<Results> {
    let out = fresh(ws, &name(kernel, backend))?;
    let mut spec = e2e::machine(ws, kernel, program.to_path_buf(), EQUIPMENT)?;
    let variables: Vec<String> = variables(backend, &format!("/out/{NAME}.jsonl"), selection)
        .map(|(name, value)| format!("export {name}={}\n", crate::cli::quote(&value)))
        .into();
    let export = variables.concat();
    spec.command = Some(format!(
        "{export}export FIM_BIN=/usr/bin/fim\nexec {} {}",
        e2e::TARGET,
        TEST.join(" ")
    ));
    spec.memory_mb = MEMORY_MB;
    spec.out_dir = Some(out.clone());
    say(format!(
        "conformance: kernel {}, {} (details: {})",
        kernel.name,
        backend.name(),
        out.display()
    ));
    let outcome = vm::run(ws, &spec)?;
    fs::write(out.join("output"), &outcome.output).context("keeping the output")?;
    let failed = outcome.end != VmEnd::Exited(0);
    let failure = failed.then(|| format!("{}\n{}", outcome.end, tail(&outcome.output)));
    let cells = match cells(&out, kernel.name) {
        Ok(cells) => cells,
        // Then it ended before it came to that.
        Err(error) => return Err(error.context(failure.unwrap_or_default())),
    };
    Ok(Results { cells, failure })
}

/// What the last run in such a machine left.
pub(crate) fn recorded(ws: &Workspace, kernel: &Kernel, backend: Backend) -> Result<Results> {
    let out = ws.target.join(DIRECTORY).join(name(kernel, backend));
    Ok(Results { cells: cells(&out, kernel.name)?, failure: None })
}

fn name(kernel: &Kernel, backend: Backend) -> String {
    format!("{}-{}", kernel.name, backend.name())
}

/// On this machine.
pub(crate) fn host(ws: &Workspace, selection: &Selection) -> Result<Vec<Cell>> {
    let program = e2e::build(ws)?;
    let out = fresh(ws, "host")?;
    let results = out.join(format!("{NAME}.jsonl")).display().to_string();
    // Its own word on what is not exact is the same as ours. timeout(1) ends its children too.
    let run = output(
        Command::new("timeout")
            .args(["--kill-after=10", &e2e::TIME_LIMIT.as_secs().to_string()])
            .arg(program)
            .args(TEST)
            .env("FIM_BIN", ws.fim(false))
            .envs(variables(Backend::Fanotify, &results, selection)),
    );
    match cells(&out, "host") {
        Ok(cells) => Ok(cells),
        Err(error) => Err(run.map_or_else(|failure| failure, |_| error)),
    }
}

/// What tells the test program what to do.
fn variables(
    backend: Backend,
    results: &str,
    selection: &Selection,
) -> [(&'static str, String); 4] {
    [
        ("FIM_BACKEND", backend.name().to_string()),
        ("FIM_CONFORMANCE", results.to_string()),
        ("FIM_CONFORMANCE_FS", selection.file_systems.join(" ")),
        ("FIM_CONFORMANCE_OPS", selection.operations.join(" ")),
    ]
}

/// An empty directory: results of another run must not be taken for those of this one.
fn fresh(ws: &Workspace, name: &str) -> Result<PathBuf> {
    let out = ws.target.join(DIRECTORY).join(name);
    fs::remove_dir_all(&out).ok();
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    Ok(out)
}

fn cells(out: &Path, kernel: &str) -> Result<Vec<Cell>> {
    let path = out.join(format!("{NAME}.jsonl"));
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    cell::parse(&text, kernel)
}

/// The end of an output: the rest is in the directory.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
