//! A resolved operation: what a collector saw, in terms of the host. It becomes (part of) an
//! event; see [`crate::event::Event`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Provider, RegistryData, actor::Actor};
use crate::state::{ObjectId, ObjectState};
use crate::time::Timestamp;

/// One operation on one object.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When the kernel saw it.
    pub time: Timestamp,
    /// Which collector saw it.
    pub provider: Provider,
    /// What was done.
    pub kind: OperationKind,
    /// Canonical path on the host, after the operation; `None` when the object has no name.
    pub path: Option<PathBuf>,
    /// The path as the process saw it, where that differs.
    pub path_in_process: Option<PathBuf>,
    /// The object operated on.
    pub object: Option<ObjectId>,
    /// What the kernel said of the object before the operation; only what it said is filled.
    pub before: ObjectState,
    /// And after it.
    pub after: ObjectState,
    /// `None`: it was done; else it was attempted and failed.
    pub failure: Option<Failure>,
    /// Who did it.
    pub actor: Arc<Actor>,
    /// What only some collectors know.
    pub details: Option<Box<Details>>,
}

/// What only some collectors know of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The path as the kernel has it, where [`Operation::path`] is another one.
    pub original_path: Option<String>,
    /// Bytes written.
    pub bytes: Option<u64>,
    /// What is not known of the operation, and why, as `fim.unknown` has it.
    pub unknown: BTreeMap<String, String>,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// errno(3); on Windows the NTSTATUS, which is negative where it is an error.
    pub errno: i32,
    /// Attempts of the same process that were not told before this one: a process that fails in a
    /// loop is told a limited number of times a second.
    pub folded: u64,
    /// Only `folded` is news: this attempt itself was told before.
    pub summary: bool,
}

/// What was done. Common facts are fields of [`Operation`]; a variant has only what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// A file, directory, link, device, FIFO or socket came to be.
    Create,
    /// A regular file was opened for writing.
    OpenWrite {
        /// With `O_TRUNC`.
        truncate: bool,
    },
    /// Content was changed.
    Modify,
    /// A description open for writing was released.
    CloseWrite {
        /// Descriptions still open for writing; `None` when the collector cannot tell.
        writers: Option<u32>,
        /// Whether content was changed through it, as far as is known.
        modified: Modified,
    },
    /// The size was set.
    Truncate,
    /// Mode, owner or times were set, or something the collector cannot tell apart from that.
    SetAttributes,
    /// The flags of `chattr` were set.
    SetFlags,
    /// A file open for writing was mapped, shared: its content may change at any time, without a
    /// trace, until the description is released, which is when the mapping ends.
    Map,
    /// An extended attribute or ACL was set.
    SetXattr {
        /// Its full name, `user.x`.
        name: String,
    },
    /// An extended attribute or ACL was removed.
    RemoveXattr {
        /// Its full name.
        name: String,
    },
    /// The object got another name in place of an earlier one.
    Rename {
        /// The name it had; `None` when it is not known (it came from outside the watched trees).
        from: Option<PathBuf>,
        /// The earlier name was in scope.
        from_in_scope: bool,
        /// The new name (the operation's path) is in scope.
        to_in_scope: bool,
        /// The object that stood at the new name before and is gone.
        replaced: Option<ObjectId>,
        /// The two objects exchanged their names: a second operation tells of the other one.
        exchange: bool,
    },
    /// The object got an additional name.
    Link {
        /// The name it has already, where it is known.
        existing: Option<PathBuf>,
        /// It had no name before (`O_TMPFILE`): this is a creation.
        first: bool,
        /// The new name, where it is not the operation's path: it lies where nothing is watched,
        /// and the path is that of a watched file.
        elsewhere: Option<PathBuf>,
    },
    /// A file system, or a part of one, was mounted at the path.
    Mount,
    /// What was mounted at the path no longer is.
    Unmount,
    /// A name was removed: of a file, link, device, FIFO, socket or directory.
    Delete,
    /// The security descriptor was set: owner, group, access or audit rules.
    SetSecurity,
    /// NTFS extended attributes were set.
    SetEa,
    /// What was done through one handle is complete: what follows on the same path is another
    /// change, and told by itself.
    EndGroup,
    /// Something was done to a registry key or value; the operation's path is that of the key and,
    /// behind it, the value.
    Registry(Box<RegistryOperation>),
}

/// What was done to a registry key or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOperation {
    /// What.
    pub action: RegistryAction,
    /// `HKLM`, `HKU`; `None`: not known, or of no hive that has a name.
    pub hive: Option<String>,
    /// The key below the hive.
    pub key: String,
    /// The value; empty is the key's default value, `None`: it is about the key.
    pub value: Option<String>,
    /// The data that was set, as far as it is known.
    pub data: Option<RegistryData>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The data before, as far as it is known.
    pub previous: Option<RegistryData>,
    /// Its size in bytes.
    pub previous_size: Option<u64>,
    /// SHA-256 of the data, where all of it is known; 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The same of the data before.
    pub previous_sha256: Option<String>,
    /// The key's security descriptor in SDDL, where it was set.
    pub security: Option<String>,
    /// The one before.
    pub previous_security: Option<String>,
    /// Other paths of the same object, by which a rule may mean it.
    pub aliases: Vec<PathBuf>,
}

impl RegistryOperation {
    /// Other paths of the key: an alias is one of the value, if it is about one.
    pub fn key_aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().filter_map(|alias| {
            let alias = alias.to_str()?;
            match &self.value {
                Some(value) if !value.is_empty() => {
                    alias.strip_suffix(&**value)?.strip_suffix('\\')
                }
                _ => Some(alias),
            }
        })
    }
}

/// Kinds of registry operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryAction {
    /// A key came to be.
    CreateKey,
    /// A key is gone, with its values.
    DeleteKey,
    /// A value was set.
    SetValue,
    /// A value is gone.
    DeleteValue,
    /// The security descriptor of a key was set.
    SetSecurity,
    /// Times or flags of a key were set.
    SetInformation,
}

impl RegistryAction {
    /// The name of this operation in `fim.operations`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateKey => "create_key",
            Self::DeleteKey => "delete_key",
            Self::SetValue => "set_value",
            Self::DeleteValue => "delete_value",
            Self::SetSecurity => "set_key_security",
            Self::SetInformation => "set_key_information",
        }
    }
}

/// What is known about a change of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modified {
    /// It was changed.
    Yes,
    /// It was not.
    No,
    /// Only a comparison can tell.
    Unknown,
}

impl OperationKind {
    /// The name of this operation in `fim.operations`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::OpenWrite { .. } => "open_write",
            Self::Modify => "modify",
            Self::CloseWrite { .. } => "close_write",
            Self::Truncate => "truncate",
            Self::SetAttributes => "set_attributes",
            Self::SetFlags => "set_flags",
            Self::Map => "map",
            Self::SetXattr { .. } => "set_xattr",
            Self::RemoveXattr { .. } => "remove_xattr",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Mount => "mount",
            Self::Unmount => "unmount",
            Self::Delete => "delete",
            Self::SetSecurity => "set_security",
            Self::SetEa => "set_ea",
            Self::EndGroup => "end_group",
            Self::Registry(registry) => registry.action.name(),
        }
    }
}
