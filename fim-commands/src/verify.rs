//! `fim verify`: whether the journal is whole and unaltered.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use fim_common::baseline::DEFAULT_STATE_DIR;
use fim_common::event::pretty::escaped;
use fim_common::journal::chain::Head;
use fim_common::journal::key::{PUBLIC_FILE, PublicKey};
use fim_common::journal::verify::{self, Request, Verification, directory_of};

use crate::{exit, quiet_on_closed_pipe};

/// The command line of `fim verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A state directory, a journal's directory, or one segment.
    #[arg(value_name = "JOURNAL", default_value = DEFAULT_STATE_DIR)]
    journal: PathBuf,
    /// The public key that must have signed it, as PEM [default: the one beside the journal].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// An entry with this fim.chain must be in it, as a heartbeat or agent_started told it
    /// (fim.journal.head; 64 zeros: the journal must go back to its beginning).
    #[arg(long, value_name = "DIGITS", value_parser = parse_head)]
    head: Option<Head>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn parse_head(text: &str) -> Result<Head, String> {
    Head::parse(text.as_bytes()).ok_or_else(|| "not 64 lower-case hexadecimal digits".to_owned())
}

/// Verifies the journal at `path`, with the key in `key` or the one beside it.
///
/// # Errors
/// When there is none, or the key cannot be read.
pub(crate) fn verification(
    path: &Path,
    key: Option<&Path>,
    head: Option<Head>,
) -> Result<Verification> {
    let journal = directory_of(path);
    let directory = if journal.is_dir() { journal.as_path() } else { path };
    let beside = directory.parent().map(|state| state.join(PUBLIC_FILE));
    let given = key.is_some();
    let key = match (key, beside) {
        (Some(file), _) => Some(PublicKey::read(file)?),
        (None, Some(file)) if file.exists() => Some(PublicKey::read(&file)?),
        (None, _) => None,
    };
    let is_running = directory.parent().is_some_and(is_locked);
    let request = Request { key, is_running, contains: head };
    let mut found = verify::verify(&journal, &request)?;
    if !given && found.key_is_given {
        found.key_is_given = false;
        found.notes.push(
            "the key is the one beside the journal: whoever could write there could replace both; \
             give a trusted copy with --key"
                .to_owned(),
        );
    }
    Ok(found)
}

/// Whether an agent runs on this state directory.
fn is_locked(state: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(state.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// `fim verify`.
///
/// # Errors
/// When there is no journal, it cannot be read, or `out` cannot be written to.
pub fn verify(out: &mut dyn Write, arguments: &Arguments) -> Result<u8> {
    let found = verification(&arguments.journal, arguments.key.as_deref(), arguments.head)
        .with_context(|| format!("cannot verify {}", arguments.journal.display()))?;
    let written = match arguments.json {
        true => serde_json::to_writer_pretty(&mut *out, &found)
            .map_err(Into::into)
            .and_then(|()| writeln!(out)),
        false => write(out, &found),
    };
    quiet_on_closed_pipe(written)?;
    Ok(if found.is_sound() { exit::OK } else { exit::FAILURE })
}

fn write(out: &mut dyn Write, found: &Verification) -> std::io::Result<()> {
    let verdict = if found.is_sound() { "whole and unaltered" } else { "NOT SOUND" };
    writeln!(
        out,
        "{verdict}: {} entries in {} segments, {} of them closed and signed",
        found.entries, found.segments, found.sealed
    )?;
    if let Some(head) = &found.head {
        writeln!(out, "  head  {head}")?;
    }
    if let Some(key) = &found.public_key {
        writeln!(out, "  key   {key}")?;
    }
    match found.contains {
        Some(true) => writeln!(out, "  the entry that was asked for is in it")?,
        Some(false) => writeln!(
            out,
            "  ENTRY MISSING: no entry has the chain that was asked for: the journal was written \
             anew, or retention has removed the entry"
        )?,
        None => {}
    }
    for fault in &found.faults {
        write!(out, "  {} segment {}", fault.kind.as_str(), fault.segment)?;
        if let (Some(line), Some(offset)) = (fault.line, fault.offset) {
            write!(out, ", line {line} (byte {offset})")?;
        }
        writeln!(out, ": {}", escaped(&fault.message))?;
    }
    for note in &found.notes {
        writeln!(out, "  note: {}", escaped(note))?;
    }
    Ok(())
}
