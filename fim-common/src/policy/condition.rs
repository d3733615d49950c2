//! Who and what a part of a rule is about: the entries of `only`, `allow` and `suppress`.

use std::path::{Path, PathBuf};

use super::pattern::Pattern;
use super::rule::Operations;
use crate::event::Action;
use crate::event::actor::{Actor, UserId};

/// What an operation has to be like. Everything that is said has to hold; of a list, one element.
/// What is not known of an operation does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The object.
    pub paths: Vec<Pattern>,
    /// What is done to it; `None`: anything.
    pub operations: Option<Operations>,
    /// The process's executable.
    pub executables: Vec<Pattern>,
    /// The process's name, exactly: the last component of its executable, or what the kernel
    /// calls it where that is not known.
    pub process_names: Vec<String>,
    /// The executable of the process's parent or of one further up.
    pub ancestors: Vec<Pattern>,
    /// The user whose rights the process used (the effective one), by name or id.
    pub users: Vec<String>,
    /// The user who logged in, by name or id.
    pub login_users: Vec<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

impl Condition {
    /// Whether it says nothing of the operation.
    pub fn is_empty(&self) -> bool {
        let Self {
            paths,
            operations,
            executables,
            process_names,
            ancestors,
            users,
            login_users,
            reason: _,
        } = self;
        paths.is_empty()
            && operations.is_none()
            && executables.is_empty()
            && process_names.is_empty()
            && ancestors.is_empty()
            && users.is_empty()
            && login_users.is_empty()
    }

    /// Whether an operation by `actor` on the object at the canonical `path` fulfils it.
    pub fn holds(&self, path: &Path, action: Action, actor: &Actor) -> bool {
        self.operations.is_none_or(|operations| operations.contains(action))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
            && self.holds_of_process(actor)
            && self.holds_of_user(actor)
    }

    fn holds_of_process(&self, actor: &Actor) -> bool {
        let process = actor.process.as_ref();
        let matches = |patterns: &[Pattern], path: &str| {
            patterns.iter().any(|pattern| pattern.matches(Path::new(path)))
        };
        // A container's paths are its own: `/usr/bin/puppet` there is whatever its image says.
        let executable = |patterns: &[Pattern], path: Option<&String>| {
            actor.container.is_none() && path.is_some_and(|path| matches(patterns, path))
        };
        let name = process.and_then(|process| process.name.as_ref());
        (self.executables.is_empty()
            || executable(&self.executables, process.and_then(|p| p.executable.as_ref())))
            && (self.process_names.is_empty()
                || name.is_some_and(|name| self.process_names.contains(name)))
            && (self.ancestors.is_empty()
                || actor
                    .ancestors
                    .iter()
                    .any(|ancestor| executable(&self.ancestors, ancestor.executable.as_ref())))
    }

    fn holds_of_user(&self, actor: &Actor) -> bool {
        let is_one = |users: &[String], user: Option<&UserId>| {
            user.is_some_and(|user| {
                users.contains(&user.id)
                    || user.name.as_ref().is_some_and(|name| users.contains(name))
            })
        };
        let user = actor.user.as_ref();
        (self.users.is_empty()
            || is_one(&self.users, user.and_then(|user| user.effective.as_ref())))
            && (self.login_users.is_empty()
                || is_one(&self.login_users, user.and_then(|user| user.audit.as_ref())))
    }

    /// The same for canonical paths; see [`super::Policy::resolved`].
    pub(super) fn resolved(&self, canonicalize: &dyn Fn(&Path) -> PathBuf) -> Self {
        let resolve = |patterns: &[Pattern]| -> Vec<Pattern> {
            patterns.iter().flat_map(|pattern| pattern.resolved(canonicalize)).collect()
        };
        Self {
            paths: resolve(&self.paths),
            executables: resolve(&self.executables),
            ancestors: resolve(&self.ancestors),
            ..self.clone()
        }
    }

    /// It in words, for people.
    pub fn describe(&self) -> String {
        let sources = |patterns: &[Pattern]| {
            let mut sources: Vec<String> =
                patterns.iter().map(|pattern| pattern.source().to_owned()).collect();
            sources.dedup();
            sources
        };
        let parts = [
            ("paths", sources(&self.paths)),
            (
                "operations",
                self.operations
                    .into_iter()
                    .flat_map(|operations| {
                        operations.iter().map(|a| a.as_str().to_owned()).collect::<Vec<_>>()
                    })
                    .collect(),
            ),
            ("executable", sources(&self.executables)),
            ("process_name", self.process_names.clone()),
            ("ancestor", sources(&self.ancestors)),
            ("user", self.users.clone()),
            ("login_user", self.login_users.clone()),
        ];
        parts
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(key, values)| format!("{key} {}", values.join(" or ")))
            .collect::<Vec<_>>()
            .join(", ")
    }
}
