//! Events that a receiver refuses for good: `sinks/NAME.parked.jsonl` of the state directory.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fim_common::own;
use fim_common::time::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// The directory, in the state directory.
const DIRECTORY: &str = "sinks";

/// A sink's file.
#[derive(Debug)]
pub(crate) struct Parked {
    path: PathBuf,
    limit: u64,
}

/// One line.
#[derive(Serialize)]
struct Line<'l> {
    /// When it was parked.
    time: Timestamp,
    /// What the receiver said.
    reason: &'l str,
    /// The event, as the journal has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'l RawValue>,
    /// In its place, what is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Parked {
    /// The file of the sink `name`, which is made when there is something to keep.
    pub(crate) fn new(state: &Path, name: &str, limit: u64) -> Self {
        Self { path: state.join(DIRECTORY).join(format!("{name}.parked.jsonl")), limit }
    }

    /// Keeps a line of the journal, also through a power cut.
    ///
    /// # Errors
    /// When the file is as large as it may get, and what the system says.
    pub(crate) fn keep(&self, line: &[u8], reason: &str) -> io::Result<()> {
        let event = serde_json::from_slice::<&RawValue>(line).ok();
        let text = event.is_none().then(|| String::from_utf8_lossy(line).into_owned());
        let parked = Line { time: Timestamp::now(), reason, event, text };
        let mut bytes = serde_json::to_vec(&parked)?;
        bytes.push(b'\n');
        let mut file = self.open()?;
        let length = file.metadata()?.len();
        if length + bytes.len() as u64 > self.limit {
            let message = format!(
                "{} would be larger than max_parked_bytes; see to what is in it and move it away",
                self.path.display()
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).inspect_err(|_| {
            // Whole lines only.
            let _ = file.set_len(length);
        })
    }

    fn open(&self) -> io::Result<File> {
        if let Some(directory) = self.path.parent() {
            own::directory(directory)?;
        }
        own::append(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_is_whole_and_has_a_bound() {
        let state = tempfile::tempdir().unwrap();
        let parked = Parked::new(state.path(), "a", 200);
        parked.keep(br#"{"a":  1}"#, "too \"large\"").unwrap();
        parked.keep(b"no json", "").unwrap();
        let path = state.path().join("sinks/a.parked.jsonl");
        let error = parked.keep(&[b' '; 100], "x").unwrap_err();
        assert!(error.to_string().contains("max_parked_bytes"), "{error}");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(text.contains(r#""reason":"too \"large\"","event":{"a":  1}}"#), "{text}");
        assert_eq!(lines[1]["text"], "no json");
    }
}
