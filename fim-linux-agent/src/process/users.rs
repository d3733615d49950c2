//! Names of users and groups, from `/etc/passwd` and `/etc/group` alone.
//!
//! There is no NSS here on purpose: a static binary cannot load its modules, and a lookup over
//! the network (LDAP, SSSD) must not stand in the way of an event. A user who is not in the files
//! has an id and no name.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the files are looked at: a rename of a user shows after this long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Both tables, read again when a file changes.
#[derive(Debug)]
pub struct Names {
    users: File,
    groups: File,
    looked: Option<Instant>,
    generation: u64,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// What the content was read from: device, inode, size, mtime.
    stamp: Option<(u64, u64, u64, i64, i64)>,
    names: HashMap<u32, String>,
}

impl Names {
    /// The names of the host whose root directory is `host_root`.
    pub fn new(host_root: &Path) -> Self {
        Self {
            users: File::new(host_root.join("etc/passwd")),
            groups: File::new(host_root.join("etc/group")),
            looked: None,
            generation: 0,
        }
    }

    /// The name of this user.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.names.get(&uid).map(String::as_str)
    }

    /// The name of this group.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.names.get(&gid).map(String::as_str)
    }

    /// Reads what has changed, and returns a number that differs whenever a name may differ.
    pub fn refresh(&mut self) -> u64 {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            let users = self.users.refresh();
            let groups = self.groups.refresh();
            self.generation += u64::from(users || groups);
        }
        self.generation
    }
}

impl File {
    fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, names: HashMap::new() }
    }

    fn refresh(&mut self) -> bool {
        let stamp = fs::metadata(&self.path)
            .ok()
            .map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        if stamp == self.stamp {
            return false;
        }
        // Unreadable for a moment (passwd(1) replaces the file): the names last known stay.
        if let Ok(content) = fs::read(&self.path) {
            self.names = parse(&content);
            self.stamp = stamp;
            return true;
        }
        false
    }
}

/// `name:password:id:…` lines, passwd(5) and group(5). The first name of an id counts, as in
/// getpwuid(3).
fn parse(content: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in content.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        if let (Some(id), false) = (id, name.is_empty() || name[0] == b'#') {
            names.entry(id).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_an_id_counts_and_rubbish_is_skipped() {
        let names = parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\n#x:y:7\nbroken\n\
              +@nis\nminus:x:-1:0\nann\xff:x:1000:1000::/home/ann:/bin/sh",
        );
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&1000], "ann\u{fffd}");
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let mut names = Names::new(root.path());
        let first = names.refresh();
        assert_eq!(names.user(1000), None);

        fs::write(root.path().join("etc/passwd"), "ann:x:1000:1000::/:/bin/sh\n").unwrap();
        assert_eq!(names.refresh(), first, "looked at once a second only");
        names.looked = None;
        assert_ne!(names.refresh(), first);
        assert_eq!(names.user(1000), Some("ann"));

        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        names.looked = None;
        names.refresh();
        assert_eq!(names.user(1000), Some("ann"), "the last known names stay");
    }
}
