//! The threads and what they share; the calling thread takes what they find.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::worker::Worker;
use super::{Counters, Limits, Options, ScanError, Scope, Summary, Throttle, distinct};
use crate::baseline::{Baseline, BaselineError};
use crate::state::{HashState, ObjectState};

/// Batches of findings that may wait for the calling thread; then the threads wait for it.
const BATCHES: usize = 64;
/// How often [`Options::progress`] is called.
const PROGRESS: Duration = Duration::from_millis(100);

/// What a thread found at one path.
pub(super) enum Finding {
    /// An object that the baseline does not have, or has differently.
    Object(Box<Found>),
    /// An object that is as the baseline has it, but for the device number.
    Renumbered { path: PathBuf, device: Option<u64> },
    /// The baseline has an object that was not there.
    Gone(PathBuf),
    /// The baseline has an object that no rule asks for.
    OutOfScope(PathBuf),
}

/// An object that is there.
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// As the baseline has it.
    pub(super) before: Option<ObjectState>,
    pub(super) after: ObjectState,
    /// What came of hashing it.
    pub(super) hash: Option<HashState>,
}

/// Looks at every object in scope, and hands each to `found` with its state, content hash
/// included, and what came of hashing it.
///
/// # Errors
/// [`ScanError::Thread`]. Objects that cannot be read are counted, not errors.
pub fn walk(
    scope: Scope<'_>,
    options: Options<'_>,
    found: &mut dyn FnMut(PathBuf, ObjectState, Option<HashState>),
) -> Result<Summary, ScanError> {
    let (summary, _) = run(scope, options, None, &mut |finding| {
        if let Finding::Object(object) = finding {
            found(object.path, object.after, object.hash);
        }
        Ok(())
    })?;
    Ok(summary)
}

/// The directories that were listed completely or could not be, by hash.
pub(super) struct Visited {
    hasher: RandomState,
    directories: HashSet<u64>,
}

impl Visited {
    pub(super) fn contains(&self, directory: &[u8]) -> bool {
        self.directories.contains(&self.hasher.hash_one(directory))
    }
}

/// Runs the threads, and hands their findings to `take` in the calling thread. An error of `take`
/// ends the scan.
pub(super) fn run(
    scope: Scope<'_>,
    options: Options<'_>,
    baseline: Option<&Baseline>,
    take: &mut dyn FnMut(Finding) -> Result<(), ScanError>,
) -> Result<(Summary, Visited), ScanError> {
    let roots = distinct(scope.roots);
    let shared = Shared {
        scope,
        options: Flags { deep: options.deep, cancel: options.cancel, limits: options.limits },
        throttle: Throttle::new(options.limits.bytes_per_second),
        stop: AtomicBool::new(false),
        queue: Queue::new(Vec::new()),
        counters: Counters::default(),
        hasher: RandomState::new(),
        visited: Mutex::default(),
        failure: Mutex::default(),
    };
    let threads = options.limits.threads();
    let mut readers = Vec::with_capacity(threads);
    for _ in 0..threads {
        readers.push(baseline.map(Baseline::reader).transpose()?);
    }

    let (sender, findings) = sync_channel::<Vec<Finding>>(BATCHES);
    let mut result = Ok(());
    // The roots first, by this thread: they fill the queue that the others wait for.
    {
        let mut worker = Worker::new(&shared, readers.first().and_then(Option::as_ref), None);
        for root in roots {
            result = result.and_then(|()| worker.root(root));
        }
        for finding in worker.findings {
            result = result.and_then(|()| take(finding));
        }
    }
    let result = result.and_then(|()| {
        std::thread::scope(|threads| {
            for (number, reader) in readers.into_iter().enumerate() {
                let (shared, sender) = (&shared, sender.clone());
                let spawned = std::thread::Builder::new()
                    .name(format!("fim-scan-{number}"))
                    .spawn_scoped(threads, move || {
                        Worker::new(shared, reader.as_ref(), Some(sender)).work()
                    });
                if let Err(error) = spawned {
                    // One thread is as good as many, only slower.
                    if number == 0 {
                        return Err(ScanError::Thread(error));
                    }
                    tracing::warn!(%error, threads = number, "the scan has fewer threads");
                    break;
                }
            }
            drop(sender);
            let result = collect(&shared, options, &findings, take);
            if result.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            // A thread that is sending must not wait for us for ever.
            for _ in findings {}
            result
        })
    });
    (options.progress)(shared.counters.progress());
    result?;
    if let Some(error) = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.into());
    }
    let progress = shared.counters.progress();
    let summary = Summary {
        objects: progress.objects,
        bytes: progress.bytes,
        errors: shared.counters.errors.load(Ordering::Relaxed),
        cancelled: options.cancel.load(Ordering::Relaxed),
        ..Summary::default()
    };
    let directories = shared.visited.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((summary, Visited { hasher: shared.hasher, directories }))
}

fn collect(
    shared: &Shared<'_>,
    options: Options<'_>,
    findings: &Receiver<Vec<Finding>>,
    take: &mut dyn FnMut(Finding) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut shown = Instant::now();
    loop {
        match findings.recv_timeout(PROGRESS) {
            Ok(batch) => batch.into_iter().try_for_each(&mut *take)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if shown.elapsed() >= PROGRESS {
            (options.progress)(shared.counters.progress());
            shown = Instant::now();
        }
    }
}

/// What of [`Options`] the threads may share.
pub(super) struct Flags<'a> {
    pub(super) deep: bool,
    pub(super) cancel: &'a AtomicBool,
    pub(super) limits: Limits,
}

/// What all threads work on.
pub(super) struct Shared<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) options: Flags<'a>,
    pub(super) throttle: Throttle,
    /// The calling thread wants no more.
    pub(super) stop: AtomicBool,
    pub(super) queue: Queue,
    pub(super) counters: Counters,
    hasher: RandomState,
    visited: Mutex<HashSet<u64>>,
    failure: Mutex<Option<BaselineError>>,
}

impl Shared<'_> {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.options.cancel.load(Ordering::Relaxed)
    }

    /// The baseline cannot be read: then nothing can be said of what is in it.
    pub(super) fn fail(&self, error: BaselineError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What the baseline has in this directory needs no looking up afterwards.
    pub(super) fn visit(&self, directory: &Path) {
        let hash = self.hasher.hash_one(directory.as_os_str().as_encoded_bytes());
        self.visited.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
    }
}
