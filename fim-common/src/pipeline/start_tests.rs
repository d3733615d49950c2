//! What is compared at the start and regularly, beside operations that go on.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::event::{Provider, Window};
use crate::scan::{self, Mode, Root, Scope};

impl Bench {
    /// What an agent knew that has stopped.
    fn known(&self) {
        let baseline = Baseline::open(self.state.path()).unwrap();
        let policy = self.policy();
        let roots = scope_of(&policy);
        let rule = |path: &Path| scan_rule(&policy, path);
        let scope = Scope { roots: &roots, rule: &rule, descend: &|_| true };
        let limits = Limits { threads: 1, ..Limits::default() };
        let cancel = AtomicBool::new(false);
        let options = scan::Options { limits, deep: false, cancel: &cancel, progress: &|_| {} };
        scan::reconcile(&baseline, scope, Mode::First, options, &mut |_| {}).unwrap();
    }

    /// Compared at the start: nobody has looked since then.
    fn down_since(self, from: Timestamp) -> Self {
        let roots = vec![Root { path: self.watched.path().to_owned(), depth: None }];
        let down = Window { from: Some(from), to: Timestamp::now() };
        Self { start: (Some(down), roots), ..self }
    }
}

fn about<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    let of = |event: &&Event| {
        event.file.as_ref().is_some_and(|file| file.path.ends_with(&format!("/{name}")))
    };
    events.iter().filter(of).collect()
}

#[test]
fn what_differs_is_told_with_its_window() {
    let bench = Bench::new();
    for name in ["stays", "changes", "goes"] {
        fs::write(bench.path(name), "before").unwrap();
    }
    bench.known();
    fs::write(bench.path("changes"), "after!").unwrap();
    fs::remove_file(bench.path("goes")).unwrap();
    fs::write(bench.path("new"), "new").unwrap();
    let since = Timestamp::from_unix(1_700_000_000, 0);
    let bench = bench.down_since(since);
    let events = bench.run(async |_| bench.events(4).await);
    let expected =
        [("changes", Action::Updated), ("goes", Action::Deleted), ("new", Action::Created)];
    for (name, action) in expected {
        let [event] = about(&events, name)[..] else { panic!("{name}: {events:?}") };
        assert_eq!((event.event.action, event.event.provider), (action, Some(Provider::Scan)));
        let window = event.fim.window.unwrap();
        assert_eq!(window.from, Some(since));
        assert!(window.to > since);
    }
    assert_eq!(events.len(), 3, "and nothing else");
}

#[test]
fn an_operation_while_it_is_compared_is_told_once_and_as_what_it_is() {
    let bench = Bench::new();
    for number in 0..200 {
        fs::write(bench.path(&format!("f{number}")), "before").unwrap();
    }
    bench.known();
    // Half was done before the hooks were armed, the other half is in the queue.
    for number in 0..200 {
        fs::write(bench.path(&format!("f{number}")), "after!").unwrap();
        fs::write(bench.path(&format!("n{number}")), "new").unwrap();
    }
    let bench = bench.down_since(Timestamp::from_unix(1, 0));
    let mut under_way = Vec::new();
    for number in (0..200).step_by(2) {
        let (changed, new) = (bench.path(&format!("f{number}")), bench.path(&format!("n{number}")));
        under_way.push(operation(OPEN, &changed, 7));
        under_way.push(operation(close(0, Modified::Yes), &changed, 7));
        under_way.push(operation(OperationKind::Create, &new, 7));
        under_way.push(operation(close(0, Modified::Yes), &new, 7));
    }
    bench.under_way.lock().unwrap().push_back(Box::new(move |_| under_way));
    let events = bench.run(async |_| bench.events(401).await);
    for number in 0..200 {
        let seen = number % 2 == 0;
        for (name, action) in [("f", Action::Updated), ("n", Action::Created)] {
            let found = about(&events, &format!("{name}{number}"));
            let [event] = found[..] else { panic!("{name}{number}: {} events", found.len()) };
            assert_eq!(event.event.action, action, "{name}{number}");
            let provider = if seen { Provider::Bpf } else { Provider::Scan };
            assert_eq!(event.event.provider, Some(provider), "{name}{number}");
            assert_eq!(event.process.as_ref().map(|process| process.pid), seen.then_some(7));
        }
    }
}

#[test]
fn the_baseline_remembers_who() {
    let bench = Bench::new();
    let (path, moved) = (bench.path("a"), bench.path("b"));
    let events = bench.run(async |sender| {
        fs::write(&path, "x\n").unwrap();
        send(sender, operation(OperationKind::Create, &path, 7)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 7)).await;
        bench.events(2).await;
        // Doubtful, and the same content: not told, and nobody has changed anything.
        send(sender, operation(OPEN, &path, 8)).await;
        send(sender, operation(close(0, Modified::Unknown), &path, 8)).await;
    });
    let baseline = Baseline::open(bench.state.path()).unwrap();
    let last = baseline.last_change(&path).unwrap().unwrap();
    assert_eq!((last.pid, last.action, last.provider), (Some(7), Action::Created, Provider::Bpf));
    assert_eq!(events.len(), 1);
    assert_eq!(last.event_id, events[0].event.id);
    baseline.rename_tree(&path, &moved).unwrap();
    assert_eq!(baseline.last_change(&moved).unwrap(), Some(last));
    assert_eq!(baseline.last_change(&path).unwrap(), None);
}

/// Two steps, each a second: for the directory above what is watched, and for what is in it.
const ROUND: Duration = Duration::from_secs(2);

#[test]
fn the_regular_comparison_reads_content() {
    let bench = Bench { verify: Some(ROUND), ..Bench::new() };
    let path = bench.path("f");
    fs::write(&path, "content").unwrap();
    bench.known();
    // As if the content had been changed with all metadata as before.
    let baseline = Baseline::open(bench.state.path()).unwrap();
    let state = baseline.get(&path).unwrap().unwrap();
    let other = ObjectState { sha256: Some("00".repeat(32)), ..state };
    baseline.put(&path, &other).unwrap();
    drop(baseline);
    let events = bench.run(async |_| bench.events(2).await);
    let [event] = about(&events, "f")[..] else { panic!("{events:?}") };
    assert_eq!(event.event.provider, Some(Provider::Scan));
    assert_eq!(event.fim.changes, [Property::Content]);
    assert!(event.fim.window.is_some());
}

#[test]
fn the_regular_comparison_finds_what_is_in_a_directory_that_nobody_saw() {
    let bench = Bench { verify: Some(ROUND), ..Bench::new() };
    fs::write(bench.path("f"), "content").unwrap();
    bench.known();
    fs::create_dir_all(bench.path("new/deep")).unwrap();
    fs::write(bench.path("new/deep/file"), "x").unwrap();
    let events = bench.run(async |_| bench.events(4).await);
    for name in ["new", "deep", "file"] {
        assert_eq!(about(&events, name).len(), 1, "{name}: {events:?}");
    }
}
