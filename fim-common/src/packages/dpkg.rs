//! dpkg's database: `var/lib/dpkg`, as dpkg 1.15 and newer write it (deb-md5sums(5),
//! dpkg-divert(1), `lib/dpkg/{parse,dump,filesdb}.c`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Content, DatabaseError, Digest, Entry, Key, Package, PackagesResult, Wanted, unhex};
use crate::event::Manager;
use crate::platform;

const ADMIN: &str = "var/lib/dpkg";

/// Where the database is, if it is there.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    let status = root.join(ADMIN).join("status");
    status.is_file().then(|| root.join(ADMIN))
}

/// What changes with the database.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    ["status", "info", "updates", "diversions"].map(|name| root.join(ADMIN).join(name)).into()
}

/// A stanza of `status`, as far as it matters.
#[derive(Debug, Default)]
struct Stanza {
    name: String,
    architecture: String,
    version: String,
    /// The third word of `Status`.
    state: String,
    /// `Multi-Arch: same`.
    same: bool,
    /// Path and MD5 sum.
    conffiles: Vec<(PathBuf, String)>,
}

/// All stanzas, the newest of each package: `status`, and what `updates` has that is not in it yet.
fn stanzas(root: &Path) -> Result<BTreeMap<(String, String), Stanza>, DatabaseError> {
    let mut all = BTreeMap::new();
    let Some(admin) = find(root) else { return Ok(all) };
    let mut files = vec![admin.join("status")];
    if let Ok(entries) = fs::read_dir(admin.join("updates")) {
        let mut updates: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                !name.is_empty() && name.iter().all(u8::is_ascii_digit)
            })
            .collect();
        updates.sort();
        files.extend(updates);
    }
    for (number, path) in files.iter().enumerate() {
        let text = match fs::read(path) {
            Ok(text) => text,
            // dpkg has taken it over into `status` meanwhile.
            Err(error) if number > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DatabaseError::new(path, error)),
        };
        let text = String::from_utf8_lossy(&text);
        for block in text.split("\n\n") {
            let stanza = stanza(block);
            if !stanza.name.is_empty() {
                all.insert((stanza.name.clone(), stanza.architecture.clone()), stanza);
            }
        }
    }
    Ok(all)
}

fn stanza(block: &str) -> Stanza {
    let mut stanza = Stanza::default();
    let mut in_conffiles = false;
    for line in block.lines() {
        if line.starts_with([' ', '\t']) {
            let mut words = line.split_whitespace();
            if in_conffiles && let (Some(path), Some(sum)) = (words.next(), words.next()) {
                // "newconffile" stands for a sum while a package is unpacked.
                stanza.conffiles.push((PathBuf::from(path), sum.to_owned()));
            }
            continue;
        }
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        in_conffiles = field == "Conffiles";
        match field {
            "Package" => value.clone_into(&mut stanza.name),
            "Architecture" => value.clone_into(&mut stanza.architecture),
            "Version" => value.clone_into(&mut stanza.version),
            "Status" => {
                stanza.state = value.split_whitespace().nth(2).unwrap_or_default().to_owned();
            }
            "Multi-Arch" => stanza.same = value == "same",
            _ => {}
        }
    }
    stanza
}

impl Stanza {
    /// Whether files of it are there.
    fn is_present(&self) -> bool {
        !matches!(&*self.state, "not-installed" | "config-files" | "")
    }
}

/// The packages of which files are there.
pub(super) fn packages(root: &Path) -> PackagesResult {
    let stanzas = stanzas(root)?;
    let mut names: HashMap<String, usize> = HashMap::new();
    for stanza in stanzas.values().filter(|stanza| stanza.is_present()) {
        *names.entry(stanza.name.clone()).or_default() += 1;
    }
    let info = root.join(ADMIN).join("info");
    let present = stanzas.into_values().filter(Stanza::is_present);
    Ok(present
        .map(|stanza| {
            let with_architecture = format!("{}:{}", stanza.name, stanza.architecture);
            let several = names.get(&stanza.name).is_some_and(|count| *count > 1);
            // A package that several architectures can share has its files under both.
            let qualified = stanza.same || info.join(format!("{with_architecture}.list")).exists();
            Package {
                name: if several { with_architecture.clone() } else { stanza.name.clone() },
                version: stanza.version,
                manager: Manager::Dpkg,
                key: Key::Dpkg(if qualified { with_architecture } else { stanza.name }),
            }
        })
        .collect())
}

/// `diversions`: three lines each, where the file is expected, where it is, and whose file stays
/// where it is.
struct Diversions(Vec<(PathBuf, PathBuf, String)>);

impl Diversions {
    fn read(root: &Path) -> Self {
        let text = fs::read(root.join(ADMIN).join("diversions")).unwrap_or_default();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let path = |line: &[u8]| platform::path(line.to_vec());
        Self(
            lines
                .chunks_exact(3)
                .map(|three| {
                    let by = String::from_utf8_lossy(three[2]).into_owned();
                    (path(three[0]), path(three[1]), by)
                })
                .collect(),
        )
    }

    /// Where the file that `package` ships as `path` is. `:` stands for the administrator.
    fn actual<'p>(&'p self, package: &str, path: &'p Path) -> &'p Path {
        let package = package.split(':').next().unwrap_or(package);
        self.0
            .iter()
            .find(|(from, _, by)| from == path && by != package)
            .map_or(path, |(_, to, _)| to)
    }
}

fn info(root: &Path, stem: &str, ending: &str) -> PathBuf {
    root.join(ADMIN).join("info").join(format!("{stem}.{ending}"))
}

/// The lines of one of the files of a package; none if it has no such file.
fn lines(path: &Path) -> Result<Vec<Vec<u8>>, DatabaseError> {
    match fs::read(path) {
        Ok(text) => Ok(text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DatabaseError::new(path, error)),
    }
}

pub(super) fn each_path(
    root: &Path,
    found: &mut dyn FnMut(&Package, &Path),
) -> Result<(), DatabaseError> {
    if find(root).is_none() {
        return Ok(());
    }
    let diversions = Diversions::read(root);
    for package in packages(root)? {
        let Key::Dpkg(stem) = &package.key else { continue };
        for line in lines(&info(root, stem, "list"))? {
            let path = platform::os_str(&line);
            let path = Path::new(&path);
            // The root directory is in each list as `/.`.
            if path != Path::new("/.") {
                found(&package, diversions.actual(&package.name, path));
            }
        }
    }
    Ok(())
}

pub(super) fn entries(
    root: &Path,
    name: &str,
    stem: &str,
    wanted: Wanted<'_>,
) -> Result<HashMap<PathBuf, Entry>, DatabaseError> {
    let diversions = Diversions::read(root);
    let actual = |path: &Path| wanted(diversions.actual(name, path));
    let mut entries = HashMap::new();
    for line in lines(&info(root, stem, "list"))? {
        if let Some(path) = actual(Path::new(&platform::os_str(&line))) {
            let entry = Entry { content: Content::Unrecorded, configuration: false, mode: None };
            entries.insert(path, entry);
        }
    }
    for line in lines(&info(root, stem, "md5sums"))? {
        // "<sum>  usr/bin/ssh"; some have "./" or "/" before the path.
        let Some((sum, path)) = line.split_at_checked(32) else { continue };
        let path = path.strip_prefix(b"  ").unwrap_or(path);
        let path = path.strip_prefix(b"./").or(path.strip_prefix(b"/")).unwrap_or(path);
        let sum = std::str::from_utf8(sum).ok().and_then(unhex).map(Digest::Md5);
        let path = actual(&Path::new("/").join(platform::os_str(path)));
        if let (Some(sum), Some(path)) = (sum, path)
            && let Some(entry) = entries.get_mut(&path)
        {
            entry.content = Content::File(sum);
        }
    }
    let configuration: HashSet<PathBuf> = lines(&info(root, stem, "conffiles"))?
        .iter()
        .map(|line| platform::path(line.to_vec()))
        .collect();
    if configuration.is_empty() {
        return Ok(entries);
    }
    for path in &configuration {
        if let Some(entry) = actual(path).and_then(|path| entries.get_mut(&path)) {
            entry.configuration = true;
        }
    }
    // The sums of the versions that were installed last.
    let (bare, architecture) = stem.split_once(':').map_or((stem, None), |(n, a)| (n, Some(a)));
    for stanza in stanzas(root)?.into_values() {
        if stanza.name != bare || architecture.is_some_and(|a| a != stanza.architecture) {
            continue;
        }
        for (path, sum) in stanza.conffiles {
            if let Some(sum) = unhex(&sum).map(Digest::Md5)
                && let Some(entry) = actual(&path).and_then(|path| entries.get_mut(&path))
            {
                entry.content = Content::File(sum);
                entry.configuration = true;
            }
        }
    }
    Ok(entries)
}

/// Packages whose list of files was written since.
pub(super) fn installed_since(root: &Path, seconds: i64) -> Vec<String> {
    let info = root.join(ADMIN).join("info");
    let packages = packages(root).unwrap_or_default();
    let written = |package: &Package| {
        let Key::Dpkg(stem) = &package.key else { return false };
        let metadata = info.join(format!("{stem}.list")).metadata();
        metadata.is_ok_and(|metadata| {
            let [_, changed] = platform::change_times(&metadata);
            changed.cast_signed() / 1_000_000_000 >= seconds
        })
    };
    packages.into_iter().filter(written).map(|package| package.name).collect()
}
