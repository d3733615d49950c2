//! Mounts: the mount table tells what was mounted and unmounted, the records who did it.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fim_common::event::Provider;
use fim_common::event::actor::Actor;
use fim_common::operation::{Operation, OperationKind};
use fim_common::state::ObjectState;
use fim_common::time::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;

use super::reader::Progress;
use crate::mounts::{self, MOUNTINFO, Mount};

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

impl Mounter {
    fn did(&self, change: &Change) -> bool {
        self.mounts == change.mounts && self.path == change.at
    }
}

/// A change of the mount table.
struct Change {
    kind: OperationKind,
    point: PathBuf,
    /// Whether somebody's mounting explains it, or unmounting.
    mounts: bool,
    /// And where that was.
    at: PathBuf,
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
        tracing::debug!(mounts, path = %path.display(), "somebody changes mounts");
        if self.mounters.len() >= MOUNTERS_MAX {
            self.mounters.pop_front();
        }
        self.mounters.push_back(Mounter { at: Instant::now(), time, mounts, path, actor });
    }

    /// What was mounted and unmounted until the table was `now`, in terms of this namespace, where
    /// `concerned` says so. The records that announce it have been taken in.
    pub(super) fn changes(
        &mut self,
        now: Vec<Mount>,
        concerned: &dyn Fn(&Path) -> bool,
    ) -> Vec<Operation> {
        self.mounters.retain(|mounter| mounter.at.elapsed() < PATIENCE);
        let (gone, come) = mounts::difference(&self.known, &now);
        let mut changes = Vec::new();
        for mount in gone.into_iter().filter(|mount| concerned(&mount.point)) {
            // A mount that was moved was not unmounted by anybody: who mounted it elsewhere did it.
            let moved = come.iter().find(|other| other.id == mount.id);
            changes.push(Change {
                kind: OperationKind::Unmount,
                point: mount.point.clone(),
                mounts: moved.is_some(),
                at: moved.unwrap_or(&mount).point.clone(),
            });
        }
        for mount in come.into_iter().filter(|mount| concerned(&mount.point)) {
            let (point, at) = (mount.point.clone(), mount.point.clone());
            changes.push(Change { kind: OperationKind::Mount, point, mounts: true, at });
        }
        let operations = changes.iter().map(|change| self.operation(change)).collect();
        // Each explains one change.
        self.mounters.retain(|mounter| !changes.iter().any(|change| mounter.did(change)));
        self.known = now;
        operations
    }

    fn operation(&self, change: &Change) -> Operation {
        // One that comes here from another namespace, where it has another path, is nobody's: a
        // guess could name anybody.
        let mounter = self.mounters.iter().rev().find(|mounter| mounter.did(change));
        let actor = match mounter {
            Some(mounter) => Arc::clone(&mounter.actor),
            None => Arc::new(Actor::unobserved()),
        };
        Operation {
            time: mounter.map_or_else(Timestamp::now, |mounter| mounter.time),
            provider: Provider::Bpf,
            kind: change.kind.clone(),
            path: Some(change.point.clone()),
            path_in_process: None,
            object: None,
            before: ObjectState::default(),
            after: ObjectState::default(),
            failure: None,
            actor,
            details: None,
        }
    }
}

/// Notes the mount table whenever it has changed, until told to stop. The thread that empties the
/// ring passes it on behind the records that were made before: what a table has was announced by
/// a record made before it was read.
pub(super) fn watch(wake: &OwnedFd, progress: &Progress) {
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
        if fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR) {
            match mounts::all() {
                Ok(now) => *progress.mounts() = Some(now),
                Err(error) => tracing::warn!(%error, "mounts cannot be listed"),
            }
        }
    }
}
