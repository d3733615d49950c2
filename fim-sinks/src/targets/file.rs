//! A file, a line for each event. Who rotates it renames or removes it: the next batch opens the
//! name again.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fim_common::own;
use tokio::task::spawn_blocking;

use crate::item::Item;
use crate::sink::{Answer, Failure, Pending, Sink};

pub(crate) struct File {
    path: PathBuf,
    file: Option<fs::File>,
}

impl File {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }
}

impl Sink for File {
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            for item in items {
                bytes.extend_from_slice(item.payload());
                bytes.push(b'\n');
            }
            let (path, had) = (self.path.clone(), self.file.take());
            let written = spawn_blocking(move || write(&path, had, &bytes)).await;
            let file = written
                .map_err(Failure::retry)?
                .map_err(|error| Failure::retry(format!("{}: {error}", self.path.display())))?;
            self.file = Some(file);
            Ok(Answer::default())
        })
    }

    fn has_timeout(&self) -> bool {
        false
    }
}

/// Appends all of it, or nothing, and has the disk keep it.
fn write(path: &Path, had: Option<fs::File>, bytes: &[u8]) -> io::Result<fs::File> {
    let mut file = match had {
        Some(file) if own::is_at(path, &file)? => file,
        _ => own::append(path)?,
    };
    let length = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // The disk is full, mostly: whole lines only.
        let _ = file.set_len(length);
    })?;
    file.sync_data()?;
    Ok(file)
}
