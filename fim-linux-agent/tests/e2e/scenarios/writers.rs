//! Files that are written for long, by several, or while they are read.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use sha2::{Digest as _, Sha256};

use crate::cases::{self, Case, Place, Table};
use crate::environment::is_emulated;
use crate::event::{hex, path_text, sha256};
use crate::expect;
use crate::operator::content::Content;
use crate::operator::op::{CHUNK, pattern};
use crate::operator::{Hold, Op, Operator, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "writers",
    alone: true,
    cases: &[
        Case::new("a_million_small_writes", prepare, a_million_small_writes),
        Case::new("two_writers", prepare, two_writers),
        Case::new("two_writers_on_disk", prepare, two_writers).on_disk(),
        Case::new("changed_while_hashed", prepare, changed_while_hashed),
        Case::new("moved_in_while_mapped", prepare, moved_in_while_mapped),
        Case::new("moved_in_while_mapped_on_disk", prepare, moved_in_while_mapped).on_disk(),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

const OLD: &[u8] = b"old content\n";

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), OLD).unwrap();
}

/// The first one is told at once, and all of them in a handful of events.
fn a_million_small_writes(scene: &Scene<'_>) {
    let path = scene.path("a");
    let count = if is_emulated() { 100_000 } else { 1_000_000 };
    let op = Op::Storm { path: Raw::from(&path), count };
    let mut running = Operator::new(op).hold(Hold::BeforeClose).start();
    let report = running.report();
    // The file is still open, and will be until this has come.
    let first = scene.change(&report, "updated", &path);
    running.finish();
    let content = fs::read(&path).unwrap();
    let hash = sha256(&content);
    let last = scene.wait("the final hash", |event| event.text("file.hash.sha256") == Some(&hash));
    expect::change(&last);
    expect::actor(&last, &report);
    expect::exact_hash(&last, &content);
    expect::state(&last, &path);
    scene.only_action("updated", &path, 1..=49);
    assert!(first.number("event.sequence") <= last.number("event.sequence"));
    scene.note(&format!(
        "{count} writes in {} ms made {} events",
        report.took() / 1_000_000,
        scene.count()
    ));
}

/// Everybody who had the file open for writing is named.
fn two_writers(scene: &Scene<'_>) {
    let path = scene.path("a");
    let start = |bytes: &[u8]| {
        let op = Op::Write { path: Raw::from(&path), bytes: bytes.to_vec() };
        let mut running = Operator::new(op).hold(Hold::BeforeClose).start();
        let report = running.report();
        (running, report)
    };
    let (one, first) = start(b"written by one");
    let (other, second) = start(b"written by the other one");
    one.finish();
    other.finish();
    let content = fs::read(&path).unwrap();
    let hash = sha256(&content);
    scene.wait("the final hash", |event| event.text("file.hash.sha256") == Some(&hash));
    scene.only_action("updated", &path, 1..=8);
    let events = scene.events();
    let named: BTreeSet<u64> = events.iter().flat_map(|event| event.named()).collect();
    let expected = BTreeSet::from([u64::from(first.pid), u64::from(second.pid)]);
    assert_eq!(named, expected, "{}", scene.dump());
    for event in &events {
        let of_process = [("process", event.at("process")), ("user", event.at("user"))];
        let of_writers = event.at("fim.writers").as_array().into_iter().flatten();
        let of_writers = of_writers
            .flat_map(|writer| [("process", &writer["process"]), ("user", &writer["user"])]);
        for (name, value) in of_process.into_iter().chain(of_writers) {
            match name {
                "process" => assert_eq!(value["executable"], *first.exe.text(), "{event}"),
                _ => assert_eq!(value["id"], "0", "{event}"),
            }
        }
    }
    let last = events.last().unwrap();
    expect::exact_hash(last, &content);
    expect::state(last, &path);
}

/// Where it was opened and mapped nobody watched, and the page is dirty when it comes: its times tell
/// nothing of what is stored from then on.
fn moved_in_while_mapped(scene: &Scene<'_>) {
    let (from, to) = (scene.outside.join("o"), scene.path("d/o"));
    let (first, second) = (b"stored before\n".to_vec(), b"stored behind\n".to_vec());
    fs::create_dir_all(from.join("sub")).unwrap();
    let name = "sub/file";
    fs::write(from.join(name), &first).unwrap();
    let store = Content::StoreTwice {
        path: Raw::from(&from.join(name)),
        first: first.clone(),
        second: second.clone(),
        beside: None,
    };
    let mut running = Operator::new(Op::Content(store)).hold(Hold::BeforeClose).start();
    running.report();
    fs::create_dir(to.parent().unwrap()).unwrap();
    scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let path = path_text(&to.join(name));
    let moved = scene.wait("the file that came along", |event| event.path() == path);
    assert_eq!(moved.text("file.hash.sha256"), Some(&*sha256(&first)), "{moved}");
    running.finish();
    let event = scene.wait("the last store", |event| {
        event.path() == path && event.text("file.hash.sha256") == Some(&sha256(&second))
    });
    assert_eq!(event.action(), "updated", "{event}");
    expect::change(&event);
}

/// A hash that is called exact is of a content that the file had at one moment, and has the size
/// of that content; in the end it is that of the file.
fn changed_while_hashed(scene: &Scene<'_>) {
    let path = scene.path("a");
    let (times, chunks) = if is_emulated() { (4, 8) } else { (8, 64) };
    scene.operate(Op::Rewrite { path: Raw::from(&path), times, chunks });
    let content = fs::read(&path).unwrap();
    let hash = sha256(&content);
    scene.wait("the final hash", |event| event.text("file.hash.sha256") == Some(&hash));
    scene.only_action("updated", &path, 1..=50);
    let events = scene.events();
    let last = events.last().unwrap();
    expect::exact_hash(last, &content);
    expect::state(last, &path);

    let mut states = HashMap::from([(sha256(OLD), OLD.len()), (sha256(b""), 0)]);
    for round in 0..times {
        let mut hash = Sha256::new();
        let chunk = pattern(round);
        for number in 1..=chunks {
            hash.update(&chunk);
            states.insert(hex(&hash.clone().finalize()), number * CHUNK);
        }
    }
    let mut kinds: HashMap<String, usize> = HashMap::new();
    for event in &events {
        let state = event.text("fim.hash_state").unwrap_or("none");
        *kinds.entry(state.to_owned()).or_default() += 1;
        let hash = event.text("file.hash.sha256");
        assert_eq!(hash.is_some(), state == "exact", "{event}");
        if let Some(hash) = hash {
            let size = states.get(hash).copied().map(|size| size as u64);
            assert!(size.is_some(), "a hash of no content that ever was: {event}");
            assert_eq!(event.number("file.size"), size, "{event}");
        }
    }
    assert_eq!(path_text(&path), last.path());
    scene.note(&format!("{} events: {kinds:?}", events.len()));
}
