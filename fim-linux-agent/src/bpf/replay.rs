//! A peer of the kernel's ring: records that were made beforehand, for measuring all that lies
//! behind it.
//!
//! They tell that one process makes each file that there is in a directory (create, write, close)
//! and, after the last one of a directory, removes each again. The files are there, so that what is
//! read of them is read; and whoever reads records does not wait for a workload.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fim_common::record::decode::{Body, File, Process, Record};
use fim_common::record::encode::encode;
use fim_common::record::{
    Actor, Ancestor, Attrs, Counters, FileBody, HOOKS, Header, Hook, ID_UNSET, Object, Op,
    ProcessBody, flag,
};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd as _, OwnedFd};
use tokio::sync::Notify;

use super::collector::Monitor;
use super::reader::{Source, poll};
use super::roots::REPLAYED;
use crate::process::clock::Boot;
use crate::shares::Shares;

/// Where the number of a record stands in it.
const SEQUENCE: usize = std::mem::offset_of!(Header, sequence);
/// Above what the kernel gives out (PID_MAX_LIMIT): nobody's process is taken for the replayed one.
const PID: u32 = 1 << 23;

/// A replay that goes on.
pub(crate) struct Replaying {
    pub(crate) progress: Arc<Progress>,
    pub(crate) monitor: Monitor,
}

/// Begins a replay, and knows when it is over.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    begun: AtomicBool,
    over: Notify,
}

impl Progress {
    /// From now on there are records.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Waits until the last one has been taken.
    pub(crate) async fn over(&self) {
        self.over.notified().await;
    }
}

/// Records, and how often they are to come.
pub(crate) struct Replay {
    root: PathBuf,
    records: Vec<Vec<u8>>,
    rounds: u32,
    at: usize,
    number: u64,
    progress: Arc<Progress>,
    /// Of the queue behind; full as long as there is none.
    shares: Option<Arc<Shares>>,
}

impl Replay {
    /// Of each file below `root`, `rounds` times.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) fn of(root: &Path, rounds: u32, progress: Arc<Progress>) -> std::io::Result<Self> {
        let mut writer = Writer { root: root.to_owned(), time: Boot::now(), records: Vec::new() };
        writer.process();
        writer.directory(root)?;
        Ok(Self {
            root: root.to_owned(),
            records: writer.records,
            rounds,
            at: 0,
            number: 0,
            progress,
            shares: None,
        })
    }

    /// The watched directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Does not outrun the queue behind: how fast that is emptied is what is to be found.
    pub(super) fn through(self, shares: Arc<Shares>) -> Self {
        Self { shares: Some(shares), ..self }
    }

    /// How many records there will be, as the programs would have counted them.
    pub(super) fn counters(&self) -> [Counters; HOOKS] {
        let mut counters = [Counters::default(); HOOKS];
        for record in &self.records {
            let hook = std::mem::offset_of!(Header, hook);
            let index = record.get(hook).copied().map_or(0, usize::from);
            if let Some(counters) = counters.get_mut(index) {
                counters.seen += u64::from(self.rounds);
                counters.submitted = counters.seen;
            }
        }
        counters
    }
}

impl Source for Replay {
    fn take<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let begun = self.progress.begun.load(Ordering::Acquire);
        if !begun || self.shares.as_ref().is_none_or(|shares| shares.is_tight()) {
            return None;
        }
        if self.at == self.records.len() {
            (self.at, self.rounds) = (0, self.rounds.saturating_sub(1));
        }
        if self.rounds == 0 {
            self.progress.over.notify_one();
            return None;
        }
        let record = self.records.get_mut(self.at)?;
        if let Some(number) = record.get_mut(SEQUENCE..SEQUENCE + 8) {
            number.copy_from_slice(&self.number.to_ne_bytes());
        }
        self.at += 1;
        self.number += 1;
        Some(look(record))
    }

    fn wait(&mut self, wake: &OwnedFd) {
        poll(&mut [PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)]);
    }
}

/// Makes the records.
struct Writer {
    root: PathBuf,
    time: u64,
    records: Vec<Vec<u8>>,
}

impl Writer {
    fn record(&mut self, hook: Hook, body: Body<'_>) {
        self.time += 1;
        let header = Header { time: self.time, ..Header::default() };
        let (tgid, tid) = (PID, PID);
        let loginuid = ID_UNSET;
        let actor = Actor { start: 1, tgid, tid, exec_id: 1, loginuid, ..Actor::default() };
        self.records.push(encode(&Record { header, hook, actor, body }));
    }

    /// A process with three ancestors, as a shell's child has.
    fn process(&mut self) {
        let comm = |name: &str| {
            let mut comm = [0; 16];
            comm.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            comm
        };
        let mut fixed = ProcessBody { comm: comm("install"), ..ProcessBody::default() };
        for (index, name) in ["bash", "sshd", "systemd"].into_iter().enumerate() {
            let tgid = PID + 1 + index as u32;
            fixed.ancestors[index] = Ancestor { start: 1, tgid, exec_id: 1, comm: comm(name) };
            fixed.ancestors_len += 1;
        }
        let (exe, cwd) = (&b"install\0bin\0usr\0"[..], &b"root\0"[..]);
        let args = b"install\0-m\x000644\0source\0destination\0";
        self.record(Hook::Exec, Body::Process(Process { fixed, exe, cwd, args }));
    }

    fn directory(&mut self, directory: &Path) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() {
                self.directory(&path)?;
            } else if metadata.is_file() {
                files.push((path, metadata));
            }
        }
        for (path, metadata) in &files {
            let created = flag::PATH_IN_SCOPE | flag::OPENED_WRITE;
            self.file(Hook::FileOpen, Op::Create, created, path, metadata);
            let closed = flag::PATH_IN_SCOPE | flag::MODIFIED;
            self.file(Hook::FileRelease, Op::CloseWrite, closed, path, metadata);
        }
        for (path, metadata) in &files {
            self.file(Hook::Unlink, Op::Unlink, flag::PATH_IN_SCOPE, path, metadata);
        }
        Ok(())
    }

    fn file(&mut self, hook: Hook, op: Op, flags: u32, path: &Path, metadata: &std::fs::Metadata) {
        let dev = rustix::fs::major(metadata.dev()) << 20 | rustix::fs::minor(metadata.dev());
        let state = Attrs {
            size: metadata.size(),
            mtime: metadata.mtime(),
            mtime_nsec: metadata.mtime_nsec() as u32,
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            nlink: metadata.nlink() as u32,
            known: 1,
        };
        let (before, after) = match op {
            Op::Unlink => (state, Attrs::default()),
            _ => (Attrs::default(), state),
        };
        let object = Object { ino: metadata.ino(), dev, generation: 1 };
        let fixed =
            FileBody { flags, root: REPLAYED, object, before, after, ..FileBody::default() };
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let tail: Vec<u8> = below
            .components()
            .rev()
            .flat_map(|name| name.as_os_str().as_bytes().iter().copied().chain([0]))
            .collect();
        let file = File { fixed, op, path: &tail, path2: b"", extra: b"" };
        self.record(hook, Body::File(file));
    }
}
