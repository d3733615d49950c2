//! Bytes as they come from the ring: no panic, and what is decoded is consistent.
#![no_main]

use fim_common::record::decode::{Body, components, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = decode(bytes) else { return };
    assert_eq!(record.header.len as usize, bytes.len());
    let paths = match record.body {
        Body::File(file) => [file.path, file.path2],
        Body::Process(process) => {
            assert!(process.args.len() <= bytes.len());
            [process.exe, process.cwd]
        }
        Body::Fork(_) | Body::Exit => return,
    };
    for path in paths {
        for component in components(path) {
            assert!(!component.is_empty() && !component.contains(&0));
        }
    }
});
