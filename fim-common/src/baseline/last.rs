//! Who changed an object last, as far as an event told: kept beside its state.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use std::path::Path;

use super::{Baseline, BaselineError, row};
use crate::event::actor::{Process, User, UserId};
use crate::event::{Action, Event, Provider, Shared};
use crate::time::Timestamp;

/// The last event that changed what the baseline has of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastChange {
    /// `@timestamp` of the event.
    #[serde(rename = "@timestamp")]
    pub time: Timestamp,
    /// `event.id`.
    #[serde(rename = "event.id")]
    pub event_id: String,
    /// `event.action`.
    #[serde(rename = "event.action")]
    pub action: Action,
    /// `event.provider`: with [`Provider::Scan`] nobody was seen doing it.
    #[serde(rename = "event.provider")]
    pub provider: Provider,
    /// `process.pid`.
    #[serde(rename = "process.pid", skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// `process.name`.
    #[serde(rename = "process.name", skip_serializing_if = "Option::is_none", default)]
    pub process: Option<String>,
    /// `process.executable`.
    #[serde(rename = "process.executable", skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// `user`: the real user.
    #[serde(rename = "user", skip_serializing_if = "Option::is_none", default)]
    pub user: Option<UserId>,
    /// `user.audit`: who logged in.
    #[serde(rename = "user.audit", skip_serializing_if = "Option::is_none", default)]
    pub login: Option<UserId>,
}

/// A [`LastChange`] as the event has it: most are replaced before anybody asks for their text.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    time: Timestamp,
    event_id: String,
    action: Action,
    provider: Provider,
    process: Option<Shared<Process>>,
    user: Option<Shared<User>>,
}

impl Told {
    /// What an event about an object says; `None` for another one.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(Self {
            time: event.timestamp,
            event_id: event.event.id.clone(),
            action: event.event.action,
            provider: event.event.provider?,
            process: event.process.clone(),
            user: event.user.clone(),
        })
    }
}

impl From<Told> for LastChange {
    fn from(told: Told) -> Self {
        let Told { time, event_id, action, provider, process, user } = told;
        Self {
            time,
            event_id,
            action,
            provider,
            pid: process.as_ref().map(|process| process.pid),
            process: process.as_ref().and_then(|process| process.name.clone()),
            executable: process.as_ref().and_then(|process| process.executable.clone()),
            user: user
                .as_ref()
                .and_then(|user| Some(UserId { id: user.id.clone()?, name: user.name.clone() })),
            login: user.and_then(|user| user.audit.clone()),
        }
    }
}

impl LastChange {
    /// What an event about an object says; `None` for another one.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Told::of(event).map(Into::into)
    }
}

impl Baseline {
    /// Who changed what is known of a path last; `None` where no event told.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn last_change(&self, path: &Path) -> Result<Option<LastChange>, BaselineError> {
        let text = self.read(|connection| text(connection, path))?;
        // What a later version wrote otherwise is not known to this one.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Notes who changed what is known of a path last.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_last_change(&self, path: &Path, last: &LastChange) -> Result<(), BaselineError> {
        let text = json(last);
        // Not a write that a scan has to know of: the state is as it was.
        self.write(1, &[], |connection| {
            let (dir, name) = row::split(path);
            connection
                .prepare_cached("UPDATE objects SET last_change = ?3 WHERE dir = ?1 AND name = ?2")?
                .execute(params![dir, name, text])?;
            Ok(())
        })
    }
}

/// A struct of texts and numbers cannot fail to be written.
pub(super) fn json(last: &LastChange) -> Option<String> {
    serde_json::to_string(last).ok()
}

pub(super) fn text(connection: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    let (dir, name) = row::split(path);
    let found = connection
        .prepare_cached("SELECT last_change FROM objects WHERE dir = ?1 AND name = ?2")?
        .query_row(params![dir, name], |row| row.get::<_, Option<String>>(0))
        .optional()?;
    Ok(found.flatten())
}
