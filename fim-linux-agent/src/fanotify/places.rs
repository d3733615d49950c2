//! From a file handle in an event to a path on the host, as of that event.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::Batch;
use super::directories::{Directories, Directory};
use super::filesystems::{FileSystems, Found, Lookup};
use super::object;
use super::parse::{Fid, Name};
use super::sys::{self, Group, MarkOn};

/// Directories whose paths are remembered: about 200 bytes each.
const DIRECTORIES: usize = 65_536;

/// Deepest chain of removed directories that is followed: `PATH_MAX` has room for 2,048 names.
const DEPTH_MAX: usize = 2_048;

/// Where the directory of an event is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Here.
    At(Arc<Directory>),
    /// It is gone, and no event that was read tells where it was.
    Lost,
    /// In a file system that is not watched (any more).
    Foreign,
}

/// Paths of directories.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) filesystems: FileSystems,
    directories: Directories,
    /// What the kernel has said of the directories of the batch at hand; see
    /// [`Places::look_up`].
    looked: HashMap<Box<[u8]>, Found>,
    pub(super) watched: Vec<PathBuf>,
}

impl Places {
    pub(super) fn new(watched: Vec<PathBuf>) -> Self {
        Self {
            filesystems: FileSystems::default(),
            directories: Directories::new(DIRECTORIES),
            looked: HashMap::new(),
            watched,
        }
    }

    /// Asks the kernel for the directories of the first `end` events that are not known. Returns
    /// whether any answer is new.
    ///
    /// An answer is as of now, and there may have been moves since the batch was read. So this is
    /// done before anything is worked on, and what is queued afterwards is read too: then every
    /// move that an answer contains is in the batch, and can be undone.
    pub(super) fn look_up(&mut self, batch: &Batch<'_>, end: usize) -> bool {
        let mut news = false;
        // Without moves an answer stays what it is.
        if batch.has_moves() {
            for (key, found) in &mut self.looked {
                let now =
                    Fid::new(key).and_then(|fid| Some(self.filesystems.get(fid.fsid())?.find(fid)));
                if now.as_ref().is_some_and(|now| now != found) {
                    *found = now.unwrap_or(Found::Gone);
                    news = true;
                }
            }
        }
        for stamped in batch.events.iter().take(end) {
            let event = &stamped.event;
            for name in [event.name, event.old, event.new].into_iter().flatten() {
                let (fid, key) = (name.directory, name.directory.key());
                if self.directories.get(key).is_some() || self.looked.contains_key(key) {
                    continue;
                }
                if let Some(filesystem) = self.filesystems.get(fid.fsid()) {
                    self.looked.insert(key.into(), filesystem.find(fid));
                    news = true;
                }
            }
        }
        news
    }

    /// The batch is done: the kernel's answers were for it alone.
    pub(super) fn finish(&mut self) {
        self.looked.clear();
        for filesystem in self.filesystems.iter_mut() {
            filesystem.close_mount();
        }
    }

    fn find(&mut self, fid: Fid<'_>) -> Option<Found> {
        match self.looked.get(fid.key()) {
            Some(found) => Some(found.clone()),
            None => Some(self.filesystems.get(fid.fsid())?.find(fid)),
        }
    }

    /// Where the directory `fid` was at event `at`.
    pub(super) fn directory(&mut self, batch: &Batch<'_>, at: usize, fid: Fid<'_>) -> Place {
        self.directory_at(batch, at, fid, 0)
    }

    fn directory_at(&mut self, batch: &Batch<'_>, at: usize, fid: Fid<'_>, depth: usize) -> Place {
        if let Some(directory) = self.directories.get(fid.key()) {
            return Place::At(directory);
        }
        let Some(found) = self.find(fid) else {
            return Place::Foreign;
        };
        let inner = match found {
            Found::At(inner) => Some(self.undo_moves(batch, at, fid.fsid(), inner, depth)),
            Found::Hidden => return self.remember(fid, PathBuf::from("\0hidden")),
            Found::Gone => self.told_later(batch, at, fid, depth),
        };
        match inner {
            Some(inner) => self.remember(fid, inner),
            None => Place::Lost,
        }
    }

    fn remember(&mut self, fid: Fid<'_>, inner: PathBuf) -> Place {
        let Some(filesystem) = self.filesystems.get(fid.fsid()) else {
            return Place::Foreign;
        };
        let directory = Arc::new(filesystem.place(inner, &self.watched));
        let pin = filesystem.lookup == Lookup::ByWalk;
        self.directories.insert(fid.key(), Arc::clone(&directory), pin);
        Place::At(directory)
    }

    /// The kernel says where a directory is now; the batch may hold moves that it made later.
    fn undo_moves(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        fsid: [u8; 8],
        mut inner: PathBuf,
        depth: usize,
    ) -> PathBuf {
        if depth > DEPTH_MAX {
            return inner;
        }
        // Of two directories that changed places each was moved once.
        let mut undone = None;
        for (number, old, new) in batch.moves_after(at) {
            if new.directory.fsid() != fsid || undone == Some(number) {
                continue;
            }
            let Some(to) = self.inner_of(batch, at, new, depth + 1) else { continue };
            let Ok(rest) = inner.strip_prefix(&to) else { continue };
            let rest = rest.to_owned();
            undone = batch.other_half(number);
            if let Some(from) = self.inner_of(batch, at, old, depth + 1) {
                inner = super::directories::join(&from, &rest);
            }
        }
        inner
    }

    fn inner_of(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        name: Name<'_>,
        depth: usize,
    ) -> Option<PathBuf> {
        // A directory that is looked up on behalf of moves must not look at them in turn.
        let directory = match self.directories.get(name.directory.key()) {
            Some(directory) => directory.inner.clone(),
            None => match self.find(name.directory)? {
                Found::At(inner) => inner,
                Found::Gone => self.told_later(batch, at, name.directory, depth)?,
                Found::Hidden => return None,
            },
        };
        Some(entry(&directory, name.name))
    }

    /// The directory is gone; the event that removed it may be in the batch.
    fn told_later(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        fid: Fid<'_>,
        depth: usize,
    ) -> Option<PathBuf> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (_, name) = batch.name_at(fid, at)?;
        match self.directory_at(batch, at, name.directory, depth + 1) {
            Place::At(parent) => Some(entry(&parent.inner, name.name)),
            Place::Lost | Place::Foreign => None,
        }
    }

    /// Path on the host of `name` in `directory`; the directory itself where the name is empty.
    pub(super) fn path(
        &mut self,
        directory: &Directory,
        fsid: [u8; 8],
        name: &[u8],
    ) -> Option<PathBuf> {
        if name.is_empty() || directory.plain {
            return directory.host.as_deref().map(|host| entry(host, name));
        }
        let inner = entry(&directory.inner, name);
        self.filesystems.get(fsid)?.place(inner, &self.watched).host
    }

    /// Path on the host of an object that was reached without a name, if it has one.
    pub(super) fn path_of_object(&mut self, fid: Fid<'_>) -> Option<PathBuf> {
        let filesystem = self.filesystems.get(fid.fsid())?;
        match filesystem.find(fid) {
            Found::At(inner) => filesystem.place(inner, &self.watched).host,
            Found::Gone | Found::Hidden => None,
        }
    }

    /// Whether the object is there and has a name, although the kernel may know none at the moment.
    /// `None`: that cannot be asked.
    pub(super) fn has_name(&mut self, fid: Fid<'_>) -> Option<bool> {
        self.filesystems.get(fid.fsid())?.has_name(fid)
    }

    /// An event tells that `object` is the directory `name` in `parent` from now on.
    pub(super) fn learn(&mut self, parent: &Directory, name: &[u8], object: Fid<'_>) {
        self.remember(object, entry(&parent.inner, name));
    }

    /// An event tells that a directory was moved, or two of them exchanged.
    pub(super) fn moved(&mut self, fsid: [u8; 8], from: &Path, to: &Path, exchange: bool) {
        let Some(filesystem) = self.filesystems.get(fsid) else {
            return;
        };
        let place = |inner: PathBuf| filesystem.place(inner, &self.watched);
        if exchange {
            self.directories.exchange(fsid, from, to, place);
        } else {
            self.directories.rename(fsid, from, to, place);
        }
    }

    /// Marks what has to be marked, and forgets paths that may be others now. Returns the mount
    /// points at which something else is seen than before.
    pub(super) fn arm(&mut self, group: &Group, mask: u64) -> std::io::Result<Vec<PathBuf>> {
        let (changed, moved) = self.filesystems.arm(group, mask, &self.watched)?;
        if moved {
            self.forget();
        }
        let walks: Vec<(PathBuf, PathBuf, [u8; 8])> = self
            .filesystems
            .iter_mut()
            .filter(|filesystem| filesystem.lookup == Lookup::ByWalk)
            .flat_map(|filesystem| {
                let fsid = filesystem.fsid;
                let inside = filesystem.inside(&self.watched);
                inside.into_iter().map(move |(host, inner)| (host, inner, fsid))
            })
            .collect();
        // Their first mark is at the top, watched or not: the kernel tells what is done there too.
        let tops: Vec<([u8; 8], (PathBuf, PathBuf))> = self
            .filesystems
            .iter_mut()
            .filter(|filesystem| filesystem.marked == MarkOn::Directory)
            .filter_map(|filesystem| Some((filesystem.fsid, filesystem.top()?)))
            .collect();
        for (fsid, (host, inner)) in tops {
            self.know(fsid, &host, &inner);
        }
        for (host, inner, fsid) in walks {
            self.walk(group, mask, fsid, &host, &inner);
        }
        Ok(changed)
    }

    /// Forgets the paths of directories: their mounts, or the watched trees, are others now.
    pub(super) fn forget(&mut self) {
        let (filesystems, watched) = (&mut self.filesystems, &self.watched);
        self.directories.reset(|key, inner| {
            let fsid = key.get(..8)?.try_into().ok()?;
            Some(filesystems.get(fsid)?.place(inner, watched))
        });
    }

    /// Forgets which directories of one file system are at `inner` and below it.
    pub(super) fn forget_below(&mut self, fsid: [u8; 8], inner: &Path) {
        self.directories.remove(fsid, inner);
    }

    /// Learns that the directory at `host` is at `inner` of its file system. Returns whether it has
    /// a handle.
    fn know(&mut self, fsid: [u8; 8], host: &Path, inner: &Path) -> bool {
        let bytes = sys::fid_of(fsid, host, false).ok();
        let Some(fid) = bytes.as_deref().and_then(Fid::new) else {
            return false;
        };
        // One that is known already follows the events, which may not have been read that far.
        if self.directories.get(fid.key()).is_none() {
            self.remember(fid, inner.to_owned());
        }
        true
    }

    /// Learns, and where need be marks, every directory of one file system from `host` down.
    pub(super) fn walk(
        &mut self,
        group: &Group,
        mask: u64,
        fsid: [u8; 8],
        host: &Path,
        inner: &Path,
    ) {
        let Ok(top) = rustix::fs::lstat(host) else {
            return;
        };
        // The way to a watched file or to a path that is not there yet leads through its parents.
        let mut stack = vec![(host.to_owned(), inner.to_owned())];
        while let Some((host, inner)) = stack.pop() {
            if !self.know(fsid, &host, &inner) {
                continue;
            }
            if self.filesystems.get(fsid).is_some_and(|f| f.marked == MarkOn::Directory) {
                let mask = mask | libc::FAN_EVENT_ON_CHILD;
                if let Err(error) = group.add(MarkOn::Directory, mask, &host) {
                    tracing::warn!(path = %host.display(), %error, "directory cannot be marked");
                }
            }
            for entry in std::fs::read_dir(&host).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let same = || rustix::fs::lstat(&path).is_ok_and(|stat| stat.st_dev == top.st_dev);
                if is_directory && same() {
                    let inner = inner.join(entry.file_name());
                    stack.push((path, inner));
                }
            }
        }
    }

    /// The number of the object of `fid`, where handles of its file system tell it, and its
    /// device.
    pub(super) fn number(&mut self, fid: Fid<'_>) -> (Option<u64>, Option<u64>) {
        match self.filesystems.get(fid.fsid()) {
            Some(filesystem) => {
                let read = |numbers: object::Numbers| numbers.read(fid);
                (filesystem.numbers.and_then(read), filesystem.st_dev)
            }
            None => (None, None),
        }
    }
}

/// `directory/name`, or the directory itself.
fn entry(directory: &Path, name: &[u8]) -> PathBuf {
    super::directories::join(directory, Path::new(os(name)))
}

/// A name as the operating system has it: any bytes.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
