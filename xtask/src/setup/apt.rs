//! Debian's packages, through a second apt configuration.
//!
//! The machine's own sources are read (for the mirror) and never changed: suites that they lack,
//! such as backports and other releases' kernels, come in through source lists and indexes of our
//! own below `target/apt`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, output, run};

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What `/etc/os-release` says.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    /// For messages.
    pub(crate) name: String,
    codename: String,
}

impl Distribution {
    /// Reads it; a system without one is an unknown distribution.
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_string())
        };
        let name = field("PRETTY_NAME").unwrap_or_else(|| "an unknown distribution".into());
        // A derivative has its own ID, and other packages under the same codename.
        let debian = field("ID").as_deref() == Some("debian");
        let codename = field("VERSION_CODENAME").filter(|_| debian).unwrap_or_default();
        Self { name, codename }
    }

    /// The release that this knows the packages of.
    pub(crate) fn is_bookworm(&self) -> bool {
        self.codename == "bookworm"
    }
}

/// The archives that this machine's own sources name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// Reads the machine's sources, in both of apt's formats.
    pub(crate) fn read() -> Self {
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(dir.flatten().map(|entry| entry.path()));
        }
        let mut pairs = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => pairs.extend(parse_list(&text)),
                Some("sources") => pairs.extend(parse_deb822(&text)),
                _ => {}
            }
        }
        Self::choose(&pairs)
    }

    fn choose(pairs: &[(String, String)]) -> Self {
        let mirror = |suite: &dyn Fn(&str) -> bool, default: &str| {
            pairs
                .iter()
                .find(|(uri, name)| suite(name) && uri.starts_with("http"))
                .map_or(default, |(uri, _)| uri.trim_end_matches('/'))
                .to_string()
        };
        Self {
            main: mirror(&|suite| suite == "bookworm" || suite == "stable", DEFAULT_MIRROR),
            security: mirror(
                &|suite| suite.ends_with("-security") || suite.ends_with("/updates"),
                DEFAULT_SECURITY_MIRROR,
            ),
        }
    }

    /// The line of `sources.list` for a suite.
    pub(crate) fn line(&self, suite: &str) -> String {
        let uri = if suite.ends_with("-security") { &self.security } else { &self.main };
        format!("deb [signed-by={KEYRING}] {uri} {suite} main\n")
    }
}

/// (URI, suite) of each `deb` line.
fn parse_list(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split_whitespace();
            Some((words.next()?.to_string(), words.next()?.to_string()))
        })
        .collect()
}

/// (URI, suite) of each enabled stanza.
fn parse_deb822(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for stanza in text.split("\n\n") {
        let field =
            |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        if field("Enabled").is_some_and(|value| value.trim() == "no") {
            continue;
        }
        let uris = field("URIs").unwrap_or_default().split_whitespace();
        for uri in uris {
            for suite in field("Suites").unwrap_or_default().split_whitespace() {
                pairs.push((uri.to_string(), suite.to_string()));
            }
        }
    }
    pairs
}

/// An apt configuration with sources and indexes of its own.
pub(crate) struct Apt {
    config: PathBuf,
    suites: String,
}

impl Apt {
    /// For installing on this machine: its own release and the backports to it.
    pub(crate) fn for_install(ws: &Workspace, mirrors: &Mirrors) -> Result<Self> {
        let suites = ["bookworm", "bookworm-updates", "bookworm-security", "bookworm-backports"];
        Self::new(&ws.target.join("apt/install"), mirrors, &suites, "")
    }

    /// For downloading from suites that may be of another release: what is installed here does
    /// not matter, nothing is installed.
    pub(crate) fn for_download(
        ws: &Workspace,
        mirrors: &Mirrors,
        name: &str,
        suites: &[&str],
    ) -> Result<Self> {
        let dir = ws.target.join("apt").join(name);
        Self::new(
            &dir,
            mirrors,
            suites,
            &format!("Dir::State::status \"{}/status\";\n", dir.display()),
        )
    }

    fn new(dir: &Path, mirrors: &Mirrors, suites: &[&str], extra: &str) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial", "none"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).with_context(|| format!("creating {}", sub.display()))?;
        }
        let config = dir.join("apt.conf");
        let sources: String = suites.iter().map(|suite| mirrors.line(suite)).collect();
        // - Preferences of the machine are about the machine's sources.
        // - Indexes of applications and translations are twice the size of what is needed.
        // - apt's own user cannot enter a home directory.
        // - Without Error-Mode a mirror that cannot be reached is only a warning.
        let dir_name = dir.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"{dir_name}/sources.list\";\n\
             Dir::Etc::sourceparts \"{dir_name}/none\";\n\
             Dir::Etc::preferences \"{dir_name}/none/preferences\";\n\
             Dir::Etc::preferencesparts \"{dir_name}/none\";\n\
             Dir::State::lists \"{dir_name}/lists\";\n\
             Dir::Cache \"{dir_name}/cache\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             APT::Sandbox::User \"root\";\n\
             DPkg::Lock::Timeout \"600\";\n\
             APT::Update::Error-Mode \"any\";\n\
             {extra}"
        );
        for (file, text) in [("apt.conf", &*settings), ("sources.list", &sources), ("status", "")] {
            let file = dir.join(file);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(Self { config, suites: suites.join(", ") })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }

    /// Fetches the indexes.
    pub(crate) fn update(&self) -> Result<()> {
        run(self.command("apt-get").args(["-qq", "update"])).with_context(|| {
            format!(
                "fetching Debian's package indexes of {} (is the mirror of this machine's apt \
                 sources reachable?)",
                self.suites
            )
        })
    }

    /// Installs packages, some of them from backports.
    pub(crate) fn install(&self, release: &[&str], backports: &[&str]) -> Result<()> {
        self.update()?;
        for (packages, suite) in [(release, None), (backports, Some("bookworm-backports"))] {
            if packages.is_empty() {
                continue;
            }
            let mut apt = self.command("apt-get");
            // One by one, not `-t` for all: only what is asked for by name comes from backports.
            if let Some(suite) = suite {
                apt.args(["-t", suite]);
            }
            apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
            run(&mut apt).with_context(|| format!("installing {}", packages.join(" ")))?;
        }
        Ok(())
    }

    /// Names of all packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_string).collect())
    }

    /// Downloads packages into a directory.
    pub(crate) fn download(&self, packages: &[String], dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let mut apt = self.command("apt-get");
        apt.args(["-qq", "download"]).args(packages).current_dir(dir);
        run(&mut apt)
            .with_context(|| format!("downloading {} from {}", packages.join(" "), self.suites))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(uri: &str, suite: &str) -> (String, String) {
        (uri.into(), suite.into())
    }

    #[test]
    fn one_line_sources() {
        let text = "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main\n\
                    deb-src http://m/debian bookworm main\ndeb http://s/debian-security \
                    bookworm-security main\n";
        assert_eq!(
            parse_list(text),
            [
                pair("http://m/debian", "bookworm"),
                pair("http://s/debian-security", "bookworm-security")
            ]
        );
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\n\n\
                    Enabled: no\nURIs: http://off/debian\nSuites: bookworm\n";
        assert_eq!(
            parse_deb822(text),
            [pair("http://m/debian", "bookworm"), pair("http://m/debian", "bookworm-updates")]
        );
    }

    #[test]
    fn the_machine_s_mirrors_are_used_where_it_has_them() {
        let own = [
            pair("https://third.party/apt", "cloud"),
            pair("http://m/debian/", "bookworm"),
            pair("http://s/debian-security", "bookworm-security"),
        ];
        let mirrors = Mirrors::choose(&own);
        assert_eq!(mirrors.main, "http://m/debian");
        assert_eq!(mirrors.security, "http://s/debian-security");
        assert_eq!(Mirrors::choose(&[]).main, DEFAULT_MIRROR);
    }

    #[test]
    fn only_debian_itself_counts() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert!(Distribution::parse(debian).is_bookworm());
        let derived = "PRETTY_NAME=\"Other\"\nID=other\nVERSION_CODENAME=bookworm\n";
        assert!(!Distribution::parse(derived).is_bookworm());
        assert_eq!(Distribution::parse("").name, "an unknown distribution");
    }
}
