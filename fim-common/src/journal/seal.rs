//! What is signed of a segment: a file beside it (`journal-000000000001.seal`), so that the segment
//! itself holds nothing but events.
//!
//! Two lines: a [`Statement`] as JSON, and the Ed25519 signature of that line's bytes (without the
//! newline) in base64. While the segment is being written the statement says `open`, and how far
//! the segment was at the last synchronisation: it has to be at least that long. When it is full
//! the statement says `closed`, and then the segment has to be exactly that.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::Head;
use super::key::{Key, PublicKey};
use crate::durable::write_beside;
use crate::time::Timestamp;

/// Whether a segment is still written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// It is: the statement is about its beginning.
    Open,
    /// It is not: the statement is about all of it.
    Closed,
}

/// What is said of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Number of the segment.
    pub segment: u64,
    /// Whether more may follow.
    pub state: SegmentState,
    /// The chain before its first line: the last one of the segment before.
    pub previous: String,
    /// The chain of its last line; `previous` while it has none.
    pub chain: String,
    /// Its lines.
    pub entries: u64,
    /// Its length.
    pub bytes: u64,
    /// The oldest segment that is kept: older ones were removed by the agent.
    pub oldest: u64,
    /// When this was said.
    pub time: Timestamp,
    /// The key it is signed with: 32 bytes in base64.
    pub public_key: String,
}

/// A statement as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What it says.
    pub statement: Statement,
    /// The signed bytes.
    signed: Vec<u8>,
    signature: String,
}

impl Seal {
    /// Whether it is signed by this key.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&self.signed, &self.signature)
    }

    /// The key that it names, which proves nothing about whose it is.
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_base64(&self.statement.public_key)
    }

    /// The chain before the first line.
    pub fn previous(&self) -> Option<Head> {
        Head::parse(self.statement.previous.as_bytes())
    }

    /// The chain of the last line that it covers.
    pub fn chain(&self) -> Option<Head> {
        Head::parse(self.statement.chain.as_bytes())
    }
}

/// Where the seal of a segment is.
pub fn seal_path(segment: &Path) -> PathBuf {
    segment.with_extension("seal")
}

/// Reads the seal of a segment; `None`: there is none.
///
/// # Errors
/// With the kind [`io::ErrorKind::InvalidData`] if it is something else.
pub fn read(segment: &Path) -> io::Result<Option<Seal>> {
    let text = match std::fs::read_to_string(seal_path(segment)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    let (Some(signed), Some(signature)) = (lines.next(), lines.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has fewer than two lines"));
    };
    let statement = serde_json::from_str(signed)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(Seal { statement, signed: signed.into(), signature: signature.to_owned() }))
}

/// Signs and writes the seal of a segment. A statement that is soon written anew need not be on
/// disk: without `sync`.
///
/// # Errors
/// What the system says.
pub(super) fn write(
    segment: &Path,
    statement: &Statement,
    key: &Key,
    sync: bool,
) -> io::Result<()> {
    let mut text = serde_json::to_string(statement).map_err(io::Error::other)?;
    let signature = key.sign(text.as_bytes());
    text.push('\n');
    text.push_str(&signature);
    text.push('\n');
    write_beside(&seal_path(segment), text.as_bytes(), 0o600, sync)
}
