//! A running `fim run`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::environment::{backend, fim, patience, patience_with_start};
use crate::event::{Event, path_text};
use crate::operator::launch::Launch;
use crate::stream::{Line, Stream};

/// How an agent is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) watch: Vec<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) state_dir: PathBuf,
    pub(crate) metrics: SocketAddr,
    /// Where its log goes.
    pub(crate) log: PathBuf,
    /// The socket of a service manager.
    pub(crate) notify: Option<PathBuf>,
    /// Operations will be lost, and the agent says so.
    pub(crate) loses: bool,
    /// Set in its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// In place of the program under test: a copy of it.
    pub(crate) program: Option<PathBuf>,
}

impl Setup {
    /// Watches `watch`; keeps its state and its log in `base`.
    pub(crate) fn new(base: &Path, watch: &[&Path]) -> Self {
        Self {
            watch: watch.iter().map(|path| path.to_path_buf()).collect(),
            config: None,
            state_dir: base.join("state"),
            metrics: free_address(),
            log: base.join("log"),
            notify: None,
            loses: false,
            environment: Vec::new(),
            program: None,
        }
    }

    /// The command line of `fim`.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program.clone().unwrap_or_else(fim));
        command.args(["run", "--backend", backend().name(), "--output", "json"]);
        command.arg("--state-dir").arg(&self.state_dir);
        command.arg("--metrics").arg(self.metrics.to_string());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        for path in &self.watch {
            command.arg("--watch").arg(path);
        }
        command
    }
}

/// An address that nobody listens on now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A running agent. Without [`Agent::stop`] it is killed.
pub(crate) struct Agent {
    pub(crate) setup: Setup,
    pub(crate) stream: Arc<Stream>,
    pub(crate) pid: u32,
    exit: Mutex<Receiver<ExitStatus>>,
}

impl Agent {
    /// Starts an agent and waits until it watches.
    pub(crate) fn start(setup: Setup) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let log = File::options().create(true).append(true).open(&setup.log).unwrap();
        let mut command = Launch::of(&setup.command()).with_parent().command();
        if let Some(socket) = &setup.notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        // It becomes the agent's standard output; see `Launch`.
        command.stdin(writer).stdout(Stdio::null()).stderr(log);
        let stream = Stream::read(reader);
        let (started, pid) = channel();
        let (exited, exit) = channel();
        // The agent is to end with these tests however they end. The kernel goes by the thread
        // that started it, so that one has to stay.
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                let mut child = command.spawn().unwrap();
                // The other end is held by the command too, and the stream would never end.
                drop(command);
                started.send(child.id()).unwrap();
                let _ = exited.send(child.wait().unwrap());
            })
            .unwrap();
        let pid = pid.recv().unwrap();
        let agent = Self { setup, stream, pid, exit: Mutex::new(exit) };
        if let Err(error) = agent.stream.wait_for(patience_with_start(), |_| Some(())) {
            panic!("fim run does not start: {error}\n{}", agent.log());
        }
        agent
    }

    /// Asks the agent to stop, and checks how it does.
    pub(crate) fn stop(&self) {
        self.stop_by(Signal::TERM);
    }

    /// As [`Agent::stop`], by this signal.
    pub(crate) fn stop_by(&self, signal: Signal) {
        let asked = Instant::now();
        self.signal(signal);
        let status =
            self.exit.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience());
        let status = status.unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => panic!("fim run does not stop\n{}", self.log()),
            RecvTimeoutError::Disconnected => panic!("fim run was stopped before"),
        });
        assert_eq!(status.code(), Some(0), "{status} after {signal:?}\n{}", self.log());
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(30), "stopping took {took:?}");
        self.stream.wait_end().unwrap();
        let lines = self.stream.lines();
        let last = lines.last().unwrap();
        assert_eq!(last.action, "agent_stopped", "the last line: {}", last.text);
        let stopped = lines.iter().filter(|line| line.action == "agent_stopped").count();
        assert_eq!(stopped, 1, "agent_stopped is not the last line only");
        self.assert_sound();
    }

    /// Waits for an event of which `is` holds.
    pub(crate) fn event(&self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let found = self.stream.wait(|line| Some(line.event()).filter(&is));
        found.unwrap_or_else(|error| {
            panic!("{what}: {error}\n{}\n{}", dump(&self.stream.lines()), self.log())
        })
    }

    /// The same, of one about `path`.
    pub(crate) fn event_of(&self, path: &Path, is: impl Fn(&Event) -> bool) -> Event {
        let text = path_text(path);
        self.event(&text, |event| event.path() == text && is(event))
    }

    /// Waits until something is told of this path.
    pub(crate) fn tells_of(&self, path: &Path) {
        let text = path_text(path);
        let found = self.stream.wait(|line| (line.path() == text).then_some(()));
        found.unwrap_or_else(|error| panic!("{text}: {error}\n{}", self.log()));
    }

    /// Waits until it has ended by itself.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        let exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        match exit.recv_timeout(patience()) {
            Ok(status) => status.code(),
            Err(error) => panic!("fim run does not end: {error}\n{}", self.log()),
        }
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + patience();
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: not in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails if there was ever an event that should not be.
    pub(crate) fn assert_sound(&self) {
        let problems = self.stream.problems();
        assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), self.log());
        let lines = self.stream.lines();
        let after_a_kill = lines.iter().any(|line| line.action == "agent_killed");
        for line in lines.iter().filter(|line| !self.setup.loses && line.action == "gap") {
            // The one before was killed, perhaps before it noted that all it held was told.
            let held = line.event().list("fim.gap.hooks").iter().all(|hook| *hook == "fold");
            assert!(after_a_kill && held, "operations were lost: {}", line.text);
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        // It may have ended by itself, which its exit status will tell.
        let _ = kill_process(pid, signal);
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.stream.lines().iter().map(|line| line.event()).collect()
    }

    /// The end of its log, for a test that fails.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(&self.setup.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(100);
        format!("--- log of fim (process {})\n{}\n---", self.pid, lines[last..].join("\n"))
    }

    /// The events of its journal, oldest first.
    pub(crate) fn journal(&self) -> Vec<serde_json::Value> {
        let directory = self.setup.state_dir.join("journal");
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
        segments.sort();
        let text: Vec<String> =
            segments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        text.iter()
            .flat_map(|text| text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.exit.lock().unwrap_or_else(PoisonError::into_inner).try_recv().is_err() {
            self.signal(Signal::KILL);
        }
    }
}

/// Lines of events for a test that fails.
pub(crate) fn dump(lines: &[Arc<Line>]) -> String {
    const SHOWN: usize = 60;
    let mut text = format!("--- {} events\n", lines.len());
    for line in lines.iter().take(SHOWN) {
        text.push_str(&line.text);
        text.push('\n');
    }
    if lines.len() > SHOWN {
        text.push_str("…\n");
    }
    text
}
