//! From the steps of a change to its event.

use super::kin::same;
use super::{Bundle, Role, Step, Whole};
use crate::event::{Action, Event, FoldedOperation, Kind, Property, Side, Type, Writer, path_text};
use crate::state::ObjectKind;

/// To be told.
pub(in crate::pipeline) struct Told {
    pub(in crate::pipeline) event: Box<Event>,
    /// Operations that it is about.
    pub(in crate::pipeline) count: u64,
    /// It says what events with these ids would have said.
    pub(in crate::pipeline) absorbed: Vec<String>,
}

/// What the policy makes of an event that was put together: judges it anew, as done by whom the step
/// says. Whether a rule asks for it.
pub(in crate::pipeline) type Judge<'j> = dyn FnMut(&mut Event, &Step) -> bool + 'j;

/// The events of a bundle, in order.
pub(in crate::pipeline) fn told(bundle: Bundle, judge: &mut Judge<'_>) -> Vec<Told> {
    let Bundle { steps, whole } = bundle;
    match whole {
        Some(whole) => fold(steps, &whole, judge),
        None => apart(steps),
    }
}

fn apart(steps: Vec<Step>) -> Vec<Told> {
    let told = |step: Step| Told { event: step.event, count: step.count, absorbed: Vec::new() };
    steps.into_iter().map(told).collect()
}

fn fold(steps: Vec<Step>, whole: &Whole, judge: &mut Judge<'_>) -> Vec<Told> {
    let placed = |step: &&Step| {
        step.role == Role::Main
            && step.path == whole.path
            && matches!(
                step.action(),
                Action::Created | Action::Moved | Action::Linked | Action::Updated
            )
    };
    let Some(main) = steps.iter().rev().find(placed) else { return apart(steps) };
    let mut event = main.event.clone();
    let (id, main) = (event.event.id.clone(), main.number);
    as_one(&mut event, &steps, main, whole);
    let Some(by) = steps.iter().find(|step| step.number == main) else { return apart(steps) };
    if !judge(&mut event, by) {
        return apart(steps);
    }
    let lost = |step: &&Step| outranks(&step.event, &event);
    if steps.iter().filter(|step| step.role == Role::Main).any(|step| lost(&step)) {
        return apart(steps);
    }
    // Something beside it that matters more is told by itself, and all that is beside it with it.
    let (beside, steps): (Vec<Step>, Vec<Step>) =
        match steps.iter().filter(|step| step.role == Role::Aside).any(|step| lost(&step)) {
            true => steps.into_iter().partition(|step| step.role == Role::Aside),
            false => (Vec::new(), steps),
        };
    event.fim.operations = operations(&steps, &event, whole);
    add_writers(&mut event, &steps, main);
    let mut out = apart(beside);
    let mut count = 0;
    let mut absorbed = Vec::new();
    for step in steps {
        if whole.backup.as_ref() == Some(&step.path) && step.action() == Action::Moved {
            let mut left = step.event.clone();
            as_left_behind(&mut left);
            if judge(&mut left, &step) {
                out.push(Told { event: left, count: step.count, absorbed: Vec::new() });
                continue;
            }
        }
        count += step.count;
        absorbed.extend(Some(step.event.event.id).filter(|known| *known != id));
    }
    out.push(Told { event, count, absorbed });
    out
}

/// Makes the event of the step `main` that of the whole change.
fn as_one(event: &mut Event, steps: &[Step], main: u64, whole: &Whole) {
    let fim = &mut event.fim;
    fim.replaced = None;
    fim.before.clone_from(&whole.before);
    // A mode or an owner that was set afterwards is part of the state after.
    let later = steps.iter().rev().find(|step| {
        step.number > main && step.path == whole.path && step.action() == Action::AttributesModified
    });
    if let Some(later) = later {
        let sha256 = fim.after.as_ref().and_then(|after| after.sha256.clone());
        fim.after.clone_from(&later.event.fim.after);
        if let Some(after) = &mut fim.after {
            after.sha256 = sha256;
        }
        let hash = event.file.as_mut().and_then(|file| file.hash.take());
        event.file.clone_from(&later.event.file);
        if let Some(file) = &mut event.file {
            file.hash = hash;
        }
    }
    become_change(event);
}

/// What was renamed out of the way and is still there: as if it had been made.
fn as_left_behind(event: &mut Event) {
    event.fim.before = event.fim.replaced.take();
    become_change(event);
}

/// Made or changed, as there was something before or not.
pub(in crate::pipeline) fn become_change(event: &mut Event) {
    let is_link = event.event.action == Action::Linked;
    let (action, kind) = match &event.fim.before {
        Some(_) => (Action::Updated, Type::Change),
        None if is_link => (Action::Linked, Type::Creation),
        None => (Action::Created, Type::Creation),
    };
    event.event.action = action;
    event.event.types = vec![kind];
    event.fim.changes = match (&event.fim.before, &event.fim.after) {
        (Some(before), Some(after)) => differences(before, after),
        _ => vec![Property::Existence],
    };
    let is_hashed =
        |side: &Option<Box<Side>>| side.as_ref().is_some_and(|side| side.sha256.is_some());
    let fim = &mut event.fim;
    let is_file = fim.after.as_ref().is_some_and(|after| after.kind == Some(ObjectKind::File));
    let is_compared = is_hashed(&fim.before) && is_hashed(&fim.after);
    if action == Action::Updated && is_file && !is_compared {
        // Another file, whose content was not compared.
        fim.changes.insert(0, Property::Content);
    }
}

/// Whether an event says something that must not be lost in one that says less.
fn outranks(event: &Event, than: &Event) -> bool {
    !event.fim.unasked
        && ((event.event.kind == Kind::Alert && than.event.kind != Kind::Alert)
            || event.event.severity > than.event.severity
            || (event.fim.suppress.is_none() && than.fim.suppress.is_some()))
}

/// All operations of all steps, each with the name it was done to and the content it left, where
/// those are not the event's own.
fn operations(steps: &[Step], event: &Event, whole: &Whole) -> Vec<FoldedOperation> {
    let own = event.file.as_ref().and_then(|file| file.hash.as_ref());
    let before = whole.before.as_ref().and_then(|before| before.sha256.as_ref());
    let mut all: Vec<FoldedOperation> = Vec::new();
    for step in steps {
        let path = (step.path != whole.path).then(|| path_text(&step.path));
        let content = step.event.file.as_ref().and_then(|file| file.hash.as_ref());
        let content = content
            .filter(|_| matches!(step.action(), Action::Created | Action::Updated))
            .filter(|content| own != Some(*content) && before != Some(&content.sha256))
            .map(|content| content.sha256.clone());
        for operation in &step.event.fim.operations {
            let is_rename = operation.operation == "rename";
            let from = step.from.as_deref().filter(|_| is_rename).map(path_text);
            let one = FoldedOperation {
                path: path.clone(),
                from,
                sha256: content.clone(),
                ..operation.clone()
            };
            merge(&mut all, &[one]);
        }
    }
    all
}

/// Everybody who took part.
fn add_writers(event: &mut Event, steps: &[Step], main: u64) {
    let Some(by) = steps.iter().find(|step| step.number == main) else { return };
    let by = by.actor.clone();
    for step in steps {
        let Some(process) = step.actor.process.clone().filter(|_| !same(&step.actor, &by)) else {
            continue;
        };
        let known = |writer: &Writer| {
            writer.process.pid == process.pid && writer.process.entity_id == process.entity_id
        };
        if !event.fim.writers.iter().any(known) {
            event.fim.writers.push(Writer { process, user: step.actor.user.clone() });
        }
    }
}

/// Adds operations to others: the same ones to the same name are counted together.
pub(in crate::pipeline) fn merge(into: &mut Vec<FoldedOperation>, from: &[FoldedOperation]) {
    for one in from {
        let same = |known: &&mut FoldedOperation| {
            known.operation == one.operation
                && known.path == one.path
                && known.from == one.from
                && known.sha256 == one.sha256
        };
        match into.iter_mut().find(same) {
            Some(known) => {
                known.count += one.count;
                known.first = known.first.min(one.first);
                known.last = known.last.max(one.last);
                known.bytes = match (known.bytes, one.bytes) {
                    (None, None) => None,
                    (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
                };
            }
            None => into.push(one.clone()),
        }
    }
}

fn differences(before: &Side, after: &Side) -> Vec<Property> {
    fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        matches!((a, b), (Some(a), Some(b)) if a != b)
    }
    let all = [
        (differ(&before.kind, &after.kind), Property::Type),
        (differ(&before.sha256, &after.sha256), Property::Content),
        (differ(&before.size, &after.size), Property::Size),
        (differ(&before.mode, &after.mode), Property::Mode),
        (differ(&before.uid, &after.uid), Property::Uid),
        (differ(&before.gid, &after.gid), Property::Gid),
        (differ(&before.mtime, &after.mtime), Property::Mtime),
        (differ(&before.inode, &after.inode), Property::Inode),
        (differ(&before.acl, &after.acl), Property::Acl),
        (differ(&before.xattrs, &after.xattrs), Property::Xattrs),
        (differ(&before.capabilities, &after.capabilities), Property::Capabilities),
        (differ(&before.attributes, &after.attributes), Property::Attributes),
        (differ(&before.target_path, &after.target_path), Property::TargetPath),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, property)| property).collect()
}
