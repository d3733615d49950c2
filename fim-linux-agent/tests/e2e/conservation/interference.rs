//! Nobody's operation has another result because an agent is there, whatever state it is in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::process::Signal;

use super::Bench;
use crate::environment::{alone, is_emulated, is_ready};
use crate::event::sha256;
use crate::operator::flood::Flood;
use crate::operator::{Hold, Op, Operator, Raw};
use crate::scratch::{Scratch, directory};

#[test]
fn no_result_changes() {
    if !is_ready("conservation::interference") {
        return;
    }
    let _alone = alone();
    let results = Scratch::new("interference-results");
    let unwatched = results.directory("unwatched");
    let truth = everything(&unwatched, results.path());
    assert!(truth.0.lines().count() > 300, "{}", truth.0);

    let bench = Bench::start("interference", "ring_bytes = \"4KiB\"", true, |_| ());
    let same = |state: &str| {
        let found = everything(&bench.place(&state.replace(' ', "-")), results.path());
        assert_eq!(found.0, truth.0, "results with an agent that is {state}");
        assert_eq!(found.1, truth.1, "files with an agent that is {state}");
    };
    same("attached");

    let rounds = if is_emulated() { 300 } else { 2_000 };
    let place = Raw::from(&bench.place("flood"));
    let flood = Flood::Names { directory: place, count: rounds };
    let mut flood = Operator::new(Op::Flood(flood)).hold(Hold::BeforeExit).start();
    same("overloaded");
    flood.report();
    flood.finish();

    bench.agent.signal(Signal::STOP);
    same("stopped");
    // Everything that it can hold is full by now.
    let directory = Raw::from(&bench.place("flood while stopped"));
    Operator::new(Op::Flood(Flood::Names { directory, count: rounds })).run();
    same("stopped and full");
    bench.agent.signal(Signal::CONT);
    bench.closed(0);

    let directory = Raw::from(&bench.place("killed meanwhile"));
    let flood = Flood::Names { directory, count: rounds };
    let mut flood = Operator::new(Op::Flood(flood)).hold(Hold::BeforeExit).start();
    bench.agent.signal(Signal::KILL);
    same("killed");
    assert_eq!(flood.report().errno, None, "the flood during which the agent was killed");
    flood.finish();
}

/// What the operations returned, and what is there afterwards.
fn everything(place: &Path, results: &Path) -> (String, BTreeMap<String, String>) {
    let work = place.join("work");
    directory(&work);
    let text = results.join("results");
    let flood = Flood::Everything { directory: Raw::from(&work), results: Raw::from(&text) };
    Operator::new(Op::Flood(flood)).run();
    let mut tree = BTreeMap::new();
    list(&work, &work, &mut tree);
    (fs::read_to_string(text).unwrap(), tree)
}

fn list(root: &Path, path: &Path, tree: &mut BTreeMap<String, String>) {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let content = match () {
        () if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
        () if kind.is_file() => sha256(&fs::read(path).unwrap()),
        () if kind.is_fifo() => "a FIFO".to_owned(),
        () => String::new(),
    };
    let owner = (metadata.uid(), metadata.gid());
    let size = if kind.is_dir() { 0 } else { metadata.len() };
    let text = format!("{:o} {owner:?} {} {size} {content}", metadata.mode(), metadata.nlink());
    tree.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            list(root, &entry.unwrap().path(), tree);
        }
    }
}
