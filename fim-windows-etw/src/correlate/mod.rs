//! From events to operations.
//!
//! An event names a file or key by the address of a kernel object, and says what was asked for. Here
//! the addresses become paths ([`files`], [`registry`]), requests and their outcomes come together,
//! and each operation gets its process and user ([`crate::process`]).
//!
//! Memory is bounded: each map has a limit and counts what it forgets ([`Counts`]).

use std::path::PathBuf;
use std::sync::Arc;

use fim_common::event::Provider as EventProvider;
use fim_common::operation::{Details, Failure, Operation, OperationKind};
use fim_common::state::{ObjectKind, ObjectState};
use serde::Serialize;

mod bounded;
mod completion;
mod files;
mod names;
mod registry;

#[cfg(windows)]
pub(crate) use registry::registry_data;

use crate::decode::{Event, Provider};
use crate::etl::Record;
use crate::filetime::timestamp;
use crate::paths::{Devices, LongNames, may_be_short};
use crate::process::{Accounts, Processes, Seen, Who};

/// Open files, files and open keys that are remembered at most, each.
pub const OBJECTS_MAX: usize = 262_144;
/// Bytes that the names in each of these maps may take.
pub const MAP_BYTES: usize = 64 << 20;
/// Requests whose outcome is waited for at most.
pub const REQUESTS_MAX: usize = 65_536;
/// Paths of which is remembered at most what was told last.
pub const RECENT_MAX: usize = 65_536;
/// Renames and links under way, deletions that wait for the handle to be closed, at most, each.
pub const UNDER_WAY_MAX: usize = 4_096;

/// What is wanted. What is not is followed all the same, since names come from it, but costs less.
pub trait Scope {
    /// Whether a file is, by the path that people use.
    fn file(&self, path: &str) -> bool;
    /// Whether a key is, or a value of it.
    fn key(&self, key: &str, value: Option<&str>) -> bool;
}

/// Everything is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Scope for Everything {
    fn file(&self, _: &str) -> bool {
        true
    }

    fn key(&self, _: &str, _: Option<&str>) -> bool {
        true
    }
}

/// What the correlator is told of its source.
pub struct Options {
    /// Which device is which drive.
    pub devices: Devices,
    /// Expands short names.
    pub long_names: Box<dyn LongNames>,
    /// Names accounts.
    pub accounts: Box<dyn Accounts>,
    /// Of what operations are made.
    pub scope: Box<dyn Scope>,
    /// The outcome of each request is recorded (event 24): nothing is told before it. Else a
    /// request counts as done, except for opening a file, which proves nothing.
    pub outcomes: bool,
}

/// What the correlator could not do, and what it forgot because a limit was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations on files that were opened before the trace and have no name.
    pub nameless_files: u64,
    /// Operations on keys that were opened before the trace and have no name.
    pub nameless_keys: u64,
    /// Keys that could not be opened; no operation.
    pub failed_key_opens: u64,
    /// Files that may have been created or overwritten by opening them; the outcome is not recorded.
    pub opens_without_outcome: u64,
    /// Writes by which the system brings to disk what a process wrote before; no operation.
    pub write_backs: u64,
    /// Requests whose outcome did not come; told all the same.
    pub outcomes_missing: u64,
    /// Open files forgotten.
    pub evicted_file_objects: u64,
    /// Files forgotten.
    pub evicted_file_keys: u64,
    /// Open keys forgotten.
    pub evicted_key_objects: u64,
    /// Executions of processes forgotten.
    pub evicted_processes: u64,
    /// Requests forgotten.
    pub evicted_requests: u64,
    /// Paths forgotten of which was remembered what was told last.
    pub evicted_recent: u64,
    /// Device names that found no room.
    pub evicted_devices: u64,
    /// Operations on what is not wanted.
    pub unwanted: u64,
}

/// Brings events together.
pub struct Correlator {
    world: World,
    files: files::Files,
    keys: registry::Keys,
    devices_refused: u64,
    unwanted: u64,
}

/// What an operation is made with.
struct World {
    devices: Devices,
    long_names: Box<dyn LongNames>,
    accounts: Box<dyn Accounts>,
    scope: Box<dyn Scope>,
    processes: Processes,
}

impl Correlator {
    /// Knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            world: World {
                devices: options.devices,
                long_names: options.long_names,
                accounts: options.accounts,
                scope: options.scope,
                processes: Processes::default(),
            },
            files: files::Files::new(options.outcomes),
            keys: registry::Keys::new(),
            devices_refused: 0,
            unwanted: 0,
        }
    }

    /// Says which drive a device is.
    pub fn map_device(&mut self, device: &str, path: &str) {
        self.devices_refused += u64::from(!self.world.devices.map(device, path));
    }

    /// Which drive is which device.
    pub fn devices(&self) -> &Devices {
        &self.world.devices
    }

    /// Says what the system tells of a process that runs, or ran at `filetime`.
    pub fn process(&mut self, seen: Seen, filetime: u64) {
        self.world.processes.seen(seen, filetime);
    }

    /// Says what key an object is, which was opened before anybody looked. What an event said of it
    /// since is newer, and stays.
    pub fn open_key(&mut self, object: u64, name: &str) {
        self.keys.open_already(object, name);
    }

    /// Another thing is wanted from now on.
    pub fn set_scope(&mut self, scope: Box<dyn Scope>) {
        self.world.scope = scope;
    }

    /// Takes in the next event, and appends what comes of it to `out`.
    pub fn take(&mut self, record: &Record<'_>, event: &Event<'_>, out: &mut Vec<Operation>) {
        match event.provider {
            Provider::Process | Provider::ClassicProcess => {
                self.world.processes.take(event, record.filetime, &self.world.devices);
            }
            Provider::ClassicFile => self.files.named(event),
            Provider::File => {
                let who = Who::of(record);
                let mut emit = Emit::new(&self.world, out);
                self.files.take(event, who, &mut emit);
                self.unwanted += emit.unwanted;
            }
            Provider::Registry => {
                let who = Who::of(record);
                let mut emit = Emit::new(&self.world, out);
                self.keys.take(event, &who, &mut emit);
                self.unwanted += emit.unwanted;
            }
        }
    }

    /// Nothing more comes: tells what was waiting.
    pub fn finish(&mut self, out: &mut Vec<Operation>) {
        let mut emit = Emit::new(&self.world, out);
        self.files.finish(&mut emit);
        self.unwanted += emit.unwanted;
    }

    /// What could not be done so far.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            nameless_keys: self.keys.nameless,
            failed_key_opens: self.keys.failed_opens,
            evicted_key_objects: self.keys.evicted(),
            evicted_processes: self.world.processes.forgotten(),
            evicted_devices: self.devices_refused,
            unwanted: self.unwanted,
            ..Counts::default()
        };
        self.files.count(&mut counts);
        counts
    }
}

/// `NT_SUCCESS`.
fn succeeded(status: u32) -> bool {
    (status as i32) >= 0
}

/// Makes operations.
struct Emit<'a> {
    out: &'a mut Vec<Operation>,
    world: &'a World,
    unwanted: u64,
}

impl<'a> Emit<'a> {
    fn new(world: &'a World, out: &'a mut Vec<Operation>) -> Self {
        Self { out, world, unwanted: 0 }
    }

    /// Whether something is to be told of a key or value by any of its names.
    fn wants_key(&mut self, keys: &[String], value: Option<&str>) -> bool {
        let wanted = keys.iter().any(|key| self.world.scope.key(key, value));
        self.unwanted += u64::from(!wanted);
        wanted
    }

    fn details(&self) -> Details {
        Details::default()
    }

    /// What people call the file that the kernel calls `name`.
    fn display(&self, name: &str) -> String {
        let path = self.world.devices.resolve(name).unwrap_or_else(|| name.to_owned());
        match may_be_short(&path) {
            true => self.world.long_names.expand(&path).unwrap_or(path),
            false => path,
        }
    }

    /// An operation on a file by its kernel name.
    fn file(&mut self, kind: OperationKind, name: &str, status: u32, who: &Who, more: FileDetails) {
        let trimmed = match name.strip_suffix('\\') {
            Some(trimmed) if !trimmed.is_empty() => trimmed,
            _ => name,
        };
        let path = self.display(trimmed);
        let other = match &kind {
            OperationKind::Rename { from: other, .. }
            | OperationKind::Link { existing: other, .. } => other.as_ref(),
            _ => None,
        };
        let scope = &self.world.scope;
        if !scope.file(&path)
            && !other.and_then(|other| other.to_str()).is_some_and(|other| scope.file(other))
        {
            self.unwanted += 1;
            return;
        }
        let mut details = self.details();
        if path != trimmed {
            details.original_path = Some(trimmed.to_owned());
        }
        details.bytes = more.bytes;
        if trimmed.contains(char::REPLACEMENT_CHARACTER) {
            details.unknown.insert("file.path".to_owned(), "not_utf16".to_owned());
        }
        if more.outcome_missing {
            details.unknown.insert("event.outcome".to_owned(), "not_recorded".to_owned());
        }
        if matches!(kind, OperationKind::SetAttributes) {
            // Attributes and times are set together.
            details.unknown.insert("fim.changes".to_owned(), "attributes_or_times".to_owned());
        }
        let directory = more.directory;
        self.operation(kind, path, details, status, who);
        if directory && let Some(last) = self.out.last_mut() {
            last.after = ObjectState { kind: Some(ObjectKind::Dir), ..ObjectState::default() };
        }
    }

    /// An operation at the path that people use.
    fn operation(
        &mut self,
        kind: OperationKind,
        path: String,
        details: Details,
        status: u32,
        who: &Who,
    ) {
        let failed = !succeeded(status);
        let failure = failed.then_some(Failure { errno: status as i32, folded: 0, summary: false });
        self.out.push(Operation {
            time: timestamp(who.filetime),
            provider: EventProvider::Etw,
            kind,
            path: Some(PathBuf::from(path)),
            path_in_process: None,
            object: None,
            before: ObjectState::default(),
            after: ObjectState::default(),
            failure,
            actor: Arc::new(self.world.processes.actor(who, &*self.world.accounts)),
            details: (details != Details::default()).then(|| Box::new(details)),
        });
    }
}

/// What else is known of an operation on a file.
#[derive(Clone, Copy, Debug, Default)]
struct FileDetails {
    bytes: Option<u64>,
    directory: bool,
    outcome_missing: bool,
}
