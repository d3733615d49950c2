//! The seeds of `fuzz/` are what they are meant to be: input that is understood. A seed that is
//! refused at the first check leads the fuzzer nowhere.

use std::io::Cursor;
use std::path::Path;

use fim_windows_etw::decode::{self, KERNEL_FILE, KERNEL_REGISTRY};
use fim_windows_etw::etl::{EventKey, PointerSize, Source, Trace};

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name)).unwrap()
}

#[test]
fn a_trace() {
    let mut trace = Trace::open(Cursor::new(seed("etl_read/small32")), &[]).unwrap();
    assert_eq!((trace.summary().records, trace.summary().damaged), (2, 0));
    trace.next_record().unwrap();
    let record = trace.next_record().unwrap().unwrap();
    assert!(record.items.sid().is_some());
    assert!(decode::decode(&record).is_ok());
}

#[test]
fn payloads() {
    for (name, guid, id, version, pointer) in [
        ("create32", KERNEL_FILE, 12, 1, PointerSize::Four),
        ("set_value64", KERNEL_REGISTRY, 5, 0, PointerSize::Eight),
    ] {
        let bytes = seed(&format!("etw_decode/{name}"));
        let key = EventKey { source: Source::Manifest(guid), id, version };
        assert!(decode::payload(key, &bytes[4..], pointer).is_ok(), "{name}");
    }
}
