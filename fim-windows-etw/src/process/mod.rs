//! Who: the processes of the trace, and the users behind them.
//!
//! Filled by Kernel-Process start, stop and rundown, and by the classic process events, which also
//! carry the command line. A process id is used again and again: an execution is found by the time
//! of the operation and, where the event has it, by the start key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fim_common::event::actor::{Actor, Ancestor, Parent, Process, Thread, Token, User, UserId};

use crate::decode::{Event, Provider, Sid, Values};
use crate::etl::Record;
use crate::filetime::{SECOND, timestamp};
use crate::paths::Devices;

mod arguments;

/// Executions that are remembered at most; beyond, the ones noted first are forgotten.
pub const EXECUTIONS_MAX: usize = 65_536;
/// Executions of one process id that are remembered at most.
const REUSED_MAX: usize = 8;
/// Texts longer than this are cut (a command line has 32,767 units at most).
const TEXT_MAX: usize = 32_768;
/// Bytes of all texts together; beyond, executions are forgotten.
const TEXTS_MAX: usize = 64 << 20;
/// Operations that the kernel completes for a process that has ended.
const AFTERMATH: u64 = 2 * SECOND;
/// Two events tell of the same start when they are no further apart.
const SAME_START: u64 = SECOND;
/// Ancestors that are told.
const ANCESTORS_MAX: usize = 8;

/// Names accounts. Only the system on which they are can.
pub trait Accounts {
    /// `DOMAIN\name` of a SID (`S-1-5-…`); `None`: not known, or not yet.
    fn name(&self, sid: &str) -> Option<String>;
}

/// Nobody can be asked, as for a recorded trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccounts;

impl Accounts for NoAccounts {
    fn name(&self, _: &str) -> Option<String> {
        None
    }
}

/// What the system tells of a process that runs: no event has the command line or the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub pid: u32,
    /// FILETIME.
    pub created: Option<u64>,
    /// The id of whoever started it.
    pub parent: Option<u32>,
    /// The path of its executable.
    pub executable: Option<String>,
    /// With what it was called.
    pub command_line: Option<String>,
    /// Whose it is.
    pub user: Option<UserId>,
    /// With which rights it runs.
    pub token: Token,
}

/// One execution.
#[derive(Clone, Debug, Default)]
struct Execution {
    pid: u32,
    /// Unique since boot, where it is known.
    sequence: Option<u64>,
    /// FILETIME; `None`: before the trace.
    start: Option<u64>,
    end: Option<u64>,
    parent: Option<u32>,
    parent_sequence: Option<u64>,
    session: Option<u32>,
    executable: Option<String>,
    name: Option<String>,
    command_line: Option<String>,
    /// Only its beginning is kept.
    is_cut: bool,
    user: Option<UserId>,
    token: Option<Token>,
}

impl Execution {
    /// With which arguments it was called. Those of the beginning of a command line would
    /// be others.
    fn arguments(&self) -> Option<Vec<String>> {
        self.command_line.as_deref().filter(|_| !self.is_cut).map(arguments::split)
    }

    fn weight(&self) -> usize {
        [&self.executable, &self.name, &self.command_line]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum()
    }

    fn entity_id(&self) -> Option<String> {
        match (self.sequence, self.start) {
            (Some(sequence), _) => Some(format!("{}-{sequence}", self.pid)),
            (None, Some(start)) => Some(format!("{}-{start:x}", self.pid)),
            (None, None) => None,
        }
    }

    /// Takes over what another event says of the same execution.
    fn merge(&mut self, other: Self) {
        fn fill<T>(to: &mut Option<T>, from: Option<T>) {
            if to.is_none() {
                *to = from;
            }
        }
        fill(&mut self.sequence, other.sequence);
        fill(&mut self.start, other.start);
        fill(&mut self.parent, other.parent);
        fill(&mut self.parent_sequence, other.parent_sequence);
        fill(&mut self.session, other.session);
        fill(&mut self.executable, other.executable);
        fill(&mut self.name, other.name);
        if self.command_line.is_none() {
            self.is_cut = other.is_cut;
        }
        fill(&mut self.command_line, other.command_line);
        fill(&mut self.user, other.user);
        match (&mut self.token, other.token) {
            (Some(token), Some(other)) => {
                fill(&mut token.integrity_level, other.integrity_level);
                fill(&mut token.elevated, other.elevated);
                fill(&mut token.elevation_type, other.elevation_type);
                fill(&mut token.session, other.session);
            }
            (token, other) => fill(token, other),
        }
    }
}

/// All executions that are known.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Vec<Execution>>,
    /// In the order in which they were noted.
    order: VecDeque<u32>,
    texts: usize,
    forgotten: u64,
}

impl Processes {
    /// Executions that were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes in what an event says of a process. The header of such an event names whoever started
    /// or ended it: the process is the one in the payload.
    pub fn take(&mut self, event: &Event<'_>, filetime: u64, devices: &Devices) {
        let values = &event.values;
        let Some(pid) = values.process_id else { return };
        match (event.provider, event.id) {
            (Provider::Process, 1) => {
                let start = values.create_time.or(Some(filetime));
                self.started(execution(pid, start, values, devices), filetime);
            }
            (Provider::Process, 15) => {
                self.started(execution(pid, values.create_time, values, devices), filetime);
            }
            (Provider::ClassicProcess, 1) => {
                self.started(execution(pid, Some(filetime), values, devices), filetime);
            }
            // What ran when the trace began, and when it ended.
            (Provider::ClassicProcess, 3 | 4) => {
                self.started(execution(pid, None, values, devices), filetime);
            }
            (Provider::Process | Provider::ClassicProcess, 2) => {
                self.ended(execution(pid, values.create_time, values, devices), filetime);
            }
            _ => {}
        }
    }

    /// Takes in what the system says of a process.
    pub fn seen(&mut self, seen: Seen, filetime: u64) {
        let last = |path: &str| path.rsplit('\\').next().map(str::to_owned);
        let (command_line, is_cut) = beginning(seen.command_line);
        let execution = Execution {
            pid: seen.pid,
            start: seen.created,
            parent: seen.parent,
            session: seen.token.session,
            name: seen.executable.as_deref().and_then(last),
            executable: seen.executable,
            command_line,
            is_cut,
            user: seen.user,
            token: (seen.token != Token::default()).then_some(seen.token),
            ..Execution::default()
        };
        self.started(execution, filetime);
    }

    /// The execution that an event tells of, if it is known already.
    fn known(&mut self, new: &Execution, at: u64) -> Option<&mut Execution> {
        let executions = self.by_pid.get_mut(&new.pid)?;
        executions.iter_mut().rev().find(|known| {
            let sequences = known.sequence.zip(new.sequence);
            let starts = known.start.zip(new.start);
            match (sequences, starts) {
                (Some((known, new)), _) => known == new,
                (None, Some((known, new))) => known.abs_diff(new) <= SAME_START,
                // One that ran before the trace, or still runs.
                (None, None) => known.end.is_none_or(|end| at <= end.saturating_add(SAME_START)),
            }
        })
    }

    fn started(&mut self, new: Execution, at: u64) {
        let weight = new.weight();
        if let Some(known) = self.known(&new, at) {
            let before = known.weight();
            known.merge(new);
            let after = known.weight();
            self.texts = self.texts + after - before;
            return;
        }
        let pid = new.pid;
        self.texts += weight;
        self.by_pid.entry(pid).or_default().push(new);
        self.order.push_back(pid);
        let reused = self.by_pid.get(&pid).is_some_and(|all| all.len() > REUSED_MAX);
        if reused {
            self.forget(pid);
            // Its place in the order is that of the oldest of this id.
            if let Some(place) = self.order.iter().position(|known| *known == pid) {
                self.order.remove(place);
            }
        }
        while self.order.len() > EXECUTIONS_MAX || self.texts > TEXTS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, pid: u32) {
        let Some(executions) = self.by_pid.get_mut(&pid) else { return };
        if !executions.is_empty() {
            self.texts -= executions.remove(0).weight().min(self.texts);
            self.forgotten += 1;
        }
        if executions.is_empty() {
            self.by_pid.remove(&pid);
        }
    }

    fn ended(&mut self, mut gone: Execution, at: u64) {
        if let Some(known) = self.known(&gone, at) {
            known.end.get_or_insert(at);
            return;
        }
        // It began before anybody looked.
        gone.end = Some(at);
        self.started(gone, at);
    }

    /// The execution with this id at this time. With a start key, no other one.
    fn find(&self, pid: u32, at: u64, start_key: Option<u64>) -> Option<&Execution> {
        // The boot id stands in the upper 16 bits of a start key.
        let sequence = start_key.map(|key| key & 0xffff_ffff_ffff);
        let executions = self.by_pid.get(&pid)?;
        if let Some(sequence) = sequence
            && let Some(exact) = executions.iter().rev().find(|known| {
                known.sequence.is_some_and(|known| known & 0xffff_ffff_ffff == sequence)
            })
        {
            return Some(exact);
        }
        let begun = |known: &&Execution| known.start.is_none_or(|start| start <= at);
        let found = executions.iter().rev().find(begun)?;
        let over = found.end.is_some_and(|end| at > end.saturating_add(AFTERMATH));
        let another = sequence.is_some() && found.sequence.is_some();
        (!over && !another).then_some(found)
    }

    /// Who wrote a record.
    pub fn actor(&self, who: &Who, accounts: &dyn Accounts) -> Actor {
        let mut actor = Actor::default();
        let mut unknown = |what: &str, why: &str| {
            actor.unknown.insert(what.to_owned(), why.to_owned());
        };
        let Some(pid) = who.pid else {
            unknown("process", "not_recorded");
            if who.sid.is_none() {
                unknown("user", "not_recorded");
            }
            actor.user = who.sid.as_deref().map(|sid| acting_user(sid, accounts)).map(Into::into);
            return actor;
        };
        let found = self.find(pid, who.filetime, who.start_key);
        let mut process = Process {
            pid,
            thread: who.tid.map(|id| Thread { id }),
            entity_id: who.start_key.map(|key| format!("{pid}-{}", key & 0xffff_ffff_ffff)),
            ..Process::default()
        };
        match found {
            Some(found) => {
                process.entity_id = found.entity_id().or(process.entity_id);
                process.start = found.start.map(timestamp);
                process.name.clone_from(&found.name);
                process.executable.clone_from(&found.executable);
                process.command_line.clone_from(&found.command_line);
                process.args = found.arguments();
                for (what, missing) in [
                    ("process.executable", found.executable.is_none()),
                    ("process.command_line", found.command_line.is_none()),
                    ("process.args", found.command_line.is_none()),
                ] {
                    if missing {
                        unknown(what, "not_recorded");
                    }
                }
                if found.is_cut {
                    unknown("process.command_line", "truncated");
                    unknown("process.args", "truncated");
                }
            }
            None => {
                let all = [
                    "process.executable",
                    "process.command_line",
                    "process.args",
                    "process.parent",
                ];
                for what in all {
                    unknown(what, "not_in_trace");
                }
            }
        }
        let owner = found.and_then(|found| found.user.clone());
        let acting = who.sid.as_deref().map(|sid| acting_user(sid, accounts));
        let user = match (owner, acting) {
            // A thread that acts for somebody else, as a server does for its client.
            (Some(owner), Some(acting)) if acting.id.as_deref() != Some(&owner.id) => {
                let effective = acting.id.map(|id| UserId { id, name: acting.name });
                Some(User { id: Some(owner.id), name: owner.name, effective, ..User::default() })
            }
            (_, Some(acting)) => Some(acting),
            (Some(owner), None) => {
                Some(User { id: Some(owner.id), name: owner.name, ..User::default() })
            }
            (None, None) => {
                actor.unknown.insert("user".to_owned(), "not_recorded".to_owned());
                None
            }
        };
        actor.user = user.map(Into::into);
        if let Some(found) = found {
            actor.token.clone_from(&found.token);
            process.parent = self.parent(found, who.filetime);
            actor.ancestors = self.ancestors(found, who.filetime).into();
        }
        actor.process = Some(process.into());
        actor
    }

    /// The execution that started another one: it ran then.
    fn parent_of(&self, child: &Execution, at: u64) -> Option<&Execution> {
        self.find(child.parent?, child.start.unwrap_or(at), child.parent_sequence)
    }

    fn parent(&self, child: &Execution, at: u64) -> Option<Box<Parent>> {
        let pid = child.parent?;
        let found = self.parent_of(child, at);
        Some(Box::new(Parent {
            pid,
            entity_id: found.and_then(Execution::entity_id),
            start: found.and_then(|found| found.start).map(timestamp),
            name: found.and_then(|found| found.name.clone()),
            executable: found.and_then(|found| found.executable.clone()),
            args: found.and_then(Execution::arguments),
            command_line: found.and_then(|found| found.command_line.clone()),
        }))
    }

    fn ancestors(&self, child: &Execution, at: u64) -> Vec<Ancestor> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        let mut child = child;
        while ancestors.len() < ANCESTORS_MAX
            && let Some(parent) = self.parent_of(child, at)
            // The idle process is its own parent.
            && parent.pid != child.pid
        {
            ancestors.push(Ancestor {
                pid: parent.pid,
                entity_id: parent.entity_id(),
                name: parent.name.clone(),
                executable: parent.executable.clone(),
                program: None,
            });
            child = parent;
        }
        ancestors
    }
}

/// Who wrote a record, as the record itself says it.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// Process; `None`: not said.
    pub pid: Option<u32>,
    /// Thread; `None`: not said.
    pub tid: Option<u32>,
    /// Start key of the process.
    pub start_key: Option<u64>,
    /// The user's SID.
    pub sid: Option<Arc<[u8]>>,
    /// When.
    pub filetime: u64,
}

impl Who {
    /// From a record.
    pub fn of(record: &Record<'_>) -> Self {
        Self {
            pid: record.pid,
            tid: record.tid,
            start_key: record.items.process_start_key(),
            // One that is none names nobody.
            sid: record.items.sid().filter(|sid| Sid::parse(sid).is_some()).map(Arc::from),
            filetime: record.filetime,
        }
    }
}

fn user_id(sid: Sid<'_>) -> UserId {
    UserId { id: sid.to_string(), name: sid.well_known().map(str::to_owned) }
}

/// The name of a `TOKEN_ELEVATION_TYPE`.
pub fn elevation_type(kind: u32) -> Option<&'static str> {
    Some(match kind {
        1 => "default",
        2 => "full",
        3 => "limited",
        _ => return None,
    })
}

fn acting_user(sid: &[u8], accounts: &dyn Accounts) -> User {
    let user = Sid::parse(sid).map(user_id).unwrap_or_default();
    let id = (!user.id.is_empty()).then_some(user.id);
    let name = user.name.or_else(|| accounts.name(id.as_deref()?));
    User { id, name, ..User::default() }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// What is kept of a command line, and whether that is its beginning only.
fn beginning(line: Option<String>) -> (Option<String>, bool) {
    let is_cut = line.as_ref().is_some_and(|line| line.len() > TEXT_MAX);
    (line.map(cut), is_cut)
}

fn execution(pid: u32, start: Option<u64>, values: &Values<'_>, devices: &Devices) -> Execution {
    let text = |text: String| (!text.is_empty()).then(|| cut(text));
    let image = values.image_name.and_then(|name| text(name.to_string()));
    let line = values.command_line.map(|line| line.to_string());
    let (command_line, is_cut) = beginning(line.filter(|line| !line.is_empty()));
    let short = values.short_name.and_then(|name| text(name.to_string()));
    let last = |path: &str| path.rsplit('\\').next().map(str::to_owned);
    let token = Token {
        integrity_level: values.mandatory_label.and_then(Sid::integrity_level).map(str::to_owned),
        elevated: values.is_elevated.map(|elevated| elevated != 0),
        elevation_type: values.elevation_type.and_then(elevation_type).map(str::to_owned),
        session: values.session_id,
    };
    Execution {
        pid,
        sequence: values.sequence_number,
        start,
        end: None,
        parent: values.parent_id,
        parent_sequence: values.parent_sequence_number,
        session: values.session_id,
        name: image.as_deref().and_then(last).or(short),
        executable: image.map(|image| devices.resolve(&image).unwrap_or(image)),
        command_line,
        is_cut,
        user: values.user_sid.map(user_id),
        token: (token != Token::default()).then_some(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_command_line_that_is_cut_there_are_no_arguments() {
        let told = |line: &str| {
            let mut processes = Processes::default();
            let line = Some(line.to_owned());
            processes.seen(Seen { pid: 7, command_line: line, ..Seen::default() }, 1);
            let who = Who { pid: Some(7), filetime: 2, ..Who::default() };
            processes.actor(&who, &NoAccounts)
        };
        let actor = told("tool.exe \"a b\"");
        let process = actor.process.unwrap();
        assert_eq!(process.args, Some(vec!["tool.exe".to_owned(), "a b".to_owned()]));
        assert!(!actor.unknown.contains_key("process.args"));
        let line = format!("tool.exe {}", "\u{20ac}".repeat(12_000));
        let actor = told(&line);
        let process = actor.process.unwrap();
        let beginning = process.command_line.as_deref().unwrap();
        assert!(line.starts_with(beginning) && beginning.len() > TEXT_MAX - 4);
        assert_eq!(process.args, None);
        for what in ["process.command_line", "process.args"] {
            assert_eq!(actor.unknown[what], "truncated");
        }
    }
}
