//! What is lost is told, wherever it is lost; and nothing waits for whom it must not wait.

use fim_common::collector::Collector as _;
use fim_etw_standin as etw;
use fim_windows_etw::decode::KERNEL_FILE;
use serde_json::json;

use crate::rig::{Setup, event, file, wait};

fn created(number: u64) -> etw::Record {
    let name = format!(r"\D\{number}");
    file(30, json!({"FileObject": 0x1000 + number, "FileName": name}))
}

#[test]
fn what_a_session_lost_is_a_gap() {
    let rig = Setup::default().start("loses").unwrap();
    etw::lose(&rig.changes, 7, 0);
    let gap = rig.gap();
    assert_eq!((gap.count, gap.hooks), (Some(7), vec!["etw_changes".to_owned()]));
    assert!(gap.from <= gap.to && gap.scope.is_empty());
    // How much a buffer had is not known.
    etw::lose(&rig.changes, 8, 2);
    assert_eq!(rig.gap().count, None);
    etw::lose(&rig.processes, 3, 0);
    let gap = rig.gap();
    assert_eq!((gap.count, gap.hooks), (Some(3), vec!["etw_processes".to_owned()]));
    // What is lost last is told at the end.
    etw::lose(&rig.changes, 9, 2);
    let losses = rig.losses.clone();
    rig.stop();
    assert_eq!(losses.take().and_then(|gap| gap.count), Some(1));
}

#[test]
fn what_cannot_be_read_is_a_gap() {
    let rig = Setup::default().start("unread").unwrap();
    let unread = |id| etw::Record { id, version: 99, ..event(KERNEL_FILE, 11, 0, json!({})) };
    // Of what is not used, nobody wants to know.
    etw::deliver(&rig.changes, [unread(999), unread(11)]);
    let gap = rig.gap();
    assert_eq!((gap.count, gap.hooks), (Some(1), vec!["etw_undecoded".to_owned()]));
    assert!(gap.from <= gap.to && gap.scope.is_empty());
    // The next ones are told together, at the latest at the end.
    etw::deliver(&rig.changes, [unread(16), unread(11)]);
    let losses = rig.losses.clone();
    rig.stop();
    assert_eq!(losses.take().and_then(|gap| gap.count), Some(2));
}

#[test]
fn a_session_that_somebody_stops_is_started_again() {
    let mut rig = Setup::default().start("stopped").unwrap();
    etw::stop(&rig.changes);
    let gap = rig.gap();
    assert_eq!((gap.count, gap.hooks), (None, vec!["etw_changes".to_owned()]));
    assert_eq!(etw::started(&rig.changes), 2);
    etw::deliver(&rig.changes, [created(1)]);
    assert!(rig.next().path.unwrap().ends_with("1"));
    rig.stop();
}

/// Whoever stops it may see to it that it cannot be started again.
#[test]
fn a_session_that_stays_stopped_is_a_gap() {
    let rig = Setup::default().start("blinded").unwrap();
    for _ in 0..1000 {
        // ERROR_NO_SYSTEM_RESOURCES: there are 64 sessions.
        etw::fail(&rig.changes, "StartTraceW", 1450);
    }
    etw::stop(&rig.changes);
    let gap = rig.gap();
    assert_eq!((gap.count, gap.hooks), (None, vec!["etw_changes".to_owned()]));
    // Nothing was seen up to the end, either.
    let losses = rig.losses.clone();
    rig.stop();
    let last = losses.take().unwrap();
    assert_eq!((last.count, last.hooks), (None, vec!["etw_changes".to_owned()]));
    assert!(last.from >= gap.from);
}

#[test]
fn callbacks_never_wait_for_a_pipeline_that_does() {
    // One operation finds room in front of the pipeline, some thousand records in the queue, as many
    // where they are brought into order, and as many in between: however fast they are taken there, that
    // is not all of them.
    const COUNT: u64 = 40_000;
    let setup = Setup { queue: 1 << 20, channel: 1, ..Setup::default() };
    let mut rig = setup.start("waits").unwrap();
    etw::deliver(&rig.changes, (0..COUNT).map(created));
    // Nobody takes anything, and each callback returns.
    etw::wait_delivered(&rig.changes, COUNT);
    let gap = rig.gap();
    assert_eq!(gap.hooks, ["etw_queue"]);
    let mut lost = gap.count.unwrap();
    assert!(lost > 0 && gap.from <= gap.to);
    // What was not lost comes, and no more.
    let losses = rig.losses.clone();
    let mut came = 0;
    let counters = rig.collector.counters();
    let stopped = std::thread::spawn(move || {
        rig.collector.stop().unwrap();
        rig.collector
    });
    while rig.observations.blocking_recv().is_some() {
        came += 1;
        // The last sender goes with the collector.
        if came + lost >= COUNT && stopped.is_finished() {
            break;
        }
        lost += losses.take().and_then(|gap| gap.count).unwrap_or(0);
    }
    drop(stopped.join().unwrap());
    lost += losses.take().and_then(|gap| gap.count).unwrap_or(0);
    assert_eq!(came + lost, COUNT);
    assert_eq!(counters.queue_lost.load(std::sync::atomic::Ordering::Relaxed), lost);
}

#[test]
fn a_session_that_does_not_end_is_left_behind() {
    let mut rig = Setup::default().start("hangs").unwrap();
    etw::hold(&rig.changes, 0);
    etw::deliver(&rig.changes, [created(1)]);
    let error = rig.collector.stop().unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    assert!(!etw::running("hangs-changes"));
    let calls = etw::take_calls("hangs-changes");
    assert_eq!(calls.last(), Some(&etw::Call::Close));
}

#[test]
fn what_a_session_holds_when_it_is_stopped_is_handed_over() {
    let rig = Setup::default().start("drained").unwrap();
    etw::hold(&rig.changes, 10);
    etw::deliver(&rig.changes, (0..50).map(created));
    etw::wait_delivered(&rig.changes, 10);
    let name = rig.changes.clone();
    let stopping = std::thread::spawn(move || rig.stop());
    // It is being stopped by now.
    wait(|| (!etw::running(&name)).then_some(()));
    etw::release(&name);
    assert_eq!(stopping.join().unwrap().len(), 50);
}

#[test]
fn a_fence_comes_behind_what_was_before_it() {
    let mut rig = Setup::default().start("fence").unwrap();
    etw::deliver(&rig.changes, [created(1)]);
    etw::wait_delivered(&rig.changes, 1);
    (rig.collector.fences())(42);
    let mut seen = Vec::new();
    loop {
        match rig.observations.blocking_recv().unwrap() {
            fim_common::collector::Observation::Operation(_) => seen.push("operation"),
            fim_common::collector::Observation::Fence(42) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["operation"]);
    rig.stop();
}
