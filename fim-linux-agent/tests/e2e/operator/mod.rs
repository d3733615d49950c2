//! The program that does the operations: this one, started again, so that nothing else has to be
//! shipped. It does one operation and says who it is and when it was; that is the truth that
//! events are compared with.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::environment::Account;

pub(crate) mod content;
pub(crate) mod entry;
pub(crate) mod flags;
pub(crate) mod flood;
pub(crate) mod launch;
pub(crate) mod mounts;
pub(crate) mod op;
mod sys;

pub(crate) use sys::flush_marks;

pub(crate) use entry::Hold;
pub(crate) use op::Op;

use entry::{Act, Stage, this_program};
use launch::Launch;

/// What a line with a report begins with.
const MARK: &str = "@operator ";

/// Bytes as the system has them, through JSON: paths and arguments need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    pub(crate) fn as_path(&self) -> &Path {
        Path::new(self.as_os_str())
    }

    /// As events carry it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl From<&OsStr> for Raw {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&Path> for Raw {
    fn from(path: &Path) -> Self {
        Self::from(path.as_os_str())
    }
}

impl From<&PathBuf> for Raw {
    fn from(path: &PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

/// Who did an operation, and when, in its own words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) ppid: u32,
    /// Clock ticks since boot.
    pub(crate) start_ticks: u64,
    pub(crate) exe: Raw,
    pub(crate) cwd: Raw,
    pub(crate) args: Vec<Raw>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) euid: u32,
    pub(crate) fsuid: u32,
    pub(crate) loginuid: Option<u32>,
    /// The operation failed.
    pub(crate) errno: Option<i32>,
    /// Before the operation, nanoseconds since the epoch.
    pub(crate) began: u64,
    /// And after it.
    pub(crate) ended: u64,
}

impl Report {
    /// Nanoseconds that the operation took.
    pub(crate) fn took(&self) -> u64 {
        self.ended - self.began
    }
}

/// An operation and who is to do it.
pub(crate) struct Operator {
    act: Act,
    login: Option<u32>,
    user: Option<(u32, u32)>,
    args: Vec<OsString>,
}

impl Operator {
    /// Root does it, and is gone.
    pub(crate) fn new(op: Op) -> Self {
        let act = Act { op, effective: None, hold: Hold::No };
        Self { act, login: None, user: None, args: Vec::new() }
    }

    /// As this user.
    pub(crate) fn user(self, account: &Account) -> Self {
        Self { user: Some((account.uid, account.gid)), ..self }
    }

    /// After a login as this user.
    pub(crate) fn login(self, uid: u32) -> Self {
        Self { login: Some(uid), ..self }
    }

    /// With this effective user, taken by the process itself.
    pub(crate) fn effective(mut self, uid: u32) -> Self {
        self.act.effective = Some(uid);
        self
    }

    /// Waits for [`Running::go_on`].
    pub(crate) fn hold(mut self, hold: Hold) -> Self {
        self.act.hold = hold;
        self
    }

    /// With these arguments, besides those that it needs.
    pub(crate) fn args(self, args: Vec<OsString>) -> Self {
        Self { args, ..self }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let stage = Stage::Act(self.act);
        let mut program = this_program(&stage);
        // libtest takes them for names of tests, of which there are none.
        program.args(&self.args);
        let mut command = match (self.login, self.user) {
            (None, None) => program,
            (login, user) => {
                let mut launch = Launch::stage(&program, stage);
                if let Some(login) = login {
                    launch = launch.login(login);
                }
                if let Some((uid, gid)) = user {
                    launch = launch.user(uid, gid);
                }
                launch.command()
            }
        };
        Running::start(&mut command)
    }

    /// Starts it and waits for its end. The operation has to succeed.
    pub(crate) fn run(self) -> Report {
        let op = format!("{:?}", self.act.op);
        let report = self.attempt();
        if let Some(errno) = report.errno {
            panic!("{op}: {}", std::io::Error::from_raw_os_error(errno));
        }
        report
    }

    /// Starts it and waits for its end.
    pub(crate) fn attempt(self) -> Report {
        let mut running = self.start();
        let report = running.report();
        running.finish();
        report
    }
}

/// An operator at work.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits for its report: until it is done, or holds.
    pub(crate) fn report(&mut self) -> Report {
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = self.output.read_until(b'\n', &mut line).unwrap();
            assert_ne!(length, 0, "the operator ended without a report");
            if let Some(report) = line.strip_prefix(MARK.as_bytes()) {
                return serde_json::from_slice(report).unwrap();
            }
        }
    }

    /// Lets it go on, and waits for its end.
    pub(crate) fn finish(mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            // It may not be waiting for anything, and be gone.
            let _ = input.write_all(b"\n");
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the operator: {status}");
    }
}

impl Drop for Running {
    /// In a test that fails: its input ends, so it does.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The arguments of an operator are in the way of nobody: `count` texts of `length` bytes.
pub(crate) fn long_args(count: usize, length: usize) -> Vec<OsString> {
    (0..count)
        .map(|number| {
            let text = format!("{number:04}-");
            OsString::from_vec(text.bytes().chain(std::iter::repeat(b'x')).take(length).collect())
        })
        .collect()
}
