//! The agent looks after its own programs, links and maps: what somebody detached or changed is told,
//! put right, and what happened meanwhile is compared with the disk.
//!
//! Whoever may do that (root) may do more: this makes it show. The canary stays the judge of whether
//! operations are seen, whatever the reason.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fim_common::collector::Gap;
use fim_common::time::Timestamp;

use super::links::Links;
use super::loader::{ProgramStatus, Programs};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// And at most this part of the time: full maps take some 50 ms to read.
const SHARE: u32 = 200;
/// But never later than this, however slow the machine is: what is detached sees nothing meanwhile.
const LATEST: Duration = Duration::from_secs(10);
/// 0: the kernel calls none of the programs on functions. (From 5.19 or so on; an older one refuses
/// to write it while they are attached.)
const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
/// What a gap calls changed maps.
const MAPS: &str = "maps";
/// What a gap calls programs that the kernel was told not to call.
const FTRACE_HOOK: &str = "ftrace";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// To be told, each an event.
    pub(super) messages: Vec<String>,
    /// Operations that were not seen.
    pub(super) gap: Option<Gap>,
    /// What stays wrong.
    pub(super) problems: Vec<String>,
}

/// Looks after them.
pub(super) struct Guard {
    ftrace: PathBuf,
    /// Everything was right then.
    good: Timestamp,
    next: Instant,
    /// Told, and not over yet.
    switched_off: bool,
    unreadable: bool,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            ftrace: FTRACE.into(),
            good: Timestamp::now(),
            next: Instant::now(),
            switched_off: false,
            unreadable: false,
        }
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, programs: &mut Programs, links: &Links) -> Option<Findings> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let now = Timestamp::now();
        let mut findings = Findings::default();
        let mut hooks = Vec::new();
        for index in programs.attach_again() {
            let Some(status) = programs.status().get(index) else { continue };
            findings.messages.push(detached(status));
            hooks.push(status.hook.name());
        }
        for status in programs.status() {
            if let (true, Some(failure)) = (status.was_armed, &status.failure) {
                findings.problems.push(format!("{} is not attached: {failure}", status.target));
            }
        }
        self.look_at_ftrace(&mut findings, &mut hooks);
        match put_back(programs, links) {
            Ok(changed) if changed.is_empty() => self.unreadable = false,
            Ok(changed) => {
                self.unreadable = false;
                findings.messages.push(format!(
                    "somebody has changed what the agent's programs go by in the kernel (maps {}); \
                     it is as it was again",
                    changed.join(", ")
                ));
                hooks.push(MAPS);
            }
            Err(error) => {
                let problem = format!("the agent's maps cannot be looked at: {error}");
                if !std::mem::replace(&mut self.unreadable, true) {
                    findings.messages.push(problem.clone());
                }
                findings.problems.push(problem);
            }
        }
        hooks.dedup();
        if !hooks.is_empty() {
            let hooks = hooks.into_iter().map(str::to_owned).collect();
            let to = Timestamp::now();
            findings.gap = Some(Gap { from: self.good, to, count: None, hooks, scope: vec![] });
        }
        if findings.problems.is_empty() {
            self.good = now;
        }
        self.next = Instant::now() + EVERY.max(began.elapsed() * SHARE).min(LATEST);
        Some(findings)
    }

    fn look_at_ftrace(&mut self, findings: &mut Findings, hooks: &mut Vec<&'static str>) {
        // A kernel without it has no such switch.
        let off = std::fs::read(&self.ftrace).is_ok_and(|text| text.trim_ascii() == b"0");
        if off {
            let problem = "the kernel was told to call no programs (kernel.ftrace_enabled is 0): \
                           nothing is seen until it is 1 again";
            if !self.switched_off {
                findings.messages.push(problem.to_owned());
            }
            findings.problems.push(problem.to_owned());
        } else if self.switched_off {
            tracing::info!("the kernel calls the programs again");
            hooks.push(FTRACE_HOOK);
        }
        self.switched_off = off;
    }
}

fn detached(status: &ProgramStatus) -> String {
    let what = format!("somebody has detached the agent's program from {}", status.target);
    match &status.failure {
        None => format!("{what}; it is attached again"),
        Some(reason) => format!(
            "{what}, and it cannot be attached again ({reason}): {}; restart the agent",
            status.loss
        ),
    }
}

fn put_back(programs: &mut Programs, links: &Links) -> Result<Vec<&'static str>, String> {
    let mut changed = programs.put_back().map_err(|error| error.to_string())?;
    for object in links.objects() {
        if !programs.is_linked(object) {
            programs.set_linked(object).map_err(|error| error.to_string())?;
            changed.push("LINKED");
        }
    }
    changed.dedup();
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_off_is_told_once_and_is_a_gap_when_it_is_on_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut guard = Guard { ftrace: directory.path().join("ftrace_enabled"), ..Guard::new() };
        let mut look = |value: Option<&str>| {
            if let Some(value) = value {
                std::fs::write(directory.path().join("ftrace_enabled"), value).unwrap();
            }
            let (mut findings, mut hooks) = (Findings::default(), Vec::new());
            guard.look_at_ftrace(&mut findings, &mut hooks);
            (findings.messages.len(), findings.problems.len(), hooks)
        };
        assert_eq!(look(None), (0, 0, vec![]), "no such switch");
        assert_eq!(look(Some("1\n")), (0, 0, vec![]));
        assert_eq!(look(Some("0\n")), (1, 1, vec![]));
        assert_eq!(look(None), (0, 1, vec![]), "told once, wrong all the time");
        assert_eq!(look(Some("1\n")), (0, 0, vec![FTRACE_HOOK]));
        assert_eq!(look(None), (0, 0, vec![]));
    }
}
