//! Rules with `containers`: their paths in each container, in terms of the host.
//!
//! A path means something else in each container: symbolic links are resolved below its own root,
//! and what is mounted there may come from anywhere on the host. A pattern is therefore taken
//! apart by the container's mounts, and each part put to where the host has the same objects.

use std::path::{Path, PathBuf};

use super::canonical::canonical_in;
use super::pattern::{Extent, Pattern};

/// A container as its processes see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// As its runtime names it.
    pub id: String,
    /// Where its root directory can be read now, its mounts included: `/proc/<pid>/root`.
    pub root: PathBuf,
    /// Its mounts that the host sees too.
    pub mounts: Vec<Place>,
}

/// The same directory, or file, by two names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The mount point in the container.
    pub inside: PathBuf,
    /// Where the host has it; `None`: nowhere.
    pub host: Option<PathBuf>,
}

impl Container {
    /// Where the host has its root directory.
    pub fn host_root(&self) -> Option<&Path> {
        self.mounts.iter().find(|place| place.inside == Path::new("/"))?.host.as_deref()
    }

    /// Whether both are the same to the host: the same places, however they are read.
    pub fn is_as(&self, other: &Self) -> bool {
        self.id == other.id && self.mounts == other.mounts
    }

    /// The path on the host of what is at the canonical `path` inside.
    fn on_host(&self, path: &Path) -> Option<PathBuf> {
        let place = self
            .mounts
            .iter()
            .filter(|place| path.starts_with(&place.inside))
            .max_by_key(|place| place.inside.components().count())?;
        let below = path.strip_prefix(&place.inside).ok()?;
        let host = place.host.as_ref()?;
        Some(if below.as_os_str().is_empty() { host.clone() } else { host.join(below) })
    }

    /// What `pattern` means in this container, for the host. What lies in a mount that the host
    /// does not see is left out.
    pub(super) fn patterns(&self, pattern: &Pattern) -> Vec<Pattern> {
        let inside = pattern.resolved(&|path| canonical_in(&self.root, path));
        let mut patterns = Vec::new();
        for pattern in inside {
            let base = pattern.base().to_owned();
            patterns.extend(self.on_host(&base).map(|host| pattern.at(host)));
            for place in &self.mounts {
                let Some(host) = &place.host else { continue };
                if place.inside == base || !place.inside.starts_with(&base) {
                    continue;
                }
                if pattern.is_whole_below() {
                    patterns.push(pattern.with(host.clone(), Extent::Tree));
                } else if pattern.matches(&place.inside) {
                    // A glob matches the object and not what is below it.
                    patterns.push(pattern.with(host.clone(), Extent::Object));
                }
            }
        }
        patterns
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::policy::{Policy, Rule, canonical};

    fn place(inside: &str, host: Option<&str>) -> Place {
        Place { inside: inside.into(), host: host.map(Into::into) }
    }

    fn container(root: &Path) -> Container {
        let mounts = vec![
            place("/", Some("/run/c/merged")),
            place("/proc", None),
            place("/etc/hosts", Some("/run/c/hosts")),
            place("/srv/data", Some("/volumes/v")),
        ];
        Container { id: "c".to_owned(), root: root.to_owned(), mounts }
    }

    fn bases(container: &Container, patterns: Vec<Pattern>) -> Vec<String> {
        patterns
            .iter()
            .flat_map(|pattern| container.patterns(pattern))
            .map(|pattern| {
                let kind = match pattern.extent() {
                    Extent::Tree => "tree",
                    Extent::Object => "object",
                    Extent::Glob(_) => "glob",
                };
                format!("{kind} {}", pattern.base().display())
            })
            .collect()
    }

    #[test]
    fn a_path_is_where_the_host_has_it() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("/usr/bin", temp.path().join("bin")).unwrap();
        let container = container(temp.path());
        for (pattern, want) in [
            ("/etc/passwd", &["tree /run/c/merged/etc/passwd"][..]),
            ("/etc", &["tree /run/c/merged/etc", "tree /run/c/hosts"]),
            ("/etc/*", &["glob /run/c/merged/etc", "object /run/c/hosts"]),
            ("/etc/*.conf", &["glob /run/c/merged/etc"]),
            ("/bin/sh", &["tree /run/c/merged/usr/bin/sh"]),
            ("/bin", &["tree /run/c/merged/usr/bin", "object /run/c/merged/bin"]),
            ("/srv/data/key", &["tree /volumes/v/key"]),
            ("/srv/data", &["tree /volumes/v"]),
            ("/srv/**", &["glob /run/c/merged/srv", "tree /volumes/v"]),
            // Only the container has it.
            ("/proc/sys", &[]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(bases(&container, parsed), want, "{pattern}");
        }
    }

    #[test]
    fn a_rule_is_about_the_host_and_each_container() {
        let temp = tempfile::tempdir().unwrap();
        let rule = |containers| Rule {
            exclude: Pattern::parse("/nowhere/etc/mtab").unwrap(),
            containers,
            ..Rule::new("r", Pattern::parse("/nowhere/etc").unwrap())
        };
        let containers = [container(temp.path())];
        let covers = |policy: &Policy, path: &str| policy.covers(Path::new(path)).is_some();
        let policy = Policy::new(vec![rule(true)]).resolved_with(&canonical, &containers);
        assert!(covers(&policy, "/nowhere/etc/passwd"));
        assert!(covers(&policy, "/run/c/merged/nowhere/etc/passwd"));
        assert!(!covers(&policy, "/run/c/merged/nowhere/etc/mtab"));
        assert!(!covers(&policy, "/run/c/merged/other"));
        assert_eq!(policy.containers(), [Path::new("/run/c/merged")]);

        let policy = Policy::new(vec![rule(false)]).resolved_with(&canonical, &containers);
        assert!(covers(&policy, "/nowhere/etc/passwd"));
        assert!(!covers(&policy, "/run/c/merged/nowhere/etc/passwd"));
        assert!(policy.containers().is_empty());
    }
}
