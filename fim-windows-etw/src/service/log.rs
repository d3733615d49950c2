//! The log of a service, which has no standard error: a file that begins anew when it is full.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fim_common::own;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which the file becomes `NAME.1` and another one begins: two of them are kept.
const LIMIT: u64 = 8 << 20;

/// The file.
pub struct Log(Mutex<Inner>);

struct Inner {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

impl Log {
    /// Goes on with the file, or makes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, LIMIT)
    }

    fn with_limit(path: &Path, limit: u64) -> io::Result<Self> {
        let file = own::append(path)?;
        let length = file.metadata()?.len();
        Ok(Self(Mutex::new(Inner { path: path.to_owned(), file, length, limit })))
    }
}

impl<'l> MakeWriter<'l> for Log {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Line<'l> {
        Line(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A line of it.
pub struct Line<'l>(MutexGuard<'l, Inner>);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let log = &mut *self.0;
        if log.length > 0 && log.length + bytes.len() as u64 > log.limit {
            let mut before = log.path.clone().into_os_string();
            before.push(".1");
            // Windows renames an open file, as Rust has opened it; where it does not, we go on.
            if std::fs::rename(&log.path, before).is_ok() {
                log.file = own::append(&log.path)?;
            }
            log.length = 0;
        }
        let written = log.file.write(bytes)?;
        log.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_begins_anew_and_two_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fim.log");
        std::fs::write(&path, "of the start before\n").unwrap();
        let log = Log::with_limit(&path, 40).unwrap();
        for line in ["one one one one\n", "two two two two\n", "three\n"] {
            log.make_writer().write_all(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(
            read(&directory.path().join("fim.log.1")),
            "of the start before\none one one one\n"
        );
        assert_eq!(read(&path), "two two two two\nthree\n");
        drop(log);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
