//! What is mounted where: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// The mounts of this process's namespace. poll(2) reports `POLLPRI` when they change.
pub(crate) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique while it is mounted.
    pub id: u64,
    /// `major:minor` of the file system: mounts of the same one have the same.
    pub device: (u32, u32),
    /// The directory (or file) of the file system that is its root.
    pub root: PathBuf,
    /// Where it is.
    pub point: PathBuf,
    /// `ext4`, `tmpfs` …
    pub kind: String,
}

impl Mount {
    /// Whether the kernel makes up what is in it: there is nothing to guard in there, and its
    /// objects change without anybody's doing.
    pub(crate) fn is_pseudo(&self) -> bool {
        const PSEUDO: [&str; 25] = [
            "autofs",
            "binder",
            "binfmt_misc",
            "bpf",
            "cgroup",
            "cgroup2",
            "configfs",
            "cpuset",
            "debugfs",
            "devpts",
            "efivarfs",
            "fuse.lxcfs",
            "fusectl",
            "hugetlbfs",
            "mqueue",
            "nsfs",
            "proc",
            "pstore",
            "resctrl",
            "rpc_pipefs",
            "securityfs",
            "selinuxfs",
            "smackfs",
            "sysfs",
            "tracefs",
        ];
        PSEUDO.contains(&self.kind.as_str())
    }

    /// Whether a path lookup that comes to its mount point ends up in it: another mount may have
    /// been put over it since.
    fn is_visible(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(CWD, &self.point, flags, StatxFlags::MNT_ID) {
            Ok(stat) if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 => {
                stat.stx_mnt_id == self.id
            }
            // A kernel before 5.8 does not tell.
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

/// The mounts that path lookups reach, in the order of the file.
pub(crate) fn visible() -> io::Result<Vec<Mount>> {
    Ok(all()?.into_iter().filter(Mount::is_visible).collect())
}

/// All mounts, hidden ones included, in the order of the file.
pub(crate) fn all() -> io::Result<Vec<Mount>> {
    of(Path::new(MOUNTINFO))
}

/// Those of another process: `table` is its `mountinfo`.
pub(crate) fn of(table: &Path) -> io::Result<Vec<Mount>> {
    std::fs::read(table).map(|content| parse(&content))
}

/// What came of the mounts between two looks: what is no longer mounted, and what is.
pub(crate) fn difference<'a>(
    before: &'a [Mount],
    after: &'a [Mount],
) -> (Vec<&'a Mount>, Vec<&'a Mount>) {
    // A mount that was moved has the same id at another place: it is both.
    let missing = |from: &'a [Mount], other: &[Mount]| {
        let there: std::collections::HashSet<_> =
            other.iter().map(|mount| (mount.id, &mount.point)).collect();
        from.iter().filter(|mount| !there.contains(&(mount.id, &mount.point))).collect()
    };
    (missing(before, after), missing(after, before))
}

fn parse(content: &[u8]) -> Vec<Mount> {
    content.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    let id = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.nth(1)?)?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    // Options, then any number of tags, then a dash.
    let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?)?;
    Some(Mount { id, device: (major.parse().ok()?, minor.parse().ok()?), root, point, kind })
}

/// Blank, tab, newline and backslash stand as `\040`, `\011`, `\012` and `\134`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).filter(|code| code.iter().all(|b| matches!(b, b'0'..=b'7')));
        match code {
            Some(code) if byte == b'\\' => {
                let value = code.iter().fold(0u32, |n, digit| n * 8 + u32::from(digit - b'0'));
                bytes.push(value as u8);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The path among these mounts of what is at `inner` on the file system `device`. Of several the one
/// counts that people know: of the mount that shows most of the file system.
pub(crate) fn known_as(mounts: &[Mount], device: (u32, u32), inner: &Path) -> Option<PathBuf> {
    mounts
        .iter()
        .filter(|mount| mount.device == device)
        .filter_map(|mount| Some((mount, inner.strip_prefix(&mount.root).ok()?)))
        .min_by_key(|(mount, _)| mount.root.components().count())
        .map(|(mount, below)| match below.as_os_str().is_empty() {
            true => mount.point.clone(),
            false => mount.point.join(below),
        })
}

/// The mount that `path` is in: the deepest one at or above it.
pub(crate) fn containing<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mounts = parse(
            b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
              30 27 0:27 /a\\040b /mnt/c\\134\\011d rw shared:1 master:2 - fuse.x y rw\n\
              broken\n\n31 27 0:x / / - -\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].kind, "ext4");
        assert_eq!(mounts[1].device, (0, 27));
        assert_eq!(mounts[1].root, Path::new("/a b"));
        assert_eq!(mounts[1].point, Path::new("/mnt/c\\\td"));
        assert_eq!(mounts[1].kind, "fuse.x");
        assert_eq!(containing(&mounts, Path::new("/mnt")).map(|m| m.id), Some(27));
        assert_eq!(containing(&mounts, Path::new("/mnt/c\\\td/e")).map(|m| m.id), Some(30));
    }

    #[test]
    fn differences() {
        let mount = |id, point: &str| Mount {
            id,
            device: (0, 1),
            root: "/".into(),
            point: point.into(),
            kind: "tmpfs".to_owned(),
        };
        let before = [mount(1, "/"), mount(2, "/a"), mount(3, "/b")];
        let after = [mount(1, "/"), mount(3, "/c"), mount(4, "/a")];
        let (gone, come) = difference(&before, &after);
        let points = |mounts: &[&Mount]| -> Vec<(u64, PathBuf)> {
            mounts.iter().map(|mount| (mount.id, mount.point.clone())).collect()
        };
        assert_eq!(points(&gone), [(2, "/a".into()), (3, "/b".into())]);
        assert_eq!(points(&come), [(3, "/c".into()), (4, "/a".into())]);
        assert_eq!(difference(&after, &after), (vec![], vec![]));
    }

    #[test]
    fn this_host() {
        let mounts = visible().unwrap();
        assert!(containing(&mounts, Path::new("/")).is_some());
        assert!(mounts.iter().any(Mount::is_pseudo));
    }
}
