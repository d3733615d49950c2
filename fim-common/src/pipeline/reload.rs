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
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Pipeline, scope_of};
use crate::baseline::Baseline;
use crate::event::actor::Actor;
use crate::event::{Configuration, Outcome};
use crate::operation::{Operation, OperationKind};
use crate::policy::{Policy, Rule};
use crate::state::HashState;
use crate::time::Timestamp;

/// A policy to take the place of the one in force.
pub struct Reload {
    /// Resolved against this host.
    pub policy: Policy,
    /// As in [`super::Options`].
    pub fold: Duration,
    /// As in [`super::Options`].
    pub settle: Duration,
    /// As in [`super::Options`].
    pub alert_severity: u8,
    /// How often what was suppressed is summed up.
    pub suppressed_interval: Duration,
    /// What is told of it.
    pub configuration: Configuration,
    /// For people.
    pub message: String,
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
            && self.files.iter().any(|file| file == path)
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
    /// Roots to be marked as scanned.
    roots: Vec<PathBuf>,
    done: oneshot::Sender<()>,
}

impl Newly {
    pub(super) fn is_new(&self, path: &Path) -> bool {
        self.before.covers(path).is_none()
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

/// Whether both rules watch the same objects in the same way.
fn watches_the_same(one: &Rule, other: &Rule) -> bool {
    one.paths == other.paths
        && one.exclude == other.exclude
        && one.hash == other.hash
        && one.max_hash_size == other.max_hash_size
}

/// What has to be compared with the disk when `new` takes the place of `old`: where rules begin
/// that watch something else than before.
fn news(old: &Policy, new: &Policy) -> Vec<PathBuf> {
    let known = |rule: &Rule| old.rules().iter().any(|other| watches_the_same(rule, other));
    let rules = new.rules().iter().filter(|rule| !known(rule)).cloned().collect();
    let mut paths: Vec<PathBuf> =
        scope_of(&Policy::new(rules)).into_iter().map(|root| root.path).collect();
    // A path sorts before everything below it.
    paths.sort_unstable();
    paths.dedup_by(|path, kept| path.starts_with(&*kept));
    paths
}

impl Pipeline {
    /// The way for another policy. `files` are the names of the configuration file: who changes it
    /// is named, where the collector tells of it.
    pub fn reloader(&mut self, files: Vec<PathBuf>) -> Reloader {
        self.reloads.files = files;
        Reloader(self.reloads.sender.clone())
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
        self.tell_suppressed();

        let before = std::mem::replace(&mut self.policy, reload.policy);
        self.scanner.set_policy(self.policy.clone());
        self.fold = reload.fold;
        self.settle = reload.settle;
        self.alert_severity = reload.alert_severity;
        self.suppression.set_interval(reload.suppressed_interval);
        self.tell_configuration(Outcome::Success, reload.configuration, reload.message);

        let news = news(&before, &self.policy);
        let known: Vec<PathBuf> = scope_of(&before).into_iter().map(|root| root.path).collect();
        let roots = scope_of(&self.policy).into_iter().map(|root| root.path);
        let roots = roots.filter(|root| !known.contains(root)).collect();
        let _ = reload.in_force.send(());
        let newly = Newly { before, roots, done: reload.baseline_taken };
        if news.is_empty() {
            return newly.finish(&self.baseline);
        }
        self.rechecks.expect_new(newly);
        self.recheck(news, false);
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
