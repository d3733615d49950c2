//! What is suppressed, and another policy between two operations.

use tokio::sync::oneshot;

use super::*;
use crate::event::{Configuration, Outcome};
use crate::policy::Condition;

fn rule(name: &str, directory: &Path) -> Rule {
    Rule::new(name, vec![Pattern::literal(directory.to_owned())])
}

impl Bench {
    fn reload(&self, policy: Policy) -> (oneshot::Receiver<()>, oneshot::Receiver<()>) {
        let (in_force, told) = oneshot::channel();
        let (baseline_taken, taken) = oneshot::channel();
        self.reloader.lock().unwrap().as_ref().unwrap().reload(Reload {
            window: Duration::ZERO,
            policy,
            fold: Duration::from_millis(20),
            settle: Duration::from_millis(200),
            alert_severity: 70,
            suppressed_interval: Duration::from_secs(3600),
            contents: None,
            told: Some((Configuration::default(), "changed".to_owned())),
            in_force,
            baseline_taken,
        });
        (told, taken)
    }
}

/// A file as its writer leaves it.
async fn write(sender: &mpsc::Sender<Observation>, path: &Path, content: &str, pid: u32) {
    let new = !path.exists();
    fs::write(path, content).unwrap();
    if new {
        send(sender, operation(OperationKind::Create, path, pid)).await;
    }
    send(sender, operation(OPEN, path, pid)).await;
    send(sender, operation(close(0, Modified::Yes), path, pid)).await;
}

#[test]
fn what_is_suppressed_is_summed_up_and_known() {
    let mut bench = Bench::new();
    let entry = Condition {
        paths: Pattern::parse(bench.path("*.log").to_str().unwrap()).unwrap(),
        reason: Some("noise".to_owned()),
        ..Condition::default()
    };
    let rule = Rule { suppress: vec![entry], ..rule("test", bench.watched.path()) };
    bench.policy = Some(Policy::new(vec![rule]));
    let (quiet, told) = (bench.path("a.log"), bench.path("a"));
    let events = bench.run(async |sender| {
        write(sender, &quiet, "1", 7).await;
        write(sender, &told, "1", 7).await;
    });
    let actions: Vec<Action> = events.iter().map(|event| event.event.action).collect();
    assert_eq!(actions, [Action::Created, Action::Suppressed]);
    let [entry] = events[1].fim.suppressed.as_slice() else { panic!("{events:?}") };
    assert_eq!((entry.rule.as_str(), entry.count), ("test", 1));
    assert_eq!(entry.reason.as_deref(), Some("noise"));
    assert_eq!(entry.paths, [quiet.to_str().unwrap()]);
    assert_eq!(bench.ledger.counts().get(Stage::Suppressed), 3);
    let baseline = Baseline::open(bench.state.path()).unwrap();
    let known = baseline.get(&quiet).unwrap().unwrap();
    let want = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    assert_eq!(known.sha256.as_deref(), Some(want));
}

#[test]
fn another_policy_is_in_force_behind_what_was_done_before() {
    let mut bench = Bench::new();
    let (one, two) = (bench.path("one"), bench.path("two"));
    for directory in [&one, &two] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(two.join("old"), "old").unwrap();
    bench.policy = Some(Policy::new(vec![rule("one", &one)]));
    // Done before the reload, and still under way to the pipeline.
    let (late, not_watched, config) = (one.join("late"), two.join("early"), bench.path("fim.toml"));
    bench.under_way.lock().unwrap().push_back(Box::new({
        let (late, config) = (late.clone(), config.clone());
        move |_| {
            fs::write(&late, "x").unwrap();
            fs::write(&not_watched, "x").unwrap();
            fs::write(&config, "x").unwrap();
            vec![
                operation(OperationKind::Create, &late, 1),
                operation(close(0, Modified::Yes), &late, 1),
                operation(OperationKind::Create, &not_watched, 1),
                operation(close(0, Modified::Yes), &config, 9),
            ]
        }
    }));
    let events = bench.run(async |sender| {
        let (told, taken) = bench.reload(Policy::new(vec![rule("two", &two)]));
        told.await.unwrap();
        write(sender, &one.join("after"), "x", 1).await;
        taken.await.unwrap();
        write(sender, &two.join("old"), "new", 1).await;
    });
    let told: Vec<(Action, Option<&str>, Option<&str>)> = events
        .iter()
        .map(|event| {
            let path = event.file.as_ref().and_then(|file| file.name.as_deref());
            (event.event.action, path, event.rule.as_ref().map(|rule| rule.name.as_str()))
        })
        .collect();
    assert_eq!(
        told,
        [
            (Action::Created, Some("late"), Some("one")),
            (Action::ConfigChanged, None, None),
            (Action::Updated, Some("old"), Some("two")),
        ]
    );
    assert_eq!(events[1].event.outcome, Outcome::Success);
    assert_eq!(events[1].process.as_ref().map(|process| process.pid), Some(9), "who changed it");
    assert!(events[2].fim.before.as_ref().unwrap().sha256.is_some(), "it is in the baseline");
}

/// Where no operation tells of a new file, or of one that was there and is changed before anybody has
/// looked at it, the scan that takes the baseline of what is newly watched finds it.
#[test]
fn what_is_made_once_a_policy_is_in_force_is_told() {
    let mut bench = Bench::new();
    if let Err(error) = bench.watched.path().metadata().unwrap().created() {
        println!("skipped: this file system does not say when a file was made: {error}");
        return;
    }
    bench.finds_by_comparing = true;
    let (one, two) = (bench.path("one"), bench.path("two"));
    let [first, last] = ["a", "z"].map(|name| two.join(name));
    for directory in [&one, &two, &first, &last] {
        fs::create_dir(directory).unwrap();
    }
    // The scan has something to do before it is there.
    for number in 0..2000 {
        fs::write(first.join(number.to_string()), "old").unwrap();
    }
    for there in ["changed", "left"] {
        fs::write(last.join(there), "old").unwrap();
    }
    // Up to a tick before, the file system cannot tell.
    let made = Instant::now();
    bench.policy = Some(Policy::new(vec![rule("one", &one)]));
    let events = bench.run(async |sender| {
        tokio::time::sleep_until((made + Duration::from_millis(50)).into()).await;
        let (told, taken) = bench.reload(Policy::new(vec![rule("two", &two)]));
        told.await.unwrap();
        for name in ["changed", "new"] {
            fs::write(last.join(name), "new").unwrap();
            // As a notification says it.
            sender.send(Observation::Recheck(last.join(name))).await.unwrap();
        }
        taken.await.unwrap();
        // agent_started and what follows.
        bench.events(4).await;
    });
    let told: Vec<(Action, Option<&str>)> = events
        .iter()
        .map(|event| {
            (event.event.action, event.file.as_ref().and_then(|file| file.name.as_deref()))
        })
        .collect();
    assert_eq!(
        told,
        [
            (Action::ConfigChanged, None),
            (Action::Updated, Some("changed")),
            (Action::Created, Some("new")),
        ]
    );
    // What it was, nobody knows; what it is, is in the baseline.
    let fim = &events[1].fim;
    assert_eq!((&fim.before, &fim.changes[..]), (&None, &[Property::Content][..]));
    assert_eq!(fim.unknown.get("fim.before").map(String::as_str), Some("not_in_baseline"));
    assert!(fim.after.as_ref().unwrap().sha256.is_some());
}
