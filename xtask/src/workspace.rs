//! Where things are, and how other programs are run.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

/// The places every task works with.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The repository.
    pub(crate) root: PathBuf,
    /// `target/`: tools, kernels and the BPF object are always here, and nothing is written
    /// outside of it.
    pub(crate) target: PathBuf,
    /// Where cargo puts what it builds for the host: `CARGO_TARGET_DIR` where the caller set it.
    pub(crate) cargo_target: PathBuf,
}

impl Workspace {
    /// Finds the repository this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        // Set by `cargo run` (and so by `cargo xtask`) to where the crate is now; the value of
        // compile time is for a binary that is started by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .with_context(|| format!("{} has no parent directory", manifest.display()))?
            .to_path_buf();
        if !root.join("Cargo.toml").is_file() {
            bail!("{} is not the workspace: run this as `cargo xtask`", root.display());
        }
        let target = root.join("target");
        let cargo_target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| target.clone(), |dir| root.join(dir));
        Ok(Self { root, target, cargo_target })
    }

    /// Programs that `setup` builds.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The BPF object that is embedded into the agent.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        self.target.join("fim-ebpf.o")
    }

    /// The agent.
    pub(crate) fn fim(&self, release: bool) -> PathBuf {
        self.cargo_target.join(if release { "release" } else { "debug" }).join("fim")
    }

    /// The cargo that runs us, in the repository.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        // `cargo run` exports the variables of this package: a build script further down must not
        // take them for its own, and their change must not make cargo rebuild anything.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"]
                    .contains(&name.as_ref())
            {
                cargo.env_remove(name.as_ref());
            }
        }
        cargo
    }
}

/// Processor time, user and system: of this process, or of the programs that it started and that have
/// ended (getrusage(2)).
pub(crate) fn processor_time(of: UsageWho) -> Result<Duration> {
    let usage = getrusage(of).context("getrusage")?;
    let time = |time: TimeVal| {
        let (seconds, micros) = (time.tv_sec() as u64, time.tv_usec() as u64);
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Says what is being done. Standard output is left to what the user asked for.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// Runs a program with our standard output and error; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(format!("$ {}", display(command)));
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(())
}

/// What a program prints on standard output; its standard error is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !out.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            display(command),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The same as [`output`] where a failure only means "no".
pub(crate) fn probe(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    output(Command::new(program).args(args)).ok()
}

/// Looks a program up in `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    // Debian's default PATH of an ordinary user lacks the sbin directories (depmod is there).
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

/// Whether this is a program.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
