//! One agent from its start to its stop, and the next one after it: metrics, journal, what others
//! are refused meanwhile, damage to what it left, and what happened while nobody watched. It is one
//! test, since under emulation a start takes longer than everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::agent::{Agent, Setup, dump, free_address};
use crate::bad_input::damaged::real_files_are_refused;
use crate::bad_input::{FAILURE, outcome};
use crate::environment::{backend, beside_others, is_ready, patience};
use crate::event::{Event, path_text};
use crate::expect::{self, Known};
use crate::operator::{Op, Operator, Raw};
use crate::scratch::{Scratch, directory};

#[test]
fn from_start_to_restart() {
    if !is_ready("lifecycle") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("lifecycle");
    let watched = scratch.directory("watched");
    for name in ["stays", "changes", "goes", "mode", "renamed", "removed while watched"] {
        let path = watched.join(name);
        fs::write(&path, format!("{name}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let excluded = watched.join("excluded");
    directory(&excluded);
    let manager = ServiceManager::new(scratch.path());
    let notify = Some(manager.path.clone());
    // Every two seconds it asks itself whether its pipeline has got on.
    let environment = vec![("WATCHDOG_USEC", "8000000".to_owned())];
    let setup = Setup { notify, environment, ..Setup::new(scratch.path(), &[&watched]) };

    let first = Agent::start(setup.clone());
    manager.is_told("READY=1");
    introduces_itself(&first);
    let created = work(&first, &watched);
    metrics(&first, created);
    nobody_else(&first, &scratch);
    // The first word is free, the second wants something to have come through.
    for _ in 0..2 {
        manager.is_told("WATCHDOG=1");
    }
    first.stop();
    manager.is_told("STOPPING=1");
    journal_has(&first, &first.events());
    real_files_are_refused(&setup);

    let changes = change_unwatched(&watched);
    // The same directory, but now by a rule of a file.
    let config = scratch.path().join("fim.toml");
    fs::write(&config, rule(&watched, &excluded)).unwrap();
    let second = Agent::start(Setup { config: Some(config), watch: Vec::new(), ..setup });
    changes.are_found(&second);
    is_excluded(&second, &watched, &excluded);
    second.stop_by(Signal::INT);
    let events = [first.events(), second.events()].concat();
    journal_has(&second, &events);
    let ids: BTreeSet<&str> = events.iter().map(Event::id).collect();
    assert_eq!(ids.len(), events.len(), "event.id is not unique");
    let agents = |place| {
        let texts = events.iter().map(move |event| event.text(place).unwrap_or_default());
        texts.collect::<BTreeSet<_>>().len()
    };
    assert_eq!(agents("agent.id"), 1, "another agent.id with the same state directory");
    assert_eq!(agents("agent.ephemeral_id"), 2, "agent.ephemeral_id is that of a start");
}

/// What systemd would be told.
struct ServiceManager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn new(base: &Path) -> Self {
        let path = base.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(patience())).unwrap();
        Self { path, socket }
    }

    /// Waits for a message; there may be others before it.
    fn is_told(&self, message: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("the service manager was not told {message}: {error}")
            });
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == message) {
                return;
            }
        }
    }
}

/// A policy about one directory.
fn rule(watched: &Path, excluded: &Path) -> String {
    format!(
        "[events]\nalert_severity = \"high\"\n\n[[rule]]\nname = \"by file\"\n\
         paths = [{watched:?}]\nexclude = [{excluded:?}]\nseverity = 80\n\
         category = \"test\"\ntags = [\"one\", \"two\"]\ntechniques = [\"T1543.002\"]\n"
    )
}

/// What the rule says is in the event.
fn is_by_rule(event: &Event) {
    assert_eq!(event.text("event.kind"), Some("alert"), "{event}");
    assert_eq!(event.number("event.severity"), Some(80), "{event}");
    assert_eq!(event.text("rule.name"), Some("by file"), "{event}");
    assert_eq!(event.text("rule.category"), Some("test"), "{event}");
    assert_eq!(event.list("tags"), ["one", "two"], "{event}");
    assert_eq!(event.list("threat.technique.id"), ["T1543.002"], "{event}");
}

/// Nothing is told of what the rule leaves out, and what it does not is an alert.
fn is_excluded(agent: &Agent, watched: &Path, excluded: &Path) {
    for path in [excluded.join("not told"), watched.join("told")] {
        let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"new\n".to_vec() };
        Operator::new(op).run();
    }
    let event = wait(agent, "created", &watched.join("told"));
    is_by_rule(&event);
    assert_eq!(event.text("event.provider"), Some(backend().name()), "{event}");
    let lines = agent.stream.lines_below(excluded);
    assert!(lines.is_empty(), "it is excluded\n{}", dump(&lines));
}

/// What every event says of host and agent, and `agent_started` of what is armed.
fn introduces_itself(agent: &Agent) {
    let event = agent.stream.lines()[0].event();
    assert_eq!(event.action(), "agent_started");
    assert_eq!(event.text("event.kind"), Some("state"), "{event}");
    assert!(event.text("fim.message").is_some_and(|text| !text.is_empty()), "{event}");
    assert!(!event.has("event.provider") && !event.has("process"), "{event}");
    let read = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
    for (place, value) in [
        ("host.name", read("/proc/sys/kernel/hostname")),
        ("host.boot.id", read("/proc/sys/kernel/random/boot_id")),
        ("host.os.type", "linux".to_owned()),
        ("host.os.kernel", read("/proc/sys/kernel/osrelease")),
        ("agent.type", "fim".to_owned()),
    ] {
        assert_eq!(event.text(place), Some(&*value), "{place}: {event}");
    }
    assert!(event.has("agent.version") && event.has("agent.ephemeral_id"), "{event}");
}

/// Waits for an event of `path`.
fn wait(agent: &Agent, action: &str, path: &Path) -> Event {
    let found = agent.stream.wait_below(path, |event| event.action() == action);
    found.unwrap_or_else(|error| {
        panic!(
            "{action} {}: {error}\n{}{}",
            path.display(),
            dump(&agent.stream.lines()),
            agent.log()
        )
    })
}

/// A few operations; returns how many files were created.
fn work(agent: &Agent, watched: &Path) -> usize {
    const FILES: usize = 5;
    for number in 0..FILES {
        let path = watched.join(format!("new {number}"));
        let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"new\n".to_vec() };
        let report = Operator::new(op).run();
        let event = wait(agent, "created", &path);
        expect::change(&event);
        expect::actor(&event, &report);
    }
    let path = watched.join("removed while watched");
    Operator::new(Op::Unlink { path: Raw::from(&path) }).run();
    wait(agent, "deleted", &path);
    FILES
}

/// A page of the agent: status line and body.
pub(crate) fn page(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: fim\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

/// Samples of a page by name with labels.
pub(crate) fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// What the contract promises of `/metrics` and `/healthz`.
fn metrics(agent: &Agent, created: usize) {
    let address = agent.setup.metrics;
    let (status, body) = page(address, "/healthz");
    assert!(status.contains(" 200 "), "{status}\n{body}");
    let (status, _) = page(address, "/nothing");
    assert!(status.contains(" 404 "), "{status}");

    // Counted when they are in the journal, which may be a moment later than printed.
    let provider = backend().name();
    let counter = format!(
        "fim_events_total{{action=\"created\",outcome=\"success\",provider=\"{provider}\"}}"
    );
    let deadline = Instant::now() + patience();
    let text = loop {
        let (status, text) = page(address, "/metrics");
        assert!(status.contains(" 200 "), "{status}\n{text}");
        let samples = samples(&text);
        let is = |name: &str, value: usize| samples.get(name) == Some(&(value as f64));
        if is(&counter, created)
            && is("fim_baseline_objects", 2 + 5 + created)
            && ledgers_hold(&samples)
        {
            break text;
        }
        assert!(Instant::now() < deadline, "{created} files were created\n{text}");
        std::thread::yield_now();
    };
    for name in [
        "fim_events_total{action=\"agent_started\"",
        "fim_events_total{action=\"deleted\"",
        "fim_kernel_operations_total{hook=",
        "fim_gaps_total 0",
        "fim_event_delay_seconds_bucket{le=",
        "fim_hash_seconds_bucket{le=",
        "fim_hash_bytes_total",
        "fim_baseline_objects",
        "fim_queue_depth{queue=",
        "fim_build_info{",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "/metrics lacks {name}\n{text}");
    }
    let samples = samples(&text);
    assert!(samples["fim_event_delay_seconds_count"] >= created as f64);
    // Nothing was dropped, by any stage.
    for (name, value) in samples.iter().filter(|(name, _)| name.starts_with("fim_events_dropped")) {
        assert_eq!(*value, 0.0, "{name}");
    }
}

/// For each hook: what it saw was filtered, submitted or lost; and nothing was lost.
fn ledgers_hold(samples: &BTreeMap<String, f64>) -> bool {
    let count = |hook: &str, result: &str| {
        let name = format!("fim_kernel_operations_total{{hook=\"{hook}\",result=\"{result}\"}}");
        samples.get(&name).copied().unwrap_or(0.0)
    };
    let prefix = "fim_kernel_operations_total{hook=\"";
    let hooks: BTreeSet<&str> =
        samples.keys().filter_map(|name| name.strip_prefix(prefix)?.split('"').next()).collect();
    hooks.iter().all(|hook| {
        assert_eq!(count(hook, "lost"), 0.0, "hook {hook}");
        count(hook, "seen") == count(hook, "filtered") + count(hook, "submitted")
    })
}

/// A second agent on the same state directory or the same port is refused, and does no harm.
fn nobody_else(agent: &Agent, scratch: &Scratch) {
    let same_state = Setup { metrics: free_address(), ..agent.setup.clone() };
    let needles = [agent.setup.state_dir.to_str().unwrap(), &agent.pid.to_string()];
    outcome(same_state.command()).is_refusal("a second agent", FAILURE, &needles);
    let state_dir = scratch.path().join("other-state");
    let same_port = Setup { state_dir, ..agent.setup.clone() };
    let needles = [&*agent.setup.metrics.to_string(), "in use"];
    outcome(same_port.command()).is_refusal("the same port", FAILURE, &needles);
    assert!(page(agent.setup.metrics, "/healthz").0.contains(" 200 "));
}

/// The journal holds these events and no others, in order.
fn journal_has(agent: &Agent, events: &[Event]) {
    // The chain is the journal's own.
    let plain = |mut value: Value| {
        if let Some(fim) = value["fim"].as_object_mut() {
            fim.remove("chain");
        }
        value
    };
    let kept: Vec<Value> = agent.journal().into_iter().map(plain).collect();
    let printed: Vec<Value> = events.iter().map(|event| plain(event.value.clone())).collect();
    assert_eq!(kept.len(), printed.len(), "events in the journal, and events printed");
    for (kept, printed) in kept.iter().zip(&printed) {
        assert_eq!(kept, printed);
    }
}

/// What is done while no agent runs.
struct Unwatched {
    changes: (PathBuf, Known),
    goes: (PathBuf, Known),
    mode: (PathBuf, Known),
    renamed: (PathBuf, PathBuf),
    new: PathBuf,
    stays: PathBuf,
}

fn change_unwatched(watched: &Path) -> Unwatched {
    let known = |name| {
        let path = watched.join(name);
        let known = Known::of(&path);
        (path, known)
    };
    let unwatched = Unwatched {
        changes: known("changes"),
        goes: known("goes"),
        mode: known("mode"),
        renamed: (watched.join("renamed"), watched.join("another name")),
        new: watched.join("new while unwatched"),
        stays: watched.join("stays"),
    };
    // As long as before, so that only times and hash tell.
    fs::write(&unwatched.changes.0, "CHANGES\n").unwrap();
    fs::remove_file(&unwatched.goes.0).unwrap();
    fs::set_permissions(&unwatched.mode.0, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::rename(&unwatched.renamed.0, &unwatched.renamed.1).unwrap();
    fs::write(&unwatched.new, "new\n").unwrap();
    unwatched
}

impl Unwatched {
    /// The differences are told as such: found by a scan, and done by nobody knows whom.
    fn are_found(&self, agent: &Agent) {
        let found = |action: &str, path: &Path| {
            let event = wait(agent, action, path);
            assert_eq!(event.text("event.provider"), Some("scan"), "{event}");
            assert!(!event.has("process") && !event.has("user"), "{event}");
            expect::change_of_any_provider(&event);
            is_by_rule(&event);
            event
        };
        let event = found("updated", &self.changes.0);
        self.changes.1.is(&event, "fim.before");
        expect::exact_hash(&event, b"CHANGES\n");
        expect::state(&event, &self.changes.0);
        let event = found("deleted", &self.goes.0);
        self.goes.1.is(&event, "fim.before");
        let event = found("attributes_modified", &self.mode.0);
        self.mode.1.is(&event, "fim.before");
        assert_eq!(event.list("fim.changes"), ["mode"], "{event}");
        let event = found("created", &self.new);
        expect::exact_hash(&event, b"new\n");
        expect::state(&event, &self.new);

        // A scan sees a rename as what it is by name; a cleverer one may see the move.
        let (old, new) = &self.renamed;
        let event = agent.stream.wait_below(new, |_| true);
        let event = event.unwrap_or_else(|error| panic!("{}: {error}", new.display()));
        match event.action() {
            "moved" => assert_eq!(event.text("fim.before.path"), Some(&*path_text(old)), "{event}"),
            _ => {
                assert_eq!(event.action(), "created", "{event}");
                found("deleted", old);
            }
        }
        let stays = agent.stream.lines_below(&self.stays);
        assert!(stays.is_empty(), "nothing happened to it\n{}", dump(&stays));
    }
}
