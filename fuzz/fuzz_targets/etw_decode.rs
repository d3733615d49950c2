//! A payload of any event that is decoded: no panic, whatever is in it. The first bytes say which.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The modules alone, for the crate around them takes minutes to build and has nothing to add.
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the crate uses more of it than is fuzzed")]
#[path = "../../fim-windows-etw/src/decode/mod.rs"]
mod decode;
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the crate uses more of it than is fuzzed")]
#[path = "../../fim-windows-etw/src/etl/mod.rs"]
mod etl;

fuzz_target!(|bytes: &[u8]| {
    let [provider, id, version, pointer, payload @ ..] = bytes else { return };
    let source = match provider % 5 {
        0 => etl::Source::Manifest(decode::KERNEL_FILE),
        1 => etl::Source::Manifest(decode::KERNEL_REGISTRY),
        2 => etl::Source::Manifest(decode::KERNEL_PROCESS),
        3 => etl::Source::Classic(decode::CLASSIC_FILE),
        _ => etl::Source::Classic(decode::CLASSIC_PROCESS),
    };
    let key = etl::EventKey { source, id: u16::from(*id), version: *version % 8 };
    let pointer = match pointer % 2 {
        0 => etl::PointerSize::Four,
        _ => etl::PointerSize::Eight,
    };
    let Ok(event) = decode::payload(key, payload, pointer) else { return };
    let values = event.values;
    let texts = [values.name, values.key_name, values.value_name, values.command_line];
    for text in texts.into_iter().flatten() {
        assert!(text.to_string().len() <= 3 * payload.len());
    }
    for sid in [values.mandatory_label, values.user_sid].into_iter().flatten() {
        assert!(sid.to_string().starts_with("S-1-"));
    }
});
