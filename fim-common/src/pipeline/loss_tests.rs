//! What comes of a loss: what was lost is found, and nothing is told that was not.

use super::*;
use crate::collector::Gap;
use crate::event::Provider;

fn gap(count: u64) -> Gap {
    let now = Timestamp::now();
    Gap { from: now, to: now, count: Some(count), hooks: vec!["unlink".into()], scope: vec![] }
}

/// Action, last component of the path, and whether a comparison found it.
fn told(events: &[Event]) -> Vec<(Action, String, bool)> {
    events
        .iter()
        .map(|event| {
            let path = event.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
            let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
            (event.event.action, name.into_owned(), event.event.provider == Some(Provider::Scan))
        })
        .collect()
}

/// Those of `name`.
fn about(events: &[Event], name: &str) -> Vec<(Action, bool)> {
    let told = told(events).into_iter().filter(|(_, path, _)| path == name);
    told.map(|(action, _, scan)| (action, scan)).collect()
}

impl Bench {
    /// Waits until there are so many events in the journal: by the ledger.
    pub(super) async fn events(&self, count: u64) {
        let limit = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.ledger.counts().get(Stage::Events) < count {
            assert!(tokio::time::Instant::now() < limit, "{:?}", self.ledger.counts());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn before_fence(
        &self,
        work: impl FnOnce(&Losses) -> Vec<Operation> + Send + 'static,
    ) {
        self.under_way.lock().unwrap().push_back(Box::new(work));
    }
}

#[test]
fn what_a_gap_covers_is_found_on_disk() {
    let bench = Bench::new();
    let events = bench.run(async |_sender| {
        fs::write(bench.path("unseen"), "x").unwrap();
        bench.losses.report(gap(3));
        // agent_started, gap, the directory, the file, gap_closed.
        bench.events(5).await;
    });
    let actions: Vec<Action> = events.iter().map(|event| event.event.action).collect();
    assert_eq!(actions, [Action::Gap, Action::Created, Action::Created, Action::GapClosed]);
    assert_eq!(about(&events, "unseen"), [(Action::Created, true)]);
    let found = events.iter().find(|event| event.event.provider == Some(Provider::Scan)).unwrap();
    assert!(found.process.is_none() && found.user.is_none());
    assert_eq!(found.fim.unknown.get("process").map(String::as_str), Some("not_observed"));
}

#[test]
fn a_pipeline_gets_on_only_when_the_collector_s_word_comes_through() {
    let bench = Bench::new();
    bench.run(async |sender| {
        let began = bench.health.beats();
        // One that is gone would have the collector asked what became of it.
        fs::write(bench.path("a"), "").unwrap();
        send(sender, operation(OperationKind::Create, &bench.path("a"), 7)).await;
        bench.events(2).await;
        assert_eq!(bench.health.beats(), began, "an operation alone proves nothing");
        let _ = sender.send(Observation::Fence(1)).await;
        bench.losses.report(gap(1));
        // The gap, its end: behind the fences of a scan.
        bench.events(4).await;
        assert!(bench.health.beats() > began);
    });
}

#[test]
fn an_operation_that_is_under_way_is_not_told_by_the_comparison_too() {
    let bench = Bench::new();
    let (seen, unseen) = (bench.path("seen"), bench.path("unseen"));
    let events = bench.run(async |_sender| {
        fs::write(&seen, "x").unwrap();
        fs::write(&unseen, "x").unwrap();
        // It was done before the disk was read, and comes behind the loss.
        let path = seen.clone();
        bench.before_fence(move |_| {
            vec![
                operation(OperationKind::Create, &path, 7),
                operation(close(0, Modified::Yes), &path, 7),
            ]
        });
        bench.losses.report(gap(1));
        bench.events(6).await;
    });
    assert_eq!(about(&events, "seen"), [(Action::Created, false)]);
    assert_eq!(about(&events, "unseen"), [(Action::Created, true)]);
    assert_eq!(told(&events).last().map(|(action, ..)| *action), Some(Action::GapClosed));
}

#[test]
fn a_loss_during_the_comparison_needs_another_one() {
    let bench = Bench::new();
    let (first, second) = (bench.path("first"), bench.path("second"));
    let events = bench.run(async |_sender| {
        fs::write(&first, "x").unwrap();
        let path = second.clone();
        bench.before_fence(move |losses| {
            // Behind the back of the scan that has read this directory.
            fs::write(&path, "x").unwrap();
            losses.report(gap(2));
            Vec::new()
        });
        bench.losses.report(gap(1));
        bench.events(7).await;
    });
    let actions: Vec<Action> = events
        .iter()
        .map(|event| event.event.action)
        .filter(|action| matches!(action, Action::Gap | Action::GapClosed))
        .collect();
    assert_eq!(actions, [Action::Gap, Action::Gap, Action::GapClosed], "{:?}", told(&events));
    let closed = events.last().unwrap();
    assert_eq!(closed.event.action, Action::GapClosed, "behind everything that was found");
    assert_eq!(closed.fim.gap.as_ref().unwrap().count, Some(3), "of both");
    for name in ["first", "second"] {
        assert_eq!(about(&events, name), [(Action::Created, true)], "{name}");
    }
}

#[test]
fn a_flood_of_losses_does_not_queue_comparisons() {
    let bench = Bench::new();
    let events = bench.run(async |_sender| {
        for _ in 0..1000 {
            bench.losses.report(gap(1));
            tokio::task::yield_now().await;
        }
        bench.events(4).await;
    });
    let closed: Vec<&Event> =
        events.iter().filter(|event| event.event.action == Action::GapClosed).collect();
    let lost: u64 = events
        .iter()
        .filter(|event| event.event.action == Action::Gap)
        .map(|event| event.fim.gap.as_ref().unwrap().count.unwrap())
        .sum();
    assert_eq!(lost, 1000, "each is counted once");
    assert!(closed.len() <= 3, "{} comparisons for one flood", closed.len());
}

#[test]
fn a_loss_is_told_before_what_waits() {
    const OPERATIONS: usize = 1000;
    let bench = Bench::new();
    let events = bench.run(async |sender| {
        // Taken in by turns of 256; without content, so that each is an event at once.
        for number in 0..OPERATIONS {
            let path = bench.path(&format!("d{number}"));
            let mut operation = operation(OperationKind::Create, &path, 1);
            operation.after.kind = Some(ObjectKind::Dir);
            send(sender, operation).await;
        }
        bench.losses.report(gap(1));
    });
    let place = events.iter().position(|event| event.event.action == Action::Gap).unwrap();
    assert!(place < OPERATIONS - 100, "the gap stands behind {place} of {OPERATIONS}");
}

#[test]
fn an_event_about_attributes_does_not_hide_a_content_that_was_lost() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        fs::write(&path, "one").unwrap();
        send(sender, operation(OperationKind::Create, &path, 1)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 1)).await;
        bench.events(2).await;
        // Nobody saw this; as long as before, and at another time.
        fs::write(&path, "two").unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let mut permissions = path.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(&path, permissions).unwrap();
        let mut chmod = operation(OperationKind::SetAttributes, &path, 2);
        let now = crate::object::stat(&path).unwrap();
        chmod.before = ObjectState { mode: Some(0o644), ..now.clone() };
        chmod.after = now;
        send(sender, chmod).await;
        bench.events(3).await;
        bench.losses.report(gap(1));
        bench.events(6).await;
    });
    let about = about(&events, "f");
    assert_eq!(
        about,
        [(Action::Created, false), (Action::AttributesModified, false), (Action::Updated, true),],
        "{:?}",
        told(&events)
    );
    let found = events.iter().rfind(|event| event.event.action == Action::Updated).unwrap();
    assert!(found.fim.changes.contains(&Property::Content), "{:?}", found.fim.changes);
}

#[test]
fn a_doubtful_close_does_not_hide_a_mode_that_was_lost() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        fs::write(&path, "one").unwrap();
        send(sender, operation(OperationKind::Create, &path, 1)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 1)).await;
        bench.events(2).await;
        let mut permissions = path.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(&path, permissions).unwrap();
        send(sender, operation(close(0, Modified::Unknown), &path, 2)).await;
        // It is compared, and says nothing.
        let limit = tokio::time::Instant::now() + Duration::from_secs(30);
        while bench.ledger.counts().get(Stage::Unchanged) == 0 {
            assert!(tokio::time::Instant::now() < limit, "{:?}", bench.ledger.counts());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench.losses.report(gap(1));
        bench.events(5).await;
    });
    assert_eq!(
        about(&events, "f"),
        [(Action::Created, false), (Action::AttributesModified, true)],
        "{:?}",
        told(&events)
    );
}

#[test]
fn a_file_whose_close_was_lost_is_hashed_after_the_gap() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        fs::write(&path, "one").unwrap();
        send(sender, operation(OperationKind::Create, &path, 1)).await;
        send(sender, operation(OPEN, &path, 1)).await;
        // Told while it is open, without a hash.
        bench.events(2).await;
        // The last write and the close are lost.
        fs::write(&path, "two").unwrap();
        bench.losses.report(gap(2));
        bench.events(6).await;
    });
    let found = events
        .iter()
        .rfind(|event| event.file.as_ref().is_some_and(|file| file.path.ends_with("/f")));
    assert_eq!(about(&events, "f").first(), Some(&(Action::Created, false)));
    assert_eq!(
        found.unwrap().file.as_ref().unwrap().hash.as_ref().map(|hash| hash.sha256.len()),
        Some(64),
        "{:?}",
        told(&events)
    );
    let baseline = Baseline::open(bench.state.path()).unwrap();
    let known = baseline.get(&path).unwrap().unwrap();
    assert_eq!(known.size, Some(3));
    assert_eq!(
        known.sha256.as_deref(),
        Some("3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"),
        "the hash of `two`"
    );
}

/// More files than can wait for their hash: none is without one for long.
#[test]
fn what_is_told_without_its_hash_is_hashed_when_there_is_room() {
    const FILES: usize = 3 * backlog::WAITING_MAX;
    let bench = Bench::new();
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let closed = Arc::clone(&gate);
    *bench.hashing.lock().unwrap() = Some(Box::new(move || {
        let (open, changed) = &*closed;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }));
    let paths: Vec<PathBuf> = (0..FILES).map(|number| bench.path(&number.to_string())).collect();
    let events = bench.run(async |sender| {
        for path in &paths {
            fs::write(path, "x").unwrap();
            send(sender, operation(OperationKind::Create, path, 7)).await;
            send(sender, operation(close(0, Modified::Yes), path, 7)).await;
        }
        // agent_started, and those for which there was no room.
        bench.events(1 + (FILES - backlog::WAITING_MAX) as u64 - 1).await;
        // Only a comparison can find it.
        fs::write(bench.path("unseen"), "x").unwrap();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        // And the directory.
        bench.events(1 + FILES as u64 + 2).await;
    });
    let without = events.iter().filter(|event| event.fim.hash_state == Some(HashState::Skipped));
    assert!(without.count() >= FILES - backlog::WAITING_MAX - 1);
    assert_eq!(about(&events, "unseen"), [(Action::Created, true)]);
    let baseline = Baseline::open(bench.state.path()).unwrap();
    for path in &paths {
        assert!(baseline.get(path).unwrap().unwrap().sha256.is_some(), "{}", path.display());
    }
}
