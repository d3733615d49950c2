//! From the journal to a batch: read, filtered, formatted.

use std::path::Path;

use fim_common::config::sink::{Batch as Limits, Sink as Config, SinkFormat};
use fim_common::event::Kind;
use fim_common::journal::JournalError;
use fim_common::journal::cursor::Position;
use fim_common::journal::follow::Follower;

use crate::format::formatted;
use crate::item::{Brief, Item};

/// Lines looked at before a batch is given up that has found nothing: a filter that lets little
/// through must not keep the cursor where it is.
const LOOKED_AT: usize = 20_000;

/// What is to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    /// Lines that cannot be sent, and why.
    pub(crate) bad: Vec<(Vec<u8>, String)>,
    /// Lines read.
    pub(crate) lines: u64,
    /// Of them, those that the sink is not to get.
    pub(crate) filtered: u64,
    /// Where the journal goes on behind it.
    pub(crate) end: Option<Position>,
    /// The journal has no more now.
    pub(crate) is_end: bool,
    /// Segments that were removed before they were read.
    pub(crate) missing: u64,
}

/// A sink's way through the journal.
#[derive(Debug)]
pub(crate) struct Reader {
    follower: Follower,
    limits: Limits,
    min_severity: u8,
    kinds: Vec<Kind>,
    format: SinkFormat,
}

impl Reader {
    /// From `at` on.
    pub(crate) fn new(directory: &Path, at: Position, config: &Config) -> Self {
        Self {
            follower: Follower::new(directory, at),
            limits: config.batch,
            min_severity: config.min_severity,
            kinds: config.kinds.clone(),
            format: config.format,
        }
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Position {
        self.follower.position()
    }

    /// Goes back.
    pub(crate) fn seek(&mut self, at: Position) {
        self.follower.seek(at);
    }

    /// The next batch. Blocks while the disk is read.
    ///
    /// # Errors
    /// When the journal cannot be read; what is in the batch is lost to it, so that the place is
    /// as before.
    pub(crate) fn next(&mut self) -> Result<Batch, JournalError> {
        let before = self.position();
        let mut batch = Batch::default();
        let mut bytes = 0;
        let Self { follower, limits, min_severity, kinds, format } = self;
        let found = follower.read(|line, end| {
            batch.end = Some(end);
            match serde_json::from_slice::<Brief>(line) {
                Err(error) => batch.bad.push((line.to_vec(), format!("not an event: {error}"))),
                Ok(brief) => {
                    let severity = brief.event.severity;
                    let wanted = kinds.contains(&brief.event.kind)
                        && severity.is_none_or(|severity| severity >= *min_severity);
                    match wanted.then(|| formatted(*format, line)) {
                        None => batch.filtered += 1,
                        Some(Ok(formatted)) => {
                            bytes += formatted.as_ref().map_or(line.len(), Vec::len);
                            batch.items.push(Item { line: line.to_vec(), formatted, brief, end });
                        }
                        Some(Err(error)) => {
                            batch.bad.push((line.to_vec(), format!("not an event: {error}")));
                        }
                    }
                }
            }
            batch.lines += 1;
            batch.items.len() < limits.events
                && bytes < limits.bytes
                && batch.lines < LOOKED_AT as u64
        });
        let found = found.inspect_err(|_| self.follower.seek(before))?;
        batch.is_end = found.is_end;
        batch.missing = found.missing;
        Ok(batch)
    }
}
