//! From who is named in a record or event to its actor.

use std::fs;
use std::sync::Arc;

use fim_common::event::actor::{Actor, Container, Kubernetes};

use super::actor::{self, Line, Parts};
use super::cgroup;
use super::description::{Ancestor, ArgsState, Credentials, Description, Key};
use super::entry::{Entry, Made, Origin};
use super::procfs::{self, TICK};
use super::table::Table;

/// Whether the process of an event was still there when the event was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alive {
    /// It was, possibly as a zombie: its id was not anybody else's.
    Yes,
    /// It was not: whoever has its id now is somebody else.
    No,
    /// The kernel is too old to tell.
    Unknown,
}

/// All that fanotify tells of the process of an event.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Its id; 0 when it has none in the agent's pid namespace.
    pub pid: u32,
    /// Whether it was alive at `read`.
    pub alive: Alive,
    /// When the event was read, nanoseconds since boot.
    pub read: u64,
}

impl Table {
    /// The actor of an operation whose record says exactly who did it.
    pub fn actor(&mut self, key: Key, tid: Option<u32>, credentials: &Credentials) -> Arc<Actor> {
        let names = self.refresh_names();
        if let Some(made) = self.find(key).and_then(|e| e.made(credentials, tid, names)) {
            return made;
        }
        if self.find(key).is_none() {
            self.look_up(key.tgid);
        }
        self.make(key, tid, credentials, names)
    }

    /// A number that changes with the names of users, containers and pods: both only grow.
    fn refresh_names(&mut self) -> u64 {
        self.names.refresh() + self.workloads.refresh()
    }

    /// The credentials an execution was last seen with.
    pub fn credentials(&self, key: Key) -> Option<Credentials> {
        self.find(key).map(|entry| entry.description.credentials)
    }

    /// The actor of an operation of which only the process id is known.
    ///
    /// fanotify does not say when an event happened: a process that has executed another program,
    /// or changed its user, between the operation and the reading of its event is told as it was
    /// at the reading.
    pub fn actor_of(&mut self, sighting: Sighting) -> Arc<Actor> {
        if sighting.pid == 0 {
            return Arc::new(actor::bare(0, "other_pid_namespace"));
        }
        let names = self.refresh_names();
        let found = match sighting.alive {
            Alive::No => None,
            // Started after the event was read: the id has gone to another process.
            Alive::Yes | Alive::Unknown => self
                .look_up(sighting.pid)
                .filter(|(key, _)| key.start / TICK <= sighting.read / TICK),
        };
        let (key, credentials) = match found {
            Some(found) => found,
            None => match self.last_of(sighting) {
                Some(entry) => (entry.key(), entry.description.credentials),
                None => return Arc::new(actor::bare(sighting.pid, "exited")),
            },
        };
        let made = self.named(key).and_then(|e| e.made(&credentials, None, names));
        made.unwrap_or_else(|| self.make(key, None, &credentials, names))
    }

    /// Of a process that is gone: its last execution, as far as it was seen. Where nothing told
    /// of exits, it is the last one looked at.
    fn last_of(&self, sighting: Sighting) -> Option<&Entry> {
        let entries = self.entries.get(&sighting.pid)?;
        let before = || entries.iter().rev().filter(|entry| entry.key().start <= sighting.read);
        let ended = before().find(|entry| entry.ended.is_some()).or_else(|| before().next())?;
        // It may have ended by an execution, whose own end has not been told yet: what it was
        // before, often only the copy of its parent, is not who did it.
        let start = ended.key().start / TICK;
        before().find(|entry| entry.started(start))
    }

    /// The latest execution of the live process `pid`, with its credentials now.
    pub(super) fn look_up(&mut self, pid: u32) -> Option<(Key, Credentials)> {
        let proc = self.options.proc.clone();
        let stat = procfs::stat(&proc, pid).ok()?;
        let known = self
            .entries
            .get(&pid)
            .and_then(|entries| entries.iter().rev().find(|e| e.started(stat.start_ticks)))
            .filter(|entry| match entry.origin {
                Origin::Kernel => true,
                // A zombie has no addresses; what was known of it before stays true.
                Origin::Proc { layout } => {
                    layout == stat.layout || stat.state == b'Z' || stat.layout == [0; 4]
                }
            })
            .map(Entry::key);
        if let Some(key) = known {
            let (credentials, _) = procfs::credentials(&proc, pid).ok()?;
            return Some((key, credentials));
        }
        let (mut description, stat) = procfs::describe(&proc, pid).ok()?;
        let credentials = description.credentials;
        description.ancestors = self.ancestors_of(stat.ppid);
        if let Some(cgroup) = &description.cgroup {
            self.cgroups.learn(cgroup);
        }
        let key = description.key;
        self.insert(description, Origin::Proc { layout: stat.layout });
        Some((key, credentials))
    }

    fn ancestors_of(&mut self, ppid: u32) -> Arc<[Ancestor]> {
        if ppid == 0 {
            return Arc::default();
        }
        // Each level is in the table before its children: this ends at process 1, or at the first
        // one that is known.
        let Some((key, _)) = self.look_up(ppid) else {
            return Arc::default();
        };
        self.named(key).map(|entry| entry.description.line(key)).unwrap_or_default()
    }

    pub(super) fn find(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key.tgid)?.iter().rev().find(|entry| entry.is(key))
    }

    pub(super) fn find_mut(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(&key.tgid)?.iter_mut().rev().find(|entry| entry.is(key))
    }

    /// By the key as it stands in the table, or by the one in a record. A key of `/proc` also
    /// finds what the kernel has described since.
    fn named(&self, key: Key) -> Option<&Entry> {
        let entries = self.entries.get(&key.tgid)?;
        let unnumbered = key.exec_id == 0 && key.start.is_multiple_of(TICK);
        entries
            .iter()
            .rev()
            .find(|entry| entry.key() == key)
            .or_else(|| self.find(key))
            .or_else(|| entries.iter().find(|entry| unnumbered && entry.started(key.start / TICK)))
    }

    fn make(
        &mut self,
        key: Key,
        tid: Option<u32>,
        credentials: &Credentials,
        names: u64,
    ) -> Arc<Actor> {
        let (mut container, mut pod) = self.container_of(key);
        self.workloads.name(&mut container, &mut pod);
        let Some(entry) = self.named(key) else {
            return Arc::new(self.undescribed(key, tid, credentials));
        };
        let actor = Arc::new(actor::build(Parts {
            description: &entry.description,
            entity_id: entry.entity_id,
            credentials,
            tid,
            container: (container, pod),
            ancestors: entry.description.ancestors.iter().map(|a| self.line(a)).collect(),
            names: &self.names,
            boot: &self.boot,
        }));
        let (tgid, key) = (key.tgid, entry.key());
        let made = Made { credentials: *credentials, tid, names, actor: Arc::clone(&actor) };
        let entries = self.entries.get_mut(&tgid).into_iter().flatten();
        if let Some(entry) = entries.rev().find(|entry| entry.key() == key) {
            let grown = entry.keep(made);
            self.weigh(grown);
        }
        actor
    }

    fn line<'a>(&'a self, ancestor: &'a Ancestor) -> Line<'a> {
        let key = ancestor.key;
        let entry = self.named(key);
        Line {
            key,
            comm: &ancestor.comm,
            entity_id: entry.map_or_else(
                || actor::entity_id(&self.boot_id, key, None),
                |entry| entry.entity_id,
            ),
            description: entry.map(|entry| &entry.description),
        }
    }

    fn container_of(&mut self, key: Key) -> (Option<Container>, Option<Kubernetes>) {
        let Some(entry) = self.named(key) else {
            return (None, None);
        };
        if let Some(container) = &entry.container {
            return (**container).clone();
        }
        let (key, id, live) = (entry.key(), entry.description.cgroup_id, entry.ended.is_none());
        let recorded = entry.description.cgroup_path.clone();
        let file = entry.description.cgroup.clone().or_else(|| {
            // With cgroup v1 the container shows in other hierarchies than the numbered one.
            let directory = self.options.proc.join(key.tgid.to_string());
            let stat = procfs::stat(&self.options.proc, key.tgid).ok()?;
            (live && stat.start_ticks == key.start / TICK)
                .then(|| fs::read_to_string(directory.join("cgroup")).ok())?
                .map(Into::into)
        });
        let in_file = file.as_deref().map(|file| {
            self.cgroups.learn(file);
            cgroup::container_of_file(file)
        });
        // It is gone, and its control group perhaps too: then /proc has nothing, or the root while
        // somebody has still to wait for it.
        let elsewhere = || match &recorded {
            Some(path) => Some(cgroup::container(path)),
            None if file.is_none() => self.cgroups.path(id).map(cgroup::container),
            None => None,
        };
        let is_named = |found: &(Option<_>, Option<_>)| found.0.is_some() || found.1.is_some();
        let container = in_file.filter(is_named).or_else(elsewhere).unwrap_or_default();
        let entries = self.entries.get_mut(&key.tgid).into_iter().flatten();
        if let Some(entry) = entries.rev().find(|entry| entry.key() == key) {
            entry.container = Some(Box::new(container.clone()));
        }
        container
    }

    /// The record of the execution was lost, and the process is gone.
    fn undescribed(&self, key: Key, tid: Option<u32>, credentials: &Credentials) -> Actor {
        let description = Description {
            args_state: ArgsState::Exited,
            ..Description::new(key, std::ffi::OsString::new().into(), *credentials)
        };
        let mut actor = actor::build(Parts {
            description: &description,
            entity_id: actor::entity_id(&self.boot_id, key, None),
            credentials,
            tid,
            container: (None, None),
            ancestors: Vec::new(),
            names: &self.names,
            boot: &self.boot,
        });
        actor.unknown = ["process.executable", "process.args", "process.parent", "container"]
            .map(|field| (field.to_owned(), "exited".to_owned()))
            .into_iter()
            .collect();
        actor
    }
}
