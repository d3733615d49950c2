//! Where a process sees a file that has another path on the host: in a mount namespace of its own
//! (a container), or below a root of its own (chroot).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::clock::Boot;
use super::{Description, Key, Table, procfs};
use crate::host_root;
use crate::mounts::{self, Mount};

/// Mount namespaces remembered; a host has some hundreds of containers at most.
const SPACES_MAX: usize = 1_024;
/// The mounts of a namespace are read again after this many nanoseconds, when one of its processes
/// does something: they may have changed.
const AGAIN: u64 = 200_000_000;

/// The mounts of one namespace, by the paths that its processes use.
#[derive(Debug)]
struct Space {
    mounts: Vec<Mount>,
    /// When, in nanoseconds since boot.
    read: u64,
}

/// When there are too many, those that did nothing for this many nanoseconds go.
const FORGET: u64 = 60_000_000_000;

/// What is known of mount namespaces.
#[derive(Debug, Default)]
pub(super) struct Views {
    /// The agent's own: the host's.
    own: u32,
    spaces: HashMap<u32, Space>,
}

impl Views {
    pub(super) fn new(proc: &Path) -> Self {
        // Before an agent in a container lies the tree of the host, whose first process has its
        // namespace.
        let whose = if host_root::is_entered() { "1" } else { "self" };
        Self { own: procfs::namespace(&proc.join(whose), "mnt"), spaces: HashMap::new() }
    }

    /// Whether processes in the mount namespace `space` may see other paths than the host.
    pub(super) fn differs(&self, space: u32) -> bool {
        space != 0 && self.own != 0 && space != self.own
    }

    /// Reads the mounts of a namespace through one of these processes, unless that was done after
    /// `since`.
    fn learn(&mut self, proc: &Path, space: u32, pids: &[u32], since: u64) {
        if self.spaces.get(&space).is_some_and(|known| known.read > since) {
            return;
        }
        let found = pids.iter().find_map(|pid| {
            let directory = proc.join(pid.to_string());
            let mounts = mounts::of(&directory.join("mountinfo")).ok()?;
            // The process may be another by now, or have moved.
            let same = procfs::namespace(&directory, "mnt") == space;
            (same && !mounts.is_empty()).then_some(mounts)
        });
        let read = Boot::now();
        let Some(mounts) = found else {
            // What was known is better than nothing.
            self.spaces.entry(space).or_insert(Space { mounts: Vec::new(), read }).read = read;
            return;
        };
        if self.spaces.len() >= SPACES_MAX {
            self.spaces.retain(|_, known| read.saturating_sub(known.read) < FORGET);
        }
        self.spaces.insert(space, Space { mounts, read });
    }
}

/// A process and its ancestors, which mostly live longer and may be in the same namespace.
fn line(description: &Description) -> Vec<u32> {
    let ancestors = description.ancestors.iter().map(|ancestor| ancestor.key.tgid);
    std::iter::once(description.key.tgid).chain(ancestors).collect()
}

/// The path in a namespace with the mounts `space` of what is at `path` in one with `host`.
fn translate(space: &[Mount], host: &[Mount], path: &Path) -> Option<PathBuf> {
    let mount = mounts::containing(host, path)?;
    let inner = mount.root.join(path.strip_prefix(&mount.point).ok()?);
    space
        .iter()
        .filter(|other| other.device == mount.device)
        .filter_map(|other| Some((other, inner.strip_prefix(&other.root).ok()?)))
        .max_by_key(|(other, _)| other.root.components().count())
        .map(|(other, below)| match below.as_os_str().is_empty() {
            true => other.point.clone(),
            false => other.point.join(below),
        })
}

impl Table {
    /// Takes down how the process that a record has just described sees the file system, while
    /// it is most likely still there.
    pub(super) fn learn_view(&mut self, description: &Description) -> Option<PathBuf> {
        let (key, space) = (description.key, description.namespaces.mnt);
        if self.views.differs(space) {
            let since = Boot::now().saturating_sub(AGAIN);
            self.views.learn(&self.options.proc, space, &line(description), since);
            return None;
        }
        let root = fs::read_link(self.options.proc.join(key.tgid.to_string()).join("root")).ok()?;
        (root != Path::new("/")).then_some(root)
    }

    /// The path by which a process sees what is at `path` on the host, where that is another one;
    /// `None` as well when it does not see it or nothing is known. `mounts` are those of the host.
    /// The operation was at `time` (nanoseconds since boot).
    pub fn path_in_process(
        &mut self,
        key: Key,
        time: u64,
        path: &Path,
        mounts: &[Mount],
    ) -> Option<PathBuf> {
        let description = &self.find(key)?.description;
        let (space, root) = (description.namespaces.mnt, description.root.clone());
        let seen = if self.views.differs(space) {
            let pids = line(description);
            let known = self.views.spaces.get(&space);
            let seen = known.and_then(|known| translate(&known.mounts, mounts, path));
            // An answer that says nothing may be older than the mount that would say something.
            let since = match seen {
                Some(seen) if seen != path => Boot::now().saturating_sub(AGAIN),
                _ => time,
            };
            self.views.learn(&self.options.proc, space, &pids, since);
            translate(&self.views.spaces.get(&space)?.mounts, mounts, path)?
        } else {
            Path::new("/").join(path.strip_prefix(root?).ok()?)
        };
        (seen != path).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, device: (u32, u32), root: &str, point: &str) -> Mount {
        Mount { id, device, root: root.into(), point: point.into(), kind: "ext4".to_owned() }
    }

    #[test]
    fn a_container_with_the_host_s_directory() {
        let host = [mount(1, (8, 1), "/", "/"), mount(2, (8, 2), "/", "/data")];
        let container = [
            mount(7, (0, 40), "/", "/"),
            mount(8, (8, 1), "/etc", "/host/etc"),
            mount(9, (8, 1), "/etc/ssh", "/keys"),
            mount(10, (8, 2), "/", "/srv"),
        ];
        for (path, seen) in [
            ("/etc/passwd", Some("/host/etc/passwd")),
            ("/etc", Some("/host/etc")),
            ("/etc/ssh/key", Some("/keys/key")),
            ("/data/a/b", Some("/srv/a/b")),
            ("/var/log", None),
        ] {
            let found = translate(&container, &host, Path::new(path));
            assert_eq!(found.as_deref(), seen.map(Path::new), "{path}");
        }
    }
}
