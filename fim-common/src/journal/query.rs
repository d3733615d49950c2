//! Finding events: closed segments by their index, lines by what must stand in them, and only what
//! is left is parsed. Segments are read on all cores; what is found comes in the journal's order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use memchr::memmem::Finder;

use super::brief::Brief;
use super::cursor::Position;
use super::index::{self, Block, Term, TimeText, time_of};
use super::{JournalError, SEGMENT, numbers, segment_path};
use crate::event::{Action, Kind};
use crate::platform::{self, FileExt as _};
use crate::policy::Pattern;
use crate::time::Timestamp;

/// Bytes that one thread reads at a time.
const CHUNK: u64 = 4 << 20;

/// What is wanted: all that is said must hold; of several values of one kind, one.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Paths, now or before.
    pub paths: Vec<Pattern>,
    /// Names or numbers: real, effective or login user.
    pub users: Vec<String>,
    /// Names or executables.
    pub processes: Vec<String>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Names of rules.
    pub rules: Vec<String>,
    /// Only alerts.
    pub alerts: bool,
}

/// A filter made ready: what to look for in an index, in bytes, and in an event.
pub struct Search {
    filter: Filter,
    since: Option<TimeText>,
    until: Option<TimeText>,
    /// Of each group one must be in a block's index; an empty list: no group.
    terms: Vec<Vec<u64>>,
    /// Of each group one must stand in the line.
    needles: Vec<Vec<Finder<'static>>>,
}

impl Search {
    /// Prepares `filter`.
    pub fn new(filter: Filter) -> Self {
        let mut terms: Vec<Vec<u64>> = Vec::new();
        let mut needles: Vec<Vec<Finder<'static>>> = Vec::new();
        let mut group = |found: Vec<(u64, String)>, is_whole: bool| {
            if found.is_empty() || !is_whole {
                return;
            }
            terms.push(found.iter().map(|(term, _)| *term).collect());
            needles.push(found.iter().map(|(_, text)| Finder::new(text).into_owned()).collect());
        };
        let actions: Vec<_> = filter.actions.iter().map(|action| action.as_str()).collect();
        group(
            actions
                .iter()
                .map(|name| (Term::Action(name).hash(), format!("\"action\":\"{name}\"")))
                .collect(),
            true,
        );
        group(
            filter.rules.iter().map(|rule| (Term::Rule(rule).hash(), quoted(rule))).collect(),
            true,
        );
        group(
            filter.users.iter().map(|user| (Term::User(user).hash(), quoted(user))).collect(),
            true,
        );
        // A name may be the end of the executable's path.
        let end = |name: &str| quoted(name).trim_start_matches('"').to_owned();
        group(
            filter.processes.iter().map(|name| (Term::Process(name).hash(), end(name))).collect(),
            true,
        );
        // What every path that matches has, where there is something of each pattern.
        for term in [path_term, name_term] {
            let found: Option<Vec<u64>> = filter.paths.iter().map(term).collect();
            terms.extend(found.filter(|found| !found.is_empty()));
        }
        for text in [path_text, name_text] {
            let texts: Option<Vec<String>> = filter.paths.iter().map(text).collect();
            let Some(texts) = texts.filter(|texts| !texts.is_empty()) else { continue };
            // Exact bytes in base64 have no text that could be looked for.
            let encoded = Finder::new("\"path_b64\"").into_owned();
            let texts = texts.iter().map(|text| Finder::new(text).into_owned());
            needles.push(texts.chain([encoded]).collect());
        }
        if filter.alerts {
            terms.push(vec![Term::Alert.hash()]);
            needles.push(vec![Finder::new("\"kind\":\"alert\"").into_owned()]);
        }
        let text = |time: Timestamp| time.to_string().into_bytes().try_into().ok();
        Self {
            since: filter.since.and_then(text),
            until: filter.until.and_then(text),
            terms,
            needles,
            filter,
        }
    }

    /// Whether a block may have what is wanted.
    fn may_be_in(&self, block: &Block) -> bool {
        self.since.is_none_or(|since| block.times.1 >= since)
            && self.until.is_none_or(|until| block.times.0 < until)
            && self.terms.iter().all(|group| group.iter().any(|term| block.may_have(*term)))
    }

    /// Whether bytes have everything that a line must have.
    fn may_be_within(&self, bytes: &[u8]) -> bool {
        self.needles.iter().all(|group| group.iter().any(|text| text.find(bytes).is_some()))
    }

    /// Whether the line is an event that is wanted. What is no event is not.
    pub fn wants(&self, line: &[u8]) -> bool {
        let Some(time) = time_of(line) else { return false };
        if self.since.is_some_and(|since| time < since)
            || self.until.is_some_and(|until| time >= until)
            || !self.may_be_within(line)
        {
            return false;
        }
        if self.needles.is_empty() && self.filter.paths.is_empty() {
            return true;
        }
        let Ok(brief) = serde_json::from_slice::<Brief>(line) else { return false };
        let Filter { paths, users, processes, actions, rules, alerts, .. } = &self.filter;
        (actions.is_empty() || actions.contains(&brief.event.action))
            && (!alerts || brief.event.kind == Kind::Alert)
            && any(brief.rule.name.as_deref(), rules)
            && any(brief.users(), users)
            && any(brief.process_names(), processes)
            && (paths.is_empty()
                || brief.paths().any(|path| {
                    let path = platform::os_str(&path);
                    let path = Path::new(&path);
                    paths.iter().any(|pattern| pattern.matches(path))
                }))
    }
}

/// Whether one of the names is wanted, or nothing is said.
fn any<'n>(names: impl IntoIterator<Item = &'n str>, wanted: &[String]) -> bool {
    wanted.is_empty() || names.into_iter().any(|name| wanted.iter().any(|wanted| wanted == name))
}

/// What the index has of every path that matches.
fn path_term(pattern: &Pattern) -> Option<u64> {
    match pattern.base() {
        base if base == Path::new("/") => Some(Term::Name(pattern.last_name()?).hash()),
        base => Some(Term::Path(base.as_os_str().as_encoded_bytes()).hash()),
    }
}

/// What the index has of every path that matches, by its last component.
fn name_term(pattern: &Pattern) -> Option<u64> {
    let (start, end) = pattern.last_ends()?;
    Some(index::start(start).or_else(|| index::end(end))?.hash())
}

/// What stands in a line with a path that matches below a base, as JSON has it. (A path of Windows can
/// be spelt in many ways.)
fn name_text(pattern: &Pattern) -> Option<String> {
    let text = pattern.longest_text().filter(|_| !pattern.folds_case())?;
    Some(part_of_quoted(std::str::from_utf8(text).ok()?))
}

/// What stands in a line with a path that matches, as JSON has it.
fn path_text(pattern: &Pattern) -> Option<String> {
    if pattern.folds_case() {
        return None;
    }
    let text = match pattern.base() {
        base if base == Path::new("/") => std::str::from_utf8(pattern.longest_text()?).ok()?,
        base => base.to_str()?,
    };
    Some(part_of_quoted(text))
}

/// As JSON has it in the middle of a text.
fn part_of_quoted(text: &str) -> String {
    quoted(text).trim_start_matches('"').trim_end_matches('"').to_owned()
}

/// As JSON has it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A part of a segment.
#[derive(Clone, Copy, Debug)]
struct Task {
    segment: usize,
    from: u64,
    to: u64,
    /// Both are where a line begins.
    is_aligned: bool,
}

struct Segment {
    path: PathBuf,
    file: File,
    /// Where its last whole line ends.
    length: u64,
}

/// Gives each wanted line (without its newline), in order, to `take`, until that says to stop.
/// Begins at `from`, where that is given. Returns where the journal ends now.
///
/// # Errors
/// When the journal cannot be read, and what `take` says.
pub fn search(
    directory: &Path,
    search: &Search,
    from: Option<Position>,
    mut take: impl FnMut(&[u8]) -> io::Result<bool>,
) -> Result<Position, JournalError> {
    let io = |source| JournalError::io(directory, source);
    let found = numbers(directory, SEGMENT)?;
    let mut end =
        from.unwrap_or(Position { segment: found.first().copied().unwrap_or(1), offset: 0 });
    let mut segments = Vec::new();
    let mut tasks = Vec::new();
    for (index, &number) in found.iter().enumerate() {
        let start = match from {
            Some(from) if number < from.segment => continue,
            Some(from) if number == from.segment => from.offset,
            _ => 0,
        };
        let path = segment_path(directory, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Removed by retention, just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(JournalError::io(&path, error)),
        };
        let length = whole_length(&file).map_err(|error| JournalError::io(&path, error))?;
        end = Position { segment: number, offset: length };
        let is_closed = index + 1 < found.len();
        let blocks = match is_closed && start == 0 && !search.terms_are_empty() {
            // It cannot be made where nothing may be written: then all is read.
            true => index::read(&path).or_else(|| index::build(&path).ok()),
            false => None,
        };
        let segment = segments.len();
        match blocks {
            Some(blocks) => tasks.extend(wanted_blocks(search, &blocks, segment)),
            None => {
                let mut at = start;
                while at < length {
                    let to = (at + CHUNK).min(length);
                    tasks.push(Task { segment, from: at, to, is_aligned: false });
                    at = to;
                }
            }
        }
        segments.push(Segment { path, file, length });
    }
    let pool = Pool { tasks: &tasks, state: Mutex::new(State::default()), wake: Condvar::new() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| pool.work(search, &segments, threads));
        }
        for index in 0..tasks.len() {
            let lines = pool.result(index).map_err(|(path, error)| JournalError::io(&path, error));
            let done = lines.and_then(|lines| {
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    if !take(line.strip_suffix(b"\n").unwrap_or(line)).map_err(io)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            });
            if !matches!(done, Ok(false)) {
                pool.stop();
                return done.map(drop);
            }
        }
        Ok(())
    })?;
    Ok(end)
}

impl Search {
    /// An index could leave nothing out.
    fn terms_are_empty(&self) -> bool {
        self.terms.is_empty() && self.since.is_none() && self.until.is_none()
    }
}

/// The blocks that may have what is wanted; those that lie together as one.
fn wanted_blocks(search: &Search, blocks: &[Block], segment: usize) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for block in blocks.iter().filter(|block| search.may_be_in(block)) {
        let to = block.offset + block.length;
        match tasks.last_mut() {
            Some(last) if last.to == block.offset && to - last.from <= CHUNK => last.to = to,
            _ => tasks.push(Task { segment, from: block.offset, to, is_aligned: true }),
        }
    }
    tasks
}

/// Where the last whole line of a file ends.
pub(super) fn whole_length(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut to = length;
    let mut buffer = vec![0; 64 * 1024];
    while to > 0 {
        let from = to.saturating_sub(buffer.len() as u64);
        let part = buffer.get_mut(..(to - from) as usize).unwrap_or_default();
        file.read_exact_at(part, from)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

#[derive(Default)]
struct State {
    next: usize,
    taken: usize,
    results: BTreeMap<usize, io::Result<Vec<u8>>>,
    is_stopped: bool,
}

/// Threads that read, a little ahead of who takes.
struct Pool<'t> {
    tasks: &'t [Task],
    state: Mutex<State>,
    wake: Condvar,
}

impl Pool<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, search: &Search, segments: &[Segment], threads: usize) {
        let mut buffer = Vec::new();
        loop {
            let mut state = self.lock();
            while !state.is_stopped && state.next > state.taken + 4 * threads {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let index = state.next;
            let Some(task) = self.tasks.get(index).filter(|_| !state.is_stopped) else { return };
            state.next += 1;
            drop(state);
            let result = match segments.get(task.segment) {
                Some(segment) => read(search, segment, task, &mut buffer),
                None => Ok(Vec::new()),
            };
            self.lock().results.insert(index, result);
            self.wake.notify_all();
        }
    }

    fn result(&self, index: usize) -> Result<Vec<u8>, (PathBuf, io::Error)> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.results.remove(&index) {
                state.taken = index + 1;
                self.wake.notify_all();
                return result.map_err(|error| (PathBuf::from("the journal"), error));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        self.lock().is_stopped = true;
        self.wake.notify_all();
    }
}

/// The wanted lines of a part of a segment, each with its newline: those that begin in it.
fn read(
    search: &Search,
    segment: &Segment,
    task: &Task,
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", segment.path.display()))
    };
    buffer.resize((task.to - task.from) as usize, 0);
    segment.file.read_exact_at(buffer, task.from).map_err(named)?;
    let mut start = 0;
    if !task.is_aligned {
        // A line that began before belongs to the part before.
        if task.from > 0 {
            let mut before = [0];
            segment.file.read_exact_at(&mut before, task.from - 1).map_err(named)?;
            if before != *b"\n" {
                start = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |at| at + 1);
            }
        }
        // The last one ends behind this part.
        let mut end = task.to;
        while start < buffer.len() && buffer.last() != Some(&b'\n') && end < segment.length {
            let more = (segment.length - end).min(64 * 1024) as usize;
            let length = buffer.len();
            buffer.resize(length + more, 0);
            let part = buffer.get_mut(length..).unwrap_or_default();
            segment.file.read_exact_at(part, end).map_err(named)?;
            end += more as u64;
            if let Some(at) = memchr::memchr(b'\n', buffer.get(length..).unwrap_or_default()) {
                buffer.truncate(length + at + 1);
            }
        }
    }
    let bytes = buffer.get(start..).unwrap_or_default();
    let mut found = Vec::new();
    if !search.may_be_within(bytes) {
        return Ok(found);
    }
    let mut at = 0;
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(at..newline).unwrap_or_default();
        if search.wants(line) {
            found.extend_from_slice(bytes.get(at..=newline).unwrap_or_default());
        }
        at = newline + 1;
    }
    Ok(found)
}
