//! What the agent leaves behind, through the commands that read it: `events`, `verify`, `report`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::agent::{Agent, Setup};
use crate::bad_input::{Outcome, USAGE, outcome};
use crate::environment::{beside_others, ended, fim, is_ready};
use crate::operator::{Op, Operator, Raw};
use crate::scratch::Scratch;

/// Runs a subcommand on this state directory.
pub(crate) fn run(state: &Path, command: &[&str]) -> Outcome {
    let mut program = Command::new(fim());
    program.args(command);
    match command[0] {
        "verify" => program.arg(state),
        _ => program.arg("--state-dir").arg(state),
    };
    outcome(program)
}

pub(crate) fn good(state: &Path, command: &[&str]) -> String {
    let outcome = run(state, command);
    assert_eq!(outcome.code, Some(0), "{command:?}\n{}{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

fn write(path: &Path) {
    Operator::new(Op::CreateWrite { path: Raw::from(path), bytes: b"new\n".to_vec() }).run();
}

fn wait(agent: &Agent, path: &Path) {
    let found = agent.stream.wait_below(path, |event| event.action() == "created");
    found.unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), agent.log()));
}

/// A segment is full after a few events, and there is a heartbeat each second.
const CONFIG: &str = "recommended = false\n[journal]\nmax_segment_bytes = \"64KiB\"\nheartbeat = 1\n\
                      [[rule]]\nname = \"w\"\nseverity = \"high\"\npaths = [";

fn setup(scratch: &Scratch) -> (Setup, PathBuf) {
    let watched = scratch.directory("watched");
    let config = scratch.path().join("fim.toml");
    fs::write(&config, format!("{CONFIG}{watched:?}]\n")).unwrap();
    let mut setup = Setup::new(scratch.path(), &[]);
    setup.config = Some(config);
    (setup, watched)
}

#[test]
fn events_are_found_and_the_journal_is_proved() {
    if !is_ready("journal") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("journal");
    let (setup, watched) = setup(&scratch);
    let state = setup.state_dir.clone();
    let agent = Agent::start(setup.clone());
    // Read while it runs, across segments.
    let follower = follow(&state, &scratch.path().join("followed"));
    for number in 0..80 {
        write(&watched.join(format!("file {number}")));
    }
    wait(&agent, &watched.join("file 79"));
    let beat = agent.stream.wait_for(crate::environment::patience(), |line| {
        (line.action == "heartbeat").then(|| line.event())
    });
    let beat = beat.unwrap_or_else(|error| panic!("no heartbeat: {error}\n{}", agent.log()));
    let head = beat.text("fim.journal.head").unwrap().to_owned();
    good(&state, &["verify"]);
    agent.stop();
    let segments = fs::read_dir(state.join("journal"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"));
    assert!(segments.count() > 1, "nothing was rotated");

    // What is printed is what the journal has, chain and all.
    let journal = agent.journal();
    let printed: Vec<String> = agent.stream.lines().iter().map(|line| line.text.clone()).collect();
    let all = good(&state, &["events", "--json"]);
    assert_eq!(all.lines().collect::<Vec<_>>(), printed);
    assert_eq!(journal.len(), printed.len());
    follower.ends_with(&printed);
    ends_with_its_reader(&state);

    let one = good(&state, &["events", "--json", "--path", "file 7", "--action", "created"]);
    assert_eq!(one.lines().count(), 1, "{one}");
    let glob = format!("{}/file 7?", watched.display());
    assert_eq!(good(&state, &["events", "--json", "--path", &glob]).lines().count(), 10);
    assert_eq!(good(&state, &["events", "--json", "--since", "0s"]), "");
    assert_eq!(good(&state, &["events", "--json", "--rule", "no such rule"]), "");
    let table = good(&state, &["events", "--rule", "w", "--user", "root"]);
    assert!(table.lines().count() >= 80 && table.contains("file 42"), "{table}");
    // A reader gets each event once when it is not interrupted.
    assert_eq!(good(&state, &["events", "--json", "--cursor", "siem"]), all);
    assert_eq!(good(&state, &["events", "--json", "--cursor", "siem"]), "");
    for wrong in [["--since", "yesterday"], ["--action", "burned"], ["--path", "/a[b"]] {
        let outcome = run(&state, &["events", wrong[0], wrong[1]]);
        outcome.is_refusal(wrong[0], USAGE, &[wrong[1]]);
    }

    // As `agent_started` of an empty journal has it: the beginning.
    for head in [&head, &"0".repeat(64)] {
        let said = good(&state, &["verify", "--head", head]);
        assert!(said.contains("the entry that was asked for is in it"), "{said}");
    }
    let said = good(&state, &["verify", "--head", &head]);
    assert!(said.contains("whole and unaltered"), "{said}");
    let path = state.join("journal/journal-000000000001.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("file 3", "file 4", 1)).unwrap();
    let outcome = run(&state, &["verify"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("ALTERED segment 1, line"), "{}", outcome.stdout);
    fs::write(&path, &whole).unwrap();

    // Killed, and started again: it goes on.
    let agent = Agent::start(setup.clone());
    write(&watched.join("before the kill"));
    wait(&agent, &watched.join("before the kill"));
    agent.signal(Signal::KILL);
    agent.stream.wait_end().unwrap();
    let agent = Agent::start(setup);
    agent.stop();
    good(&state, &["verify", "--head", &head]);
    in_a_browser(&scratch, &state);
}

/// `fim events -f`, until there is an `agent_stopped`.
struct Follower {
    child: Child,
    output: PathBuf,
}

fn follow(state: &Path, output: &Path) -> Follower {
    let file = fs::File::create(output).unwrap();
    let child = Command::new(fim())
        .args(["events", "--json", "-f", "--state-dir"])
        .arg(state)
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Follower { child, output: output.to_owned() }
}

impl Follower {
    fn ends_with(mut self, expected: &[String]) {
        let deadline = std::time::Instant::now() + crate::environment::patience();
        let text = loop {
            let text = fs::read_to_string(&self.output).unwrap();
            if text.contains("\"agent_stopped\"") && text.ends_with('\n') {
                break text;
            }
            assert!(std::time::Instant::now() < deadline, "it does not follow: {text}");
            std::thread::yield_now();
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}

/// `fim events -f | head -n1` ends, although nothing comes any more.
fn ends_with_its_reader(state: &Path) {
    let mut child = Command::new(fim())
        .args(["events", "-f", "--state-dir"])
        .arg(state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // To the end, so that no write of it tells.
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    while !line.contains("agent_stopped") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    drop(reader);
    let status = ended(&mut child, crate::environment::patience());
    // If it has not ended.
    let _ = child.kill();
    let _ = child.wait();
    let status = status.expect("it goes on without a reader");
    assert!(status.success(), "{status}");
}

/// The report in a real browser: it is shown, and asks for nothing.
fn in_a_browser(scratch: &Scratch, state: &Path) {
    let page = scratch.path().join("report.html");
    let said = good(state, &["report", "--output", page.to_str().unwrap()]);
    assert!(said.contains("changes"), "{said}");
    let Some(shown) = crate::browser::shown(scratch, &page) else { return };
    for needle in ["File integrity report", "file 42", "Whole and unaltered", "11.5.2"] {
        assert!(shown.contains(needle), "{needle} is not shown");
    }
}
