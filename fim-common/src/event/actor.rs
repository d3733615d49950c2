//! Who: the process, its user and its container, in the words of ECS.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::packages::programs::Program;
use crate::time::Timestamp;

/// Who did an operation, as it was at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The process; `None` when nothing is known of it, not even its id.
    pub process: Option<Shared<Process>>,
    /// Its user.
    pub user: Option<Shared<User>>,
    /// Its container.
    pub container: Option<Container>,
    /// Its pod.
    pub kubernetes: Option<Kubernetes>,
    /// The rights with which it runs.
    pub token: Option<Token>,
    /// Its ancestors, nearest first.
    pub ancestors: Shared<Vec<Ancestor>>,
    /// What of the above is not known, and why, as `fim.unknown` has it.
    pub unknown: BTreeMap<String, String>,
}

impl Actor {
    /// Nobody was seen doing it.
    pub fn unobserved() -> Self {
        let mut actor = Self::default();
        for what in ["process", "user"] {
            actor.unknown.insert(what.to_owned(), "not_observed".to_owned());
        }
        actor
    }
}

/// `process.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id, on the host.
    pub pid: u32,
    /// Thread.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thread: Option<Thread>,
    /// Unique to this execution, across reboots and reuse of process ids.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// When the process was started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<Timestamp>,
    /// Name of the executable, or the kernel's `comm`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// Arguments, the program's name first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub args: Option<Vec<String>>,
    /// The arguments, joined by blanks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_line: Option<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub working_directory: Option<String>,
    /// Controlling terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tty: Option<Tty>,
    /// Parent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Box<Parent>>,
    /// The program of the host that it runs, if that is one whose changes can be expected.
    #[serde(skip)]
    pub program: Option<&'static Program>,
}

/// `fim.token`: the rights with which a process runs on Windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// `low`, `medium`, `medium_plus`, `high`, `system` …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub integrity_level: Option<String>,
    /// Whether it runs with elevated rights.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elevated: Option<bool>,
    /// `default`, `full` or `limited`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elevation_type: Option<String>,
    /// Terminal services session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<u32>,
}

/// `process.thread.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Thread id, on the host.
    pub id: u32,
}

/// `process.tty.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tty {
    /// The terminal device.
    pub char_device: CharDevice,
}

/// `process.tty.char_device.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CharDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// `process.parent.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// Process id.
    pub pid: u32,
    /// Unique to that execution.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<Timestamp>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub args: Option<Vec<String>>,
    /// The arguments, joined by blanks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_line: Option<String>,
}

/// One element of `fim.ancestors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Unique to that execution.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// As of the process.
    #[serde(skip)]
    pub program: Option<&'static Program>,
}

/// `user.*`: the real user, with the others below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Real user id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Real group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<Group>,
    /// Effective user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effective: Option<UserId>,
    /// The user that file system checks use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filesystem: Option<UserId>,
    /// The user who logged in; absent when the login uid is unset, as for a daemon.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit: Option<UserId>,
}

/// A user by id and, where the id has one, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserId {
    /// User id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// `user.group.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Group id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// `container.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Full id, as the runtime has it.
    pub id: String,
    /// `docker`, `containerd`, `cri-o`, `podman`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runtime: Option<String>,
    /// In Kubernetes its name in the pod; else the one that Docker gave it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// `kubernetes.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kubernetes {
    /// Pod.
    pub pod: Pod,
    /// The namespace of the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
}

/// `kubernetes.pod.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// Unique id of the pod.
    pub uid: String,
    /// Its name in its namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}
