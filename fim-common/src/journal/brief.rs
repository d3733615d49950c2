//! As much of an event as it takes to find it.

use base64::Engine as _;
use serde::Deserialize;

use crate::event::{Action, Kind};

/// The part of an event that filters look at. Times are compared as the line has them.
#[derive(Debug, Deserialize)]
pub(super) struct Brief {
    /// `event.*`.
    pub(super) event: Meta,
    /// `rule.*`.
    #[serde(default)]
    pub(super) rule: Named,
    /// `file.*`.
    #[serde(default)]
    pub(super) file: Path,
    /// `process.*`.
    #[serde(default)]
    pub(super) process: Process,
    /// `user.*`.
    #[serde(default)]
    pub(super) user: User,
    /// `fim.*`.
    pub(super) fim: Fim,
}

/// `event.*`.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    /// What was done.
    pub(super) action: Action,
    /// Event, alert, or the agent's own.
    pub(super) kind: Kind,
}

/// An object with a name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    /// The name.
    pub(super) name: Option<String>,
}

/// An object with a path.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Path {
    /// The path.
    pub(super) path: Option<String>,
}

/// `process.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    /// Its name.
    pub(super) name: Option<String>,
    /// Its executable.
    pub(super) executable: Option<String>,
}

/// `user.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    /// Real user.
    #[serde(flatten)]
    pub(super) real: UserId,
    /// Effective user.
    pub(super) effective: UserId,
    /// Login user.
    pub(super) audit: UserId,
}

/// A user.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserId {
    /// Its number.
    pub(super) id: Option<String>,
    /// Its name.
    pub(super) name: Option<String>,
}

/// `fim.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fim {
    /// Exact bytes of `file.path`.
    pub path_b64: Option<String>,
    /// The name that is not watched.
    pub(super) link_path: Option<String>,
    /// The state before.
    pub(super) before: Path,
}

impl Brief {
    /// Every path that it is about, as bytes.
    pub(super) fn paths(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let exact = self.fim.path_b64.as_ref().and_then(decode);
        let path = exact.or_else(|| self.file.path.clone().map(String::into_bytes));
        let others = [&self.fim.before.path, &self.fim.link_path].into_iter().flatten();
        path.into_iter().chain(others.map(|path| path.clone().into_bytes()))
    }

    /// Names and numbers of every user that it is about.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        let User { real, effective, audit } = &self.user;
        let ids = [real, effective, audit].into_iter().flat_map(|user| [&user.id, &user.name]);
        ids.flatten().map(String::as_str)
    }

    /// Name, executable and the executable's last component.
    pub(super) fn process_names(&self) -> impl Iterator<Item = &str> {
        let executable = self.process.executable.as_deref();
        let last = executable.and_then(|path| path.rsplit('/').next());
        [self.process.name.as_deref(), executable, last].into_iter().flatten()
    }
}
