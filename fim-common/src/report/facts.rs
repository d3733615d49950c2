//! What a report counts, in one pass over the journal.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use serde::Deserialize;

use crate::event::{Action, Agent, Event, Gap, Host, Kind, Outcome};
use crate::time::Timestamp;

/// Parts of the period that are counted for themselves.
pub(super) const PARTS: usize = 60;
/// Alerts and attempts that are shown in full.
pub(super) const ALERTS: usize = 150;
pub(super) const ATTEMPTS: usize = 100;
/// Gaps, starts and the like that are listed.
pub(super) const LISTED: usize = 200;
/// Names of one kind that are counted for themselves; those that come later are counted together.
const NAMES: usize = 50_000;

/// Counts in each part of the period.
pub(super) type Parts = [u32; PARTS];

/// Classes of severity, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub(super) const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub(super) fn of(severity: Option<u8>) -> Self {
        match severity.unwrap_or_default() {
            90.. => Self::Critical,
            70..=89 => Self::High,
            40..=69 => Self::Medium,
            _ => Self::Low,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    pub(super) fn range(self) -> &'static str {
        match self {
            Self::Low => "0–39",
            Self::Medium => "40–69",
            Self::High => "70–89",
            Self::Critical => "90–100",
        }
    }
}

/// How often something was, and when.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) alerts: u64,
    pub(super) parts: Parts,
}

/// Names with their tallies.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    names: HashMap<String, Tally>,
    /// Of the names that came when there were too many.
    pub(super) others: u64,
}

impl Tallies {
    fn add(&mut self, name: &str, part: usize, is_alert: bool) {
        if !self.names.contains_key(name) && self.names.len() >= NAMES {
            self.others += 1;
            return;
        }
        let fresh = || Tally { count: 0, alerts: 0, parts: [0; PARTS] };
        // Most are known: no copy of the name for those.
        let tally = match self.names.get_mut(name) {
            Some(tally) => tally,
            None => self.names.entry(name.to_owned()).or_insert_with(fresh),
        };
        tally.count += 1;
        tally.alerts += u64::from(is_alert);
        if let Some(slot) = tally.parts.get_mut(part) {
            *slot += 1;
        }
    }

    /// How many different names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// How often this one was.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.names.get(name).map_or(0, |tally| tally.count)
    }

    /// The most frequent.
    pub(super) fn top(&self, count: usize) -> Vec<(&str, &Tally)> {
        let mut all: Vec<_> =
            self.names.iter().map(|(name, tally)| (name.as_str(), tally)).collect();
        all.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
        all.truncate(count);
        all
    }
}

/// One start of the agent.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) from: Timestamp,
    /// Its last event.
    pub(super) to: Timestamp,
    pub(super) version: String,
    pub(super) message: String,
    /// It said that it stops.
    pub(super) is_stopped: bool,
    pub(super) lost: u64,
    id: String,
}

/// A gap, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) gap: Gap,
    /// When what it covers had been compared with the disk.
    pub(super) closed: Option<Timestamp>,
}

/// Something that the agent said of itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) at: Timestamp,
    pub(super) action: Action,
    pub(super) text: String,
}

/// All that is counted.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// Events of any kind.
    pub(super) events: u64,
    pub(super) changes: u64,
    pub(super) alerts: u64,
    pub(super) attempts: u64,
    /// Found by comparison: nobody saw who did it.
    pub(super) scanned: u64,
    pub(super) unreadable: u64,
    pub(super) severities: [(u64, Parts); 4],
    pub(super) actions: BTreeMap<&'static str, u64>,
    pub(super) directories: Tallies,
    pub(super) processes: Tallies,
    pub(super) users: Tallies,
    pub(super) rules: Tallies,
    pub(super) tags: BTreeMap<String, u64>,
    pub(super) starts: Vec<Start>,
    /// Starts before those that are kept.
    pub(super) starts_left_out: u64,
    pub(super) losses: Vec<Loss>,
    pub(super) losses_left_out: u64,
    pub(super) operations_lost: u64,
    pub(super) said: Vec<Said>,
    pub(super) said_left_out: u64,
    pub(super) canary_missed: u64,
    pub(super) heartbeats: u64,
    /// The most severe alerts, and of those the latest; in order of time.
    pub(super) worst: Vec<Event>,
    pub(super) denied: Vec<Event>,
    /// Runs of package managers, the first ones.
    pub(super) runs: Vec<Event>,
    pub(super) runs_left_out: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) host: Option<Host>,
    pub(super) agent: Option<Agent>,
    alert_heap: BinaryHeap<Kept>,
    denied_heap: BinaryHeap<Kept>,
}

/// A line that is shown in full unless better ones come: the worst is on top of the heap.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    rank: (u8, Timestamp),
    line: Vec<u8>,
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.rank.cmp(&self.rank)
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// As much of an event as is counted.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    event: Meta,
    #[serde(default)]
    rule: Named,
    #[serde(default)]
    tags: Vec<String>,
    file: Option<File>,
    #[serde(default)]
    process: Named,
    #[serde(default)]
    user: User,
    agent: Agent,
    fim: Fim,
}

#[derive(Deserialize)]
struct Meta {
    action: Action,
    kind: Kind,
    outcome: Outcome,
    severity: Option<u8>,
    provider: Option<crate::event::Provider>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    id: Option<String>,
    name: Option<String>,
    effective: Named,
    audit: Named,
}

#[derive(Deserialize)]
struct File {
    path: String,
}

#[derive(Deserialize)]
struct Fim {
    gap: Option<Gap>,
    message: Option<String>,
    errno: Option<String>,
    journal: Option<crate::event::Journal>,
}

#[derive(Deserialize)]
struct Timed {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
}

/// When a line's event was.
pub(super) fn time(line: &[u8]) -> Option<Timestamp> {
    serde_json::from_slice::<Timed>(line).ok().map(|timed| timed.timestamp)
}

impl Facts {
    pub(super) fn new(since: Timestamp, until: Timestamp) -> Self {
        Self {
            since,
            until,
            events: 0,
            changes: 0,
            alerts: 0,
            attempts: 0,
            scanned: 0,
            unreadable: 0,
            severities: [(0, [0; PARTS]); 4],
            actions: BTreeMap::new(),
            directories: Tallies::default(),
            processes: Tallies::default(),
            users: Tallies::default(),
            rules: Tallies::default(),
            tags: BTreeMap::new(),
            starts: Vec::new(),
            starts_left_out: 0,
            losses: Vec::new(),
            losses_left_out: 0,
            operations_lost: 0,
            said: Vec::new(),
            said_left_out: 0,
            canary_missed: 0,
            heartbeats: 0,
            worst: Vec::new(),
            denied: Vec::new(),
            runs: Vec::new(),
            runs_left_out: 0,
            errors: BTreeMap::new(),
            host: None,
            agent: None,
            alert_heap: BinaryHeap::new(),
            denied_heap: BinaryHeap::new(),
        }
    }

    /// Which part of the period a time is in.
    fn part(&self, at: Timestamp) -> usize {
        let whole = self.until.since(self.since).max(1);
        let part = at.since(self.since).max(0) * PARTS as i128 / whole;
        usize::try_from(part).unwrap_or(0).min(PARTS - 1)
    }

    pub(super) fn line(&mut self, bytes: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
            self.unreadable += 1;
            return;
        };
        let is_inside = line.timestamp >= self.since;
        self.start(&line);
        if !is_inside {
            return;
        }
        self.events += 1;
        if line.file.is_none() {
            return self.own(&line, bytes);
        }
        let part = self.part(line.timestamp);
        let is_alert = line.event.kind == Kind::Alert;
        let rank = (line.event.severity.unwrap_or_default(), line.timestamp);
        if line.event.outcome == Outcome::Failure {
            self.attempts += 1;
            *self.errors.entry(line.fim.errno.unwrap_or_else(|| "?".to_owned())).or_default() += 1;
            keep(&mut self.denied_heap, ATTEMPTS, rank, bytes);
        } else {
            self.changes += 1;
            *self.actions.entry(line.event.action.as_str()).or_default() += 1;
            if line.event.provider == Some(crate::event::Provider::Scan) {
                self.scanned += 1;
            }
            let severity = Severity::of(line.event.severity) as usize;
            if let Some((count, parts)) = self.severities.get_mut(severity) {
                *count += 1;
                if let Some(slot) = parts.get_mut(part) {
                    *slot += 1;
                }
            }
        }
        if is_alert {
            self.alerts += 1;
            if line.event.outcome == Outcome::Success {
                keep(&mut self.alert_heap, ALERTS, rank, bytes);
            }
        }
        if let Some(File { path }) = &line.file {
            let directory = match path.rsplit_once('/') {
                Some(("", _)) | None => "/",
                Some((directory, _)) => directory,
            };
            self.directories.add(directory, part, is_alert);
        }
        let process = line.process.name.as_deref().unwrap_or("not known");
        self.processes.add(process, part, is_alert);
        self.users.add(&user(&line.user), part, is_alert);
        self.rules.add(line.rule.name.as_deref().unwrap_or("none"), part, is_alert);
        for tag in &line.tags {
            if let Some(count) = self.tags.get_mut(tag) {
                *count += 1;
            } else if self.tags.len() < 1000 {
                self.tags.insert(tag.clone(), 1);
            }
        }
    }

    /// Whether and how long the agent ran.
    fn start(&mut self, line: &Line) {
        let known = self.starts.iter_mut().rev().find(|start| start.id == line.agent.ephemeral_id);
        // Of an object an event may be of before the start.
        let at = line.timestamp;
        let start = match known {
            Some(start) => start,
            // Of a command, beside which no agent runs.
            None if matches!(
                line.event.action,
                Action::BaselineAccepted | Action::BaselineCreated
            ) =>
            {
                return;
            }
            None => {
                if self.starts.len() >= LISTED {
                    self.starts.remove(0);
                    self.starts_left_out += 1;
                }
                self.starts.push(Start {
                    from: at,
                    to: at,
                    version: line.agent.version.clone(),
                    message: String::new(),
                    is_stopped: false,
                    lost: 0,
                    id: line.agent.ephemeral_id.clone(),
                });
                let Some(start) = self.starts.last_mut() else { return };
                start
            }
        };
        start.to = start.to.max(at);
        match line.event.action {
            Action::AgentStarted => {
                start.from = at;
                start.message = line.fim.message.clone().unwrap_or_default();
            }
            Action::AgentStopped => start.is_stopped = true,
            Action::Gap => {
                start.lost += line.fim.gap.as_ref().and_then(|gap| gap.count).unwrap_or_default();
            }
            _ => {}
        }
    }

    /// One of the agent's own events.
    fn own(&mut self, line: &Line, bytes: &[u8]) {
        match line.event.action {
            Action::AgentStarted | Action::AgentStopped => {
                if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
                    self.host = Some((*event.host).clone());
                    self.agent = Some((*event.agent).clone());
                }
            }
            Action::Heartbeat => self.heartbeats += 1,
            Action::Gap => {
                let Some(gap) = line.fim.gap.clone() else { return };
                self.operations_lost += gap.count.unwrap_or_default();
                match self.losses.len() < LISTED {
                    true => self.losses.push(Loss { gap, closed: None }),
                    false => self.losses_left_out += 1,
                }
            }
            Action::GapClosed => {
                for loss in self.losses.iter_mut().filter(|loss| loss.closed.is_none()) {
                    loss.closed = Some(line.timestamp);
                }
            }
            Action::PackageRun => match serde_json::from_slice::<Event>(bytes) {
                Ok(run) if self.runs.len() < LISTED => self.runs.push(run),
                _ => self.runs_left_out += 1,
            },
            action => {
                self.canary_missed += u64::from(action == Action::CanaryMissed);
                if self.said.len() >= LISTED {
                    self.said_left_out += 1;
                    return;
                }
                let removed = line.fim.journal.as_ref().map(|journal| {
                    let reason = journal.reason.as_deref().unwrap_or("?");
                    let entries =
                        journal.entries.map_or("?".to_owned(), |entries| entries.to_string());
                    format!("segment {} ({entries} events) was removed: {reason}", journal.segment)
                });
                let text = line.fim.message.clone().or(removed).unwrap_or_default();
                self.said.push(Said { at: line.timestamp, action, text });
            }
        }
    }

    pub(super) fn finish(&mut self, now: Timestamp) {
        self.starts.retain(|start| start.to >= self.since || start.from >= self.since);
        // The last one may be quiet, and running: nothing is said of after its last event.
        self.until = self.until.min(now.max(self.since));
        self.worst = events(std::mem::take(&mut self.alert_heap));
        self.denied = events(std::mem::take(&mut self.denied_heap));
        if let Some(event) = self.worst.last().filter(|_| self.host.is_none()) {
            self.host = Some((*event.host).clone());
            self.agent = Some((*event.agent).clone());
        }
    }

    /// When an agent is known to have run, within the period, in order.
    pub(super) fn up(&self) -> Vec<(Timestamp, Timestamp)> {
        let mut all: Vec<(Timestamp, Timestamp)> = Vec::new();
        for start in &self.starts {
            let (from, to) = (start.from.max(self.since), start.to.min(self.until));
            match all.last_mut() {
                _ if to < from => {}
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => all.push((from, to)),
            }
        }
        all
    }
}

fn keep(heap: &mut BinaryHeap<Kept>, limit: usize, rank: (u8, Timestamp), line: &[u8]) {
    if heap.len() < limit {
        heap.push(Kept { rank, line: line.to_vec() });
    } else if heap.peek().is_some_and(|worst| worst.rank < rank) {
        heap.pop();
        heap.push(Kept { rank, line: line.to_vec() });
    }
}

fn events(heap: BinaryHeap<Kept>) -> Vec<Event> {
    let lines = heap.into_vec();
    let mut events: Vec<Event> =
        lines.iter().filter_map(|kept| serde_json::from_slice(&kept.line).ok()).collect();
    events.sort_by_key(|event| event.timestamp);
    events
}

/// Who logged in, and as whom they acted, where that differs.
fn user(user: &User) -> String {
    let text = |name: &Option<String>, id: &Option<String>| name.clone().or_else(|| id.clone());
    let effective = text(&user.effective.name, &user.effective.id);
    let acts = effective.or_else(|| text(&user.name, &user.id));
    let login = text(&user.audit.name, &user.audit.id);
    match (login, acts) {
        (Some(login), Some(acts)) if login != acts => format!("{login} as {acts}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => "not known".to_owned(),
    }
}
