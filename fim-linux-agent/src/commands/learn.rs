//! `fim policy recommended --learn`: runs an agent of its own for a while, to see what fires.
//!
//! It is this program again, with the built-in rules, and state in a directory of its own that is
//! removed afterwards: a running agent and its baseline are not touched.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fim_commands::policy::{Asked, Learned, Seen};
use fim_common::config::quoted;
use fim_common::event::{Action, Event};
use fim_common::policy::Platform;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

/// A directory that goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let path = std::env::temp_dir().join(format!("fim-learn-{}", id.trim()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "this directory is left");
        }
    }
}

/// An agent that ends when this does.
struct Agent(Child);

impl Agent {
    fn ask_to_stop(&self) {
        if let Ok(id) = i32::try_from(self.0.id())
            && let Some(pid) = Pid::from_raw(id)
        {
            // It may have ended by itself, which its exit status will tell.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an agent with the sets that are asked for, for `time`.
///
/// # Errors
/// When they are not those of this platform, and when the agent fails.
pub fn learn(asked: &Asked, time: Duration) -> Result<Learned> {
    if asked.platform != Platform::here() {
        bail!(
            "--learn runs the collector, which watches this host: it cannot learn about {}",
            asked.platform.as_str()
        )
    }
    let scratch = Scratch::new()?;
    let names: Vec<String> = asked.sets.iter().map(|set| quoted(set.as_str())).collect();
    let config = scratch.0.join("fim.toml");
    // No canary: it would make directories on the watched file systems.
    let text = format!(
        "sets = [{}]\n[metrics]\nenabled = false\n[canary]\ninterval = 0\n",
        names.join(", ")
    );
    std::fs::write(&config, text)?;
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600))?;
    let log = scratch.0.join("log");
    let child = Command::new("/proc/self/exe")
        .args(["run", "--output", "json", "--config"])
        .arg(&config)
        .arg("--state-dir")
        .arg(scratch.0.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log)?)
        .spawn()
        .context("the agent cannot be started")?;
    let mut agent = Agent(child);
    let (sender, mut lines) = mpsc::unbounded_channel();
    if let Some(stdout) = agent.0.stdout.take() {
        std::thread::spawn(move || send_events(stdout, &sender));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (seen, took) = runtime.block_on(watch(&agent, &mut lines, time))?;
    let status = agent.0.wait()?;
    if !status.success() {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it says nothing").to_owned();
        bail!("the agent that was to learn ended with {status}: {last}");
    }
    Ok(Learned::new(seen, took))
}

fn send_events(stdout: impl Read, sender: &mpsc::UnboundedSender<Event>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if let Ok(event) = serde_json::from_str(&line)
            && sender.send(event).is_err()
        {
            return;
        }
    }
}

/// Takes events until the time is over, or Ctrl-C; returns them, and how long it was.
async fn watch(
    agent: &Agent,
    events: &mut mpsc::UnboundedReceiver<Event>,
    time: Duration,
) -> Result<(Vec<Seen>, Duration)> {
    let mut seen = Vec::new();
    let mut since = None;
    let mut asked = None;
    tracing::info!("taking a baseline of its own");
    loop {
        let end = async {
            match since {
                Some(since) if asked.is_none() => tokio::time::sleep_until(since + time).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                None => break,
                Some(event) if event.event.action == Action::AgentStarted => {
                    tracing::info!(seconds = time.as_secs(), "learning; Ctrl-C ends it");
                    since = Some(tokio::time::Instant::now());
                }
                Some(event) => seen.extend(Seen::of(&event)),
            },
            () = end => {
                asked = Some(tokio::time::Instant::now());
                agent.ask_to_stop();
            }
            _ = tokio::signal::ctrl_c(), if asked.is_none() => {
                asked = Some(tokio::time::Instant::now());
                agent.ask_to_stop();
            }
        }
    }
    let took = since.zip(asked).map(|(since, asked)| asked.duration_since(since));
    Ok((seen, took.unwrap_or_default()))
}

/// `10m`, `90s`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>();
    let duration = duration.ok().and_then(|duration| Duration::try_from(duration).ok());
    let within = duration.filter(|time| (1..=7 * 86_400).contains(&time.as_secs()));
    within.ok_or_else(|| "a time from 1s to 168h, as in 10m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "10", "0s", "-1m", "200h", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
