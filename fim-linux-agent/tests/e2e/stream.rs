//! What an agent prints, read as it comes.
//!
//! `standard output -> line (reader) -> schema and sequence (checker)`: the reader is to be faster
//! than any agent, which would wait for it, or give up on it.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::environment::patience;
use crate::event::{Event, path_text, violations};

/// One line. The text is kept rather than the value, which takes five times the memory: a load
/// test prints 40,000 of them.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) arrived: Instant,
    pub(crate) action: String,
    sequence: u64,
    /// `file.path`, and `fim.before.path` where there is one.
    paths: [String; 2],
}

/// As much of an event as it takes to find it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Brief {
    event: BriefMeta,
    file: BriefPath,
    fim: BriefFim,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BriefMeta {
    action: String,
    sequence: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BriefPath {
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BriefFim {
    before: BriefPath,
}

impl Line {
    fn parse(text: String, arrived: Instant) -> Result<Self, String> {
        match serde_json::from_str::<Brief>(&text) {
            Ok(Brief { event, file, fim }) => Ok(Self {
                text,
                arrived,
                action: event.action,
                sequence: event.sequence,
                paths: [file.path, fim.before.path],
            }),
            Err(error) => Err(format!("no event ({error}): {text}")),
        }
    }

    pub(crate) fn event(&self) -> Event {
        Event::parse(&self.text, self.arrived).unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        &self.paths[0]
    }

    /// Whether it tells of `tree` or something in it, now or before.
    pub(crate) fn is_below(&self, tree: &str) -> bool {
        self.paths.iter().any(|path| {
            path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// What is wrong with it, as the event number `number`.
    fn fault(&self, number: u64) -> Option<String> {
        if self.sequence != number {
            return Some(format!("event.sequence should be {number}: {}", self.text));
        }
        if (self.action == "agent_started") != (number == 1) {
            return Some(format!("agent_started is the first event and no other: {}", self.text));
        }
        let violations = violations(&self.event().value)?;
        Some(format!("against the schema: {violations}: {}", self.text))
    }
}

#[derive(Default)]
struct State {
    lines: Vec<Arc<Line>>,
    /// What no event may ever be: against the schema, out of sequence.
    problems: Vec<String>,
    /// Lines that have been checked.
    checked: usize,
    ended: bool,
}

/// All lines so far.
#[derive(Default)]
pub(crate) struct Stream {
    read: Mutex<State>,
    changed: Condvar,
}

/// Problems that are kept. The first one matters.
const PROBLEMS: usize = 20;

impl Stream {
    /// Reads on threads of its own until `source` ends.
    pub(crate) fn read(source: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let (reading, checking) = (Arc::clone(&stream), Arc::clone(&stream));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("reader").spawn(move || reading.read_all(source)).unwrap();
        thread("checker").spawn(move || checking.check_all()).unwrap();
        stream
    }

    fn read_all(&self, source: impl Read) {
        let mut source = BufReader::with_capacity(1 << 20, source);
        let mut bytes = Vec::new();
        while matches!(source.read_until(b'\n', &mut bytes), Ok(1..)) {
            let arrived = Instant::now();
            let whole = bytes.ends_with(b"\n");
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            bytes.clear();
            match Line::parse(text, arrived) {
                Ok(line) if whole => self.lock().lines.push(Arc::new(line)),
                Ok(line) => self.problem(format!("the last line is cut: {}", line.text)),
                Err(error) => self.problem(error),
            }
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn check_all(&self) {
        loop {
            let mut state = self.lock();
            while state.checked == state.lines.len() {
                if state.ended {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let number = state.checked;
            let line = Arc::clone(&state.lines[number]);
            drop(state);
            if let Some(fault) = line.fault(number as u64 + 1) {
                self.problem(fault);
            }
            self.lock().checked += 1;
            self.changed.notify_all();
        }
    }

    fn problem(&self, problem: String) {
        let mut read = self.lock();
        if read.problems.len() < PROBLEMS {
            read.problems.push(problem);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `find` finds something in a line, from the first one on.
    ///
    /// # Errors
    /// When nothing at all has come for as long as [`patience`], or when the stream ends before.
    pub(crate) fn wait<T>(&self, find: impl FnMut(&Line) -> Option<T>) -> Result<T, String> {
        self.wait_for(patience(), find)
    }

    /// As [`Stream::wait`], for as long as `limit`.
    ///
    /// # Errors
    /// As [`Stream::wait`].
    pub(crate) fn wait_for<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T, String> {
        let mut deadline = Instant::now() + limit;
        let mut next = 0;
        loop {
            let mut read = self.lock();
            while read.lines.len() == next {
                let left = deadline.saturating_duration_since(Instant::now());
                if read.ended {
                    return Err("the agent has ended".to_owned());
                }
                if left.is_zero() {
                    return Err(format!("nothing within {} s", limit.as_secs()));
                }
                read =
                    self.changed.wait_timeout(read, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let lines = read.lines[next..].to_vec();
            drop(read);
            next += lines.len();
            // On a slow machine much may be on its way.
            deadline = Instant::now() + limit;
            if let Some(found) = lines.iter().find_map(|line| find(line)) {
                return Ok(found);
            }
        }
    }

    /// Waits for an event below `tree` of which `wanted` holds.
    ///
    /// # Errors
    /// As [`Stream::wait`].
    pub(crate) fn wait_below(
        &self,
        tree: &Path,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, String> {
        let tree = path_text(tree);
        self.wait(|line| {
            if !line.is_below(&tree) {
                return None;
            }
            Some(line.event()).filter(|event| wanted(event))
        })
    }

    /// Waits for the end, and until everything has been checked.
    ///
    /// # Errors
    /// When it does not come within [`patience`].
    pub(crate) fn wait_end(&self) -> Result<(), String> {
        match self.wait(|_| None::<()>) {
            Err(_) if self.lock().ended => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        let mut state = self.lock();
        while state.checked < state.lines.len() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Everything so far.
    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        self.lock().lines.clone()
    }

    /// The lines so far about `tree` or something in it.
    pub(crate) fn lines_below(&self, tree: &Path) -> Vec<Arc<Line>> {
        let tree = path_text(tree);
        self.lock().lines.iter().filter(|line| line.is_below(&tree)).cloned().collect()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }
}
