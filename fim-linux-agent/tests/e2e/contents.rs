//! What text changed, and the hashes of large files.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::agent::{Agent, Setup, dump};
use crate::environment::{beside_others, is_ready};
use crate::event::{Event, sha256};
use crate::operator::{Op, Operator, Raw};
use crate::scratch::Scratch;

/// Waits for an event about `path`.
fn wait(agent: &Agent, path: &Path, wanted: impl Fn(&Event) -> bool) -> Event {
    let text = path.to_string_lossy();
    let find = |line: &crate::stream::Line| {
        let event = line.event();
        (event.path() == text && wanted(&event)).then_some(event)
    };
    agent.stream.wait(find).unwrap_or_else(|error| {
        panic!("{text}: {error}\n{}\n{}", dump(&agent.stream.lines()), agent.log())
    })
}

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
    let event = wait(&agent, &plain, |event| event.has("fim.diff"));
    assert_eq!(event.text("fim.diff.state"), Some("complete"), "{event}");
    assert_eq!(
        event.text("fim.diff.unified"),
        Some("@@ -1,2 +1,2 @@\n Port 22\n-PermitRootLogin no\n+PermitRootLogin yes\n"),
        "{event}"
    );
    assert_eq!(event.text("fim.diff.to"), event.text("file.hash.sha256"), "{event}");
    assert_eq!(event.text("fim.diff.from"), event.text("fim.before.sha256"), "{event}");

    write(&shadow, b"root:secret-two:2::::::\nbin:*:1::::::\n");
    let event = wait(&agent, &shadow, |event| event.has("fim.diff"));
    assert_eq!(event.text("fim.diff.state"), Some("secret"), "{event}");
    assert_eq!(event.number("fim.diff.lines_added"), Some(1), "{event}");
    assert_eq!(event.number("fim.diff.lines_removed"), Some(1), "{event}");

    write(&binary, b"\0two");
    let event = wait(&agent, &binary, |event| event.has("fim.diff"));
    assert!(!event.has("fim.diff.unified"), "{event}");
    agent.stop();

    // Nobody watches; what was kept is compared with at the next start.
    fs::write(&plain, b"Port 2222\nPermitRootLogin yes\n").unwrap();
    fs::write(&shadow, b"bin:*:1::::::\n").unwrap();
    let agent = Agent::start(setup.clone());
    let event = wait(&agent, &plain, |event| event.has("fim.diff"));
    assert_eq!(event.text("event.provider"), Some("scan"), "{event}");
    assert_eq!(
        event.text("fim.diff.unified"),
        Some("@@ -1,2 +1,2 @@\n-Port 22\n+Port 2222\n PermitRootLogin yes\n"),
        "{event}"
    );
    let event = wait(&agent, &shadow, |event| event.has("fim.diff"));
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
    let told = wait(&agent, &path, |event| event.has("fim.hash_follows"));
    assert_eq!(told.action(), "updated", "{told}");
    assert!(!told.has("file.hash"), "{told}");
    assert_eq!(told.text("event.kind"), Some("alert"), "{told}");
    let follows = wait(&agent, &path, |event| event.text("fim.follows") == Some(told.id()));
    assert_eq!(follows.action(), "updated", "{follows}");
    assert_eq!(follows.text("file.hash.sha256"), Some(&*sha256(&content)), "{follows}");
    assert_eq!(follows.text("fim.hash_state"), Some("exact"), "{follows}");
    assert_eq!(follows.list("fim.changes"), ["content"], "{follows}");
    assert_eq!(follows.text("fim.before.sha256"), Some(&*sha256(&vec![1; SIZE])), "{follows}");
    // One alert for one change.
    assert_eq!(follows.text("event.kind"), Some("event"), "{follows}");

    // The baseline has it: the next change knows what it was.
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    let next = wait(&agent, &path, |event| {
        event.number("file.size") == Some(SIZE as u64 + 4) && event.has("fim.hash_follows")
    });
    assert_eq!(next.text("fim.before.sha256"), Some(&*sha256(&content)), "{next}");
    agent.stop();
}
