//! A peer of the kernel's ring: records that were made beforehand, for measuring all that lies
//! behind it.
//!
//! They tell that one process makes each file that there is in a directory (create, write, close)
//! and, after the last one of a directory, removes each again. The files are there, so that what is
//! read of them is read; and whoever reads records does not wait for a workload.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use fim_common::ledger::{Ledger, Stage};
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
use super::reader::{self, Source, poll};
use super::roots::REPLAYED;
use crate::process::clock::Boot;
use crate::shares::Shares;

/// Where the number of a record stands in it.
const SEQUENCE: usize = std::mem::offset_of!(Header, sequence);
/// Records under way at most: at 300,000 a second as many come between two looks at the ring, and
/// what is behind has them in its caches as it would then.
const WINDOW: u64 = 8_192;
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
    /// Where the pipeline counts what it takes; once begun.
    ledger: OnceLock<Arc<Ledger>>,
    over: Notify,
}

impl Progress {
    /// From now on there are records.
    pub(crate) fn begin(&self, ledger: Arc<Ledger>) {
        // Begun before: it goes on.
        let _ = self.ledger.set(ledger);
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
    /// The queue behind, and what comes out of it; none yet.
    behind: Option<(Arc<Shares>, Arc<reader::Progress>)>,
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
            behind: None,
        })
    }

    /// The watched directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Does not outrun what is behind: how fast that is, is what is to be found.
    pub(super) fn through(self, shares: &Arc<Shares>, progress: &Arc<reader::Progress>) -> Self {
        Self { behind: Some((Arc::clone(shares), Arc::clone(progress))), ..self }
    }

    /// Whether as much is under way as a ring holds at this rate when it is looked at.
    fn must_wait(&self) -> bool {
        let (Some(ledger), Some((shares, progress))) = (self.progress.ledger.get(), &self.behind)
        else {
            return true;
        };
        let taken = ledger.count(Stage::Taken);
        let handed_over = progress.delivered.load(Ordering::Relaxed).saturating_sub(taken);
        shares.held() as u64 + handed_over >= WINDOW
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
        // Looking costs more than a record.
        if self.at.is_multiple_of(64) && self.must_wait() {
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
        let group = b"session-1.scope\0user-0.slice\0user.slice\0";
        let args = b"install\0-m\x000644\0source\0destination\0";
        self.record(Hook::Exec, Body::Process(Process { fixed, exe, cwd, group, args }));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use fim_common::collector::{Collector as _, Observation};
    use tokio::sync::mpsc;

    use super::*;
    use crate::bpf::collector::{BpfCollector, Options};
    use crate::process;

    #[test]
    fn each_record_is_told_of_and_counted() {
        const FILES: u64 = 40;
        const ROUNDS: u32 = 300;
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("sub")).unwrap();
        for number in 0..FILES {
            std::fs::write(tree.path().join(format!("sub/{number}")), "x").unwrap();
        }
        let progress = Arc::new(Progress::default());
        let replay = Replay::of(tree.path(), ROUNDS, Arc::clone(&progress)).unwrap();
        // More than may be under way: it goes on only if what is taken is counted.
        let records = u64::from(ROUNDS) * (1 + 3 * FILES);
        assert!(records > WINDOW);
        let (sender, mut observations) = mpsc::channel(64);
        let losses = fim_common::loss::Losses::default();
        let mut collector = BpfCollector::replay(
            replay,
            Options {
                watches: Vec::new(),
                prunes: Vec::new(),
                attempts: false,
                ring_bytes: 1 << 20,
                table: Arc::new(Mutex::new(process::Table::new(process::Options::default()))),
                sender,
                losses: losses.clone(),
                post: Arc::default(),
            },
        )
        .unwrap();
        let monitor = collector.monitor();
        let ledger = Arc::new(Ledger::default());
        progress.begin(Arc::clone(&ledger));

        // A creation that leaves the file open is two operations.
        let operations = u64::from(ROUNDS) * 4 * FILES;
        let mut told: BTreeMap<&str, u64> = BTreeMap::new();
        for _ in 0..operations {
            let Some(Observation::Operation(operation)) = observations.blocking_recv() else {
                panic!("the collector has ended");
            };
            ledger.add(Stage::Taken, 1);
            *told.entry(operation.kind.name()).or_default() += 1;
            let path = operation.path.unwrap();
            assert_eq!(path.parent(), Some(tree.path().join("sub").as_path()));
            let by = operation.actor.process.as_ref().unwrap();
            assert_eq!(by.executable.as_deref(), Some("/usr/bin/install"));
            assert_eq!(by.working_directory.as_deref(), Some("/root"));
            assert_eq!(operation.actor.ancestors.len(), 3);
        }
        let each = u64::from(ROUNDS) * FILES;
        for name in ["create", "open_write", "close_write", "delete"] {
            assert_eq!(told.get(name), Some(&each), "{name}");
        }
        collector.stop().unwrap();
        assert!(observations.blocking_recv().is_none(), "something more");
        monitor.enter(&ledger);
        assert_eq!(ledger.count(Stage::Received), records);
        assert_eq!(ledger.count(Stage::Submitted), records);
        assert_eq!(losses.take(), None);
    }
}
