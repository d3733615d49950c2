//! A case at work.

use std::cell::Cell;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Agent, dump};
use crate::cases::{Case, Table};
use crate::environment::{say, skip};
use crate::event::{Event, path_text, sha256};
use crate::expect;
use crate::operator::{Op, Operator, Report};
use crate::shared::Shared;
use crate::stream::Line;

/// Operations within this time are one event; the default of `events.fold_ms` is 50. What an
/// operator did in less has to be folded, and what took longer may be.
const FOLDED: Duration = Duration::from_millis(20);

/// What a marker's name begins with.
const MARKER: &str = ".marker-";

/// A directory that is watched, and what happens in it.
pub(crate) struct Scene<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) agent: &'a Agent,
    name: String,
    /// Watched.
    pub(crate) inside: PathBuf,
    /// Beside it, not watched.
    pub(crate) outside: PathBuf,
    markers: Cell<u32>,
}

impl<'a> Scene<'a> {
    /// `None` when there is no place for the case here.
    pub(crate) fn new(shared: &'a Arc<Shared>, table: &Table, case: &Case) -> Option<Self> {
        let place = shared.place(table, case)?;
        Some(Self {
            shared,
            agent: &shared.agent,
            name: format!("{}::{}", table.name, case.name),
            inside: place.inside,
            outside: place.outside,
            markers: Cell::new(0),
        })
    }

    /// Something in the watched directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.inside.join(name)
    }

    /// Says why a part is not tested.
    pub(crate) fn skip(&self, reason: &str) {
        skip(&self.name, reason);
    }

    /// Says something that is worth knowing although nothing failed.
    pub(crate) fn note(&self, text: &str) {
        say(&format!("case {}: {text}", self.name));
    }

    /// Root does this, in a process that is gone at once.
    pub(crate) fn operate(&self, op: Op) -> Report {
        Operator::new(op).run()
    }

    /// Waits for an event in the watched directory.
    pub(crate) fn wait(&self, what: &str, wanted: impl FnMut(&Event) -> bool) -> Event {
        self.wait_below(&self.inside, what, wanted)
    }

    /// Waits for an event in `tree`, which is another watched directory.
    pub(crate) fn wait_below(
        &self,
        tree: &Path,
        what: &str,
        wanted: impl FnMut(&Event) -> bool,
    ) -> Event {
        match self.agent.stream.wait_below(tree, wanted) {
            Ok(event) => event,
            Err(error) => {
                panic!(
                    "{what}: {error}\n{}{}",
                    dump(&self.agent.stream.lines_below(tree)),
                    self.agent.log()
                )
            }
        }
    }

    /// Waits for the event of what `report`'s process did to `path`, and checks everything that
    /// holds for every event.
    pub(crate) fn change(&self, report: &Report, action: &str, path: &Path) -> Event {
        let text = path_text(path);
        let what = format!("{action} {text} by process {}", report.pid);
        let event = self.wait(&what, |event| {
            event.action() == action
                && event.path() == text
                && event.number("process.pid") == Some(report.pid.into())
        });
        expect::change(&event);
        expect::actor(&event, report);
        event
    }

    /// As [`Scene::change`], of a single operation on what is still there.
    pub(crate) fn single(&self, report: &Report, action: &str, path: &Path) -> Event {
        let event = self.change(report, action, path);
        expect::state(&event, path);
        self.only(&[&event]);
        event
    }

    /// What `report`'s process did changed the content of `path`, which had been `old`: it is told
    /// by `updated` and nothing else. Returns the event with the hash of the content as it is now.
    pub(crate) fn content_changed(&self, report: &Report, path: &Path, old: &[u8]) -> Event {
        let event = self.content(report, path, "updated");
        assert_eq!(event.text("fim.before.sha256"), Some(&*sha256(old)), "{event}");
        assert_eq!(event.number("fim.before.size"), Some(old.len() as u64), "{event}");
        assert!(event.list("fim.changes").contains(&"content"), "{event}");
        event
    }

    /// One of several changes of a content: from `old` to `new`.
    pub(crate) fn change_of_content(
        &self,
        report: &Report,
        path: &Path,
        old: &[u8],
        new: &[u8],
    ) -> Event {
        let (hash, text) = (sha256(new), path_text(path));
        let event = self.wait(&format!("updated {text} with hash {hash}"), |event| {
            event.action() == "updated"
                && event.path() == text
                && event.text("file.hash.sha256") == Some(&hash)
                && event.named().contains(&report.pid.into())
        });
        expect::change(&event);
        expect::actor(&event, report);
        expect::exact_hash(&event, new);
        assert_eq!(event.text("fim.before.sha256"), Some(&*sha256(old)), "{event}");
        event
    }

    /// `report`'s process made `path` and wrote its content.
    pub(crate) fn content_created(&self, report: &Report, path: &Path) -> Event {
        let event = self.content(report, path, "created");
        assert!(event.action() != "created" || !event.has("fim.before"), "{event}");
        event
    }

    fn content(&self, report: &Report, path: &Path, first: &str) -> Event {
        let content = fs::read(path).unwrap();
        let hash = sha256(&content);
        let last = self.wait(&format!("{first} {} with hash {hash}", path.display()), |event| {
            event.path() == path_text(path) && event.text("file.hash.sha256") == Some(&hash)
        });
        let events = self.settled();
        for (number, event) in events.iter().enumerate() {
            let action = if number == 0 { first } else { "updated" };
            assert_eq!(event.action(), action, "{}", self.dump());
            assert_eq!(event.path(), path_text(path), "{}", self.dump());
            expect::change(event);
            expect::actor(event, report);
        }
        assert!(events.len() <= 3, "one operation, many events\n{}", self.dump());
        if Duration::from_nanos(report.took()) < FOLDED {
            assert_eq!(events.len(), 1, "took {} ns\n{}", report.took(), self.dump());
        }
        let event = events.last().unwrap();
        assert_eq!(
            event.id(),
            last.id(),
            "the hash is not that of the last event\n{}",
            self.dump()
        );
        expect::state(event, path);
        expect::exact_hash(event, &content);
        event.clone()
    }

    /// A barrier: makes a file and waits for its event, so that what came before has been told.
    pub(crate) fn mark(&self) {
        self.mark_in(&self.inside);
    }

    /// A barrier in another watched directory.
    pub(crate) fn mark_in(&self, directory: &Path) {
        let number = self.markers.get();
        self.markers.set(number + 1);
        let name = format!("{MARKER}{number}");
        // With content, so that it takes as long a way as anything does.
        fs::write(directory.join(&name), &name).unwrap();
        self.wait_below(directory, "the marker", |event| event.path().ends_with(&name));
    }

    /// All events of the watched directory up to now, without markers.
    pub(crate) fn settled(&self) -> Vec<Event> {
        self.mark();
        self.events()
    }

    /// The events of the watched directory so far, without markers.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.lines().iter().map(|line| line.event()).collect()
    }

    /// How many there are: cheaper than [`Scene::events`].
    pub(crate) fn count(&self) -> usize {
        self.lines().len()
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        let mut lines = self.agent.stream.lines_below(&self.inside);
        lines.retain(|line| !line.text.contains(MARKER));
        lines
    }

    /// The events are these and no others.
    pub(crate) fn only(&self, expected: &[&Event]) {
        let found = self.settled();
        let ids = |events: &mut dyn Iterator<Item = &Event>| {
            let mut ids: Vec<String> = events.map(|event| event.id().to_owned()).collect();
            ids.sort();
            ids
        };
        let wanted = ids(&mut expected.iter().copied());
        assert_eq!(ids(&mut found.iter()), wanted, "other events\n{}", self.dump());
    }

    /// So many events, and no others than `action` of `path`.
    pub(crate) fn only_action(&self, action: &str, path: &Path, count: RangeInclusive<usize>) {
        let found = self.settled();
        let is_expected =
            |event: &Event| event.action() == action && event.path() == path_text(path);
        assert!(found.iter().all(is_expected), "not only {action}\n{}", self.dump());
        assert!(count.contains(&found.len()), "not {count:?} events\n{}", self.dump());
    }

    /// What there is to see of this case.
    pub(crate) fn dump(&self) -> String {
        format!("{}{}", dump(&self.lines()), self.agent.log())
    }

    /// The case is done with: whatever comes of it from now on is wrong.
    pub(crate) fn close(self) {
        let events = self.agent.stream.lines_below(&self.inside).len();
        self.shared.close(self.inside, events);
    }
}
