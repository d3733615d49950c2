//! Which sessions are started, with what, and that none is left.

use fim_common::collector::Collector as _;
use fim_common::policy::{Policy, RegistryPattern, Rule};
use fim_etw_standin::{self as etw, Call};
use fim_windows_etw::decode::{KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};

use crate::rig::Setup;

/// EVENT_TRACE_REAL_TIME_MODE, EVENT_TRACE_SYSTEM_LOGGER_MODE, EVENT_TRACE_FLAG_DISK_FILE_IO.
const REAL_TIME: u32 = 0x100;
const SYSTEM_LOGGER: u32 = 0x0200_0000;
const DISK_FILE_IO: u32 = 0x200;

type Enabled = (u128, u64, u32, bool, bool, Option<Vec<u8>>);

fn enabled(calls: &[Call]) -> Vec<Enabled> {
    calls
        .iter()
        .filter_map(|call| match call {
            Call::Enable(enabled) => {
                assert_eq!(enabled.level, 4);
                let (read, query) = (enabled.ids.contains(&15), enabled.ids.contains(&22));
                let file = enabled.provider == KERNEL_FILE.digits();
                let noise = (read && file) || query;
                Some((
                    enabled.provider,
                    enabled.keywords,
                    enabled.properties,
                    noise,
                    enabled.ids.is_empty(),
                    enabled.private.clone(),
                ))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn sessions_are_what_was_asked_for_and_go() {
    let key = RegistryPattern::parse(r"HKLM\SOFTWARE\fim-test-none", None).unwrap();
    let rule = Rule { registry: vec![key], ..Rule::new("keys", Vec::new()) };
    let setup = Setup { policy: Policy::for_windows(vec![rule]), ..Setup::default() };
    // Of an agent that was killed.
    etw::exists("shape-changes");
    let rig = setup.start("shape").unwrap();
    assert!(etw::running("shape-changes") && etw::running("shape-processes"));
    assert!(!etw::running("shape-names"), "it is there for a moment only");
    assert!(rig.collector.summary().contains("through ETW"), "{}", rig.collector.summary());
    rig.stop();
    assert!(!etw::running("shape-changes") && !etw::running("shape-processes"));

    let calls = etw::take_calls("shape-changes");
    assert_eq!(calls[..2], [Call::Stop, Call::Start(256, 64, 128, REAL_TIME, 0)]);
    // SID and process start key. The last one asks for the data of values.
    let (file, registry) = (KERNEL_FILE.digits(), KERNEL_REGISTRY.digits());
    assert_eq!(
        enabled(&calls),
        [
            (file, 0x1ef0, 0x81, false, false, None),
            (registry, 0x7345, 0x81, false, false, None),
            (registry, 0x7345, 0x81, false, false, Some(vec![2, 0, 0, 0])),
        ]
    );
    // It ends, what it has is read, and it is closed then.
    let end: Vec<&Call> = calls.iter().rev().take(2).collect();
    assert_eq!(end, [&Call::Close, &Call::Stop]);
    assert_eq!(calls.iter().filter(|call| **call == Call::Process).count(), 1);

    let calls = etw::take_calls("shape-processes");
    assert_eq!(enabled(&calls), [(KERNEL_PROCESS.digits(), 0x10, 0, false, false, None)]);
    let calls = etw::take_calls("shape-names");
    let names = Call::Start(256, 64, 128, REAL_TIME | SYSTEM_LOGGER, DISK_FILE_IO);
    let calls: Vec<Call> = calls.into_iter().filter(|call| *call != Call::Process).collect();
    assert_eq!(calls, [names, Call::Open, Call::Stop, Call::Close]);
}

#[test]
fn without_rules_about_keys_nothing_of_the_registry_comes() {
    let rig = Setup::default().start("files-only").unwrap();
    rig.stop();
    let calls = etw::take_calls("files-only-changes");
    assert_eq!(enabled(&calls).len(), 1);
}
