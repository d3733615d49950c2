//! Scripted steps: events in, bundles out, what they come to told in short.

use super::whole::{Told, told};
use super::*;
use crate::event::actor::{Parent, Process, User};
use crate::event::{FoldedOperation, Hash, Kind, Property, path_text};
use crate::time::Timestamp;

const WINDOW: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_millis(50);

/// A scripted host: events with what is needed of them, at a clock of its own.
struct Script {
    steps: Steps,
    start: Instant,
    now: Instant,
    told: Vec<Told>,
    number: i64,
    /// What the judge asks for.
    asks: fn(Action) -> bool,
    severity: u8,
}

/// Who, by pid and the pid of the parent.
#[derive(Clone, Copy)]
struct By(u32, u32);

const EDITOR: By = By(10, 5);
/// Of the same shell.
const SIBLING: By = By(11, 5);
const STRANGER: By = By(12, 6);

fn actor(by: By) -> Arc<Actor> {
    let id = |pid: u32| Some(format!("execution {pid}"));
    let parent = Parent { pid: by.1, entity_id: id(by.1), ..Parent::default() };
    let process = Process {
        pid: by.0,
        entity_id: id(by.0),
        parent: Some(Box::new(parent)),
        ..Process::default()
    };
    let user = User { id: Some("0".to_owned()), ..User::default() };
    Arc::new(Actor { process: Some(process.into()), user: Some(user.into()), ..Actor::default() })
}

impl Script {
    fn new() -> Self {
        let start = Instant::now();
        let mut steps = Steps::default();
        steps.set_times(WINDOW, GRACE);
        Self { steps, start, now: start, told: Vec::new(), number: 0, asks: |_| true, severity: 50 }
    }

    fn step(&mut self, by: By, action: Action, name: &str, content: &str, inode: u64) -> Step {
        self.number += 1;
        let path = Path::new("/w").join(name);
        let time = Timestamp::from_unix(self.number, 0);
        let mut event = crate::pipeline::output::own_event(
            action,
            crate::event::Fim::default(),
            crate::event::Shared::default(),
            crate::event::Shared::default(),
        );
        event.timestamp = time;
        event.event.id = format!("event {}", self.number);
        event.event.kind = Kind::Event;
        event.event.severity = Some(50);
        event.event.provider = Some(Provider::Bpf);
        let file = crate::event::File {
            path: path_text(&path),
            kind: Some(ObjectKind::File),
            size: Some(content.len() as u64),
            hash: (!content.is_empty()).then(|| Hash { sha256: content.to_owned() }),
            ..crate::event::File::default()
        };
        let side = Side {
            kind: Some(ObjectKind::File),
            sha256: Some(content.to_owned()),
            inode: Some(inode.to_string().into()),
            ..Side::default()
        };
        event.file = Some(Box::new(file));
        if action == Action::Deleted {
            event.fim.before = Some(Box::new(side));
        } else {
            event.fim.after = Some(Box::new(side));
        }
        let operation = match action {
            Action::Created => "create",
            Action::Moved => "rename",
            Action::Deleted => "delete",
            Action::Updated => "modify",
            Action::Linked => "link",
            _ => "set_attributes",
        };
        event.fim.operations = vec![FoldedOperation::new(operation, 1, time)];
        let mut step = Step::new(Box::new(event), 1, path, actor(by));
        step.inode = Some(inode);
        step
    }

    fn take(&mut self, step: Step) {
        self.now += Duration::from_millis(1);
        let left = self.steps.take(step, self.now);
        self.tell();
        if let Some(step) = left {
            let told = Told { event: step.event, count: step.count, absorbed: Vec::new() };
            self.told.push(told);
        }
    }

    fn tell(&mut self) {
        let (asks, severity) = (self.asks, self.severity);
        for bundle in self.steps.take_out() {
            self.told.extend(told(bundle, &mut |event, _| {
                event.event.severity = Some(severity);
                asks(event.event.action)
            }));
        }
    }

    fn created(&mut self, by: By, name: &str, content: &str, inode: u64) {
        let step = self.step(by, Action::Created, name, content, inode);
        self.take(step);
    }

    fn updated(&mut self, by: By, name: &str, content: &str, inode: u64) {
        let mut step = self.step(by, Action::Updated, name, content, inode);
        step.event.fim.before =
            Some(Box::new(Side { sha256: Some("old".to_owned()), ..Side::default() }));
        self.take(step);
    }

    fn deleted(&mut self, by: By, name: &str, content: &str, inode: u64) {
        let step = self.step(by, Action::Deleted, name, content, inode);
        self.take(step);
    }

    fn renaming(&mut self, by: By, from: &str, to: &str, content: &str, inode: u64) -> Step {
        let mut step = self.step(by, Action::Moved, to, content, inode);
        let before = step.event.fim.after.clone();
        step.event.fim.before =
            before.map(|side| Box::new(Side { path: Some(format!("/w/{from}")), ..*side }));
        step.from = Some(Path::new("/w").join(from));
        step.from_covered = true;
        step
    }

    fn moved(&mut self, by: By, from: &str, to: &str, content: &str, inode: u64) {
        let step = self.renaming(by, from, to, content, inode);
        self.take(step);
    }

    fn moved_over(&mut self, by: By, from: &str, to: &str, content: &str, inode: u64) {
        let mut step = self.renaming(by, from, to, content, inode);
        step.event.fim.replaced = Some(Box::new(old()));
        self.take(step);
    }

    /// Lets time pass; returns what has been told since the start.
    fn after(&mut self, passed: Duration) -> Vec<String> {
        self.now += passed;
        self.steps.release_due(self.now);
        self.tell();
        self.texts()
    }

    fn end(&mut self) -> Vec<String> {
        let all = self.after(WINDOW + Duration::from_secs(1));
        assert!(self.steps.is_empty() && self.steps.names.is_empty());
        assert!(self.steps.directories.is_empty() && self.steps.due.is_empty());
        assert_eq!(self.steps.held, 0);
        let count: u64 = self.told.iter().map(|told| told.count).sum();
        assert_eq!(count, self.number as u64, "each operation is accounted for once");
        all
    }

    /// `updated x`, in order.
    fn texts(&self) -> Vec<String> {
        let text = |told: &Told| {
            let name = told.event.file.as_ref().map(|file| file.path.replace("/w/", ""));
            format!("{} {}", told.event.event.action.as_str(), name.unwrap_or_default())
        };
        self.told.iter().map(text).collect()
    }

    /// `rename .x.tmp->x`, of the last event.
    fn operations(&self) -> Vec<String> {
        let operations = &self.told.last().unwrap().event.fim.operations;
        let name = |path: &Option<String>| path.as_ref().map(|path| path.replace("/w/", ""));
        operations
            .iter()
            .map(|one| {
                let (path, from) = (name(&one.path), name(&one.from));
                let to = path.unwrap_or_else(|| "*".to_owned());
                let name = from.map(|from| format!("{from}->{to}")).unwrap_or(to);
                let content =
                    one.sha256.as_ref().map(|sha256| format!(" {sha256}")).unwrap_or_default();
                format!("{} {name}{content}", one.operation)
            })
            .collect()
    }

    fn last(&self) -> &Event {
        &self.told.last().unwrap().event
    }
}

fn old() -> Side {
    Side {
        kind: Some(ObjectKind::File),
        sha256: Some("old".to_owned()),
        inode: Some("1".to_owned().into()),
        mode: Some("0644".to_owned().into()),
        ..Side::default()
    }
}

#[test]
fn a_temporary_renamed_over_a_file_is_one_update_of_the_file() {
    let mut script = Script::new();
    script.created(EDITOR, "sedAbC", "new", 2);
    script.moved_over(EDITOR, "sedAbC", "x", "new", 2);
    assert_eq!(script.after(GRACE), ["updated x"], "complete: nothing is waited for");
    assert_eq!(script.end(), ["updated x"]);
    assert_eq!(script.operations(), ["create sedAbC", "rename sedAbC->*"]);
    let event = script.last();
    assert_eq!(event.fim.before.as_deref(), Some(&old()));
    assert_eq!(event.fim.after.as_ref().unwrap().sha256.as_deref(), Some("new"));
    assert_eq!(event.fim.changes, [Property::Content, Property::Inode]);
    assert!(event.fim.replaced.is_none());
    assert_eq!(event.event.id, "event 2", "that of the rename");
    assert_eq!(script.told[0].absorbed, ["event 1"]);
}

#[test]
fn a_temporary_that_gets_a_new_name_is_one_creation() {
    let mut script = Script::new();
    script.created(EDITOR, ".x.AbC", "new", 2);
    script.moved(EDITOR, ".x.AbC", "x", "new", 2);
    assert_eq!(script.end(), ["created x"]);
    assert!(script.last().fim.before.is_none());
}

/// As vim does it with `backupcopy=no`.
#[test]
fn a_file_renamed_away_and_made_anew_is_one_update() {
    let mut script = Script::new();
    script.created(EDITOR, "4913", "", 9);
    script.deleted(EDITOR, "4913", "", 9);
    script.moved(EDITOR, "x", "x~", "old", 1);
    assert_eq!(script.steps.away(Path::new("/w/x")).as_deref(), Some("old"), "for its difference");
    script.created(EDITOR, "x", "new", 2);
    let mode = script.step(EDITOR, Action::AttributesModified, "x", "new", 2);
    script.take(mode);
    assert_eq!(script.after(GRACE * 2), Vec::<String>::new(), "the backup may go, and does");
    script.deleted(EDITOR, "x~", "old", 1);
    assert_eq!(script.after(GRACE), ["updated x"]);
    script.end();
    assert_eq!(
        script.operations(),
        ["create 4913", "delete 4913", "rename x->x~", "create *", "set_attributes *", "delete x~"]
    );
    let before = script.last().fim.before.as_ref().unwrap();
    assert_eq!((before.sha256.as_deref(), &before.path), (Some("old"), &None));
}

/// Whichever of the two is known first: a probe that came and went beside the swap file is for `x`.
#[test]
fn a_probe_beside_a_swap_file_is_part_of_the_change() {
    for swap_first in [true, false] {
        let mut script = Script::new();
        if swap_first {
            script.created(EDITOR, ".x.swp", "swap", 8);
        }
        script.created(EDITOR, "4913", "", 9);
        script.deleted(EDITOR, "4913", "", 9);
        if !swap_first {
            script.created(EDITOR, ".x.swp", "swap", 8);
        }
        script.moved(EDITOR, "x", "x~", "old", 1);
        script.created(EDITOR, "x", "new", 2);
        script.deleted(EDITOR, "x~", "old", 1);
        script.deleted(EDITOR, ".x.swp", "swap", 8);
        assert_eq!(script.end(), ["updated x"], "swap_first: {swap_first}");
    }
}

/// What vim does when it opens a file at which somebody then looks for a while.
#[test]
fn a_swap_file_is_one_creation() {
    let mut script = Script::new();
    script.created(EDITOR, ".x.swp", "", 8);
    script.created(EDITOR, ".x.swpx", "", 9);
    script.deleted(EDITOR, ".x.swpx", "", 9);
    script.deleted(EDITOR, ".x.swp", "", 8);
    script.created(EDITOR, ".x.swp", "swap", 8);
    assert_eq!(script.end(), ["created .x.swp"]);
    let all = ["create *", "create .x.swpx", "delete .x.swpx", "delete *"];
    assert_eq!(script.operations(), all, "the second creation is counted with the first");
}

#[test]
fn what_is_made_removed_and_made_anew_is_one_creation() {
    let mut script = Script::new();
    script.created(EDITOR, "lock", "first", 2);
    script.deleted(EDITOR, "lock", "first", 2);
    script.created(EDITOR, "lock", "second", 3);
    assert_eq!(script.end(), ["created lock"]);
    assert_eq!(script.operations(), ["create * first", "delete *", "create *"]);

    let mut script = Script::new();
    script.created(EDITOR, "lock", "first", 2);
    script.deleted(EDITOR, "lock", "first", 2);
    script.created(STRANGER, "lock", "second", 3);
    assert_eq!(script.end(), ["created lock", "deleted lock", "created lock"]);
}

/// A rename waits for its hash, and the name that it left is used anew meanwhile.
#[test]
fn a_file_that_is_replaced_again_and_again_by_the_same_temporary_name() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "one", 2);
    script.created(EDITOR, "x.tmp", "two", 3);
    script.moved(EDITOR, "x.tmp", "x", "one", 2);
    script.created(EDITOR, "x.tmp", "three", 4);
    script.moved_over(EDITOR, "x.tmp", "x", "two", 3);
    script.moved_over(EDITOR, "x.tmp", "x", "three", 4);
    assert_eq!(script.end(), ["created x", "updated x", "updated x"]);
    assert_eq!(script.operations(), ["create x.tmp", "rename x.tmp->*"]);

    // A loop of a script: `sort x > t; mv t x`.
    let mut script = Script::new();
    script.created(EDITOR, "t", "one", 2);
    script.created(EDITOR, "t", "two", 3);
    script.moved(SIBLING, "t", "x", "one", 2);
    script.moved_over(By(13, 5), "t", "x", "two", 3);
    assert_eq!(script.end(), ["created x", "updated x"]);

    // To other names: none of them is the backup of another.
    let mut script = Script::new();
    script.created(EDITOR, "tmp", "one", 2);
    script.created(EDITOR, "tmp", "two", 3);
    script.moved(EDITOR, "tmp", "b", "two", 3);
    script.moved(EDITOR, "tmp", "a", "one", 2);
    let mut all = script.end();
    all.sort();
    assert_eq!(all, ["created a", "created b"]);
}

#[test]
fn a_backup_that_stays_is_a_file_that_was_made() {
    let mut script = Script::new();
    script.moved(EDITOR, "x", "x~", "old", 1);
    script.created(EDITOR, "x", "new", 2);
    assert_eq!(script.end(), ["created x~", "updated x"]);
    assert_eq!(script.told[0].event.fim.changes, [Property::Existence]);

    let mut script = Script::new();
    script.moved_over(EDITOR, "x", "x~", "old", 1);
    script.created(EDITOR, "x", "new", 2);
    assert_eq!(script.end(), ["updated x~", "updated x"]);
}

/// As vim does it with `backupcopy=yes`, and emacs with its lock.
#[test]
fn what_comes_and_goes_beside_a_file_written_in_place_is_part_of_it() {
    let mut script = Script::new();
    script.created(EDITOR, "x~", "old", 2);
    script.updated(EDITOR, "x", "new", 1);
    script.deleted(EDITOR, "x~", "old", 2);
    assert_eq!(script.end(), ["updated x"]);
    assert_eq!(script.operations(), ["create x~", "modify *", "delete x~"]);

    // The event of the file itself may come last, since it waited for its hash.
    let mut script = Script::new();
    script.created(EDITOR, ".#x", "", 2);
    script.deleted(EDITOR, ".#x", "", 2);
    script.updated(EDITOR, "x", "new", 1);
    assert_eq!(script.after(GRACE), ["updated x"]);

    let mut script = Script::new();
    script.created(EDITOR, ".x.swp", "s", 2);
    script.created(EDITOR, "x", "new", 3);
    script.deleted(EDITOR, ".x.swp", "t", 2);
    assert_eq!(script.end(), ["created x"]);
    assert_eq!(script.operations(), ["create .x.swp s", "create *", "delete .x.swp"]);

    // The event of a file that stays open comes late.
    let mut script = Script::new();
    script.created(EDITOR, ".x.swp", "", 2);
    script.deleted(EDITOR, ".x.swp", "", 2);
    script.created(EDITOR, "x", "new", 3);
    script.created(EDITOR, ".x.swp", "s", 2);
    script.deleted(EDITOR, ".x.swp", "t", 2);
    assert_eq!(script.end(), ["created x"]);
}

/// As git does it, and busybox's ln -sf.
#[test]
fn a_file_removed_and_made_anew_is_one_update() {
    let mut script = Script::new();
    script.deleted(EDITOR, "x", "old", 1);
    script.created(EDITOR, "x", "new", 2);
    assert_eq!(script.after(GRACE), ["updated x"]);

    // With a temporary of its own.
    let mut script = Script::new();
    script.deleted(EDITOR, "x", "old", 1);
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved(EDITOR, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["updated x"]);
    assert_eq!(script.operations(), ["delete *", "create x.tmp", "rename x.tmp->*"]);
    assert_eq!(script.last().fim.before.as_ref().unwrap().sha256.as_deref(), Some("old"));

    // A file from where nobody looks.
    let mut script = Script::new();
    script.deleted(EDITOR, "x", "old", 1);
    let mut step = script.renaming(EDITOR, "../o", "x", "new", 2);
    step.from_covered = false;
    script.take(step);
    assert_eq!(script.end(), ["updated x"]);
}

/// The rename's event waited for the hash of the backup, and that of the new file did not.
#[test]
fn the_order_of_hashes_does_not_matter() {
    let mut script = Script::new();
    let moved = script.renaming(EDITOR, "x", "x~", "old", 1);
    script.created(EDITOR, "x", "new", 2);
    script.take(moved);
    assert_eq!(script.end(), ["created x~", "updated x"]);
    assert_eq!(script.operations(), ["rename x->x~", "create *"]);

    // The same, with a temporary file and one beside it.
    let mut script = Script::new();
    script.created(EDITOR, "x.lock", "", 3);
    script.deleted(EDITOR, "x.lock", "", 3);
    script.created(EDITOR, "x.tmp", "new", 2);
    let moved = script.renaming(EDITOR, "x", "x~", "old", 1);
    script.moved(EDITOR, "x.tmp", "x", "new", 2);
    script.take(moved);
    assert_eq!(script.end(), ["created x~", "updated x"]);
    let operations = script.operations();
    assert_eq!(
        operations[2..],
        ["create x.tmp", "rename x->x~", "rename x.tmp->*"],
        "{operations:?}"
    );
}

#[test]
fn a_rename_from_where_nobody_looks_over_a_file_is_an_update() {
    let mut script = Script::new();
    let mut step = script.renaming(EDITOR, "../o", "x", "new", 2);
    step.from_covered = false;
    step.event.fim.replaced = Some(Box::new(old()));
    script.take(step);
    assert_eq!(script.end(), ["updated x"]);
    assert_eq!(script.operations(), ["rename ../o->*"]);

    // Over nothing it is what it was.
    let mut script = Script::new();
    let mut step = script.renaming(EDITOR, "../o", "x", "new", 2);
    step.from_covered = false;
    script.take(step);
    assert_eq!(script.texts(), ["moved x"], "at once");
}

#[test]
fn a_known_file_that_is_renamed_over_another_one_is_moved() {
    let mut script = Script::new();
    script.moved_over(EDITOR, "a", "b", "a's", 7);
    assert_eq!(script.texts(), Vec::<String>::new(), "it may be made anew");
    assert_eq!(script.end(), ["moved b"]);
    assert_eq!(script.last().fim.replaced.as_deref(), Some(&old()));
}

#[test]
fn what_is_not_renamed_in_time_is_told_as_it_is() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    assert_eq!(script.after(WINDOW - Duration::from_millis(2)), Vec::<String>::new());
    assert_eq!(script.after(Duration::from_millis(2)), ["created x.tmp"]);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["created x.tmp", "moved x"]);
}

/// Whatever comes, nothing is told later than the window after it came.
#[test]
fn nothing_waits_longer_than_the_window() {
    let mut script = Script::new();
    script.created(EDITOR, "x~", "old", 2);
    for _ in 0..20 {
        script.now += Duration::from_millis(20);
        let step = script.step(EDITOR, Action::AttributesModified, "x~", "old", 2);
        script.take(step);
    }
    script.updated(EDITOR, "x", "new", 1);
    let until = script.start + Duration::from_millis(1) + WINDOW;
    let (_, id) = *script.steps.due.first().unwrap();
    assert!(script.steps.chains[&id].due <= until);
    script.deleted(EDITOR, "x~", "old", 2);
    let last = script.steps.due.last().unwrap().0;
    assert!(last <= until, "the change is told when its first step has waited for the window");
}

#[test]
fn another_process_in_between_breaks_it() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    script.updated(STRANGER, "x.tmp", "evil", 2);
    assert_eq!(script.texts(), ["created x.tmp", "updated x.tmp"]);
    script.moved_over(EDITOR, "x.tmp", "x", "evil", 2);
    assert_eq!(script.end(), ["created x.tmp", "updated x.tmp", "moved x"]);

    let mut script = Script::new();
    script.deleted(EDITOR, "x", "old", 1);
    script.created(STRANGER, "x", "evil", 2);
    assert_eq!(script.end(), ["deleted x", "created x"]);

    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved_over(STRANGER, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["created x.tmp", "moved x"]);

    // Two that wrote at once.
    let mut script = Script::new();
    let mut step = script.step(EDITOR, Action::Created, "x.tmp", "new", 2);
    step.writers = vec![actor(EDITOR), actor(STRANGER)];
    script.take(step);
    assert_eq!(script.texts(), ["created x.tmp"]);

    // Another file at the name of the temporary one.
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    let mut step = script.renaming(EDITOR, "x.tmp", "x", "evil", 3);
    step.event.fim.replaced = Some(Box::new(old()));
    step.writers = vec![actor(STRANGER)];
    script.take(step);
    assert_eq!(script.end(), ["created x.tmp", "moved x"]);
}

/// `sort x > x.tmp; mv x.tmp x`: two commands of one script, and one object.
#[test]
fn commands_of_one_script_may_make_and_rename_a_file() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved_over(SIBLING, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["updated x"]);
    let writers: Vec<u32> =
        script.last().fim.writers.iter().map(|writer| writer.process.pid).collect();
    assert_eq!(writers, [10], "who made it is named");

    // A shell's child opens the file, and becomes the command that writes into it.
    let mut script = Script::new();
    let mut step = script.step(EDITOR, Action::Created, "x.tmp", "new", 2);
    step.writers = vec![actor(EDITOR), actor(SIBLING)];
    step.event.file.as_mut().unwrap().kind = None;
    script.take(step);
    script.moved_over(SIBLING, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["updated x"]);

    // But `rm x; cp y x` are two changes.
    let mut script = Script::new();
    script.deleted(EDITOR, "x", "old", 1);
    script.created(SIBLING, "x", "new", 2);
    assert_eq!(script.end(), ["deleted x", "created x"]);

    // What init starts is not related.
    let mut script = Script::new();
    script.created(By(20, 1), "x.tmp", "new", 2);
    script.moved_over(By(21, 1), "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["created x.tmp", "moved x"]);
}

#[test]
fn what_else_is_made_meanwhile_is_told() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    script.created(EDITOR, "evil", "evil", 3);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    script.created(EDITOR, "hidden", "evil", 4);
    script.deleted(EDITOR, "hidden", "evil", 4);
    let mut told = script.end();
    told.sort();
    assert_eq!(told, ["created evil", "created hidden", "deleted hidden", "updated x"]);

    // A probe into which something was written is none.
    let mut script = Script::new();
    script.created(EDITOR, "4913", "evil", 9);
    script.deleted(EDITOR, "4913", "", 9);
    script.deleted(EDITOR, "x", "old", 1);
    script.created(EDITOR, "x", "new", 2);
    let mut told = script.end();
    told.sort();
    assert_eq!(told, ["created 4913", "deleted 4913", "updated x"]);
}

#[test]
fn content_on_the_way_shows() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "evil", 2);
    script.updated(EDITOR, "x.tmp", "new", 2);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["updated x"]);
    assert_eq!(script.operations(), ["create x.tmp evil", "modify x.tmp", "rename x.tmp->*"]);
}

/// Two changes of one file are two, however close.
#[test]
fn a_second_change_is_another_event() {
    let mut script = Script::new();
    for inode in [2, 3] {
        script.created(EDITOR, "x.tmp", "new", inode);
        script.moved_over(EDITOR, "x.tmp", "x", "new", inode);
    }
    assert_eq!(script.end(), ["updated x", "updated x"]);

    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    script.updated(EDITOR, "x", "newer", 2);
    assert_eq!(script.texts(), ["updated x", "updated x"]);
}

#[test]
fn a_mode_that_the_replacement_lost_shows() {
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "new", 2);
    let mut mode = script.renaming(EDITOR, "x.tmp", "x", "new", 2);
    mode.event.fim.replaced = Some(Box::new(old()));
    script.take(mode);
    let mut step = script.step(EDITOR, Action::AttributesModified, "x", "new", 2);
    step.event.fim.after.as_mut().unwrap().mode = Some("0600".to_owned().into());
    script.take(step);
    assert_eq!(script.end(), ["updated x"]);
    let event = script.last();
    assert_eq!(event.fim.changes, [Property::Content, Property::Mode, Property::Inode]);
    assert_eq!(event.fim.after.as_ref().unwrap().sha256.as_deref(), Some("new"));
}

#[test]
fn an_alert_is_not_folded_into_less() {
    let mut script = Script::new();
    let mut step = script.step(EDITOR, Action::Created, "authorized_keys", "evil", 2);
    step.event.event.kind = Kind::Alert;
    step.event.event.severity = Some(90);
    script.take(step);
    script.moved_over(EDITOR, "authorized_keys", "x", "evil", 2);
    assert_eq!(script.end(), ["created authorized_keys", "moved x"]);

    // Beside a change, it alone is told.
    let mut script = Script::new();
    let mut step = script.step(EDITOR, Action::Created, "x~", "evil", 2);
    step.event.event.severity = Some(90);
    script.take(step);
    script.updated(EDITOR, "x", "new", 1);
    script.deleted(EDITOR, "x~", "evil", 2);
    assert_eq!(script.end(), ["created x~", "deleted x~", "updated x"]);
}

#[test]
fn what_no_rule_asks_for_is_not_told_and_what_one_asks_for_is() {
    let mut script = Script::new();
    script.asks = |action| action != Action::Updated;
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    assert_eq!(script.end(), ["created x.tmp", "moved x"]);

    // A rule that asks for updates only gets the update.
    let mut script = Script::new();
    script.asks = |action| action == Action::Updated;
    let mut step = script.step(EDITOR, Action::Deleted, "x", "old", 1);
    step.event.fim.unasked = true;
    script.take(step);
    let mut step = script.step(EDITOR, Action::Created, "x", "new", 2);
    step.event.fim.unasked = true;
    script.take(step);
    assert_eq!(script.end(), ["updated x"]);
    assert!(!script.last().fim.unasked || script.last().event.severity == Some(50));
}

#[test]
fn the_order_of_a_path_stays() {
    let mut script = Script::new();
    for inode in 2..6 {
        script.created(EDITOR, "lock", "", inode);
        script.deleted(EDITOR, "lock", "", inode);
    }
    let expected: Vec<&str> = (0..4).flat_map(|_| ["created lock", "deleted lock"]).collect();
    assert_eq!(script.end(), expected);

    let mut script = Script::new();
    script.created(EDITOR, "x", "1", 2);
    script.moved(EDITOR, "x", "y", "1", 2);
    script.moved(EDITOR, "y", "z", "1", 2);
    script.deleted(EDITOR, "z", "1", 2);
    script.created(EDITOR, "z", "2", 3);
    let told = script.end();
    assert_eq!(told.last().unwrap(), "created z", "{told:?}");
}

#[test]
fn a_directory_that_goes_has_what_is_in_it_told_first() {
    let mut script = Script::new();
    script.created(EDITOR, "d/x", "1", 2);
    let mut step = script.step(EDITOR, Action::Moved, "e", "", 9);
    step.event.file.as_mut().unwrap().kind = Some(ObjectKind::Dir);
    step.from = Some("/w/d".into());
    script.take(step);
    assert_eq!(script.texts(), ["created d/x", "moved e"]);
}

#[test]
fn no_more_waits_than_the_limit() {
    let mut script = Script::new();
    for number in 0..=HELD_MAX {
        script.created(EDITOR, &format!("n{number}"), "1", number as u64);
    }
    assert_eq!(script.texts(), ["created n0"], "the oldest is told");

    // Nor are there endless changes.
    let mut script = Script::new();
    script.created(EDITOR, "x.tmp", "1", 2);
    for _ in 0..STEPS_MAX {
        script.updated(EDITOR, "x.tmp", "2", 2);
    }
    assert_eq!(script.texts().len(), STEPS_MAX + 1);
}

#[test]
fn without_a_window_everything_is_told_at_once() {
    let mut script = Script::new();
    script.steps.set_times(Duration::ZERO, GRACE);
    script.created(EDITOR, "x.tmp", "new", 2);
    script.moved_over(EDITOR, "x.tmp", "x", "new", 2);
    assert_eq!(script.texts(), ["created x.tmp", "moved x"]);
}
