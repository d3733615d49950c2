//! One change, one event: real programs replace a file, each in a directory of its own, and what is
//! told of the directory is what a person would write down.
//!
//! All programs do their work first, then one marker is waited for: nothing depends on how long
//! they take, as long as it is less than the window, which is long here.

mod programs;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Setup, dump};
use crate::environment::{beside_others, is_emulated, is_ready, patience, skip};
use crate::event::{Event, path_text, sha256};
use crate::scratch::{Scratch, directory};
use programs::PROGRAMS;

/// A program at work.
struct Program {
    name: &'static str,
    /// What has to be there for it, beside what every machine has.
    needs: &'static [&'static str],
    /// What else is there when the agent starts.
    prepare: &'static str,
    /// Done by a shell in the directory; `$OUT` is one that nobody watches.
    script: &'static str,
    /// What is told, in any order: `updated x`.
    told: &'static [&'static str],
    /// About `x`.
    check: fn(&Event, &Path),
}

/// What `x` has in it, and how, when the agent starts.
const BEFORE: &str = "one\ntwo\n";

/// The window that the agent gets: a slow machine takes that long for an editor.
fn window() -> &'static str {
    if is_emulated() { "20s" } else { "4s" }
}

#[test]
fn what_programs_do_to_replace_a_file_is_one_event() {
    if !is_ready("folding") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("folding");
    let (watched, out) = (scratch.directory("watched"), scratch.directory("out"));
    let mut there = Vec::new();
    for program in PROGRAMS {
        let missing = program.needs.iter().find(|name| !is_installed(name));
        if let Some(missing) = missing {
            skip(&format!("folding: {}", program.name), &format!("there is no {missing}"));
            continue;
        }
        let place = watched.join(program.name);
        directory(&place);
        directory(&out.join(program.name));
        fs::write(place.join("x"), BEFORE).unwrap();
        fs::set_permissions(place.join("x"), fs::Permissions::from_mode(0o640)).unwrap();
        shell(program.prepare, &place, &out.join(program.name));
        there.push((program, place));
    }
    let config = scratch.path().join("fim.toml");
    let text = format!(
        "recommended = false\n[packages]\nenabled = false\n[fold]\nwindow = {:?}\n\
         [[rule]]\nname = \"r\"\npaths = [{watched:?}]\ncontent_diff = true\n",
        window()
    );
    fs::write(&config, text).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    let agent = Agent::start(setup);
    for (program, place) in &there {
        shell(program.script, place, &out.join(program.name));
    }
    let marker = watched.join("marker");
    fs::write(&marker, "marker\n").unwrap();
    agent.tells_of(&marker);

    let wrong: Vec<String> =
        there.iter().filter_map(|(program, place)| check(program, place, &agent)).collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), agent.log());
    agent.stop();
}

/// What is wrong, if anything is.
fn check(program: &Program, place: &Path, agent: &Agent) -> Option<String> {
    let lines = agent.stream.lines_below(place);
    let mut told: Vec<String> =
        lines.iter().map(|line| format!("{} {}", line.action, below(line.path(), place))).collect();
    told.sort();
    let mut expected: Vec<String> = program.told.iter().map(|told| (*told).to_owned()).collect();
    expected.sort();
    if told != expected {
        return Some(format!("{}: {told:?}\n{}", program.name, dump(&lines)));
    }
    let of_x: Vec<Event> = lines
        .iter()
        .map(|line| line.event())
        .filter(|event| event.path() == path_text(&place.join("x")))
        .collect();
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for event in &of_x {
            (program.check)(event, place);
        }
    }));
    checked.err().map(|_| format!("{}: see above\n{}", program.name, dump(&lines)))
}

fn below(path: &str, place: &Path) -> String {
    let place = path_text(place);
    path.strip_prefix(&*place).map_or(path, |rest| rest.trim_start_matches('/')).to_owned()
}

/// The file was replaced by another one: before and after, the hash, what text differs, and who.
fn replaced(event: &Event, place: &Path) {
    written(event, place);
    assert!(event.list("fim.changes").contains(&"inode"), "{event}");
    assert!(!event.has("fim.replaced") && !event.has("fim.before.path"), "{event}");
}

/// The content is another one.
fn written(event: &Event, place: &Path) {
    let now = fs::read(place.join("x")).unwrap();
    assert_eq!(event.text("fim.before.sha256"), Some(&*sha256(BEFORE.as_bytes())), "{event}");
    assert_eq!(event.text("file.hash.sha256"), Some(&*sha256(&now)), "{event}");
    assert_eq!(event.text("fim.after.sha256"), Some(&*sha256(&now)), "{event}");
    assert_eq!(event.text("fim.hash_state"), Some("exact"), "{event}");
    assert!(event.list("fim.changes").contains(&"content"), "{event}");
    let unified = event.text("fim.diff.unified").unwrap_or_default();
    assert!(unified.contains("-two\n+three\n"), "{unified:?} in {event}");
    assert_eq!(event.text("fim.diff.from"), event.text("fim.before.sha256"), "{event}");
    assert!(event.has("process.pid") && event.text("user.id") == Some("0"), "{event}");
}

/// [`replaced`], and the mode of the new one differs.
fn replaced_with_mode(event: &Event, place: &Path) {
    replaced(event, place);
    written_with_mode(event, place);
}

/// The content is another one, and so is the mode. (A file that is removed may leave its inode number
/// to the next.)
fn written_with_mode(event: &Event, place: &Path) {
    written(event, place);
    assert!(event.list("fim.changes").contains(&"mode"), "{event}");
    assert_eq!(event.text("fim.before.mode"), Some("0640"), "{event}");
    assert_eq!(event.text("fim.after.mode"), Some("0600"), "{event}");
    assert_eq!(event.text("file.mode"), Some("0600"), "{event}");
}

fn nothing(_: &Event, _: &Path) {}

fn is_installed(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    path.split(':').any(|directory| Path::new(directory).join(name).exists())
}

fn shell(script: &str, place: &Path, out: &Path) {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).current_dir(place).env("OUT", out).env("HOME", out);
    command.env("TERM", "vt100").stdin(Stdio::null());
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{}: {script}: {}\n{}{}",
        place.display(),
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A watched directory, and an agent that folds within `window`.
fn agent(scratch: &Scratch, window: &str) -> (PathBuf, Agent) {
    let watched = scratch.directory("watched");
    let config = scratch.path().join("fim.toml");
    let text = format!(
        "recommended = false\n[fold]\nwindow = {window:?}\n\
         [[rule]]\nname = \"r\"\npaths = [{watched:?}]\nseverity = \"critical\"\n"
    );
    fs::write(&config, text).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    (watched, Agent::start(setup))
}

/// What waits for what may follow is told when the agent is asked to stop.
#[test]
fn what_waits_is_told_at_the_stop() {
    if !is_ready("folding::stop") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("folding-stop");
    let (watched, agent) = agent(&scratch, "60s");
    shell("echo evil > evil", &watched, &watched);
    // Taken in: a change in place waits for nothing.
    shell("chmod 700 .", &watched, &watched);
    agent.tells_of(&watched);
    assert!(agent.stream.lines().iter().all(|line| line.action != "created"), "it waits");
    agent.stop();
    let told = agent.journal();
    let created: Vec<_> =
        told.iter().filter(|event| event["event"]["action"] == "created").collect();
    assert_eq!(created.len(), 1);
    assert_eq!(created[0]["event"]["kind"], "alert");
}

/// Whether a baseline says that something waits.
fn is_waiting(database: &Path) -> bool {
    let connection = rusqlite::Connection::open(database).unwrap();
    let query = "SELECT count(*) FROM meta WHERE key = CAST('waiting' AS BLOB)";
    connection.query_row(query, [], |row| row.get(0)).is_ok_and(|count: i64| count == 1)
}

/// A killed agent has told nothing of what waited, and its baseline knows the state after: the next
/// one says that something is missing.
#[test]
fn an_agent_that_is_killed_while_something_waits_says_so() {
    if !is_ready("folding::killed") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("folding-killed");
    let (watched, agent) = agent(&scratch, "60s");
    shell("echo evil > evil", &watched, &watched);
    // The agent commits what it knows twice a second.
    let database = agent.setup.state_dir.join("baseline.db");
    let until = Instant::now() + patience();
    while !is_waiting(&database) {
        assert!(Instant::now() < until, "nothing waits\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.signal(rustix::process::Signal::KILL);
    agent.stream.wait_end().unwrap();
    let setup = Setup { loses: true, ..agent.setup.clone() };
    drop(agent);
    let agent = Agent::start(setup);
    let gap = agent.stream.wait(|line| (line.action == "gap").then(|| line.event()));
    let gap = gap.unwrap_or_else(|error| panic!("no gap: {error}\n{}", agent.log()));
    assert_eq!(gap.list("fim.gap.hooks"), ["fold"], "{gap}");
    agent.stream.wait(|line| (line.action == "gap_closed").then_some(())).unwrap();
    agent.stop();
}
