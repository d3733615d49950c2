//! What the parts need of an agent: its journal, its pages, its threads.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::workspace::output;

/// How long something may take on a slow machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again, until there is an answer.
pub(super) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < end {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        thread::sleep(Duration::from_millis(100));
    }
    let why = last.map_or_else(String::new, |error| format!(": {error:#}"));
    bail!("{what}: not within {} s{why}", PATIENCE.as_secs())
}

/// The events in a state directory.
pub(super) fn journal(state: &Path) -> Result<Vec<Value>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(state.join("journal"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            segments.push(path);
        }
    }
    segments.sort();
    let mut events = Vec::new();
    for segment in segments {
        let text = fs::read_to_string(segment)?;
        // The last line may be half there.
        events.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(events)
}

/// Waits for the event with this action about this path.
pub(super) fn event(state: &Path, action: &str, path: &Path) -> Result<Value> {
    let path = path.to_string_lossy();
    let is = |event: &Value| {
        event["event"]["action"] == action && event["file"]["path"].as_str() == Some(&path)
    };
    wait_for(&format!("{action} of {path}"), || Ok(journal(state)?.into_iter().find(is)))
}

/// Has curl(1) ask nobody between, not for long, and fail where the answer is no success.
pub(super) const CURL: [&str; 7] =
    ["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "10"];

/// What `curl` gets; anything but success is an error.
pub(super) fn get(url: &str, more: &[&str]) -> Result<String> {
    output(Command::new("curl").args(CURL).args(more).arg(url))
}

/// Every thread of a process has given up what an agent gives up.
pub(super) fn is_confined(pid: u32) -> Result<()> {
    // BPF 39, PERFMON 38, SYS_ADMIN 21, SYS_PTRACE 19, DAC_READ_SEARCH 2.
    const KEPT: u64 = 1 << 39 | 1 << 38 | 1 << 21 | 1 << 19 | 1 << 2;
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(entry?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':')).map(str::trim).unwrap_or_default()
        };
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let capabilities = u64::from_str_radix(field(set), 16)?;
            ensure!(capabilities & !KEPT == 0, "{}: {set} {capabilities:x}", field("Name"));
        }
        ensure!(field("NoNewPrivs") == "1", "{}: it may get new privileges", field("Name"));
        ensure!(field("Seccomp") == "2", "{}: no filter of system calls", field("Name"));
        threads += 1;
    }
    ensure!(threads > 2, "{threads} threads only");
    Ok(())
}

/// A process that is ended with this.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Asks it to end, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<()> {
        let pid = self.0.id().to_string();
        output(Command::new("kill").args(["-TERM", &pid])).context("asking it to end")?;
        wait_for("it does not end", || Ok(self.0.try_wait()?)).map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait()
            && self.stop().is_err()
        {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
