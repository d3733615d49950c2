//! Directories that are renamed while something is under way in them, and those that no rule names
//! but what they hold; and writers that hide.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::agent::{Agent, Setup};
use crate::environment::{beside_others, fim, is_ready};
use crate::event::{Event, sha256};
use crate::expect;
use crate::scratch::Scratch;

fn shell(directory: &Path, script: &str) -> u32 {
    let script = format!("set -e; {script}");
    let mut child = expect::shell(&script).current_dir(directory).spawn().unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
    child.id()
}

/// The shell did it, or a program that it started: busybox's has some of them in itself.
fn assert_by(event: &Event, shell: u32) {
    let ids = ["process.pid", "process.parent.pid"].map(|field| event.number(field));
    assert!(ids.contains(&Some(shell.into())), "process {shell}: {event}");
}

/// Nothing was lost without a word: what the agent knows is what is there.
fn nothing_differs(setup: &Setup) {
    let mut check = Command::new(fim());
    check.args(["check", "--deep", "--json", "--state-dir"]).arg(&setup.state_dir);
    match &setup.config {
        Some(config) => check.arg("--config").arg(config),
        None => check.arg("--watch").args(&setup.watch),
    };
    let output = check.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim().is_empty(), "{output:?}");
}

/// `cp -r source new.tmp && mv new.tmp new`, as programs do that put something in place at once.
#[test]
fn a_tree_that_is_put_in_place_has_its_contents() {
    if !is_ready("directories::a_tree_that_is_put_in_place_has_its_contents") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("staged");
    let watched = scratch.directory("watched");
    let setup = Setup::new(scratch.path(), &[&watched]);
    let agent = Agent::start(setup.clone());
    let script = "mkdir new.tmp new.tmp/sub; echo one > new.tmp/file; echo two > new.tmp/sub/file; \
                  mkfifo new.tmp/sub/fifo; mv new.tmp new";
    let pid = shell(&watched, script);
    for (name, content) in [("new/file", "one\n"), ("new/sub/file", "two\n")] {
        let hash = sha256(content.as_bytes());
        // Under the name that it has when it is told.
        let event = agent.event(name, |event| {
            event.action() == "created" && event.text("file.hash.sha256") == Some(&hash)
        });
        assert!(event.path().replace("new.tmp", "new").ends_with(name), "{event}");
        assert_eq!(event.text("fim.hash_state"), Some("exact"), "{event}");
        assert_eq!(event.number("process.pid"), Some(pid.into()), "{event}");
    }
    agent.event_of(&watched.join("new"), |event| event.action() == "moved");
    agent.stop();
    nothing_differs(&setup);
}

/// As `authorized_keys` in the homes: no rule names `.ssh`.
#[test]
fn a_directory_that_no_rule_names_brings_what_one_does() {
    if !is_ready("directories::a_directory_that_no_rule_names_brings_what_one_does") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("homes");
    let homes = scratch.directory("homes");
    let config = scratch.path().join("fim.toml");
    let rule =
        format!("[[rule]]\nname = \"keys\"\npaths = [\"{}/*/.ssh/keys\"]\n", homes.display());
    fs::write(&config, rule).unwrap();
    fs::create_dir_all(homes.join("ann/.ssh")).unwrap();
    fs::write(homes.join("ann/.ssh/keys"), "good").unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    let agent = Agent::start(setup.clone());
    shell(&homes.join("ann"), "mkdir mine; echo evil > mine/keys");
    let pid = shell(&homes.join("ann"), "mv .ssh old; mv mine .ssh");
    let gone = agent.event_of(&homes.join("ann/old/keys"), |event| event.action() == "moved");
    assert_by(&gone, pid);
    assert_eq!(gone.text("fim.before.sha256"), Some(&*sha256(b"good")), "{gone}");
    let here = agent.event_of(&homes.join("ann/.ssh/keys"), |event| event.action() == "moved");
    assert_by(&here, pid);
    assert_eq!(here.text("file.hash.sha256"), Some(&*sha256(b"evil\n")), "{here}");
    shell(&homes, "mv ann bob");
    let moved = agent.event_of(&homes.join("bob/.ssh/keys"), |event| event.action() == "moved");
    let before = homes.join("ann/.ssh/keys");
    assert_eq!(moved.text("fim.before.path"), before.to_str(), "{moved}");
    agent.stop();
    nothing_differs(&setup);
}

/// Whoever writes sets the time back while the file is open, and closes it then.
#[test]
fn a_write_whose_time_is_set_back_is_told() {
    if !is_ready("directories::a_write_whose_time_is_set_back_is_told") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("back");
    let watched = scratch.directory("watched");
    let file = watched.join("file");
    fs::write(&file, "one").unwrap();
    let setup = Setup::new(scratch.path(), &[&watched]);
    let agent = Agent::start(setup.clone());
    let pid = shell(
        &watched,
        "touch -r file ../time; exec 3<>file; printf two >&3; touch -r ../time file; exec 3>&-",
    );
    let updated = agent.event_of(&file, |event| {
        event.action() == "updated" && event.text("file.hash.sha256") == Some(&*sha256(b"two"))
    });
    assert_eq!(updated.number("process.pid"), Some(pid.into()), "{updated}");
    agent.stop();
    nothing_differs(&setup);
}

/// Somebody who has a file open goes on when the name by which it was opened is gone.
#[test]
fn what_is_done_without_a_name_is_told_of_the_other_one() {
    if !is_ready("directories::what_is_done_without_a_name_is_told_of_the_other_one") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("left");
    let watched = scratch.directory("watched");
    let (gone, left) = (watched.join("gone"), watched.join("left"));
    fs::write(&gone, "one").unwrap();
    fs::hard_link(&gone, &left).unwrap();
    let setup = Setup::new(scratch.path(), &[&watched]);
    let agent = Agent::start(setup.clone());
    shell(&watched, "exec 3<>gone; rm gone; printf two >&3; chmod 600 /proc/self/fd/3; exec 3>&-");
    let content = sha256(b"two");
    agent.event_of(&left, |event| {
        event.action() == "updated" && event.text("file.hash.sha256") == Some(&*content)
    });
    agent.event_of(&left, |event| event.list("fim.changes").contains(&"mode"));
    agent.stop();
    nothing_differs(&setup);
}

/// The kernel knows it as a watched directory, whatever it is called.
#[test]
fn a_watched_directory_that_gets_another_name_says_which() {
    if !is_ready("directories::a_watched_directory_that_gets_another_name_says_which") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("called");
    let watched = scratch.directory("watched");
    fs::write(watched.join("file"), "one").unwrap();
    let setup = Setup::new(scratch.path(), &[&watched]);
    let agent = Agent::start(setup.clone());
    let other = scratch.path().join("other");
    let pid = shell(scratch.path(), "mv watched other");
    for name in ["", "file"] {
        let (was, now) = (watched.join(name), other.join(name));
        let now = now.to_string_lossy().trim_end_matches('/').to_owned();
        let moved = agent.event_of(Path::new(&now), |event| event.action() == "moved");
        let before = was.to_string_lossy().trim_end_matches('/').to_owned();
        assert_eq!(moved.text("fim.before.path"), Some(&*before), "{moved}");
        assert_by(&moved, pid);
    }
    agent.stop();
    nothing_differs(&setup);
}
