//! Contents on disk: compressed, one file each, for root's eyes only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::Keep;
use crate::platform;

/// While it is written.
const UNFINISHED: &str = ".tmp";

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    limit: u64,
    /// Bytes that all files take.
    total: AtomicU64,
    /// Of the next unfinished file: several threads write at once.
    number: AtomicU64,
}

impl Keep {
    fn ending(self) -> &'static str {
        match self {
            Self::Text => "text.gz",
            Self::Digests => "lines.gz",
        }
    }
}

impl Store {
    pub(super) fn open(directory: &Path, limit: u64) -> io::Result<Self> {
        platform::own_directory(directory)?;
        platform::close_directory(directory)?;
        let mut total = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                // An agent was killed while it wrote.
                fs::remove_file(entry.path())?;
            } else {
                total += entry.metadata()?.len();
            }
        }
        let directory = directory.to_owned();
        Ok(Self { directory, limit, total: AtomicU64::new(total), number: AtomicU64::new(0) })
    }

    fn path(&self, sha256: &str, keep: Keep) -> PathBuf {
        self.directory.join(format!("{sha256}.{}", keep.ending()))
    }

    pub(super) fn has(&self, sha256: &str, keep: Keep) -> bool {
        self.path(sha256, keep).exists()
    }

    pub(super) fn put(&self, sha256: &str, keep: Keep, bytes: &[u8]) -> io::Result<()> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes)?;
        let packed = encoder.finish()?;
        let length = packed.len() as u64;
        if self.total.fetch_add(length, Ordering::Relaxed) + length > self.limit {
            self.total.fetch_sub(length, Ordering::Relaxed);
            return Err(io::Error::other("the kept contents have reached content.max_total"));
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.directory.join(format!("{number}{UNFINISHED}"));
        let result = write(&unfinished, &packed)
            .and_then(|()| fs::rename(&unfinished, self.path(sha256, keep)));
        if result.is_err() {
            self.total.fetch_sub(length, Ordering::Relaxed);
            // There may be nothing to remove; what is left is removed at the next start.
            let _ = fs::remove_file(&unfinished);
        }
        result
    }

    /// `None`: it is not kept. At most `limit` bytes come out of a file, whoever has written it.
    pub(super) fn get(&self, sha256: &str, keep: Keep, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(sha256, keep)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // A line of one byte has a digest of eight.
        GzDecoder::new(file).take(limit.saturating_mul(8)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    pub(super) fn remove(&self, sha256: &str) {
        for keep in [Keep::Text, Keep::Digests] {
            self.remove_file(&self.path(sha256, keep));
        }
    }

    fn remove_file(&self, path: &Path) -> bool {
        let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let removed = fs::remove_file(path).is_ok();
        if removed {
            self.total.fetch_sub(length, Ordering::Relaxed);
        }
        removed
    }

    /// Removes the contents that `used` does not know; how many those were.
    pub(super) fn retain(&self, used: impl Fn(&str) -> bool) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some((sha256, _)) = name.to_str().and_then(|name| name.split_once('.')) else {
                continue;
            };
            if sha256.len() == 64 && !used(sha256) {
                removed += u64::from(self.remove_file(&self.directory.join(&name)));
            }
        }
        Ok(removed)
    }
}

/// Writes a file that only its owner can read.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    platform::own(&mut options, 0o600).open(path)?.write_all(bytes)
}
