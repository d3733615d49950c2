//! A flood in one place hides nothing elsewhere, and costs bounded memory; and what is nobody's
//! business makes no loss.

use std::fs;
use std::path::Path;

use super::Bench;
use crate::agent::{Agent, Setup};
use crate::environment::{Backend, alone, backend, beside_others, is_emulated, is_ready, say};
use crate::event::path_text;
use crate::expect;
use crate::operator::flood::{Flood, changed, prepare_changes};
use crate::operator::op::numbered;
use crate::operator::{Hold, Op, Operator, Raw, Report};
use crate::scratch::Scratch;
use crate::stream::Line;

/// Changes elsewhere at a time.
const CHANGES: u32 = 20;
/// How often during the creates.
const ROUNDS: u32 = 8;
/// Resident memory at its most. An agent that does nothing has some 30 MiB; what may wait at
/// default settings is 262,144 operations before the pipeline and 65,536 in it, of up to 1.8 KiB.
const MEMORY_MAX: u64 = 700 << 20;

#[test]
fn a_flood_hides_nothing() {
    if !is_ready("conservation::elsewhere") {
        return;
    }
    let _alone = alone();
    let bench = Bench::start("elsewhere", "", true, |watched| {
        let rounds = (0..ROUNDS).map(|round| format!("creates/elsewhere-{round}"));
        for name in rounds.chain(["storm/elsewhere".to_owned()]) {
            let elsewhere = watched.join(name);
            fs::create_dir_all(&elsewhere).unwrap();
            prepare_changes(&elsewhere, CHANGES);
        }
        fs::write(watched.join("storm/file"), "old").unwrap();
        fs::create_dir(watched.join("creates/here")).unwrap();
    });
    let (writes, creates) = if is_emulated() { (100_000, 5_000) } else { (5_000_000, 200_000) };

    // The storm ends when it is told to, and what is done elsewhere is done before.
    let file = bench.watched.join("storm/file");
    let storm = Op::Storm { path: Raw::from(&file), count: writes };
    let mut storm = Operator::new(storm).hold(Hold::BeforeClose).start();
    bench.agent.stream.wait_below(&file, |event| event.action() == "updated").unwrap();
    let report = change_elsewhere(&bench, &bench.watched.join("storm/elsewhere"));
    let done = storm.report();
    storm.finish();
    say(&format!(
        "{writes} writes from {} to {} ms of the changes",
        (i128::from(done.began) - i128::from(report.began)) / 1_000_000,
        (i128::from(done.ended) - i128::from(report.began)) / 1_000_000
    ));
    assert!(report.began < done.ended, "the storm was over before anything else was done");

    // With another round of changes whenever the agent has come so much further: some find all
    // queues empty, some full.
    let here = bench.watched.join("creates/here");
    let flood = Op::CreateAndRemove { directory: Raw::from(&here), count: creates };
    let mut flood = Operator::new(flood).hold(Hold::BeforeExit).start();
    for round in 0..ROUNDS {
        let name = path_text(&here.join(numbered(creates / ROUNDS * round)));
        let reached =
            |line: &Line| (line.path() >= &*name && line.is_below(&path_text(&here))).then_some(());
        bench.agent.stream.wait(reached).unwrap();
        change_elsewhere(&bench, &bench.watched.join(format!("creates/elsewhere-{round}")));
    }
    flood.report();
    flood.finish();

    // It may have lost some of itself, which is found; and said, with where it was.
    bench.closed(2 * u64::from(creates));
    for line in bench.losses() {
        let gap = line.event();
        if backend() == Backend::Fanotify {
            assert_eq!(gap.list("fim.gap.scope"), [path_text(&here)], "{gap}");
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", bench.agent.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    say(&format!("the agent had {} MiB at most", kilobytes >> 10));
    assert!(kilobytes << 10 < MEMORY_MAX, "{line}");
    bench.agent.stop();
    bench.baseline_is_disk();
}

/// What a process still does to a file that was removed with its directory before the agent came: it
/// has no path, and nobody has lost anything by that.
#[test]
fn what_had_no_name_already_is_no_loss() {
    if !is_ready("conservation::elsewhere") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("nameless");
    let gone = scratch.directory("gone");
    fs::write(gone.join("file"), "").unwrap();
    let storm = Op::Storm { path: Raw::from(&gone.join("file")), count: 1 };
    let mut storm = Operator::new(storm).hold(Hold::BeforeClose).start();
    storm.report();
    fs::remove_dir_all(&gone).unwrap();
    let watched = scratch.directory("watched");
    let agent = Agent::start(Setup::new(scratch.path(), &[&watched]));
    storm.finish();
    let marker = watched.join("marker");
    fs::write(&marker, "").unwrap();
    agent.tells_of(&marker);
    // Fails if it has told of a loss.
    agent.stop();
}

/// Another process does things of its own, each of which is told with it.
fn change_elsewhere(bench: &Bench, directory: &Path) -> Report {
    let flood = Flood::Changes { directory: Raw::from(directory), count: CHANGES };
    let report = Operator::new(Op::Flood(flood)).run();
    for n in 0..CHANGES {
        let (action, name) = changed(n);
        let path = path_text(&directory.join(name));
        let event = bench
            .agent
            .stream
            .wait_below(directory, |event| event.action() == action && event.path() == path);
        let event =
            event.unwrap_or_else(|error| panic!("{action} {path}: {error}\n{}", bench.agent.log()));
        expect::change(&event);
        expect::actor(&event, &report);
    }
    report
}
