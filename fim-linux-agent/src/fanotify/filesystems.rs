//! Which file systems hold watched paths, the marks on them, and where on the host their
//! directories are.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::directories::{Directory, join};
use super::object;
use super::parse::Fid;
use super::sys::{self, Group, MarkOn};
use crate::mounts::{self, Mount};

/// How often, and how far apart, an object is asked for of which the kernel says that it lacks memory:
/// some 10 ms in all.
const MAKING_TRIES: u32 = 100;
const MAKING_PAUSE: Duration = Duration::from_micros(50);

/// One place where (a part of) a file system can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// The directory of the file system that is shown.
    root: PathBuf,
    /// Where it is shown.
    point: PathBuf,
    /// Mount points below it: what is there is hidden by another file system.
    hidden: Vec<PathBuf>,
}

impl View {
    /// Where `inner` is on the host, if it is shown here.
    fn host(&self, inner: &Path) -> Option<PathBuf> {
        let host = join(&self.point, inner.strip_prefix(&self.root).ok()?);
        (!self.hidden.iter().any(|point| host.starts_with(point))).then_some(host)
    }
}

/// How the path of a directory is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The kernel takes handles back: open_by_handle_at(2).
    ByHandle,
    /// It does not: every watched directory is asked for its handle beforehand.
    ByWalk,
}

/// A marked file system.
#[derive(Debug)]
pub(super) struct FileSystem {
    device: (u32, u32),
    pub(super) fsid: [u8; 8],
    /// `st_dev` of its objects, where all have the same (not on btrfs).
    pub(super) st_dev: Option<u64>,
    kind: String,
    pub(super) lookup: Lookup,
    pub(super) marked: MarkOn,
    /// How to read an inode number out of a handle.
    pub(super) numbers: Option<object::Numbers>,
    views: Vec<View>,
    /// Open while a batch is worked on only: it would keep the file system from being unmounted.
    mount: Option<OwnedFd>,
}

/// What the kernel said of a directory's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is, or was until its removal, here.
    At(PathBuf),
    /// There is no such directory any more.
    Gone,
    /// It is there and cannot be reached from any mount of the host.
    Hidden,
}

impl FileSystem {
    /// Asks the kernel where the object of `fid` is.
    pub(super) fn find(&mut self, fid: Fid<'_>) -> Found {
        if self.lookup == Lookup::ByWalk {
            return Found::Gone;
        }
        let Some(view) = self.views.first().cloned() else {
            return Found::Hidden;
        };
        let Ok(opened) = self.open(&view, fid) else {
            return Found::Gone;
        };
        let Ok(path) = sys::path_of(opened.as_fd()) else {
            return Found::Gone;
        };
        let Ok(stat) = rustix::fs::fstat(&opened) else {
            return Found::Gone;
        };
        let same = |path: &Path| {
            rustix::fs::lstat(path)
                .is_ok_and(|s| s.st_dev == stat.st_dev && s.st_ino == stat.st_ino)
        };
        let inner =
            |path: &Path| path.strip_prefix(&view.point).ok().map(|rest| join(&view.root, rest));
        // Removed and still in use: d_path(9) marks its last path. (A directory can also really be
        // called so.)
        if let Some(last) = object::without_deleted(&path)
            && !same(&path)
        {
            return inner(&last).map_or(Found::Gone, Found::At);
        }
        match inner(&path) {
            // With a part of the file system only mounted, the path of what lies outside that part
            // is not one on the host.
            Some(found) if view.root == Path::new("/") || same(&path) => Found::At(found),
            _ => Found::Hidden,
        }
    }

    /// Whether the object of `fid`, whatever it is, is there and has a name. `None`: that cannot be
    /// asked.
    pub(super) fn has_name(&mut self, fid: Fid<'_>) -> Option<bool> {
        let view = self.views.first().cloned()?;
        match self.open(&view, fid) {
            Ok(opened) => rustix::fs::fstat(&opened).ok().map(|stat| stat.st_nlink > 0),
            Err(error) => (error.raw_os_error() == Some(libc::ESTALE)).then_some(false),
        }
    }

    /// The object of `fid`, for asking about it.
    fn open(&mut self, view: &View, fid: Fid<'_>) -> io::Result<OwnedFd> {
        let mount = match self.mount.take() {
            Some(mount) => mount,
            None => open_mount(&view.point)?,
        };
        let mount = self.mount.insert(mount);
        let mut tries = 0;
        loop {
            // Also what the kernel says while another object is being made that gets the inode
            // number of this one, which is gone (`I_CREATING` in find_inode_fast; ext4_iget).
            match sys::open_by_handle(mount.as_fd(), fid) {
                Err(error)
                    if error.kind() == io::ErrorKind::OutOfMemory && tries < MAKING_TRIES =>
                {
                    tries += 1;
                    std::thread::sleep(MAKING_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Where on the host `inner` is, and whether that matters. Of several places one that is
    /// watched counts.
    pub(super) fn place(&self, inner: PathBuf, watched: &[PathBuf]) -> Directory {
        let (mut host, mut best, mut places) = (None, 0, 0);
        for (view, candidate) in
            self.views.iter().filter_map(|view| Some((view, view.host(&inner)?)))
        {
            let rank = rank(&candidate, watched);
            places += usize::from(rank > 1);
            if host.is_none() || rank > best {
                (host, best) = (Some((view, candidate)), rank);
            }
        }
        let inside = |point: &PathBuf, directory: &Path| point.parent() == Some(directory);
        let plain = places <= 1
            && !self.views.iter().any(|view| inside(&view.root, &inner))
            && !host
                .as_ref()
                .is_some_and(|(view, host)| view.hidden.iter().any(|point| inside(point, host)));
        Directory { inner, host: host.map(|(_, host)| host), relevant: best > 1, plain }
    }

    /// `inner` paths that show at or above `path` of the host, or below it: where to walk.
    pub(super) fn inside(&self, watched: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
        let mut found = Vec::new();
        for view in &self.views {
            for path in watched {
                if let Ok(rest) = path.strip_prefix(&view.point) {
                    found.push((path.clone(), join(&view.root, rest)));
                } else if view.point.starts_with(path) {
                    found.push((view.point.clone(), view.root.clone()));
                }
            }
        }
        found
    }

    /// The path of the host at which it was marked, and what that is in it.
    pub(super) fn top(&self) -> Option<(PathBuf, PathBuf)> {
        self.views.first().map(|view| (view.point.clone(), view.root.clone()))
    }

    pub(super) fn close_mount(&mut self) {
        self.mount = None;
    }

    /// Takes the mark away, unless unmounting has done it: then the path leads elsewhere.
    fn disarm(&self, group: &Group, mask: u64) {
        if let Some(view) = self.views.first()
            && self.marked == MarkOn::Filesystem
            && sys::fsid_of(&view.point).is_ok_and(|fsid| fsid == self.fsid)
            && let Err(error) = group.remove(MarkOn::Filesystem, mask, &view.point)
        {
            tracing::debug!(point = %view.point.display(), %error, "mark cannot be removed");
        }
    }

    fn describe(&self) -> String {
        let point = self.views.first().map(|view| view.point.display().to_string());
        let how = match (self.marked, self.lookup) {
            (MarkOn::Filesystem, Lookup::ByHandle) => "",
            (MarkOn::Filesystem, Lookup::ByWalk) => ", directories learned by walking",
            (MarkOn::Directory, _) => ", each directory marked",
        };
        format!("{} ({}{how})", point.unwrap_or_default(), self.kind)
    }
}

/// 3: in a watched tree. 2: on the way to one. 1: elsewhere.
fn rank(path: &Path, watched: &[PathBuf]) -> u8 {
    if watched.iter().any(|tree| path.starts_with(tree)) {
        3
    } else if watched.iter().any(|tree| tree.starts_with(path)) {
        2
    } else {
        1
    }
}

fn open_mount(point: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(point, flags, Mode::empty())?)
}

/// The marked file systems.
#[derive(Debug, Default)]
pub(super) struct FileSystems {
    list: Vec<FileSystem>,
    by_fsid: HashMap<[u8; 8], usize>,
    /// Watched paths that cannot be watched, and why.
    pub(super) problems: Vec<(PathBuf, String)>,
    mounts: Vec<Mount>,
}

impl FileSystems {
    pub(super) fn get(&mut self, fsid: [u8; 8]) -> Option<&mut FileSystem> {
        self.list.get_mut(*self.by_fsid.get(&fsid)?)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut FileSystem> {
        self.list.iter_mut()
    }

    /// Those with a mark of their own.
    pub(super) fn devices(&self) -> impl Iterator<Item = (u32, u32)> {
        let marked = self.list.iter().filter(|one| one.marked == MarkOn::Filesystem);
        marked.map(|filesystem| filesystem.device)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn describe(&self) -> String {
        let marked: Vec<String> = self.list.iter().map(FileSystem::describe).collect();
        marked.join(", ")
    }

    /// Marks every file system that holds a watched path, or will once the path is there, and the
    /// file systems mounted below. Takes marks away that are not needed any more. Returns the
    /// mount points at which something else is seen than before, and whether paths may be others.
    pub(super) fn arm(
        &mut self,
        group: &Group,
        mask: u64,
        watched: &[PathBuf],
    ) -> io::Result<(Vec<PathBuf>, bool)> {
        let mounts = mounts::visible()?;
        let changed = changes(&self.mounts, &mounts);
        self.problems.clear();
        let mut needed = BTreeSet::new();
        for path in watched {
            let own = mounts::containing(&mounts, path);
            if let Some(mount) = own.filter(|mount| mount.is_pseudo()) {
                let why = format!("{} is made up by the kernel", mount.kind);
                self.problems.push((path.clone(), why));
            }
            let below = mounts.iter().filter(|mount| mount.point.starts_with(path));
            needed
                .extend(own.into_iter().chain(below).filter(|m| !m.is_pseudo()).map(|m| m.device));
        }
        let before = std::mem::take(&mut self.list);
        self.by_fsid.clear();
        for old in before.iter().filter(|old| !needed.contains(&old.device)) {
            old.disarm(group, mask);
        }
        let arming = Arming { group, mask, mounts: &mounts, watched, before: &before };
        for device in &needed {
            for armed in arming.device(*device) {
                match armed {
                    Ok(filesystem) if self.by_fsid.contains_key(&filesystem.fsid) => {
                        // A snapshot or copy: events do not tell which one they are of.
                        let twin = "has the same id as another file system".to_owned();
                        let point = filesystem.views.first().map(|view| view.point.clone());
                        self.problems.push((point.unwrap_or_default(), twin));
                    }
                    Ok(filesystem) => {
                        self.by_fsid.insert(filesystem.fsid, self.list.len());
                        self.list.push(filesystem);
                    }
                    Err(problem) => self.problems.push(problem),
                }
            }
        }
        self.mounts = mounts;
        let same = |(old, new): (&FileSystem, &FileSystem)| {
            old.device == new.device && old.fsid == new.fsid && old.views == new.views
        };
        let moved = before.len() != self.list.len() || !before.iter().zip(&self.list).all(same);
        Ok((changed, moved))
    }
}

/// Mount points that are in one list only, or show another file system. None the first time.
fn changes(before: &[Mount], after: &[Mount]) -> Vec<PathBuf> {
    if before.is_empty() {
        return Vec::new();
    }
    let only_in = |one: &[Mount], other: &[Mount]| -> Vec<PathBuf> {
        one.iter().filter(|mount| !other.contains(mount)).map(|mount| mount.point.clone()).collect()
    };
    let mut points = only_in(before, after);
    points.extend(only_in(after, before));
    points.sort_unstable();
    points.dedup();
    points
}

/// A path, and why it cannot be watched.
type Problem = (PathBuf, String);

/// What it takes to mark file systems.
struct Arming<'a> {
    group: &'a Group,
    mask: u64,
    mounts: &'a [Mount],
    watched: &'a [PathBuf],
    before: &'a [FileSystem],
}

impl Arming<'_> {
    /// Marks one device: one file system; or several of its subvolumes, when these have ids of
    /// their own (btrfs) and the whole is not mounted.
    fn device(&self, device: (u32, u32)) -> Vec<Result<FileSystem, Problem>> {
        let mut own: Vec<&Mount> =
            self.mounts.iter().filter(|mount| mount.device == device).collect();
        // The one that shows most of it first.
        own.sort_by_key(|mount| mount.root.as_os_str().len());
        let whole = self.one(&own);
        if !matches!(&whole, Ok(filesystem) if filesystem.marked == MarkOn::Directory) {
            return vec![whole];
        }
        let mut parts: Vec<([u8; 8], Vec<&Mount>)> = Vec::new();
        for mount in own {
            let Ok(fsid) = sys::fsid_of(&mount.point) else { continue };
            match parts.iter_mut().find(|(known, _)| *known == fsid) {
                Some((_, part)) => part.push(mount),
                None => parts.push((fsid, vec![mount])),
            }
        }
        parts.iter().map(|(_, part)| self.one(part)).collect()
    }

    fn one(&self, own: &[&Mount]) -> Result<FileSystem, Problem> {
        let Self { group, mask, mounts, watched, before } = *self;
        let Some(first) = own.first().copied() else {
            return Err((PathBuf::from("/"), "not mounted".to_owned()));
        };
        let failed = |what: &str, error: io::Error| {
            (first.point.clone(), format!("{} {what}: {error}", first.kind))
        };
        let fsid =
            sys::fsid_of(&first.point).map_err(|error| failed("cannot be looked at", error))?;
        let marked = match group.add(MarkOn::Filesystem, mask, &first.point) {
            Ok(()) => MarkOn::Filesystem,
            // fanotify_mark(2): no file system id, a subvolume with an id of its own, no handles.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NODEV | Errno::XDEV | Errno::OPNOTSUPP)
                ) =>
            {
                group
                    .add(MarkOn::Directory, mask | libc::FAN_EVENT_ON_CHILD, &first.point)
                    .map_err(|again| match Errno::from_io_error(&again) {
                        // The kernel takes marks in one subvolume of a file system only.
                        Some(Errno::XDEV) => failed(
                            "subvolume beside another that is watched (mount the whole file \
                             system somewhere to watch both)",
                            again,
                        ),
                        _ => failed("gives no file handles", error),
                    })?;
                MarkOn::Directory
            }
            Err(error) => return Err(failed("cannot be marked", error)),
        };
        // What is known already is not tried again: that needs the mount open, and would be in the way
        // of its being unmounted.
        let known = before.iter().find(|known| {
            known.device == first.device && known.fsid == fsid && known.marked == marked
        });
        let lookup = match known.map(|known| known.lookup).or_else(|| lookup_of(fsid, first)) {
            Some(lookup) if marked == MarkOn::Filesystem => lookup,
            Some(_) => Lookup::ByWalk,
            None => {
                return Err((first.point.clone(), format!("{} gives no file handles", first.kind)));
            }
        };
        let views = own
            .iter()
            .enumerate()
            .filter(|(at, mount)| *at == 0 || rank(&mount.point, watched) > 1)
            .map(|(_, mount)| View {
                root: mount.root.clone(),
                point: mount.point.clone(),
                hidden: mounts
                    .iter()
                    .map(|other| &other.point)
                    .filter(|point| point.starts_with(&mount.point) && **point != mount.point)
                    // The others matter to nobody, and there are many on a host with containers.
                    .filter(|point| rank(point, watched) > 1)
                    .cloned()
                    .collect(),
            })
            .collect();
        Ok(FileSystem {
            device: first.device,
            fsid,
            st_dev: (first.kind != "btrfs")
                .then(|| rustix::fs::lstat(&first.point).ok().map(|stat| stat.st_dev))
                .flatten(),
            kind: first.kind.clone(),
            lookup,
            marked,
            numbers: object::Numbers::of(fsid, &first.point, lookup == Lookup::ByHandle),
            views,
            mount: None,
        })
    }
}

/// Whether the kernel takes back the handles that it gives.
fn lookup_of(fsid: [u8; 8], mount: &Mount) -> Option<Lookup> {
    let by_handle = || -> io::Result<()> {
        let bytes = sys::fid_of(fsid, &mount.point, true)?;
        let fid = Fid::new(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        let opened = open_mount(&mount.point)?;
        sys::open_by_handle(opened.as_fd(), fid).map(drop)
    };
    if by_handle().is_ok() {
        return Some(Lookup::ByHandle);
    }
    sys::fid_of(fsid, &mount.point, false).ok().map(|_| Lookup::ByWalk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filesystem(views: &[(&str, &str, &[&str])]) -> FileSystem {
        FileSystem {
            device: (0, 1),
            fsid: [0; 8],
            st_dev: None,
            kind: "ext4".into(),
            lookup: Lookup::ByHandle,
            marked: MarkOn::Filesystem,
            numbers: None,
            views: views
                .iter()
                .map(|(root, point, hidden)| View {
                    root: root.into(),
                    point: point.into(),
                    hidden: hidden.iter().map(PathBuf::from).collect(),
                })
                .collect(),
            mount: None,
        }
    }

    #[test]
    fn the_watched_place_of_several_counts() {
        let watched = [PathBuf::from("/etc/app"), PathBuf::from("/srv/x/y")];
        let filesystem = filesystem(&[
            ("/", "/data", &["/data/over"]),
            ("/conf", "/etc/app", &[]),
            ("/conf", "/srv/x", &[]),
        ]);
        let place = |inner: &str| {
            let directory = filesystem.place(inner.into(), &watched);
            (directory.host.unwrap_or_default().display().to_string(), directory.relevant)
        };
        assert_eq!(place("/"), ("/data".into(), false));
        assert_eq!(place("/other"), ("/data/other".into(), false));
        assert_eq!(place("/conf"), ("/etc/app".into(), true));
        assert_eq!(place("/conf/d"), ("/etc/app/d".into(), true));
        assert_eq!(place("/over/d"), (String::new(), false), "hidden by another mount");
        assert!(filesystem.place("/other".into(), &watched).plain);
        assert!(!filesystem.place("/".into(), &watched).plain, "/conf and /over are elsewhere");
    }

    #[test]
    fn on_the_way_to_a_watched_tree() {
        let watched = [PathBuf::from("/opt/sbin")];
        let filesystem = filesystem(&[("/", "/", &[])]);
        assert!(filesystem.place("/opt".into(), &watched).relevant);
        assert!(filesystem.place("/".into(), &watched).relevant);
        assert!(!filesystem.place("/optional".into(), &watched).relevant);
    }

    #[test]
    fn changed_mount_points() {
        let mount = |id, point: &str| Mount {
            id,
            device: (0, id as u32),
            root: "/".into(),
            point: point.into(),
            kind: "tmpfs".into(),
        };
        let before = [mount(1, "/"), mount(2, "/a"), mount(3, "/b")];
        let after = [mount(1, "/"), mount(4, "/a"), mount(5, "/c")];
        let points = ["/a", "/b", "/c"].map(PathBuf::from);
        assert_eq!(changes(&before, &after), points);
        assert_eq!(changes(&[], &after), [] as [PathBuf; 0]);
    }
}
