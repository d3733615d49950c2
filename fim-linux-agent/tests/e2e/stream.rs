//! What an agent prints, read as it comes.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::environment::patience;
use crate::event::{Event, path_text, violations};

/// One line. The text is kept rather than the value, which takes five times the memory: a load
/// test prints 40,000 of them.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) arrived: Instant,
    pub(crate) action: String,
    /// `file.path`, and `fim.before.path` where there is one.
    paths: [String; 2],
}

impl Line {
    pub(crate) fn event(&self) -> Event {
        Event::parse(&self.text, self.arrived).unwrap()
    }

    /// Whether it tells of `tree` or something in it, now or before.
    fn is_below(&self, tree: &str) -> bool {
        self.paths.iter().any(|path| {
            path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[derive(Default)]
struct State {
    lines: Vec<Arc<Line>>,
    /// What no event may ever be: against the schema, out of sequence.
    problems: Vec<String>,
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
    /// Reads on a thread of its own until `source` ends.
    pub(crate) fn read(source: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let reading = Arc::clone(&stream);
        std::thread::Builder::new()
            .name("stream".to_owned())
            .spawn(move || reading.read_all(source))
            .unwrap();
        stream
    }

    fn read_all(&self, source: impl Read) {
        let mut source = BufReader::with_capacity(1 << 20, source);
        let mut sequence = 0;
        let mut bytes = Vec::new();
        while matches!(source.read_until(b'\n', &mut bytes), Ok(1..)) {
            let arrived = Instant::now();
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            if !bytes.ends_with(b"\n") {
                self.problem(format!("the last line is cut: {text}"));
            }
            match Event::parse(&text, arrived) {
                Ok(event) => {
                    sequence += 1;
                    self.check(&event, sequence);
                    let place = |name| event.text(name).unwrap_or_default().to_owned();
                    let paths = [place("file.path"), place("fim.before.path")];
                    let action = event.action().to_owned();
                    self.lock().lines.push(Arc::new(Line { text, arrived, action, paths }));
                }
                Err(error) => self.problem(format!("no event ({error}): {text}")),
            }
            self.changed.notify_all();
            bytes.clear();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// What holds for every event.
    fn check(&self, event: &Event, sequence: u64) {
        if let Some(violations) = violations(&event.value) {
            self.problem(format!("against the schema: {violations}: {event}"));
        }
        if event.number("event.sequence") != Some(sequence) {
            self.problem(format!("event.sequence should be {sequence}: {event}"));
        }
        if (event.action() == "agent_started") != (sequence == 1) {
            self.problem(format!("agent_started is the first event and no other: {event}"));
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
    /// When it does not within [`patience`], or when the stream ends before.
    pub(crate) fn wait<T>(&self, mut find: impl FnMut(&Line) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + patience();
        let mut next = 0;
        loop {
            let mut read = self.lock();
            while read.lines.len() == next {
                let left = deadline.saturating_duration_since(Instant::now());
                if read.ended {
                    return Err("the agent has ended".to_owned());
                }
                if left.is_zero() {
                    return Err(format!("nothing within {} s", patience().as_secs()));
                }
                read =
                    self.changed.wait_timeout(read, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let lines = read.lines[next..].to_vec();
            drop(read);
            next += lines.len();
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

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not come within [`patience`].
    pub(crate) fn wait_end(&self) -> Result<(), String> {
        match self.wait(|_| None::<()>) {
            Err(_) if self.lock().ended => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
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
