//! One change, one event: what is done to one object within a short time, or between opening it
//! for writing and closing it, is told once.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pipeline;
use super::attempts::attempted;
use super::change::{Content, Draft};
use super::mounts::mounted;
use super::renames::{Exchanged, renamed, renamed_around};
use super::steps::same;
use crate::event::actor::Actor;
use crate::event::{Action, FoldedOperation};
use crate::ledger::Stage;
use crate::operation::{Modified, Operation, OperationKind};
use crate::policy::Policy;
use crate::state::{HashState, ObjectKind};
use crate::time::Timestamp;

/// A file that is modified without a pause is told of at least this often.
const STEADY: Duration = Duration::from_secs(60);
/// Processes remembered as writers of one file.
const WRITERS_MAX: usize = 64;
/// How often a file is looked at that is open for writing and seems not to be modified, at most.
const POLL: Duration = Duration::from_secs(1);

/// A file that was created, opened for writing or modified, and what of it is still to be told.
pub(super) struct Session {
    /// The operation that the next event is about; `None`: there is nothing to tell yet.
    pending: Option<Box<Operation>>,
    /// It is told as a creation.
    created: bool,
    content: Content,
    operations: Vec<FoldedOperation>,
    writers: Vec<Arc<Actor>>,
    /// Somebody has it open for writing, as far as the collector tells.
    open: bool,
    /// A modification was told since it was opened.
    reported: bool,
    /// Since when there is something to tell.
    since: Instant,
    due: Option<Instant>,
    /// Its modification time when it was last looked at, while it is open: some file systems
    /// change it where no hook is (btrfs and xfs before Linux 6.6).
    seen: Option<Timestamp>,
    /// Who is named when such a change is found.
    opener: Option<Box<Operation>>,
    /// It is mapped, shared, and its content has to be compared to know; after this time.
    mapped: Option<Duration>,
    /// Its time of modification was set while it was open: that tells no more whether it was written.
    time_set: bool,
}

impl Session {
    fn new(now: Instant) -> Self {
        Self {
            pending: None,
            created: false,
            content: Content::Unchanged,
            operations: Vec::new(),
            writers: Vec::new(),
            open: false,
            reported: false,
            since: now,
            due: None,
            seen: None,
            opener: None,
            mapped: None,
            time_set: false,
        }
    }

    /// Operations that the next event is about.
    fn count(&self) -> u64 {
        self.operations.iter().map(|folded| folded.count).sum()
    }

    /// Its content is being changed, and by nobody else.
    fn is_changed_by(&self, actor: &Arc<Actor>) -> bool {
        self.content == Content::Changed && self.writers.iter().all(|writer| same(writer, actor))
    }

    fn writer(&mut self, actor: &Arc<Actor>) {
        let known = self.writers.iter().any(|writer| same(writer, actor));
        if self.writers.len() < WRITERS_MAX && !known {
            self.writers.push(Arc::clone(actor));
        }
    }
}

/// All of them, by path, and when something has to be told. Paths are looked up by their bytes:
/// comparing them by components takes several times as long.
#[derive(Default)]
pub(super) struct Sessions {
    by_path: HashMap<OsString, Session>,
    due: BTreeSet<(Instant, OsString)>,
    /// Operations on a path whose event waits for its hash.
    held: HashMap<OsString, Vec<Operation>>,
    /// The first half of an exchange of names, already done to the baseline.
    pub(super) exchanged: Option<Exchanged>,
    /// Operations of sessions that ended with nothing to tell.
    quiet: u64,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether an event of this path is under way.
    pub(super) fn is_busy(&self, path: &Path) -> bool {
        self.held.contains_key(path.as_os_str())
            || self.by_path.get(path.as_os_str()).is_some_and(|session| session.pending.is_some())
    }

    /// Whether somebody has it open for writing, as far as is known.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        self.by_path.get(path.as_os_str()).is_some_and(|session| session.open)
    }

    /// Operations that wait, for the ledger.
    pub(super) fn pending(&self) -> u64 {
        let held: usize = self.held.values().map(Vec::len).sum();
        held as u64 + self.by_path.values().map(Session::count).sum::<u64>()
    }

    /// Operations of which nothing was to be told, since this was asked last.
    pub(super) fn take_quiet(&mut self) -> u64 {
        std::mem::take(&mut self.quiet)
    }

    /// A close may have been lost: whoever seems to have a file open may not. One that is open all
    /// the same begins anew with its next modification.
    pub(super) fn doubt_open(&mut self) {
        for session in self.by_path.values_mut() {
            session.open = false;
        }
        self.forget_quiet();
    }

    /// Drops what has nothing to tell.
    pub(super) fn forget_quiet(&mut self) {
        let quiet = &mut self.quiet;
        self.by_path.retain(|_, session| {
            let keep = session.pending.is_some();
            *quiet += if keep { 0 } else { session.count() };
            keep
        });
        let by_path = &self.by_path;
        self.due.retain(|(_, path)| by_path.contains_key(path));
    }

    /// With very many files open, each is looked at less often: some 10,000 looks a second.
    fn poll_factor(&self) -> u32 {
        1 + (self.by_path.len() / 10_000) as u32
    }

    fn set_due(&mut self, path: &Path, at: Option<Instant>) {
        let Some(session) = self.by_path.get_mut(path.as_os_str()) else { return };
        if session.due == at {
            return;
        }
        if let Some(old) = session.due {
            self.due.remove(&(old, path.as_os_str().to_owned()));
        }
        session.due = at;
        if let Some(at) = at {
            self.due.insert((at, path.as_os_str().to_owned()));
        }
    }

    fn remove(&mut self, path: &Path) -> Option<Session> {
        let (_, session) = self.take(path)?;
        self.end(&session);
        Some(session)
    }

    /// Whatever is under way has another path, where `now` says one: its directory was renamed.
    pub(super) fn follow(&mut self, now: impl Fn(&Path) -> Option<PathBuf>) {
        let paths = self.by_path.keys();
        let moved = paths.filter_map(|was| Some((was.clone(), now(Path::new(was))?)));
        let moved: Vec<(OsString, PathBuf)> = moved.collect();
        // Two directories may have exchanged their names: nothing is put before all are taken.
        let taken: Vec<(PathBuf, Session)> = moved
            .into_iter()
            .filter_map(|(was, path)| {
                let mut session = self.by_path.remove(&was)?;
                for operation in [&mut session.pending, &mut session.opener].into_iter().flatten() {
                    if operation.path.as_deref() == Some(Path::new(&was)) {
                        operation.path = Some(path.clone());
                    }
                }
                if let Some(due) = session.due {
                    self.due.remove(&(due, was));
                }
                Some((path, session))
            })
            .collect();
        for (path, session) in taken {
            self.remove(&path);
            if let Some(due) = session.due {
                self.due.insert((due, path.clone().into()));
            }
            self.by_path.insert(path.into(), session);
        }
        let held = self.held.keys().filter_map(|was| Some((was.clone(), now(Path::new(was))?)));
        let held: Vec<(OsString, PathBuf)> = held.collect();
        let taken: Vec<(PathBuf, Vec<Operation>)> = held
            .into_iter()
            .filter_map(|(was, path)| {
                let mut operations = self.held.remove(&was)?;
                for operation in &mut operations {
                    operation.path = Some(path.clone());
                }
                Some((path, operations))
            })
            .collect();
        self.held.extend(taken.into_iter().map(|(path, held)| (path.into(), held)));
    }

    /// Paths of which something is under way.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.by_path.keys().chain(self.held.keys()).map(Path::new)
    }

    /// A session, to be put back or ended.
    fn take(&mut self, path: &Path) -> Option<(OsString, Session)> {
        let (path, mut session) = self.by_path.remove_entry(path.as_os_str())?;
        let Some(due) = session.due.take() else { return Some((path, session)) };
        let key = (due, path);
        self.due.remove(&key);
        Some((key.1, session))
    }

    /// One that is there no more.
    fn end(&mut self, session: &Session) {
        if session.pending.is_none() {
            self.quiet += session.count();
        }
    }

    /// One that is not there (any more), and when something has to be told of it.
    fn put(&mut self, path: OsString, session: Session, due: Instant) {
        self.due.insert((due, path.clone()));
        self.by_path.insert(path, Session { due: Some(due), ..session });
    }
}

/// Notes an operation among those folded into an event.
pub(super) fn note(operations: &mut Vec<FoldedOperation>, operation: &Operation) {
    let name = operation.kind.name();
    let bytes = operation.details.as_ref().and_then(|details| details.bytes);
    match operations.iter_mut().find(|folded| folded.operation == name) {
        Some(folded) => {
            folded.count += 1;
            folded.last = folded.last.max(operation.time);
            if let Some(bytes) = bytes {
                folded.bytes = Some(folded.bytes.unwrap_or(0).saturating_add(bytes));
            }
        }
        None => {
            let one = FoldedOperation::new(name, 1, operation.time);
            operations.push(FoldedOperation { bytes, ..one });
        }
    }
}

/// Takes in one operation.
pub(super) fn take(pipeline: &mut Pipeline, operation: Box<Operation>) {
    if matches!(operation.kind, OperationKind::Registry(_)) {
        return super::registry::take(pipeline, *operation);
    }
    let Some(path) = operation.path.clone() else {
        return pipeline.ledger.add(Stage::Nameless, 1);
    };
    let covered = pipeline.policy.covers(&path).is_some();
    let from_covered = match &operation.kind {
        OperationKind::Rename { from: Some(from), .. } => pipeline.policy.covers(from).is_some(),
        _ => false,
    };
    if !covered && !from_covered {
        // What a directory above or below a watched one does may still concern what is in it.
        match operation.kind {
            OperationKind::Mount => return mounted(pipeline, Action::Mounted, *operation, &path),
            OperationKind::Unmount => {
                return mounted(pipeline, Action::Unmounted, *operation, &path);
            }
            OperationKind::Rename { .. } if operation.failure.is_none() => {
                renamed_around(pipeline, *operation, &path);
                return pipeline.ledger.add(Stage::Uncovered, 1);
            }
            _ => {}
        }
        return pipeline.ledger.add(Stage::Uncovered, 1);
    }
    if operation.failure.is_some() {
        return attempted(pipeline, *operation);
    }
    let removes = matches!(operation.kind, OperationKind::Delete | OperationKind::Rename { .. });
    if !removes && pipeline.tickets.contains_key(&path) {
        pipeline.sessions.held.entry(path.into()).or_default().push(*operation);
        return;
    }
    match &operation.kind {
        OperationKind::Create => created(pipeline, path, operation),
        OperationKind::Link { first: true, .. } => created(pipeline, path, operation),
        OperationKind::Link { first: false, .. } => linked(pipeline, *operation),
        OperationKind::OpenWrite { .. } => opened(pipeline, path, operation),
        OperationKind::Modify | OperationKind::Truncate => modified(pipeline, path, operation),
        OperationKind::CloseWrite { writers, modified } => {
            let (writers, modified) = (*writers, *modified);
            closed(pipeline, path, operation, writers, modified);
        }
        OperationKind::Map => mapped(pipeline, path, operation),
        OperationKind::SetAttributes
        | OperationKind::SetFlags
        | OperationKind::SetSecurity
        | OperationKind::SetEa
        | OperationKind::SetXattr { .. }
        | OperationKind::RemoveXattr { .. } => {
            if let Some(session) = pipeline.sessions.by_path.get_mut(path.as_os_str()) {
                let (before, after) = (operation.before.mtime, operation.after.mtime);
                if before.is_some() && after.is_some() && before != after {
                    session.time_set = true;
                    // What the next look finds is this, and no write.
                    session.seen = session.seen.and(after);
                }
                if session.pending.is_some()
                    && (session.created || session.is_changed_by(&operation.actor))
                {
                    // The creation, or the change of content, tells the state that this leads to.
                    return note(&mut session.operations, &operation);
                }
            }
            immediate(pipeline, Action::AttributesModified, *operation);
        }
        OperationKind::Delete => removed(pipeline, &path, *operation),
        OperationKind::Rename { .. } => renamed(pipeline, path, *operation),
        OperationKind::Mount => mounted(pipeline, Action::Mounted, *operation, &path),
        OperationKind::Unmount => mounted(pipeline, Action::Unmounted, *operation, &path),
        OperationKind::EndGroup => {
            pipeline.ledger.add(Stage::Quiet, 1);
            if pipeline.sessions.by_path.contains_key(path.as_os_str()) {
                flush(pipeline, &path, true);
            }
        }
        // Taken above.
        OperationKind::Registry(_) => {}
    }
}

/// Another name: of a watched file, or a watched name of a file.
fn linked(pipeline: &mut Pipeline, operation: Operation) {
    let elsewhere = match &operation.kind {
        OperationKind::Link { elsewhere, .. } => elsewhere.clone(),
        _ => None,
    };
    let mut operations = Vec::new();
    note(&mut operations, &operation);
    if let Some(mut draft) = Draft::new(Action::Linked, operation, operations) {
        draft.link_path = elsewhere;
        pipeline.hash_then_complete(draft);
    }
}

/// An event about this operation alone.
fn immediate(pipeline: &mut Pipeline, action: Action, operation: Operation) {
    let mut operations = Vec::new();
    note(&mut operations, &operation);
    if let Some(draft) = Draft::new(action, operation, operations) {
        pipeline.hash_then_complete(draft);
    }
}

pub(super) fn removed(pipeline: &mut Pipeline, path: &Path, operation: Operation) {
    settle_before(pipeline, path);
    immediate(pipeline, Action::Deleted, operation);
}

fn created(pipeline: &mut Pipeline, path: PathBuf, operation: Box<Operation>) {
    let now = pipeline.now();
    if matches!(operation.after.kind, Some(kind) if kind != ObjectKind::File) {
        settle_before(pipeline, &path);
        return immediate(pipeline, Action::Created, *operation);
    }
    settle_before(pipeline, &path);
    let mut session = Session::new(now);
    note(&mut session.operations, &operation);
    session.writer(&operation.actor);
    session.created = true;
    session.content = Content::Changed;
    session.pending = Some(operation);
    pipeline.sessions.put(path.into(), session, now + pipeline.fold);
}

fn opened(pipeline: &mut Pipeline, path: PathBuf, operation: Box<Operation>) {
    let now = pipeline.now();
    let session =
        pipeline.sessions.by_path.entry(path.clone().into()).or_insert_with(|| Session::new(now));
    session.open = true;
    session.writer(&operation.actor);
    // Opening alone is nothing to tell; it is told with the modification that follows.
    note(&mut session.operations, &operation);
    session.seen = session.seen.or(operation.after.mtime);
    session.opener = Some(operation);
    if session.due.is_none() {
        pipeline.sessions.set_due(&path, Some(pipeline.now() + pipeline.settle));
    }
}

/// A file that is open for writing was mapped: from now on its content may change without a trace.
fn mapped(pipeline: &mut Pipeline, path: PathBuf, operation: Box<Operation>) {
    opened(pipeline, path.clone(), operation);
    let hidden = pipeline.observer.hides_mapped_writes(&path);
    if let Some(session) = pipeline.sessions.by_path.get_mut(path.as_os_str()) {
        session.mapped = hidden.then_some(pipeline.settle.max(POLL));
    }
}

/// Looks at a file that is open for writing and of which no modification was reported: there may
/// be no hook for it.
fn poll(pipeline: &mut Pipeline, path: &Path) {
    let next = pipeline.now() + pipeline.settle.max(POLL) * pipeline.sessions.poll_factor();
    let Some(session) = pipeline.sessions.by_path.get_mut(path.as_os_str()) else { return };
    let open = session.open;
    let seen = session.seen;
    let now = pipeline.observer.stat(path).ok().and_then(|state| state.mtime);
    let changed = seen.is_some() && now.is_some() && now != seen;
    session.seen = now.or(seen);
    let opener = session.opener.clone();
    if !open && !changed {
        pipeline.sessions.remove(path);
        return;
    }
    if let Some(pause) = session.mapped
        && !changed
        && session.pending.is_none()
        && let Some(opener) = &opener
    {
        // Only its content tells. The more often it was the same, the later is the next look.
        session.mapped = Some((pause * 2).min(STEADY));
        session.content = Content::Doubtful;
        session.reported = true;
        let time = Timestamp::now();
        session.pending =
            Some(Box::new(Operation { kind: OperationKind::Map, time, ..*opener.clone() }));
        flush(pipeline, path, false);
        return pipeline.sessions.set_due(path, Some(pipeline.now() + pause));
    }
    pipeline.sessions.set_due(path, Some(next));
    if changed && let (Some(opener), Some(written)) = (opener, now) {
        // Whoever may write a file may set its times: when it was, the file says only within the
        // time in question.
        let found = Timestamp::now();
        let time = if (opener.time..=found).contains(&written) { written } else { found };
        pipeline.ledger.add(Stage::Found, 1);
        modified(
            pipeline,
            path.to_owned(),
            Box::new(Operation { kind: OperationKind::Modify, time, ..*opener }),
        );
    }
}

fn modified(pipeline: &mut Pipeline, path: PathBuf, operation: Box<Operation>) {
    let now = pipeline.now();
    let (fold, settle) = (pipeline.fold, pipeline.settle);
    let session =
        pipeline.sessions.by_path.entry(path.clone().into()).or_insert_with(|| Session::new(now));
    note(&mut session.operations, &operation);
    session.writer(&operation.actor);
    session.content = Content::Changed;
    if session.opener.is_none() {
        // Through a description of which nobody saw the opening.
        session.opener = Some(operation.clone());
    }
    let due = if session.pending.is_none() {
        session.since = now;
        session.pending = Some(operation);
        Some(now + if session.reported { settle } else { fold })
    } else if session.reported {
        Some((now + settle).min(session.since + STEADY))
    } else {
        session.due
    };
    // (A due time while nothing was pending was only that of the next look.)
    pipeline.sessions.set_due(&path, due);
}

fn closed(
    pipeline: &mut Pipeline,
    path: PathBuf,
    operation: Box<Operation>,
    writers: Option<u32>,
    modified: Modified,
) {
    let now = pipeline.now();
    let last = writers.is_none_or(|writers| writers == 0);
    if modified == Modified::No && !pipeline.sessions.by_path.contains_key(path.as_os_str()) {
        return pipeline.ledger.add(Stage::Quiet, 1);
    }
    let session =
        pipeline.sessions.by_path.entry(path.clone().into()).or_insert_with(|| Session::new(now));
    note(&mut session.operations, &operation);
    session.writer(&operation.actor);
    if session.pending.is_none() {
        let content = match modified {
            // Whoever writes may put the time back before it is looked at.
            Modified::No if session.time_set => Content::Doubtful,
            Modified::No => Content::Unchanged,
            // It was told, and its content compared, when it had been quiet; or the time is another
            // because it was set.
            Modified::Yes if session.reported || session.time_set => Content::Doubtful,
            Modified::Yes => Content::Changed,
            Modified::Unknown => Content::Doubtful,
        };
        if content != Content::Unchanged {
            session.content = content;
            session.since = now;
            session.pending = Some(operation);
        }
    }
    if last {
        session.open = false;
        flush(pipeline, &path, true);
    } else if session.pending.is_some() {
        let due = session.due.map_or(now + pipeline.fold, |due| due.min(now + pipeline.fold));
        pipeline.sessions.set_due(&path, Some(due));
    }
}

/// Something is about to be told that puts an end to what `path` named: first what is still to be
/// told of that, as far as it is known.
pub(super) fn settle_before(pipeline: &mut Pipeline, path: &Path) {
    while pipeline.tickets.contains_key(path) {
        pipeline.hurry(path);
    }
    let Some(mut session) = pipeline.sessions.remove(path) else { return };
    if let Some(draft) = draft_of(&mut session) {
        pipeline.complete_unhashed(draft, HashState::Gone);
    }
}

/// The event that a session has to tell, if there is one.
fn draft_of(session: &mut Session) -> Option<Draft> {
    let mut operation = session.pending.take()?;
    if operation.path_in_process.is_none()
        && let Some(opener) = &session.opener
        && opener.object == operation.object
    {
        // A modification is told by the inode, which has no name; who opened it used one.
        operation.path_in_process.clone_from(&opener.path_in_process);
    }
    let action = if session.created { Action::Created } else { Action::Updated };
    let operations = std::mem::take(&mut session.operations);
    let mut draft = Draft::new(action, *operation, operations)?;
    draft.content = session.content;
    draft.writers.clone_from(&session.writers);
    session.created = false;
    session.content = Content::Unchanged;
    Some(draft)
}

/// Tells what a session has to tell. `closed`: nobody writes any more, and the session ends.
fn flush(pipeline: &mut Pipeline, path: &Path, closed: bool) {
    let Some((path, mut session)) = pipeline.sessions.take(path) else { return };
    let being_written = session.open && !closed && !session.reported;
    let draft = draft_of(&mut session);
    session.reported = true;
    // fanotify does not tell who has it open: steady writing without an end is told as rarely as
    // if it did.
    let unsure = draft.as_ref().is_some_and(Draft::may_be_open);
    if closed || !(session.open || unsure) {
        pipeline.sessions.end(&session);
    } else {
        session.seen = pipeline.observer.stat(Path::new(&path)).ok().and_then(|state| state.mtime);
        let next = pipeline.now() + pipeline.settle.max(POLL);
        pipeline.sessions.put(path, session, next);
    }
    if let Some(mut draft) = draft {
        draft.being_written = being_written;
        pipeline.hash_then_complete(draft);
    }
}

impl Pipeline {
    /// Tells what is due.
    pub(super) fn flush_due(&mut self, now: Instant) {
        while let Some((at, path)) = self.sessions.due.first()
            && *at <= now
        {
            let path = PathBuf::from(path.clone());
            if self.tickets.contains_key(&path) {
                // Its turn comes when the event before it is complete.
                self.sessions.set_due(&path, Some(now + Duration::from_millis(5)));
            } else if self
                .sessions
                .by_path
                .get(path.as_os_str())
                .is_some_and(|s| s.pending.is_none())
            {
                poll(self, &path);
            } else {
                flush(self, &path, false);
            }
        }
    }

    /// Tells everything that is left.
    pub(super) fn flush_all(&mut self) {
        self.flush_where(|_| true);
    }

    /// Tells what is left of these paths.
    pub(super) fn flush_where(&mut self, wanted: impl Fn(&Path) -> bool) {
        let paths = self.sessions.by_path.keys().map(Path::new);
        let mut paths: Vec<PathBuf> = paths.filter(|path| wanted(path)).map(Into::into).collect();
        paths.sort_unstable();
        for path in paths {
            while self.tickets.contains_key(&path) {
                self.hurry(&path);
            }
            flush(self, &path, true);
        }
    }

    /// What is under way in a directory that was renamed goes on where it is now. `now` has the
    /// path that it has there.
    pub(super) fn follow(&mut self, now: impl Fn(&Path) -> Option<PathBuf>) {
        self.sessions.follow(&now);
        let waiting = self.tickets.iter().filter_map(|(was, ticket)| Some((*ticket, now(was)?)));
        let mut waiting: Vec<(u64, PathBuf)> = waiting.collect();
        waiting.sort_unstable();
        for (ticket, path) in waiting {
            let Some(mut draft) = self.take_waiting(ticket) else { continue };
            draft.path.clone_from(&path);
            // What was read under the other path counts for nothing.
            self.hash_then_complete(draft);
            if !self.tickets.contains_key(&path) {
                self.release(&path);
            }
        }
    }

    /// Tells what is under way in a directory as far as it is known, where `leaves` says that it has
    /// left what is watched.
    pub(super) fn settle_where(&mut self, leaves: impl Fn(&Policy, &Path) -> bool) {
        let paths = self.sessions.paths().chain(self.tickets.keys().map(PathBuf::as_path));
        let leaving = paths.filter(|path| leaves(&self.policy, path));
        let mut paths: Vec<PathBuf> = leaving.map(Into::into).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            settle_before(self, &path);
        }
    }

    /// Goes on with what came for a path while its event waited.
    pub(super) fn release(&mut self, path: &Path) {
        let Some(held) = self.sessions.held.remove(path.as_os_str()) else { return };
        for operation in held {
            // One that starts another wait makes the rest wait again.
            take(self, Box::new(operation));
        }
    }
}
