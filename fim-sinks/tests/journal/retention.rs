//! What the journal keeps for a sink.

use std::fs;

use fim_common::journal::{JournalOptions, OnFull, segments};

use crate::bench::{Bench, PATIENCE, events, sequences_so_far, sinks, wait};

fn options(on_full: OnFull) -> JournalOptions {
    JournalOptions { segment_bytes: 16 << 10, segments: 3, on_full, ..JournalOptions::default() }
}

const DEAD: &str = "[[sink]]\nname='a'\ntype='file'\npath='{}/not/there'\nmax_retry_wait=1";

/// Writes until the journal wants no more, or has taken far more than it may keep.
fn fill(bench: &mut Bench) -> bool {
    for _ in 0..2000 {
        for event in events(10) {
            if bench.journal.append(&event).is_err() {
                return true;
            }
        }
        if bench.journal.flush().is_err() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_that_a_sink_has_not_sent() {
    let mut bench = Bench::new(options(OnFull::Block));
    let running = bench.start(&sinks(&bench, DEAD));
    // At once: before the sink has done anything.
    assert!(fill(&mut bench), "more was taken than may be kept, and nothing was sent");
    let first = segments(&bench.path("journal")).unwrap()[0].clone();
    assert!(first.ends_with("journal-000000000001.jsonl"), "{}", first.display());
    running.stop(std::time::Duration::ZERO).await;
    // The operator gives it up: the journal is free.
    let mut bench = bench.restarted(options(OnFull::Block));
    let running = bench.start(&[]);
    assert!(!fill(&mut bench), "a sink that is not there any more holds the journal");
    running.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_lets_go_is_counted_and_the_sink_goes_on() {
    let mut bench = Bench::new(options(OnFull::DropOldest));
    let running = bench.start(&sinks(&bench, DEAD));
    assert!(!fill(&mut bench), "a sink holds up a journal that is to drop what is old");
    fs::create_dir(bench.path("not")).unwrap();
    let out = bench.path("not/there");
    bench.write(events(1));
    let last = bench.journal.last_sequence().unwrap();
    wait("the newest", || sequences_so_far(&out).contains(&last).then_some(())).await;
    assert!(bench.metric("missed_segments_total", "a") > 0.0);
    running.stop(PATIENCE).await;
}
