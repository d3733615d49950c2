//! The watched directories in the kernel's terms: arms each by its inode and keeps what the
//! records' root ids mean.
//!
//! The kernel's identity of a directory is learnt by opening it while the programs are told to
//! take down what this thread opens: that is right on btrfs (where several subvolumes share
//! inode and device numbers) and overlayfs too. The inode is then kept in memory ([`Pins`]), so that
//! its address stays its identity.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fim_common::policy::Watch;
use fim_common::record::Object;
use fim_common::record::decode::components;
use fim_common::record::maps::{Armed, FilterKey, RootEntry};
use fim_common::state::ObjectId;
use rustix::fs::{Mode, OFlags};

use super::loader::{LoadError, Programs};
use super::opened;
use super::pin::Pins;
use super::scope::{self, Directory, Existing};
use crate::mounts::{self, Mount};

struct Root {
    path: PathBuf,
    armed: Armed,
    /// `st_dev`: on btrfs not the kernel's own device number.
    device: u64,
    /// Of inotify, where that keeps the inode.
    watch: Option<i32>,
    directory: Directory,
}

/// The id of the root of a replay.
pub(super) const REPLAYED: u32 = 1;

/// The roots of one agent.
pub struct Roots {
    watches: Vec<Watch>,
    prunes: Vec<PathBuf>,
    roots: HashMap<u32, Root>,
    ids: HashMap<PathBuf, u32>,
    next_id: u32,
    mounts: Vec<Mount>,
    pins: Pins,
    /// Device numbers of the kernel that stat(2) does not show.
    hidden: HashSet<u32>,
    /// Paths whose appearance, disappearance or renaming changes what has to be armed.
    pivotal: HashSet<PathBuf>,
    /// The programs look at the end of descriptions that they have not seen being opened.
    untracked: bool,
    /// Files that are mounted over something watched, by the name that they have elsewhere: where.
    mounted_files: HashMap<PathBuf, PathBuf>,
}

impl Roots {
    /// No roots yet: [`Self::refresh`] arms them.
    ///
    /// # Errors
    /// When inotify is exhausted (fs.inotify.max_user_instances).
    pub fn new(watches: Vec<Watch>, prunes: Vec<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            watches,
            prunes,
            roots: HashMap::new(),
            ids: HashMap::new(),
            next_id: 1,
            mounts: Vec::new(),
            pins: Pins::new()?,
            hidden: HashSet::new(),
            pivotal: HashSet::new(),
            untracked: false,
            mounted_files: HashMap::new(),
        })
    }

    /// Watches something else; [`Self::refresh`] arms it.
    pub fn rescope(&mut self, watches: Vec<Watch>, prunes: Vec<PathBuf>) {
        (self.watches, self.prunes) = (watches, prunes);
    }

    /// One root that no program knows: that of a replay.
    ///
    /// # Errors
    /// When the directory, or the mounts, cannot be looked at, or inotify is exhausted.
    pub(super) fn replayed(path: &Path) -> std::io::Result<Self> {
        let device = rustix::fs::stat(path)?.st_dev;
        let directory = Directory { depth: u32::MAX, ..Directory::default() };
        let root =
            Root { path: path.to_owned(), armed: Armed::default(), device, watch: None, directory };
        let mut roots = Self::new(Vec::new(), Vec::new())?;
        roots.mounts = mounts::visible()?;
        roots.roots.insert(REPLAYED, root);
        Ok(roots)
    }

    /// Brings the kernel's set of roots in line with what exists now. Returns the directories
    /// that were armed anew: what happened in them before is found by a look at the disk.
    ///
    /// # Errors
    /// When the kernel refuses a map operation. A directory that cannot be opened is left to its
    /// parent's name filter, and logged.
    pub fn refresh(&mut self, programs: &mut Programs) -> Result<Vec<PathBuf>, LoadError> {
        match mounts::visible() {
            Ok(mounts) => self.mounts = mounts,
            Err(error) => tracing::warn!(%error, "mounts cannot be listed"),
        }
        let points: Vec<PathBuf> = self
            .mounts
            .iter()
            .filter(|mount| !mount.is_pseudo())
            .map(|mount| mount.point.clone())
            .collect();
        let mut plan = scope::directories(&self.watches, &self.prunes, &points, &look);
        self.mounted_files = self.files_mounted();
        for source in self.mounted_files.keys() {
            scope::know_file(&mut plan, source);
        }
        self.pivotal = plan.keys().cloned().collect();
        self.pivotal.extend(self.watches.iter().map(|watch| watch.base.clone()));

        let first = self.roots.is_empty();
        let gone: Vec<u32> = self
            .roots
            .iter()
            .filter(|(_, root)| !plan.contains_key(&root.path))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.forget(id, programs);
        }
        let mut appeared = Vec::new();
        self.pins.begin();
        for (path, directory) in plan {
            if self.arm(&path, directory, programs)? {
                appeared.push(path);
            }
        }
        self.pins.settle();
        // Cached verdicts were made with another set of roots. Far ahead, so that an increment of
        // the kernel between read and write is not undone.
        let mut settings = programs.settings()?;
        settings.epoch += 1 << 20;
        programs.set_settings(settings)?;
        // Last: whatever is opened from here on is known.
        if !self.untracked
            && (first || !appeared.is_empty())
            && opened::any(&|path| self.is_watched(path))
        {
            programs.expect_untracked()?;
            self.untracked = true;
        }
        Ok(appeared)
    }

    /// Whether it is at or below something that is watched.
    fn is_watched(&self, path: &Path) -> bool {
        self.watches.iter().any(|watch| match (&watch.first, path.strip_prefix(&watch.base)) {
            (_, Err(_)) => false,
            (None, Ok(_)) => true,
            (Some(first), Ok(below)) => below.starts_with(first),
        })
    }

    /// Files outside that are mounted over something watched, and where: the kernel knows them by
    /// their own place, from which no walk leads to a watched directory.
    fn files_mounted(&self) -> HashMap<PathBuf, PathBuf> {
        let (files, others): (Vec<Mount>, Vec<Mount>) = self
            .mounts
            .iter()
            .filter(|mount| !mount.is_pseudo())
            .cloned()
            .partition(|mount| look(&mount.point) == Existing::Other);
        let files = files.into_iter().filter(|file| self.is_watched(&file.point));
        let placed = files.filter_map(|file| {
            let source = mounts::known_as(&others, file.device, &file.root)?;
            (!self.is_watched(&source)).then_some((source, file.point))
        });
        placed.collect()
    }

    /// The watched place over which this file is mounted.
    pub fn mounted_over(&self, path: &Path) -> Option<&Path> {
        self.mounted_files.get(path).map(PathBuf::as_path)
    }

    /// Arms one directory; whether it is watched below and was not before.
    fn arm(
        &mut self,
        path: &Path,
        directory: Directory,
        programs: &mut Programs,
    ) -> Result<bool, LoadError> {
        let (armed, device, watch) = match self.identify(path, programs)? {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "directory cannot be armed");
                if let Some(&id) = self.ids.get(path) {
                    self.forget(id, programs);
                }
                return Ok(false);
            }
        };
        let id = self.ids.get(path).copied();
        let same = id.and_then(|id| self.roots.get(&id)).is_some_and(|root| root.armed == armed);
        if let Some(id) = id
            && !same
        {
            self.forget(id, programs);
        }
        let id = if same { id.unwrap_or(self.next_id) } else { self.next_id };
        if id == self.next_id {
            self.next_id += 1;
        }
        let filters = |directory: &Directory| -> BTreeMap<_, _> { directory.filters.clone() };
        let old = self.roots.get(&id).map(|root| filters(&root.directory)).unwrap_or_default();
        // Filters first: the entry that refers to them must never be there without.
        for (name, &depth) in &directory.filters {
            programs.set_filter(key(id, name), depth)?;
        }
        for name in old.keys().filter(|name| !directory.filters.contains_key(*name)) {
            programs.set_filter(key(id, name), 0)?;
        }
        let entry = RootEntry {
            ino: armed.ino,
            dev: armed.dev,
            generation: armed.generation,
            root: id,
            depth: directory.depth,
            exclude: u32::from(directory.exclude),
            filtered: u32::from(!directory.filters.is_empty()),
        };
        programs.set_root(armed.inode, entry)?;
        let watched = directory.depth != 0;
        if rustix::fs::makedev(armed.dev >> 20, armed.dev & 0xf_ffff) != device {
            self.hidden.insert(armed.dev);
        }
        self.roots.insert(id, Root { path: path.to_owned(), armed, device, watch, directory });
        self.ids.insert(path.to_owned(), id);
        Ok(watched && !same)
    }

    /// Opens the directory while armed.
    fn identify(
        &self,
        path: &Path,
        programs: &mut Programs,
    ) -> Result<std::io::Result<(Armed, u64, Option<i32>)>, LoadError> {
        programs.clear_armed()?;
        let mut settings = programs.settings()?;
        settings.arm_tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        settings.epoch += 1 << 20;
        programs.set_settings(settings)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        settings.arm_tid = 0;
        settings.epoch += 1 << 20;
        programs.set_settings(settings)?;
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return Ok(Err(error.into())),
        };
        let armed = programs.armed()?;
        if armed.inode == 0 {
            let error = "the programs did not see it being opened";
            return Ok(Err(std::io::Error::other(error)));
        }
        let device = match rustix::fs::fstat(&directory) {
            Ok(stat) => stat.st_dev,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(self.pins.pin(directory.as_fd()).map(|watch| (armed, device, watch)))
    }

    fn forget(&mut self, id: u32, programs: &mut Programs) {
        let Some(root) = self.roots.remove(&id) else { return };
        programs.remove_root(root.armed.inode);
        for name in root.directory.filters.keys() {
            let _ = programs.set_filter(key(id, name), 0);
        }
        if self.ids.get(&root.path) == Some(&id) {
            self.ids.remove(&root.path);
        }
        // Two paths may be one directory (a bind mount) with one watch.
        if let Some(watch) = root.watch
            && !self.roots.values().any(|other| other.watch == root.watch)
        {
            self.pins.release(watch);
        }
    }

    /// Whether an operation at this path calls for [`Self::refresh`].
    pub fn is_pivotal(&self, path: &Path) -> bool {
        self.pivotal.contains(path)
    }

    /// The watched directories that exist, topmost only.
    pub fn watched(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .roots
            .values()
            .filter(|root| root.directory.depth != 0)
            .map(|root| root.path.clone())
            .collect();
        paths.extend(
            self.watches
                .iter()
                .filter(|watch| watch.first.is_none() && look(&watch.base) == Existing::Other)
                .map(|watch| watch.base.clone()),
        );
        paths.sort();
        paths
    }

    /// The host path of a tail below root `id`, or below the root of file system `dev` (the
    /// kernel's encoding) when `id` is 0.
    pub fn locate(&self, id: u32, dev: u32, tail: &[u8]) -> Option<PathBuf> {
        let mut path = if id == 0 {
            return self.locate_in_file_system(dev, tail);
        } else {
            self.roots.get(&id)?.path.clone()
        };
        extend(&mut path, tail)?;
        Some(path)
    }

    /// The kernel's identity (without generation) of an object that stat(2) tells of.
    pub fn kernel_identity(&self, id: ObjectId) -> Object {
        let of_root = self.roots.values().find(|root| root.device == id.device);
        let dev = of_root.map_or_else(
            || rustix::fs::major(id.device) << 20 | rustix::fs::minor(id.device),
            |root| root.armed.dev,
        );
        Object { ino: id.inode, dev, generation: 0 }
    }

    /// `st_dev` of what the kernel has on `dev`; 0: stat(2) does not show that number, and there may
    /// be several for it (the subvolumes of btrfs).
    pub fn device(&self, dev: u32) -> u64 {
        let device = rustix::fs::makedev(dev >> 20, dev & 0xf_ffff);
        if self.hidden.contains(&dev) { 0 } else { device }
    }

    /// What is mounted here, as far as lookups reach it.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Whether something mounted at `point` hides, or is in, something watched.
    pub fn is_concerned(&self, point: &Path) -> bool {
        let at = |watch: &Watch| watch.base.starts_with(point) || point.starts_with(&watch.base);
        self.watches.iter().any(at)
    }

    fn locate_in_file_system(&self, dev: u32, tail: &[u8]) -> Option<PathBuf> {
        let mut inner = PathBuf::from("/");
        extend(&mut inner, tail)?;
        mounts::known_as(&self.mounts, (dev >> 20, dev & 0xf_ffff), &inner)
    }
}

/// Appends the components of a tail. One may be the rest of a name as a process asked for it, with
/// slashes in it; where that leads up again nobody has looked, so it is not known.
fn extend(path: &mut PathBuf, tail: &[u8]) -> Option<()> {
    for name in components(tail).flat_map(|component| component.split(|&byte| byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => return None,
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    Some(())
}

fn key(root: u32, name: &[u8; 16]) -> FilterKey {
    let (low, high) = name.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    FilterKey { name: [word(low), word(high)], root, reserved: 0 }
}

fn look(path: &Path) -> Existing {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => Existing::Directory,
        Ok(_) => Existing::Other,
        Err(_) => Existing::Nothing,
    }
}
