//! What was recorded on Windows 11 as properties, put into payloads by the manifests' tables, is
//! told as exactly what was done. In 32 and in 64 bits, compressed or not, with each clock.

use std::collections::HashMap;

use fim_windows_etw::decode::{KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};
use fim_windows_etw::etl::{Clock, EventKey, PointerSize, Source};
use serde_json::Value;

use super::command::events;
use super::data;
use super::scenario::briefs;
use super::writer::{Options, Writer, Written, payload};

/// The records of the fixtures, in the order of time.
fn trace(options: Options) -> Option<Vec<u8>> {
    let folder = data::folder()?.join("rustinel-fixtures");
    let pointer = options.pointer;
    let mut writer = Writer::new(options, 3);
    for name in ["process", "file", "registry"] {
        let text = std::fs::read(folder.join(format!("{name}_lifecycle.json"))).unwrap();
        let fixture: Value = serde_json::from_slice(&text).unwrap();
        for (number, record) in fixture["records"].as_array().unwrap().iter().enumerate() {
            let header = &record["header"];
            let guid = match name {
                "process" => KERNEL_PROCESS,
                "file" => KERNEL_FILE,
                _ => KERNEL_REGISTRY,
            };
            let key = EventKey {
                source: Source::Manifest(guid),
                id: header["event_id"].as_u64().unwrap() as u16,
                version: header["version"].as_u64().unwrap() as u8,
            };
            let mut values: HashMap<String, Value> = HashMap::new();
            for (name, value) in record["properties"].as_object().unwrap() {
                // {"u32": 5} or {"string": "x"}; bytes are hexadecimal.
                let value = value.as_object().unwrap().values().next().unwrap();
                values.insert(name.clone(), value.clone());
            }
            if let Some(data) = values.get("CapturedData").and_then(Value::as_str) {
                let size = data.len() as u64 / 2;
                values.entry("DataSize".into()).or_insert(size.into());
            }
            let event = Written {
                pid: header["process_id"].as_u64().unwrap() as u32,
                tid: 7,
                time: header["timestamp"].as_u64().unwrap(),
                items: Vec::new(),
                payload: payload(key, &values, pointer),
            };
            writer.event(number % 3, key, &event);
        }
    }
    Some(writer.finish())
}

const FOLDER: &str = "C:\\Users\\theo-rdp\\AppData\\Local\\Temp\\rustinel-fixture-e78e5e";

fn check(options: Options) {
    let Some(trace) = trace(options) else { return };
    let (code, events) = events(&trace, &["--map", "\\Device\\HarddiskVolume3=C:"]);
    assert_eq!(code, 0);
    let old = format!("{FOLDER}\\fixture.txt");
    let new = format!("{FOLDER}\\fixture-renamed.txt");
    assert_eq!(
        briefs(&events),
        [
            format!("created {old}"),
            format!("updated {old}"),
            format!("attributes_modified {old}"),
            format!("moved {old} -> {new}"),
            format!("updated {new}"),
            format!("deleted {new}"),
            "created Software\\RustinelFixture".to_owned(),
            "updated Software\\RustinelFixture\\Run".to_owned(),
            "updated Software\\RustinelFixture\\Flag".to_owned(),
            "deleted Software\\RustinelFixture\\Run".to_owned(),
            "deleted RustinelFixture".to_owned(),
        ],
    );
    // Nothing is attributed to the process that closed the file for another one.
    for event in &events {
        assert_eq!(event["process"]["pid"], 6340, "{event}");
        assert!(event["fim"]["writers"].is_null(), "{event}");
    }
    assert_eq!(events[4]["fim"]["operations"][0]["operation"], "truncate");
    let run = &events[7]["registry"]["data"];
    assert_eq!(run["type"], "REG_SZ");
    assert_eq!(run["strings"][0], "C:\\Windows\\System32\\cmd.exe /c fixture");
    let flag = &events[8]["registry"]["data"];
    assert_eq!((&flag["type"], &flag["strings"][0]), (&"REG_DWORD".into(), &"1".into()));
    assert_eq!(events[8]["fim"]["after"]["size"], 4);
    // The key in which it was created was opened before.
    assert_eq!(events[6]["fim"]["unknown"]["registry.hive"], "opened_before_the_trace");
}

#[test]
fn of_64_bits() {
    check(Options::default());
}

#[test]
fn of_64_bits_compressed() {
    check(Options { compressed: true, ..Options::default() });
}

#[test]
fn of_32_bits_by_cpu_cycles() {
    check(Options { pointer: PointerSize::Four, clock: Clock::Cycles, ..Options::default() });
}

#[test]
fn of_32_bits_compressed_in_system_time() {
    check(Options {
        pointer: PointerSize::Four,
        clock: Clock::System,
        compressed: true,
        ..Options::default()
    });
}
