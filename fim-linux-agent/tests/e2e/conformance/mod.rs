//! Operations x file systems, for one kernel and one backend: what comes of each is graded.
//!
//! `cargo xtask conformance` runs this in virtual machines and on the host, and makes
//! `docs/conformance.md` of the grades. By hand, as root:
//!
//! ```text
//! FIM_CONFORMANCE=/tmp/cells.jsonl [FIM_CONFORMANCE_FS='tmpfs ext4'] [FIM_CONFORMANCE_OPS='write'] \
//!     FIM_BIN=/usr/bin/fim FIM_BACKEND=bpf e2e conformance
//! ```
//!
//! There is one agent, since it takes long to start under emulation. Every operation has a
//! directory of its own on each file system. All of them are done first, step by step, and looked
//! at when the agent has stopped: nothing is waited for that may never come.

mod evaluate;
mod expected;
mod operations;
mod trial;
mod volumes;

use std::fs::{self, File};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::agent::{Agent, Setup};
use crate::environment::{backend, is_ready, say};
use crate::scratch::Scratch;
use evaluate::{Cell, Grade};
use trial::{Case, Trial};
use volumes::Volume;

/// Where the results go: a JSON object a line. Without it, nothing of this runs.
const RESULTS: &str = "FIM_CONFORMANCE";
/// Only these file systems, separated by spaces.
const FILE_SYSTEMS: &str = "FIM_CONFORMANCE_FS";
/// Only these operations.
const OPERATIONS: &str = "FIM_CONFORMANCE_OPS";

/// How long the agent may take to tell of something when it has much to tell.
const MARKER_LIMIT: Duration = Duration::from_secs(20);
/// After the last operation: longer than `events.settle_ms`, and than a poll of open files.
const QUIET: Duration = Duration::from_secs(3);

/// Whether the kernel may take the processor from a task in the middle of an eBPF program, as since
/// 6.13 by default (PREEMPT_LAZY). It then skips that program for whoever comes next on the same
/// processor, which is counted, told as a gap, and found by comparison: the cells say what came of
/// it.
fn is_preemptible() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(13))
}

#[test]
fn conformance() {
    let Some(results) = std::env::var_os(RESULTS) else {
        return;
    };
    if !is_ready("conformance") {
        return;
    }
    let mut scratch = Scratch::new("conformance");
    let cases = wanted_cases();
    let volumes: Vec<Volume> = volumes::NAMES
        .iter()
        .filter(|name| is_wanted(FILE_SYSTEMS, name))
        .map(|name| Volume::make(name, &mut scratch, &cases))
        .collect();
    let watched: Vec<_> = volumes.iter().filter_map(Volume::watched).collect();
    let watched: Vec<&Path> = watched.iter().map(|path| path.as_path()).collect();
    let setup = Setup { loses: is_preemptible(), ..Setup::new(scratch.path(), &watched) };
    let agent = Agent::start(setup);
    let mut trials: Vec<Trial> = volumes.iter().flat_map(|volume| volume.trials(&cases)).collect();
    act(&agent, &volumes, &mut trials);
    let stopped = catch_unwind(AssertUnwindSafe(|| agent.stop()));

    let cells: Vec<Cell> = trials.iter().map(|trial| evaluate::cell(trial, &agent)).collect();
    write(Path::new(&results), &cells);
    keep(Path::new(&results), &agent);
    for cell in cells.iter().filter(|cell| cell.grade != Grade::Exact) {
        say(&format!("{} {} {}: {}", cell.grade.name(), cell.fs, cell.op, cell.detail));
    }
    let broken = cells.iter().filter(|cell| cell.grade == Grade::Broken).count();
    assert_eq!(broken, 0, "operations that did not do what they are to do");
    if let Err(panic) = stopped {
        std::panic::resume_unwind(panic);
    }
}

fn is_wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| {
        list.trim().is_empty() || list.split_whitespace().any(|wanted| wanted == name)
    })
}

fn wanted_cases() -> Vec<&'static Case> {
    let all = operations::TABLES.iter().copied().flatten();
    all.filter(|case| is_wanted(OPERATIONS, case.name)).collect()
}

/// Does everything. Between the steps the agent is given the time to take in what there was.
fn act(agent: &Agent, volumes: &[Volume], trials: &mut [Trial]) {
    let mut directories: Vec<_> = volumes.iter().filter_map(Volume::watched).collect();
    let steps = trials.iter().map(|trial| trial.case.steps.len()).max().unwrap_or(0);
    for step in 0..steps {
        for trial in trials.iter_mut() {
            trial.step(step);
        }
        // Where one is not told, the file system cannot be watched, which its cells will show.
        directories.retain(|directory| mark(agent, directory, step));
    }
    // Until nothing comes any more.
    let _ = agent.stream.wait_for(QUIET, |_| None::<()>);
}

/// A barrier: makes a file and waits for its event. Whether it came.
fn mark(agent: &Agent, directory: &Path, step: usize) -> bool {
    let path = directory.join(format!(".marker-{step}"));
    fs::write(&path, "marker\n").unwrap();
    let text = crate::event::path_text(&path);
    let found =
        agent.stream.wait_for(MARKER_LIMIT, |line| Some(()).filter(|()| line.path() == text));
    if let Err(error) = &found {
        say(&format!("{}: no event of a marker: {error}", directory.display()));
    }
    found.is_ok()
}

fn write(results: &Path, cells: &[Cell]) {
    let mut file = File::options().create(true).append(true).open(results).unwrap();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    for cell in cells {
        let line = json!({
            "kernel": kernel,
            "backend": backend().name(),
            "fs": cell.fs,
            "op": cell.op,
            "grade": cell.grade.name(),
            "detail": cell.detail,
        });
        writeln!(file, "{line}").unwrap();
    }
}

/// Beside the results, for whoever wants to know why: all events, and the agent's log.
fn keep(results: &Path, agent: &Agent) {
    let lines: Vec<String> = agent.stream.lines().iter().map(|line| line.text.clone()).collect();
    fs::write(results.with_extension("events"), lines.join("\n") + "\n").unwrap();
    let _ = fs::copy(&agent.setup.log, results.with_extension("log"));
}
