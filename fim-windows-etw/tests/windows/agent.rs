//! The agent without ETW: from a change of the disk or the registry to the journal.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fim_commands::{Arguments, Failure, verify};
use fim_common::event::Event;
use fim_common::pipeline::Format;
use fim_windows_etw::commands::run::run;
use tokio::sync::Notify;

use crate::registry::{fresh, reg};

/// Beyond this an event does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Agent {
    state: PathBuf,
    metrics: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Agent {
    pub(crate) fn start(config: &Path, state: &Path) -> Self {
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let arguments = Arguments {
            config: Some(config.to_owned()),
            output: Some(Format::None),
            state_dir: state.to_owned(),
            metrics: Some(metrics),
            ..Arguments::default()
        };
        let stop = Arc::new(Notify::new());
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run(&arguments, &asked));
        let agent = Self { state: state.to_owned(), metrics, stop, thread: Some(thread) };
        let starts =
            agent.events().iter().filter(|e| e.event.action.as_str() == "agent_started").count();
        agent.wait(|events| {
            let started = events.iter().filter(|e| e.event.action.as_str() == "agent_started");
            (started.count() > starts).then_some(())
        });
        agent
    }

    fn events(&self) -> Vec<Event> {
        let Ok(entries) = std::fs::read_dir(self.state.join("journal")) else { return Vec::new() };
        let mut segments: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        segments.sort();
        let text: String =
            segments.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn wait<T>(&self, wanted: impl Fn(&[Event]) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let events = self.events();
            if let Some(found) = wanted(&events) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "it did not come; there is {events:#?}");
            assert!(!self.thread.as_ref().unwrap().is_finished(), "the agent has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn event(&self, action: &str, end: &str) -> Event {
        self.wait(|events| {
            let path = |event: &Event| {
                let file = event.file.as_ref().map(|file| file.path.clone());
                file.or_else(|| event.registry.as_ref().map(|registry| registry.path.clone()))
            };
            let found = events.iter().find(|event| {
                event.event.action.as_str() == action
                    && path(event).is_some_and(|path| path.ends_with(end))
            });
            found.cloned()
        })
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn stop(mut self) -> Vec<Event> {
        self.stop.notify_one();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.events()
    }
}

#[test]
fn changes_reach_the_journal_without_etw() {
    let directory = tempfile::tempdir().unwrap();
    let watched = std::fs::canonicalize(directory.path()).unwrap();
    let watched =
        PathBuf::from(watched.to_str().unwrap().trim_start_matches(r"\\?\")).join("Watched");
    std::fs::create_dir(&watched).unwrap();
    std::fs::write(watched.join("Known.txt"), "before").unwrap();
    let key = fresh("agent");
    let config = directory.path().join("fim.toml");
    // Rules need not spell a path as the disk does.
    let lower = watched.to_str().unwrap().to_lowercase();
    let text = format!(
        "[[rule]]\nname = 'files'\npaths = ['{lower}']\n[[rule]]\nname = 'keys'\nregistry = ['{key}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let state = directory.path().join("state");

    let agent = Agent::start(&config, &state);
    std::fs::write(watched.join("New.txt"), "hello").unwrap();
    let created = agent.event("created", r"Watched\New.txt");
    let file = created.file.as_ref().unwrap();
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(file.hash.as_ref().map(|hash| hash.sha256.as_str()), Some(hash));
    assert_eq!(created.rule.as_ref().unwrap().name, "files");
    assert!(created.process.is_none() && created.user.is_none());
    assert!(created.fim.unknown.contains_key("process"), "{:?}", created.fim.unknown);

    std::fs::write(watched.join("Known.txt"), "after").unwrap();
    let updated = agent.event("updated", "Known.txt");
    let before = updated.fim.before.as_ref().unwrap();
    assert!(before.sha256.is_some() && before.acl.is_some(), "{before:?}");
    reg(&["add", &key, "/v", "Value", "/d", "x", "/f"]);
    let set = agent.event("updated", r"fim-test-agent\Value");
    assert_eq!(set.registry.as_ref().unwrap().hive.as_deref(), Some("HKLM"));
    assert_eq!(set.rule.as_ref().unwrap().name, "keys");
    assert!(set.fim.after.as_ref().unwrap().sha256.is_some());

    let metrics = agent.get("/metrics");
    for name in ["fim_events_total", "fim_build_info", "process_cpu_seconds_total"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(agent.get("/healthz").starts_with("HTTP/1.1 200"));
    let events = agent.stop();
    assert_eq!(events.last().unwrap().event.action.as_str(), "agent_stopped");

    // What happens while nobody watches is told at the next start.
    std::fs::remove_file(watched.join("New.txt")).unwrap();
    reg(&["delete", &key, "/v", "Value", "/f"]);
    let agent = Agent::start(&config, &state);
    let gone = agent.event("deleted", "New.txt");
    assert!(gone.fim.before.is_some());
    agent.event("deleted", r"fim-test-agent\Value");
    agent.stop();
    reg(&["delete", &key, "/f"]);

    let mut out = Vec::new();
    let arguments = verify_arguments(&state);
    assert_eq!(
        verify::verify(&mut out, &arguments).unwrap(),
        0,
        "{}",
        String::from_utf8_lossy(&out)
    );
}

#[test]
fn another_configuration_is_about_what_it_adds_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(directory.path()).unwrap();
    let root = PathBuf::from(root.to_str().unwrap().trim_start_matches(r"\\?\"));
    let (one, two) = (root.join("One"), root.join("Two"));
    for place in [&one, &two] {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join("There.txt"), "x").unwrap();
    }
    let (first, second) = (fresh("reload-one"), fresh("reload-two"));
    for key in [&first, &second] {
        reg(&["add", key, "/v", "There", "/d", "x", "/f"]);
    }
    let config = root.join("fim.toml");
    let write = |paths: &[&Path], keys: &[&str]| {
        let quoted = |items: Vec<String>| format!("[{}]", items.join(", "));
        let paths = quoted(paths.iter().map(|path| format!("'{}'", path.display())).collect());
        let keys = quoted(keys.iter().map(|key| format!("'{key}'")).collect());
        let text = format!("[[rule]]\nname = 'r'\npaths = {paths}\nregistry = {keys}\n");
        std::fs::write(root.join("new.toml"), text).unwrap();
        std::fs::rename(root.join("new.toml"), &config).unwrap();
    };
    write(&[&one], &[&first]);
    let agent = Agent::start(&config, &root.join("state"));
    write(&[&two], &[&second]);
    agent.wait(|events| {
        events.iter().find(|event| event.event.action.as_str() == "config_changed").map(drop)
    });
    // At once: it is seen although the baseline may be under way.
    std::fs::write(two.join("New.txt"), "y").unwrap();
    reg(&["add", &second, "/v", "New", "/d", "y", "/f"]);
    agent.event("created", r"Two\New.txt");
    agent.event("updated", r"reload-two\New");
    std::fs::write(one.join("Nobody.txt"), "y").unwrap();
    reg(&["add", &first, "/v", "Nobody", "/d", "y", "/f"]);
    let events = agent.stop();
    // Neither what was there, nor what is left alone, is a change; and so it is at the next start.
    // What differs in so small a tree is told together: with this file, all of it.
    std::fs::write(two.join("While.txt"), "y").unwrap();
    let agent = Agent::start(&config, &root.join("state"));
    agent.event("created", r"Two\While.txt");
    let all = [events, agent.stop()].concat();
    for event in &all {
        let file = event.file.as_ref().map(|file| file.path.clone());
        let path = file.or_else(|| event.registry.as_ref().map(|key| key.path.clone()));
        let path = path.unwrap_or_default();
        assert!(!path.contains("There") && !path.contains("Nobody"), "{event:#?}");
        assert!(!path.ends_with("reload-one") && !path.ends_with("reload-two"), "{event:#?}");
    }
    for key in [&first, &second] {
        reg(&["delete", key, "/f"]);
    }
}

fn verify_arguments(state: &Path) -> verify::Arguments {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: verify::Arguments,
    }
    <Line as clap::Parser>::parse_from(["verify", state.to_str().unwrap()]).arguments
}
