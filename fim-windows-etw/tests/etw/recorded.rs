//! Recorded events through a live session give what replaying them gives, in whatever order and
//! however often they come.

use std::io::Cursor;
use std::sync::atomic::Ordering::Relaxed;

use fim_common::operation::Operation;
use fim_etw_standin as etw;
use fim_windows_etw::correlate::{Correlator, Everything, Options};
use fim_windows_etw::decode::{self, KERNEL_FILE, KERNEL_PROCESS};
use fim_windows_etw::etl::{PointerSize, Source, Trace};
use fim_windows_etw::paths::{Devices, NoLongNames};
use fim_windows_etw::process::NoAccounts;
use serde_json::json;

use crate::data;
use crate::rig::{FOREVER, Setup, brief, file, wait};

/// The events of the recorded trace that the agent is about, and what replay makes of them.
fn recorded() -> Option<(Vec<etw::Record>, Vec<Operation>)> {
    let archive = data::folder()?.join("net.4.5.2.x64.etl.zip");
    let bytes = data::unzipped(&archive, "net.4.5.2.x64.etl");
    let mut trace = Trace::open(Cursor::new(bytes), &[]).unwrap();
    let mut devices = Devices::default();
    for (place, device) in fim_win32::file::devices() {
        devices.map(&device, &place);
    }
    let mut correlator = Correlator::new(Options {
        devices,
        long_names: Box::new(NoLongNames),
        accounts: Box::new(NoAccounts),
        scope: Box::new(Everything),
        outcomes: true,
    });
    let (mut records, mut operations) = (Vec::new(), Vec::new());
    while let Some(record) = trace.next_record().unwrap() {
        let (provider, classic) = match record.key.source {
            Source::Manifest(guid @ (KERNEL_FILE | KERNEL_PROCESS)) => (guid, false),
            Source::Kernel(4) => (decode::CLASSIC_FILE, true),
            _ => continue,
        };
        let Ok(event) = decode::decode(&record) else { continue };
        correlator.take(&record, &event, &mut operations);
        records.push(etw::Record {
            provider: provider.digits(),
            id: record.key.id,
            version: record.key.version,
            classic,
            narrow: record.pointer_size == PointerSize::Four,
            process: record.pid.unwrap_or(u32::MAX),
            thread: record.tid.unwrap_or(u32::MAX),
            time: record.filetime,
            items: record.items.iter().map(|(kind, data)| (kind, data.to_vec())).collect(),
            payload: record.payload.to_vec(),
        });
    }
    correlator.finish(&mut operations);
    Some((records, operations))
}

/// Operations in a few words, however the disk spells the path.
fn words(operations: &[Operation]) -> Vec<String> {
    let word = |operation: &Operation| format!("{:?} {}", operation.time, brief(operation));
    operations.iter().map(|operation| word(operation).to_lowercase()).collect()
}

#[test]
fn the_recorded_trace() {
    let Some((records, replayed)) = recorded() else { return };
    let creates = records.iter().filter(|record| record.id == 12 && !record.classic).count();
    assert_eq!(creates, 562);
    // Classic events and processes have sessions of their own.
    let (names, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.classic);
    assert_eq!(names.iter().filter(|record| record.id == 36).count(), 3054);
    let (files, processes): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|record| record.provider == KERNEL_FILE.digits());
    assert!(!processes.is_empty());
    let named = names.len() as u64;
    etw::deliver("recorded-names", names);
    let rig = Setup { hold: FOREVER, ..Setup::default() }.start("recorded").unwrap();
    etw::wait_delivered("recorded-names", named);
    let counters = rig.collector.counters();
    let (count, started) = (files.len() as u64, processes.len() as u64);
    etw::deliver(&rig.processes, processes);
    etw::wait_delivered(&rig.processes, started);
    etw::deliver(&rig.changes, files);
    etw::wait_delivered(&rig.changes, count);
    let operations = rig.stop();
    assert_eq!(words(&operations), words(&replayed));
    assert_eq!(counters.records.load(Relaxed), named + started + count);
    assert_eq!(counters.undecoded.load(Relaxed), 0);
}

#[test]
fn names_of_open_files_come_before_anything_else() {
    let Some((records, _)) = recorded() else { return };
    let names: Vec<_> =
        records.into_iter().filter(|record| record.classic && record.id == 36).collect();
    let decoded = names[100].clone();
    // They wait for the session that tells names.
    let count = names.len() as u64;
    etw::deliver("named-names", names);
    let mut rig = Setup::default().start("named").unwrap();
    etw::wait_delivered("named-names", count);
    let key = u64::from_le_bytes(decoded.payload[..8].try_into().unwrap());
    let units = decoded.payload[8..].chunks_exact(2).map(|u| u16::from_le_bytes([u[0], u[1]]));
    let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let name = String::from_utf16(&name).unwrap();
    // A write through a handle that nobody saw opened.
    let write = json!({"Irp": 1, "FileObject": 0x99, "FileKey": key, "IOSize": 5});
    let end = json!({"Irp": 1, "Status": 0, "ExtraInformation": 5});
    etw::deliver(&rig.changes, [file(16, write), file(24, end)]);
    let operation = rig.next();
    assert_eq!(operation.kind.name(), "modify");
    let original = operation.details.as_ref().and_then(|details| details.original_path.clone());
    let told = original.or(operation.path.map(|path| path.to_str().unwrap().to_owned()));
    assert_eq!(told.unwrap().to_lowercase(), name.to_lowercase());
    rig.stop();
}

fn life() -> Vec<etw::Record> {
    let name = r"\D\life.txt";
    let mut records = Vec::new();
    let mut time = 134_000_000_000_000_000;
    let mut add = |id, values| {
        time += 1000;
        records.push(etw::Record { time, ..file(id, values) });
    };
    add(12, json!({"Irp": 1, "FileObject": 1, "FileName": name, "CreateOptions": 0x200_0060}));
    add(10, json!({"FileKey": 5, "FileName": name}));
    add(24, json!({"Irp": 1, "Status": 0, "ExtraInformation": 2}));
    for irp in 2..6 {
        add(16, json!({"Irp": irp, "FileObject": 1, "FileKey": 5, "IOSize": irp}));
        add(24, json!({"Irp": irp, "Status": 0, "ExtraInformation": irp}));
    }
    add(13, json!({"Irp": 9, "FileObject": 1, "FileKey": 5}));
    add(14, json!({"Irp": 9, "FileObject": 1, "FileKey": 5}));
    add(12, json!({"Irp": 1, "FileObject": 2, "FileName": name, "CreateOptions": 0x100_0060}));
    add(24, json!({"Irp": 1, "Status": 0, "ExtraInformation": 1}));
    add(
        27,
        json!({"Irp": 1, "FileObject": 2, "FileKey": 5, "InfoClass": 10, "FilePath": r"\D\b.txt"}),
    );
    add(24, json!({"Irp": 1, "Status": 0}));
    add(14, json!({"Irp": 9, "FileObject": 2, "FileKey": 5}));
    records
}

#[test]
fn any_order_and_twice_is_the_same() {
    let run = |prefix: &str, records: Vec<etw::Record>| {
        let rig = Setup { hold: FOREVER, ..Setup::default() }.start(prefix).unwrap();
        let count = records.len() as u64;
        etw::deliver(&rig.changes, records);
        etw::wait_delivered(&rig.changes, count);
        words(&rig.stop())
    };
    let plain = run("in-order", life());
    let kinds: Vec<&str> = plain.iter().map(|word| word.split(' ').nth(1).unwrap()).collect();
    assert!(kinds.contains(&"create") && kinds.contains(&"rename"), "{plain:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "modify").count(), 4, "{plain:?}");
    let mut turned = life();
    turned.reverse();
    assert_eq!(run("turned", turned), plain);
    let twice = life().into_iter().flat_map(|record| [record.clone(), record]).collect();
    assert_eq!(run("twice", twice), plain);
    let (odd, even): (Vec<_>, Vec<_>) =
        life().into_iter().enumerate().partition(|(number, _)| number % 2 == 1);
    let buffers = odd.into_iter().chain(even).map(|(_, record)| record).collect();
    assert_eq!(run("buffers", buffers), plain);
}

/// In order although records are held for a moment only, when one buffer comes behind another.
#[test]
fn what_comes_is_used_before_the_end() {
    let mut rig = Setup::default().start("flows").unwrap();
    etw::deliver(&rig.changes, life());
    assert_eq!(rig.next().kind.name(), "create");
    wait(|| (rig.collector.counters().files.load(Relaxed) >= 6).then_some(()));
    rig.stop();
}
