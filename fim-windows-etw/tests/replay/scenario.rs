//! Events as a kernel would write them, in few words.

use std::collections::HashMap;

use fim_windows_etw::decode::{KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};
use fim_windows_etw::etl::{EventKey, Guid, PointerSize, Source};
use serde_json::{Value, json};

use super::command;
use super::writer::{Options, START, Writer, Written, payload};

pub struct Scenario {
    writer: Writer,
    pointer: PointerSize,
    /// FILETIME of the next event.
    pub time: u64,
    pub pid: u32,
    pub items: Vec<(u16, Vec<u8>)>,
}

impl Scenario {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let pointer = options.pointer;
        Self {
            writer: Writer::new(options, 2),
            pointer,
            time: START + 10_000_000,
            pid: 1000,
            items: Vec::new(),
        }
    }

    pub fn write(&mut self, guid: Guid, id: u16, version: u8, values: Value) -> &mut Self {
        let key = EventKey { source: Source::Manifest(guid), id, version };
        let values: HashMap<String, Value> = serde_json::from_value(values).unwrap();
        let payload = payload(key, &values, self.pointer);
        let event = Written {
            pid: self.pid,
            tid: self.pid + 1,
            time: self.time,
            items: self.items.clone(),
            payload,
        };
        self.writer.event(usize::from(id % 2), key, &event);
        self.time += 1000;
        self
    }

    pub fn file(&mut self, id: u16, values: Value) -> &mut Self {
        let version = u8::from(!matches!(id, 10 | 11 | 24));
        self.write(KERNEL_FILE, id, version, values)
    }

    /// Opens `name` as `object` with a disposition.
    pub fn open(&mut self, object: u64, name: &str, disposition: u32) -> &mut Self {
        let options = disposition << 24 | 0x60;
        let irp = object + 0x100_0000;
        let values = json!({"FileObject": object, "FileName": name, "CreateOptions": options,
            "Irp": irp});
        self.file(12, values)
    }

    /// The outcome of the request that `open` or an event with this object made.
    pub fn outcome(&mut self, object: u64, status: u32, information: u64) -> &mut Self {
        let irp = object + 0x100_0000;
        self.file(24, json!({"Irp": irp, "Status": status, "ExtraInformation": information}))
    }

    /// An event about an open file.
    pub fn on(&mut self, id: u16, object: u64, key: u64, more: Value) -> &mut Self {
        let mut values = json!({"FileObject": object, "FileKey": key,
            "Irp": object + 0x100_0000});
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.file(id, values)
    }

    pub fn registry(&mut self, id: u16, values: Value) -> &mut Self {
        self.write(KERNEL_REGISTRY, id, 0, values)
    }

    pub fn process(&mut self, id: u16, version: u8, values: Value) -> &mut Self {
        self.write(KERNEL_PROCESS, id, version, values)
    }

    /// A classic event of the kernel, by its group and opcode.
    pub fn classic(&mut self, guid: Guid, group: u16, id: u16, version: u8, values: Value) {
        let key = EventKey { source: Source::Classic(guid), id, version };
        let values: HashMap<String, Value> = serde_json::from_value(values).unwrap();
        let payload = payload(key, &values, self.pointer);
        let event = Written { pid: self.pid, time: self.time, payload, ..Written::default() };
        self.writer.kernel(0, group << 8 | id, version.into(), &event);
        self.time += 1000;
    }

    pub fn later(&mut self, milliseconds: u64) -> &mut Self {
        self.time += milliseconds * 10_000;
        self
    }

    /// The events that come of it, without those that nobody asked for.
    pub fn events(&mut self, arguments: &[&str]) -> Vec<Value> {
        let (code, events) = command::events(&self.trace(), arguments);
        assert_eq!(code, 0);
        events
    }

    pub fn trace(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.writer, Writer::new(Options::default(), 2)).finish()
    }
}

/// An event in a few words: action, paths, outcome.
pub fn brief(event: &Value) -> String {
    let action = event["event"]["action"].as_str().unwrap();
    let path = event["file"]["path"].as_str().or(event["registry"]["path"].as_str());
    let mut text = format!("{action} {}", path.unwrap_or("-"));
    if action == "moved" {
        let from = event["fim"]["before"]["path"].as_str().unwrap_or("?");
        text = format!("{action} {from} -> {}", path.unwrap_or("-"));
    }
    if let Some(errno) = event["fim"]["errno"].as_str() {
        text = format!("{text} failed {errno}");
    }
    text
}

pub fn briefs(events: &[Value]) -> Vec<String> {
    events.iter().map(brief).collect()
}
