//! Which providers are recorded, which of their events, in which sessions.
//!
//! Two sessions, and a third where a rule about keys comes later: what is done to files and keys
//! comes by the hundred thousand, and may be as late as its buffers; a process is to be looked at
//! while it runs. So Kernel-Process has a session of its own, which is asked for what it has every
//! few milliseconds.

use std::sync::Arc;

use fim_common::config;
use fim_win32::etw::{Provider, RawRecord, SessionOptions, Sink};

use crate::decode::{KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};
use crate::stream::{HEADER_BYTES, Queue, write};

/// FILENAME, FILEIO, OP_END, CREATE, WRITE, DELETE_PATH, RENAME_SETLINK_PATH, CREATE_NEW_FILE: FILEIO
/// brings the handles' beginnings and ends, OP_END the outcome of each request.
const FILE_KEYWORDS: u64 = 0x1ef0;
/// Without reads, queries, flushes and listings of directories, which FILEIO would bring along.
const FILE_IDS: &[u16] = &[10, 11, 12, 13, 14, 16, 17, 18, 19, 24, 26, 27, 28, 29, 30, 31, 33];
/// Create, open, delete and close key, set and delete value, set security and information.
const REGISTRY_KEYWORDS: u64 = 0x7345;
const REGISTRY_IDS: &[u16] = &[1, 2, 3, 5, 6, 11, 13, 15];
/// PROCESS; neither threads nor images.
const PROCESS_KEYWORDS: u64 = 0x10;
const PROCESS_IDS: &[u16] = &[1, 2, 15];
/// Informational: the level of all these events.
const LEVEL: u8 = 4;

/// How large the sessions are.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// KiB of a buffer.
    pub buffer_kib: u32,
    /// Buffers of a session at most.
    pub buffers: u32,
    /// Bytes of records that may wait.
    pub queue: usize,
}

impl Sizes {
    /// As configured.
    pub fn of(collector: &config::Collector) -> Self {
        Self {
            buffer_kib: collector.etw_buffer >> 10,
            buffers: collector.etw_buffers,
            queue: collector.etw_queue,
        }
    }
}

/// The names of the sessions: `prefix` and what they are for.
pub(super) fn changes_name(prefix: &str) -> String {
    format!("{prefix}-changes")
}

pub(super) fn processes_name(prefix: &str) -> String {
    format!("{prefix}-processes")
}

pub(super) fn keys_name(prefix: &str) -> String {
    format!("{prefix}-registry")
}

pub(super) fn names_name(prefix: &str) -> String {
    format!("{prefix}-names")
}

fn session(name: String, sizes: &Sizes, providers: Vec<Provider>) -> SessionOptions {
    SessionOptions { name, buffer_kib: sizes.buffer_kib, buffers: sizes.buffers, providers }
}

const FILES: Provider = Provider {
    guid: KERNEL_FILE.digits(),
    keywords: FILE_KEYWORDS,
    level: LEVEL,
    ids: FILE_IDS,
    who: true,
    data: false,
};
const KEYS: Provider = Provider {
    guid: KERNEL_REGISTRY.digits(),
    keywords: REGISTRY_KEYWORDS,
    ids: REGISTRY_IDS,
    data: true,
    ..FILES
};

/// What is done to files and, where a rule asks for any, to keys.
pub(super) fn changes(prefix: &str, sizes: &Sizes, registry: bool) -> SessionOptions {
    let providers = if registry { vec![FILES, KEYS] } else { vec![FILES] };
    session(changes_name(prefix), sizes, providers)
}

/// What is done to keys, where no rule had asked for any when the other sessions were started: to
/// start that one anew would lose what is done to files meanwhile.
pub(super) fn keys(prefix: &str, sizes: &Sizes) -> SessionOptions {
    session(keys_name(prefix), sizes, vec![KEYS])
}

/// What becomes of processes.
pub(super) fn processes(prefix: &str, sizes: &Sizes) -> SessionOptions {
    let process = Provider {
        guid: KERNEL_PROCESS.digits(),
        keywords: PROCESS_KEYWORDS,
        level: LEVEL,
        ids: PROCESS_IDS,
        who: false,
        data: false,
    };
    session(processes_name(prefix), sizes, vec![process])
}

/// The names of files that are open.
pub(super) fn names(prefix: &str, sizes: &Sizes) -> SessionOptions {
    session(names_name(prefix), sizes, Vec::new())
}

/// Copies each record into a queue, and returns.
pub(super) fn into_queue<M: Send + 'static>(queue: &Arc<Queue<M>>) -> Sink {
    let queue = Arc::clone(queue);
    Arc::new(move |record: &RawRecord<'_>| {
        let header: &[u8; HEADER_BYTES] = record.header();
        let time = header.get(0x10..).and_then(|rest| rest.first_chunk());
        let filetime = time.map_or(0, |time| u64::from_le_bytes(*time));
        let payload = record.payload();
        // What the two items that are kept take, with their headers.
        let length = HEADER_BYTES + 96 + payload.len().next_multiple_of(8);
        queue.push(filetime, length, |out| write(out, header, record.items(), payload));
    })
}
