//! Very many small files: how much memory fim takes while it scans them, and while it watches them.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Took, grow, number, spend};
use crate::workspace::say;

/// Mean size of the files: each takes a page all the same.
const MEAN: u64 = 300;
/// Bytes at the peak of a first scan, and afterwards.
const GOALS: [u64; 2] = [150_000_000, 60_000_000];
/// How long the agent is left alone before its memory is looked at: what it compares at its start is
/// compared then, and what it gives back is given back.
const REST: Duration = Duration::from_secs(20);
/// A first scan that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured.
pub(super) struct Many {
    files: u64,
    create: Took,
    check: Took,
    /// An agent that takes the baseline itself.
    first: Memory,
    /// One that is started afterwards, and compares.
    second: Memory,
}

/// Bytes resident.
#[derive(Clone, Copy, Default)]
struct Memory {
    peak: u64,
    after: u64,
}

/// Makes the files below `base`, and measures.
pub(super) fn measure(files: u64, fim: &Path, base: &Path) -> Result<Many> {
    let tree = base.join("many");
    fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
    say(format!("bench: making {files} files"));
    grow(&tree, files, MEAN)?;
    let state = base.join("many-state");
    let command = |words: &[&str]| {
        let mut command = Command::new(fim);
        command.args(["--log", "warn"]).args(words);
        command.arg("--watch").arg(&tree).arg("--state-dir").arg(&state);
        command
    };
    say("bench: scanning them");
    let create = spend(&mut command(&["baseline", "create"])).context("fim baseline create")?;
    let check = spend(&mut command(&["check"])).context("fim check")?;
    fs::remove_dir_all(&state).ok();
    let run = ["run", "--backend", "fanotify", "--output", "json", "--metrics", "127.0.0.1:0"];
    let mut agents = (0..2).map(|_| watched(&mut command(&run), &base.join("log")));
    let mut agent = || agents.next().context("an agent")?;
    let (first, second) = (agent()?, agent()?);
    Ok(Many { files, create, check, first, second })
}

/// Runs an agent until it watches and rests.
fn watched(command: &mut Command, log: &Path) -> Result<Memory> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log).context("creating a log")?)
        .spawn()
        .context("fim run cannot be started")?;
    let memory = rest(&mut child);
    // Ends it in any case.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).ok();
    let status = child.wait()?;
    let memory = memory?;
    if !status.success() {
        bail!("fim run ended with {status}: {}", fs::read_to_string(log).unwrap_or_default());
    }
    Ok(memory)
}

fn rest(child: &mut Child) -> Result<Memory> {
    let start = Instant::now();
    let mut lines = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    // The first line comes when the baseline is taken.
    if lines.read_line(&mut line)? == 0 || !line.contains("agent_started") {
        bail!("fim run did not start: {line}");
    }
    if start.elapsed() > PATIENCE {
        bail!("the first scan took {:?}", start.elapsed());
    }
    // Nobody reads on, and there is nothing to be told.
    thread::sleep(REST);
    let pid = child.id();
    let of = |name| number(pid, name).with_context(|| format!("{name} of fim run"));
    Ok(Memory { peak: of("VmHWM:")?, after: of("VmRSS:")? })
}

impl Many {
    pub(super) fn section(&self) -> String {
        let Self { files, create, check, first, second } = self;
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let rate = |took: &Took| *files as f64 / took.wall;
        let verdict = |bytes: u64, goal: u64| if bytes < goal { "reached" } else { "not reached" };
        let peak = create.resident.max(first.peak);
        let after = first.after.max(second.after);
        format!(
            "\n{files} files of {MEAN} bytes in the mean: `fim baseline create` took {:.1} s ({:.0} \
             files a second), `fim check` {:.1} s ({:.0}). Resident memory, in MB; `fim run` was left \
             alone for {} s before the last column.\n\n\
             | run | peak | afterwards |\n|---|---|---|\n\
             | `fim baseline create` | {} | – |\n\
             | `fim check` | {} | – |\n\
             | `fim run` that takes the baseline | {} | {} |\n\
             | `fim run` that compares with it | {} | {} |\n\n\
             | quantity | target | measured |  |\n|---|---|---|---|\n\
             | MB at the peak of a first scan | < {:.0} | {} | {} |\n\
             | MB of the agent afterwards | < {:.0} | {} | {} |\n",
            create.wall,
            rate(create),
            check.wall,
            rate(check),
            REST.as_secs(),
            mb(create.resident),
            mb(check.resident),
            mb(first.peak),
            mb(first.after),
            mb(second.peak),
            mb(second.after),
            GOALS[0] as f64 / 1e6,
            mb(peak),
            verdict(peak, GOALS[0]),
            GOALS[1] as f64 / 1e6,
            mb(after),
            verdict(after, GOALS[1]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_runs_counts() {
        let took = |resident| Took { wall: 10.0, cpu: 1.0, resident };
        let many = Many {
            files: 1_000_000,
            create: took(22_000_000),
            check: took(18_000_000),
            first: Memory { peak: 151_000_000, after: 41_000_000 },
            second: Memory { peak: 50_000_000, after: 59_900_000 },
        };
        let text = many.section();
        assert!(text.contains("| < 150 | 151.0 | not reached |\n"), "{text}");
        assert!(text.contains("| < 60 | 59.9 | reached |\n"), "{text}");
        assert!(text.contains("(100000 files a second)"), "{text}");
    }
}
