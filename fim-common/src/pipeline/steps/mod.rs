//! The steps of one change: what an editor or a tool does to replace a file is one event of the
//! file's own name. See docs/folding.md for what counts as one change.
//!
//! `event => which chain? -> waits -> whole: folded (whole.rs) | apart: told as they are`
//!
//! A chain is what may become one change: of an object that was made (and may get its final name or
//! go again), of a name whose object is gone (and may be made anew), of a file that was replaced.
//! Pure: events and instants in, bundles of events out.
//!
//! Invariant: no event waits longer than the window, and each comes out once, in the order in which
//! those of its path came in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::actor::Actor;
use crate::event::{Action, Event, Outcome, Provider, Side};
use crate::state::ObjectKind;

mod hooks;
mod kin;
mod names;
#[cfg(test)]
mod tests;
mod transitions;
mod whole;

use kin::related;
pub(super) use kin::same;
use names::{Stem, is_probe, stands_for};
pub(super) use whole::{become_change, merge};

/// Events that wait at most; beyond, the oldest are told as they are.
const HELD_MAX: usize = 8_192;
/// Steps that one change has at most.
const STEPS_MAX: usize = 64;
/// Temporary files of one directory among which is looked for those of one change.
const LOOKED_AT: usize = 16;

/// An event that may be a step of a change.
pub(super) struct Step {
    pub(super) event: Box<Event>,
    /// Operations that it is about.
    pub(super) count: u64,
    pub(super) path: PathBuf,
    /// Its earlier name.
    pub(super) from: Option<PathBuf>,
    /// A rule covers the earlier name.
    pub(super) from_covered: bool,
    /// Two objects exchanged their names.
    pub(super) exchange: bool,
    pub(super) actor: Arc<Actor>,
    pub(super) writers: Vec<Arc<Actor>>,
    pub(super) inode: Option<u64>,
    /// What it is for the change.
    role: Role,
    /// The order in which they came.
    number: u64,
}

/// What a step is for its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Of the object, or of the one that it replaces.
    Main,
    /// Of a file beside it that came and went.
    Aside,
}

impl Step {
    pub(super) fn new(event: Box<Event>, count: u64, path: PathBuf, actor: Arc<Actor>) -> Self {
        Self {
            event,
            count,
            path,
            from: None,
            from_covered: false,
            exchange: false,
            actor,
            writers: Vec::new(),
            inode: None,
            role: Role::Main,
            number: 0,
        }
    }

    fn action(&self) -> Action {
        self.event.event.action
    }

    /// Whether it can be a step at all.
    fn can_fold(&self) -> bool {
        // Of what is gone before anybody looked, fanotify does not tell the type, but for directories.
        let kind = self.event.file.as_ref().and_then(|file| file.kind);
        self.event.file.is_some()
            && matches!(kind, None | Some(ObjectKind::File | ObjectKind::Symlink))
            && self.event.event.outcome == Outcome::Success
            && self.event.event.provider != Some(Provider::Scan)
            && self.event.fim.link_path.is_none()
            && !self.exchange
            && self.actor.process.is_some()
            && self.writers.iter().all(|writer| related(writer, &self.actor))
    }

    /// All who took part in it, and in the other one, are the same execution.
    fn is_by_same(&self, other: &Self) -> bool {
        let mut all = self.writers.iter().chain([&self.actor]).chain(&other.writers);
        all.all(|actor| same(actor, &other.actor))
    }

    /// The state that it says was there before.
    fn before(&self) -> Option<Box<Side>> {
        let mut before = self.event.fim.before.clone()?;
        before.path = None;
        Some(before)
    }
}

/// Where a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An object was made, and is at `name`.
    Made,
    /// It was made, and is gone again.
    Spent,
    /// What was at `name` is gone, or has another name.
    Away,
    /// What was at `name` was replaced.
    Replaced,
    /// What is at `name` was changed where it is, beside temporary files.
    InPlace,
}

struct Chain {
    state: State,
    name: PathBuf,
    /// Where what was at `name` is now.
    backup: Option<PathBuf>,
    /// What was at `name` before.
    before: Option<Box<Side>>,
    /// It was made under another name.
    renamed: bool,
    steps: Vec<Step>,
    /// All paths by which it is found.
    names: Vec<OsString>,
    /// Its place among those of the directory.
    place: u64,
    since: Instant,
    due: Instant,
}

impl Chain {
    fn new(state: State, step: Step, now: Instant, window: Duration) -> Self {
        Self {
            state,
            name: step.path.clone(),
            backup: None,
            before: None,
            renamed: false,
            steps: vec![step],
            names: Vec::new(),
            place: 0,
            since: now,
            due: now + window,
        }
    }

    /// The same execution did everything so far.
    fn is_of(&self, step: &Step) -> bool {
        self.steps.iter().all(|known| known.is_by_same(step))
    }

    /// The same execution or a close relative did everything so far.
    fn is_of_kin(&self, step: &Step) -> bool {
        self.steps.iter().all(|known| related(&known.actor, &step.actor))
    }

    /// Whether the step is about the object that the chain made.
    fn has_object(&self, step: &Step) -> bool {
        self.object().zip(step.inode).is_none_or(|(made, moved)| made == moved)
    }

    /// It made an object of the step's name, and the step is about another one.
    fn made_another(&self, step: &Step) -> bool {
        self.state == State::Made
            && self.name == step.path
            && !self.renamed
            && self.is_of(step)
            && self.object().zip(step.inode).is_some_and(|(made, new)| made != new)
    }

    /// The inode of what it made.
    fn object(&self) -> Option<u64> {
        let mut own = self.steps.iter().rev().filter(|known| known.role == Role::Main);
        own.find_map(|known| known.inode)
    }

    /// Something of this name came and went beside it.
    fn has_aside(&self, step: &Step) -> bool {
        self.is_of(step)
            && self.steps.iter().any(|known| known.role == Role::Aside && known.path == step.path)
    }

    /// Something came and went beside it.
    fn has_asides(&self) -> bool {
        self.steps.iter().any(|step| step.role == Role::Aside)
    }

    /// What it made went once, and was made anew.
    fn was_spent(&self) -> bool {
        let mut own = self.steps.iter().filter(|step| step.role == Role::Main);
        own.any(|step| step.action() == Action::Deleted && step.path == self.name)
    }

    /// It is complete as far as it goes: one change, and not just a part of one.
    fn is_whole(&self) -> bool {
        match self.state {
            State::Replaced => true,
            State::Made => self.renamed || self.has_asides() || self.was_spent(),
            State::InPlace => self.has_asides(),
            State::Spent | State::Away => false,
        }
    }

    /// Whether what this chain made is of no use but for a change of `name`.
    fn is_aside_of(&self, name: &Path) -> bool {
        self.name != *name
            && self.name.parent() == name.parent()
            && !self.renamed
            // What came and went beside it (a probe beside a swap file) goes where it goes.
            && self.steps.iter().all(|step| step.role == Role::Aside || step.path == self.name)
            && (stands_for(&self.name, name) || (self.is_untouched() && is_probe(&self.name)))
    }

    /// Nothing was ever written into what it made.
    fn is_untouched(&self) -> bool {
        const WRITES: [&str; 3] = ["modify", "truncate", "map"];
        self.steps.iter().all(|step| {
            let size = step.event.file.as_ref().and_then(|file| file.size);
            let mut done = step.event.fim.operations.iter();
            size.is_none_or(|size| size == 0)
                && done.all(|folded| !WRITES.contains(&folded.operation.as_str()))
        })
    }
}

/// Steps that belong together, or did not after all.
pub(super) struct Bundle {
    steps: Vec<Step>,
    /// One change of this path; `None`: they are told as they are.
    whole: Option<Whole>,
}

impl Bundle {
    /// What the one change is of.
    fn path(&self) -> Option<&Path> {
        self.whole.as_ref().map(|whole| &*whole.path)
    }
}

/// What the steps of a bundle come to.
struct Whole {
    path: PathBuf,
    before: Option<Box<Side>>,
    backup: Option<PathBuf>,
}

/// A chain among those of a directory.
struct Beside {
    id: u64,
    stem: Stem,
}

/// All chains. Paths are looked up by their bytes: comparing them by components takes ten times as
/// long, and collectors spell each path in one way.
pub(super) struct Steps {
    window: Duration,
    /// How long a change that seems complete waits for what still belongs to it.
    grace: Duration,
    chains: HashMap<u64, Chain>,
    names: BTreeMap<OsString, u64>,
    /// Chains by the directory of their name, in the order in which they came.
    directories: HashMap<OsString, BTreeMap<u64, Beside>>,
    due: BTreeSet<(Instant, u64)>,
    next: u64,
    held: usize,
    out: Vec<Bundle>,
}

/// What a name is in.
fn directory(name: &Path) -> &OsStr {
    name.parent().unwrap_or(name).as_os_str()
}

impl Default for Steps {
    /// Nothing waits for anything.
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            grace: Duration::ZERO,
            chains: HashMap::new(),
            names: BTreeMap::new(),
            directories: HashMap::new(),
            due: BTreeSet::new(),
            next: 0,
            held: 0,
            out: Vec::new(),
        }
    }
}

impl Steps {
    fn set_times(&mut self, window: Duration, grace: Duration) {
        self.window = window;
        self.grace = grace.min(window);
    }

    /// Whether events are looked at that no rule asks for: together with others they may be what one
    /// asks for.
    pub(super) fn gathers(&self) -> bool {
        !self.window.is_zero()
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Takes an event. Returns it if it is no step of anything: it comes behind what is in
    /// [`Steps::take_out`] by then.
    fn take(&mut self, mut step: Step, now: Instant) -> Option<Step> {
        // Room for one that comes too late.
        self.next += 2;
        step.number = self.next;
        if !self.gathers() {
            return Some(step);
        }
        if !step.can_fold() {
            self.release_around(&step);
            return Some(step);
        }
        let left = match step.action() {
            Action::Created | Action::Linked => self.made(step, now),
            Action::Moved => self.moved(step, now),
            Action::Deleted => self.deleted(step, now),
            Action::Updated => self.updated(step, now),
            Action::AttributesModified => self.attributes(step, now),
            _ => {
                self.release_around(&step);
                Some(step)
            }
        };
        while self.held > HELD_MAX
            && let Some((_, id)) = self.due.first().copied()
        {
            self.release(id);
        }
        left
    }

    fn take_out(&mut self) -> Vec<Bundle> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn release_due(&mut self, now: Instant) {
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.release(id);
        }
    }

    fn release_all(&mut self) {
        while let Some((_, id)) = self.due.first().copied() {
            self.release(id);
        }
    }

    /// Something about `path` is about to be told that is no step.
    fn release_path(&mut self, path: &Path) {
        if let Some(id) = self.at(path) {
            self.release(id);
        }
    }

    /// Lets go of everything that the event concerns.
    fn release_around(&mut self, step: &Step) {
        let kind = step.event.file.as_ref().and_then(|file| file.kind);
        for path in [Some(&step.path), step.from.as_ref()].into_iter().flatten() {
            self.release_path(path);
            if kind == Some(ObjectKind::Dir) && step.action() != Action::AttributesModified {
                // With a separator at its end.
                let from = path.join("").into_os_string();
                let is_below =
                    |name: &OsString| name.as_encoded_bytes().starts_with(from.as_encoded_bytes());
                let below = self.names.range::<OsString, _>(&from..);
                let below = below.take_while(|(name, _)| is_below(name));
                let ids: BTreeSet<u64> = below.map(|(_, id)| *id).collect();
                ids.into_iter().for_each(|id| self.release(id));
            }
        }
    }

    /// Operations that wait.
    pub(super) fn pending(&self) -> u64 {
        let steps = self.chains.values().flat_map(|chain| &chain.steps);
        steps.map(|step| step.count).sum()
    }

    /// The event with this id, while it waits.
    pub(super) fn waiting(&mut self, id: &str) -> Option<&mut Event> {
        let mut steps = self.chains.values_mut().flat_map(|chain| &mut chain.steps);
        steps.find(|step| step.event.event.id == id).map(|step| &mut *step.event)
    }

    /// The hash of what was at `path` before it went away, while it may come back.
    pub(super) fn away(&self, path: &Path) -> Option<String> {
        let chain = self.chains.get(&self.at(path)?)?;
        let is_away = chain.state == State::Away && chain.name == path;
        chain.before.as_ref().filter(|_| is_away)?.sha256.clone()
    }

    fn put(&mut self, chain: Chain) -> u64 {
        self.next += 1;
        let id = self.next;
        self.held += chain.steps.len();
        self.due.insert((chain.due, id));
        let name = chain.name.clone();
        self.chains.insert(id, chain);
        self.index(id, &name);
        self.enter(id, &name);
        id
    }

    /// Has `path` lead to the chain.
    fn index(&mut self, id: u64, path: &Path) {
        if let Some(chain) = self.chains.get_mut(&id) {
            chain.names.push(path.as_os_str().to_owned());
            self.names.insert(path.as_os_str().to_owned(), id);
        }
    }

    /// The chain that `path` leads to.
    fn at(&self, path: &Path) -> Option<u64> {
        self.names.get(path.as_os_str()).copied()
    }

    fn enter(&mut self, id: u64, name: &Path) {
        self.next += 1;
        let place = self.next;
        if let Some(chain) = self.chains.get_mut(&id) {
            chain.place = place;
        }
        let one = Beside { id, stem: Stem::of(name) };
        let directory = directory(name);
        match self.directories.get_mut(directory) {
            Some(all) => drop(all.insert(place, one)),
            None => drop(self.directories.insert(directory.to_owned(), [(place, one)].into())),
        }
    }

    fn leave(&mut self, place: u64, name: &Path) {
        let directory = directory(name);
        if let Some(all) = self.directories.get_mut(directory) {
            all.remove(&place);
            if all.is_empty() {
                self.directories.remove(directory);
            }
        }
    }

    /// Takes a chain out of all lists.
    fn remove(&mut self, id: u64) -> Option<Chain> {
        let chain = self.chains.remove(&id)?;
        self.due.remove(&(chain.due, id));
        for name in &chain.names {
            if self.names.get(name) == Some(&id) {
                self.names.remove(name);
            }
        }
        self.leave(chain.place, &chain.name);
        self.held = self.held.saturating_sub(chain.steps.len());
        Some(chain)
    }

    /// What there is of a chain comes out.
    fn release(&mut self, id: u64) {
        let Some(mut chain) = self.remove(id) else { return };
        let is_whole = chain.is_whole();
        chain.steps.sort_by_key(|step| step.number);
        let Chain { name: path, before, backup, steps, .. } = chain;
        let whole = is_whole.then_some(Whole { path, before, backup });
        self.out.push(Bundle { steps, whole });
    }

    fn push(&mut self, id: u64, step: Step) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.steps.push(step);
        self.held += 1;
        if chain.steps.len() >= STEPS_MAX {
            self.release(id);
        }
    }

    fn set_due(&mut self, id: u64, due: Instant) {
        if let Some(chain) = self.chains.get_mut(&id) {
            self.due.remove(&(chain.due, id));
            chain.due = due;
            self.due.insert((due, id));
        }
    }

    /// Chains of the directory of `name`, the latest first: as many as are looked at.
    fn beside(&self, name: &Path) -> impl Iterator<Item = &Beside> {
        let all = self.directories.get(directory(name));
        all.into_iter().flat_map(|all| all.values().rev()).take(LOOKED_AT)
    }

    /// Chains that the step's process is alone in, and whose objects are of no use but for a change
    /// of `name`.
    fn asides(&self, name: &Path, step: &Step) -> Vec<u64> {
        let stem = Stem::of(name);
        let is_aside = |id: &u64| {
            self.chains.get(id).is_some_and(|chain| chain.is_of(step) && chain.is_aside_of(name))
        };
        let named = self.beside(name).filter(|beside| beside.stem.may_stand_for(&stem));
        named.map(|beside| beside.id).filter(is_aside).collect()
    }

    /// Chains that the step's process is alone in, and for which what is at `name` may be of use.
    fn used_by(&self, name: &Path, step: &Step) -> Vec<u64> {
        let stem = Stem::of(name);
        let is_of = |id: &u64| self.chains.get(id).is_some_and(|chain| chain.is_of(step));
        let named = self.beside(name).filter(|beside| stem.may_stand_for(&beside.stem));
        named.map(|beside| beside.id).filter(is_of).collect()
    }

    /// The chain that made the very object of a rename at the place where it was: not always the
    /// latest of that name, since a rename may wait for its hash.
    fn maker(&self, from: &Path, step: &Step) -> Option<u64> {
        let latest = self.at(from)?;
        let is_maker = |id: &u64| {
            self.chains.get(id).is_some_and(|chain| {
                chain.state == State::Made
                    && chain.name == *from
                    && chain.is_of_kin(step)
                    && chain.object().is_some_and(|made| step.inode == Some(made))
            })
        };
        self.beside(from).map(|beside| beside.id).filter(is_maker).last().or(Some(latest))
    }

    /// A change has got a step further: takes what came and went beside it along, and waits for what
    /// still belongs to it, or a moment for what may.
    fn advance(&mut self, id: u64, now: Instant) {
        let Some(chain) = self.chains.get(&id) else { return };
        let (name, window) = (chain.name.clone(), self.window);
        let Some(last) = chain.steps.last() else { return };
        let mut asides = self.asides(&name, last);
        asides.retain(|aside| *aside != id);
        let mut outstanding = self.chains.get(&id).is_some_and(|chain| chain.backup.is_some());
        for aside in asides {
            match self.chains.get(&aside).map(|chain| chain.state) {
                Some(State::Spent) => self.absorb(id, aside),
                Some(State::Made) => outstanding = true,
                _ => {}
            }
        }
        let Some(chain) = self.chains.get(&id) else { return };
        let latest = chain.since + window;
        let is_complete = match chain.state {
            State::Replaced | State::InPlace => !outstanding,
            State::Made => chain.renamed && !outstanding,
            State::Spent | State::Away => false,
        };
        let due = if is_complete { latest.min(now + self.grace) } else { latest };
        self.set_due(id, due);
    }

    /// The steps of `aside` belong to the change `id`.
    fn absorb(&mut self, id: u64, aside: u64) {
        let Some(spent) = self.remove(aside) else { return };
        self.join(id, spent, Role::Aside);
    }

    /// The steps of a chain that was removed go on in the chain `id`.
    fn join(&mut self, id: u64, other: Chain, role: Role) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        self.held += other.steps.len();
        let steps = other.steps.into_iter();
        chain.steps.extend(steps.map(|step| match role {
            Role::Aside => Step { role, ..step },
            Role::Main => step,
        }));
        chain.since = chain.since.min(other.since);
        for name in other.names {
            if !self.names.contains_key(&name) {
                self.index(id, Path::new(&name));
            }
        }
    }
}
