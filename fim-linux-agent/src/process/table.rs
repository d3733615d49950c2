//! The table of executions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use fim_common::event::actor::Actor;
use fim_common::record::ARGS_MAX;

use super::actor;
use super::cgroup::Cgroups;
use super::clock::Boot;
use super::description::{ArgsState, Credentials, Description, Key};
use super::entry::{Entry, Origin};
use super::procfs;
use super::users::Names;
use super::views::Views;
use super::workload::Workloads;

/// Bytes of arguments that all entries together may keep beyond [`ARGS_MAX`] each: a host where
/// thousands of processes have 128 KiB of arguments must not fill the agent's memory.
const LONG_ARGS_MAX: usize = 32 * 1024 * 1024;

/// How a [`Table`] is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where procfs is mounted, with the initial pid namespace.
    pub proc: PathBuf,
    /// The host's root directory, for `etc/passwd` and `etc/group`.
    pub host_root: PathBuf,
    /// Most executions that are kept.
    pub capacity: usize,
    /// Bytes that all of them may take before those that ended go, whatever their age. Roughly:
    /// what the allocator adds is not counted.
    pub weight: usize,
    /// How long an execution is kept after its end, in nanoseconds, as long as there is room.
    pub keep: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            host_root: "/".into(),
            capacity: 65_536,
            weight: 16 * 1024 * 1024,
            keep: 60_000_000_000,
        }
    }
}

/// Every execution that is, or was a moment ago. Records go in in the order of the ring.
#[derive(Debug)]
pub struct Table {
    pub(super) options: Options,
    pub(super) boot_id: String,
    pub(super) boot: Boot,
    pub(super) names: Names,
    pub(super) cgroups: Cgroups,
    pub(super) workloads: Workloads,
    /// By process id; in each, in the order of the executions.
    pub(super) entries: HashMap<u32, Vec<Entry>>,
    len: usize,
    ended: VecDeque<(u64, Key)>,
    long_args: usize,
    /// Bytes that all entries take.
    weight: usize,
    pub(super) views: Views,
    newcomers: Option<Newcomers>,
}

/// Most mount namespaces and control groups that are remembered as known.
const SEEN_MAX: usize = 16_384;

/// Tells when somebody runs for the first time in a mount namespace and control group of its own,
/// as the first program of a container does.
struct Newcomers {
    seen: HashSet<(u32, u64)>,
    tell: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for Newcomers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomers").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

impl Table {
    /// An empty table.
    pub fn new(options: Options) -> Self {
        let boot_id = fs::read_to_string(options.proc.join("sys/kernel/random/boot_id"));
        Self {
            boot_id: boot_id.unwrap_or_default().trim().to_owned(),
            boot: Boot::new(),
            names: Names::new(&options.host_root),
            cgroups: Cgroups::new(&options.proc),
            workloads: Workloads::new(&options.host_root),
            entries: HashMap::new(),
            len: 0,
            ended: VecDeque::new(),
            long_args: 0,
            weight: 0,
            views: Views::new(&options.proc),
            newcomers: None,
            options,
        }
    }

    /// Has `tell` called when a container may have been started: a program is executed in a mount
    /// namespace and control group in which none was before. It must not block.
    pub fn tell_newcomers(&mut self, tell: impl Fn() + Send + 'static) {
        self.newcomers = Some(Newcomers { seen: HashSet::new(), tell: Box::new(tell) });
    }

    /// Executions in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that all executions take, as far as they are counted ([`Options::weight`]).
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The clock that turns the kernel's times into events' times.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    /// Describes every process there is now, from `/proc`. To be called once the programs that
    /// make records are attached, so that no process falls in between.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn snapshot(&mut self) -> io::Result<usize> {
        let mut described = 0;
        for entry in fs::read_dir(&self.options.proc)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is no error.
            described += usize::from(self.look_up(pid).is_some());
        }
        Ok(described)
    }

    /// Takes in a record that describes an execution.
    pub fn describe(&mut self, mut description: Description) {
        let key = description.key;
        if matches!(description.args_state, ArgsState::Truncated | ArgsState::NotResident)
            && let Some((args, state)) =
                procfs::arguments_of(&self.options.proc, key.tgid, key.start)
            && extends(&args, description.args.as_deref())
        {
            (description.args, description.args_state) = (Some(args.into()), state);
        }
        description.root = self.learn_view(&description).map(Into::into);
        let space = description.namespaces.mnt;
        if self.views.differs(space)
            && let Some(newcomers) = &mut self.newcomers
        {
            // Forgetting costs one look too many for each.
            if newcomers.seen.len() >= SEEN_MAX {
                newcomers.seen.clear();
            }
            if newcomers.seen.insert((space, description.cgroup_id)) {
                (newcomers.tell)();
            }
        }
        self.insert(description, Origin::Kernel);
    }

    /// Takes in a record of a fork: `child` is, until it executes something, what its parent is.
    pub fn fork(&mut self, parent: Key, child: Key, credentials: Credentials) {
        if self.find(parent).is_none() {
            self.look_up(parent.tgid);
        }
        // A parent whose own record was lost and that is gone: nothing is known of the child
        // until it executes something.
        let Some(entry) = self.find_mut(parent) else {
            return;
        };
        let above = &entry.description;
        let (line, grown) = match &entry.line {
            Some(line) => (Arc::clone(line), 0),
            None => {
                let line = above.line(parent);
                entry.line = Some(Arc::clone(&line));
                let grown = size_of_val(&*line);
                (line, grown)
            }
        };
        let description =
            Description { key: child, credentials, ns_pid: 0, ancestors: line, ..above.clone() };
        entry.weight += grown;
        self.weigh(grown as isize);
        self.insert(description, Origin::Kernel);
    }

    /// Takes in a record of the end of a process at `time` (nanoseconds since boot), with the
    /// credentials it had then.
    pub fn exit(&mut self, key: Key, time: u64, credentials: Credentials) {
        if let Some(entry) = self.find_mut(key) {
            entry.description.credentials = credentials;
            entry.ended = Some(time);
            let key = entry.key();
            self.ended.push_back((time, key));
        }
        self.evict(time);
    }

    /// Whether the execution `entity_id` of process `pid` goes on.
    pub fn is_running(&self, pid: u32, entity_id: &str) -> bool {
        let entries = self.entries.get(&pid).into_iter().flatten();
        let mut same = entries.filter(|entry| entry.entity_id.is(entity_id));
        same.any(|entry| {
            entry.ended.is_none()
                && procfs::stat(&self.options.proc, pid)
                    .is_ok_and(|stat| entry.started(stat.start_ticks) && stat.state != b'Z')
        })
    }

    /// Who the execution `entity_id` of process `pid` is, if it is known.
    pub fn actor_named(&mut self, pid: u32, entity_id: &str) -> Option<Arc<Actor>> {
        let entries = self.entries.get(&pid)?;
        let entry = entries.iter().find(|entry| entry.entity_id.is(entity_id))?;
        let (key, credentials) = (entry.key(), entry.description.credentials);
        Some(self.actor(key, None, &credentials))
    }

    pub(super) fn insert(&mut self, mut description: Description, origin: Origin) {
        let key = description.key;
        description.program =
            description.known_program(self.views.differs(description.namespaces.mnt));
        self.shorten(&mut description);
        let entries = self.entries.entry(key.tgid).or_default();
        if let Some(before) = entries.last() {
            description.share(&before.description);
        }
        let weight = size_of::<Entry>() + description.weight();
        let unnumbered = matches!(origin, Origin::Proc { .. }).then_some(&description);
        let entity_id = actor::entity_id(&self.boot_id, key, unnumbered);
        let entry = Entry {
            description,
            origin,
            ended: None,
            entity_id,
            container: None,
            actors: Vec::new(),
            line: None,
            weight,
        };
        let now = Boot::now();
        if origin == Origin::Kernel
            && let Some(old) = entries.iter_mut().find(|old| old.is(key) && old.origin == origin)
        {
            let (ended, grown) = (old.ended, weight as isize - old.weight as isize);
            *old = Entry { ended, ..entry };
            self.weigh(grown);
            return;
        }
        // What this process id was before has ended: by an execution, or unseen.
        for old in entries.iter_mut().filter(|old| old.ended.is_none()) {
            old.ended = Some(now);
            self.ended.push_back((now, old.key()));
        }
        // Mostly two, of what it was forked from and what it executed.
        entries.reserve_exact(1);
        entries.push(entry);
        self.len += 1;
        if self.len > self.options.capacity {
            self.make_room(now);
        }
        self.weigh(weight as isize);
    }

    /// Counts that an entry has grown or shrunk, and forgets what ended if there is too much.
    pub(super) fn weigh(&mut self, grown: isize) {
        self.weight = self.weight.saturating_add_signed(grown);
        while self.weight > self.options.weight && !self.ended.is_empty() {
            self.forget_oldest();
        }
    }

    fn shorten(&mut self, description: &mut Description) {
        let bytes = description.args_bytes();
        if bytes <= ARGS_MAX {
            return;
        }
        if self.long_args + bytes <= LONG_ARGS_MAX {
            self.long_args += bytes;
            return;
        }
        let mut left = ARGS_MAX;
        if let Some(args) = &mut description.args {
            let short = args.iter().take_while(|arg| {
                left = left.saturating_sub(arg.len() + 1);
                left > 0
            });
            *args = short.cloned().collect();
        }
        description.args_state = ArgsState::Truncated;
    }

    /// Forgets what ended long enough ago.
    fn evict(&mut self, now: u64) {
        while self
            .ended
            .front()
            .is_some_and(|(time, _)| now.saturating_sub(*time) > self.options.keep)
        {
            self.forget_oldest();
        }
    }

    /// The table is full: what ended first goes, whatever its age. Then the processes that were
    /// started first; `/proc` can describe them again.
    fn make_room(&mut self, now: u64) {
        self.evict(now);
        let target = self.options.capacity - self.options.capacity / 16;
        while self.len > target && !self.ended.is_empty() {
            self.forget_oldest();
        }
        if self.len > target {
            let mut starts: Vec<u64> =
                self.entries.values().flatten().map(|entry| entry.key().start).collect();
            starts.sort_unstable();
            let before = starts.get(self.len - target).copied().unwrap_or(0);
            let keys: Vec<Key> = self.entries.values().flatten().map(Entry::key).collect();
            for key in keys.into_iter().filter(|key| key.start < before) {
                self.forget(key, |_| true);
            }
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((time, key)) = self.ended.pop_front() {
            self.forget(key, |entry| entry.ended == Some(time));
        }
    }

    fn forget(&mut self, key: Key, which: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.entries.get_mut(&key.tgid) else {
            return;
        };
        let Some(at) = entries.iter().position(|entry| entry.key() == key && which(entry)) else {
            return;
        };
        let entry = entries.remove(at);
        if entries.is_empty() {
            self.entries.remove(&key.tgid);
        }
        self.len -= 1;
        self.weight = self.weight.saturating_sub(entry.weight);
        let bytes = entry.description.args_bytes();
        if bytes > ARGS_MAX {
            self.long_args = self.long_args.saturating_sub(bytes);
        }
    }
}

/// Whether `all` begins with what is known already, the last of which may be cut.
fn extends(all: &[OsString], known: Option<&[OsString]>) -> bool {
    let Some((last, before)) = known.and_then(|known| known.split_last()) else {
        return true;
    };
    all.starts_with(before)
        && all.get(before.len()).is_some_and(|arg| arg.as_bytes().starts_with(last.as_bytes()))
}
