//! Programs whose changes can be expected: package managers, and what their maintainer scripts run
//! to make files that no package has.
//!
//! A program is known by the path of its executable in the host's mount namespace, or of the script
//! that its interpreter runs, never by what a process calls itself. Whether the file there is the
//! one of its package is checked besides.

use std::path::Path;

/// A known program.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path, canonical.
    pub path: &'static str,
    /// What it is.
    pub role: Role,
}

/// What a known program does.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Installs packages; under this name in events.
    Manager(&'static str),
    /// Makes what lies below these paths (one that ends with `/`) or at them.
    Generator(&'static [&'static str]),
}

const fn manager(path: &'static str, name: &'static str) -> Program {
    Program { path, role: Role::Manager(name) }
}

const fn generator(path: &'static str, made: &'static [&'static str]) -> Program {
    Program { path, role: Role::Generator(made) }
}

/// What `ldconfig` makes.
const LDCONFIG: &[&str] = &["/etc/ld.so.cache", "/etc/ld.so.cache~", "/var/cache/ldconfig/"];
/// What `update-alternatives` makes, besides the links to the first one.
const ALTERNATIVES: &[&str] = &[
    "/etc/alternatives/",
    "/var/lib/dpkg/alternatives/",
    "/var/lib/alternatives/",
    "/var/log/alternatives.log",
];

/// All of them.
pub const PROGRAMS: &[Program] = &[
    manager("/usr/bin/apt", "apt"),
    manager("/usr/bin/apt-get", "apt"),
    manager("/usr/bin/aptitude-curses", "aptitude"),
    manager("/usr/bin/dpkg", "dpkg"),
    manager("/usr/bin/unattended-upgrade", "unattended-upgrade"),
    manager("/usr/bin/unattended-upgrades", "unattended-upgrade"),
    manager("/usr/libexec/packagekitd", "packagekit"),
    manager("/usr/lib/packagekit/packagekitd", "packagekit"),
    manager("/usr/bin/rpm", "rpm"),
    manager("/usr/bin/dnf", "dnf"),
    manager("/usr/bin/dnf-3", "dnf"),
    manager("/usr/bin/dnf5", "dnf"),
    manager("/usr/bin/microdnf", "dnf"),
    manager("/usr/bin/yum", "yum"),
    manager("/usr/bin/zypper", "zypper"),
    manager("/sbin/apk", "apk"),
    manager("/usr/bin/apk", "apk"),
    manager("/usr/sbin/apk", "apk"),
    generator("/usr/sbin/ldconfig", LDCONFIG),
    generator("/usr/bin/update-alternatives", ALTERNATIVES),
    generator("/usr/sbin/update-alternatives", ALTERNATIVES),
    generator("/usr/sbin/alternatives", ALTERNATIVES),
    generator("/usr/bin/mandb", &["/var/cache/man/"]),
    generator("/usr/bin/install-info", &["/usr/share/info/dir"]),
    generator("/usr/bin/update-mime-database", &["/usr/share/mime/"]),
    generator("/usr/bin/fc-cache", &["/var/cache/fontconfig/"]),
    generator("/usr/bin/glib-compile-schemas", &["/usr/share/glib-2.0/schemas/gschemas.compiled"]),
];

/// Where package managers keep what they know, and what they fetched.
const STATE: &[&str] = &[
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/cache/apt/",
    "/var/log/apt/",
    "/var/log/dpkg.log",
    "/var/lib/rpm/",
    "/usr/lib/sysimage/",
    "/var/lib/dnf/",
    "/var/cache/dnf/",
    "/var/cache/libdnf5/",
    "/var/log/dnf.log",
    "/lib/apk/",
    "/usr/lib/apk/db/",
    "/etc/apk/",
    "/var/cache/apk/",
];

/// Names of interpreters of managers that are scripts, before their version.
const INTERPRETERS: [&str; 3] = ["python", "platform-python", "perl"];

/// The program that an executable with these arguments is, `args` with the program's own name
/// first. `executable` has to be a path of the host's mount namespace.
pub fn program(executable: &Path, args: &[impl AsRef<Path>]) -> Option<&'static Program> {
    let known = |path: &Path| PROGRAMS.iter().find(|program| path == Path::new(program.path));
    if let Some(program) = known(executable) {
        return Some(program);
    }
    let name = executable.file_name()?.to_str()?;
    let below_usr = executable.starts_with("/usr/bin") || executable.starts_with("/usr/libexec");
    if !below_usr || !INTERPRETERS.iter().any(|interpreter| name.starts_with(interpreter)) {
        return None;
    }
    // `python3 -s /usr/bin/dnf`: options that only shut things out.
    let mut args = args.iter().skip(1).map(AsRef::as_ref);
    let harmless = |arg: &Path| {
        let letters = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        letters.is_some_and(|l| !l.is_empty() && l.chars().all(|c| "sPEIuBO".contains(c)))
    };
    let script = args.find(|arg| !harmless(arg))?;
    // Others are no scripts.
    known(script).filter(|program| matches!(program.role, Role::Manager(_)))
}

impl Program {
    /// The manager's name.
    pub fn manager(&self) -> Option<&'static str> {
        match self.role {
            Role::Manager(name) => Some(name),
            Role::Generator(_) => None,
        }
    }

    /// Whether it makes `path` without any package having it.
    pub fn generates(&self, path: &Path) -> bool {
        match self.role {
            Role::Manager(_) => is_one_of(path, STATE),
            Role::Generator(made) => is_one_of(path, made),
        }
    }
}

fn is_one_of(path: &Path, places: &[&str]) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    places.iter().any(|place| match place.strip_suffix('/') {
        Some(directory) => path.starts_with(directory) && path != Path::new(directory),
        None => bytes == place.as_bytes(),
    })
}

/// The path that a temporary name of a package manager stands for: dpkg's `.dpkg-new` and
/// `.dpkg-tmp`, rpm's `;` and eight hexadecimal digits, and `None` where it is none. (apk's
/// `.apk.` and digits do not tell the final name; its renames do.)
pub fn final_path(path: &Path) -> Option<std::path::PathBuf> {
    let name = path.file_name()?.as_encoded_bytes();
    let hexadecimal =
        |digits: &[u8]| digits.len() == 8 && digits.iter().all(|digit| digit.is_ascii_hexdigit());
    let base = [&b".dpkg-new"[..], b".dpkg-tmp"].iter().find_map(|end| name.strip_suffix(*end));
    let base = base.or_else(|| {
        let at = name.iter().rposition(|byte| *byte == b';')?;
        hexadecimal(name.get(at + 1..)?).then(|| name.get(..at)).flatten()
    });
    let base = base.filter(|base| !base.is_empty())?;
    Some(path.with_file_name(crate::platform::os_str(base)))
}
