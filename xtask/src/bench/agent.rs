//! A running `fim run`, and what it says of itself.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    bench::{process, results::Told},
    workspace::run,
};

/// Loading the programs under emulation takes a quarter of a minute; beyond this something hangs.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at the journal: a fifth of what fim itself lets an event wait.
const TICK: Duration = Duration::from_millis(10);

/// Ends when it is dropped.
pub(crate) struct Agent {
    child: Child,
    watch: PathBuf,
    log: PathBuf,
    metrics: SocketAddr,
    journal: Journal,
    fences: u32,
}

/// The few fields of an event that matter here.
#[derive(Deserialize)]
struct Line {
    event: Event,
    file: Option<FileName>,
}

#[derive(Deserialize)]
struct Event {
    action: String,
}

#[derive(Deserialize)]
struct FileName {
    path: String,
}

impl Agent {
    /// Starts an agent that watches this directory without hashing, and waits until it is armed.
    /// `base` must not exist: a baseline of before would be compared with.
    pub(crate) fn start(fim: &Path, backend: &str, watch: &Path, base: &Path) -> Result<Self> {
        fs::create_dir_all(base).with_context(|| format!("creating {}", base.display()))?;
        let config = base.join("fim.toml");
        let text = format!("[[rule]]\nname = \"bench\"\npaths = [{watch:?}]\nhash = false\n");
        fs::write(&config, text).context("writing the configuration")?;
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr().context("a free port")?;
        let (state, log) = (base.join("state"), base.join("log"));
        let child = Command::new(fim)
            .args(["run", "--output", "none", "--backend", backend])
            .args(["--metrics", &metrics.to_string()])
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("creating a log")?)
            .spawn()
            .with_context(|| format!("cannot start {}", fim.display()))?;
        let journal = Journal { dir: state.join("journal"), segment: None, offset: 0, lines: 0 };
        let watch = watch.to_path_buf();
        let mut agent = Self { child, watch, log, metrics, journal, fences: 0 };
        // With nothing on standard output the journal's first line says that it is armed.
        agent.wait("agent_started", |line| line.event.action == "agent_started")?;
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the agent has told of everything that was done before now: an event of a later
    /// file comes after those. Gives what it told since the last time.
    pub(crate) fn drain(&mut self) -> Result<Told> {
        self.fences += 1;
        let fence = self.watch.join(format!("fence-{}", self.fences));
        let name = fence.display().to_string();
        fs::write(&fence, "").with_context(|| format!("creating {name}"))?;
        let fences = self.watch.join("fence-").display().to_string();
        let below = format!("{}/", self.watch.display());
        let mut told = Told::default();
        let mut objects = HashSet::new();
        self.wait(&name, |line| {
            let Some(FileName { path }) = line.file else { return false };
            if path == name && line.event.action == "created" {
                return true;
            }
            if path.starts_with(&below) && !path.starts_with(&fences) {
                told.events += 1;
                objects.insert((line.event.action, path));
            }
            false
        })?;
        fs::remove_file(&fence).with_context(|| format!("removing {name}"))?;
        let count = |wanted: &str| objects.iter().filter(|(is, _)| is == wanted).count() as u64;
        told.created = count("created");
        told.updated = count("updated");
        told.deleted = count("deleted");
        let metrics = self.settled_metrics()?;
        let lost = |line: &&str| {
            line.starts_with("fim_kernel_operations_total") && line.contains("result=\"lost\"")
                || line.starts_with("fim_events_dropped_total")
        };
        told.lost = sum(&metrics, lost) as u64;
        told.gaps = sum(&metrics, |line| line.starts_with("fim_gaps_total")) as u64;
        Ok(told)
    }

    fn wait(&mut self, what: &str, mut wanted: impl FnMut(Line) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut found = false;
            self.journal.take(|line| found |= wanted(line))?;
            if found {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("fim ended ({status}): {}", self.log());
            }
            if started.elapsed() > PATIENCE {
                bail!("fim does not tell of {what}: {}", self.log());
            }
            thread::sleep(TICK);
        }
    }

    /// The page of `/metrics`.
    pub(crate) fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.metrics).context("connecting to fim")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: fim\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("reading fim's metrics")?;
        Ok(text)
    }

    /// The same when it counts all that the journal has: fim adds its counts up twice a second.
    fn settled_metrics(&self) -> Result<String> {
        let journaled =
            |line: &&str| line.starts_with("fim_ledger_operations_total{stage=\"journaled\"}");
        let started = Instant::now();
        loop {
            let metrics = self.metrics()?;
            if sum(&metrics, journaled) as u64 >= self.journal.lines {
                return Ok(metrics);
            }
            if started.elapsed() > PATIENCE {
                bail!("fim does not count {} lines: {}", self.journal.lines, self.log());
            }
            thread::sleep(10 * TICK);
        }
    }

    /// The end of its log.
    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// How many operations the ring takes while the agent is stopped: `flood` does more.
    pub(crate) fn ring_holds(&mut self, flood: impl FnOnce() -> Result<()>) -> Result<u64> {
        let submitted = |metrics: &str| {
            sum(metrics, |line| {
                line.starts_with("fim_kernel_operations_total")
                    && line.contains("result=\"submitted\"")
            })
        };
        let before = submitted(&self.metrics()?);
        let pid = self.pid().to_string();
        run(Command::new("kill").args(["-STOP", &pid]))?;
        let flooded = flood();
        run(Command::new("kill").args(["-CONT", &pid]))?;
        flooded?;
        // A flood that is lost in part has filled it.
        self.wait("gap", |line| line.event.action == "gap")?;
        self.drain()?;
        Ok((submitted(&self.settled_metrics()?) - before) as u64)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

/// The sum of the samples that are wanted.
pub(crate) fn sum(metrics: &str, wanted: impl Fn(&&str) -> bool) -> f64 {
    let values = metrics.lines().filter(wanted).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

/// Where the journal has been read to.
struct Journal {
    dir: PathBuf,
    segment: Option<PathBuf>,
    offset: u64,
    lines: u64,
}

impl Journal {
    /// Passes on the lines that are new.
    fn take(&mut self, mut line: impl FnMut(Line)) -> Result<()> {
        let mut segments: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        segments.sort();
        for segment in segments {
            match self.segment.as_ref().map(|current| segment.cmp(current)) {
                Some(std::cmp::Ordering::Less) => continue,
                Some(std::cmp::Ordering::Equal) => {}
                None | Some(std::cmp::Ordering::Greater) => {
                    self.segment = Some(segment.clone());
                    self.offset = 0;
                }
            }
            let mut file = File::open(&segment).context("opening the journal")?;
            file.seek(SeekFrom::Start(self.offset)).context("reading the journal")?;
            let mut reader = BufReader::with_capacity(1 << 20, file);
            let mut text = String::new();
            // A line without its end is still being written.
            while reader.read_line(&mut text)? > 0 && text.ends_with('\n') {
                self.offset += text.len() as u64;
                self.lines += 1;
                line(serde_json::from_str(&text).context("a line of the journal")?);
                text.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn samples_are_added_up() {
        let metrics = "# HELP a_total A.\na_total{b=\"c\"} 3\na_total{b=\"d\"} 4\na 9\n";
        let total = sum(metrics, |line| line.starts_with("a_total"));
        assert!((total - 7.0).abs() < f64::EPSILON);
    }
}
