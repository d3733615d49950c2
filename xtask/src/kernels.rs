//! The Debian kernels that the virtual machines boot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup::{Apt, Mirrors},
    workspace::{Workspace, run, say},
};

/// A kernel to test on, as Debian builds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What the user calls it, and the name of its directory.
    pub(crate) name: &'static str,
    /// Its suite in the archive.
    pub(crate) suite: &'static str,
    /// Whether newer builds are in the suite's security archive.
    security: bool,
    /// What the version in the package name begins with.
    version: &'static str,
    aliases: &'static [&'static str],
}

/// All of them, oldest first: the oldest that the agent supports, what Debian's releases run, and
/// what comes next. Patch versions move; the newest in the suite is taken.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        suite: "bullseye",
        security: false,
        version: "5.10.",
        aliases: &["bullseye"],
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        security: true,
        version: "6.1.",
        aliases: &["bookworm"],
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        security: false,
        version: "6.12.",
        aliases: &["trixie"],
    },
    Kernel {
        name: "6.18",
        suite: "trixie-backports",
        security: false,
        version: "6.18.",
        aliases: &[],
    },
    Kernel {
        name: "7.x",
        suite: "trixie-backports",
        security: false,
        version: "7.",
        aliases: &["7", "trixie-backports"],
    },
];

/// The one that `cargo xtask test` boots.
pub(crate) const DEFAULT: &str = "6.1";

/// A kernel as it lies below `target/kernels`.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    /// The release, as `uname -r` says it.
    pub(crate) release: String,
    /// The image.
    pub(crate) vmlinuz: PathBuf,
    /// The directory with modules.dep.
    pub(crate) modules: PathBuf,
    /// The build configuration, where the package has one.
    pub(crate) config: PathBuf,
}

impl Kernel {
    /// Finds a kernel by its name or by a suite's.
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        KERNELS
            .iter()
            .find(|kernel| kernel.name == name || kernel.aliases.contains(&name))
            .ok_or_else(|| {
                let known: Vec<_> = KERNELS
                    .iter()
                    .flat_map(|kernel| [&[kernel.name], kernel.aliases].concat())
                    .collect();
                format!("no such kernel; known: {}", known.join(", "))
            })
    }

    /// Its directory.
    pub(crate) fn dir(&self, ws: &Workspace) -> PathBuf {
        ws.target.join("kernels").join(self.name)
    }

    /// Which packages it is, for messages.
    pub(crate) fn pattern(&self) -> String {
        format!("linux-image-{}*-amd64", self.version)
    }

    /// The kernel, if it has been fetched.
    pub(crate) fn installed(&self, ws: &Workspace) -> Option<Installed> {
        let dir = self.dir(ws);
        let release = fs::read_to_string(dir.join("release")).ok()?.trim().to_string();
        let modules = dir.join("lib/modules").join(&release);
        let vmlinuz = dir.join("vmlinuz");
        (vmlinuz.is_file() && modules.join("modules.dep").is_file()).then(|| Installed {
            release,
            vmlinuz,
            modules,
            config: dir.join("config"),
        })
    }
}

/// Downloads a kernel and unpacks it below `target/kernels`.
pub(crate) fn fetch(ws: &Workspace, kernel: &Kernel) -> Result<()> {
    say(format!("fetching kernel {} ({}, about 100 MB)", kernel.name, kernel.suite));
    let security = format!("{}-security", kernel.suite);
    let mut suites = vec![kernel.suite];
    if kernel.security {
        suites.push(&security);
    }
    let name = format!("kernel-{}", kernel.name);
    let apt = Apt::for_download(ws, &Mirrors::read(), &name, &suites)?;
    apt.update()?;
    let names = apt.names("linux-")?;
    let release = newest(&names, kernel.version)
        .with_context(|| format!("{} has no package {}", kernel.suite, kernel.pattern()))?;

    // Newer packagings split the image, the modules and the configuration.
    let packages: Vec<String> = ["image", "binary", "modules", "base"]
        .iter()
        .map(|part| format!("linux-{part}-{release}"))
        .filter(|name| names.contains(name))
        .collect();
    let dir = kernel.dir(ws);
    let partial = ws.target.join("kernels").join(format!("{}.partial", kernel.name));
    remove(&partial)?;
    let (debs, root) = (partial.join("debs"), partial.join("root"));
    apt.download(&packages, &debs)?;
    for deb in list(&debs)? {
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root))
            .with_context(|| format!("unpacking {}", deb.display()))?;
    }
    arrange(&root, &partial, &release)?;
    remove(&debs)?;
    remove(&root)?;
    remove(&dir)?;
    // Last, so that a directory under this name is always a complete one.
    fs::rename(&partial, &dir).with_context(|| format!("renaming to {}", dir.display()))?;
    say(format!("kernel {}: {release} in {}", kernel.name, dir.display()));
    Ok(())
}

/// Brings the packages' two layouts into one.
fn arrange(root: &Path, to: &Path, release: &str) -> Result<()> {
    let first = |candidates: &[String]| {
        candidates.iter().map(|path| root.join(path)).find(|path| path.exists())
    };
    let move_to = |from: Option<PathBuf>, name: &str| -> Result<()> {
        let from = from.with_context(|| format!("the packages of {release} have no {name}"))?;
        let to = to.join(name);
        fs::rename(&from, &to).with_context(|| format!("moving {}", from.display()))
    };
    move_to(
        first(&[
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
            format!("lib/modules/{release}/vmlinuz"),
        ]),
        "vmlinuz",
    )?;
    let config = first(&[
        format!("boot/config-{release}"),
        format!("usr/lib/modules/{release}/config"),
        format!("usr/lib/linux/config-{release}"),
    ]);
    if config.is_some() {
        move_to(config, "config")?;
    }
    fs::create_dir_all(to.join("lib/modules"))?;
    move_to(
        first(&[format!("lib/modules/{release}"), format!("usr/lib/modules/{release}")]),
        &format!("lib/modules/{release}"),
    )?;
    // Debian's packages run depmod when they are installed.
    run(Command::new(crate::workspace::which("depmod").context("depmod is missing")?)
        .arg("-b")
        .arg(to)
        .arg(release))
    .context("indexing the modules")?;
    fs::write(to.join("release"), release).context("writing the release")?;
    Ok(())
}

/// The release of the newest generic amd64 image whose version begins with `version`.
fn newest(names: &[String], version: &str) -> Option<String> {
    names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|release| release.starts_with(version) && release.ends_with("-amd64"))
        // Cloud and realtime builds end the same way.
        .filter(|release| !release.contains("-cloud-") && !release.contains("-rt-"))
        .max_by_key(|release| numbers(release))
        .map(str::to_string)
}

fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    if files.is_empty() {
        bail!("{} is empty", dir.display());
    }
    Ok(files)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_by_name_and_by_suite() {
        assert_eq!(Kernel::named("6.1").unwrap().name, "6.1");
        assert_eq!(Kernel::named("bullseye").unwrap().name, "5.10");
        assert_eq!(Kernel::named("trixie-backports").unwrap().name, "7.x");
        assert!(Kernel::named("2.4").unwrap_err().contains("bookworm"));
        assert!(Kernel::named(DEFAULT).is_ok());
    }

    #[test]
    fn the_newest_generic_image_is_chosen() {
        let names = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-57-rt-amd64",
            "linux-image-6.1.0-58-cloud-amd64",
            "linux-image-6.1.0-59-amd64-unsigned",
            "linux-image-6.12.9+deb13-amd64",
            "linux-image-amd64",
        ]
        .map(str::to_string);
        assert_eq!(newest(&names, "6.1.").as_deref(), Some("6.1.0-56-amd64"));
        assert_eq!(newest(&names, "6.12.").as_deref(), Some("6.12.9+deb13-amd64"));
        assert_eq!(newest(&names, "7."), None);
    }
}
