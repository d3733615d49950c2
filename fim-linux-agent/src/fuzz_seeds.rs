//! The seeds of `fuzz/` are what they are meant to be: input that is understood. A seed that is
//! refused at the first check leads the fuzzer nowhere.

use std::path::Path;

use fim_common::record::decode;

use crate::{bpf::btf::Btf, fanotify::parse};

fn each(target: &str, mut check: impl FnMut(&str, &[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        check(&path.display().to_string(), &std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
}

#[test]
fn records() {
    each("record_decode", |name, bytes| {
        let record = decode::decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let decode::Body::File(file) = record.body {
            assert_eq!(decode::components(file.path).count(), 2, "{name}");
        }
    });
}

#[test]
fn type_information() {
    each("btf_parse", |name, bytes| {
        let btf = Btf::parse(bytes.to_vec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Through a qualified typedef, and through an anonymous union.
        assert_eq!((btf.offset("a", "c.x"), btf.offset("a", "y")), (Some(8), Some(16)), "{name}");
        assert_eq!(btf.function("f").unwrap().params, ["b"], "{name}");
    });
}

#[test]
fn fanotify_events() {
    each("fanotify_parse", |name, bytes| {
        assert!(parse::events(bytes).all(|event| event.is_ok()), "{name}");
    });
}
