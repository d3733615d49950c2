//! What the host's package databases say of a file: which package owns it, and what its content
//! is to be. dpkg, rpm (SQLite) and apk; each below a root directory, so that a container can read
//! the host's.
//!
//! Everything here only reads, and blocks on the disk: the pipeline asks through a thread of its
//! own (`pipeline::verifier`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::event::Manager;
use crate::platform;

mod aliases;
mod apk;
mod content;
mod dpkg;
mod index;
pub mod programs;
mod rpm;

#[cfg(test)]
mod tests;

pub use content::{Found, look};
pub use index::Index;

/// A database that is there and cannot be read.
#[derive(Debug, Error)]
#[error("{}: {reason}", path.display())]
pub struct DatabaseError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it, and what is supported.
    pub reason: String,
}

impl DatabaseError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Package {
    /// Its name; with the architecture (`libc6:i386`) only where the database needs it to tell two
    /// apart.
    pub name: String,
    /// As the package manager writes it, with epoch and revision.
    pub version: String,
    /// The database that has it.
    pub manager: Manager,
    /// How its database finds it.
    key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The name of its files in `info`, without the ending.
    Dpkg(String),
    /// `hnum` in `Packages`.
    Rpm(i64),
    /// The name.
    Apk,
}

/// A digest as databases have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// dpkg, and rpm before 4.6. Nobody can make a second file for a given MD5 sum (RFC 6151,
    /// section 2.2), which is what counts here; who makes the package can make two.
    Md5([u8; 16]),
    /// apk, of packages in its format 2.
    Sha1([u8; 20]),
    /// apk, of packages in its format 3: the first 160 bits of a SHA-256.
    Sha256Of160([u8; 20]),
    /// rpm.
    Sha256([u8; 32]),
}

/// What a database says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What there is to be.
    pub content: Content,
    /// People are meant to change it: a conffile, `%config`, what is below `/etc` for apk.
    pub configuration: bool,
    /// Permission bits; dpkg does not know them.
    pub mode: Option<u32>,
}

/// What there is to be at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file with this content.
    File(Digest),
    /// A symbolic link with this target.
    Link(PathBuf),
    /// A directory.
    Directory,
    /// The database has the path and nothing of what is there (dpkg: links and directories; files of
    /// packages without sums; rpm's `%ghost`).
    Unrecorded,
}

/// The databases of one host.
#[derive(Debug)]
pub struct Databases {
    root: PathBuf,
}

/// One database, for `fim doctor`.
#[derive(Debug)]
pub struct Status {
    /// Whose.
    pub manager: Manager,
    /// Where it is.
    pub path: PathBuf,
    /// Packages in it, or why it cannot be read.
    pub packages: Result<usize, DatabaseError>,
}

impl Databases {
    /// Those below `root`; `/` on the host itself.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The host's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Changes when a database does. Cheap: a few calls of stat(2).
    pub fn fingerprint(&self) -> Vec<(PathBuf, u64, u64, u64)> {
        let candidates = dpkg::files(&self.root)
            .into_iter()
            .chain(rpm::files(&self.root))
            .chain(apk::files(&self.root));
        candidates
            .filter_map(|path| {
                let metadata = path.metadata().ok()?;
                let [content, anything] = platform::change_times(&metadata);
                Some((path, content, anything, metadata.len()))
            })
            .collect()
    }

    /// Each database that is there.
    pub fn status(&self) -> Vec<Status> {
        let mut all = Vec::new();
        let mut add = |manager, path: Option<PathBuf>, packages: &dyn Fn() -> PackagesResult| {
            if let Some(path) = path {
                let packages = packages().map(|packages| packages.len());
                all.push(Status { manager, path, packages });
            }
        };
        add(Manager::Dpkg, dpkg::find(&self.root), &|| dpkg::packages(&self.root));
        add(Manager::Rpm, rpm::find(&self.root), &|| rpm::packages(&self.root));
        add(Manager::Apk, apk::find(&self.root), &|| apk::packages(&self.root));
        all
    }

    /// All installed packages, by manager and name. (Of packages that may be installed several
    /// times, as kernels of rpm, the last one.)
    ///
    /// # Errors
    /// When a database that is there cannot be read.
    pub fn packages(&self) -> Result<BTreeMap<(Manager, String), String>, DatabaseError> {
        let all =
            [dpkg::packages(&self.root)?, rpm::packages(&self.root)?, apk::packages(&self.root)?];
        let named = all.into_iter().flatten();
        Ok(named.map(|p| ((p.manager, p.name), p.version)).collect())
    }

    /// Calls `found` for each path of each package, as the kernel names it: directories that are
    /// links (`/bin`) resolved, diverted files where they are.
    ///
    /// # Errors
    /// When a database that is there cannot be read.
    fn each_path(&self, found: &mut dyn FnMut(&Package, &Path)) -> Result<(), DatabaseError> {
        let aliases = aliases::Aliases::read(&self.root);
        let mut canonical =
            |package: &Package, path: &Path| found(package, &aliases.canonical(path));
        dpkg::each_path(&self.root, &mut canonical)?;
        rpm::each_path(&self.root, &mut canonical)?;
        apk::each_path(&self.root, &mut canonical)
    }

    /// What the database says of these canonical paths of one package.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn entries(
        &self,
        package: &Package,
        paths: &HashSet<PathBuf>,
    ) -> Result<HashMap<PathBuf, Entry>, DatabaseError> {
        let aliases = aliases::Aliases::read(&self.root);
        let wanted = |path: &Path| {
            let path = aliases.canonical(path);
            paths.contains(&path).then_some(path)
        };
        match &package.key {
            Key::Dpkg(stem) => dpkg::entries(&self.root, &package.name, stem, &wanted),
            Key::Rpm(number) => rpm::entries(&self.root, *number, &wanted),
            Key::Apk => apk::entries(&self.root, &package.name, &wanted),
        }
    }

    /// Names of packages that were installed since (seconds of the epoch), also over the same
    /// version. apk does not know.
    pub fn installed_since(&self, seconds: i64) -> Vec<(Manager, String)> {
        let dpkg =
            dpkg::installed_since(&self.root, seconds).into_iter().map(|n| (Manager::Dpkg, n));
        let rpm = rpm::installed_since(&self.root, seconds).into_iter().map(|n| (Manager::Rpm, n));
        dpkg.chain(rpm).collect()
    }
}

type PackagesResult = Result<Vec<Package>, DatabaseError>;

/// Whether a path below the root was asked for: its canonical form, if so.
type Wanted<'a> = &'a dyn Fn(&Path) -> Option<PathBuf>;

/// Bytes of a lower- or upper-case hexadecimal text of exactly that length.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}
