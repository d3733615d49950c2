//! A Docker engine for the tests alone.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::agent::{Running, wait_for};
use crate::workspace::{output, run};

/// Kernels before 5.11 only want it, and not every machine has it to give.
pub(super) const LIMITS: &str = "SYS_RESOURCE";

/// Whether this machine has CAP_SYS_RESOURCE (24): an engine gives nothing that it does not have.
pub(super) fn can_raise_limits() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = u64::from_str_radix(bounding.unwrap_or_default().trim(), 16)?;
    Ok(bounding >> 24 & 1 == 1)
}

/// An engine of its own, beside one that may be there.
pub(super) struct Engine {
    socket: String,
    daemon: Running,
}

impl Engine {
    /// Starts it in namespaces of its own: one of mounts, and those of the options of unshare(1). What
    /// is to be mounted there, `before` does, a script.
    pub(super) fn start(base: &Path, namespaces: &[&str], before: &str) -> Result<Self> {
        let socket = format!("unix://{}", base.join("socket").display());
        let log = fs::File::create(base.join("log"))?;
        let mut daemon = Command::new("unshare");
        daemon.args(["--mount", "--propagation=slave"]).args(namespaces);
        // Where systemd runs mounts are shared, as `rslave` wants it; here they may not be. Nothing of
        // it gets out.
        let script = format!("mount --make-rshared /\n{before}\nexec dockerd \"$@\"");
        daemon.args(["sh", "-ec", &script, "dockerd"]);
        // Needs nothing of the kernel but namespaces and control groups.
        daemon.args(["--storage-driver=vfs", "--iptables=false", "--ip6tables=false"]);
        daemon.args(["--bridge=none", "--host", &socket]);
        for (option, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            daemon.arg(option).arg(base.join(name));
        }
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = Running(daemon.spawn().context("starting dockerd")?);
        let engine = Self { socket, daemon };
        wait_for("dockerd", || output(engine.docker().arg("info")).map(Some))?;
        Ok(engine)
    }

    pub(super) fn docker(&self) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["--host", &self.socket]);
        docker
    }

    /// Compose, for this engine.
    pub(super) fn compose(&self) -> Command {
        let mut compose = Command::new("docker-compose");
        // The engine builds, and not a plugin of the client's that may be missing.
        compose.env("COMPOSE_DOCKER_CLI_BUILD", "0").env("DOCKER_BUILDKIT", "0");
        compose.env("DOCKER_HOST", &self.socket);
        compose
    }

    /// Whatever runs this runs where the engine does.
    pub(super) fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--target", &self.daemon.0.id().to_string(), "--"]);
        command
    }

    pub(super) fn inspect(&self, container: &str, format: &str) -> Result<String> {
        let mut inspect = self.docker();
        inspect.args(["inspect", "--format", format, container]);
        Ok(output(&mut inspect)?.trim().to_string())
    }

    /// An image of these files of the host, and where they are in it.
    pub(super) fn import(
        &self,
        name: &str,
        base: &Path,
        files: &[(&Path, &str)],
        changes: &[&str],
    ) -> Result<()> {
        let root = base.join("image");
        let _ = fs::remove_dir_all(&root);
        for (from, inside) in files {
            let to = root.join(inside);
            fs::create_dir_all(to.parent().context("a file in no directory")?)?;
            fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
        }
        let archive = base.join("image.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
        let mut import = self.docker();
        import.arg("import").args(changes.iter().flat_map(|change| ["--change", *change]));
        run(import.arg(&archive).arg(name).stdout(Stdio::null()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = output(self.docker().args(["ps", "--all", "--quiet"])).unwrap_or_default();
        for id in all.lines() {
            let _ = self.docker().args(["rm", "--force", id]).stdout(Stdio::null()).status();
        }
    }
}
