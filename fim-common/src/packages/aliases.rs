//! Directories that are symbolic links. Databases have paths as packages ship them (`/bin/cat`),
//! the kernel as they are (`/usr/bin/cat`).

use std::path::{Path, PathBuf};

/// Links among the directories that packages have used before the merge of `/usr`, and those that
/// moved to `/run`.
const CANDIDATES: [&str; 8] =
    ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "var/run", "var/lock"];

/// Which of them are links here, and where they lead.
#[derive(Debug, Default)]
pub(super) struct Aliases(Vec<(PathBuf, PathBuf)>);

impl Aliases {
    /// Looks below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let mut aliases = Vec::new();
        for name in CANDIDATES {
            let Ok(target) = root.join(name).read_link() else { continue };
            let link = Path::new("/").join(name);
            let base = link.parent().unwrap_or(Path::new("/"));
            // `join` takes an absolute target as it is.
            let target = base.join(target);
            // `usr/bin`, `/run`; what goes up again is nobody's layout.
            let plain = target.components().all(|part| part.as_os_str() != "..");
            if plain {
                aliases.push((link, target));
            }
        }
        Self(aliases)
    }

    /// The path as the kernel names it.
    pub(super) fn canonical(&self, path: &Path) -> PathBuf {
        for (link, target) in &self.0 {
            if let Ok(rest) = path.strip_prefix(link)
                // The link itself is a path, too.
                && !rest.as_os_str().is_empty()
            {
                return target.join(rest);
            }
        }
        path.to_owned()
    }
}
