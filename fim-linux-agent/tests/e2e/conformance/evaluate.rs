//! What came, against what was to come.

use std::collections::HashSet;
use std::panic;

use super::trial::{Stop, Trial};
use crate::agent::Agent;
use crate::event::Event;

/// The grade of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// Everything that was to come, with everything right in it, and nothing else.
    Exact,
    /// Something came, but not all or not right, or something else came as well.
    Partial,
    /// Nothing of what was to come.
    Missed,
    /// There is no such operation on this kernel and file system.
    NotApplicable,
    /// The operation itself went wrong: nothing can be said.
    Broken,
}

impl Grade {
    /// As the results have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Missed => "missed",
            Self::NotApplicable => "n/a",
            Self::Broken => "broken",
        }
    }
}

/// A case on a file system, graded.
pub(super) struct Cell {
    pub(super) fs: &'static str,
    pub(super) op: &'static str,
    pub(super) grade: Grade,
    /// Why it is not exact.
    pub(super) detail: String,
}

/// Grades a trial by all events of its agent.
pub(super) fn cell(trial: &Trial, agent: &Agent) -> Cell {
    let (grade, detail) = grade(trial, agent);
    Cell { fs: trial.fs, op: trial.case.name, grade, detail }
}

fn grade(trial: &Trial, agent: &Agent) -> (Grade, String) {
    if let Some(reason) = &trial.broken {
        return (Grade::Broken, reason.clone());
    }
    match &trial.stopped {
        Some(Stop::NotApplicable(reason)) => return (Grade::NotApplicable, reason.clone()),
        Some(Stop::Hindered(errno)) => {
            return (Grade::Partial, format!("the agent makes an operation fail: {errno}"));
        }
        None => {}
    }
    let mut events = events(trial, agent);
    let mut faults = Vec::new();
    let mut found = 0;
    // The checks that fail are results here, and no news for standard error.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    for expected in &trial.expected {
        match expected.take(&mut events) {
            Some(wrong) => {
                found += 1;
                faults.extend(wrong.iter().map(|fault| format!("{}: {fault}", expected.text())));
            }
            None => faults.push(format!("no {}", expected.text())),
        }
    }
    panic::set_hook(hook);
    faults.extend(events.iter().map(|event| format!("also {}", brief(event))));
    let grade = match (faults.is_empty(), found, trial.expected.is_empty()) {
        (true, ..) => Grade::Exact,
        (false, 0, false) => Grade::Missed,
        (false, ..) => Grade::Partial,
    };
    (grade, faults.join("; "))
}

/// Everything that was told of the trial's directories, inside and outside.
fn events(trial: &Trial, agent: &Agent) -> Vec<Event> {
    let trees = [&trial.place.inside, &trial.place.outside];
    let mut seen = HashSet::new();
    let lines = trees.iter().flat_map(|tree| agent.stream.lines_below(tree));
    let events = lines.map(|line| line.event());
    let mut events: Vec<Event> =
        events.filter(|event| seen.insert(event.id().to_owned())).collect();
    events.sort_by_key(|event| event.number("event.sequence"));
    events
}

fn brief(event: &Event) -> String {
    let name = event.path().rsplit('/').next().unwrap_or_default();
    let errno = event.text("fim.errno").map(|errno| format!(" ({errno})")).unwrap_or_default();
    let provider = event.text("event.provider").unwrap_or_default();
    format!("{} {name}{errno} {:?} by {provider}", event.action(), event.list("fim.changes"))
}
