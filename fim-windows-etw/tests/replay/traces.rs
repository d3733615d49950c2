//! Traces as such: what is walked, in which order, and what comes of damage.

use std::io::Cursor;

use fim_windows_etw::decode::KERNEL_FILE;
use fim_windows_etw::etl::{Clock, EventKey, Guid, PointerSize, Source, Trace};
use serde_json::json;

use super::command::stats;
use super::scenario::Scenario;
use super::writer::{Options, START, Writer, Written, compress};

fn options(pointer: PointerSize, clock: Clock, compressed: bool) -> Options {
    Options { pointer, clock, compressed, lost: (0, 0) }
}

fn key(id: u16) -> EventKey {
    EventKey { source: Source::Manifest(Guid::new(7)), id, version: 0 }
}

/// 2,000 records over three processors, each with its number and time.
fn trace(options: Options) -> Vec<u8> {
    let mut writer = Writer::new(options, 3);
    for number in 0..2000u32 {
        let event = Written {
            pid: 100 + number % 7,
            tid: number,
            time: START + u64::from(number) * 777,
            items: vec![(6, vec![3; number as usize % 20])],
            payload: number.to_le_bytes().repeat(number as usize % 30),
        };
        writer.event(number as usize % 3, key((number % 5) as u16), &event);
    }
    writer.finish()
}

#[test]
fn records_come_in_the_order_of_time_from_all_kinds_of_traces() {
    for pointer in [PointerSize::Four, PointerSize::Eight] {
        for clock in [Clock::Qpc, Clock::System, Clock::Cycles] {
            for compressed in [false, true] {
                let bytes = trace(options(pointer, clock, compressed));
                let mut trace = Trace::open(Cursor::new(&bytes), &[key(3), key(5)]).unwrap();
                assert_eq!(trace.header().pointer_size, pointer);
                assert_eq!(trace.header().clock, clock);
                assert_eq!(trace.summary().records, 2001);
                assert_eq!(trace.summary().damaged, 0);
                assert!(trace.has(key(3)) && !trace.has(key(5)));
                let header = trace.next_record().unwrap().unwrap();
                assert_eq!(header.key.source, Source::Kernel(0));
                for number in 0..2000u32 {
                    let record = trace.next_record().unwrap().unwrap();
                    assert_eq!(record.tid, Some(number), "{clock:?}");
                    assert_eq!(record.pid, Some(100 + number % 7));
                    assert_eq!(record.key, key((number % 5) as u16));
                    assert_eq!(record.pointer_size, pointer);
                    let time = START + u64::from(number) * 777;
                    // A tick of the performance counter is longer than one of FILETIME.
                    assert!(record.filetime.abs_diff(time) <= 3, "{} {time}", record.filetime);
                    assert_eq!(record.payload, number.to_le_bytes().repeat(number as usize % 30));
                    let items: Vec<_> = record.items.iter().collect();
                    assert_eq!(items, [(6, &vec![3; number as usize % 20][..])]);
                }
                assert!(trace.next_record().unwrap().is_none());
                assert_eq!(trace.summary().disordered, 0);
            }
        }
    }
}

#[test]
fn a_trace_that_is_cut_anywhere() {
    for compressed in [false, true] {
        let whole = trace(options(PointerSize::Four, Clock::Qpc, compressed));
        for length in (0..whole.len()).step_by(whole.len() / 97) {
            let Ok(mut trace) = Trace::open(Cursor::new(&whole[..length]), &[]) else {
                assert!(length < 512, "{length}");
                continue;
            };
            let expected = trace.summary().records;
            let mut records = 0;
            while trace.next_record().unwrap().is_some() {
                records += 1;
            }
            assert_eq!(records, expected);
            assert!(trace.summary().damaged > 0, "{length} of {}", whole.len());
        }
    }
}

#[test]
fn a_buffer_that_is_overwritten_costs_only_itself() {
    for compressed in [false, true] {
        let whole = trace(options(PointerSize::Eight, Clock::Qpc, compressed));
        // The third buffer.
        let size = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        let second = size(0);
        let third = second + size(second);
        for fill in [0, 0xff, 0x80] {
            let mut garbled = whole.clone();
            garbled[third..third + 72].fill(fill);
            let (code, stats, errors) = stats(&garbled, &[]);
            assert_eq!(code, 1);
            let records = stats["records"].as_u64().unwrap();
            assert!((1700..2001).contains(&records), "{records} {errors}");
            assert!(errors.contains(&format!("no buffer at {third}")), "{errors}");
        }
    }
}

#[test]
fn losses_are_a_gap() {
    let mut s = Scenario::with(Options { lost: (7, 2), ..Options::default() });
    s.file(10, json!({"FileKey": 1, "FileName": "\\x"}));
    let trace = s.trace();
    let (code, found, _) = stats(&trace, &[]);
    assert_eq!(code, 0);
    assert_eq!((&found["lost"]["events"], &found["lost"]["buffers"]), (&7.into(), &2.into()));
    let (_, events) = super::command::events(&trace, &[]);
    assert_eq!(events[1]["event"]["action"], "gap");
    assert!(events[1]["fim"]["gap"]["count"].is_null(), "how many a buffer held is not known");
}

#[test]
fn what_is_not_decoded_is_counted_with_its_reason() {
    let mut writer = Writer::new(Options::default(), 1);
    let key = |id, version| EventKey { source: Source::Manifest(KERNEL_FILE), id, version };
    for (id, version, payload) in [(12, 9, vec![0; 50]), (12, 1, vec![0; 5]), (999, 0, vec![])] {
        let event = Written { time: START, payload, ..Written::default() };
        writer.event(0, key(id, version), &event);
    }
    let trace = writer.finish();
    let (code, stats, said) = stats(&trace, &[]);
    assert_eq!((code, &stats["not_decoded"]), (0, &4.into()));
    let reasons: Vec<_> = stats["providers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["reasons"].as_object()?.keys().next().cloned())
        .collect();
    assert_eq!(reasons, ["payload_does_not_fit", "unknown_version", "id_not_of_interest"]);
    // What would have been used is said, and is a gap among the events.
    assert_eq!(said.matches("events of this kind are not used").count(), 2, "{said}");
    assert!(said.contains("version=9"), "{said}");
    let (code, events) = super::command::events(&trace, &[]);
    let gap = &events.last().unwrap()["fim"]["gap"];
    assert_eq!((code, &gap["count"], &gap["hooks"][0]), (0, &2.into(), &"etw_undecoded".into()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_compressed_is_read_back(input: Vec<u8>, times in 1usize..200) {
        // Through a trace: its reader is the only one that decompresses.
        let body = input.repeat(times);
        let body = &body[..body.len().min(6000)];
        let mut writer = Writer::new(options(PointerSize::Eight, Clock::Qpc, true), 1);
        let event = Written { time: START, payload: body.to_vec(), ..Written::default() };
        writer.event(0, key(1), &event);
        let file = writer.finish();
        let mut trace = Trace::open(Cursor::new(&file), &[]).unwrap();
        proptest::prop_assert_eq!(trace.summary().damaged, 0);
        trace.next_record().unwrap();
        let record = trace.next_record().unwrap().unwrap();
        proptest::prop_assert_eq!(record.payload, body);
        proptest::prop_assert!(!compress(body).is_empty());
    }

    #[test]
    fn bytes_that_are_overwritten_never_stop_the_reader(
        changes in proptest::collection::vec((0usize..60_000, proptest::num::u8::ANY), 1..60),
        compressed: bool,
    ) {
        let mut file = trace(options(PointerSize::Eight, Clock::Qpc, compressed));
        let length = file.len();
        for (at, byte) in changes {
            file[at % length] = byte;
        }
        if let Ok(mut trace) = Trace::open(Cursor::new(&file), &[]) {
            let mut records = 0;
            while trace.next_record().unwrap().is_some() {
                records += 1;
            }
            proptest::prop_assert_eq!(records, trace.summary().records);
        }
    }
}
