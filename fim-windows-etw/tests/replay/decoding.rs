//! Payloads by the manifests' tables.

use std::collections::HashMap;

use fim_windows_etw::decode::{
    CLASSIC_FILE, CLASSIC_PROCESS, FIELDS, KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY, Kind,
    Misfit, Provider, Undecoded, payload,
};
use fim_windows_etw::etl::{EventKey, PointerSize, Source};
use serde_json::{Value, json};

use super::writer;

const SOURCES: [Source; 5] = [
    Source::Manifest(KERNEL_FILE),
    Source::Manifest(KERNEL_REGISTRY),
    Source::Manifest(KERNEL_PROCESS),
    Source::Classic(CLASSIC_FILE),
    Source::Classic(CLASSIC_PROCESS),
];
const POINTERS: [PointerSize; 2] = [PointerSize::Four, PointerSize::Eight];

/// Every id and version that is decoded.
fn keys() -> Vec<EventKey> {
    let mut keys = Vec::new();
    for source in SOURCES {
        for layout in Provider::of(source).unwrap().table() {
            for id in layout.ids.0..=layout.ids.1 {
                let key = EventKey { source, id, version: layout.version };
                assert!(!keys.contains(&key), "{key:?} has two layouts");
                keys.push(key);
            }
        }
    }
    keys
}

/// A value in each field.
fn values() -> HashMap<String, Value> {
    FIELDS
        .iter()
        .enumerate()
        .map(|(number, (name, kind))| {
            let value = match kind {
                Kind::Pointer | Kind::U32 | Kind::U64 => json!(number + 1),
                Kind::Wide | Kind::Ansi => json!(format!("{name}\u{fc}").replace('\u{fc}', "x")),
                Kind::Sid => json!("S-1-16-4096"),
                Kind::ClassicSid => json!("S-1-5-21-1-2-3-4"),
                Kind::Binary => json!("0102030405"),
            };
            ((*name).to_owned(), value)
        })
        .collect()
}

#[test]
fn every_layout_takes_its_payload_and_nothing_shorter_or_longer() {
    for key in keys() {
        for pointer in POINTERS {
            let whole = writer::payload(key, &values(), pointer);
            let event = payload(key, &whole, pointer).unwrap_or_else(|e| panic!("{key:?}: {e:?}"));
            assert_eq!((event.id, event.version), (key.id, key.version));
            for length in 0..whole.len() {
                let cut = payload(key, &whole[..length], pointer);
                assert!(matches!(cut, Err(Undecoded::Misfit(_))), "{key:?} cut at {length}");
            }
            let mut longer = whole.clone();
            longer.extend([0; 7]);
            assert!(payload(key, &longer, pointer).is_ok(), "padding");
            longer.push(0);
            let misfit = payload(key, &longer, pointer).unwrap_err();
            assert_eq!(misfit, Undecoded::Misfit(Misfit::Long(8)), "{key:?}");
        }
    }
}

#[test]
fn values_are_those_of_their_fields() {
    for pointer in POINTERS {
        let number =
            |wanted: &str| 1 + FIELDS.iter().position(|(name, _)| *name == wanted).unwrap() as u64;
        let of = |source, id, version| {
            let key = EventKey { source, id, version };
            (key, writer::payload(key, &values(), pointer))
        };
        for version in [0, 1] {
            let (key, bytes) = of(Source::Manifest(KERNEL_FILE), 27, version);
            let values = payload(key, &bytes, pointer).unwrap().values;
            assert_eq!(values.irp, Some(number("Irp")));
            assert_eq!(values.file_object, Some(number("FileObject")));
            assert_eq!(values.file_key, Some(number("FileKey")));
            assert_eq!(values.extra, Some(number("ExtraInformation")));
            assert_eq!(values.info_class, Some(number("InfoClass") as u32));
            assert_eq!(values.name.unwrap().to_string(), "FileNamex");
        }
        let (key, bytes) = of(Source::Manifest(KERNEL_REGISTRY), 5, 0);
        let values = payload(key, &bytes, pointer).unwrap().values;
        assert_eq!(values.data, Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!(values.previous_data, Some(&[1, 2, 3, 4, 5][..]));
        assert_eq!(values.data_type, Some(number("Type") as u32));
        assert_eq!(values.previous_type, Some(number("PreviousDataType") as u32));
        let (key, bytes) = of(Source::Classic(CLASSIC_PROCESS), 1, 4);
        let values = payload(key, &bytes, pointer).unwrap().values;
        assert_eq!(values.user_sid.unwrap().to_string(), "S-1-5-21-1-2-3-4");
        assert_eq!(values.command_line.unwrap().to_string(), "CommandLinex");
        let (key, bytes) = of(Source::Manifest(KERNEL_PROCESS), 1, 4);
        let values = payload(key, &bytes, pointer).unwrap().values;
        assert_eq!(values.mandatory_label.unwrap().integrity_level(), Some("low"));
        assert_eq!(values.parent_sequence_number, Some(number("ParentProcessSequenceNumber")));
    }
}

#[test]
fn what_no_table_has_is_said() {
    let of = |source, id, version| payload(EventKey { source, id, version }, &[], POINTERS[0]);
    let file = Source::Manifest(KERNEL_FILE);
    assert_eq!(of(file, 12, 7).unwrap_err(), Undecoded::Version);
    assert_eq!(of(file, 500, 0).unwrap_err(), Undecoded::Id);
    assert_eq!(of(Source::Message, 12, 1).unwrap_err(), Undecoded::Provider);
}

proptest::proptest! {
    #[test]
    fn any_payload_is_decoded_or_refused(bytes: Vec<u8>, which in 0usize..1000) {
        let keys = keys();
        let key = keys[which % keys.len()];
        for pointer in POINTERS {
            if let Ok(event) = payload(key, &bytes, pointer) {
                let _ = format!("{event:?}");
            }
        }
    }
}
