//! Where canaries live: one private directory on each watched file system.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fim_common::policy::Watch;

use super::operations::{SET, TRUNCATED, WRITTEN};
use crate::mounts::{self, Mount};

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Nobody else's.
    pub(crate) directory: PathBuf,
    /// Where the file system is mounted, which is its name in metrics.
    pub(crate) file_system: String,
    /// Writes update times where there is a hook, on every kernel: not by functions of the file system,
    /// and not those of another one below it.
    pub(crate) updates_times: bool,
}

/// A place on each file system that holds something watched: in the state directory where that is
/// on it, else at its root.
pub(crate) fn places(watches: &[Watch], state: &Path, agent_id: &str) -> Vec<Place> {
    let mounts = mounts::visible().unwrap_or_else(|error| {
        tracing::warn!(%error, "mounts cannot be listed: no canary");
        Vec::new()
    });
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let state_device = device(state);
    let mut found = BTreeMap::new();
    for mount in watched(&mounts, watches) {
        let Some(device) = device(&mount.point) else { continue };
        found.entry(device).or_insert_with(|| Place {
            directory: match state_device == Some(device) {
                true => state.join("canary"),
                false => mount.point.join(format!(".fim-canary-{agent_id}")),
            },
            file_system: mount.point.to_string_lossy().into_owned(),
            updates_times: !matches!(mount.kind.as_str(), "btrfs" | "xfs" | "overlay"),
        });
    }
    found.into_values().collect()
}

/// Makes the directories, and drops the places where that is not possible.
pub(crate) fn make(places: &mut Vec<Place>) {
    places.retain(|place| match place.make() {
        Ok(()) => true,
        Err(error) => {
            let file_system = place.file_system.as_str();
            tracing::info!(file_system, %error, "no canary on this file system");
            false
        }
    });
}

/// The mounts with something watched on them, the one with most of its file system first.
fn watched<'a>(mounts: &'a [Mount], watches: &[Watch]) -> Vec<&'a Mount> {
    // What is at a path is on the mount with the longest mount point above it.
    let holder = |path: &Path| {
        let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.components().count()).map(|mount| mount.id)
    };
    let mut found: Vec<&Mount> = mounts
        .iter()
        .filter(|mount| !mount.is_pseudo())
        .filter(|mount| {
            watches.iter().any(|watch| {
                mount.point.starts_with(&watch.base) || holder(&watch.base) == Some(mount.id)
            })
        })
        .collect();
    found.sort_by_key(|mount| mount.root.components().count());
    found
}

impl Place {
    /// Makes the files that stay.
    ///
    /// # Errors
    /// When this file system is full.
    pub(super) fn set_up(&self) -> io::Result<()> {
        for name in [WRITTEN, TRUNCATED, SET] {
            let file = File::create_new(self.directory.join(name))?;
            // A write within the same tick of the clock changes no time, and makes no event.
            file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))?;
        }
        Ok(())
    }

    /// Makes the directory, before anything is armed. What an agent that was killed left goes.
    ///
    /// # Errors
    /// When this file system is read-only, or has no directories for us.
    pub(crate) fn make(&self) -> io::Result<()> {
        self.tear_down();
        DirBuilder::new().mode(0o700).create(&self.directory)
    }

    /// Leaves nothing behind.
    pub(crate) fn tear_down(&self) {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.directory.display();
                tracing::warn!(%path, %error, "the canary's directory cannot be removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, point: &str, root: &str, kind: &str) -> Mount {
        Mount { id, device: (8, 1), root: root.into(), point: point.into(), kind: kind.into() }
    }

    #[test]
    fn each_mount_that_holds_something_watched() {
        let mounts = [
            mount(1, "/", "/", "ext4"),
            mount(2, "/srv", "/", "xfs"),
            mount(3, "/srv/deep", "/", "tmpfs"),
            mount(4, "/proc", "/", "proc"),
            mount(5, "/home", "/sub", "btrfs"),
            mount(6, "/etc/bound", "/some/part", "ext4"),
        ];
        let watch = |base: &str| Watch { base: base.into(), depth: None, first: None };
        let ids = |watches: &[Watch]| {
            let mut ids: Vec<u64> = watched(&mounts, watches).iter().map(|m| m.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&[watch("/etc")]), [1, 6]);
        assert_eq!(ids(&[watch("/srv/www")]), [2], "and not what is mounted beside it");
        assert_eq!(ids(&[watch("/srv"), watch("/home/me")]), [2, 3, 5]);
        assert!(ids(&[watch("/proc/sys")]).is_empty(), "made up by the kernel");
        assert!(ids(&[]).is_empty());
        let order: Vec<u64> = watched(&mounts, &[watch("/")]).iter().map(|m| m.id).collect();
        assert_eq!(order.last(), Some(&6), "the part of a file system after the whole");
    }
}
