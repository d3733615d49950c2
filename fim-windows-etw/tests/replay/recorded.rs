//! Traces that Windows recorded.

use std::collections::BTreeMap;
use std::io::Cursor;

use fim_windows_etw::decode::{self, KERNEL_FILE};
use fim_windows_etw::etl::{Source, Trace};
use serde_json::Value;

use super::command::{events, stats};
use super::data;

fn x64() -> Option<Vec<u8>> {
    let archive = data::folder()?.join("net.4.5.2.x64.etl.zip");
    Some(data::unzipped(&archive, "net.4.5.2.x64.etl"))
}

fn row<'v>(stats: &'v Value, name: &str, id: u64) -> &'v Value {
    let rows = stats["providers"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name && row["id"] == id).unwrap()
}

#[test]
fn every_record_of_the_x64_trace_is_walked() {
    let Some(trace) = x64() else { return };
    let (code, stats, _) = stats(&trace, &[]);
    assert_eq!(code, 0);
    assert_eq!(stats["records"], 179_474);
    assert_eq!(
        (&stats["buffers"]["found"], &stats["buffers"]["compressed"]),
        (&360.into(), &359.into())
    );
    assert_eq!((&stats["damaged"], &stats["disordered"]), (&0.into(), &0.into()));
    let counted: u64 = stats["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 179_474);
    for (name, id, count) in [
        ("Microsoft-Windows-Kernel-File", 12, 562),
        ("Microsoft-Windows-Kernel-Process", 1, 1),
        ("Microsoft-Windows-Kernel-Process", 2, 1),
        ("FileIo", 36, 3054),
        ("FileIo", 32, 16),
        ("FileIo", 35, 14),
        ("Process", 3, 32),
    ] {
        let row = row(&stats, name, id);
        assert_eq!((&row["decoded"], &row["not_decoded"]), (&count.into(), &0.into()), "{row}");
    }
}

/// Dispositions and names as a decoder of its own took them from the bytes.
#[test]
fn every_open_of_the_x64_trace_is_decoded() {
    let Some(trace) = x64() else { return };
    let mut trace = Trace::open(Cursor::new(trace), &[]).unwrap();
    let mut dispositions = BTreeMap::new();
    let mut devices = BTreeMap::new();
    let mut last = 0;
    while let Some(record) = trace.next_record().unwrap() {
        assert!(record.filetime >= last, "in the order of time");
        last = record.filetime;
        if record.key.source != Source::Manifest(KERNEL_FILE) {
            continue;
        }
        let values = decode::decode(&record).unwrap().values;
        *dispositions.entry(values.create_options.unwrap() >> 24).or_insert(0) += 1;
        let name = values.name.unwrap();
        assert!(name.is_exact());
        let name = name.to_string();
        let device = name.split('\\').nth(2).unwrap_or_default().to_owned();
        assert!(name.starts_with("\\Device\\"), "{name}");
        *devices.entry(device).or_insert(0) += 1;
    }
    assert_eq!(dispositions, BTreeMap::from([(1, 492), (2, 69), (5, 1)]));
    assert_eq!(devices.values().sum::<i32>(), 562);
}

#[test]
fn losses_are_told() {
    let Some(folder) = data::folder() else { return };
    let trace = std::fs::read(folder.join("AMSITrace.etl")).unwrap();
    let (code, found, _) = stats(&trace, &[]);
    assert_eq!((code, &found["records"]), (0, &21.into()));
    assert_eq!(found["lost"]["events"], 3);
    let (_, events) = events(&trace, &[]);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event"]["action"], "gap");
    assert_eq!(events[0]["fim"]["gap"]["count"], 3);
}

#[test]
fn small_traces() {
    let Some(folder) = data::folder() else { return };
    for (name, records) in [("powershell.etl", 114), ("lxcore_kernel.etl", 4)] {
        let trace = std::fs::read(folder.join(name)).unwrap();
        let (code, stats, _) = stats(&trace, &[]);
        assert_eq!((code, &stats["records"]), (0, &records.into()), "{name}");
    }
}

/// Whatever is missing or wrong, what can be read is told, and that something is wrong.
#[test]
fn damage_of_the_x64_trace() {
    let Some(whole) = x64() else { return };
    let records = |trace: &[u8]| {
        let (code, found, errors) = stats(trace, &[]);
        (code, found["records"].as_u64().unwrap(), errors)
    };
    let (code, cut, errors) = records(&whole[..whole.len() / 2]);
    assert_eq!(code, 1);
    assert!((100_000..179_000).contains(&cut), "{cut}");
    assert!(errors.contains("cut off") && errors.contains("of 360 buffers"), "{errors}");
    // One buffer's header is overwritten; the buffers behind it lie anywhere.
    let mut garbled = whole.clone();
    garbled[32_074..32_074 + 72].fill(0xee);
    let (code, rest, errors) = records(&garbled);
    assert_eq!(code, 1);
    assert!((178_000..179_474).contains(&rest), "{rest}");
    assert!(errors.contains("there is no buffer at 32074; 15759 bytes"), "{errors}");
    // A compressed body that is none.
    let mut garbled = whole;
    garbled[32_074 + 80..32_074 + 4000].fill(0xee);
    let (code, rest, errors) = records(&garbled);
    assert_eq!(code, 1);
    assert!((178_000..179_474).contains(&rest), "{rest}");
    assert!(errors.contains("buffer at 32074"), "{errors}");
}
