//! From a draft to an event: what the object was, what it is, and what differs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::{Names, doubt, suppressed};
use smol_str::ToSmolStr as _;

use crate::baseline::Baseline;
use crate::event::actor::Actor;
use crate::event::{
    Action, Agent, Category, Event, Fim, FoldedOperation, Hash, Host, Kind, Meta, Outcome,
    Property, Provider, Rule, Shared, Side, Technique, Threat, Type, Writer, mode_text,
    path_base64, path_text,
};
use crate::hash::HashOutcome;
use crate::object::Observer;
use crate::operation::{Details, Failure, Operation, OperationKind};
use crate::policy::{self, Circumstances, Policy, Standing};
use crate::scan::Difference;
use crate::state::{HashState, ObjectId, ObjectKind, ObjectState, unnamed_inode};
use crate::time::Timestamp;
use crate::{diff, event, object};

/// Until the output fills them in.
static HOST: LazyLock<Shared<Host>> = LazyLock::new(Shared::default);
static AGENT: LazyLock<Shared<Agent>> = LazyLock::new(Shared::default);

/// What is known of a change of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It was not changed.
    Unchanged,
    /// It was.
    Changed,
    /// A comparison decides.
    Doubtful,
}

/// What the policy says of an event.
#[derive(Clone, Copy)]
struct Judged<'p> {
    rule: &'p policy::Rule,
    standing: Standing<'p>,
    /// The rule asks for it, and not only for what it may be part of.
    asks: bool,
}

/// What the policy says of this action on this path.
fn judged_at<'p>(
    policy: &'p Policy,
    path: &Path,
    action: Action,
    actor: &Arc<Actor>,
    others: &[Arc<Actor>],
    time: Option<Timestamp>,
) -> Option<Judged<'p>> {
    let rule = policy.decide(path, action, actor)?.rule;
    let standing = policy.standing(rule, path, action, Circumstances { actor, others, time });
    Some(Judged { rule, standing, asks: true })
}

/// An event in the making.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) path: PathBuf,
    pub(super) object: Option<ObjectId>,
    /// Its earlier name.
    pub(super) from: Option<PathBuf>,
    /// What a rename replaced.
    pub(super) replaced: Option<ObjectState>,
    /// The state before, where it is not the baseline's at the path.
    pub(super) known: Option<ObjectState>,
    pub(super) content: Content,
    /// It is open for writing: hashing has to wait.
    pub(super) being_written: bool,
    pub(super) writers: Vec<Arc<Actor>>,
    /// The name that a watched file got where nothing is watched, or would have got.
    pub(super) link_path: Option<PathBuf>,
    /// The watched name by which the file was changed that has the name `path` too.
    other_name: Option<PathBuf>,
    /// The name by which it was changed had gone before, and this is one that is left.
    pub(super) by_gone_name: bool,
    /// A watched path that stands for this one, which no rule names.
    pub(super) judged_as: Option<PathBuf>,
    /// Two objects exchanged their names.
    pub(super) exchange: bool,
    pub(super) action: Action,
    time: Timestamp,
    pub(super) provider: Provider,
    pub(super) actor: Arc<Actor>,
    path_in_process: Option<PathBuf>,
    failure: Option<Failure>,
    details: Option<Box<Details>>,
    /// What the kernel said.
    pub(super) before: ObjectState,
    pub(super) after: ObjectState,
    operations: Vec<FoldedOperation>,
}

impl Draft {
    /// `None` for an operation without a path.
    pub(super) fn new(
        action: Action,
        operation: Operation,
        operations: Vec<FoldedOperation>,
    ) -> Option<Self> {
        Some(Self {
            path: operation.path?,
            object: operation.object,
            from: None,
            replaced: None,
            known: None,
            content: Content::Unchanged,
            being_written: false,
            writers: Vec::new(),
            link_path: None,
            other_name: None,
            by_gone_name: false,
            judged_as: None,
            exchange: false,
            action,
            time: operation.time,
            provider: operation.provider,
            actor: operation.actor,
            path_in_process: operation.path_in_process,
            failure: operation.failure,
            details: operation.details,
            before: operation.before,
            after: operation.after,
            operations,
        })
    }

    /// The same change under another name of the file.
    pub(super) fn under_other_name(&self, path: PathBuf, object: ObjectId) -> Self {
        Self {
            path,
            object: Some(object),
            other_name: Some(self.path.clone()),
            // Of the one name.
            from: None,
            replaced: None,
            known: None,
            link_path: None,
            judged_as: None,
            exchange: false,
            path_in_process: None,
            failure: None,
            ..self.clone()
        }
    }

    /// Whether it is told under a name by which nothing was done.
    pub(super) fn is_other_name(&self) -> bool {
        self.other_name.is_some()
    }

    /// Operations that it is about, and no other draft.
    pub(super) fn count(&self) -> u64 {
        if self.is_other_name() {
            return 0;
        }
        self.operations.iter().map(|folded| folded.count).sum()
    }

    /// The rule that decides about it, and what that makes of it. `steps`: also one that asks for the
    /// change that it may be a step of.
    fn judged<'p>(&self, policy: &'p Policy, steps: bool) -> Option<Judged<'p>> {
        // A comparison finds that something was changed, not when, nor how often.
        let time = (self.provider != Provider::Scan).then_some(self.time);
        let by =
            |path: &Path, action| judged_at(policy, path, action, &self.actor, &self.writers, time);
        let as_it_is = by(&self.path, self.action)
            .or_else(|| by(self.from.as_deref()?, self.action))
            .or_else(|| by(self.judged_as.as_deref()?, self.action))
            .or_else(|| by(self.link_path.as_deref()?, self.action));
        let is_step = matches!(
            self.action,
            Action::Created | Action::Linked | Action::Moved | Action::Deleted
        );
        as_it_is.or_else(|| {
            let updated = by(&self.path, Action::Updated)
                .or_else(|| by(self.from.as_deref()?, Action::Updated));
            updated.filter(|_| steps && is_step).map(|judged| Judged { asks: false, ..judged })
        })
    }

    /// Whether nobody can tell if the object is open for writing.
    pub(super) fn may_be_open(&self) -> bool {
        // Or it was opened before anybody looked, or its opening was lost.
        let modified = || self.operations.iter().any(|folded| folded.operation == "modify");
        self.provider == Provider::Fanotify || modified()
    }

    /// Whether there is content to hash.
    pub(super) fn wants_hash(&self) -> bool {
        let tells_content = matches!(
            self.action,
            Action::Created | Action::Updated | Action::Moved | Action::Linked
        );
        tells_content
            && !self.being_written
            && self.after.kind.is_none_or(|kind| kind == ObjectKind::File)
    }
}

/// The object as it is, if it is still the one meant.
fn look(observer: &dyn Observer, path: &Path, object: Option<ObjectId>) -> Option<ObjectState> {
    let state = observer.state(path).ok()?;
    // The kernel's device number is not stat(2)'s on btrfs: the inode number has to do.
    let same = object.is_none_or(|object| state.inode == Some(object.inode));
    same.then_some(state)
}

/// Whether this is how fanotify tells of a file that was opened with `O_TMPFILE` and has no name; it
/// is told with its first one.
pub(super) fn is_nameless(path: &Path, object: Option<ObjectId>) -> bool {
    path.file_name()
        .and_then(|name| unnamed_inode(name.as_encoded_bytes()))
        .is_some_and(|number| object.is_none_or(|object| object.inode == number))
}

/// `over` where it knows something, else `under`.
pub(super) fn overlay(over: &ObjectState, under: &ObjectState) -> ObjectState {
    ObjectState {
        kind: over.kind.or(under.kind),
        size: over.size.or(under.size),
        mode: over.mode.or(under.mode),
        uid: over.uid.or(under.uid),
        gid: over.gid.or(under.gid),
        mtime: over.mtime.or(under.mtime),
        ctime: over.ctime.or(under.ctime),
        inode: over.inode.or(under.inode),
        // The kernel's own number is not that of stat(2) everywhere (btrfs).
        device: under.device.or(over.device),
        nlink: over.nlink.or(under.nlink),
        acl: over.acl.clone().or_else(|| under.acl.clone()),
        xattrs: over.xattrs.clone().or_else(|| under.xattrs.clone()),
        capabilities: over.capabilities.clone().or_else(|| under.capabilities.clone()),
        attributes: over.attributes.clone().or_else(|| under.attributes.clone()),
        target_path: over.target_path.clone().or_else(|| under.target_path.clone()),
        sha256: over.sha256.clone().or_else(|| under.sha256.clone()),
    }
}

/// Completes a draft; leaves in `to_know` what the baseline is to have of the path from now on, if
/// that is new. `None`: nothing happened that a rule wants to know.
#[expect(
    clippy::too_many_arguments,
    reason = "what an event is made of, from all over the pipeline"
)]
pub(super) fn event(
    draft: Draft,
    outcome: Option<HashOutcome>,
    policy: &Policy,
    baseline: &Baseline,
    observer: &dyn Observer,
    names: &mut dyn Names,
    alert_severity: u8,
    steps: bool,
    to_know: &mut Option<ObjectState>,
) -> Option<Box<Event>> {
    if !observer.observes() {
        return unobserved(draft, outcome, policy, names, alert_severity);
    }
    let mut outcome = outcome;
    let diff = outcome.as_mut().and_then(|outcome| outcome.diff.take());
    let (before, after, hash_state) = if draft.action == Action::Deleted {
        let stored = baseline.remove(&draft.path).unwrap_or_else(|error| {
            tracing::error!(%error, "the baseline cannot be written");
            None
        });
        let before = match stored {
            Some(stored) => overlay(&draft.before, &stored),
            None => draft.before.clone(),
        };
        (Some(before), None, None)
    } else {
        // What something new was before is not asked.
        let stored = match draft.action {
            Action::Created | Action::Linked | Action::Mounted | Action::Unmounted => None,
            _ => baseline.get(&draft.path).unwrap_or_else(|error| {
                tracing::error!(%error, "the baseline cannot be read");
                None
            }),
        };
        let covered = policy.covers(&draft.path).is_some();
        let nothing = ObjectState::default();
        let known = draft.known.as_ref().or(stored.as_ref()).unwrap_or(&nothing);
        let before = match draft.action {
            Action::Created | Action::Linked | Action::Mounted | Action::Unmounted => None,
            // A rename changes none of these: the kernel's word is newer than the baseline's,
            // which does not follow the times of directories.
            Action::Moved => {
                let unchanged = ObjectState { ctime: None, ..draft.after.clone() };
                Some(overlay(&unchanged, known))
            }
            _ => Some(overlay(&draft.before, known)),
        };
        let (mut after, hash_state) = after(&draft, outcome, before.as_ref(), observer);
        if draft.action == Action::Moved
            && hash_state == Some(HashState::Gone)
            && let Some(before) = &before
        {
            // A new name changes nothing else.
            after = overlay(&after, before);
        }
        if draft.action == Action::AttributesModified {
            // What the kernel said is of the moment; what the disk says may already be later.
            after = overlay(&draft.after, &after);
        }
        // Another name changes nothing of the file: what is not told must not be known.
        let only_linked = draft.action == Action::Linked && draft.link_path.is_some();
        if covered && !only_linked && !(draft.being_written && draft.action == Action::Updated) {
            let gone = hash_state == Some(HashState::Gone);
            if gone {
                *to_know = doubt::left_of_gone(&draft, stored.as_ref(), &after);
                if to_know.is_none()
                    && let Err(error) = baseline.remove(&draft.path)
                {
                    tracing::error!(%error, "the baseline cannot be written");
                }
            } else {
                let stale = stored.as_ref().filter(|_| draft.action == Action::AttributesModified);
                let state = doubt::to_store(&draft, before.as_ref(), stale, &after, hash_state);
                *to_know = state.map(Cow::into_owned);
            }
        }
        if hash_state == Some(HashState::Gone)
            && draft.action == Action::Updated
            && stored.is_none()
            && is_nameless(&draft.path, draft.object)
        {
            return None;
        }
        (before, Some(after), hash_state)
    };

    let mut changes = match (&before, &after) {
        _ if matches!(draft.action, Action::Mounted | Action::Unmounted) => Vec::new(),
        (Some(before), Some(after)) => diff::changes(before, after),
        _ => vec![Property::Existence],
    };
    match draft.action {
        // A new name moves nothing but the path; its directory's doings are told apart.
        Action::Moved => changes.insert(0, Property::Path),
        Action::AttributesModified => {
            changes.retain(|change| !matches!(change, Property::Content | Property::Size));
            if after.as_ref().and_then(|state| state.kind) == Some(ObjectKind::Dir)
                && draft.operations.iter().all(|operation| operation.operation != "set_attributes")
            {
                changes.retain(|change| *change != Property::Mtime);
            }
            // statx(2) does not tell of all flags that can be set.
            if changes.is_empty()
                && draft.operations.iter().any(|operation| operation.operation == "set_flags")
            {
                changes.push(Property::Attributes);
            }
            if changes.is_empty() {
                return None;
            }
        }
        Action::Updated => {
            let same = !changes.contains(&Property::Content);
            let compared = before.as_ref().is_some_and(|before| before.sha256.is_some())
                && hash_state == Some(HashState::Exact);
            // Without a trace of a change, and nothing left to compare, nothing is claimed.
            let gone = hash_state == Some(HashState::Gone);
            // fanotify tells of each close; a write before it moved the time, or was told.
            let untouched = draft.provider == Provider::Fanotify
                && before.as_ref().is_some_and(|before| before.mtime.is_some())
                && !changes.iter().any(|change| matches!(change, Property::Mtime | Property::Size));
            if draft.content == Content::Doubtful && same && (compared || gone || untouched) {
                return None;
            }
            if same && hash_state != Some(HashState::Exact) && !changes.contains(&Property::Size) {
                // Modified, and not compared.
                changes.insert(0, Property::Content);
            }
        }
        _ => {}
    }
    let judged = draft.judged(policy, steps)?;
    let mut event =
        assemble(draft, before, after, changes, hash_state, judged, names, alert_severity);
    // A file that came to be has nothing to differ from.
    event.fim.diff = diff.map(Box::new).filter(|diff| {
        diff.from.as_deref() != Some(diff.to.as_str())
            && (diff.from.is_some() || event.event.action == Action::Updated)
    });
    Some(event)
}

/// The state after, and how far its hash can be trusted.
fn after(
    draft: &Draft,
    outcome: Option<HashOutcome>,
    before: Option<&ObjectState>,
    observer: &dyn Observer,
) -> (ObjectState, Option<HashState>) {
    let gone = || (draft.after.clone(), Some(HashState::Gone));
    let Some(mut state) = look(observer, &draft.path, draft.object) else { return gone() };
    match outcome {
        Some(outcome) => {
            if outcome.state == HashState::Gone {
                return gone();
            }
            if let Some(hashed) = &outcome.after
                && hashed.inode == state.inode
            {
                // The hash belongs to these, not to what a later write left.
                (state.size, state.mtime, state.ctime) = (hashed.size, hashed.mtime, hashed.ctime);
            }
            state.sha256 = outcome.sha256;
            (state, Some(outcome.state))
        }
        None if state.kind != Some(ObjectKind::File) => (state, None),
        None if draft.action == Action::AttributesModified => {
            // The content is what it was, as far as its size and time tell.
            if let Some(before) = before
                && before.size == state.size
            {
                state.sha256.clone_from(&before.sha256);
            }
            (state, None)
        }
        None => (state, Some(HashState::Skipped)),
    }
}

/// The event of a failed attempt. `None`: no rule wants to know.
pub(super) fn attempt(
    draft: Draft,
    policy: &Policy,
    observer: &dyn Observer,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Option<Box<Event>> {
    let judged = draft.judged(policy, false).filter(|judged| judged.rule.attempts)?;
    // What there is now is what there was.
    let now = observer.state(&draft.path).ok();
    let mut event = assemble(draft, None, now, Vec::new(), None, judged, names, alert_severity);
    event.fim.after = None;
    Some(event)
}

/// The event about an object that nobody can look at: what the collector said, and no more.
fn unobserved(
    draft: Draft,
    outcome: Option<HashOutcome>,
    policy: &Policy,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Option<Box<Event>> {
    let did = |name: &str| draft.operations.iter().any(|folded| folded.operation == name);
    let hash_state =
        draft.wants_hash().then(|| outcome.map_or(HashState::Skipped, |outcome| outcome.state));
    let changes = match draft.action {
        Action::Created | Action::Linked | Action::Deleted => vec![Property::Existence],
        Action::Moved => vec![Property::Path],
        Action::Updated => vec![Property::Content],
        Action::AttributesModified => [
            ("set_attributes", Property::Attributes),
            ("set_security", Property::Security),
            ("set_ea", Property::Xattrs),
        ]
        .into_iter()
        .filter_map(|(name, property)| did(name).then_some(property))
        .collect(),
        _ => Vec::new(),
    };
    let (before, after) = (draft.before.clone(), draft.after.clone());
    let before = (before != ObjectState::default()).then_some(before);
    let after = (after != ObjectState::default()).then_some(after);
    let judged = draft.judged(policy, false)?;
    let mut event =
        assemble(draft, before, after, changes, hash_state, judged, names, alert_severity);
    event.fim.unknown.entry("file".to_owned()).or_insert_with(|| "not_observable".to_owned());
    Some(event)
}

/// What a scan found below a directory that was moved into scope by `whole`: as moved with it.
pub(super) fn moved_along(
    difference: Difference,
    whole: &Operation,
    policy: &Policy,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Option<Box<Event>> {
    let to = whole.path.as_deref()?;
    if difference.before.is_some() || difference.path == to {
        return self::difference(difference, policy, names, alert_severity);
    }
    let OperationKind::Rename { from, .. } = &whole.kind else { return None };
    let below = difference.path.strip_prefix(to).ok()?;
    let from = from.as_ref().map(|from| from.join(below));
    let operation = Operation {
        path: Some(difference.path),
        object: difference.after.as_ref().and_then(ObjectState::id),
        ..whole.clone()
    };
    let folded = FoldedOperation::new(whole.kind.name(), 1, whole.time);
    let mut draft = Draft::new(Action::Moved, operation, vec![folded])?;
    draft.from = from;
    let before = difference.after.clone();
    let (changes, hash_state) = (vec![Property::Path], difference.hash_state);
    let judged = draft.judged(policy, false)?;
    let after = difference.after;
    Some(assemble(draft, before, after, changes, hash_state, judged, names, alert_severity))
}

/// An event about what a scan found.
pub(super) fn difference(
    difference: Difference,
    policy: &Policy,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Option<Box<Event>> {
    let was_there = !difference.changes.contains(&Property::Existence);
    let action = match (&difference.before, &difference.after) {
        // It was changed before anybody had looked at it.
        (None, Some(_)) if was_there => Action::Updated,
        (None, _) => Action::Created,
        (Some(_), None) => Action::Deleted,
        (Some(_), Some(_)) => {
            let content = [
                Property::Content,
                Property::Size,
                Property::TargetPath,
                Property::Type,
                Property::Inode,
            ];
            if difference.changes.iter().any(|change| content.contains(change)) {
                Action::Updated
            } else {
                Action::AttributesModified
            }
        }
    };
    let draft = Draft {
        path: difference.path,
        object: None,
        from: None,
        replaced: None,
        known: None,
        content: Content::Changed,
        being_written: false,
        writers: Vec::new(),
        link_path: None,
        other_name: None,
        by_gone_name: false,
        judged_as: None,
        exchange: false,
        action,
        time: Timestamp::now(),
        provider: Provider::Scan,
        actor: Arc::new(Actor::unobserved()),
        path_in_process: None,
        failure: None,
        details: (action == Action::Updated && difference.before.is_none()).then(|| {
            let unknown = [("fim.before".to_owned(), "not_in_baseline".to_owned())].into();
            Box::new(Details { unknown, ..Details::default() })
        }),
        before: ObjectState::default(),
        after: ObjectState::default(),
        operations: Vec::new(),
    };
    let judged = draft.judged(policy, false)?;
    Some(assemble(
        draft,
        difference.before,
        difference.after,
        difference.changes,
        difference.hash_state,
        judged,
        names,
        alert_severity,
    ))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one event, put together once")]
fn assemble(
    draft: Draft,
    before: Option<ObjectState>,
    after: Option<ObjectState>,
    changes: Vec<Property>,
    hash_state: Option<HashState>,
    judged: Judged<'_>,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Box<Event> {
    let shown = after.as_ref().or(before.as_ref());
    let actor = &draft.actor;
    let primary = actor.process.as_ref();
    let writers = draft
        .writers
        .iter()
        .filter_map(|writer| {
            Some(Writer { process: writer.process.clone()?, user: writer.user.clone() })
        })
        .filter(|writer| {
            primary.is_none_or(|primary| {
                primary.pid != writer.process.pid || primary.entity_id != writer.process.entity_id
            })
        })
        .collect();
    let moved = draft.from.as_deref();
    let mut unknown = actor.unknown.clone();
    let details = draft.details.unwrap_or_default();
    unknown.extend(details.unknown);
    let fim = Fim {
        path_b64: path_base64(&draft.path),
        path_in_process: draft.path_in_process.as_deref().map(path_text),
        link_path: draft.link_path.or(draft.other_name).as_deref().map(path_text),
        errno: draft.failure.map(|failure| event::errno_name(failure.errno)),
        before: match (&before, moved) {
            (Some(before), from) => Some(Box::new(Side::new(before, from))),
            (None, Some(from)) => Some(Box::new(Side::new(&ObjectState::default(), Some(from)))),
            (None, None) => None,
        },
        after: after.as_ref().map(|after| Box::new(Side::new(after, None))),
        replaced: draft.replaced.as_ref().map(|state| Box::new(Side::new(state, None))),
        changes,
        hash_state,
        operations: draft.operations,
        writers,
        ancestors: actor.ancestors.clone(),
        original_path: details.original_path,
        token: actor.token.clone().map(Box::new),
        unknown,
        ..Fim::default()
    };
    let mut event = Box::new(Event {
        timestamp: draft.time,
        event: Meta {
            id: String::new(),
            sequence: 0,
            kind: Kind::Event,
            category: vec![Category::File],
            types: vec![match draft.action {
                Action::Created | Action::Linked => Type::Creation,
                Action::Deleted => Type::Deletion,
                _ => Type::Change,
            }],
            action: draft.action,
            outcome: if draft.failure.is_some() { Outcome::Failure } else { Outcome::Success },
            provider: Some(draft.provider),
            severity: None,
        },
        rule: None,
        tags: Vec::new(),
        threat: None,
        file: Some(Box::new(file(&draft.path, draft.provider, shown, names))),
        registry: None,
        process: actor.process.clone(),
        user: actor.user.clone(),
        container: actor.container.clone(),
        kubernetes: actor.kubernetes.clone(),
        host: HOST.clone(),
        agent: AGENT.clone(),
        fim,
    });
    stamp(&mut event, &judged, alert_severity);
    event
}

/// Enters what the policy says.
fn stamp(event: &mut Event, judged: &Judged<'_>, alert_severity: u8) {
    let Judged { rule, standing, asks } = judged;
    let is_alert = standing.is_alert(rule.severity, alert_severity);
    event.event.kind = if is_alert { Kind::Alert } else { Kind::Event };
    event.event.severity = Some(rule.severity);
    event.rule = Some(Rule::from(*rule));
    event.tags.clone_from(&rule.tags);
    event.threat = (!rule.techniques.is_empty())
        .then(|| Threat { technique: Technique { id: rule.techniques.clone() } });
    (event.fim.expectation, event.fim.suppress) = suppressed::said(standing);
    event.fim.unasked = !asks;
}

/// Judges an event anew that was put together of others. Whether a rule asks for it.
pub(super) fn judge_again(
    event: &mut Event,
    path: &Path,
    actor: &Arc<Actor>,
    others: &[Arc<Actor>],
    policy: &Policy,
    alert_severity: u8,
) -> bool {
    let action = event.event.action;
    let judged = judged_at(policy, path, action, actor, others, Some(event.timestamp));
    let Some(judged) = judged else { return false };
    stamp(event, &judged, alert_severity);
    true
}

fn file(
    path: &Path,
    provider: Provider,
    state: Option<&ObjectState>,
    names: &mut dyn Names,
) -> event::File {
    let mut file = event::File { path: path_text(path), ..event::File::default() };
    if provider == Provider::Etw {
        // A Windows path, whatever this host is.
        let (directory, name) = windows_parts(&file.path);
        let (name, fork) = name.split_once(':').map_or((name, None), |(n, f)| (n, Some(f)));
        file.directory = (!directory.is_empty()).then(|| directory.to_owned());
        file.fork_name = fork.map(str::to_owned);
        file.name = (!name.is_empty() && !directory.is_empty()).then(|| name.to_owned());
    } else {
        file.name = path.file_name().map(|name| path_text(Path::new(name)));
        file.directory = path.parent().map(path_text);
    }
    let Some(state) = state else { return file };
    file.kind = state.kind;
    file.target_path = state.target_path.as_deref().map(path_text);
    file.inode = state.inode.map(|inode| inode.to_smolstr());
    file.device = state.device.map(object::device_text);
    file.size = state.size;
    file.mode = state.mode.map(mode_text);
    file.uid = state.uid.map(|id| id.to_smolstr());
    file.gid = state.gid.map(|id| id.to_smolstr());
    file.owner = state.uid.and_then(|id| names.user(id));
    file.group = state.gid.and_then(|id| names.group(id));
    file.attributes = state.attributes.clone().filter(|attributes| !attributes.is_empty());
    file.mtime = state.mtime;
    file.ctime = state.ctime;
    file.hash = state.sha256.clone().map(|sha256| Hash { sha256 });
    file
}

/// Directory and name of a Windows path; `C:\\` is the directory of what lies in it.
fn windows_parts(path: &str) -> (&str, &str) {
    let Some(at) = path.rfind('\\') else { return ("", path) };
    let root = path[..at].ends_with(':');
    (&path[..if root { at + 1 } else { at }], &path[at + 1..])
}
