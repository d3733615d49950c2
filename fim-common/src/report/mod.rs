//! One self-contained HTML page for an auditor: period and coverage, what changed, by whom, what
//! was denied, the policy and the standards it serves, and whether the journal is whole.
//!
//! `journal -> facts (one pass) -> page`. What is counted has a bound whatever the journal holds,
//! and the page says what it leaves out.

use std::path::PathBuf;

use crate::config::Config;
use crate::event::Host;
use crate::journal::JournalError;
use crate::journal::query::{Filter, Search, search};
use crate::journal::verify::Verification;
use crate::time::Timestamp;

mod chart;
mod facts;
mod packages;
mod page;
mod sections;
mod standards;
#[cfg(test)]
mod tests;

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The journal's directory.
    pub journal: PathBuf,
    /// Where the period begins; `None`: with the journal.
    pub since: Option<Timestamp>,
    /// Where it ends; `None`: now.
    pub until: Option<Timestamp>,
    /// In force now.
    pub config: Config,
    /// Of the journal.
    pub verification: Verification,
    /// On which the report is made.
    pub host: Host,
    /// Of the agent that makes it.
    pub agent_version: String,
}

/// A report.
#[derive(Debug)]
pub struct Report {
    /// The page.
    pub html: String,
    /// Changes that it tells of.
    pub changes: u64,
    /// Alerts among them.
    pub alerts: u64,
}

/// Reads the journal and writes the page.
///
/// # Errors
/// When the journal cannot be read.
pub fn report(options: &Options) -> Result<Report, JournalError> {
    let now = Timestamp::now();
    let until = options.until.unwrap_or(now);
    let since = match options.since {
        Some(since) => since,
        None => first_time(options)?.unwrap_or(until),
    };
    let mut facts = facts::Facts::new(since, until.max(since));
    // Everything before tells whether an agent ran when the period began.
    let filter = Filter { until: Some(until), ..Filter::default() };
    search(&options.journal, &Search::new(filter), None, |line| {
        facts.line(line);
        Ok(true)
    })?;
    facts.finish(now);
    let html = page::page(options, &facts, now);
    Ok(Report { html, changes: facts.changes, alerts: facts.alerts })
}

fn first_time(options: &Options) -> Result<Option<Timestamp>, JournalError> {
    let mut first = None;
    search(&options.journal, &Search::new(Filter::default()), None, |line| {
        first = facts::time(line);
        Ok(first.is_none())
    })?;
    Ok(first)
}
