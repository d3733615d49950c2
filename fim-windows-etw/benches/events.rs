//! How many events one core decodes and correlates: `cargo xtask bench windows`. Prints a JSON object
//! a line, one for each mix and way: `replay` reads a trace, `live` takes records through the queue
//! and into order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement: what cannot be is to fail at once"
)]

use std::collections::HashMap;
use std::io::Cursor;
use std::time::{Duration, Instant};

use fim_common::operation::Operation;
use fim_windows_etw::correlate::{Correlator, Everything, Options};
use fim_windows_etw::decode::{self, KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};
use fim_windows_etw::etl::{EventKey, Guid, PointerSize, Source, Trace};
use fim_windows_etw::paths::{Devices, NoLongNames};
use fim_windows_etw::process::NoAccounts;
use fim_windows_etw::stream::{HEADER_BYTES, Queue, Stream, write};
use serde_json::{Value, json};

#[path = "../tests/replay/writer.rs"]
#[allow(dead_code, unreachable_pub, reason = "its own program uses the rest")]
mod writer;

use writer::{START, Writer, Written, payload, sid};

/// Files that live and die, or are looked at.
const FILES: u64 = 20_000;
/// Of these the best counts: everything else that runs only makes it worse.
const TIMES: usize = 5;
const PROCESSORS: usize = 4;
const PROCESSES: u64 = 200;

/// Events of a machine, in the order of time.
struct Machine {
    events: Vec<(EventKey, Written)>,
    time: u64,
    pid: u32,
    user: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        let user = sid("S-1-5-21-1004336348-1177238915-682003330-1001");
        let mut this = Self { events: Vec::new(), time: START + 10_000_000, pid: 4, user };
        for number in 0..PROCESSES {
            let pid = 1000 + 4 * number;
            let values = json!({"ProcessID": pid, "ProcessSequenceNumber": number,
                "CreateTime": this.time, "ParentProcessID": 1000 + 4 * (number / 4),
                "ParentProcessSequenceNumber": number / 4, "SessionID": 1,
                "ProcessTokenElevationType": 1, "MandatoryLabel": "S-1-16-8192",
                "ImageName": format!(r"\Device\HarddiskVolume3\Program Files\Some\{number}.exe")});
            this.add(KERNEL_PROCESS, 1, 3, &values);
        }
        this
    }

    fn add(&mut self, guid: Guid, id: u16, version: u8, values: &Value) {
        let key = EventKey { source: Source::Manifest(guid), id, version };
        let values: HashMap<String, Value> = serde_json::from_value(values.clone()).unwrap();
        let items =
            vec![(2, self.user.clone()), (13, u64::from(self.pid / 4).to_le_bytes().to_vec())];
        let written = Written {
            pid: self.pid,
            tid: self.pid + 1,
            time: self.time,
            items,
            payload: payload(key, &values, PointerSize::Eight),
        };
        self.events.push((key, written));
        self.time += 50;
    }

    fn file(&mut self, id: u16, values: Value) {
        self.add(KERNEL_FILE, id, u8::from(!matches!(id, 10 | 11 | 24)), &values);
    }

    fn end(&mut self, irp: u64, information: u64) {
        self.file(24, json!({"Irp": irp, "Status": 0, "ExtraInformation": information}));
    }

    /// A request about an open file, with its outcome.
    fn request(&mut self, id: u16, number: u64, more: &Value) {
        let mut values = json!({"Irp": 0x8000 + number % 512, "FileObject": 0x10_0000 + number,
            "FileKey": 0x80_0000 + number});
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.file(id, values);
        self.end(0x8000 + number % 512, 0);
    }

    fn open(&mut self, number: u64, name: &str, disposition: u32, information: u64) {
        let irp = 0x8000 + number % 512;
        self.file(
            12,
            json!({"Irp": irp, "FileObject": 0x10_0000 + number, "FileName": name,
            "CreateOptions": disposition << 24 | 0x60}),
        );
        if information == 2 {
            self.file(10, json!({"FileKey": 0x80_0000 + number, "FileName": name}));
        }
        self.end(irp, information);
    }

    fn name(number: u64) -> String {
        format!(
            r"\Device\HarddiskVolume3\Users\Somebody\AppData\Local\Program {}\Cache\data_{number}.tmp",
            number % 97
        )
    }

    fn who(&mut self, number: u64) {
        self.pid = 1000 + 4 * (number % PROCESSES) as u32;
    }

    /// Each file is made, written, renamed and deleted, and a value is set: 29 events.
    fn changes() -> Vec<(EventKey, Written)> {
        let mut this = Self::new();
        for number in 0..FILES {
            this.who(number);
            let (name, new) = (Self::name(number), format!("{}.done", Self::name(number)));
            this.open(number, &name, 5, 2);
            for _ in 0..3 {
                this.request(16, number, &json!({"IOSize": 4096}));
            }
            this.request(17, number, &json!({"InfoClass": 4}));
            this.request(13, number, &json!({}));
            this.request(14, number, &json!({}));
            this.open(number, &new, 1, 1);
            this.request(27, number, &json!({"InfoClass": 10, "FilePath": new}));
            this.request(
                26,
                number,
                &json!({"InfoClass": 13, "ExtraInformation": 1, "FilePath": new}),
            );
            this.request(14, number, &json!({}));
            let key = 0x40_0000 + number;
            let name = format!(r"\REGISTRY\MACHINE\SOFTWARE\Vendor\Product\{}", number % 1000);
            this.add(KERNEL_REGISTRY, 2, 0, &json!({"KeyObject": key, "RelativeName": name}));
            this.add(
                KERNEL_REGISTRY,
                5,
                0,
                &json!({"KeyObject": key, "Type": 4, "DataSize": 4,
                "ValueName": "Last", "CapturedData": "01020304"}),
            );
            this.add(KERNEL_REGISTRY, 13, 0, &json!({"KeyObject": key}));
        }
        this.events
    }

    /// What most of a machine's events are: files and keys are opened, looked at and closed.
    fn looks() -> Vec<(EventKey, Written)> {
        let mut this = Self::new();
        for number in 0..FILES * 2 {
            this.who(number);
            this.open(number, &Self::name(number % 5000), 1, 1);
            this.request(13, number, &json!({}));
            this.request(14, number, &json!({}));
            let key = 0x40_0000 + number;
            let name = format!(r"\REGISTRY\MACHINE\SOFTWARE\Vendor\Product\{}", number % 1000);
            this.add(KERNEL_REGISTRY, 2, 0, &json!({"KeyObject": key, "RelativeName": name}));
            this.add(KERNEL_REGISTRY, 13, 0, &json!({"KeyObject": key}));
        }
        this.events
    }
}

fn correlator() -> Correlator {
    let mut devices = Devices::default();
    devices.map(r"\Device\HarddiskVolume1", "S:");
    devices.map(r"\Device\HarddiskVolume3", "C:");
    Correlator::new(Options {
        devices,
        long_names: Box::new(NoLongNames),
        accounts: Box::new(NoAccounts),
        scope: Box::new(Everything),
        outcomes: true,
    })
}

/// Reads, decodes and correlates a trace.
fn replay(trace: &[u8]) -> (u64, u64) {
    let mut trace = Trace::open(Cursor::new(trace), &[]).unwrap();
    let mut correlator = correlator();
    let mut operations: Vec<Operation> = Vec::new();
    let (mut records, mut told) = (0, 0);
    while let Some(record) = trace.next_record().unwrap() {
        records += 1;
        if let Ok(event) = decode::decode(&record) {
            correlator.take(&record, &event, &mut operations);
        }
        told += operations.drain(..).len() as u64;
    }
    correlator.finish(&mut operations);
    (records, told + operations.len() as u64)
}

/// A record as the system hands it to a callback.
struct Raw {
    header: [u8; HEADER_BYTES],
    time: u64,
    items: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

fn raw(events: Vec<(EventKey, Written)>) -> Vec<Raw> {
    let raw = |(key, event): (EventKey, Written)| {
        let Source::Manifest(guid) = key.source else { panic!("{key:?}") };
        let mut header = [0; HEADER_BYTES];
        header[4..6].copy_from_slice(&0x41_u16.to_le_bytes());
        header[8..12].copy_from_slice(&event.tid.to_le_bytes());
        header[12..16].copy_from_slice(&event.pid.to_le_bytes());
        header[16..24].copy_from_slice(&event.time.to_le_bytes());
        header[24..40].copy_from_slice(&guid.to_bytes());
        header[40..42].copy_from_slice(&key.id.to_le_bytes());
        header[42] = key.version;
        Raw { header, time: event.time, items: event.items, payload: event.payload }
    };
    events.into_iter().map(raw).collect()
}

/// Takes records through the queue, into order, and correlates them: all on this thread.
fn live(records: &[Raw]) -> (u64, u64) {
    let queue: Queue<()> = Queue::new(64 << 20);
    let mut stream = Stream::new(correlator(), Duration::ZERO, 64 << 20);
    let mut operations = Vec::new();
    let mut told = 0;
    // Some milliseconds' worth at a time.
    for some in records.chunks(1000) {
        for record in some {
            let items = record.items.iter().map(|(kind, data)| (*kind, data.as_slice()));
            let length = HEADER_BYTES + 96 + record.payload.len();
            queue.push(record.time, length, |out| {
                write(out, &record.header, items, &record.payload)
            });
        }
        stream.push(queue.take(Duration::ZERO).records, Instant::now());
        while !stream.advance(None, &mut operations) {
            told += operations.drain(..).len() as u64;
        }
        told += operations.drain(..).len() as u64;
    }
    stream.finish(&mut operations);
    assert_eq!((stream.counts().undecoded, stream.counts().malformed), (0, 0));
    (stream.counts().records, told + operations.len() as u64)
}

/// Nanoseconds that this thread has had of a processor.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn measure(mix: &str, way: &str, run: impl Fn() -> (u64, u64)) {
    let mut best: Option<(u64, u64, u64)> = None;
    for _ in 0..TIMES {
        let begun = processor_time();
        let (records, operations) = run();
        let spent = processor_time() - begun;
        if best.is_none_or(|(least, ..)| spent < least) {
            best = Some((spent, records, operations));
        }
    }
    let (spent, records, operations) = best.unwrap();
    let seconds = spent as f64 / 1e9;
    let line = json!({"mix": mix, "way": way, "records": records, "operations": operations,
        "seconds": seconds, "per_second": records as f64 / seconds});
    println!("{line}");
}

fn main() {
    for (mix, events) in [("changes", Machine::changes()), ("looks", Machine::looks())] {
        let mut writer = Writer::new(writer::Options::default(), PROCESSORS);
        for (number, (key, event)) in events.iter().enumerate() {
            writer.event(number % PROCESSORS, *key, event);
        }
        let trace = writer.finish();
        measure(mix, "replay", || replay(&trace));
        drop(trace);
        let records = raw(events);
        measure(mix, "live", || live(&records));
    }
}
