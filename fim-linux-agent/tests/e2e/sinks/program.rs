//! A receiver's program.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::environment::ended;
use crate::operator::launch::Launch;

/// Started, killed, and started again. It ends with the test.
pub(super) struct Program {
    command: Command,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// `command`, which stays in the foreground.
    pub(super) fn new(command: &Command, log: &Path) -> Self {
        let mut launch = Launch::of(command).with_parent().command();
        for (name, value) in command.get_envs() {
            launch.env(name, value.unwrap_or_default());
        }
        if let Some(directory) = command.get_current_dir() {
            launch.current_dir(directory);
        }
        Self { command: launch, log: log.to_owned(), child: None }
    }

    pub(super) fn start(&mut self) {
        let log = || File::options().create(true).append(true).open(&self.log).unwrap();
        let (output, error) = (log(), log());
        self.command.stdin(output).stdout(Stdio::null()).stderr(error);
        self.child = Some(self.command.spawn().unwrap());
    }

    /// Waits until somebody listens there.
    pub(super) fn wait_for_port(&mut self, address: SocketAddr) {
        self.wait(&format!("port {address}"), || TcpStream::connect(address).is_ok());
    }

    /// Waits until it is ready.
    pub(super) fn wait(&mut self, what: &str, mut is_ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_ready() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "it has ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "not there: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process, which has become this program.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGTERM, and what it does then.
    pub(super) fn terminate(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        assert!(ended(&mut child, PATIENCE).is_some(), "it does not end\n{}", self.log());
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The end of what it said.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(30);
        format!("--- {}\n{}\n---", self.log.display(), lines[last..].join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
