//! The other side: this program, started by itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{getgid, getpid, getppid, getuid};
use rustix::thread::gettid;
use serde::{Deserialize, Serialize};

use super::launch::Launch;
use super::op::Op;
use super::{MARK, Raw, Report, sys};

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Become another program.
    Launch(Launch),
    /// Do one operation.
    Act(Act),
}

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Act {
    pub(super) op: Op,
    /// Take this effective user first.
    pub(super) effective: Option<u32>,
    pub(super) hold: Hold,
}

/// Where to wait for a word from the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Hold {
    /// Nowhere: the process is gone as soon as it is done.
    No,
    /// With the file still open.
    BeforeClose,
    /// With everything done.
    BeforeExit,
}

const STAGE: &str = "FIM_E2E_STAGE";

impl Stage {
    pub(super) fn put(&self, command: &mut Command) {
        command.env(STAGE, serde_json::to_string(self).unwrap());
    }

    pub(super) fn remove(command: &mut Command) {
        command.env_remove(STAGE);
    }
}

/// This program, in a stage. By its link in `/proc` it can be started by users who cannot reach
/// the directory that it lies in.
pub(super) fn this_program(stage: &Stage) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["operator_entry", "--exact", "--nocapture", "--test-threads=1"]);
    stage.put(&mut command);
    command
}

/// In an operator: does what it was started for, and ends the process. Elsewhere: nothing.
pub(crate) fn main() {
    let Ok(stage) = std::env::var(STAGE) else {
        return;
    };
    match serde_json::from_str(&stage).unwrap() {
        Stage::Launch(launch) => {
            let _ = writeln!(std::io::stderr(), "{}", launch.exec());
            std::process::exit(1);
        }
        Stage::Act(act) => {
            act.run();
            // Before libtest has its say.
            std::process::exit(0);
        }
    }
}

impl Act {
    fn run(&self) {
        if let Some(uid) = self.effective {
            sys::seteuid(uid).unwrap();
        }
        let mut report = identity();
        let mut told = false;
        report.began = now();
        let result = self.op.act(&mut || {
            if self.hold == Hold::BeforeClose {
                report.ended = now();
                report.tell();
                told = true;
                wait_for_word();
            }
        });
        if !told {
            report.ended = now();
            report.errno = result.as_ref().err().map(|error| error.raw_os_error().unwrap_or(0));
            report.tell();
        } else if let Err(error) = result {
            panic!("{:?}: {error}", self.op);
        }
        if self.hold == Hold::BeforeExit {
            wait_for_word();
        }
    }
}

impl Report {
    fn tell(&self) {
        let mut output = std::io::stdout().lock();
        // On a line of its own: libtest has begun one.
        writeln!(output, "\n{MARK}{}", serde_json::to_string(self).unwrap()).unwrap();
        output.flush().unwrap();
    }
}

/// A byte, or the end of the input when the test is gone.
fn wait_for_word() {
    let _ = std::io::stdin().read(&mut [0]);
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Who this is, as the system calls and this process's own files in `/proc` say.
fn identity() -> Report {
    let link = |name| Raw::from(fs::read_link(format!("/proc/self/{name}")).unwrap().as_os_str());
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let uids: Vec<u32> = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap()
        .split_whitespace()
        .map(|uid| uid.parse().unwrap())
        .collect();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    Report {
        pid: getpid().as_raw_nonzero().get().unsigned_abs(),
        tid: gettid().as_raw_nonzero().get().unsigned_abs(),
        ppid: getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()),
        // The 22nd field; the name is the second.
        start_ticks: after_name.split_whitespace().nth(19).unwrap().parse().unwrap(),
        exe: link("exe"),
        cwd: link("cwd"),
        args: std::env::args_os().map(|arg| Raw::from(arg.as_os_str())).collect(),
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
        euid: uids[1],
        fsuid: uids[3],
        loginuid: fs::read_to_string("/proc/thread-self/loginuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|&uid| uid != u32::MAX),
        errno: None,
        began: 0,
        ended: 0,
    }
}
