//! What text changed, and the hashes of large files.

use std::fs::{self, File, FileTimes};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::agent::{Agent, Setup};
use crate::environment::{beside_others, is_ready};
use crate::event::{path_text, sha256};
use crate::operator::{Op, Operator, Raw};
use crate::scratch::Scratch;

/// Another process writes `bytes` over what the file has, which is not longer.
fn write(path: &Path, bytes: &[u8]) {
    Operator::new(Op::Write { path: Raw::from(path), bytes: bytes.to_vec() }).run();
}

#[test]
fn what_text_changed() {
    if !is_ready("contents::what_text_changed") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("contents");
    let watched = scratch.directory("watched");
    let [plain, shadow, binary] =
        ["sshd_config", "shadow", "binary"].map(|name| watched.join(name));
    fs::write(&plain, "Port 22\nPermitRootLogin no\n").unwrap();
    fs::write(&shadow, "root:secret-one:1::::::\nbin:*:1::::::\n").unwrap();
    fs::write(&binary, b"\0one").unwrap();
    let config = scratch.path().join("fim.toml");
    let rule = format!("[[rule]]\nname = \"r\"\npaths = [{watched:?}]\ncontent_diff = true\n");
    fs::write(&config, rule).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };

    let agent = Agent::start(setup.clone());
    write(&plain, b"Port 22\nPermitRootLogin yes\n");
    let event = agent.event_of(&plain, |event| event.has("fim.diff"));
    assert_eq!(event.text("fim.diff.state"), Some("complete"), "{event}");
    assert_eq!(
        event.text("fim.diff.unified"),
        Some("@@ -1,2 +1,2 @@\n Port 22\n-PermitRootLogin no\n+PermitRootLogin yes\n"),
        "{event}"
    );
    assert_eq!(event.text("fim.diff.to"), event.text("file.hash.sha256"), "{event}");
    assert_eq!(event.text("fim.diff.from"), event.text("fim.before.sha256"), "{event}");

    write(&shadow, b"root:secret-two:2::::::\nbin:*:1::::::\n");
    let event = agent.event_of(&shadow, |event| event.has("fim.diff"));
    assert_eq!(event.text("fim.diff.state"), Some("secret"), "{event}");
    assert_eq!(event.number("fim.diff.lines_added"), Some(1), "{event}");
    assert_eq!(event.number("fim.diff.lines_removed"), Some(1), "{event}");

    write(&binary, b"\0two");
    let event = agent.event_of(&binary, |event| event.has("fim.diff"));
    assert!(!event.has("fim.diff.unified"), "{event}");
    agent.stop();

    // Nobody watches; what was kept is compared with at the next start.
    fs::write(&plain, b"Port 2222\nPermitRootLogin yes\n").unwrap();
    fs::write(&shadow, b"bin:*:1::::::\n").unwrap();
    let agent = Agent::start(setup.clone());
    let event = agent.event_of(&plain, |event| event.has("fim.diff"));
    assert_eq!(event.text("event.provider"), Some("scan"), "{event}");
    assert_eq!(
        event.text("fim.diff.unified"),
        Some("@@ -1,2 +1,2 @@\n-Port 22\n+Port 2222\n PermitRootLogin yes\n"),
        "{event}"
    );
    let event = agent.event_of(&shadow, |event| event.has("fim.diff"));
    assert_eq!(event.number("fim.diff.lines_removed"), Some(1), "{event}");
    agent.stop();
    // Neither in the journal, nor in what is kept.
    for entry in fs::read_dir(setup.state_dir.join("journal")).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        assert!(!text.windows(10).any(|window| window == b"secret-one"), "a secret in the journal");
    }
}

#[test]
fn the_hash_of_a_large_file_follows() {
    const SIZE: usize = 8 << 20;
    if !is_ready("contents::the_hash_of_a_large_file_follows") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("large");
    let watched = scratch.directory("watched");
    let path = watched.join("large");
    fs::write(&path, vec![1; SIZE]).unwrap();
    let config = scratch.path().join("fim.toml");
    let text = format!(
        "[hash]\nlarge = \"1MiB\"\n\n[[rule]]\nname = \"r\"\npaths = [{watched:?}]\nseverity = 90\n"
    );
    fs::write(&config, text).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    let agent = Agent::start(setup);
    let mut content = vec![1; SIZE];
    content[SIZE / 2] = 2;
    // Too much for an operator's command line.
    fs::write(&path, &content).unwrap();
    // While it is being written it may be told before, without a hash that is to follow.
    let told = agent.event_of(&path, |event| event.has("fim.hash_follows"));
    assert_eq!(told.action(), "updated", "{told}");
    assert!(!told.has("file.hash"), "{told}");
    assert_eq!(told.text("event.kind"), Some("alert"), "{told}");
    let follows = agent.event_of(&path, |event| event.text("fim.follows") == Some(told.id()));
    assert_eq!(follows.action(), "updated", "{follows}");
    assert_eq!(follows.text("file.hash.sha256"), Some(&*sha256(&content)), "{follows}");
    assert_eq!(follows.text("fim.hash_state"), Some("exact"), "{follows}");
    assert_eq!(follows.list("fim.changes"), ["content"], "{follows}");
    assert_eq!(follows.text("fim.before.sha256"), Some(&*sha256(&vec![1; SIZE])), "{follows}");
    // One alert for one change.
    assert_eq!(follows.text("event.kind"), Some("event"), "{follows}");

    // The baseline has it: the next change knows what it was.
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    let next = agent.event_of(&path, |event| {
        event.number("file.size") == Some(SIZE as u64 + 4) && event.has("fim.hash_follows")
    });
    assert_eq!(next.text("fim.before.sha256"), Some(&*sha256(&content)), "{next}");
    agent.stop();
}

/// A file that is open for writing, whose times are set: that is no write, and when it was the file
/// does not say.
#[test]
fn times_that_are_set_are_no_time_of_an_event() {
    if !is_ready("contents::times_that_are_set_are_no_time_of_an_event") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("times");
    let watched = scratch.directory("watched");
    let [set, written] = ["set", "written"].map(|name| watched.join(name));
    fs::write(&set, "as it was").unwrap();
    fs::write(&written, "as it was").unwrap();
    let agent = Agent::start(Setup::new(scratch.path(), &[&watched]));
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    let files = [open(&set), open(&written)];
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    // Both: of the time of modification alone fanotify says that the file was modified.
    let times = FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    for (file, path) in files.iter().zip([&set, &written]) {
        file.set_times(times).unwrap();
        let event = agent.event_of(path, |event| event.action() == "attributes_modified");
        assert_eq!(event.list("fim.changes"), ["mtime"], "{event}");
    }
    // Long enough for a look at what is open.
    let later = watched.join("later");
    for number in 0..8 {
        fs::write(&later, number.to_string()).unwrap();
        agent.event_of(&later, |event| {
            event.number("file.size") == Some(1) && {
                event.text("file.hash.sha256") == Some(&sha256(number.to_string().as_bytes()))
            }
        });
    }
    (&files[1]).write_all(b"otherwise").unwrap();
    drop(files);
    let event = agent
        .event_of(&written, |event| event.text("file.hash.sha256") == Some(&sha256(b"otherwise")));
    assert_eq!(event.action(), "updated", "{event}");
    let events = agent.events();
    let of_set = events.iter().filter(|event| event.path() == path_text(&set));
    assert!(of_set.clone().all(|event| event.action() == "attributes_modified"), "a write of none");
    let first = events.iter().map(|event| event.nanos()).min().unwrap();
    assert!(first > 1_500_000_000 * 1_000_000_000, "an event of long ago");
    agent.stop();
}

/// What is no regular file can have several names too.
#[test]
fn a_link_or_fifo_with_several_names_changes_under_all() {
    if !is_ready("contents::a_link_or_fifo_with_several_names_changes_under_all") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("several");
    let watched = scratch.directory("watched");
    let [link, link_too, fifo, fifo_too] =
        ["link", "link_too", "fifo", "fifo_too"].map(|name| watched.join(name));
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    Operator::new(Op::Fifo { path: Raw::from(&fifo) }).run();
    fs::hard_link(&link, &link_too).unwrap();
    fs::hard_link(&fifo, &fifo_too).unwrap();
    let agent = Agent::start(Setup::new(scratch.path(), &[&watched]));
    std::os::unix::fs::lchown(&link, Some(1), Some(1)).unwrap();
    Operator::new(Op::Chmod { path: Raw::from(&fifo), mode: 0o611 }).run();
    for path in [&link, &link_too] {
        let event = agent.event_of(path, |event| event.action() == "attributes_modified");
        assert_eq!(event.text("file.uid"), Some("1"), "{event}");
    }
    for path in [&fifo, &fifo_too] {
        let event = agent.event_of(path, |event| event.action() == "attributes_modified");
        assert_eq!(event.text("file.mode"), Some("0611"), "{event}");
    }
    agent.stop();
}
