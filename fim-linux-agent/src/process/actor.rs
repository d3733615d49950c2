//! From a description to the actor of an event.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use fim_common::event::actor as event;
use fim_common::record::ID_UNSET;
use sha2::{Digest, Sha256};

use super::clock::Boot;
use super::description::{Credentials, Description, Key};
use super::procfs::TICK;
use super::users::Names;

/// `process.entity_id`: 128 bits of a SHA-256 over boot, process and execution.
///
/// The start counts in ticks, so that the same execution has the same id whether the kernel or
/// `/proc` described it. `/proc` does not number executions: there the executable stands in for
/// the number, and two executions of the same program by one process share an id.
pub(super) fn entity_id(boot_id: &str, key: Key, unnumbered: Option<&Description>) -> EntityId {
    let mut hash = Sha256::new();
    hash.update(boot_id.as_bytes());
    hash.update(key.tgid.to_le_bytes());
    hash.update((key.start / TICK).to_le_bytes());
    match unnumbered {
        None => hash.update(key.exec_id.to_le_bytes()),
        Some(description) => {
            hash.update(b"exe\0");
            if let Some(exe) = &description.exe {
                hash.update(exe.as_os_str().as_encoded_bytes());
            }
        }
    }
    let digest = hash.finalize();
    EntityId(std::array::from_fn(|at| digest[at]))
}

/// What [`entity_id`] returns; its text is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityId([u8; 16]);

impl std::fmt::Display for EntityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl EntityId {
    /// Whether this is its text.
    pub(super) fn is(self, text: &str) -> bool {
        text.len() == 32 && u128::from_str_radix(text, 16) == Ok(u128::from_be_bytes(self.0))
    }
}

/// What an actor is made of.
pub(super) struct Parts<'a> {
    pub(super) description: &'a Description,
    pub(super) entity_id: EntityId,
    pub(super) credentials: &'a Credentials,
    pub(super) tid: Option<u32>,
    pub(super) container: (Option<event::Container>, Option<event::Kubernetes>),
    /// The described ancestors, nearest first; `None` where one is known by its name only.
    pub(super) ancestors: Vec<Line<'a>>,
    pub(super) names: &'a Names,
    pub(super) boot: &'a Boot,
}

/// One ancestor.
pub(super) struct Line<'a> {
    pub(super) key: Key,
    pub(super) comm: &'a OsStr,
    pub(super) entity_id: EntityId,
    pub(super) description: Option<&'a Description>,
}

pub(super) fn build(parts: Parts<'_>) -> event::Actor {
    let description = parts.description;
    let mut unknown = BTreeMap::new();
    if description.exe.is_none() {
        let reason = if description.kernel_thread {
            "kernel_thread"
        } else if description.args_state == super::ArgsState::Exited {
            "exited"
        } else {
            "unreadable"
        };
        unknown.insert("process.executable".to_owned(), reason.to_owned());
    } else if description.exe_deleted {
        // The path is the last name it had; there may be another file under it by now.
        unknown.insert("process.executable".to_owned(), "deleted".to_owned());
    }
    if let Some(reason) = description.args_state.reason() {
        unknown.insert("process.args".to_owned(), reason.to_owned());
    }
    let process = event::Process {
        pid: description.key.tgid,
        thread: parts.tid.map(|id| event::Thread { id }),
        entity_id: Some(parts.entity_id.to_string()),
        start: Some(parts.boot.to_wall(description.key.start)),
        name: name(description),
        executable: description.exe.as_deref().map(path_text),
        args: description.args.as_deref().map(args_text),
        command_line: description.args.as_deref().map(command_line),
        working_directory: description.cwd.as_deref().map(path_text),
        tty: description.tty.map(|tty| event::Tty {
            char_device: event::CharDevice { major: tty.major, minor: tty.minor },
        }),
        parent: parts.ancestors.first().map(|line| Box::new(parent(line, parts.boot))),
        program: description.program,
    };
    event::Actor {
        process: Some(process.into()),
        user: Some(user(parts.credentials, parts.names).into()),
        container: parts.container.0,
        kubernetes: parts.container.1,
        token: None,
        ancestors: parts.ancestors.iter().map(ancestor).collect::<Vec<_>>().into(),
        unknown,
    }
}

/// An actor of which the process is known by id only.
pub(super) fn bare(pid: u32, reason: &str) -> event::Actor {
    let process = (pid != 0).then(|| event::Process { pid, ..event::Process::default() });
    let mut unknown = BTreeMap::new();
    for field in ["process", "user"] {
        unknown.insert(field.to_owned(), reason.to_owned());
    }
    let process = process.map(Into::into);
    event::Actor { process, unknown, ..event::Actor::default() }
}

/// The real user, with the others below it. An unset login uid is absent, never a user.
pub(super) fn user(credentials: &Credentials, names: &Names) -> event::User {
    let id =
        |uid: u32| event::UserId { id: uid.to_string(), name: names.user(uid).map(str::to_owned) };
    event::User {
        id: Some(credentials.uid.to_string()),
        name: names.user(credentials.uid).map(str::to_owned),
        group: Some(event::Group {
            id: credentials.gid.to_string(),
            name: names.group(credentials.gid).map(str::to_owned),
        }),
        effective: Some(id(credentials.euid)),
        filesystem: Some(id(credentials.fsuid)),
        audit: (credentials.loginuid != ID_UNSET).then(|| id(credentials.loginuid)),
    }
}

fn parent(line: &Line<'_>, boot: &Boot) -> event::Parent {
    let described = line.description;
    event::Parent {
        pid: line.key.tgid,
        entity_id: Some(line.entity_id.to_string()),
        start: Some(boot.to_wall(line.key.start)),
        name: described.and_then(name).or_else(|| text(line.comm)),
        executable: described.and_then(|d| d.exe.as_deref()).map(path_text),
        args: described.and_then(|d| d.args.as_deref()).map(args_text),
        command_line: described.and_then(|d| d.args.as_deref()).map(command_line),
    }
}

fn ancestor(line: &Line<'_>) -> event::Ancestor {
    let described = line.description;
    event::Ancestor {
        pid: line.key.tgid,
        entity_id: Some(line.entity_id.to_string()),
        name: described.and_then(name).or_else(|| text(line.comm)),
        executable: described.and_then(|d| d.exe.as_deref()).map(path_text),
        program: described.and_then(|d| d.program),
    }
}

/// The executable's name; the kernel's own where there is none.
fn name(description: &Description) -> Option<String> {
    match description.exe.as_deref().and_then(Path::file_name) {
        Some(name) => text(name),
        None => text(&description.comm),
    }
}

fn text(name: &OsStr) -> Option<String> {
    (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn args_text(args: &[OsString]) -> Vec<String> {
    args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

fn command_line(args: &[OsString]) -> String {
    args_text(args).join(" ")
}
