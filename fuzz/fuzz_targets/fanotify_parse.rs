//! Bytes as read(2) on a fanotify group returns them: no panic, and an end.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The module alone, for the agent around it takes minutes to build and has nothing to add.
#[allow(dead_code, reason = "the agent uses more of it than is fuzzed")]
#[path = "../../fim-linux-agent/src/fanotify/parse.rs"]
mod parse;

fuzz_target!(|bytes: &[u8]| {
    let mut events = parse::events(bytes);
    let mut before = bytes.len();
    while let Some(event) = events.next() {
        let rest = events.rest().len();
        assert!(rest < before, "no progress");
        before = rest;
        let Ok(event) = event else { continue };
        let names = [event.name, event.old, event.new].into_iter().flatten();
        for name in names {
            assert!(!name.name.contains(&0));
        }
        for fid in names_of(&event) {
            assert_eq!(fid.key().len(), 16 + fid.handle().len());
            assert_eq!(parse::Fid::new(fid.key()), Some(fid));
        }
    }
});

fn names_of<'a>(event: &parse::Event<'a>) -> impl Iterator<Item = parse::Fid<'a>> + use<'a> {
    let directories =
        [event.name, event.old, event.new].map(|name| name.map(|name| name.directory));
    directories.into_iter().chain([event.object]).flatten()
}
