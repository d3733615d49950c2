//! The package under a real systemd, as process 1 of a virtual machine: started and ready, hardened,
//! reloaded, ended by the watchdog, killed, stopped, purged. With the bpf backend.
//!
//! It takes some minutes under emulation, and is run when it is named:
//! `cargo xtask test --only deploy -- systemd`.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{debian, directory};
use crate::{
    dist,
    kernels::{self, Kernel},
    vm::{self, GuestFile, Lsm, VmEnd, VmSpec},
    workspace::{Workspace, run},
};

/// Becomes process 1 of the machine, and hands over to systemd in a tmpfs of its own.
const HANDOVER: &str = include_str!("guest/handover.sh");
/// The service that looks at the other one.
const UNIT: &str = include_str!("guest/check.service");
const CHECK: &str = include_str!("guest/check.sh");

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let base = directory(ws).join("systemd");
    fs::create_dir_all(&base)?;
    let package = dist::deb(ws, 1)?;
    let archive = base.join("machine.tar");
    machine(&base, &package, &archive)?;
    let handover = base.join("handover");
    fs::write(&handover, HANDOVER)?;
    let kernel = Kernel::named(kernels::DEFAULT).map_err(anyhow::Error::msg)?;
    let script =
        |host: &Path, guest: &str| GuestFile { mode: Some(0o755), ..GuestFile::new(host, guest) };
    let spec = VmSpec {
        files: vec![
            GuestFile::new(&archive, "/opt/machine.tar"),
            script(&handover, "/etc/fim-vm/handover"),
        ],
        // Its place is taken by the service.
        command: Some("false".to_string()),
        append: "systemd.show_status=0 systemd.mask=getty.target".to_string(),
        lsm: Lsm::WithBpf,
        timeout: Duration::from_secs(900),
        memory_mb: 3072,
        echo: true,
        ..VmSpec::new(kernel)
    };
    let outcome = vm::run(ws, &spec)?;
    ensure!(outcome.end == VmEnd::Exited(0), "{}; console:\n{}", outcome.end, outcome.console);
    for line in CHECK.lines().filter(|line| line.starts_with("passed \"")) {
        let passed = line.replace('"', "");
        ensure!(outcome.output.contains(&passed), "it did not come to: {passed}");
    }
    Ok(())
}

/// A Debian with systemd and the package, as an archive.
fn machine(base: &Path, package: &Path, archive: &Path) -> Result<()> {
    let clean = base.join("clean.tar");
    if !clean.is_file() {
        // What nobody reads there, and what takes most of the room.
        let without = [
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
        ];
        debian::clean(&clean, "systemd-sysv", &without)?;
    }
    let root = base.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir(&root)?;
    run(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(&clean))?;
    let name = package.file_name().context("a package without a name")?;
    fs::copy(package, root.join(name))?;
    run(Command::new("chroot")
        .arg(&root)
        .args(["dpkg", "--install"])
        .arg(Path::new("/").join(name)))?;
    fs::remove_file(root.join(name))?;
    fs::write(root.join("etc/systemd/system/check.service"), UNIT)?;
    fs::write(root.join("usr/local/sbin/check"), CHECK)?;
    run(Command::new("chroot").arg(&root).args(["systemctl", "enable", "check.service"]))?;
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(archive).arg("."))?;
    fs::remove_dir_all(&root)?;
    Ok(())
}
