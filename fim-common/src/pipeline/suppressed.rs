//! What rules count instead of telling: bounded, and summed up in an event.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Pipeline;
use crate::event::{Event, Expectation, Expected, Suppress, Suppressed, SuppressedProcess};
use crate::ledger::Stage;
use crate::policy::{Expect, Standing};

/// Paths named of each entry.
const PATHS: usize = 32;
/// Processes named of each entry.
const PROCESSES: usize = 16;

/// What an event says of its standing.
pub(super) fn said(standing: &Standing<'_>) -> (Option<Box<Expectation>>, Option<Suppress>) {
    let expectation =
        |by, met, window, allowed| Some(Box::new(Expectation { by, met, window, allowed }));
    match standing {
        Standing::Plain => (None, None),
        Standing::Allowed(condition) => {
            let allowed = condition.reason.clone().unwrap_or_else(|| condition.describe());
            let allowed = Some(allowed);
            (expectation(Expected::Allow, true, None, allowed), None)
        }
        Standing::InMaintenance(window) => {
            let window = Some(window.name.clone());
            (expectation(Expected::Maintenance, true, window, None), None)
        }
        Standing::Unexpected(Expect::Never) => {
            (expectation(Expected::Never, false, None, None), None)
        }
        Standing::Unexpected(Expect::Maintenance) => {
            (expectation(Expected::Maintenance, false, None, None), None)
        }
        Standing::Suppressed(condition) => {
            let (what, reason) = (condition.describe(), condition.reason.clone());
            (None, Some(Suppress { condition: what, reason }))
        }
    }
}

/// What was suppressed since the last summary.
pub(super) struct Suppression {
    interval: Duration,
    /// When the next summary is due; `None`: there is nothing to tell.
    due: Option<Instant>,
    /// By rule and condition: no more than the policy has.
    entries: HashMap<(String, String), Suppressed>,
}

impl Default for Suppression {
    fn default() -> Self {
        Self { interval: Duration::from_secs(3600), due: None, entries: HashMap::new() }
    }
}

impl Suppression {
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
        let latest = Instant::now() + interval;
        self.due = self.due.map(|due| due.min(latest));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Counts the event.
    fn count(&mut self, suppress: &Suppress, event: &Event) {
        let rule = event.rule.as_ref().map(|rule| rule.name.to_string()).unwrap_or_default();
        let key = (rule, suppress.condition.clone());
        let entry = self.entries.entry(key).or_insert_with_key(|(rule, condition)| Suppressed {
            rule: rule.clone(),
            condition: condition.clone(),
            reason: suppress.reason.clone(),
            count: 0,
            first: event.timestamp,
            last: event.timestamp,
            paths: Vec::new(),
            elsewhere: 0,
            processes: Vec::new(),
        });
        entry.count += 1;
        entry.first = entry.first.min(event.timestamp);
        entry.last = entry.last.max(event.timestamp);
        if let Some(file) = &event.file
            && !entry.paths.contains(&file.path)
        {
            match entry.paths.len() < PATHS {
                true => entry.paths.push(file.path.clone()),
                false => entry.elsewhere += 1,
            }
        }
        let process = event.process.as_ref();
        let executable = process.and_then(|process| process.executable.clone());
        let executable = executable.or_else(|| process.and_then(|process| process.name.clone()));
        let effective = event.user.as_ref().and_then(|user| user.effective.as_ref());
        let user = effective.map(|user| user.name.as_ref().unwrap_or(&user.id).clone());
        let same = |known: &SuppressedProcess| known.executable == executable && known.user == user;
        match entry.processes.iter().position(same) {
            Some(index) => entry.processes[index].count += 1,
            None if entry.processes.len() < PROCESSES => {
                entry.processes.push(SuppressedProcess { executable, user, count: 1 });
            }
            None => {}
        }
        self.due.get_or_insert_with(|| Instant::now() + self.interval);
    }
}

impl Pipeline {
    /// Tells an event about `count` operations, or counts it where its rule says so.
    pub(super) fn tell(&mut self, mut event: Box<Event>, count: u64) {
        match event.fim.suppress.take() {
            None => {
                self.ledger.add(Stage::Told, count);
                self.judge_then_tell(event);
            }
            Some(suppress) => {
                self.ledger.add(Stage::Suppressed, count);
                self.output.metrics().dropped("policy", "suppressed", 1);
                self.suppression.count(&suppress, &event);
            }
        }
    }

    /// How often what was suppressed is summed up.
    pub fn sum_up_every(&mut self, interval: Duration) {
        self.suppression.set_interval(interval);
    }

    /// Sums up what was suppressed, if anything was.
    pub(super) fn tell_suppressed(&mut self) {
        self.suppression.due = None;
        let entries = std::mem::take(&mut self.suppression.entries);
        if entries.is_empty() {
            return;
        }
        let mut entries: Vec<Suppressed> = entries.into_values().collect();
        entries.sort_by(|a, b| (&a.rule, &a.condition).cmp(&(&b.rule, &b.condition)));
        self.output.suppressed(entries);
    }
}
