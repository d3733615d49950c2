//! More at once than the agent can hold: what is told and what is counted is what was done, and
//! the disk is what the baseline has in the end.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;

use super::{Bench, Counts};
use crate::environment::{Backend, alone, backend, is_emulated, is_ready, say, skip};
use crate::event::{Event, path_text};
use crate::operator::flood::{Flood, ROUND};
use crate::operator::{Op, Operator, Raw};

/// Rounds of names, and files.
fn scale() -> (u32, u32) {
    if is_emulated() { (400, 600) } else { (3_000, 6_000) }
}

/// As little as may be configured.
const SMALLEST: &str = "ring_bytes = \"4KiB\"\nspill_events = 1024\nqueue_events = 1024";

/// A ring of one page, or for fanotify a spill of 1,024 operations, of an agent that stands still.
#[test]
fn delivered_and_counted_is_done() {
    if !is_ready("conservation::flood") {
        return;
    }
    let _alone = alone();
    let bench = Bench::start("flood", SMALLEST, true, |_| ());
    let (names, files) = (bench.place("names"), bench.place("files"));
    let before = bench.closed(2);
    let lost_before = bench.told_as_lost();

    let (rounds, count) = scale();
    flooded(&bench, Flood::Names { directory: Raw::from(&names), count: rounds });
    let done = ROUND.all() * u64::from(rounds);
    let after = match backend() {
        Backend::Bpf => bench.settled("every hook has counted everything", |counts| {
            hooks(counts, &before).map(|(seen, _)| seen) == expected(rounds)
        }),
        Backend::Fanotify => bench.closed(before.stage("taken") + lost_before + done),
    };
    let after = bench.closed(after.stage("taken"));
    let lost = bench.told_as_lost() - lost_before;
    match backend() {
        Backend::Bpf => assert!(lost > 0, "nothing was lost of a page\n{}", after.ledger()),
        // On a machine with nothing else to do the pipeline is faster than the reader. That a full
        // spill is counted is held by `fanotify::tests::load` in any case.
        Backend::Fanotify if lost == 0 => say("the pipeline kept up: nothing was lost"),
        Backend::Fanotify => {}
    }
    match backend() {
        Backend::Bpf => {
            let hooks = hooks(&after, &before);
            assert_eq!(hooks.map(|(sum, _)| sum), expected(rounds), "{}", after.ledger());
            // What came through is told, operation by operation.
            let told = told(&bench, &names);
            let [mkdir, symlink, rename, unlink, rmdir] = hooks.map(|(_, submitted)| submitted);
            for (name, submitted) in
                [("create", mkdir + symlink), ("rename", rename), ("delete", unlink + rmdir)]
            {
                assert_eq!(told.get(name).copied().unwrap_or(0), submitted, "{name}");
            }
        }
        Backend::Fanotify => {
            // Without what concerns the agent's own program and state, which is watched as well and
            // changes nothing here.
            let since = |stage| after.stage(stage) - before.stage(stage);
            let taken = since("taken") - since("unchanged") - since("ignored");
            assert_eq!(taken + lost, done, "{}", after.ledger());
            assert_eq!(told(&bench, &names).values().sum::<u64>(), taken, "{}", after.ledger());
        }
    }
    say(&format!("{done} operations: {lost} lost and counted, the others told"));
    each_name_is_told_once(&bench, &names, rounds);
    bench.baseline_is_disk();

    // And with content: a loss while the comparison runs needs another one.
    flooded(&bench, Flood::Files { directory: Raw::from(&files), count });
    // Each file is one operation at least. One more would not do: whoever looks into the baseline, as
    // this test did, does something in the state directory, and that is taken as well.
    let reached = after.stage("taken") + bench.told_as_lost();
    bench.closed(reached + u64::from(count));
    bench.baseline_is_disk();
    scans_say_who_they_are(&bench);
    bench.agent.stop();
}

/// Does it while the agent stands still: one that runs may keep up, even with a ring of one page.
fn flooded(bench: &Bench, flood: Flood) {
    bench.agent.signal(Signal::STOP);
    Operator::new(Op::Flood(flood)).run();
    bench.agent.signal(Signal::CONT);
}

const HOOKS: [&str; 5] = ["mkdir", "symlink", "rename", "unlink", "rmdir"];

/// Of each of [`HOOKS`] since `before`: submitted and lost together, and submitted.
fn hooks(counts: &Counts, before: &Counts) -> [(u64, u64); 5] {
    HOOKS.map(|hook| {
        let since = |result| counts.hook(hook, result) - before.hook(hook, result);
        let submitted = since("submitted");
        (submitted + since("lost") + since("error"), submitted)
    })
}

fn expected(rounds: u32) -> [u64; 5] {
    [ROUND.mkdir, ROUND.symlink, ROUND.rename, ROUND.unlink, ROUND.rmdir]
        .map(|per_round| per_round * u64::from(rounds))
}

/// Operations below `tree` that were seen, as events tell of them.
fn told(bench: &Bench, tree: &Path) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    for event in seen_below(bench, tree) {
        for operation in event.at("fim.operations").as_array().into_iter().flatten() {
            let name = operation["operation"].as_str().unwrap_or_default().to_owned();
            *told.entry(name).or_default() += operation["count"].as_u64().unwrap_or(0);
        }
    }
    told
}

/// Of the directory itself there are events too, which are not the flood's.
fn seen_below(bench: &Bench, tree: &Path) -> Vec<Event> {
    let own = path_text(tree);
    let lines = bench.agent.stream.lines_below(tree);
    let events = lines.iter().map(|line| line.event());
    events
        .filter(|event| event.path() != own && event.text("event.provider") != Some("scan"))
        .collect()
}

/// What there is has come to be once, by the word of an operation or of a comparison; what is gone
/// has not stayed.
fn each_name_is_told_once(bench: &Bench, tree: &Path, rounds: u32) {
    let mut stories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in bench.agent.stream.lines_below(tree) {
        let event = line.event();
        if let ("moved", Some(from)) = (event.action(), event.text("fim.before.path")) {
            stories.entry(from.to_owned()).or_default().push("deleted".to_owned());
        }
        let action = if event.action() == "moved" { "created" } else { event.action() };
        stories.entry(event.path().to_owned()).or_default().push(action.to_owned());
    }
    let mut wrong = Vec::new();
    let mut count = |kind: char, allowed: &[&[&str]]| {
        for n in 0..rounds {
            let path = path_text(&tree.join(format!("{kind}{n:06}")));
            let story = stories.remove(&path).unwrap_or_default();
            if !allowed.iter().any(|allowed| *allowed == story) {
                wrong.push(format!("{path}: {story:?}"));
            }
        }
    };
    for kind in ['d', 's', 'r'] {
        count(kind, &[&["created"]]);
    }
    for kind in ['m', 'x', 'y'] {
        // Each half may be among the lost ones; what is left of it is not there.
        count(kind, &[&[], &["created"], &["deleted"], &["created", "deleted"]]);
    }
    let shown = &wrong[..wrong.len().min(10)];
    assert!(wrong.is_empty(), "{} names: {shown:#?}\n{}", wrong.len(), bench.agent.log());
}

/// Who did it is not known, and that is said.
fn scans_say_who_they_are(bench: &Bench) {
    let lines = bench.agent.stream.lines_below(&bench.watched);
    let events = lines.iter().map(|line| line.event());
    let mut found = 0;
    for event in events.filter(|event| event.text("event.provider") == Some("scan")) {
        found += 1;
        assert!(!event.has("process") && !event.has("user"), "{event}");
        assert_eq!(event.unknown("process"), Some("not_observed"), "{event}");
        assert_eq!(event.unknown("user"), Some("not_observed"), "{event}");
        assert!(event.is_success() && event.has("rule.name"), "{event}");
        assert!(!event.list("fim.changes").is_empty(), "{event}");
    }
    assert!(found > 0, "no comparison found anything: this tested nothing");
}

/// The kernel's own queue, when it is limited: nobody counts what is lost, and all is found.
#[test]
fn an_overflow_of_the_kernel_s_queue() {
    if !is_ready("conservation::overflow") {
        return;
    }
    if backend() != Backend::Fanotify {
        return skip("conservation::overflow", "there is no such queue with bpf");
    }
    let _alone = alone();
    let bench = Bench::start("overflow", "unlimited_queue = false", true, |_| ());
    let (names, files) = (bench.place("names"), bench.place("files"));
    let limit = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
    let limit: u32 = limit.trim().parse().unwrap();
    // All of it is still queued when the agent goes on.
    bench.agent.signal(Signal::STOP);
    let count = limit / 8 + 500;
    let directory = Raw::from(&names);
    Operator::new(Op::Flood(Flood::Names { directory, count })).run();
    let directory = Raw::from(&files);
    Operator::new(Op::Flood(Flood::Files { directory, count: 1000 })).run();
    bench.agent.signal(Signal::CONT);
    let gap = bench.agent.stream.wait(|line| (line.action == "gap").then(|| line.event())).unwrap();
    assert!(gap.list("fim.gap.hooks").contains(&"fanotify_queue"), "{gap}");
    assert!(!gap.has("fim.gap.count"), "nobody can know how many: {gap}");
    bench.closed(0);
    bench.baseline_is_disk();
    scans_say_who_they_are(&bench);
    bench.agent.stop();
}
