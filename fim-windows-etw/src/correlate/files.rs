//! File events: what was done to which file.
//!
//! - An open proves nothing: it is logged before its outcome, also when it fails. A file was created
//!   when the kernel says so (30, 10), or when an open that creates was completed (12 with 24).
//! - A rename tells the new name (27); the old one is that of the handle. The names of the file that
//!   come and go with it (11, 10) are part of it.
//! - A deletion is asked for with a flag on the handle (18, 26), which can be taken back until the
//!   handle is closed. Where neither was seen, the file's name goes (11).
//! - What is done through one handle is one change: it is complete when the handle is closed (13,
//!   14), or when the same file is changed through another handle.
//! - A close may be logged by the system process: nothing is attributed by it.

use std::collections::HashMap;

use fim_common::operation::OperationKind;

use super::bounded::Bounded;
use super::completion::{Asked, Request, Requests};
use super::names::NameTable;
use super::{Counts, Emit, FileDetails, MAP_BYTES, RECENT_MAX, UNDER_WAY_MAX, succeeded};
use crate::decode::Event;
use crate::filetime::SECOND;
use crate::paths::fold;
use crate::process::Who;

#[path = "file_changes.rs"]
mod changes;

/// The System process, which does what the cache manager and the network servers ask for.
const SYSTEM: u32 = 4;
/// Signs of one creation come within this time.
const SAME_CREATION: u64 = 2 * SECOND;
/// Names come and go within this time of a rename.
const RENAME_TAKES: u64 = 10 * SECOND;
/// The cache manager brings a new size to disk within this time.
const WRITE_BACK: u64 = 60 * SECOND;
/// `IRP_PAGING_IO`, `IRP_SYNCHRONOUS_PAGING_IO`.
const PAGING: u32 = 0x2 | 0x40;
const FILE_DIRECTORY_FILE: u32 = 0x1;
const FILE_DELETE_ON_CLOSE: u32 = 0x1000;

/// What was told of a path last: the kernel tells the same thing in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Created(u64),
    Changed(u64),
    Deleted,
}

impl super::bounded::Weight for (Option<Told>, u64) {
    fn weight(&self) -> usize {
        0
    }
}

/// A rename or link of which the names have not come and gone yet.
struct UnderWay {
    link: bool,
    old: Option<String>,
    /// It was told with its new name.
    told: bool,
    who: Who,
}

/// All that is known of files.
pub(super) struct Files {
    /// Outcomes are recorded.
    outcomes: bool,
    names: NameTable,
    requests: Requests,
    /// By folded path: what was told last, and the handle through which the file is changed.
    recent: Bounded<String, (Option<Told>, u64)>,
    /// The last open of a path that may create it, by folded path: its handle.
    creating: Bounded<String, u64>,
    under_way: HashMap<u64, UnderWay>,
    /// Deletions that wait for the handle to be closed, by handle.
    deletions: HashMap<u64, (String, Who, bool)>,
    nameless: u64,
    opens_without_outcome: u64,
    write_backs: u64,
    outcomes_missing: u64,
}

impl Files {
    pub(super) fn new(outcomes: bool) -> Self {
        Self {
            outcomes,
            names: NameTable::new(),
            requests: Requests::new(),
            recent: Bounded::new(RECENT_MAX, MAP_BYTES),
            creating: Bounded::new(RECENT_MAX, MAP_BYTES),
            under_way: HashMap::new(),
            deletions: HashMap::new(),
            nameless: 0,
            opens_without_outcome: 0,
            write_backs: 0,
            outcomes_missing: 0,
        }
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        counts.nameless_files = self.nameless;
        counts.opens_without_outcome = self.opens_without_outcome;
        counts.write_backs = self.write_backs;
        counts.outcomes_missing = self.outcomes_missing;
        counts.evicted_file_objects = self.names.objects.evicted();
        counts.evicted_file_keys = self.names.keys.evicted();
        counts.evicted_requests = self.requests.evicted();
        counts.evicted_recent = self.recent.evicted() + self.creating.evicted();
    }

    /// A classic event: an address and its name.
    pub(super) fn named(&mut self, event: &Event<'_>) {
        let values = &event.values;
        let (Some(key), Some(name)) = (values.file_key, values.name) else { return };
        match event.id {
            35 => drop(self.names.keys.remove(&key)),
            _ if !name.is_empty() => self.names.key(key, &name.to_string()),
            _ => {}
        }
    }

    /// Takes in an event of the manifest provider.
    pub(super) fn take(&mut self, event: &Event<'_>, who: Who, emit: &mut Emit<'_>) {
        let values = &event.values;
        let text = || values.name.map(|name| name.to_string()).filter(|name| !name.is_empty());
        let object = values.file_object.unwrap_or(0);
        let key = values.file_key.unwrap_or(0);
        let (extra, class) = (values.extra.unwrap_or(0), values.info_class.unwrap_or(0));
        let irp = values.irp.unwrap_or(0);
        match event.id {
            10 | 11 => {
                let Some(name) = text() else { return };
                if event.id == 10 {
                    self.name_created(key, &name, &who, emit);
                } else {
                    self.name_deleted(key, &name, &who, emit);
                }
            }
            12 => {
                let Some(name) = text() else { return };
                let options = values.create_options.unwrap_or(1 << 24);
                self.opening(object, &name, options, &who, emit);
                let asked = Asked::Open { object, name, options };
                if self.outcomes && irp != 0 {
                    self.begin(irp, Request { asked, who }, emit);
                } else if matches!(options >> 24, 0 | 2 | 4 | 5) {
                    self.opens_without_outcome += 1;
                }
            }
            30 => {
                let Some(name) = text() else { return };
                let options = values.create_options.unwrap_or(2 << 24);
                if self.names.objects.get(&object).is_none() {
                    self.opening(object, &name, options, &who, emit);
                }
                self.created(object, &name, options, &who, emit);
            }
            13 => self.closed(object, key, false, &who, emit),
            14 => self.closed(object, key, true, &who, emit),
            16 => {
                let handle = self.names.objects.get(&object);
                let cleaned = handle.is_some_and(|opened| opened.cleaned);
                if cleaned || values.io_flags.unwrap_or(0) & PAGING != 0 {
                    self.write_backs += 1;
                    return;
                }
                let bytes = values.io_size.map(u64::from);
                let asked = Asked::Do { event: 16, object, key, extra, class, bytes };
                self.request(irp, Request { asked, who }, emit);
            }
            17 if !matches!(class, 4 | 19 | 20) => {}
            17 | 18 | 19 | 29 | 31 | 33 => {
                let asked = Asked::Do { event: event.id, object, key, extra, class, bytes: None };
                self.request(irp, Request { asked, who }, emit);
            }
            26..=28 => {
                let Some(name) = text() else { return };
                if event.id != 26 {
                    self.names_under_way(event.id == 28, object, key, true, &who);
                }
                let asked = Asked::Name { event: event.id, object, key, extra, class, name };
                self.request(irp, Request { asked, who }, emit);
            }
            24 => {
                let status = values.status.unwrap_or(0);
                let mut requests = self.requests.end(irp);
                if !succeeded(status) && requests.len() > 1 {
                    // Two events tell of one attempt: the one with the name says more.
                    requests.sort_by_key(|request| !matches!(request.asked, Asked::Name { .. }));
                    requests.truncate(1);
                }
                for request in requests {
                    self.completed(request, status, extra, false, emit);
                }
            }
            // Reads, queries, flushes.
            _ => {}
        }
    }

    /// Waits for the outcome where there will be one, else takes it as done.
    fn request(&mut self, irp: u64, request: Request, emit: &mut Emit<'_>) {
        if let Asked::Do { event: event @ (19 | 29), object, key, .. } = request.asked {
            self.names_under_way(event == 29, object, key, false, &request.who);
        }
        if self.outcomes && irp != 0 {
            self.begin(irp, request, emit);
        } else {
            self.completed(request, 0, 0, false, emit);
        }
    }

    fn begin(&mut self, irp: u64, request: Request, emit: &mut Emit<'_>) {
        for stale in self.requests.begin(irp, request) {
            self.stale(stale, emit);
        }
    }

    /// The outcome of a request was lost: an open proves nothing, anything else is told.
    fn stale(&mut self, request: Request, emit: &mut Emit<'_>) {
        self.outcomes_missing += 1;
        match request.asked {
            Asked::Open { options, .. } => {
                self.opens_without_outcome += u64::from(matches!(options >> 24, 0 | 2 | 4 | 5));
            }
            _ => self.completed(request, 0, 0, true, emit),
        }
    }

    /// A handle is opened: whatever the address stood for before is over.
    fn opening(&mut self, object: u64, name: &str, options: u32, who: &Who, emit: &mut Emit<'_>) {
        self.deleted_at_last(object, emit);
        self.names.open(object, name, options);
        if options & FILE_DELETE_ON_CLOSE != 0
            && let Some(opened) = self.names.objects.get(&object)
        {
            opened.opener = Some(Box::new(who.clone()));
        }
        if options >> 24 != 1 {
            self.creating.insert(fold(name), object);
        }
    }

    fn name_created(&mut self, key: u64, name: &str, who: &Who, emit: &mut Emit<'_>) {
        if let Some(under_way) = self.take_under_way(key, who) {
            if under_way.link {
                if !under_way.told {
                    self.linked(under_way.old.as_deref(), name, 0, false, &under_way.who, emit);
                }
                return;
            }
            self.names.key(key, name);
            if !under_way.told {
                self.moved(0, key, under_way.old, name, 0, false, &under_way.who, emit);
            }
            return;
        }
        self.names.key(key, name);
        let opened = self.creating.get(&fold(name)).copied().unwrap_or(0);
        let handle = self.names.objects.get(&opened);
        let options = handle.map_or(2 << 24, |opened| opened.options);
        self.created(opened, name, options, who, emit);
    }

    fn name_deleted(&mut self, key: u64, name: &str, who: &Who, emit: &mut Emit<'_>) {
        if let Some(under_way) = self.under_way.get(&key)
            && !under_way.link
            && who.filetime <= under_way.who.filetime.saturating_add(RENAME_TAKES)
            && under_way.old.as_deref().is_none_or(|old| fold(old) == fold(name))
        {
            return;
        }
        self.names.keys.remove(&key);
        let folded = fold(name);
        // Asked for through a handle: told by whom, then.
        let handle =
            self.deletions.iter().find(|(_, (path, ..))| fold(path) == folded).map(|(h, _)| *h);
        if let Some(handle) = handle {
            return self.deleted_at_last(handle, emit);
        }
        if self.recent.get(&folded).is_some_and(|(told, _)| *told == Some(Told::Deleted)) {
            return;
        }
        self.deleted(name, who, false, emit);
    }

    fn closed(&mut self, object: u64, key: u64, last: bool, who: &Who, emit: &mut Emit<'_>) {
        let name = self.names.find(object, key);
        if let Some(opened) = self.names.objects.get(&object) {
            let first_time = !std::mem::replace(&mut opened.cleaned, true);
            let (content, opener) = (opened.content, opened.opener.take());
            if first_time
                && let Some(opener) = opener
                && let Some(name) = &name
            {
                // Done by whoever asked for it when opening, now.
                let who = Who { filetime: who.filetime, ..*opener };
                self.deletions.entry(object).or_insert((name.to_string(), who, false));
            }
            if first_time
                && content
                && let Some(name) = &name
            {
                emit.file(OperationKind::EndGroup, name, 0, who, FileDetails::default());
            }
        }
        self.deleted_at_last(object, emit);
        if last {
            self.names.objects.remove(&object);
        }
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) {
        for request in self.requests.drain() {
            self.stale(request, emit);
        }
        let mut waiting: Vec<(u64, u64)> =
            self.deletions.iter().map(|(handle, (_, who, _))| (who.filetime, *handle)).collect();
        waiting.sort_unstable();
        for (_, handle) in waiting {
            self.deleted_at_last(handle, emit);
        }
    }
}

/// Whether the outcome of an open says that there was no file before, or that its content was
/// replaced: by the disposition, and where that leaves it open, by the I/O status information
/// (`FILE_SUPERSEDED` 0, `FILE_OPENED` 1, `FILE_CREATED` 2, `FILE_OVERWRITTEN` 3).
fn outcome_of_open(options: u32, information: u64) -> (bool, bool) {
    match (options >> 24, information) {
        (2, _) | (0 | 3 | 5, 2) => (true, false),
        (4, _) | (5, 3) | (0, 0 | 3) => (false, true),
        _ => (false, false),
    }
}

const STATUS_REPARSE: u32 = 0x104;
