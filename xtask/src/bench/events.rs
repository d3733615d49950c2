//! `cargo xtask bench events`: how long filters of `fim events` take on a large journal, which the agent
//! has written itself, from operations made beforehand (`fim replay`).

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    bench::{results::median, sections},
    ebpf,
    workspace::{Workspace, output, say},
};

/// How much to search.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Events of the journal, at least.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    entries: u64,
    /// How often each filter is used; the median counts.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: u32,
}

/// Events that one round of `fim replay` makes: a creation and a deletion of each of 10,000 files.
const A_ROUND: u64 = 20_000;
/// Seconds that a filter may take where an index can help.
const GOAL: f64 = 1.0;

/// A filter, and whether it finds little of the journal.
struct Filter {
    arguments: Vec<String>,
    is_rare: bool,
}

/// Measures, and writes the section.
pub(crate) fn bench(ws: &Workspace, options: &Options) -> Result<()> {
    let fim = ebpf::build(ws, true)?;
    let base = ws.target.join("bench/events");
    fs::remove_dir_all(&base).ok();
    let measured = measure(options, &fim, &base);
    fs::remove_dir_all(&base).ok();
    sections::write(ws, "events", &measured?)
}

fn measure(options: &Options, fim: &Path, base: &Path) -> Result<String> {
    let watch = base.join("watch");
    fs::create_dir_all(&watch).with_context(|| format!("creating {}", watch.display()))?;
    for number in 0..A_ROUND / 2 {
        let file = watch.join(format!("n{number:06}"));
        fs::write(&file, "").with_context(|| format!("creating {}", file.display()))?;
    }
    let state = base.join("state");
    let rounds = options.entries.div_ceil(A_ROUND);
    say(format!("bench: writing a journal of {} events", rounds * A_ROUND));
    write(fim, &watch, &state, rounds)?;
    let all = count(fim, &state, &[])?;
    ensure!(all.0 >= options.entries, "the journal has {} entries only", all.0);
    let mut lines = Vec::new();
    for Filter { arguments, is_rare } in filters(fim, &state)? {
        let mut found = 0;
        let mut took = Vec::new();
        for _ in 0..options.rounds {
            let (lines, seconds) = count(fim, &state, &arguments)?;
            found = lines;
            took.push(seconds);
        }
        let seconds = median(took).context("no round")?;
        lines.push((arguments.join(" "), found, seconds, is_rare));
    }
    Ok(section(all.0, options.rounds, &lines))
}

/// Has the agent write it. Segments are kept whatever their size.
fn write(fim: &Path, watch: &Path, state: &Path, rounds: u64) -> Result<()> {
    let config = state.with_extension("toml");
    let text = format!(
        "[canary]\ninterval = 0\n[journal]\nmax_segments = 1000\n\
         [[rule]]\nname = \"bench\"\npaths = [{watch:?}]\nhash = false\n"
    );
    fs::write(&config, text).context("writing the configuration")?;
    let mut command = Command::new(fim);
    command
        .args(["--log", "error", "replay", "--output", "none", "--metrics", "127.0.0.1:0"])
        .args(["--rounds", &rounds.to_string()])
        .arg("--config")
        .arg(&config)
        .arg("--state-dir")
        .arg(state)
        .stdin(Stdio::null());
    output(&mut command).map(drop)
}

/// One of each kind. What an index cannot help with finds everything.
fn filters(fim: &Path, state: &Path) -> Result<Vec<Filter>> {
    // In the middle of the journal: the first that is older than its second half.
    let mut command = query(fim, state, &["--action".into(), "deleted".into()]);
    let text = output(&mut command)?;
    let all: Vec<&str> = text.lines().collect();
    let line = all.get(all.len() / 2).context("nothing was deleted")?;
    let event: serde_json::Value = serde_json::from_str(line)?;
    let path = event["file"]["path"].as_str().context("an event without a path")?.to_owned();
    let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let time = time_of(&event)?;
    let rare = |arguments: &[&str]| Filter {
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        is_rare: true,
    };
    // Each round of the replay has the same times; the end of the agent has its own, behind them.
    let stopped = output(&mut query(fim, state, &["--action".into(), "agent_stopped".into()]))?;
    let stopped = time_of(&serde_json::from_str(stopped.trim())?)?;
    Ok(vec![
        rare(&["--path", &path]),
        rare(&["--path", &name]),
        rare(&["--path", &format!("{}*", &path[..path.len() - 1])]),
        rare(&["--alerts"]),
        rare(&["--action", "moved"]),
        rare(&["--action", "agent_started"]),
        rare(&["--user", "nobody"]),
        rare(&["--process", "vim"]),
        rare(&["--rule", "none"]),
        rare(&["--since", &stopped]),
        rare(&["--since", &time, "--path", &name]),
        Filter { arguments: vec!["--action".into(), "deleted".into()], is_rare: false },
    ])
}

fn time_of(event: &serde_json::Value) -> Result<String> {
    event["@timestamp"].as_str().map(str::to_owned).context("an event without a time")
}

fn query(fim: &Path, state: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(fim);
    command.args(["events", "--json", "--state-dir"]).arg(state).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// How many events a filter finds, and the seconds that it takes.
fn count(fim: &Path, state: &Path, arguments: &[String]) -> Result<(u64, f64)> {
    let start = Instant::now();
    let text = output(&mut query(fim, state, arguments))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((text.lines().count() as u64, seconds))
}

fn section(entries: u64, rounds: u32, lines: &[(String, u64, f64, bool)]) -> String {
    let mut text = format!(
        "## Finding events\n\n`fim events --json` on a journal of {entries} events, in the page cache; \
         medians of {rounds} rounds, the start of the program included. Where an index can help, which \
         is wherever little is found, the target is {GOAL:.0} s. `cargo xtask bench events` writes this \
         part alone.\n\n| filter | found | s |  |\n|---|---|---|---|\n"
    );
    for (filter, found, seconds, is_rare) in lines {
        let verdict = match (is_rare, *seconds < GOAL) {
            (true, true) => "reached",
            (true, false) => "not reached",
            (false, _) => "everything is read",
        };
        let filter = shortened(filter);
        // Writing to a string cannot fail.
        writeln!(text, "| `{filter}` | {found} | {seconds:.2} | {verdict} |").ok();
    }
    text
}

/// The paths of this machine are nobody's business.
fn shortened(filter: &str) -> String {
    filter
        .split(' ')
        .map(|word| match PathBuf::from(word) {
            path if path.is_absolute() => {
                format!("/…/{}", path.file_name().unwrap_or_default().to_string_lossy())
            }
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_too_slow_is_named() {
        let lines = [
            ("--path /a/b/c".to_owned(), 2, 0.25, true),
            ("--alerts".to_owned(), 0, 1.5, true),
            ("--action deleted".to_owned(), 500_000, 7.0, false),
        ];
        let text = section(1_000_000, 3, &lines);
        for line in [
            "| `--path /…/c` | 2 | 0.25 | reached |",
            "| `--alerts` | 0 | 1.50 | not reached |",
            "| `--action deleted` | 500000 | 7.00 | everything is read |",
        ] {
            assert!(text.contains(&format!("{line}\n")), "no {line} in\n{text}");
        }
    }
}
