//! The monitors that Debian ships.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench::{process, results::Monitor},
    workspace::{output, which},
};

/// How long one has to begin.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);

/// Ends when it is dropped.
pub(crate) struct Peer {
    child: Child,
    audits: bool,
}

impl Peer {
    /// Starts one, and waits until it watches. What it tells goes to a file in `base`.
    pub(crate) fn start(monitor: Monitor, here: &Path, other: &Path, base: &Path) -> Result<Self> {
        fs::create_dir_all(base).with_context(|| format!("creating {}", base.display()))?;
        match monitor {
            Monitor::Fatrace => fatrace(here, base),
            Monitor::Inotifywait => inotifywait(here, base),
            Monitor::AuditdHere => auditd(here, base),
            Monitor::AuditdElsewhere => auditd(other, base),
            _ => bail!("{} is no peer", monitor.title()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.audits {
            no_audit().ok();
        }
        process::end(&mut self.child);
    }
}

/// Nothing is recorded, and nobody pays for it. A kernel that has ever recorded anything goes on to
/// prepare for it at each system call (a stat took 1.1 times as long) of every process that begins
/// afterwards, unless a rule exempts it.
pub(crate) fn no_audit() -> Result<()> {
    audit(&["-D"])?;
    audit(&["-e", "0"])?;
    audit(&["-a", "never,task"]).map(drop)
}

fn program(name: &str) -> Result<Command> {
    Ok(Command::new(which(name).with_context(|| format!("{name} is not installed"))?))
}

/// Marks the mount that the directory is on. It says nothing when it has begun, so that it tells of
/// an access is what is waited for.
fn fatrace(here: &Path, base: &Path) -> Result<Peer> {
    let told = base.join("told");
    let child = program("fatrace")?
        .args(["--current-mount", "--output"])
        .arg(&told)
        .current_dir(here)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start fatrace")?;
    let mut peer = Peer { child, audits: false };
    until(&mut peer, "fatrace", || {
        fs::read(here.join("storm")).ok();
        fs::read_to_string(&told).is_ok_and(|text| text.contains("storm"))
    })?;
    Ok(peer)
}

fn inotifywait(here: &Path, base: &Path) -> Result<Peer> {
    let log = base.join("log");
    let child = program("inotifywait")?
        .args(["--monitor", "--recursive"])
        .args(["-e", "modify,attrib,close_write,move,create,delete"])
        .arg(here)
        .stdin(Stdio::null())
        .stdout(File::create(base.join("told")).context("creating a file")?)
        .stderr(File::create(&log).context("creating a log")?)
        .spawn()
        .context("cannot start inotifywait")?;
    let mut peer = Peer { child, audits: false };
    until(&mut peer, "inotifywait", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("Watches established"))
    })?;
    Ok(peer)
}

/// The audit daemon with a configuration of its own, and one rule. The kernel waits for it rather
/// than lose records, which is its default.
fn auditd(watch: &Path, base: &Path) -> Result<Peer> {
    let config = base.join("auditd.conf");
    let log = base.join("audit.log");
    let text = format!(
        "log_file = {}\nlog_format = RAW\nlog_group = root\nflush = INCREMENTAL_ASYNC\n\
         freq = 50\nmax_log_file = 8\nnum_logs = 2\nmax_log_file_action = ROTATE\n\
         space_left = 2\nspace_left_action = IGNORE\nadmin_space_left = 1\n\
         admin_space_left_action = IGNORE\ndisk_full_action = IGNORE\n\
         disk_error_action = IGNORE\nname_format = NONE\n",
        log.display()
    );
    fs::write(&config, text).context("writing auditd.conf")?;
    // auditd refuses what others may write to.
    fs::set_permissions(base, fs::Permissions::from_mode(0o750))?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640))?;
    let child = program("auditd")?
        .args(["-n", "-c"])
        .arg(base)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start auditd")?;
    let mut peer = Peer { child, audits: true };
    let pid = format!("pid {}\n", peer.pid());
    until(&mut peer, "auditd", || audit(&["-s"]).is_ok_and(|text| text.contains(&pid)))?;
    audit(&["-D"])?;
    audit(&["-b", "8192"])?;
    audit(&["-e", "1"])?;
    audit(&["-w", &watch.display().to_string(), "-p", "wa", "-k", "fim-bench"])?;
    Ok(peer)
}

fn audit(args: &[&str]) -> Result<String> {
    output(program("auditctl")?.args(args))
}

fn until(peer: &mut Peer, name: &str, mut begun: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !begun() {
        if let Some(status) = peer.child.try_wait()? {
            let mut text = String::new();
            if let Some(stderr) = &mut peer.child.stderr {
                stderr.read_to_string(&mut text).ok();
            }
            bail!("{name} ended ({status}) {}", text.trim());
        }
        if started.elapsed() > PATIENCE {
            bail!("{name} does not begin");
        }
        thread::sleep(TICK);
    }
    Ok(())
}
