//! How much, and how fast.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use crate::cases::{self, Case, Place, Table, nothing};
use crate::environment::{is_emulated, ordinary_user};
use crate::event::{path_text, sha256};
use crate::expect::{self, shell};
use crate::operator::op::numbered;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "load",
    alone: true,
    cases: &[
        Case::new("files_created_and_removed", nothing, files_created_and_removed),
        Case::new("told_within_100_ms", prepare, told_within_100_ms),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

const FILES: u32 = 20_000;
/// And where each instruction is emulated.
const FILES_EMULATED: u32 = 4_000;

fn files() -> u32 {
    if is_emulated() { FILES_EMULATED } else { FILES }
}

/// Nothing is lost, and each is attributed to the process, which is gone long before the last
/// event is read.
fn files_created_and_removed(scene: &Scene<'_>) {
    let started = Instant::now();
    let directory = Raw::from(&scene.inside);
    let report = scene.operate(Op::CreateAndRemove { directory, count: files() });
    let last = path_text(&scene.path(&numbered(files() - 1)));
    let found = scene
        .agent
        .stream
        .wait(|line| (line.action == "deleted" && line.path() == last).then_some(()));
    if let Err(error) = found {
        panic!("the last removal: {error}\n{}", scene.dump());
    }
    scene.mark();
    let took = started.elapsed();

    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let events = scene.events();
    for event in &events {
        expect::change(event);
        expect::actor(event, &report);
        let operations = event.operations().into_iter().map(str::to_owned);
        seen.entry(event.path().to_owned()).or_default().extend(operations);
    }
    let names: Vec<String> =
        (0..files()).map(|number| path_text(&scene.path(&numbered(number)))).collect();
    let incomplete: Vec<&String> = names
        .iter()
        .filter(|name| {
            let operations = seen.get(*name).map(Vec::as_slice).unwrap_or_default();
            !["create", "delete"].iter().all(|wanted| operations.iter().any(|done| done == wanted))
        })
        .collect();
    assert!(incomplete.is_empty(), "{} are not told: {:?} …", incomplete.len(), incomplete.first());
    assert_eq!(seen.len(), names.len(), "events of other files");
    scene.note(&format!(
        "{} files: done in {} ms, {} events, the last one after {} ms",
        files(),
        report.took() / 1_000_000,
        events.len(),
        took.as_millis()
    ));
}

fn prepare(place: &Place) {
    let user = ordinary_user();
    std::fs::write(place.inside.join("file"), "before\n").unwrap();
    for path in [&place.inside, &place.inside.join("file")] {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// From the shell's end to the line, of a file that is there: nothing else may belong to the change.
fn told_within_100_ms(scene: &Scene<'_>) {
    const PROMISED: Duration = Duration::from_millis(100);
    let user = ordinary_user();
    let mut delays = Vec::new();
    let path = scene.path("file");
    for number in 0..10 {
        let script = format!("echo {number} > {}", path.display());
        let status = shell(&script).uid(user.uid).gid(user.gid).status().unwrap();
        assert!(status.success());
        let done = Instant::now();
        let (path, content) = (path_text(&path), format!("{number}\n"));
        let hash = sha256(content.as_bytes());
        let event = scene.wait("updated", |event| {
            event.path() == path && event.text("file.hash.sha256") == Some(&hash)
        });
        assert_eq!(event.action(), "updated", "{event}");
        expect::exact_hash(&event, content.as_bytes());
        delays.push(event.arrived.saturating_duration_since(done));
    }
    delays.sort();
    scene.note(&format!("median {:?}, worst {:?}", delays[delays.len() / 2], delays.last()));
    if is_emulated() {
        scene.skip("times mean nothing under emulation");
    } else {
        // The machine may be busy with something else; not all the time.
        assert!(delays[0] < PROMISED, "{delays:?}");
    }
}
