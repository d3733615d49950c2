//! As much of an event as it takes to find it.

use std::borrow::Cow;
use std::ops::Deref;

use base64::Engine as _;
use serde::Deserialize;

use crate::event::{Action, Event, Kind, actor};

/// The part of an event that filters look at. Times are compared as the line has them.
#[derive(Debug, Deserialize)]
pub(super) struct Brief<'l> {
    /// `event.*`.
    pub(super) event: Meta,
    /// `rule.*`.
    #[serde(borrow, default)]
    pub(super) rule: Named<'l>,
    /// `file.*`.
    #[serde(borrow, default)]
    pub(super) file: Path<'l>,
    /// `registry.*`.
    #[serde(borrow, default)]
    pub(super) registry: Path<'l>,
    /// `process.*`.
    #[serde(borrow, default)]
    pub(super) process: Process<'l>,
    /// `user.*`.
    #[serde(borrow, default)]
    pub(super) user: User<'l>,
    /// `fim.*`.
    #[serde(borrow)]
    pub(super) fim: Fim<'l>,
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
pub(super) struct Named<'l> {
    /// The name.
    #[serde(borrow)]
    pub(super) name: Option<Text<'l>>,
}

/// An object with a path.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Path<'l> {
    /// The path.
    #[serde(borrow)]
    pub(super) path: Option<Text<'l>>,
}

/// `process.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process<'l> {
    /// Its name.
    #[serde(borrow)]
    pub(super) name: Option<Text<'l>>,
    /// Its executable.
    #[serde(borrow)]
    pub(super) executable: Option<Text<'l>>,
}

/// `user.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User<'l> {
    /// Number of the real user.
    #[serde(borrow)]
    id: Option<Text<'l>>,
    /// Its name.
    #[serde(borrow)]
    name: Option<Text<'l>>,
    /// Effective user.
    #[serde(borrow)]
    effective: UserId<'l>,
    /// Login user.
    #[serde(borrow)]
    audit: UserId<'l>,
}

/// A user.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserId<'l> {
    /// Its number.
    #[serde(borrow)]
    pub(super) id: Option<Text<'l>>,
    /// Its name.
    #[serde(borrow)]
    pub(super) name: Option<Text<'l>>,
}

/// `fim.*`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fim<'l> {
    /// Exact bytes of `file.path`.
    #[serde(borrow)]
    pub path_b64: Option<Text<'l>>,
    /// The name that is not watched.
    #[serde(borrow)]
    pub(super) link_path: Option<Text<'l>>,
    /// The state before.
    #[serde(borrow)]
    pub(super) before: Path<'l>,
}

/// Text as the line has it, unless it is written with escapes: most of an event is not copied.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'l> Text<'l> {
    fn of(text: &'l str) -> Self {
        Self(Cow::Borrowed(text))
    }

    fn some(text: Option<&'l String>) -> Option<Self> {
        text.map(|text| Self::of(text))
    }
}

impl<'l> Brief<'l> {
    /// Of an event: what its line says.
    pub(super) fn of(event: &'l Event) -> Self {
        let user = event.user.as_deref();
        let id = |user: Option<&'l actor::UserId>| UserId {
            id: user.map(|user| Text::of(&user.id)),
            name: Text::some(user.and_then(|user| user.name.as_ref())),
        };
        let process = event.process.as_deref();
        Self {
            event: Meta { action: event.event.action, kind: event.event.kind },
            rule: Named { name: event.rule.as_ref().map(|rule| Text::of(&rule.name)) },
            file: Path { path: event.file.as_ref().map(|file| Text::of(&file.path)) },
            registry: Path { path: event.registry.as_ref().map(|key| Text::of(&key.path)) },
            process: Process {
                name: Text::some(process.and_then(|process| process.name.as_ref())),
                executable: Text::some(process.and_then(|process| process.executable.as_ref())),
            },
            user: User {
                id: Text::some(user.and_then(|user| user.id.as_ref())),
                name: Text::some(user.and_then(|user| user.name.as_ref())),
                effective: id(user.and_then(|user| user.effective.as_ref())),
                audit: id(user.and_then(|user| user.audit.as_ref())),
            },
            fim: Fim {
                path_b64: Text::some(event.fim.path_b64.as_ref()),
                link_path: Text::some(event.fim.link_path.as_ref()),
                before: Path {
                    path: Text::some(event.fim.before.as_ref().and_then(|side| side.path.as_ref())),
                },
            },
        }
    }
}

impl Brief<'_> {
    /// Every path that it is about, as bytes.
    pub(super) fn paths(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let decode =
            |text: &Text<'_>| base64::engine::general_purpose::STANDARD.decode(&**text).ok();
        let exact = self.fim.path_b64.as_ref().and_then(decode);
        let path = match exact {
            Some(exact) => Some(Cow::Owned(exact)),
            None => self.file.path.as_ref().map(|path| Cow::Borrowed(path.as_bytes())),
        };
        let others = [&self.fim.before.path, &self.fim.link_path, &self.registry.path];
        let others = others.into_iter().flatten();
        path.into_iter().chain(others.map(|path| Cow::Borrowed(path.as_bytes())))
    }

    /// Names and numbers of every user that it is about.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        let User { id, name, effective, audit } = &self.user;
        let ids = [id, name, &effective.id, &effective.name, &audit.id, &audit.name];
        ids.into_iter().flatten().map(Deref::deref)
    }

    /// Name, executable and the executable's last component.
    pub(super) fn process_names(&self) -> impl Iterator<Item = &str> {
        let executable = self.process.executable.as_deref();
        let last = executable.and_then(|path| path.rsplit('/').next());
        [self.process.name.as_deref(), executable, last].into_iter().flatten()
    }
}
