//! What arrives, and how often.

use std::fs;

use fim_common::event::{Action, Agent, Fim, Host};
use fim_common::journal::JournalOptions;
use fim_common::pipeline::own_event;

use crate::bench::{Bench, PATIENCE, event, events, sequences, sequences_so_far, sinks, wait};

fn options() -> JournalOptions {
    // Several segments.
    JournalOptions { segment_bytes: 64 << 10, segments: 1000, ..JournalOptions::default() }
}

fn all(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_arrives_once_in_order_also_across_restarts() {
    let mut bench = Bench::new(options());
    let wanted = sinks(&bench, "[[sink]]\nname='a'\ntype='file'\npath='{}/out'\nbatch_wait_ms=0");
    bench.write(events(1000));
    let running = bench.start(&wanted);
    let out = bench.path("out");
    wait("the backlog", || (sequences_so_far(&out).len() == 1000).then_some(())).await;
    for _ in 0..20 {
        bench.write(events(50));
    }
    wait("the rest", || (sequences_so_far(&out).len() == 2000).then_some(())).await;
    assert_eq!(sequences(&out), all(2000));
    bench.wait_metric("lag_events", "a", |lag| lag == 0.0).await;
    assert_eq!(bench.metric("sent_total", "a"), 2000.0);
    // Nothing is sent twice after a stop in order, and what comes then is.
    bench.write(events(7));
    running.stop(PATIENCE).await;
    assert_eq!(sequences(&out), all(2007));
    let mut bench = bench.restarted(options());
    let running = bench.start(&wanted);
    bench.write(events(3));
    running.stop(PATIENCE).await;
    assert_eq!(sequences(&out), [all(2007), all(3)].concat());
    assert_eq!(bench.metric("lag_events", "a"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_does_not_hold_up_another_and_has_everything_later() {
    let mut bench = Bench::new(options());
    let wanted = sinks(
        &bench,
        "[[sink]]\nname='dead'\ntype='file'\npath='{}/not/there'\nbatch_wait_ms=0\n\
         max_retry_wait=1\n\
         [[sink]]\nname='alive'\ntype='file'\npath='{}/out'\nbatch_wait_ms=0",
    );
    let running = bench.start(&wanted);
    bench.write(events(3000));
    wait("what is alive", || (sequences_so_far(&bench.path("out")).len() == 3000).then_some(()))
        .await;
    bench.wait_metric("failed_total", "dead", |count| count >= 2.0).await;
    bench.wait_metric("lag_events", "dead", |lag| lag == 3000.0).await;
    bench.wait_metric("lag_seconds", "dead", |lag| lag > 0.0).await;
    assert_eq!((bench.metric("up", "dead"), bench.metric("up", "alive")), (0.0, 1.0));
    assert_eq!(bench.metric("failed_total", "alive"), 0.0);
    fs::create_dir(bench.path("not")).unwrap();
    let late = bench.path("not/there");
    wait("what was dead", || (sequences_so_far(&late).len() == 3000).then_some(())).await;
    assert_eq!(sequences(&late), all(3000));
    bench.wait_metric("up", "dead", |up| up == 1.0).await;
    bench.wait_metric("lag_events", "dead", |lag| lag == 0.0).await;
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_renamed_is_begun_anew() {
    let mut bench = Bench::new(options());
    let wanted = sinks(&bench, "[[sink]]\nname='a'\ntype='file'\npath='{}/out'\nbatch_wait_ms=0");
    let running = bench.start(&wanted);
    let (out, old) = (bench.path("out"), bench.path("out.1"));
    bench.write(events(100));
    wait("the first", || (sequences_so_far(&out).len() == 100).then_some(())).await;
    fs::rename(&out, &old).unwrap();
    bench.write(events(100));
    wait("the second", || (sequences_so_far(&out).len() == 100).then_some(())).await;
    // As logrotate's `create` does it.
    fs::remove_file(&out).unwrap();
    fs::write(&out, "").unwrap();
    bench.write(events(5));
    wait("the third", || (sequences_so_far(&out).len() == 5).then_some(())).await;
    assert_eq!(sequences(&old), all(100));
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_what_they_say_and_no_more() {
    let mut bench = Bench::new(options());
    let wanted = sinks(
        &bench,
        "[[sink]]\nname='severe'\ntype='file'\npath='{}/severe'\nmin_severity='high'\n\
         batch_wait_ms=0\n\
         [[sink]]\nname='changes'\ntype='file'\npath='{}/changes'\nkinds=['event','alert']",
    );
    let running = bench.start(&wanted);
    let own =
        own_event(Action::Gap, Fim::default(), Host::default().into(), Agent::default().into());
    bench.write([event("/a", 25), event("/b", 74), own, event("/c", 75), event("/d", 100)]);
    running.stop(PATIENCE).await;
    assert_eq!(sequences(&bench.path("severe")), [3, 4, 5], "the agent's own has no severity");
    assert_eq!(sequences(&bench.path("changes")), [1, 2, 4, 5]);
    assert_eq!(bench.metric("filtered_total", "severe"), 2.0);
    assert_eq!(bench.metric("lag_events", "severe"), 0.0);
    // A filter that lets nothing through moves the cursor all the same.
    let bench = bench.restarted(options());
    let running = bench.start(&wanted);
    bench.wait_metric("lag_events", "severe", |lag| lag == 0.0).await;
    running.stop(PATIENCE).await;
    assert_eq!(bench.metric("filtered_total", "severe"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_where_it_is_told_to() {
    let mut bench = Bench::new(options());
    bench.write(events(200));
    let text = "[[sink]]\nname='new'\ntype='file'\npath='{}/new'\nstart='newest'\nbatch_wait_ms=0\n\
                [[sink]]\nname='old'\ntype='file'\npath='{}/old'\nbatch_wait_ms=0";
    let running = bench.start(&sinks(&bench, text));
    bench.write(events(3));
    running.stop(PATIENCE).await;
    assert_eq!(sequences(&bench.path("new")), [201, 202, 203]);
    assert_eq!(sequences(&bench.path("old")), all(203));
}

/// By a clock that goes on when everything waits for it, and stands while the disk is waited for.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_sent_at_a_bounded_rate() {
    let mut bench = Bench::new(options());
    bench.write(events(400));
    let text = "[[sink]]\nname='a'\ntype='file'\npath='{}/out'\nbatch_events=10\n\
                max_events_per_second=100";
    let started = tokio::time::Instant::now();
    let running = bench.start(&sinks(&bench, text));
    let out = bench.path("out");
    let arrived = |count: usize| {
        let out = &out;
        wait("the next", move || (sequences_so_far(out).len() >= count).then_some(()))
    };
    // A second's worth at once, and the rest by and by.
    for (count, earliest) in [(100, 0.0), (200, 1.0), (300, 2.0), (400, 3.0)] {
        arrived(count).await;
        let took = started.elapsed().as_secs_f64();
        assert!((earliest..earliest + 0.1).contains(&took), "{count} events after {took} s");
    }
    assert_eq!(sequences(&out), all(400));
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_added_changed_and_removed_while_events_flow() {
    let mut bench = Bench::new(options());
    let first = sinks(
        &bench,
        "[[sink]]\nname='a'\ntype='file'\npath='{}/a'\nbatch_wait_ms=0\n\
         [[sink]]\nname='b'\ntype='file'\npath='{}/b'\nbatch_wait_ms=0",
    );
    let second = sinks(
        &bench,
        "[[sink]]\nname='a'\ntype='file'\npath='{}/other'\nbatch_wait_ms=0\n\
         [[sink]]\nname='c'\ntype='file'\npath='{}/c'\nbatch_wait_ms=0",
    );
    let mut running = bench.start(&first);
    bench.write(events(100));
    wait("a", || (sequences_so_far(&bench.path("a")).len() == 100).then_some(())).await;
    wait("b", || (sequences_so_far(&bench.path("b")).len() == 100).then_some(())).await;
    running.apply(&second);
    wait("c", || (sequences_so_far(&bench.path("c")).len() == 100).then_some(())).await;
    bench.write(events(100));
    running.stop(PATIENCE).await;
    // It went on where it was, elsewhere.
    assert_eq!(sequences(&bench.path("a")), all(100));
    assert_eq!(sequences(&bench.path("other")), (101..=200).collect::<Vec<_>>());
    assert_eq!(sequences(&bench.path("b")), all(100));
    assert_eq!(sequences(&bench.path("c")), all(200));
    assert!(!bench.metrics.encode().unwrap().contains("{sink=\"b\"}"), "its metrics are gone");
}
