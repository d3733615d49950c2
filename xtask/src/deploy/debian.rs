//! The package in a clean Debian: installed, upgraded, removed and purged.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::directory;
use crate::{
    dist,
    setup::Mirrors,
    workspace::{Workspace, output, run},
};

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let root = Root::make(ws)?;
    let first = root.bring(&dist::deb(ws, 1)?)?;
    root.sh(&format!("dpkg --install {first}"))?;
    // What it brought, whose it is, and that it is of use.
    root.sh("test -x /usr/bin/fim && test -f /etc/fim/fim.toml && fim --version")?;
    root.sh("test -f /usr/share/man/man1/fim.1.gz && test -f /usr/share/man/man1/fim-run.1.gz")?;
    root.sh("test -f /usr/share/doc/fim/configuration.md")?;
    root.sh("fim policy check")?;
    root.sh(
        "test -f /lib/systemd/system/fim.service || test -f /usr/lib/systemd/system/fim.service",
    )?;
    root.sh("test -L /etc/systemd/system/multi-user.target.wants/fim.service")?;
    let files = root.sh("dpkg --listfiles fim")?;
    for file in files.lines().filter(|file| root.path(file).is_file()) {
        let mode = root.path(file).metadata()?.permissions().mode() & 0o7777;
        ensure!(mode & 0o022 == 0, "{file} can be written by others: {mode:04o}");
    }

    unit(ws)?;

    // State and a configuration of one's own.
    root.sh("printf '[events]\\nfold_ms = 60\\n' >> /etc/fim/fim.toml")?;
    root.sh("mkdir -p /srv/www && echo x > /srv/www/index.html")?;
    root.sh("fim baseline create --watch /srv/www")?;
    let known = root.sh("fim baseline list /srv/www")?;
    ensure!(known.contains("index.html"), "{known}");
    let id = fs::read(root.path("/var/lib/fim/agent-id"))?;

    // A later revision, and one step back.
    let second = root.bring(&dist::deb(ws, 2)?)?;
    ensure!(first != second, "both revisions are {first}");
    for package in [&second, &first] {
        root.sh(&format!("dpkg --install {package}"))?;
        ensure!(root.sh("fim baseline list /srv/www")? == known, "the baseline has changed");
        ensure!(fs::read(root.path("/var/lib/fim/agent-id"))? == id, "another agent's id");
        let config = fs::read_to_string(root.path("/etc/fim/fim.toml"))?;
        ensure!(config.contains("fold_ms = 60"), "the configuration was replaced: {config}");
    }

    root.sh("dpkg --remove fim")?;
    ensure!(!root.path("/usr/bin/fim").exists(), "the program is still there");
    for kept in ["/var/lib/fim/baseline.db", "/etc/fim/fim.toml"] {
        ensure!(root.path(kept).exists(), "{kept} went with the program");
    }
    root.sh(&format!("dpkg --install {first}"))?;
    ensure!(root.sh("fim baseline list /srv/www")? == known, "the baseline did not survive");

    root.sh("dpkg --purge fim")?;
    for gone in ["/var/lib/fim", "/etc/fim", "/usr/bin/fim", "/usr/share/doc/fim"] {
        ensure!(!root.path(gone).exists(), "{gone} was left behind by a purge");
    }
    let links = root.sh("find /etc/systemd -name '*fim*'")?;
    ensure!(links.trim().is_empty(), "left behind by a purge: {links}");
    Ok(())
}

/// The unit is one that systemd takes, and no less hardened than it was.
fn unit(ws: &Workspace) -> Result<()> {
    let place = directory(ws).join("unit");
    fs::create_dir_all(&place)?;
    // The program that it names has to be there.
    let unit = fs::read_to_string(ws.root.join("deploy/systemd/fim.service"))?;
    let program = dist::directory(ws).join("fim");
    let unit = unit.replace("/usr/bin/fim", &program.display().to_string());
    fs::write(place.join("fim.service"), unit)?;
    let analyze = |args: &[&str]| {
        let out = Command::new("systemd-analyze").args(args).current_dir(&place).output()?;
        let said = [out.stdout, out.stderr].concat();
        Ok::<_, anyhow::Error>((out.status, String::from_utf8_lossy(&said).into_owned()))
    };
    let (status, said) = analyze(&["verify", "--man=no", "./fim.service"])?;
    // What it has to say of other units of the machine is not about this one.
    let about = said.lines().any(|line| line.contains("fim"));
    ensure!(status.success() && !about, "systemd-analyze verify: {status}: {said}");
    // Of 100; without a mount namespace of its own, which would hide what is watched, it is 47.
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let (status, said) =
        analyze(&["security", "--no-pager", "--offline=true", &threshold, "./fim.service"])?;
    ensure!(status.success(), "systemd-analyze security: {status}: {said}");
    Ok(())
}

/// What `systemd-analyze security` says of the unit, at most.
const EXPOSURE_MAX: u32 = 48;

/// Makes a Debian with this package, as an archive that is kept. `options`: more for mmdebstrap(1).
pub(super) fn clean(archive: &Path, include: &str, options: &[&str]) -> Result<()> {
    let partial = archive.with_extension("partial.tar");
    run(Command::new("mmdebstrap")
        // Without apt: what is installed is a file.
        .args(["--quiet", "--variant=essential", &format!("--include={include}")])
        // It need not survive a power cut, and waiting for the disk is most of the time.
        .arg("--dpkgopt=force-unsafe-io")
        .args(options)
        .arg("bookworm")
        .arg(&partial)
        .arg(Mirrors::read().line("bookworm").trim_end()))
    .with_context(|| format!("making a Debian with {include}"))?;
    fs::rename(&partial, archive)?;
    Ok(())
}

/// A Debian of its own, unpacked from an archive that is kept.
struct Root(PathBuf);

impl Root {
    fn make(ws: &Workspace) -> Result<Self> {
        let directory = directory(ws);
        fs::create_dir_all(&directory)?;
        let archive = directory.join("bookworm.tar");
        if !archive.is_file() {
            // Pages and documents are what is looked for: nothing is left out.
            clean(&archive, "init-system-helpers", &[])?;
        }
        let root = directory.join("debian");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir(&root)?;
        run(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(&archive))?;
        Ok(Self(root))
    }

    /// Of something in it.
    fn path(&self, inside: &str) -> PathBuf {
        self.0.join(inside.trim_start_matches('/'))
    }

    /// Copies a package in; gives its path there.
    fn bring(&self, package: &Path) -> Result<String> {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(package, self.0.join(name))?;
        Ok(format!("/{}", name.to_string_lossy()))
    }

    /// What a script prints, run inside; it must succeed.
    fn sh(&self, script: &str) -> Result<String> {
        let mut command = Command::new("chroot");
        command
            .arg(&self.0)
            .args(["/bin/sh", "-ec", script])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let text = output(&mut command);
        match text {
            Ok(text) => Ok(text),
            Err(error) => bail!("in a clean Debian: {script}: {error:#}"),
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
