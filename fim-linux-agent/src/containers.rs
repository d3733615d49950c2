//! The containers of this host, for rules with `containers`: which there are, and where the host
//! has what their processes see.
//!
//! A container is known by the control group of its processes. What it sees is read through one of
//! them: its mounts, and from where the host has the same file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fim_common::policy::{Container, Place};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::mpsc;

use crate::mounts::{self, MOUNTINFO, Mount};
use crate::process::{Table, cgroup};

/// Most containers that are looked into.
const MOST: usize = 1_024;

/// Without any sign of a change they are looked for again after this long: the record of an
/// execution may have been lost.
const AGAIN: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// One that is being started is looked at again after 10 ms, and then after twice as long each time,
/// so often.
const HURRY_MAX: u32 = 6;

/// Between two looks: a container that is started mounts a dozen file systems.
const PAUSE: Duration = Duration::from_millis(20);

/// The containers that run now, by id. One without a root directory of its own, or of which the
/// host sees nothing, is left out.
pub fn list() -> Vec<Container> {
    survey(Path::new("/proc")).running
}

/// What there is.
#[derive(Default)]
struct Survey {
    /// By id.
    running: Vec<Container>,
    /// One has processes that have not gone to their own root directory yet.
    starting: bool,
}

fn survey(proc: &Path) -> Survey {
    let Ok(host) = mounts::visible() else { return Survey::default() };
    let mut found = BTreeMap::<String, Container>::new();
    let mut starting = BTreeSet::new();
    // A process that ends meanwhile is nobody's any more.
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        let process = proc.join(pid.to_string());
        let Ok(groups) = fs::read_to_string(process.join("cgroup")) else { continue };
        let Some(id) = cgroup::container_of_file(&groups).0.map(|container| container.id) else {
            continue;
        };
        if found.contains_key(&id) {
            continue;
        }
        if found.len() == MOST {
            tracing::warn!(most = MOST, "there are more containers than are looked into");
            break;
        }
        let Some(container) = look(&process, id, &host) else { continue };
        match container.host_root() {
            Some(root) if root == Path::new("/") => _ = starting.insert(container.id),
            Some(_) => _ = found.insert(container.id.clone(), container),
            None => {}
        }
    }
    let starting = starting.iter().any(|id| !found.contains_key(id));
    Survey { running: found.into_values().collect(), starting }
}

/// The container as this process of it sees it.
fn look(process: &Path, id: String, host: &[Mount]) -> Option<Container> {
    let inside = mounts::of(&process.join("mountinfo")).ok()?;
    let mut places = BTreeMap::new();
    for mount in &inside {
        let visible = (!mount.is_pseudo())
            .then(|| mounts::known_as(host, mount.device, &mount.root))
            .flatten();
        // A later mount at the same place hides an earlier one.
        places.insert(mount.point.clone(), visible);
    }
    let mounts = places.into_iter().map(|(inside, host)| Place { inside, host }).collect();
    Some(Container { id, root: process.join("root"), mounts })
}

/// Looks for containers whenever there may be others.
pub(crate) struct Watcher {
    changes: mpsc::UnboundedReceiver<Vec<Container>>,
    wake: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins, with these as the ones that are known.
    ///
    /// # Errors
    /// When the system refuses a descriptor or a thread.
    pub(crate) fn start(table: &mut Table, known: Vec<Container>) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stop = Arc::new(AtomicBool::new(false));
        let table_file = fs::File::open(MOUNTINFO)?;
        let (sender, changes) = mpsc::unbounded_channel();
        table.tell_newcomers({
            let wake = Arc::clone(&wake);
            move || notify(&wake)
        });
        let thread = std::thread::Builder::new().name("containers".to_owned()).spawn({
            let (wake, stop) = (Arc::clone(&wake), Arc::clone(&stop));
            move || watch(known, &table_file, &wake, &stop, &sender)
        })?;
        Ok(Self { changes, wake, stop, thread: Some(thread) })
    }

    /// Waits until there are others: all there are then.
    pub(crate) async fn changed(&mut self) -> Vec<Container> {
        match self.changes.recv().await {
            Some(mut latest) => {
                while let Ok(later) = self.changes.try_recv() {
                    latest = later;
                }
                latest
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        notify(&self.wake);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn notify(wake: &OwnedFd) {
    // Fails only when it is full of wakes.
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

fn watch(
    mut known: Vec<Container>,
    table: &fs::File,
    wake: &OwnedFd,
    stop: &AtomicBool,
    changes: &mpsc::UnboundedSender<Vec<Container>>,
) {
    let mut hurry = 0;
    // Begins with what came between the first look and now.
    loop {
        let Survey { running: now, starting } = survey(Path::new("/proc"));
        let same = now.len() == known.len() && now.iter().zip(&known).all(|(a, b)| a.is_as(b));
        if !same {
            tell(&known, &now);
            known.clone_from(&now);
            if changes.send(now).is_err() {
                return;
            }
        }
        std::thread::sleep(PAUSE);
        // Nothing tells when a container goes to its own root directory.
        let again = match starting && hurry < HURRY_MAX {
            true => Timespec { tv_sec: 0, tv_nsec: 10_000_000 << hurry },
            false => AGAIN,
        };
        hurry = if starting { hurry + 1 } else { 0 };
        let mut fds = [
            PollFd::new(table, PollFlags::PRI),
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
        ];
        if poll(&mut fds, Some(&again)).is_ok_and(|ready| ready > 0) {
            hurry = 0;
        }
        let _ = rustix::io::read(wake, &mut [0; 8]);
        if stop.load(Ordering::Acquire) {
            return;
        }
    }
}

fn tell(before: &[Container], after: &[Container]) {
    let new = after.iter().filter(|one| !before.iter().any(|other| other.id == one.id));
    for container in new {
        let root = container.host_root().map(|root| root.display().to_string());
        tracing::info!(container = container.id, root, "rules are applied to a container");
    }
    let gone = before.iter().filter(|one| !after.iter().any(|other| other.id == one.id));
    for container in gone {
        tracing::info!(container = container.id, "a container has ended");
    }
}
