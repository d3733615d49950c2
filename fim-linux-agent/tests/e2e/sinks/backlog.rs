//! 100,000 events, and which of them have been seen.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fim_common::event::actor::{Process, User};
use fim_common::event::{Action, Agent, Category, Event, Fim, Host, Kind, Provider, Type};
use fim_common::journal::{Journal, JournalOptions};
use fim_common::pipeline::own_event;
use serde_json::Value;

pub(super) const EVENTS: usize = 100_000;
/// `agent.ephemeral_id` of their start; those of the agent under test have another.
pub(super) const START: &str = "backlog-0000-0000";

/// Writes the journal of an agent that ran before; it is made once.
pub(super) fn write(state: &Path) {
    static MADE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), JournalOptions::default()).unwrap();
        let events = events();
        for (index, mut event) in events.cycle().take(EVENTS).enumerate() {
            let number = index + 1;
            event.event.sequence = number as u64;
            event.event.id = format!("01890000-0000-7000-8000-{number:012}");
            if let Some(file) = &mut event.file {
                file.path = format!("/srv/data/{}/file-{number}.conf", number % 100);
            }
            journal.append(&event).unwrap();
        }
        drop(journal);
        let segments = fim_common::journal::segments(directory.path()).unwrap();
        let read = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        };
        segments.into_iter().map(read).collect()
    });
    use std::os::unix::fs::DirBuilderExt as _;
    let directory = state.join("journal");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    for (name, bytes) in made {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// One of each kind that a receiver may take differently.
fn events() -> impl Iterator<Item = Event> + Clone {
    let host = Host { name: Some("host-1.example.org".to_owned()), ..Host::default() };
    let agent = Agent { ephemeral_id: START.to_owned(), ..Agent::default() };
    let base = || {
        let (host, agent) = (host.clone().into(), agent.clone().into());
        let mut event = own_event(Action::Created, Fim::default(), host, agent);
        event.event.kind = Kind::Event;
        event.event.category = vec![Category::File];
        event.event.types = vec![Type::Creation];
        event.event.provider = Some(Provider::Bpf);
        event.event.severity = Some(50);
        event.file = Some(Box::new(fim_common::event::File::default()));
        let process = Process {
            pid: 4711,
            name: Some("ansible \"x\" | = \\".to_owned()),
            executable: Some("/usr/bin/python3.11".to_owned()),
            args: Some(vec!["python3".to_owned(), "line\nbreak".to_owned(), "ü€".to_owned()]),
            ..Process::default()
        };
        event.process = Some(process.into());
        event.user = Some(User::default().into());
        event
    };
    let mut deleted = base();
    deleted.event.action = Action::Deleted;
    deleted.event.types = vec![Type::Deletion];
    deleted.event.severity = Some(90);
    deleted.event.kind = Kind::Alert;
    [base(), base(), deleted].into_iter()
}

/// Which events a receiver has.
#[derive(Debug)]
pub(super) struct Seen {
    backlog: Vec<bool>,
    count: usize,
    /// Of the agent under test.
    paths: BTreeSet<String>,
    actions: BTreeSet<String>,
    /// Files that are read as they grow, and how far they were.
    files: Vec<(PathBuf, u64)>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            backlog: vec![false; EVENTS + 1],
            count: 0,
            paths: BTreeSet::new(),
            actions: BTreeSet::new(),
            files: Vec::new(),
        }
    }
}

impl Seen {
    /// How many different events of the backlog.
    pub(super) fn backlog(&self) -> usize {
        self.count
    }

    /// The first numbers that are missing.
    pub(super) fn missing(&self) -> Vec<usize> {
        (1..=EVENTS).filter(|number| !self.backlog[*number]).take(5).collect()
    }

    pub(super) fn has_path(&self, path: &Path) -> bool {
        self.paths.contains(path.to_str().unwrap())
    }

    pub(super) fn has_action(&self, action: &str) -> bool {
        self.actions.contains(action)
    }

    /// Takes in an event of the backlog by its number.
    pub(super) fn number(&mut self, number: usize) {
        if !std::mem::replace(&mut self.backlog[number], true) {
            self.count += 1;
        }
    }

    /// Takes in an event in the format `ecs`.
    pub(super) fn event(&mut self, event: &Value) {
        if event["agent"]["ephemeral_id"] == START {
            let number = event["event"]["sequence"].as_u64().unwrap();
            self.number(usize::try_from(number).unwrap());
            return;
        }
        self.paths.extend(event["file"]["path"].as_str().map(str::to_owned));
        self.actions.extend(event["event"]["action"].as_str().map(str::to_owned));
    }

    /// Takes in what a file has more than last time, by lines; what is behind the last newline has
    /// time. A receiver that was killed may leave half a line, which is no event: the next one
    /// begins with `start` then.
    pub(super) fn grown(&mut self, path: &Path, mut take: impl FnMut(&mut Self, &str)) {
        let index = self.files.iter().position(|(known, _)| known == path).unwrap_or_else(|| {
            self.files.push((path.to_owned(), 0));
            self.files.len() - 1
        });
        let Ok(mut file) = File::open(path) else { return };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.files[index].1)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.files[index].1 += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
        for line in text.lines() {
            take(self, line);
        }
    }

    /// As [`Seen::grown`], with an event in the format `ecs` on each line.
    pub(super) fn grown_events(&mut self, path: &Path) {
        self.grown(path, |seen, line| {
            // Half a line, and the next one behind it.
            if let Ok(event) = serde_json::from_str(line) {
                seen.event(&event);
            }
        });
    }
}
