//! The thread that has the disk keep what was written, so that a slow disk holds nobody up.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::seal::{self, Statement};
use super::{Key, index};

/// What the thread is asked.
pub(super) enum Job {
    /// To synchronise a segment.
    Sync(Box<Written>),
    /// To make the index of a closed segment, of what was gathered of it, if that is all.
    Index(PathBuf, Option<Box<index::Gathered>>),
}

/// What is to be synchronised and then said of it.
pub(super) struct Written {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// True of what is in the file now.
    pub(super) statement: Statement,
    pub(super) key: Option<Key>,
    /// Whether the disk is asked; else only the seal is written.
    pub(super) sync: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last segment that was closed: nothing else is said of it and of those before.
    closed: u64,
    failure: Option<io::Error>,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Syncer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Mutex<Shared>>,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (jobs, inbox) = sync_channel::<Job>(2);
        let state = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("journal-sync".to_owned()).spawn(move || {
                while let Ok(job) = inbox.recv() {
                    let job = match job {
                        Job::Sync(job) => job,
                        Job::Index(path, gathered) => {
                            let made = match gathered {
                                Some(gathered) => index::keep(&path, *gathered),
                                None => index::build(&path).map(drop),
                            };
                            // It is made by whoever needs it, if not here.
                            if let Err(error) = made {
                                tracing::debug!(%error, "no index of a segment");
                            }
                            continue;
                        }
                    };
                    let result = if job.sync { job.file.sync_data() } else { Ok(()) };
                    let mut shared = state.lock().unwrap_or_else(PoisonError::into_inner);
                    let result = result.and_then(|()| match &job.key {
                        Some(key) if job.statement.segment > shared.closed => {
                            // A full disk keeps the old seal, which is true as well.
                            match seal::write(&job.path, &job.statement, key, false) {
                                Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
                                result => result,
                            }
                        }
                        _ => Ok(()),
                    });
                    shared.failure = result.err();
                }
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), shared })
    }

    /// Whether the thread has room for it.
    pub(super) fn ask(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// What went wrong last, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }

    /// Writes the last seal of a segment.
    pub(super) fn close(&self, path: &Path, statement: &Statement, key: &Key) -> io::Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        seal::write(path, statement, key, true)?;
        shared.closed = statement.segment;
        Ok(())
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
