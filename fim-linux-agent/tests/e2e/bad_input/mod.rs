//! What a person can do wrong: each time a message that says what and where, and the exit code that
//! the contract has for it. Nothing here watches anything, so it is quick.

mod command_line;
mod configuration;
pub(crate) mod damaged;
mod host;
mod state_dir;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use rustix::process::{Pid, Signal, kill_process};

use crate::agent::Setup;
use crate::environment::patience;
use crate::scratch::Scratch;

/// Runtime failure.
pub(crate) const FAILURE: i32 = 1;
/// Bad usage or configuration.
pub(crate) const USAGE: i32 = 64;
/// No backend works here.
pub(crate) const UNAVAILABLE: i32 = 69;
/// Not allowed.
pub(crate) const NOT_PERMITTED: i32 = 77;

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program that is expected to end by itself.
pub(crate) fn outcome(mut command: Command) -> Outcome {
    let described = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child: Child = child.unwrap_or_else(|error| panic!("{described}: {error}"));
    let pid = Pid::from_child(&child);
    let (sender, receiver) = channel();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).unwrap();
        text
    });
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let ended = receiver.recv_timeout(patience());
    if ended.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
    let stderr = String::from_utf8_lossy(&reader.join().unwrap()).into_owned();
    let output = ended.unwrap_or_else(|_| panic!("{described} goes on\n{stderr}")).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Outcome { code: output.status.code(), stdout, stderr }
}

impl Outcome {
    /// `fim` refused with this exit code, and its message has all of `needles` in it.
    pub(crate) fn is_refusal(&self, case: &str, code: i32, needles: &[&str]) {
        assert_eq!(self.code, Some(code), "{case}: exit code\n{}", self.stderr);
        for needle in needles {
            let has = self.stderr.to_lowercase().contains(&needle.to_lowercase());
            assert!(has, "{case}: the message lacks {needle:?}\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{case}\n{}", self.stderr);
        assert_eq!(self.stdout, "", "{case}: an event of an agent that did not start");
    }
}

/// A place for an agent that is not to start.
pub(crate) struct Bench {
    pub(crate) scratch: Scratch,
    pub(crate) setup: Setup,
}

impl Bench {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let watched = scratch.directory("watched");
        let setup = Setup::new(scratch.path(), &[&watched]);
        Self { scratch, setup }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs the agent.
    pub(crate) fn run(&self) -> Outcome {
        outcome(self.setup.command())
    }
}
