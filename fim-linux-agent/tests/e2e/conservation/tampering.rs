//! Whoever meddles with the agent is told, and what was done is put right: programs that are
//! detached, maps that are changed, marks that are taken away, the state, the program.

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::loaded_programs;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{Bench, at};
use crate::agent::{Agent, Setup};
use crate::environment::{Backend, alone, backend, beside_others, fim, is_ready, skip};
use crate::event::Event;
use crate::lifecycle::page;
use crate::operator::{Op, Operator, flush_marks};
use crate::scratch::Scratch;

/// Bytes of the values of the maps.
const ROOT: usize = 32;
const SETTINGS: usize = 40;
/// Where `agent_tgid` stands in the settings.
const AGENT: std::ops::Range<usize> = 24..28;

fn start(name: &str, files: &[&str]) -> Bench {
    let mut bench = Bench::start(name, "", true, |watched| {
        for file in files {
            fs::write(watched.join(file), "before\n").unwrap();
        }
    });
    bench.agent.setup.loses = true;
    bench
}

fn is_for(wanted: Backend, test: &str) -> bool {
    if backend() != wanted {
        skip(test, &format!("only with {}", wanted.name()));
    }
    backend() == wanted && is_ready(test)
}

fn tampered(agent: &Agent, part: &str) -> Event {
    let event = agent.event(&format!("agent_tampered of {part}"), |event| {
        event.action() == "agent_tampered"
            && event.text("fim.message").is_some_and(|text| text.contains(part))
    });
    assert_eq!(event.text("event.kind"), Some("alert"), "{event}");
    event
}

/// Waits until a loss in `hook` was told and compared with the disk.
fn compared(bench: &Bench, hook: &str) {
    bench.agent.event("the gap", |event| {
        event.action() == "gap" && event.list("fim.gap.hooks").contains(&hook)
    });
    bench.closed(0);
}

/// Waits for an event about a file of the bench. `seen`: when it was done, and by whom; else it was
/// found.
fn told(bench: &Bench, action: &str, name: &str, seen: bool) {
    let path = bench.watched.join(name);
    let event = bench.agent.event(&format!("{action} {name}"), |event| {
        event.action() == action && Path::new(event.path()) == path
    });
    if seen {
        assert_eq!(event.text("event.provider"), Some(backend().name()), "{event}");
        assert_eq!(event.number("process.pid"), Some(std::process::id().into()), "{event}");
    }
}

/// The agent's descriptors, each with what the kernel says of it.
fn descriptors(agent: &Agent) -> Vec<(RawFd, String)> {
    let directory = PathBuf::from(format!("/proc/{}/fdinfo", agent.pid));
    let entries = fs::read_dir(directory).unwrap().flatten();
    let read = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, fs::read_to_string(path).ok()?))
    };
    entries.filter_map(|entry| read(entry.path())).collect()
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// The agent's descriptors of the links of programs with this name, which the kernel cuts.
fn links(agent: &Agent, program: &str) -> Vec<RawFd> {
    let named = loaded_programs()
        .flatten()
        .filter(|info| info.name_as_str().is_some_and(|name| name.starts_with(program)));
    let ids: Vec<u32> = named.map(|info| info.id()).collect();
    let all = descriptors(agent).into_iter();
    let links = all.filter(|(_, text)| {
        text.contains("link_id:") && field(text, "prog_id:").is_some_and(|id| ids.contains(&id))
    });
    links.map(|(descriptor, _)| descriptor).collect()
}

/// A map of this agent, and of no other one.
fn map(agent: &Agent, name: &str) -> MapData {
    let ids = descriptors(agent).into_iter().filter_map(|(_, text)| field(&text, "map_id:"));
    let mut maps = ids.map(|id| MapData::from_id(id).unwrap());
    maps.find(|map| map.info().unwrap().name_as_str() == Some(name)).expect("a map of this name")
}

#[test]
fn a_program_that_is_detached_is_attached_again() {
    if !is_for(Backend::Bpf, "conservation::tampering of programs") {
        return;
    }
    let _guard = beside_others();
    let bench = start("detached", &["a", "b"]);
    let links = links(&bench.agent, "unlink");
    assert_eq!(links.len(), 2, "entry and exit");
    for descriptor in links {
        Operator::new(Op::CloseIn { pid: bench.agent.pid, descriptor }).run();
    }
    fs::remove_file(bench.watched.join("a")).unwrap();
    let event = tampered(&bench.agent, "vfs_unlink");
    assert!(event.text("fim.message").unwrap().ends_with("attached again"), "{event}");
    compared(&bench, "unlink");
    told(&bench, "deleted", "a", false);
    fs::remove_file(bench.watched.join("b")).unwrap();
    told(&bench, "deleted", "b", true);
    assert!(page(bench.agent.setup.metrics, "/healthz").0.contains(" 200 "));
    bench.agent.stop();
}

#[test]
fn maps_that_are_changed_are_put_back() {
    if !is_for(Backend::Bpf, "conservation::tampering of maps") {
        return;
    }
    let _guard = beside_others();
    let bench = start("maps", &["a", "b", "c", "d"]);
    let write = |name: &str| fs::write(bench.watched.join(name), "after\n").unwrap();

    // Nothing is in scope any more.
    let roots = map(&bench.agent, "ROOTS");
    let mut roots = HashMap::<_, u64, [u8; ROOT]>::try_from(Map::HashMap(roots)).unwrap();
    let keys: Vec<u64> = roots.keys().flatten().collect();
    assert!(!keys.is_empty());
    for key in &keys {
        roots.remove(key).unwrap();
    }
    write("a");
    tampered(&bench.agent, "ROOTS");
    compared(&bench, "maps");
    told(&bench, "updated", "a", false);
    assert_eq!(roots.keys().flatten().count(), keys.len());
    write("b");
    told(&bench, "updated", "b", true);

    // What this process does is taken for the agent's own.
    let settings = Map::Array(map(&bench.agent, "SETTINGS"));
    let mut settings = Array::<_, [u8; SETTINGS]>::try_from(settings).unwrap();
    let mut value = settings.get(&0, 0).unwrap();
    assert_eq!(value[AGENT], bench.agent.pid.to_ne_bytes());
    value[AGENT].copy_from_slice(&std::process::id().to_ne_bytes());
    settings.set(0, value, 0).unwrap();
    write("c");
    tampered(&bench.agent, "SETTINGS");
    told(&bench, "updated", "c", false);
    bench.closed(0);
    write("d");
    told(&bench, "updated", "d", true);
    bench.agent.stop();
}

#[test]
fn programs_that_the_kernel_is_told_not_to_call() {
    const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";
    let test = "conservation::tampering by ftrace_enabled";
    if !is_for(Backend::Bpf, test) {
        return;
    }
    let _guard = alone();
    let bench = start("ftrace", &["a", "b"]);
    // Older kernels do not let go of programs that are attached.
    if let Err(error) = fs::write(SWITCH, "0") {
        return skip(test, &error.to_string());
    }
    fs::remove_file(bench.watched.join("a")).unwrap();
    tampered(&bench.agent, "ftrace_enabled");
    at(&bench.agent, "it is unhealthy", |_| {
        let (status, body) = page(bench.agent.setup.metrics, "/healthz");
        status.contains(" 503 ") && body.contains("ftrace_enabled")
    });
    fs::write(SWITCH, "1").unwrap();
    compared(&bench, "ftrace");
    told(&bench, "deleted", "a", false);
    fs::remove_file(bench.watched.join("b")).unwrap();
    told(&bench, "deleted", "b", true);
    bench.agent.stop();
}

#[test]
fn marks_that_are_taken_away_are_set_again() {
    let test = "conservation::tampering of marks";
    if !is_for(Backend::Fanotify, test) {
        return;
    }
    let _guard = beside_others();
    let bench = start("marks", &["a", "b"]);
    let mut all = descriptors(&bench.agent).into_iter();
    let (group, _) = all.find(|(_, text)| text.contains("fanotify flags:")).unwrap();
    let pid = Pid::from_raw(bench.agent.pid.cast_signed()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    match pidfd_getfd(&process, group, PidfdGetfdFlags::empty()) {
        Ok(group) => flush_marks(&group).unwrap(),
        Err(error) => return skip(test, &format!("pidfd_getfd: {error}")),
    }
    fs::remove_file(bench.watched.join("a")).unwrap();
    tampered(&bench.agent, "fanotify marks");
    compared(&bench, "fanotify_marks");
    told(&bench, "deleted", "a", false);
    fs::remove_file(bench.watched.join("b")).unwrap();
    told(&bench, "deleted", "b", true);
    bench.agent.stop();
}

#[test]
fn whoever_changes_state_or_program_is_named() {
    if !is_ready("conservation::tampering of files") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("own");
    let watched = scratch.directory("watched");
    // Another one than that of other tests.
    let program = scratch.path().join("fim");
    fs::copy(fim(), &program).unwrap();
    let agent = Agent::start(Setup {
        program: Some(program.clone()),
        ..Setup::new(scratch.path(), &[&watched])
    });
    let shell = |script: &str| {
        let done = Command::new("sh").args(["-c", script]).status().unwrap();
        assert!(done.success(), "{script}");
    };
    let by_shell = |event: &Event| {
        let args = event.list("process.args").join(" ");
        assert!(args.contains("agent-id") || args.contains("fim"), "{event}");
        assert_eq!(event.text("user.name"), Some("root"), "{event}");
    };

    let id = agent.setup.state_dir.join("agent-id");
    shell(&format!("echo x >> {}", id.display()));
    by_shell(&tampered(&agent, "agent-id"));

    let journal = agent.setup.state_dir.join("journal");
    shell(&format!("touch {}/strange # fim", journal.display()));
    by_shell(&tampered(&agent, "strange"));

    assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    shell(&format!("chmod 0700 {}", program.display()));
    let event = tampered(&agent, "own program");
    assert!(event.text("fim.message").unwrap().contains(program.to_str().unwrap()), "{event}");
    by_shell(&event);

    // Readers are nobody's business.
    let count = || agent.events().iter().filter(|event| event.action() == "agent_tampered").count();
    let before = count();
    for command in ["events", "verify"] {
        let mut reader = Command::new(fim());
        reader.arg(command).arg("--state-dir").arg(&agent.setup.state_dir);
        drop(reader.output().unwrap());
    }
    agent.stop();
    assert_eq!(count(), before);
}
