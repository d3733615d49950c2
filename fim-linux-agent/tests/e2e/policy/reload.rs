//! Another configuration without a restart.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{event, own, rule, start, write};
use crate::agent::Agent;
use crate::environment::{beside_others, is_ready, patience};
use crate::event::{Event, path_text, sha256};
use crate::scratch::Scratch;

/// Waits until the agent's log has a line more like this.
fn logged(agent: &Agent, text: &str, times: usize) {
    let deadline = Instant::now() + patience();
    while agent.log().matches(text).count() < times {
        assert!(Instant::now() < deadline, "{text:?} is not logged\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn changed(agent: &Agent, count: usize) -> Event {
    own(agent, "config_changed", count).pop().unwrap()
}

#[test]
fn a_file_that_is_replaced_is_in_force_and_a_bad_one_is_not() {
    if !is_ready("policy::reload") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("reload");
    let (one, two) = (scratch.directory("one"), scratch.directory("two"));
    fs::write(two.join("old"), "old\n").unwrap();
    let first = rule("one", &one, "");
    let (agent, file) = start(&scratch, &first);
    fs::write(two.join("not watched"), "").unwrap();
    let before = sha256(&fs::read(&file).unwrap());

    // As an editor does it.
    let new = scratch.path().join("fim.toml.new");
    write(&new, &format!("{}{}", rule("one", &one, "severity = 90"), rule("two", &two, "")));
    fs::rename(&new, &file).unwrap();
    let event_1 = changed(&agent, 1);
    assert_eq!(event_1.text("event.outcome"), Some("success"), "{event_1}");
    assert_eq!(event_1.list("fim.configuration.rules_added"), ["two"]);
    assert_eq!(event_1.list("fim.configuration.rules_changed"), ["one"]);
    assert_eq!(event_1.text("fim.configuration.trigger"), Some("file_change"));
    assert_eq!(event_1.text("fim.configuration.before_sha256"), Some(before.as_str()));
    let after = sha256(&fs::read(&file).unwrap());
    assert_eq!(event_1.text("fim.configuration.after_sha256"), Some(after.as_str()));
    assert_eq!(event_1.number("process.pid"), Some(u64::from(std::process::id())), "{event_1}");

    // What is newly watched is in the baseline, and that it is there is no event.
    logged(&agent, "baseline of what is newly watched taken", 1);
    fs::write(two.join("old"), "new\n").unwrap();
    let updated = event(&agent, &two.join("old"), "updated");
    assert_eq!(updated.text("fim.before.sha256"), Some(sha256(b"old\n").as_str()), "{updated}");
    fs::write(one.join("a"), "").unwrap();
    let created = event(&agent, &one.join("a"), "created");
    assert_eq!(created.text("event.kind"), Some("alert"), "{created}");

    // A bad one changes nothing.
    write(&file, "[[rule]]\nname = \"three\"\npath = [\"/x\"]\n");
    let bad = changed(&agent, 2);
    assert_eq!(bad.text("event.outcome"), Some("failure"), "{bad}");
    let errors = bad.list("fim.configuration.errors").join("\n");
    assert!(errors.contains("fim.toml:5:1: unknown field `path`"), "{bad}");
    fs::write(one.join("b"), "").unwrap();
    event(&agent, &one.join("b"), "created");

    // SIGHUP reads it in any case; the first rule alone, and a key that needs a restart.
    fs::remove_file(&file).unwrap();
    assert_eq!(changed(&agent, 3).text("event.outcome"), Some("failure"));
    write(&new, &format!("[journal]\nmax_segments = 3\n{first}"));
    fs::rename(&new, &file).unwrap();
    let last = changed(&agent, 4);
    assert_eq!(last.list("fim.configuration.rules_removed"), ["two"], "{last}");
    assert_eq!(last.list("fim.configuration.restart_needed"), ["journal"], "{last}");
    agent.signal(Signal::HUP);
    let again = changed(&agent, 5);
    assert_eq!(again.text("fim.configuration.trigger"), Some("SIGHUP"), "{again}");
    fs::write(two.join("old"), "again\n").unwrap();
    fs::write(one.join("c"), "").unwrap();
    let end = event(&agent, &one.join("c"), "created");
    assert_eq!(end.text("event.kind"), Some("event"), "{end}");
    agent.stop();
    let told: Vec<String> = agent
        .stream
        .lines_below(&two)
        .iter()
        .map(|line| format!("{} {}", line.action, line.path()))
        .collect();
    assert_eq!(told, [format!("updated {}", path_text(&two.join("old")))], "{}", agent.log());
}

/// The first rule with `content_diff`, and another one about more files: their first change shows
/// what text differs.
#[test]
fn contents_are_kept_from_the_reload_on() {
    if !is_ready("policy::reload") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("seeds");
    let (one, two) = (scratch.directory("one"), scratch.directory("two"));
    for directory in [&one, &two] {
        fs::write(directory.join("x"), "Port 22\nPermitRootLogin no\n").unwrap();
    }
    let (agent, file) = start(&scratch, &rule("one", &one, ""));
    let mut config = String::new();
    for (number, (name, directory)) in [("one", &one), ("two", &two)].into_iter().enumerate() {
        config.push_str(&rule(name, directory, "content_diff = true"));
        let new = scratch.path().join("fim.toml.new");
        write(&new, &config);
        fs::rename(&new, &file).unwrap();
        let event = changed(&agent, number + 1);
        assert!(event.list("fim.configuration.restart_needed").is_empty(), "{event}");
        logged(&agent, "contents of what is newly compared are kept", number + 1);
        fs::write(directory.join("x"), "Port 22\nPermitRootLogin yes\n").unwrap();
        let updated = super::event(&agent, &directory.join("x"), "updated");
        let unified = updated.text("fim.diff.unified").unwrap_or_default();
        assert!(unified.contains("-PermitRootLogin no\n+PermitRootLogin yes\n"), "{updated}");
    }
    agent.stop();
}

#[test]
fn what_stays_watched_is_watched_without_a_pause() {
    if !is_ready("policy::reload") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("pause");
    let (one, two) = (scratch.directory("one"), scratch.directory("two"));
    let both = format!("{}{}", rule("one", &one, ""), rule("two", &two, ""));
    let (agent, file) = start(&scratch, &both);
    let done = AtomicBool::new(false);
    let made: BTreeSet<String> = std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            let mut made = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let path = one.join(made.len().to_string());
                fs::write(&path, "x").unwrap();
                made.insert(path_text(&path));
                // A flood is another test.
                std::thread::sleep(Duration::from_micros(300));
            }
            made
        });
        for round in 1..=6_usize {
            let other = rule("one", &one, "severity = 1");
            write(&file, if round % 2 == 1 { &other } else { &both });
            // A file that is seen half written is wrong, and told: the last one counts.
            let wanted = if round % 2 == 1 { "rules_removed" } else { "rules_added" };
            let mut found = 0;
            let place = format!("fim.configuration.{wanted}");
            let rounds = agent.stream.wait(|line| {
                let hit = line.action == "config_changed" && line.event().list(&place) == ["two"];
                found += usize::from(hit);
                (found == round.div_ceil(2)).then_some(())
            });
            rounds.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", agent.log()));
        }
        done.store(true, Ordering::Relaxed);
        maker.join().unwrap()
    });
    let last = one.join("last");
    fs::write(&last, "x").unwrap();
    event(&agent, &last, "created");
    agent.stop();
    let lines = agent.stream.lines_below(&one);
    let told: Vec<&str> =
        lines.iter().filter(|line| line.action == "created").map(|line| line.path()).collect();
    let once: BTreeSet<String> = told.iter().map(|&path| path.to_owned()).collect();
    let missing: Vec<&String> = made.difference(&once).collect();
    assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), made.len());
    assert_eq!(told.len(), made.len() + 1, "told twice\n{}", agent.log());
}
