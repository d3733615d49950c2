//! The canonical form of a path that need not exist.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links followed before a path is taken for a loop; the kernel's own limit.
const LINKS_MAX: usize = 40;

/// The canonical form of the longest existing prefix of `path`, and the rest as it is.
///
/// A link to something that does not exist is followed all the same: what it means is watched
/// from the moment it appears there. A relative path begins at the working directory. In a loop
/// of links the path stops being resolved.
pub fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    canonical_in(Path::new(""), &absolute)
}

/// Where on this host's disk the base of a pattern lies, as the disk spells it; `None`: nowhere (what
/// is no drive and no share, on Windows).
pub fn on_disk(base: &Path) -> Option<PathBuf> {
    match cfg!(windows) {
        true => super::windows::place(base).map(crate::platform::spelled),
        false => Some(canonical(base)),
    }
}

/// As [`canonical`], for a process whose root directory is `root`: no link leads out of it. Both
/// the absolute `path` and the answer are as that process has them.
pub fn canonical_in(root: &Path, path: &Path) -> PathBuf {
    let mut done = PathBuf::new();
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let mut links = 0;
    push_front(&mut done, &mut todo, path);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(&name);
        if links == LINKS_MAX {
            continue;
        }
        // Fails for everything that is no link, and where nothing is.
        let at = match root.as_os_str().is_empty() {
            true => std::fs::read_link(&done),
            false => std::fs::read_link(root.join(done.strip_prefix("/").unwrap_or(&done))),
        };
        if let Ok(target) = at {
            links += 1;
            done.pop();
            push_front(&mut done, &mut todo, &target);
        }
    }
    done
}

/// Puts the components of `path` before those still to do; an absolute one begins anew.
fn push_front(done: &mut PathBuf, todo: &mut VecDeque<OsString>, path: &Path) {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => done.push(component),
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) => names.push(component.as_os_str()),
        }
    }
    names.into_iter().rev().for_each(|name| todo.push_front(name.into()));
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn resolves_links_and_keeps_what_is_missing() {
        let temp = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temp.path()).unwrap();
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("usr/bin/real"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink(root.join("bin/real"), root.join("usr/bin/alias")).unwrap();
        symlink("missing/there", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("../..", root.join("usr/bin/up")).unwrap();
        for (path, want) in [
            ("bin", "usr/bin"),
            ("bin/real", "usr/bin/real"),
            ("bin/alias", "usr/bin/real"),
            ("bin/none/x", "usr/bin/none/x"),
            ("dangling/x", "missing/there/x"),
            ("usr/bin/up/usr", "usr"),
            ("bin/../bin", "usr/bin"),
            ("loop", "loop"),
        ] {
            assert_eq!(canonical(&root.join(path)), root.join(want), "{path}");
        }
        assert_eq!(canonical(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn no_link_leads_out_of_a_root() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("usr/etc")).unwrap();
        symlink("/usr/etc", root.join("etc")).unwrap();
        symlink("/../../../../etc/passwd", root.join("up")).unwrap();
        symlink("../../../../..", root.join("usr/away")).unwrap();
        for (path, want) in [
            ("/etc/passwd", "/usr/etc/passwd"),
            ("/up", "/usr/etc/passwd"),
            ("/usr/away/x", "/x"),
            ("/none/x", "/none/x"),
            ("/", "/"),
        ] {
            assert_eq!(canonical_in(root, Path::new(path)), Path::new(want), "{path}");
        }
    }
}
