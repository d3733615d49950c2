//! One scanning thread: list, open, stat, hash, and compare with what the baseline has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::limit::Duty;
use super::queue::{Entry, Job, Listing};
use super::walk::{Finding, Found, Shared};
use super::{Counters, Root, ScanError, ScanRule, mounts};
use crate::baseline::{BaselineError, Fingerprint, Reader};
use crate::hash::{self, Reading};
use crate::object::{self, EntryKind, Handle, Place, stat_at};
use crate::platform::{self, os_str};
use crate::state::{HashState, ObjectKind, ObjectState};

/// Entries of one directory that one thread handles at a time.
const CHUNK: usize = 512;
/// Bytes of content read at once, as in [`crate::hash`].
const BUFFER: usize = 128 * 1024;

/// One thread.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    reader: Option<&'a Reader>,
    sender: Option<SyncSender<Vec<Finding>>>,
    pub(super) findings: Vec<Finding>,
    buffer: Vec<u8>,
    entries: object::Listing,
    duty: Duty,
}

impl<'a> Worker<'a> {
    /// Without a `sender` the findings stay in `findings`.
    pub(super) fn new(
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
            entries: object::Listing::default(),
            duty: Duty::new(shared.options.limits.cpu_percent),
        }
    }

    pub(super) fn work(mut self) {
        let nice = self.shared.options.limits.nice;
        if nice > 0
            && let Err(error) = platform::be_nice(nice)
        {
            tracing::warn!(%error, nice, "the scan cannot be made nice");
        }
        while let Some((job, _taken)) = self.shared.queue.take() {
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
    pub(super) fn root(&mut self, root: &Root) -> Result<(), ScanError> {
        let path = &root.path;
        let known = match self.reader {
            Some(reader) => reader.fingerprint(path)?,
            None => None,
        };
        let rule = (self.shared.scope.rule)(path);
        match stat_at(Place::WORKING, path) {
            Ok(stat) => {
                if stat.kind == Some(ObjectKind::Dir) && root.depth != Some(0) {
                    let job = Job::Directory {
                        path: path.clone(),
                        parent: None,
                        device: None,
                        depth: root.depth,
                    };
                    self.shared.queue.add([job]);
                }
                self.object(Place::WORKING, path, path, &stat, rule, known.as_ref());
            }
            Err(error) if absent(&error) => {
                if known.is_some() {
                    self.absent(path.clone(), rule);
                }
            }
            Err(error) => self.shared.counters.error(path, &error),
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
            Err(error) if platform::vanished(&error) => {}
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
            (Some(parent), Some(name)) => {
                mounts::enter(parent.handle.place(), Path::new(name), device)?
            }
            _ => mounts::enter(Place::WORKING, &path, device)?,
        };
        let Some(handle) = handle else { return Ok(None) };
        let mut names = Vec::new();
        let mut entries = Vec::new();
        handle.list(&mut self.entries, &mut |name, kind| {
            // 4 GiB of names in one directory is beyond every file system.
            let start = names.len() as u32;
            entries.push(Entry { start, length: name.len() as u16, kind });
            names.extend_from_slice(name);
        })?;
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
                match reader.entries(listing.path.as_os_str().as_encoded_bytes(), low, names(to)) {
                    Ok(rows) => rows,
                    // A damaged page.
                    Err(error) => return self.shared.fail(error),
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
            path.push(os_str(name));
            self.entry(listing, (entry.kind, name), &path, row.as_ref(), &mut jobs);
            path.pop();
            self.duty.rest(self.shared.options.cancel);
        }
        for row in rows {
            self.absent(child(&listing.path, &row.name), None);
        }
        self.shared.queue.add(jobs);
    }

    fn entry(
        &mut self,
        listing: &Arc<Listing>,
        (kind, name): (EntryKind, &[u8]),
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
        let name = os_str(name);
        let name = Path::new(&name);
        let place = listing.handle.place();
        // A file that has to be read anyway is opened at once: fstat(2) tells the same.
        if let (EntryKind::Regular, None, Some(rule)) = (kind, row, rule)
            && rule.hash
            && let Ok(handle) = Handle::open_regular_at(place, name)
        {
            self.content(&handle, path, rule, None);
            return;
        }
        match stat_at(place, name) {
            Ok(stat) => {
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
                self.object(place, name, path, &stat, rule, row);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if row.is_some() {
                    self.absent(path.to_owned(), rule);
                }
            }
            Err(error) => self.shared.counters.error(path, &error),
        }
    }

    /// One object that is there.
    fn object(
        &mut self,
        directory: Place<'_>,
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
            Err(error) => return self.shared.fail(error),
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
        let is_file = stat.kind == Some(ObjectKind::File);
        let hash =
            is_file.then_some(if rule.hash { HashState::Denied } else { HashState::Skipped });
        // A readable descriptor spares the way through /proc, half of the cost.
        let handle = match is_file.then(|| Handle::open_regular_at(directory, name)) {
            Some(Ok(handle)) => Ok(handle),
            _ => Handle::open_at(directory, name),
        };
        match handle.and_then(|handle| handle.state()) {
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
    ) -> Result<Option<ObjectState>, BaselineError> {
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
        let reading = Reading { cancel, throttle: Some(&self.shared.throttle) };
        let outcome = hash::handle_content(handle, rule.max_size, &mut self.buffer, reading);
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
    directory.join(os_str(name))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
