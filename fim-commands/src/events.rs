//! `fim events`: what is in the journal.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use fim_common::baseline::DEFAULT_STATE_DIR;
use fim_common::event::{Action, Event, pretty};
use fim_common::journal::cursor::Cursor;
use fim_common::journal::query::{Filter, Search, search};
use fim_common::journal::verify::directory_of;
use fim_common::policy::Pattern;
use fim_common::time::{Timestamp, local};

use crate::{exit, parse_when, quiet_on_closed_pipe};

/// How often a journal that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);

/// The command line of `fim events`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Not before this: 2026-11-22T19:00, 2026-11-22, or how long ago (90s, 15m, 2h, 3d, 1w).
    #[arg(long, value_name = "T", value_parser = parse_when)]
    since: Option<Timestamp>,
    /// Before this.
    #[arg(long, value_name = "T", value_parser = parse_when)]
    until: Option<Timestamp>,
    /// This object and what is below, or what matches a glob. May be repeated, as the others.
    #[arg(long, value_name = "GLOB", value_parser = parse_path)]
    path: Vec<Patterns>,
    /// Real, effective or login user: name or number.
    #[arg(long, value_name = "U")]
    user: Vec<String>,
    /// Name or executable of the process.
    #[arg(long, value_name = "NAME")]
    process: Vec<String>,
    /// created, updated, attributes_modified, moved, deleted, gap ...
    #[arg(long, value_name = "A", value_parser = parse_action)]
    action: Vec<Action>,
    /// Name of the rule.
    #[arg(long, value_name = "R")]
    rule: Vec<String>,
    /// Only alerts.
    #[arg(long)]
    alerts: bool,
    /// One JSON object a line, as the journal has it.
    #[arg(long)]
    json: bool,
    /// Go on with what comes.
    #[arg(long, short)]
    follow: bool,
    /// Go on where this reader stopped, and remember how far it gets. The journal keeps for it what
    /// it has not read yet.
    #[arg(long, value_name = "NAME")]
    cursor: Option<String>,
    /// Where the agent keeps its journal.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

/// A path may stand for several patterns: `{a,b}`.
#[derive(Clone, Debug)]
struct Patterns(Vec<Pattern>);

fn parse_path(text: &str) -> Result<Patterns, String> {
    // A name alone is wanted wherever it is.
    let drive = text.as_bytes().get(1) == Some(&b':');
    let absolute = text.starts_with(['/', '\\']) || drive || text.starts_with("HK");
    let whole = if absolute { text.to_owned() } else { format!("/**/{text}") };
    let parse = if cfg!(windows) { Pattern::parse_windows } else { Pattern::parse };
    parse(&whole).map(Patterns).map_err(|error| error.to_string())
}

fn parse_action(text: &str) -> Result<Action, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// `fim events`.
///
/// # Errors
/// When the journal cannot be read, or `out` cannot be written to; a closed pipe is not an error.
pub fn events(out: &mut dyn Write, arguments: Arguments) -> Result<u8> {
    let directory = directory_of(&arguments.state_dir);
    let mut cursor = match &arguments.cursor {
        Some(name) => {
            Some(Cursor::open(&directory, name).with_context(|| format!("--cursor {name}"))?)
        }
        None => None,
    };
    let wanted = Search::new(Filter {
        since: arguments.since,
        until: arguments.until,
        paths: arguments.path.into_iter().flat_map(|patterns| patterns.0).collect(),
        users: arguments.user,
        processes: arguments.process,
        actions: arguments.action,
        rules: arguments.rule,
        alerts: arguments.alerts,
    });
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut position = cursor.as_ref().and_then(Cursor::position);
    let mut closed = false;
    if !arguments.json {
        closed = !written(writeln!(out, "{HEADER}"))?;
    }
    while !closed {
        let end = search(&directory, &wanted, position, |line| {
            let result = match arguments.json {
                true => out.write_all(line).and_then(|()| out.write_all(b"\n")),
                false => match serde_json::from_slice::<Event>(line) {
                    Ok(event) => writeln!(out, "{}", row(&event)),
                    // Of another version: as it is, rather than not at all.
                    Err(_) => writeln!(out, "{}", pretty::escaped(&String::from_utf8_lossy(line))),
                },
            };
            closed = !written(result)?;
            Ok(!closed)
        })
        .with_context(|| format!("the journal in {}", directory.display()))?;
        closed = closed || !written(out.flush())?;
        if closed {
            break;
        }
        if position != Some(end)
            && let Some(cursor) = &mut cursor
        {
            cursor.advance(end).context("the cursor cannot be written")?;
        }
        position = Some(end);
        if !arguments.follow {
            break;
        }
        closed = !pause();
    }
    Ok(exit::OK)
}

/// Waits for more to come; says whether somebody still reads standard output. Writing alone would not
/// tell: `fim events -f | head -n1` would go on for as long as nothing happens.
#[cfg(unix)]
fn pause() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    // Errors and hang-ups are told without being asked for.
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(POLL).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => !fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
        // A signal, such as that of a terminal which was stopped and goes on.
        Err(_) => true,
    }
}

/// The same; here only the next event tells that nobody reads.
#[cfg(not(unix))]
fn pause() -> bool {
    std::thread::sleep(POLL);
    true
}

/// Whether somebody still reads.
fn written(result: io::Result<()>) -> io::Result<bool> {
    let is_closed = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    quiet_on_closed_pipe(result).map(|()| !is_closed)
}

const HEADER: &str =
    "TIME                     SEV ACTION               USER         PROCESS          WHAT";

/// An event in the table.
fn row(event: &Event) -> String {
    let user =
        event.user.as_ref().and_then(|user| pretty::users(user)).unwrap_or_else(|| "-".to_owned());
    let process = event.process.as_ref().and_then(|process| process.name.as_deref());
    let mark = if event.event.kind == fim_common::event::Kind::Alert { "!" } else { " " };
    let severity = event.event.severity.map_or(String::new(), |severity| severity.to_string());
    format!(
        "{} {mark}{severity:>3} {:<20} {user:<12} {:<16} {}",
        local(event.timestamp, "%Y-%m-%d %H:%M:%S%.3f"),
        event.event.action.as_str(),
        process.map_or("-".to_owned(), pretty::escaped),
        pretty::what(event),
    )
}
