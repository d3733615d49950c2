//! Mounts: the mount table tells what was mounted and unmounted, the records who did it.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use fim_common::event::Provider;
use fim_common::event::actor::Actor;
use fim_common::operation::{Operation, OperationKind};
use fim_common::state::ObjectState;
use fim_common::time::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;

use super::reader::{Message, Progress};
use crate::mounts::{self, MOUNTINFO, Mount};

/// How long after the mount table changed the records of who did it have come: the ring is emptied
/// every 10 ms.
pub(super) const GRACE: Duration = Duration::from_millis(60);
/// How long a record may wait for the change that it announces: a mount can take its time (a
/// network file system).
const PATIENCE: Duration = Duration::from_secs(60);
/// Records kept.
const MOUNTERS_MAX: usize = 256;

/// Somebody who is about to mount or unmount something.
struct Mounter {
    at: Instant,
    time: Timestamp,
    mounts: bool,
    /// In the mount namespace of the process.
    path: PathBuf,
    actor: Arc<Actor>,
}

/// The mounts as they were last seen, and who may have changed them since.
#[derive(Default)]
pub(super) struct Mounting {
    known: Vec<Mount>,
    mounters: VecDeque<Mounter>,
}

impl Mounting {
    /// With the mounts of now.
    pub(super) fn new() -> Self {
        Self { known: mounts::all().unwrap_or_default(), mounters: VecDeque::new() }
    }

    /// Takes in a record.
    pub(super) fn announce(
        &mut self,
        mounts: bool,
        path: PathBuf,
        time: Timestamp,
        actor: Arc<Actor>,
    ) {
        if self.mounters.len() >= MOUNTERS_MAX {
            self.mounters.pop_front();
        }
        self.mounters.push_back(Mounter { at: Instant::now(), time, mounts, path, actor });
    }

    /// What was mounted and unmounted since the last look, in terms of this namespace.
    pub(super) fn changes(&mut self) -> Vec<Operation> {
        let now = match mounts::all() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "mounts cannot be listed");
                return Vec::new();
            }
        };
        self.mounters.retain(|mounter| mounter.at.elapsed() < PATIENCE);
        let known = std::mem::take(&mut self.known);
        let (gone, come) = mounts::difference(&known, &now);
        let moved = |mount: &Mount| come.iter().any(|other| other.id == mount.id);
        let mut operations: Vec<Operation> = Vec::new();
        for mount in &gone {
            // A mount that was moved was not unmounted by anybody.
            operations.push(self.operation(mount, false, moved(mount)));
        }
        for mount in &come {
            operations.push(self.operation(mount, true, true));
        }
        self.known = now;
        operations
    }

    fn operation(&self, mount: &Mount, mounts: bool, by_mounting: bool) -> Operation {
        let of_kind = || self.mounters.iter().rev().filter(|other| other.mounts == by_mounting);
        // A mount may come here from another namespace, where it has another path.
        let mounter = of_kind().find(|mounter| mounter.path == mount.point).or(of_kind().next());
        let actor = match mounter {
            Some(mounter) => Arc::clone(&mounter.actor),
            None => Arc::new(Actor::unobserved()),
        };
        Operation {
            time: mounter.map_or_else(Timestamp::now, |mounter| mounter.time),
            provider: Provider::Bpf,
            kind: if mounts { OperationKind::Mount } else { OperationKind::Unmount },
            path: Some(mount.point.clone()),
            path_in_process: None,
            object: None,
            before: ObjectState::default(),
            after: ObjectState::default(),
            failure: None,
            actor,
        }
    }
}

/// Tells the resolver whenever the mount table has changed, until told to stop.
pub(super) fn watch(wake: &OwnedFd, sender: &SyncSender<Message>, progress: &Progress) {
    let table = match std::fs::File::open(MOUNTINFO) {
        Ok(table) => table,
        Err(error) => return tracing::warn!(%error, "mounts cannot be watched"),
    };
    while !progress.stop.load(Ordering::Acquire) {
        let mut fds = [
            PollFd::new(&table, PollFlags::PRI),
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
        ];
        if rustix::event::poll(&mut fds, None).is_err() {
            continue;
        }
        let changed = fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR);
        if changed && sender.send(Message::Mounts).is_err() {
            return;
        }
    }
}
