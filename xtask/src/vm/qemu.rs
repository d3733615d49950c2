//! Starts QEMU, and watches over it until it ends.

use std::{
    env,
    error::Error,
    fmt, fs,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::kernels::Installed;
use crate::{
    vm::{VmEnd, VmSpec, lsm},
    workspace::which,
};

/// How often the console is searched for a panic.
const TICK: Duration = Duration::from_millis(250);
/// How long a panicking kernel has to end by itself (panic=-1 makes it reboot, -no-reboot exit).
const PANIC_GRACE: Duration = Duration::from_secs(5);
/// An environment variable that chooses another accelerator, for example `kvm`.
const ACCELERATOR: &str = "FIM_VM_ACCEL";
/// An upper bound of what a guest can send back; the file is sparse.
const OUT_DISK_BYTES: u64 = 8 << 30;

/// What was seen of a machine.
pub(crate) struct Run {
    pub(crate) end: VmEnd,
    pub(crate) console: String,
    pub(crate) output: String,
}

/// signal(7).
const SIGABRT: i32 = 6;

/// QEMU found itself at fault before the machine had said anything: one of its assertions did not
/// hold. Emulating several processors it does that now and then.
#[derive(Debug)]
pub(crate) struct Aborted(String);

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QEMU has ended itself: {}", self.0)
    }
}

impl Error for Aborted {}

/// Boots the machine whose initramfs is in `dir`, and waits for its end.
pub(crate) fn run(spec: &VmSpec, kernel: &Installed, dir: &Path) -> Result<Run> {
    let mut qemu = command(spec, kernel, dir)?;
    if spec.command.is_none() {
        let status = qemu.status().context("cannot start QEMU")?;
        return Ok(Run {
            end: VmEnd::Exited(status.code().unwrap_or(1)),
            console: String::new(),
            output: String::new(),
        });
    }
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(qemu.spawn().context("cannot start QEMU")?);
    let run = watch(spec, dir, &mut child.0)?;
    drop(child);
    Ok(run)
}

/// Ends QEMU however this function is left.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only where it has already ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn watch(spec: &VmSpec, dir: &Path, child: &mut Child) -> Result<Run> {
    let started = Instant::now();
    let console = || read_lossy(&dir.join("console"));
    let (mut stdout, mut stderr) = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => (stdout, stderr),
        _ => bail!("QEMU has no pipes"),
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    });

    let mut output = Vec::new();
    let mut panicked: Option<Instant> = None;
    let mut timed_out = false;
    let mut searched = started;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(bytes) => {
                if spec.echo {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&bytes).and_then(|()| out.flush()).ok();
                }
                output.extend_from_slice(&bytes);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // QEMU closed its standard output: it has ended.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if started.elapsed() > spec.timeout {
            timed_out = true;
            break;
        }
        if searched.elapsed() > TICK {
            searched = Instant::now();
            if panicked.is_none() && console().contains("Kernel panic") {
                panicked = Some(searched);
            }
        }
        if panicked.is_some_and(|since| since.elapsed() > PANIC_GRACE) {
            break;
        }
    }
    child.kill().ok();
    let status = child.wait().context("waiting for QEMU")?;
    let errors = errors.join().unwrap_or_default();
    let console = console();
    let control = read_lossy(&dir.join("control"));
    if let Some(module) = after(&control, "fim-vm: cannot load ") {
        bail!("the guest cannot load {module}; console:\n{console}");
    }
    let end = match after(&control, "fim-vm: exit ").map(str::parse) {
        Some(Ok(code)) => VmEnd::Exited(code),
        _ if console.contains("Kernel panic") => VmEnd::KernelPanic,
        _ if timed_out => VmEnd::TimedOut,
        _ if status.signal() == Some(SIGABRT) && console.is_empty() => {
            return Err(Aborted(errors.trim().to_owned()).into());
        }
        _ if !status.success() && console.is_empty() => {
            bail!("QEMU failed ({status}): {}", errors.trim())
        }
        _ => VmEnd::Vanished,
    };
    Ok(Run { end, console, output: String::from_utf8_lossy(&output).into_owned() })
}

fn command(spec: &VmSpec, kernel: &Installed, dir: &Path) -> Result<Command> {
    let qemu = which("qemu-system-x86_64").context("qemu-system-x86_64 is not in PATH")?;
    // A machine must not outlive us, however we end; QEMU itself has no such switch in version 10.
    let mut command = match which("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
            command
        }
        None => Command::new(qemu),
    };
    // Emulation is the default since it works everywhere and the same: a /dev/kvm that can be
    // opened is no proof of one that works (nested virtualisation was seen to abort and to hang).
    let accelerator = match env::var(ACCELERATOR) {
        // Instructions can be counted under emulation only, and in one thread.
        _ if spec.icount => "tcg,thread=single".into(),
        Ok(accelerator) => accelerator,
        Err(_) => "tcg,thread=multi".into(),
    };
    let mut append = "console=ttyS0 panic=-1 quiet".to_string();
    if let Some(list) = lsm::list(spec.lsm, kernel)? {
        append.push_str(&format!(" lsm={list}"));
    }
    for extra in spec.append.split_whitespace() {
        append.push_str(&format!(" {extra}"));
    }
    command
        .args(["-accel", &accelerator, "-cpu", "max", "-display", "none", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config"])
        .args(["-smp", &spec.smp.to_string(), "-m", &format!("{}M", spec.memory_mb)])
        .arg("-kernel")
        .arg(&kernel.vmlinuz)
        .arg("-initrd")
        .arg(dir.join("initramfs"))
        .args(["-append", &append]);
    if spec.icount {
        // A processor that waits for a timer goes on at once rather than wait in real time.
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    let file = |name: &str| format!("file:{}", dir.join(name).display());
    if spec.command.is_some() {
        command.args(["-serial", &file("console"), "-serial", "stdio"]);
    } else {
        command.args(["-serial", "mon:stdio", "-serial", "null"]);
    }
    command.args(["-serial", &file("control")]);
    if spec.out_dir.is_some() {
        let disk = dir.join("out.tar");
        fs::File::create(&disk)
            .and_then(|disk| disk.set_len(OUT_DISK_BYTES))
            .with_context(|| format!("creating {}", disk.display()))?;
        command
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio,cache=unsafe", escaped(&disk)));
    }
    Ok(command)
}

/// A path as a value in QEMU's comma-separated options.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The rest of the first line that begins with `prefix`.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(prefix))
}

fn read_lossy(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
