//! The object of an event, as the disk has it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use fim_common::state::{ObjectId, ObjectKind, ObjectState};
use fim_common::time::Timestamp;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, StatxTimestamp};

use super::parse::Fid;
use super::sys;

/// Where in a handle the inode number is. File systems do not promise a format, so it is taken
/// from a comparison: the handle of the root directory against its inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// ext4 and others (`FILEID_INO32_GEN`): 32 bits, then a generation.
    First32,
    /// xfs, btrfs and others: 64 bits first.
    First64,
    /// tmpfs: a generation, then the number in two halves, the lower first.
    Second64,
}

impl Numbers {
    /// How the file system mounted at `point` does it.
    pub(super) fn of(fsid: [u8; 8], point: &Path, decodable: bool) -> Option<Self> {
        let inode = rustix::fs::lstat(point).ok()?.st_ino;
        let bytes = sys::fid_of(fsid, point, decodable).ok()?;
        let fid = Fid::new(&bytes)?;
        [Self::First64, Self::Second64, Self::First32]
            .into_iter()
            .find(|numbers| numbers.read(fid) == Some(inode))
    }

    /// The inode number in `fid`.
    pub(super) fn read(self, fid: Fid<'_>) -> Option<u64> {
        let handle = fid.handle();
        let word = |at: usize| {
            let bytes = handle.get(at * 4..at * 4 + 4)?;
            Some(u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)))
        };
        match self {
            Self::First32 => word(0),
            Self::First64 => {
                // With nothing behind it, it is a number of 32 bits and a generation; the root of
                // ext4 has generation 0, and would pass for this.
                let bytes = handle.get(..8).filter(|_| handle.len() > 8)?;
                Some(u64::from_ne_bytes(bytes.try_into().ok()?))
            }
            Self::Second64 => Some(word(1)? | word(2)? << 32),
        }
    }
}

/// What stands at a name now.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Its state.
    pub(super) state: ObjectState,
    /// When it was created, where the file system keeps that.
    pub(super) born: Option<Timestamp>,
}

impl Seen {
    /// What stands at `path`, a link not followed.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Some(Self::new(&rustix::fs::statx(CWD, path, flags, wanted).ok()?))
    }

    fn new(stat: &Statx) -> Self {
        let mode = u32::from(stat.stx_mode);
        let state = ObjectState {
            kind: ObjectKind::from_mode(mode),
            size: Some(stat.stx_size),
            mode: Some(mode & 0o7777),
            uid: Some(stat.stx_uid),
            gid: Some(stat.stx_gid),
            mtime: Some(timestamp(stat.stx_mtime)),
            ctime: Some(timestamp(stat.stx_ctime)),
            inode: Some(stat.stx_ino),
            device: Some(rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)),
            nlink: Some(u64::from(stat.stx_nlink)),
            ..ObjectState::default()
        };
        let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self { state, born: born.then(|| timestamp(stat.stx_btime)) }
    }

    pub(super) fn id(&self) -> Option<ObjectId> {
        self.state.id()
    }
}

fn timestamp(time: StatxTimestamp) -> Timestamp {
    Timestamp::from_unix(time.tv_sec, time.tv_nsec)
}

/// The path that d_path(9) has marked as removed, without the mark.
pub(super) fn without_deleted(path: &Path) -> Option<PathBuf> {
    let name = path.as_os_str().as_bytes().strip_suffix(b" (deleted)")?;
    Some(PathBuf::from(OsString::from_vec(name.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fid(words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend((words.len() as u32 * 4).to_ne_bytes());
        bytes.extend(1i32.to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn inode_numbers() {
        let read = |numbers: Numbers, words: &[u32]| numbers.read(Fid::new(&fid(words)).unwrap());
        assert_eq!(read(Numbers::First32, &[12, 99]), Some(12));
        assert_eq!(read(Numbers::Second64, &[99, 12, 1]), Some(12 | 1 << 32));
        assert_eq!(read(Numbers::Second64, &[99]), None);
        #[cfg(target_endian = "little")]
        assert_eq!(read(Numbers::First64, &[12, 1, 99]), Some(12 | 1 << 32));
        assert_eq!(read(Numbers::First64, &[12]), None);
        assert_eq!(read(Numbers::First64, &[2, 0]), None, "the root of ext4");
    }

    #[test]
    fn this_host() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        let seen = Seen::at(&path).unwrap();
        assert_eq!((seen.state.kind, seen.state.size), (Some(ObjectKind::File), Some(3)));
        assert_eq!(seen.state.nlink, Some(1));
        assert_eq!(seen.state.mode.unwrap() & !0o777, 0);
        assert!(Seen::at(&directory.path().join("none")).is_none());
        assert_eq!(without_deleted(Path::new("/a (deleted)")), Some(PathBuf::from("/a")));
        assert_eq!(without_deleted(Path::new("/a")), None);
    }
}
