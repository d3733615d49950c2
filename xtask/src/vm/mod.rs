//! Virtual machines to test in: a Debian kernel, busybox and the files under test.
//!
//! A machine lives in memory only. Several can run at once: each has a directory of its own, and
//! nothing is shared between them.

mod cpio;
mod initramfs;
mod lsm;
mod modules;
mod qemu;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    kernels::Kernel,
    setup::{self, Need},
    workspace::{Workspace, output, probe, say, which},
};

pub(crate) use lsm::Lsm;

/// A machine, and what it is to do.
#[derive(Debug, Clone)]
pub(crate) struct VmSpec {
    pub(crate) kernel: &'static Kernel,
    /// More for the kernel's command line.
    pub(crate) append: String,
    pub(crate) lsm: Lsm,
    /// Kernel modules that are loaded before the command starts, with what they depend on.
    pub(crate) modules: Vec<String>,
    /// Files and directories of the host. Programs bring their shared libraries along.
    pub(crate) files: Vec<GuestFile>,
    /// A shell script, run as root in /root; without one there is an interactive shell.
    pub(crate) command: Option<String>,
    /// From QEMU's start to its end.
    pub(crate) timeout: Duration,
    pub(crate) memory_mb: u32,
    pub(crate) smp: u32,
    /// Whether the machine's clock counts instructions, one a nanosecond: slower, and times repeat.
    /// There can be one processor then.
    pub(crate) icount: bool,
    /// Where to put what the command leaves in the guest's `/out`.
    pub(crate) out_dir: Option<PathBuf>,
    /// Whether the command's output is passed to our standard output while it comes.
    pub(crate) echo: bool,
}

/// A file or directory that the guest gets.
#[derive(Debug, Clone)]
pub(crate) struct GuestFile {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    /// Permissions; the host's without.
    pub(crate) mode: Option<u32>,
}

/// How a machine ended, and what it left.
#[derive(Debug)]
pub(crate) struct VmOutcome {
    pub(crate) end: VmEnd,
    /// What the kernel wrote to its console.
    pub(crate) console: String,
    /// What the command wrote, standard output and error together. It comes through a serial port
    /// at some 100 kB a second; what is larger goes to `/out`, which comes back at disk speed.
    pub(crate) output: String,
    /// The files that came back, as they are now in `out_dir`.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) elapsed: Duration,
}

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VmEnd {
    /// The command ended with this code (128 and the signal's number for a signal).
    Exited(i32),
    /// The guest's kernel panicked.
    KernelPanic,
    /// The time limit came first.
    TimedOut,
    /// QEMU ended without a word from the command, for example since it switched the machine off.
    Vanished,
}

impl fmt::Display for VmEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "the command exited with {code}"),
            Self::KernelPanic => f.write_str("the guest's kernel panicked"),
            Self::TimedOut => f.write_str("the time limit was reached"),
            Self::Vanished => f.write_str("the machine ended before the command did"),
        }
    }
}

impl VmSpec {
    /// A machine with the usual size and an interactive shell.
    pub(crate) fn new(kernel: &'static Kernel) -> Self {
        Self {
            kernel,
            append: String::new(),
            lsm: Lsm::Default,
            modules: Vec::new(),
            files: Vec::new(),
            command: None,
            timeout: Duration::from_secs(120),
            memory_mb: 2048,
            smp: 2,
            icount: false,
            out_dir: None,
            echo: false,
        }
    }
}

impl GuestFile {
    pub(crate) fn new(host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        Self { host: host.into(), guest: guest.into(), mode: None }
    }
}

/// Runs a machine to its end. What is needed for it (QEMU, the kernel) is installed first.
pub(crate) fn run(ws: &Workspace, spec: &VmSpec) -> Result<VmOutcome> {
    setup::ensure(ws, &[Need::Vm, Need::Kernel(spec.kernel)])?;
    let kernel = spec.kernel.installed(ws).context("the kernel is not installed")?;
    let busybox = busybox().context("busybox is not installed")?;
    let dir = Scratch::new(ws)?;
    let started = Instant::now();
    initramfs::write(spec, &kernel, &busybox, &dir.0.join("initramfs"))?;
    let run = match qemu::run(spec, &kernel, &dir.0) {
        Err(error) if error.is::<qemu::Aborted>() => {
            say(format!("{error:#}; once more"));
            qemu::run(spec, &kernel, &dir.0)?
        }
        run => run?,
    };
    let files = match &spec.out_dir {
        Some(out) if matches!(run.end, VmEnd::Exited(_)) => unpack(&dir.0.join("out.tar"), out)?,
        _ => Vec::new(),
    };
    Ok(VmOutcome {
        end: run.end,
        console: run.console,
        output: run.output,
        files,
        elapsed: started.elapsed(),
    })
}

/// A running machine's directory, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(ws: &Workspace) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let machines = ws.target.join("vm");
        Self::remove_abandoned(&machines);
        let dir = machines.join(format!("{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Removes what runs left that were killed. Nothing depends on that it succeeds.
    fn remove_abandoned(machines: &Path) {
        for entry in fs::read_dir(machines).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.split_once('-')).map(|(pid, _)| pid);
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Unpacks what the guest sent, which is a tar archive at the beginning of a disk.
fn unpack(disk: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let file = fs::File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    // The guest's owners mean nothing here, and a read-only file could not be replaced next time.
    archive.set_preserve_permissions(false);
    archive.set_overwrite(true);
    let mut files = Vec::new();
    for entry in archive.entries().context("reading what the guest sent")? {
        let mut entry = entry.context("reading what the guest sent")?;
        let path = entry.path()?.into_owned();
        if entry.header().entry_type().is_dir() && path.components().count() <= 1 {
            continue;
        }
        // Refuses names that lead out of the directory.
        if entry.unpack_in(out).with_context(|| format!("unpacking {}", path.display()))?
            && !entry.header().entry_type().is_dir()
        {
            files.push(out.join(path.strip_prefix("./").unwrap_or(&path)));
        }
    }
    Ok(files)
}

/// The version of QEMU.
pub(crate) fn qemu_version() -> Option<(u32, u32)> {
    parse_qemu_version(&probe(which("qemu-system-x86_64")?, &["--version"])?)
}

fn parse_qemu_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split("version ").nth(1)?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A busybox that needs no libraries.
pub(crate) fn busybox() -> Option<PathBuf> {
    let busybox = which("busybox")?;
    // ldd fails for static programs, and says "statically linked" of static-pie ones.
    let dynamic = output(std::process::Command::new("ldd").arg(&busybox))
        .is_ok_and(|text| text.contains("=>"));
    (!dynamic).then_some(busybox)
}

#[cfg(test)]
mod tests {
    use super::parse_qemu_version;

    #[test]
    fn qemu_versions() {
        let text = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(parse_qemu_version(text), Some((10, 0)));
        assert_eq!(parse_qemu_version("QEMU emulator version 7.2"), Some((7, 2)));
        assert_eq!(parse_qemu_version("?"), None);
    }
}
