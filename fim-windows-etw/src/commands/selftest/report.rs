//! What the self-test says.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fim_common::event::{Action, Event, Host};
use fim_common::time::Timestamp;
use serde::Serialize;

use super::steps::Step;
use crate::commands::exit;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) time: Timestamp,
    pub(super) host: Host,
    /// What the agent said of how it collects.
    pub(super) collector: String,
    /// There was no ETW session: nobody is named.
    pub(super) is_degraded: bool,
    pub(super) program: Program,
    /// `agent_stopped` was the last event.
    pub(super) ended_in_order: bool,
    pub(super) findings: Vec<Finding>,
}

/// Who did it all.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) pid: u32,
    pub(super) executable: PathBuf,
    /// SID.
    pub(super) user: String,
}

/// What came of one step.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    step: &'static str,
    path: String,
    expected: Vec<&'static str>,
    #[serde(flatten)]
    pub(super) done: Done,
    pub(super) seen: Seen,
    /// What is missing or wrong of who did it; empty also where nothing was seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_attributed: Vec<&'static str>,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<Event>>,
}

/// Whether the program could do it.
#[derive(Debug, Serialize)]
#[serde(tag = "done")]
pub(super) enum Done {
    /// It did.
    #[serde(rename = "yes")]
    Yes,
    /// This system does not let it; that says nothing of the agent.
    #[serde(rename = "no")]
    No { error: String },
}

/// Whether the agent told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seen {
    Yes,
    No,
    /// Without ETW nothing can be known of it.
    CannotBe,
}

impl Finding {
    pub(super) fn new(step: &Step, path: String) -> Self {
        Self {
            step: step.name,
            path,
            expected: step.expected.iter().map(|action| action.as_str()).collect(),
            done: Done::Yes,
            seen: Seen::No,
            not_attributed: Vec::new(),
            event: None,
        }
    }

    /// Takes what was told of it, and compares whom it names with who it was.
    pub(super) fn take(&mut self, event: &Event, pid: u32, executable: &Path, user: &str) {
        self.seen = Seen::Yes;
        let process = event.process.as_ref();
        let named = event.user.as_ref();
        let is_program = process
            .and_then(|process| process.executable.as_deref())
            .is_some_and(|told| told.eq_ignore_ascii_case(&executable.to_string_lossy()));
        let effective = named
            .and_then(|user| user.effective.as_ref().map(|user| &user.id).or(user.id.as_ref()));
        let has_line = process
            .and_then(|process| process.command_line.as_ref())
            .is_some_and(|line| line.contains("selftest-actor"));
        self.not_attributed = [
            ("process.pid", process.is_some_and(|process| process.pid == pid)),
            ("process.executable", is_program),
            ("process.command_line", has_line),
            ("user.id", effective.is_some_and(|told| told == user)),
            ("user.name", named.is_some_and(|user| user.name.is_some())),
        ]
        .into_iter()
        .filter(|(_, is_right)| !is_right)
        .map(|(field, _)| field)
        .collect();
        self.event = Some(Box::new(event.clone()));
    }

    fn was_done(&self) -> bool {
        matches!(self.done, Done::Yes)
    }

    fn told(&self) -> Option<Action> {
        self.event.as_ref().map(|event| event.event.action)
    }
}

impl Report {
    fn count(&self, is_it: impl Fn(&Finding) -> bool) -> usize {
        self.findings.iter().filter(|finding| finding.was_done() && is_it(finding)).count()
    }

    /// As [`super::selftest`] says.
    pub(super) fn code(&self) -> u8 {
        let unseen = self.count(|finding| finding.seen == Seen::No);
        let unnamed = self.count(|finding| !finding.not_attributed.is_empty());
        match (unseen, self.is_degraded, unnamed) {
            _ if !self.ended_in_order => exit::FAILURE,
            (0, true, _) => exit::UNAVAILABLE,
            (0, false, 0) => exit::OK,
            _ => exit::FAILURE,
        }
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }

    /// As a table.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.collector)?;
        if self.is_degraded {
            writeln!(out, "There is no ETW session: nobody is named, and not all can be seen.")?;
        }
        writeln!(out, "\n{:<28} {:<22} who", "what was done", "seen as")?;
        for finding in &self.findings {
            let (seen, who) = match (&finding.done, finding.seen, finding.told()) {
                (Done::No { error }, ..) => (format!("not done: {error}"), String::new()),
                (Done::Yes, Seen::CannotBe, _) => ("cannot be, without ETW".into(), String::new()),
                (Done::Yes, _, Some(action)) => (action.as_str().to_owned(), finding.who()),
                (Done::Yes, ..) => ("NOT SEEN".to_owned(), String::new()),
            };
            writeln!(out, "{:<28} {seen:<22} {who}", finding.step)?;
        }
        let done = self.count(|_| true);
        let seen = self.count(|finding| finding.seen == Seen::Yes);
        let named =
            self.count(|finding| finding.seen == Seen::Yes && finding.not_attributed.is_empty());
        writeln!(out, "\n{done} done, {seen} seen, {named} attributed in full")?;
        if !self.ended_in_order {
            writeln!(out, "the agent did not end in order")?;
        }
        Ok(out.flush()?)
    }
}

impl Finding {
    fn who(&self) -> String {
        let Some(event) = &self.event else { return String::new() };
        let process = event.process.as_ref();
        if process.is_none() && event.user.is_none() {
            return "nobody is named".to_owned();
        }
        match self.not_attributed.as_slice() {
            [] => {
                let name = process.and_then(|process| process.name.as_deref()).unwrap_or("?");
                let user = event.user.as_ref().and_then(|user| user.name.as_deref());
                format!("{name} by {}", user.unwrap_or("?"))
            }
            wrong => format!("missing or wrong: {}", wrong.join(", ")),
        }
    }
}
