//! Which directories the kernel has to know so that it decides about scope as the policy does, or
//! a little too generously: a pure function of the watches and of what exists.
//!
//! A watched directory is known by its inode. Its parent knows it by name as well, so that a
//! directory put in its place (removed and made again, or renamed over) is in scope from its first
//! moment; and each directory further up knows the next one by name, one component deep, so that
//! moving it away is seen. What does not exist yet is known by name from the nearest directory
//! that does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fim_common::policy::Watch;
use fim_common::record::maps::{DEPTH_UNLIMITED, FILTER_LEN};

/// What the kernel is to know of one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// Components below it in scope, whatever their names; 0: none.
    pub depth: u32,
    /// By name: components below it in scope below (and including) that one.
    pub filters: BTreeMap<[u8; FILTER_LEN], u32>,
    /// Nothing below it is in scope.
    pub exclude: bool,
}

/// What there is at a path, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

/// The directories to make known, by host path. `mounts` are the mount points of file systems
/// that are worth watching; `look` says what exists.
pub(super) fn directories(
    watches: &[Watch],
    prunes: &[PathBuf],
    mounts: &[PathBuf],
    look: &dyn Fn(&Path) -> Existing,
) -> BTreeMap<PathBuf, Directory> {
    let mut known = BTreeMap::<PathBuf, Directory>::new();
    for watch in watches {
        let depth = watch.depth.unwrap_or(DEPTH_UNLIMITED);
        match &watch.first {
            Some(first) => by_name(&mut known, &watch.base.join(first), depth, look),
            None => {
                if look(&watch.base) == Existing::Directory {
                    deepen(&mut known.entry(watch.base.clone()).or_default().depth, depth);
                }
                by_name(&mut known, &watch.base, depth.saturating_add(1), look);
                for mount in mounts {
                    if let Ok(below) = mount.strip_prefix(&watch.base)
                        && below.components().count() > 0
                        && (below.components().count() as u32) < depth
                    {
                        let left = if depth == DEPTH_UNLIMITED {
                            depth
                        } else {
                            depth - below.components().count() as u32
                        };
                        deepen(&mut known.entry(mount.clone()).or_default().depth, left);
                    }
                }
            }
        }
    }
    for prune in prunes {
        if look(prune) == Existing::Directory {
            let directory = known.entry(prune.clone()).or_default();
            if directory.depth == 0 && directory.filters.is_empty() {
                directory.exclude = true;
            }
        }
    }
    known
}

/// Makes `path` known by name to the nearest directory above it that exists, and that one to
/// those above it.
fn by_name(
    known: &mut BTreeMap<PathBuf, Directory>,
    path: &Path,
    depth: u32,
    look: &dyn Fn(&Path) -> Existing,
) {
    let mut nearest = true;
    let mut missing = 0_u32;
    let mut here = path;
    while let (Some(parent), Some(name)) = (here.parent(), here.file_name()) {
        if look(parent) == Existing::Directory {
            let depth = if nearest { depth.saturating_add(missing) } else { 1 };
            nearest = false;
            let filters = &mut known.entry(parent.to_owned()).or_default().filters;
            deepen(filters.entry(filter_name(name.as_encoded_bytes())).or_default(), depth);
        } else {
            missing += 1;
        }
        here = parent;
    }
}

/// Makes one file known by name to its directory.
pub(super) fn know_file(known: &mut BTreeMap<PathBuf, Directory>, path: &Path) {
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let filters = &mut known.entry(parent.to_owned()).or_default().filters;
        deepen(filters.entry(filter_name(name.as_encoded_bytes())).or_default(), 1);
    }
}

fn deepen(depth: &mut u32, to: u32) {
    *depth = (*depth).max(to);
}

/// A component as the kernel compares it: cut, and padded with NUL.
pub(super) fn filter_name(name: &[u8]) -> [u8; FILTER_LEN] {
    let mut cut = [0; FILTER_LEN];
    let len = name.len().min(FILTER_LEN);
    cut[..len].copy_from_slice(&name[..len]);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(base: &str, depth: Option<u32>, first: Option<&str>) -> Watch {
        Watch { base: base.into(), depth, first: first.map(Into::into) }
    }

    fn known(watches: &[Watch], prunes: &[&str], mounts: &[&str]) -> Vec<String> {
        let directories_there = ["/", "/a", "/a/b", "/a/b/w", "/a/b/w/m", "/etc"];
        let look = |path: &Path| match path.to_str() {
            Some(path) if directories_there.contains(&path) => Existing::Directory,
            Some("/etc/file") => Existing::Other,
            _ => Existing::Nothing,
        };
        let prunes: Vec<PathBuf> = prunes.iter().map(PathBuf::from).collect();
        let mounts: Vec<PathBuf> = mounts.iter().map(PathBuf::from).collect();
        let text = |depth: u32| match depth {
            DEPTH_UNLIMITED => "*".to_owned(),
            depth => depth.to_string(),
        };
        directories(watches, &prunes, &mounts, &look)
            .into_iter()
            .map(|(path, directory)| {
                let filters: Vec<String> = directory
                    .filters
                    .iter()
                    .map(|(name, &depth)| {
                        let name = String::from_utf8_lossy(name);
                        format!("{}:{}", name.trim_end_matches('\0'), text(depth))
                    })
                    .collect();
                let exclude = if directory.exclude { "!" } else { "" };
                format!(
                    "{exclude}{} {} [{}]",
                    path.display(),
                    text(directory.depth),
                    filters.join(" ")
                )
            })
            .collect()
    }

    #[test]
    fn a_directory_is_known_by_inode_and_by_name() {
        assert_eq!(
            known(&[watch("/a/b/w", None, None)], &[], &[]),
            ["/ 0 [a:1]", "/a 0 [b:1]", "/a/b 0 [w:*]", "/a/b/w * []"]
        );
    }

    #[test]
    fn what_is_not_there_yet_is_known_by_name() {
        assert_eq!(known(&[watch("/a/x/y", None, None)], &[], &[]), ["/ 0 [a:1]", "/a 0 [x:*]"]);
    }

    #[test]
    fn a_file_and_a_depth() {
        assert_eq!(
            known(&[watch("/etc", Some(1), None), watch("/etc/file", None, None)], &[], &[]),
            ["/ 0 [etc:2]", "/etc 1 [file:*]"]
        );
        assert_eq!(known(&[watch("/", Some(1), Some("bin"))], &[], &[]), ["/ 0 [bin:1]"]);
    }

    #[test]
    fn mounts_and_prunes() {
        assert_eq!(
            known(&[watch("/a/b", None, None)], &["/a/b/w", "/a/no"], &["/a/b/w/m", "/a"]),
            ["/ 0 [a:1]", "/a 0 [b:*]", "/a/b * []", "!/a/b/w 0 []", "/a/b/w/m * []"]
        );
    }
}
