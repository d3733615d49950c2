//! A trace file: no panic, an end, and as many records as were counted beforehand.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The module alone, for the crate around it takes minutes to build and has nothing to add.
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the crate uses more of it than is fuzzed")]
#[path = "../../fim-windows-etw/src/etl/mod.rs"]
mod etl;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut trace) = etl::Trace::open(std::io::Cursor::new(bytes), &[]) else { return };
    let counted = trace.summary().records;
    let mut records = 0;
    while let Ok(Some(record)) = trace.next_record() {
        records += 1;
        assert!(record.payload.len() < 1 << 16);
        for (_, data) in record.items.iter() {
            assert!(data.len() < 1 << 16);
        }
    }
    assert_eq!(records, counted);
});
