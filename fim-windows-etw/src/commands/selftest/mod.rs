//! `selftest`: a program of its own changes files and keys in a place made for it, and what the agent
//! told of that is compared with what was done. One run on a machine proves the agent there, or says
//! what it does not see.
//!
//! It is an agent of its own, with whatever collector works here, and with state and configuration in
//! the directory: an installed agent is not touched.

use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fim_commands::Site as _;
use fim_commands::start::{Arguments, Failure};
use fim_common::config::quoted;
use fim_common::event::{Action, Event};
use fim_common::journal::cursor::Position;
use fim_common::journal::follow::{self, Follower};
use fim_common::pipeline::Format;
use fim_win32::registry::Key;
use fim_win32::security;

use self::report::{Done, Finding, Report, Seen};
use self::steps::{Object, Place, STEPS, Step};
use crate::commands::{exit, run};
use crate::live::choice;
use crate::live::site::Here;

mod report;
mod steps;

/// An agent that does not start or stop within this time, has failed. The first start of a session
/// can take a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is not told of within this time is not seen. Looking for what has changed takes a second.
const TOLD: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// `selftest`. The exit code is 0 if all was seen and attributed, 69 if all was seen that can be seen
/// without ETW, where nobody is named, and else 1.
///
/// # Errors
/// When the test cannot be done.
pub fn selftest(out: &mut dyn Write, directory: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let report = test(directory).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::runtime(fim_commands::causes(&error)),
    })?;
    let written = if json { report.write_json(out) } else { report.write(out) };
    fim_commands::quietly(written.map(|()| report.code())).map_err(Failure::runtime)
}

/// What the self-test runs: does the steps whose numbers come in, one a line, and answers each.
///
/// # Errors
/// When nobody listens.
pub fn act(out: &mut dyn Write, directory: &Path, key: &str) -> Result<u8> {
    let place = Place { directory: directory.to_owned(), key: key.to_owned() };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let step = line.parse().ok().and_then(|index: usize| STEPS.get(index));
        let step = step.with_context(|| format!("there is no step {line:?}"))?;
        match (step.act)(&place) {
            Ok(()) => writeln!(out, "done")?,
            Err(error) => writeln!(out, "{}", error.to_string().replace(['\r', '\n'], " "))?,
        }
        out.flush()?;
    }
    Ok(exit::OK)
}

fn test(directory: Option<&Path>) -> Result<Report> {
    let scratch = Scratch::new(directory)?;
    let begun = fim_common::time::Timestamp::now();
    let mut agent = Agent::start(&scratch)?;
    let mut program = Program::start(&scratch)?;
    let mut findings = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        findings.push(one(&scratch, &mut agent, &mut program, index, step)?);
    }
    let pid = program.pid();
    drop(program);
    let last = agent.stop()?;
    Ok(Report {
        time: begun,
        host: Here.host(),
        collector: std::mem::take(&mut agent.collector),
        is_degraded: agent.is_degraded,
        program: report::Program { pid, executable: own_path()?, user: security::own_sid()? },
        ended_in_order: last == Some(Action::AgentStopped),
        findings,
    })
}

/// Has one step done, and waits for what is told of it.
fn one(
    scratch: &Scratch,
    agent: &mut Agent,
    program: &mut Program,
    index: usize,
    step: &Step,
) -> Result<Finding> {
    let path = scratch.path_of(step.object);
    let mut finding = Finding::new(step, path.clone());
    let wanted = if agent.is_degraded { step.by_looking } else { step.expected };
    if wanted.is_empty() {
        // Also where this system does not let it be done.
        finding.seen = Seen::CannotBe;
    }
    // What was said until now is about the steps before.
    agent.events()?;
    if let Some(error) = program.act(index)? {
        finding.done = Done::No { error };
        return Ok(finding);
    }
    if wanted.is_empty() {
        return Ok(finding);
    }
    let since = Instant::now();
    loop {
        for event in agent.events()? {
            let is_it = wanted.contains(&event.event.action)
                && event.event.outcome == step.outcome
                && path_of(&event).is_some_and(|told| told.to_lowercase() == path.to_lowercase());
            if is_it {
                finding.take(&event, program.pid(), &own_path()?, &security::own_sid()?);
                return Ok(finding);
            }
        }
        if since.elapsed() >= TOLD {
            return Ok(finding);
        }
        agent.is_alive()?;
        std::thread::sleep(POLL);
    }
}

fn path_of(event: &Event) -> Option<&str> {
    let file = event.file.as_ref().map(|file| file.path.as_str());
    file.or_else(|| event.registry.as_ref().map(|registry| registry.path.as_str()))
}

fn own_path() -> Result<PathBuf> {
    std::env::current_exe().context("where this program lies is not known")
}

/// A directory and a key that go when this does.
struct Scratch {
    root: tempfile::TempDir,
    /// As the disk spells it: what is watched.
    watched: PathBuf,
    /// The key's name below `HKCU\Software`.
    name: String,
    /// Of whose HKCU.
    user: String,
}

impl Scratch {
    fn new(directory: Option<&Path>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("fim-selftest-");
        let root = match directory {
            Some(directory) => builder.tempdir_in(directory),
            None => builder.tempdir(),
        };
        let root = root.context("the directory for the test cannot be made")?;
        std::fs::create_dir(root.path().join("Watched"))?;
        let watched = fim_win32::file::spelled(&root.path().join("Watched"))?;
        let user = match security::own_sid()?.as_str() {
            // What the system calls its own is everybody's default.
            "S-1-5-18" => ".DEFAULT".to_owned(),
            sid => sid.to_owned(),
        };
        let name = format!("fim-selftest-{}", std::process::id());
        let scratch = Self { root, watched, name, user };
        Key::create(&scratch.key()).context("the key for the test cannot be made")?;
        Ok(scratch)
    }

    fn key(&self) -> String {
        format!(r"HKCU\Software\{}", self.name)
    }

    /// The key as events name it.
    fn told_key(&self) -> String {
        format!(r"HKU\{}\Software\{}", self.user, self.name)
    }

    fn path_of(&self, object: Object) -> String {
        match object {
            Object::File(name) => self.watched.join(name).to_string_lossy().into_owned(),
            Object::Key("") => self.told_key(),
            Object::Key(name) | Object::Value(name) => format!(r"{}\{name}", self.told_key()),
        }
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for key in [format!(r"{}\Below", self.key()), self.key()] {
            if let Err(error) = Key::delete(&key)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(key, %error, "this key is left");
            }
        }
    }
}

/// An agent that ends when this does.
struct Agent {
    control: Arc<run::Control>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    journal: Follower,
    /// What it says of how it collects.
    collector: String,
    /// Not by ETW.
    is_degraded: bool,
}

impl Agent {
    fn start(scratch: &Scratch) -> Result<Self> {
        let config = scratch.root.path().join("fim.toml");
        let text = format!(
            "[metrics]\nenabled = false\n[[rule]]\nname = 'files'\npaths = [{}]\nattempts = true\n\
             [[rule]]\nname = 'keys'\nregistry = [{}]\nattempts = true\n",
            quoted(&scratch.watched.to_string_lossy()),
            quoted(&scratch.told_key()),
        );
        std::fs::write(&config, text)?;
        let arguments = Arguments {
            config: Some(config),
            output: Some(Format::None),
            state_dir: scratch.state(),
            ..Arguments::default()
        };
        let control = Arc::new(run::Control::default());
        let asked = Arc::clone(&control);
        let thread = std::thread::Builder::new()
            .name("agent".to_owned())
            .spawn(move || run::run_as(&arguments, &asked))?;
        let beginning = Position { segment: 0, offset: 0 };
        let mut agent = Self {
            control,
            thread: Some(thread),
            journal: Follower::new(&scratch.state().join("journal"), beginning),
            collector: String::new(),
            is_degraded: false,
        };
        let since = Instant::now();
        loop {
            let started = match follow::beginning(&scratch.state().join("journal")) {
                Ok(_) => agent.events()?,
                // It is not there yet.
                Err(_) => Vec::new(),
            };
            let started = started.into_iter().find(|e| e.event.action == Action::AgentStarted);
            if let Some(event) = started {
                agent.collector = event.fim.message.unwrap_or_default();
                agent.is_degraded = agent.collector.starts_with(choice::DEGRADED);
                return Ok(agent);
            }
            agent.is_alive()?;
            if since.elapsed() >= PATIENCE {
                bail!("the agent does not begin to watch");
            }
            std::thread::sleep(POLL);
        }
    }

    /// What it has said since the last time.
    fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.journal.read(|line, _| {
            events.extend(serde_json::from_slice(line).ok());
            true
        })?;
        Ok(events)
    }

    /// # Errors
    /// With what it ended.
    fn is_alive(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            None => Ok(()),
            Some(thread) => match thread.join() {
                Ok(Err(failure)) => Err(failure.into()),
                _ => bail!("the agent has ended"),
            },
        }
    }

    /// Ends it; gives the last thing that it said.
    fn stop(&mut self) -> Result<Option<Action>> {
        self.control.stop.notify_one();
        let since = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if since.elapsed() >= PATIENCE {
                bail!("the agent does not stop");
            }
            std::thread::sleep(POLL);
        }
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("the agent has panicked"),
            }
        }
        Ok(self.events()?.last().map(|event| event.event.action))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.control.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The program that does the steps, which ends when this does.
struct Program {
    child: Child,
    steps: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(scratch: &Scratch) -> Result<Self> {
        let mut child = Command::new(own_path()?)
            .arg("selftest-actor")
            .arg(&scratch.watched)
            .arg(scratch.key())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the program that does the steps cannot be started")?;
        let steps = child.stdin.take();
        let answers = child.stdout.take().context("the program has no standard output")?;
        Ok(Self { child, steps, answers: BufReader::new(answers) })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do a step; gives what went wrong.
    fn act(&mut self, index: usize) -> Result<Option<String>> {
        let steps = self.steps.as_mut().context("the program takes no steps")?;
        writeln!(steps, "{index}")?;
        steps.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim_end() {
            "done" => Ok(None),
            "" => bail!("the program that does the steps has ended"),
            error => Ok(Some(error.to_owned())),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // At the end of its input it ends.
        self.steps = None;
        let _ = self.child.wait();
    }
}
