//! The end-to-end tests: one test program, run on this machine and in virtual ones.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernels::{self, Kernel},
    setup::{self, Need},
    vm::{self, GuestFile, Lsm, VmEnd, VmOutcome, VmSpec},
    workspace::{Workspace, run, say, which},
};

/// The crate that has the test target.
pub(crate) const PACKAGE: &str = "fim-linux-agent";
/// The test target, `tests/e2e/main.rs` or `tests/e2e.rs`.
pub(crate) const TARGET: &str = "e2e";

/// Long enough for emulation on a slow machine; a test that hangs must not eat the CI's hours.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(1200);

/// Modules that the tests may want in a guest: a real filesystem to mount and one stacked on it.
const GUEST_MODULES: &[&str] = &["ext4", "loop", "overlay"];

/// Host programs that the tests may want in a guest, and that busybox does not have.
const GUEST_PROGRAMS: &[&str] = &["mkfs.ext4", "setfacl", "setfattr", "vim", "rsync", "git"];

/// What a guest is to have besides the agent and the test program.
#[derive(Clone, Copy)]
pub(crate) struct Equipment {
    pub(crate) modules: &'static [&'static str],
    /// Programs of the host.
    pub(crate) programs: &'static [&'static str],
}

const EQUIPMENT: Equipment = Equipment { modules: GUEST_MODULES, programs: GUEST_PROGRAMS };

/// Whether there is such a target.
pub(crate) fn exists(ws: &Workspace) -> bool {
    let tests = ws.root.join(PACKAGE).join("tests");
    tests.join(TARGET).join("main.rs").is_file() || tests.join(format!("{TARGET}.rs")).is_file()
}

/// Runs the tests here, with the backend that works without loading programs into the kernel.
pub(crate) fn host(ws: &Workspace, args: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Browser, Need::Editors])?;
    let program = build(ws)?;
    // timeout(1) ends the program's children too.
    run(Command::new("timeout")
        .args(["--kill-after=10", &TIME_LIMIT.as_secs().to_string()])
        .arg(program)
        .args(args)
        .current_dir(ws.root.join(PACKAGE))
        .env("FIM_BIN", ws.fim(false))
        .env("FIM_BACKEND", "fanotify"))
}

/// Tests that may fail in a machine before nothing but the code can be the reason.
const DOUBTFUL: usize = 4;

/// Runs the tests in a machine of the default kernel, with BPF.
///
/// The machine is emulated, and what else its host does is not known: a test may run out of patience
/// there. A few that fail are run once more, one after the other in a machine of their own, which
/// decides; that it came to this is said.
pub(crate) fn guest(ws: &Workspace, name: &str, lsm: Lsm, args: &[String]) -> Result<()> {
    let outcome = in_guest(ws, name, lsm, args)?;
    let failed = failed(&outcome.output);
    if outcome.end == VmEnd::Exited(0) || failed.is_empty() || failed.len() > DOUBTFUL {
        return judge(&outcome);
    }
    say(format!("{name}: failed, and run once more in another machine: {}", failed.join(", ")));
    let mut again = vec!["--exact".to_string(), "--test-threads=1".to_string()];
    again.extend(failed.iter().map(ToString::to_string));
    judge(&in_guest(ws, name, lsm, &again)?)?;
    say(format!("{name}: passed in the other machine: {}", failed.join(", ")));
    Ok(())
}

fn in_guest(ws: &Workspace, name: &str, lsm: Lsm, args: &[String]) -> Result<VmOutcome> {
    let program = build(ws)?;
    let kernel = Kernel::named(kernels::DEFAULT).map_err(anyhow::Error::msg)?;
    let out = ws.target.join("e2e").join(name);
    let mut spec = machine(ws, kernel, program, EQUIPMENT)?;
    spec.lsm = lsm;
    let args: Vec<_> = args.iter().map(|arg| crate::cli::quote(arg)).collect();
    spec.command = Some(format!(
        "export FIM_BIN=/usr/bin/fim FIM_BACKEND=bpf RUST_BACKTRACE=1\nexec {TARGET} {}",
        args.join(" ")
    ));
    spec.out_dir = Some(out);
    spec.echo = true;
    vm::run(ws, &spec)
}

fn judge(outcome: &VmOutcome) -> Result<()> {
    if outcome.end != VmEnd::Exited(0) {
        for line in outcome.console.lines() {
            say(format!("console: {line}"));
        }
        bail!("{} (kernel {})", outcome.end, kernels::DEFAULT);
    }
    // A program that ends well without having tested anything is no success.
    if !outcome.output.contains("test result: ok") {
        bail!("the test program printed no result (kernel {})", kernels::DEFAULT);
    }
    Ok(())
}

/// The tests in the list of failures with which libtest ends.
fn failed(output: &str) -> Vec<&str> {
    let Some((_, list)) = output.rsplit_once("failures:") else { return Vec::new() };
    let names = list.lines().skip(1).take_while(|line| line.starts_with("    "));
    names.map(str::trim).collect()
}

/// A machine with the agent and the test program.
pub(crate) fn machine(
    ws: &Workspace,
    kernel: &'static Kernel,
    program: PathBuf,
    equipment: Equipment,
) -> Result<VmSpec> {
    // The programs that are shipped have to be there before that.
    setup::ensure(ws, &[Need::Vm, Need::Editors, Need::Kernel(kernel)])?;
    let mut spec = VmSpec::new(kernel);
    spec.modules = equipment.modules.iter().map(ToString::to_string).collect();
    spec.files = vec![
        GuestFile::new(ws.fim(false), "/usr/bin/fim"),
        GuestFile::new(program, format!("/usr/bin/{TARGET}")),
    ];
    for name in equipment.programs {
        let host = which(name).with_context(|| format!("{name} is missing"))?;
        spec.files.push(GuestFile::new(host, format!("/usr/bin/{name}")));
    }
    spec.timeout = TIME_LIMIT;
    Ok(spec)
}

/// Builds the test program; gives its path.
pub(crate) fn build(ws: &Workspace) -> Result<PathBuf> {
    if !exists(ws) {
        bail!("{PACKAGE} has no test target {TARGET}");
    }
    let mut cargo = ws.cargo();
    cargo
        .args(["test", "--package", PACKAGE, "--test", TARGET, "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .env("FIM_EBPF_OBJECT", ws.ebpf_object())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let out = cargo.output().context("cannot start cargo")?;
    if !out.status.success() {
        bail!("building the end-to-end tests failed ({})", out.status);
    }
    executable(&String::from_utf8_lossy(&out.stdout))
        .context("cargo does not say where the end-to-end tests are")
}

/// The path in cargo's messages, one JSON object a line (see `cargo help build`).
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let wanted = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == TARGET
            && message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| wanted).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_found_in_libtest_s_output() {
        let output = "test a::b ... FAILED\r\n\r\nfailures:\r\n\r\n---- a::b stdout ----\r\nfailures: 7\r\n\
                      \r\n\r\nfailures:\r\n    a::b\r\n    c\r\n\r\ntest result: FAILED. 1 passed\r\n";
        assert_eq!(failed(output), ["a::b", "c"]);
        assert!(failed("test a ... ok\n\ntest result: ok. 1 passed\n").is_empty());
        assert!(failed("thread 'a' panicked\n").is_empty(), "it came to no result");
    }

    #[test]
    fn the_executable_is_found_in_cargo_s_messages() {
        let messages = r#"not json
{"reason":"compiler-artifact","target":{"name":"fim"},"profile":{"test":false},"executable":"/t/fim"}
{"reason":"compiler-artifact","target":{"name":"e2e"},"profile":{"test":true},"executable":"/t/e2e-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/e2e-1")));
        assert_eq!(executable(""), None);
    }
}
