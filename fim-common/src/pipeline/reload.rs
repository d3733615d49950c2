//! Another policy while the agent runs.
//!
//! `widen the collector -> fence -> this policy -> baseline of what is new -> narrow the collector`
//!
//! The collector watches what either policy asks for before the pipeline is told. Behind a fence,
//! everything that was done under the old policy has been taken in; then the new one takes its
//! place between two operations. `config_changed` says so: each operation after it is judged by
//! the new policy, each before it by the old one.
//!
//! Invariant: what both policies watch is watched without a pause.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::{Pipeline, scope_of};
use crate::baseline::Baseline;
use crate::content::Contents;
use crate::event::actor::Actor;
use crate::event::{Configuration, Outcome};
use crate::operation::{Operation, OperationKind};
use crate::policy::{Pattern, Policy, Rule};
use crate::state::{HashState, ObjectKind, ObjectState};
use crate::time::Timestamp;

/// A policy to take the place of the one in force.
pub struct Reload {
    /// Resolved against this host.
    pub policy: Policy,
    /// As in [`super::Options`].
    pub fold: Duration,
    /// How long the steps of one change wait for each other.
    pub window: Duration,
    /// As in [`super::Options`].
    pub settle: Duration,
    /// As in [`super::Options`].
    pub alert_severity: u8,
    /// How often what was suppressed is summed up.
    pub suppressed_interval: Duration,
    /// As in [`super::Options`].
    pub contents: Option<Arc<Contents>>,
    /// What is told of it; `None`: nothing, the same rules are about other objects now.
    pub told: Option<(Configuration, String)>,
    /// Told when the policy is in force.
    pub in_force: oneshot::Sender<()>,
    /// Told when what is newly watched is in the baseline.
    pub baseline_taken: oneshot::Sender<()>,
}

/// A configuration that is wrong: the running one stays.
pub struct Refused {
    /// What is told of it.
    pub configuration: Configuration,
    /// For people.
    pub message: String,
}

pub(super) enum Command {
    Reload(Box<Reload>),
    Refused(Box<Refused>),
}

/// The way of another policy to the pipeline.
#[derive(Clone)]
pub struct Reloader(mpsc::UnboundedSender<Command>);

impl Reloader {
    /// Has this policy take the place of the one in force. The collector watches what it asks for
    /// already. Nothing comes of it when the pipeline is stopping.
    pub fn reload(&self, reload: Reload) {
        let _ = self.0.send(Command::Reload(Box::new(reload)));
    }

    /// Tells that a configuration is wrong.
    pub fn refused(&self, refused: Refused) {
        let _ = self.0.send(Command::Refused(Box::new(refused)));
    }
}

/// A file system says that something was made up to so much earlier than it was: its clock goes on
/// with the system's ticks, which are 15.6 ms apart on Windows and up to 10 ms on Linux.
const TICK: Duration = Duration::from_millis(20);

/// What is under way.
pub(super) struct Reloads {
    sender: mpsc::UnboundedSender<Command>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Each waits for its fence.
    waiting: Vec<(u64, Command)>,
    /// The configuration file, by all its names.
    files: Vec<PathBuf>,
    /// Who changed it last.
    changed_by: Option<Arc<Actor>>,
}

impl Default for Reloads {
    fn default() -> Self {
        let (sender, commands) = mpsc::unbounded_channel();
        let (waiting, files) = (Vec::new(), Vec::new());
        Self { sender, commands, waiting, files, changed_by: None }
    }
}

impl Reloads {
    /// The next one; there is always somebody who may send, this end too.
    pub(super) async fn next(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }

    /// Remembers who changed the configuration file.
    pub(super) fn note(&mut self, operation: &Operation) {
        let Some(path) = &operation.path else { return };
        if operation.failure.is_none()
            // As bytes: this is asked of each operation.
            && self.files.iter().any(|file| file.as_os_str() == path.as_os_str())
            && !matches!(operation.kind, OperationKind::OpenWrite { truncate: false })
        {
            self.changed_by = Some(Arc::clone(&operation.actor));
        }
    }
}

/// Places that are watched since a reload.
pub(super) struct Newly {
    /// The policy before.
    before: Policy,
    /// What was made from then on was made under the new one.
    since: SystemTime,
    /// Roots to be marked as scanned.
    roots: Vec<PathBuf>,
    done: oneshot::Sender<()>,
}

impl Newly {
    pub(super) fn is_new(&self, path: &Path) -> bool {
        self.before.covers(path).is_none()
    }

    /// Whether the object at `path` was made since then, as far as the file system says when.
    pub(super) fn was_made_since(&self, path: &Path) -> bool {
        let made = std::fs::symlink_metadata(path).and_then(|metadata| metadata.created());
        made.is_ok_and(|made| made >= self.since)
    }

    /// Whether the content of what was found was changed since then, by times of which the second
    /// cannot be set: the first may have been, to anything.
    pub(super) fn was_changed_since(&self, found: &ObjectState) -> bool {
        let since = Timestamp::from(self.since);
        found.kind == Some(ObjectKind::File)
            && found.mtime.is_some_and(|at| at >= since && at <= Timestamp::now())
            && found.ctime.is_some_and(|at| at >= since)
    }

    /// The scan has ended.
    pub(super) fn finish(self, baseline: &Baseline) {
        for root in &self.roots {
            if let Err(error) = baseline.set_scan_complete(root, Timestamp::now()) {
                tracing::error!(%error, "the baseline cannot be written");
            }
        }
        tracing::info!(roots = self.roots.len(), "baseline of what is newly watched taken");
        let _ = self.done.send(());
    }
}

/// What of `rule` was not watched by `other`: `None` if they do not look at objects in the same
/// way. A container that comes or goes adds or takes away some paths and exclusions of a rule.
fn more(rule: &Rule, other: &Rule) -> Option<Rule> {
    if rule.hash != other.hash || rule.max_hash_size != other.max_hash_size {
        return None;
    }
    let without = |patterns: &[Pattern], others: &[Pattern]| -> Vec<Pattern> {
        patterns.iter().filter(|pattern| !others.contains(pattern)).cloned().collect()
    };
    // What is not excluded any more is watched where the exclusion was.
    let admitted = without(&other.exclude, &rule.exclude);
    let admitted = admitted.into_iter().filter(|pattern| {
        rule.paths.iter().any(|path| {
            pattern.base().starts_with(path.base()) || path.base().starts_with(pattern.base())
        })
    });
    let paths = without(&rule.paths, &other.paths).into_iter().chain(admitted).collect();
    Some(Rule { paths, ..rule.clone() })
}

/// What has to be compared with the disk when `new` takes the place of `old`: where rules begin
/// that watch something else than before.
fn news(old: &Policy, new: &Policy) -> Vec<PathBuf> {
    let rules = new.rules().iter().map(|rule| {
        let less = old.rules().iter().filter_map(|other| more(rule, other));
        less.min_by_key(|rule| rule.paths.len()).unwrap_or_else(|| rule.clone())
    });
    let mut paths: Vec<PathBuf> =
        scope_of(&new.with_rules(rules.collect())).into_iter().map(|root| root.path).collect();
    // A path sorts before everything below it.
    paths.sort_unstable();
    paths.dedup_by(|path, kept| path.starts_with(&*kept));
    paths
}

impl Pipeline {
    /// The way for another policy. `files` are the names of the configuration file: who changes it
    /// is named, where the collector tells of it.
    pub fn reloader(&mut self, files: Vec<PathBuf>) -> Reloader {
        // Spelt in one way, as collectors do it: they are compared as bytes.
        self.reloads.files = files.iter().map(|file| file.components().collect()).collect();
        Reloader(self.reloads.sender.clone())
    }

    /// The collector tells of no operations: what is made where a reload has it look is found by
    /// comparing alone, and is told when the file system says that it was made since.
    pub fn finds_by_comparing(&mut self) {
        self.rechecks.find_new();
    }

    /// Everything that was done before this comes first.
    pub(super) fn reload(&mut self, command: Command) {
        let fence = self.request_fence();
        self.reloads.waiting.push((fence, command));
    }

    /// Everything before this fence has been taken in.
    pub(super) fn reload_behind(&mut self, fence: u64) {
        while let Some(index) = self.reloads.waiting.iter().position(|(at, _)| *at <= fence) {
            match self.reloads.waiting.remove(index).1 {
                Command::Reload(reload) => self.put_in_force(*reload),
                Command::Refused(refused) => {
                    let Refused { configuration, message } = *refused;
                    self.tell_configuration(Outcome::Failure, configuration, message);
                }
            }
        }
    }

    fn put_in_force(&mut self, reload: Reload) {
        // What is not watched any more is told by the rules under which it was done.
        let gone = |path: &Path| reload.policy.covers(path).is_none();
        self.flush_where(gone);
        let waiting = self.tickets.iter().filter(|(path, _)| gone(path)).map(|(_, &ticket)| ticket);
        let waiting: Vec<u64> = waiting.collect();
        for ticket in waiting {
            self.give_up(ticket, HashState::Skipped);
        }
        self.tell_steps();
        self.tell_suppressed();
        let remain = reload.policy.containers();
        for root in self.policy.containers().iter().filter(|root| !remain.contains(root)) {
            self.forget_container(root);
        }

        let before = std::mem::replace(&mut self.policy, reload.policy);
        self.scanner.set_policy(self.policy.clone());
        self.fold = reload.fold;
        self.fold_steps(reload.window);
        self.settle = reload.settle;
        self.alert_severity = reload.alert_severity;
        self.contents = reload.contents;
        self.suppression.set_interval(reload.suppressed_interval);
        let since = SystemTime::now() - TICK;
        if let Some((configuration, message)) = reload.told {
            self.tell_configuration(Outcome::Success, configuration, message);
        }

        let news = news(&before, &self.policy);
        let known: Vec<PathBuf> = scope_of(&before).into_iter().map(|root| root.path).collect();
        let roots = scope_of(&self.policy).into_iter().map(|root| root.path);
        let roots = roots.filter(|root| !known.contains(root)).collect();
        let _ = reload.in_force.send(());
        let newly = Newly { before, since, roots, done: reload.baseline_taken };
        if news.is_empty() {
            return newly.finish(&self.baseline);
        }
        self.rechecks.expect_new(newly);
        self.recheck(news, false);
    }

    /// A container is removed for good when its root directory is: what is known of its files
    /// would never be asked for again. One that was stopped may go on, and be compared then.
    fn forget_container(&self, root: &Path) {
        if !root.exists()
            && let Err(error) = self.baseline.forget_below(root)
        {
            tracing::error!(%error, "the baseline cannot be written");
        }
    }

    /// Whether `path` lies in a container that has ended, of which the host no longer has the
    /// files: nobody has deleted them.
    pub(super) fn is_of_ended_container(&self, path: &Path) -> bool {
        let mut roots = self.policy.containers().iter().filter(|root| path.starts_with(root));
        roots.any(|root| {
            std::fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none())
        })
    }

    fn tell_configuration(
        &mut self,
        outcome: Outcome,
        configuration: Configuration,
        message: String,
    ) {
        let actor = self.reloads.changed_by.take();
        let actor = actor.unwrap_or_else(|| Arc::new(Actor::unobserved()));
        self.output.configuration(outcome, configuration, message, &actor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_lies_where_the_disk_has_it() {
        let rule = |paths: &[&str], parse: fn(&str) -> Vec<Pattern>| {
            vec![Rule::new("r", paths.iter().flat_map(|path| parse(path)).collect())]
        };
        let unix = |paths: &[&str]| Policy::new(rule(paths, |path| Pattern::parse(path).unwrap()));
        assert_eq!(news(&unix(&["/one"]), &unix(&["/one", "/two"])), [PathBuf::from("/two")]);
        let windows = |paths: &[&str]| {
            Policy::for_windows(rule(paths, |path| Pattern::parse_windows(path).unwrap()))
        };
        let found = news(&windows(&[r"C:\one"]), &windows(&[r"C:\one", r"C:\two"]));
        assert_eq!(found, [PathBuf::from(r"C:\two")]);
    }
}
