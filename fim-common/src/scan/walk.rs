//! The threads: list, open, stat, hash, and compare with what the baseline has.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, RawDir, statat};
use rustix::io::Errno;

use super::queue::{Entry, EntryKind, Job, Listing, Queue};
use super::{Counters, Options, Root, ScanError, ScanRule, Scope, Summary, distinct};
use crate::baseline::{Baseline, Fingerprint, Reader};
use crate::hash::{self, HashOutcome};
use crate::object::{Handle, from_stat};
use crate::state::{HashState, ObjectKind, ObjectState};

/// Entries of one directory that one thread handles at a time.
const CHUNK: usize = 512;
/// Batches of findings that may wait for the calling thread; then the threads wait for it.
const BATCHES: usize = 64;
/// How often [`Options::progress`] is called.
const PROGRESS: Duration = Duration::from_millis(100);
const BUFFER: usize = 128 * 1024;

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
        options: Flags { deep: options.deep, cancel: options.cancel },
        stop: AtomicBool::new(false),
        queue: Queue::new(Vec::new()),
        counters: Counters::default(),
        hasher: RandomState::new(),
        visited: Mutex::default(),
    };
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
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
struct Flags<'a> {
    deep: bool,
    cancel: &'a AtomicBool,
}

struct Shared<'a> {
    scope: Scope<'a>,
    options: Flags<'a>,
    stop: AtomicBool,
    queue: Queue,
    counters: Counters,
    hasher: RandomState,
    visited: Mutex<HashSet<u64>>,
}

impl Shared<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.options.cancel.load(Ordering::Relaxed)
    }

    fn visit(&self, directory: &Path) {
        let hash = self.hasher.hash_one(directory.as_os_str().as_bytes());
        self.visited.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    reader: Option<&'a Reader>,
    sender: Option<SyncSender<Vec<Finding>>>,
    findings: Vec<Finding>,
    buffer: Vec<u8>,
    entries: Vec<MaybeUninit<u8>>,
}

impl<'a> Worker<'a> {
    fn new(
        shared: &'a Shared<'a>,
        reader: Option<&'a Reader>,
        sender: Option<SyncSender<Vec<Finding>>>,
    ) -> Self {
        Self {
            shared,
            reader,
            sender,
            findings: Vec::new(),
            buffer: vec![0; BUFFER],
            entries: vec![MaybeUninit::uninit(); 64 * 1024],
        }
    }

    fn work(mut self) {
        while let Some(job) = self.shared.queue.take() {
            // Also while stopping every job is taken, so that the others see an empty queue.
            if !self.shared.stopped() {
                match job {
                    Job::Directory { path, parent, device, depth } => {
                        self.directory(path, parent.as_deref(), device, depth);
                    }
                    Job::Entries { listing, from, to } => self.chunk(&listing, from, to),
                }
            }
            self.send();
            self.shared.queue.done();
        }
    }

    fn send(&mut self) {
        if let Some(sender) = &self.sender
            && !self.findings.is_empty()
            && sender.send(std::mem::take(&mut self.findings)).is_err()
        {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }

    /// The root itself, and the job for what is in it.
    fn root(&mut self, root: &Root) -> Result<(), ScanError> {
        let path = &root.path;
        let known = match self.reader {
            Some(reader) => reader.fingerprint(path)?,
            None => None,
        };
        let rule = (self.shared.scope.rule)(path);
        match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let stat = from_stat(&stat);
                if stat.kind == Some(ObjectKind::Dir) && root.depth != Some(0) {
                    let job = Job::Directory {
                        path: path.clone(),
                        parent: None,
                        device: None,
                        depth: root.depth,
                    };
                    self.shared.queue.add([job]);
                }
                self.object(CWD, path, path, &stat, rule, known.as_ref());
            }
            Err(Errno::NOENT | Errno::NOTDIR) if known.is_some() => {
                self.absent(path.clone(), rule);
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => self.shared.counters.error(path, &error.into()),
        }
        Ok(())
    }

    fn directory(
        &mut self,
        path: PathBuf,
        parent: Option<&Listing>,
        device: Option<u64>,
        depth: Option<usize>,
    ) {
        match self.list(path.clone(), parent, device, depth) {
            Ok(Some(listing)) => {
                self.shared.visit(&path);
                let count = listing.entries.len();
                // The first chunk here, also when there is nothing in it: what the baseline has in
                // the directory is compared with it.
                self.shared.queue.add((CHUNK..count).step_by(CHUNK).map(|from| Job::Entries {
                    listing: Arc::clone(&listing),
                    from,
                    to: count.min(from + CHUNK),
                }));
                self.chunk(&listing, 0, count.min(CHUNK));
            }
            // Not entered: what the baseline has below it says nothing about it.
            Ok(None) => self.shared.visit(&path),
            // Gone, or another kind of object by now: what was in it is looked up afterwards.
            Err(error) if vanished(&error) => {}
            Err(error) => {
                self.shared.visit(&path);
                self.shared.counters.error(&path, &error);
            }
        }
    }

    /// Lists a directory; `None` when it is a pseudo file system's.
    fn list(
        &mut self,
        path: PathBuf,
        parent: Option<&Listing>,
        device: Option<u64>,
        depth: Option<usize>,
    ) -> io::Result<Option<Arc<Listing>>> {
        let handle = match (parent, path.file_name()) {
            (Some(parent), Some(name)) => enter(&parent.handle, Path::new(name), device)?,
            _ => enter(CWD, &path, device)?,
        };
        let Some(handle) = handle else { return Ok(None) };
        let mut names = Vec::new();
        let mut entries = Vec::new();
        let mut directory = RawDir::new(&handle, &mut self.entries);
        while let Some(entry) = directory.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::Regular,
                FileType::Directory => EntryKind::Directory,
                FileType::Unknown => EntryKind::Unknown,
                _ => EntryKind::Other,
            };
            // 4 GiB of names in one directory is beyond every file system.
            let start = names.len() as u32;
            entries.push(Entry { start, length: name.len() as u16, kind });
            names.extend_from_slice(name);
        }
        entries.sort_unstable_by(|a, b| {
            let name = |entry: &Entry| {
                let start = entry.start as usize;
                names.get(start..start + usize::from(entry.length))
            };
            name(a).cmp(&name(b))
        });
        let device = handle.stat()?.device;
        Ok(Some(self.shared.queue.listing(path, handle, device, depth, names, entries)))
    }

    /// Some entries of a directory, side by side with what the baseline has of them.
    fn chunk(&mut self, listing: &Arc<Listing>, from: usize, to: usize) {
        let names = |at: usize| listing.entries.get(at).map(|entry| listing.name(entry));
        // The chunks' ranges of names leave no hole, so every row belongs to one.
        let low = if from == 0 { &b""[..] } else { names(from).unwrap_or_default() };
        let rows = match self.reader {
            Some(reader) => {
                match reader.entries(listing.path.as_os_str().as_bytes(), low, names(to)) {
                    Ok(rows) => rows,
                    Err(error) => {
                        // A damaged page: nothing is known here, so nothing is said, but counted.
                        tracing::error!(%error, directory = %listing.path.display(), "the baseline cannot be read");
                        Counters::add(&self.shared.counters.errors, 1);
                        return;
                    }
                }
            }
            None => Vec::new(),
        };
        let mut rows = rows.into_iter().peekable();
        let mut path = listing.path.clone();
        let mut jobs = Vec::new();
        for entry in listing.entries.get(from..to).unwrap_or_default() {
            if self.shared.stopped() {
                return;
            }
            let name = listing.name(entry);
            while let Some(row) = rows.next_if(|row| row.name.as_slice() < name) {
                self.absent(child(&listing.path, &row.name), None);
            }
            let row = rows.next_if(|row| row.name.as_slice() == name);
            path.push(std::ffi::OsStr::from_bytes(name));
            self.entry(listing, entry.kind, &path, row.as_ref(), &mut jobs);
            path.pop();
        }
        for row in rows {
            self.absent(child(&listing.path, &row.name), None);
        }
        self.shared.queue.add(jobs);
    }

    fn entry(
        &mut self,
        listing: &Arc<Listing>,
        kind: EntryKind,
        path: &Path,
        row: Option<&Fingerprint>,
        jobs: &mut Vec<Job>,
    ) {
        let rule = (self.shared.scope.rule)(path);
        let directory = matches!(kind, EntryKind::Directory | EntryKind::Unknown);
        if rule.is_none() && !directory {
            if row.is_some() {
                self.findings.push(Finding::OutOfScope(path.to_owned()));
            }
            return;
        }
        let name = Path::new(path.file_name().unwrap_or_default());
        // A file that has to be read anyway is opened at once: fstat(2) tells the same.
        if let (EntryKind::Regular, None, Some(rule)) = (kind, row, rule)
            && rule.hash
            && let Ok(handle) = Handle::open_regular_at(&listing.handle, name)
        {
            self.content(&handle, path, rule, None);
            return;
        }
        match statat(&listing.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let stat = from_stat(&stat);
                let deeper = listing.depth != Some(1);
                if stat.kind == Some(ObjectKind::Dir) && deeper && (self.shared.scope.descend)(path)
                {
                    jobs.push(Job::Directory {
                        path: path.to_owned(),
                        parent: self.shared.queue.keep(listing),
                        device: listing.device,
                        depth: listing.depth.map(|levels| levels - 1),
                    });
                }
                self.object(&listing.handle, name, path, &stat, rule, row);
            }
            Err(Errno::NOENT) => {
                if row.is_some() {
                    self.absent(path.to_owned(), rule);
                }
            }
            Err(error) => self.shared.counters.error(path, &error.into()),
        }
    }

    /// One object that is there.
    fn object<D: std::os::fd::AsFd + Copy>(
        &mut self,
        directory: D,
        name: &Path,
        path: &Path,
        stat: &ObjectState,
        rule: Option<ScanRule>,
        row: Option<&Fingerprint>,
    ) {
        let Some(rule) = rule else {
            if row.is_some() {
                self.findings.push(Finding::OutOfScope(path.to_owned()));
            }
            return;
        };
        let wants_hash = rule.hash
            && stat.kind == Some(ObjectKind::File)
            && stat.size.is_some_and(|size| size <= rule.max_size);
        // A hash that is missing is made up for: it was raced, or the rule is a later one.
        if let Some(row) = row
            && row.matches(stat)
            && !(wants_hash && (self.shared.options.deep || !row.is_hashed()))
        {
            Counters::add(&self.shared.counters.objects, 1);
            if !row.same_device(stat) {
                let device = stat.device;
                self.findings.push(Finding::Renumbered { path: path.to_owned(), device });
            }
            return;
        }
        let before = match self.before(path, row) {
            Ok(before) => before,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the baseline cannot be read");
                return Counters::add(&self.shared.counters.errors, 1);
            }
        };
        if stat.kind == Some(ObjectKind::File) && rule.hash {
            match Handle::open_regular_at(directory, name) {
                Ok(handle) => return self.content(&handle, path, rule, before),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if row.is_some() {
                        self.absent(path.to_owned(), Some(rule));
                    }
                    return;
                }
                // Not for us to read, or a link by now; its state can be had all the same.
                Err(_) => {}
            }
        }
        let hash = (stat.kind == Some(ObjectKind::File)).then_some(if rule.hash {
            HashState::Denied
        } else {
            HashState::Skipped
        });
        match Handle::open_at(directory, name).and_then(|handle| handle.state()) {
            Ok(after) => self.found(path, before, after, hash),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if row.is_some() {
                    self.absent(path.to_owned(), Some(rule));
                }
            }
            Err(error) => self.shared.counters.error(path, &error),
        }
    }

    /// The state before, in full.
    fn before(
        &self,
        path: &Path,
        row: Option<&Fingerprint>,
    ) -> Result<Option<ObjectState>, crate::baseline::BaselineError> {
        match (self.reader, row) {
            (Some(reader), Some(_)) => reader.get(path),
            _ => Ok(None),
        }
    }

    /// A regular file, open for reading.
    fn content(
        &mut self,
        handle: &Handle,
        path: &Path,
        rule: ScanRule,
        before: Option<ObjectState>,
    ) {
        let cancel = self.shared.options.cancel;
        let outcome: HashOutcome =
            hash::handle_content(handle, rule.max_size, &mut self.buffer, cancel);
        Counters::add(&self.shared.counters.bytes, outcome.bytes);
        if cancel.load(Ordering::Relaxed) {
            return;
        }
        let state = match outcome.after {
            Some(stat) => Ok(stat),
            None => handle.stat(),
        };
        match state.and_then(|mut state| handle.complete(&mut state).map(|()| state)) {
            Ok(mut after) => {
                after.sha256 = outcome.sha256;
                self.found(path, before, after, Some(outcome.state));
            }
            Err(error) => self.shared.counters.error(path, &error),
        }
    }

    fn found(
        &mut self,
        path: &Path,
        before: Option<ObjectState>,
        after: ObjectState,
        hash: Option<HashState>,
    ) {
        Counters::add(&self.shared.counters.objects, 1);
        let found = Found { path: path.to_owned(), before, after, hash };
        self.findings.push(Finding::Object(Box::new(found)));
    }

    /// A row whose object is not there.
    fn absent(&mut self, path: PathBuf, rule: Option<ScanRule>) {
        let finding = match rule.or_else(|| (self.shared.scope.rule)(&path)) {
            Some(_) => Finding::Gone(path),
            None => Finding::OutOfScope(path),
        };
        self.findings.push(finding);
    }
}

fn child(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(name))
}

fn vanished(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

/// Opens a directory for listing, unless it is the root of a pseudo file system. Where another
/// file system begins this is found out before it is opened: opening an autofs directory mounts.
fn enter<D: std::os::fd::AsFd + Copy>(
    parent: D,
    name: &Path,
    device: Option<u64>,
) -> io::Result<Option<Handle>> {
    let place = Handle::open_at(parent, name)?;
    if place.stat()?.device != device && pseudo(rustix::fs::fstatfs(&place)?.f_type as u32) {
        return Ok(None);
    }
    Handle::open_directory_at(parent, name).map(Some)
}

/// File systems whose files are not stored but made when they are read, and autofs. Numbers:
/// include/uapi/linux/magic.h and the file systems' own sources.
fn pseudo(magic: u32) -> bool {
    matches!(
        magic,
        0x0000_9fa0 // proc
        | 0x6265_6572 // sysfs
        | 0x0027_e0eb // cgroup
        | 0x6367_7270 // cgroup2
        | 0x6462_6720 // debugfs
        | 0x7472_6163 // tracefs
        | 0x7363_6673 // securityfs
        | 0x6265_6570 // configfs
        | 0x6573_5543 // fusectl
        | 0x6165_676c // pstore
        | 0xcafe_4a11 // bpf
        | 0xf97c_ff8c // selinuxfs
        | 0x4341_5d53 // smackfs
        | 0x5a3c_69f0 // apparmorfs
        | 0x4249_4e4d // binfmt_misc
        | 0x1980_0202 // mqueue
        | 0x958_458f6 // hugetlbfs
        | 0xde5e_81e4 // efivarfs
        | 0x6e73_6673 // nsfs
        | 0x0000_1cd1 // devpts
        | 0x6759_6969 // rpc_pipefs
        | 0x6e66_7364 // nfsd
        | 0x0000_0187 // autofs
    )
}
