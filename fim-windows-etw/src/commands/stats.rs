//! What a trace holds, for `replay --stats`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fim_common::time::Timestamp;
use serde::Serialize;

use crate::correlate::Counts;
use crate::decode::{self, Undecoded};
use crate::etl::{EventKey, Guid, LogFileHeader, Source, Summary};
use crate::filetime::timestamp;

/// Kinds of events that are told apart; more are counted together.
const ROWS_MAX: usize = 65_536;

/// Counts while a trace is replayed.
#[derive(Default)]
pub(super) struct Stats {
    rows: BTreeMap<EventKey, Tally>,
    beyond: u64,
    pub(super) operations: u64,
    pub(super) events: u64,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    decoded: u64,
    ids: u64,
    versions: u64,
    misfits: u64,
    foreign: u64,
}

impl Stats {
    pub(super) fn count(&mut self, key: EventKey, undecoded: Option<Undecoded>) {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let tally = self.rows.entry(key).or_default();
        *match undecoded {
            None => &mut tally.decoded,
            Some(Undecoded::Provider) => &mut tally.foreign,
            Some(Undecoded::Id) => &mut tally.ids,
            Some(Undecoded::Version) => &mut tally.versions,
            Some(Undecoded::Misfit(_)) => &mut tally.misfits,
        } += 1;
    }

    /// Kinds of events that would have been used, but cannot be read: how many are of a version that no
    /// table has, and of how many the payload does not fit.
    pub(super) fn unread(&self) -> impl Iterator<Item = (EventKey, u64, u64)> {
        let counts = self.rows.iter().map(|(key, tally)| (*key, tally.versions, tally.misfits));
        counts.filter(|(_, versions, misfits)| versions + misfits > 0)
    }

    pub(super) fn report(
        &self,
        header: &LogFileHeader,
        summary: &Summary,
        counts: &Counts,
    ) -> Report {
        let providers: Vec<Row> = self.rows.iter().map(|(key, tally)| row(*key, *tally)).collect();
        Report {
            records: summary.records,
            decoded: providers.iter().map(|row| row.decoded).sum(),
            not_decoded: providers.iter().map(|row| row.not_decoded).sum::<u64>() + self.beyond,
            not_listed: self.beyond,
            operations: self.operations,
            events: self.events,
            lost: Lost { events: header.events_lost, buffers: header.buffers_lost },
            buffers: Buffers {
                found: summary.buffers,
                compressed: summary.compressed,
                expected: header.buffers_written,
                bytes: header.buffer_size,
            },
            damaged: summary.damaged,
            damage: summary.damages.iter().map(ToString::to_string).collect(),
            disordered: summary.disordered,
            trace: TraceInfo {
                start: timestamp(header.start),
                end: (header.end != 0).then(|| timestamp(header.end)),
                clock: header.clock.as_str(),
                ticks_per_second: header.frequency,
                pointer_bytes: header.pointer_size.bytes(),
                processors: header.processors,
                windows: format!("{}.{}.{}", header.version.0, header.version.1, header.build),
            },
            correlation: counts.clone(),
            providers,
        }
    }
}

/// All that is told.
#[derive(Serialize)]
pub(super) struct Report {
    records: u64,
    decoded: u64,
    not_decoded: u64,
    not_listed: u64,
    operations: u64,
    events: u64,
    lost: Lost,
    buffers: Buffers,
    damaged: u64,
    damage: Vec<String>,
    disordered: u64,
    trace: TraceInfo,
    correlation: Counts,
    providers: Vec<Row>,
}

#[derive(Serialize)]
struct Lost {
    events: u32,
    buffers: u32,
}

#[derive(Serialize)]
struct Buffers {
    found: u64,
    compressed: u64,
    expected: u32,
    bytes: u32,
}

#[derive(Serialize)]
struct TraceInfo {
    start: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
    clock: &'static str,
    ticks_per_second: u64,
    pointer_bytes: usize,
    processors: u32,
    windows: String,
}

#[derive(Serialize)]
struct Row {
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    /// `manifest`, `classic`, `message` or `other`.
    kind: &'static str,
    id: u16,
    version: u8,
    count: u64,
    decoded: u64,
    not_decoded: u64,
    /// Why not, where it is of a provider that is decoded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<&'static str, u64>,
}

/// How a source is identified, and its name.
fn identity(source: Source) -> (String, Option<&'static str>, &'static str) {
    match source {
        Source::Manifest(guid) => (guid.to_string(), manifest(guid), "manifest"),
        Source::Classic(guid) => (guid.to_string(), class(guid), "classic"),
        Source::Kernel(group) => match GROUPS.iter().find(|known| known.0 == group) {
            Some((_, name, guid)) => (guid.to_string(), Some(*name), "classic"),
            None => (format!("kernel-group-0x{group:02x}"), None, "classic"),
        },
        Source::Message => ("wpp".to_owned(), None, "message"),
        Source::Other(kind) => (format!("record-type-0x{kind:02x}"), None, "other"),
    }
}

/// What people call a source.
pub(super) fn provider(source: Source) -> String {
    let (identifier, name, _) = identity(source);
    name.map_or(identifier, str::to_owned)
}

fn row(key: EventKey, tally: Tally) -> Row {
    let (provider, name, kind) = identity(key.source);
    let mut reasons = BTreeMap::new();
    for (why, count) in [
        ("unknown_version", tally.versions),
        ("payload_does_not_fit", tally.misfits),
        ("id_not_of_interest", tally.ids),
    ] {
        if count > 0 {
            reasons.insert(why, count);
        }
    }
    let not_decoded = tally.foreign + tally.ids + tally.versions + tally.misfits;
    Row {
        provider,
        name,
        kind,
        id: key.id,
        version: key.version,
        count: tally.decoded + not_decoded,
        decoded: tally.decoded,
        not_decoded,
        reasons,
    }
}

fn manifest(guid: Guid) -> Option<&'static str> {
    Some(match guid {
        decode::KERNEL_FILE => "Microsoft-Windows-Kernel-File",
        decode::KERNEL_REGISTRY => "Microsoft-Windows-Kernel-Registry",
        decode::KERNEL_PROCESS => "Microsoft-Windows-Kernel-Process",
        _ => return None,
    })
}

fn class(guid: Guid) -> Option<&'static str> {
    GROUPS.iter().find(|known| known.2 == guid).map(|known| known.1)
}

/// Groups of the kernel's own events, and the classes by which they are known
/// (`EVENT_TRACE_GROUP_…` in the WDK's ntwmi.h; the GUIDs in evntrace.h).
const GROUPS: [(u8, &str, Guid); 10] = [
    (0x00, "EventTrace", Guid::new(0x68fd_d900_4a3e_11d1_84f4_0000_f804_64e3)),
    (0x01, "DiskIo", Guid::new(0x3d6f_a8d4_fe05_11d0_9dda_00c0_4fd7_ba7c)),
    (0x02, "PageFault", Guid::new(0x3d6f_a8d3_fe05_11d0_9dda_00c0_4fd7_ba7c)),
    (0x03, "Process", decode::CLASSIC_PROCESS),
    (0x04, "FileIo", decode::CLASSIC_FILE),
    (0x05, "Thread", Guid::new(0x3d6f_a8d1_fe05_11d0_9dda_00c0_4fd7_ba7c)),
    (0x06, "TcpIp", Guid::new(0x9a28_0ac0_c8e0_11d1_84e2_00c0_4fb9_98a2)),
    (0x08, "UdpIp", Guid::new(0xbf3a_50c5_a9c9_4988_a005_2df0_b7c8_0f80)),
    (0x09, "Registry", Guid::new(0xae53_722e_c863_11d2_8659_00c0_4fa3_21a1)),
    (0x14, "Image", Guid::new(0x2cb1_5d1d_5fc1_11d2_abe1_00a0_c911_f518)),
];

impl Report {
    /// One object, in one line.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(text)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let Self { records, decoded, operations, events, .. } = self;
        let _ = writeln!(text, "records     {records}, {decoded} decoded");
        let _ = writeln!(text, "told        {operations} operations in {events} events");
        let Lost { events, buffers } = &self.lost;
        let _ = writeln!(text, "lost        {events} events, {buffers} buffers");
        let Buffers { found, compressed, expected, bytes } = &self.buffers;
        let _ = writeln!(
            text,
            "buffers     {found} of {expected}, {compressed} compressed, {bytes} bytes each"
        );
        let trace = &self.trace;
        let _ = writeln!(
            text,
            "recorded    {}, Windows {}, {} processors, {}-bit, {}",
            trace.start,
            trace.windows,
            trace.processors,
            trace.pointer_bytes * 8,
            trace.clock
        );
        for damage in &self.damage {
            let _ = writeln!(text, "damaged     {damage}");
        }
        let _ = writeln!(
            text,
            "\n{:38} {:34} {:>5} {:>3} {:>9} {:>9} {:>11}  reasons",
            "provider", "name", "id", "v", "count", "decoded", "not decoded"
        );
        for row in &self.providers {
            let reasons: Vec<String> =
                row.reasons.iter().map(|(why, count)| format!("{why} {count}")).collect();
            let line = format!(
                "{:38} {:34} {:>5} {:>3} {:>9} {:>9} {:>11}  {}",
                row.provider,
                row.name.unwrap_or("-"),
                row.id,
                row.version,
                row.count,
                row.decoded,
                row.not_decoded,
                reasons.join(", ")
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}
