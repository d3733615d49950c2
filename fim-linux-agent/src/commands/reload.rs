//! Another configuration while the agent runs: on SIGHUP, when the file changes, and the same one for
//! other containers. What is done then is in `fim_commands::reload`.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fim_commands::reload::{self, Followers, own_rule};
use fim_common::baseline::Baseline;
use fim_common::collector::Collector;
use fim_common::config::Config;
use fim_common::content::Contents;
use fim_common::pipeline::Pipeline;
use fim_common::policy::{self, Container, Policy};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::canaries::Canaries;
use super::config_file::Watch;
use super::seeds::Seeds;
use crate::containers::{self, Watcher};
use crate::process::Table;
use fim_commands::start::Arguments;

/// What is to be done next.
pub(super) enum Step {
    /// Read the file, because of a signal.
    Hangup,
    /// Read the file, because it may have changed.
    File,
    /// What was begun gets on.
    Shared(reload::Step),
    /// There are other containers.
    Containers(Vec<Container>),
    /// The canary has left places.
    Left,
}

/// The agent's program, if it is a file of the host: in a container it is one of the image.
fn program() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let running = std::fs::metadata("/proc/self/exe").ok()?;
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let there = std::fs::metadata(&path).ok()?;
    (there.dev() == running.dev() && there.ino() == running.ino()).then_some(path)
}

/// All names of what a rule is about, as the collector tells them.
fn names(policy: &Policy) -> Vec<PathBuf> {
    let patterns = policy.rules().iter().flat_map(|rule| &rule.paths);
    patterns.map(|pattern| pattern.base().to_owned()).collect()
}

/// What goes where the policy does.
struct Attending {
    /// If there are any.
    canaries: Option<Canaries>,
    seeds: Seeds,
}

impl Followers for Attending {
    fn prepare(&mut self, policy: &Policy) {
        if let Some(canaries) = &mut self.canaries {
            canaries.prepare(policy);
        }
    }

    fn give_up(&mut self) {
        if let Some(canaries) = &mut self.canaries {
            canaries.give_up();
        }
    }

    fn contents(&mut self, config: &Config) -> Option<Arc<Contents>> {
        self.seeds.contents(config)
    }

    fn go_on(&mut self, policy: &Policy) {
        if let Some(canaries) = &mut self.canaries {
            canaries.go_on(policy);
        }
    }

    fn taken(&mut self, policy: &Policy, baseline: &Arc<Baseline>) {
        self.seeds.keep(policy, baseline);
    }
}

/// What is in force, and what tells that it is to be replaced.
pub(super) struct Reloading {
    shared: reload::Reloading,
    hangup: Signal,
    watch: Option<Watch>,
    table: Arc<Mutex<Table>>,
    /// If a rule is about them.
    containers: Option<Watcher>,
    /// As the command line names it.
    state: PathBuf,
    /// Once the agent runs.
    attending: Option<Attending>,
}

impl Deref for Reloading {
    type Target = reload::Reloading;

    fn deref(&self) -> &reload::Reloading {
        &self.shared
    }
}

impl Reloading {
    /// Of the configuration with which the agent starts.
    ///
    /// # Errors
    /// When the system refuses to handle signals.
    pub(super) fn new(
        arguments: Arguments,
        config: &Config,
        sha256: Option<String>,
        table: &Arc<Mutex<Table>>,
    ) -> io::Result<Self> {
        let containers = containers_for(config);
        let policy = config.policy().resolved_with(&policy::canonical, &containers);
        let state = arguments.state_dir.clone();
        let others = Policy::joined(&[&own_rule(program()), &own_rule(Some(state.clone()))]);
        let shared = reload::Reloading::new(arguments, config, policy, sha256, others);
        let watch = shared.file().and_then(|file| {
            let watch = Watch::new(file);
            let message = "the configuration file is not watched: send SIGHUP when it changes";
            watch.inspect_err(|error| tracing::info!(%error, "{message}")).ok()
        });
        let mut reloading = Self {
            shared,
            hangup: signal(SignalKind::hangup())?,
            watch,
            table: Arc::clone(table),
            containers: None,
            state,
            attending: None,
        };
        reloading.watch_containers(containers);
        Ok(reloading)
    }

    /// From now on, if a rule is about them; `known` are those with which it is resolved.
    fn watch_containers(&mut self, known: Vec<Container>) {
        if !self.shared.policy().wants_containers() {
            self.containers = None;
            return;
        }
        if self.containers.is_some() {
            return;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match Watcher::start(&mut table, known) {
            Ok(watcher) => self.containers = Some(watcher),
            Err(error) => tracing::error!(%error, "containers that are started are not noticed"),
        }
    }

    /// Before the pipeline runs.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        self.shared.begin(pipeline);
        // As the kernel will name it.
        let state = std::fs::canonicalize(&self.state).unwrap_or_else(|_| self.state.clone());
        pipeline.look_after(names(&own_rule(program())), state);
    }

    /// From now on the canary goes where the policy does, and contents are kept as it wants.
    pub(super) fn attend(&mut self, canaries: Option<Canaries>, seeds: Seeds) {
        self.attending = Some(Attending { canaries, seeds });
    }

    /// Ends the canary, while it is still watched.
    pub(super) fn end_canaries(&mut self) {
        if let Some(attending) = &mut self.attending {
            attending.canaries = None;
        }
    }

    /// Waits for something to do. What comes while a policy is on its way waits until it is there.
    pub(super) async fn step(&mut self) -> Step {
        if self.shared.is_busy() {
            return Step::Shared(self.shared.step().await);
        }
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let containers = async {
            match &mut self.containers {
                Some(watcher) => watcher.changed().await,
                None => std::future::pending().await,
            }
        };
        let left = async {
            match self.attending.as_mut().and_then(|attending| attending.canaries.as_mut()) {
                Some(canaries) => canaries.left().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.hangup.recv() => Step::Hangup,
            () = changed => Step::File,
            step = self.shared.step() => Step::Shared(step),
            containers = containers => Step::Containers(containers),
            () = left => Step::Left,
        }
    }

    /// Does it. Blocks while the collector is told.
    pub(super) fn take(
        &mut self,
        step: Step,
        collector: &mut dyn Collector,
        baseline: &Arc<Baseline>,
    ) {
        let resolve = |config: &Config| -> Policy {
            config.policy().resolved_with(&policy::canonical, &containers_for(config))
        };
        let attending = self.attending.as_mut().map(|attending| attending as &mut dyn Followers);
        match step {
            Step::Hangup => self.shared.read("SIGHUP", collector, attending, &resolve),
            Step::File => self.shared.read("file_change", collector, attending, &resolve),
            Step::Containers(containers) => {
                let policy = self.shared.config().policy();
                let policy = policy.resolved_with(&policy::canonical, &containers);
                if let Err(error) = self.shared.apply(policy, collector, attending) {
                    tracing::error!("rules are not applied to other containers: {error}");
                }
            }
            Step::Shared(step) => {
                self.shared.take(step, collector, baseline, attending);
                if step == reload::Step::InForce(true) {
                    self.watch_containers(Vec::new());
                }
            }
            Step::Left => {
                let attending = self.attending.as_mut();
                let canaries = attending.and_then(|attending| attending.canaries.as_mut());
                let back = canaries.filter(|canaries| canaries.wants_back());
                if let Some(canaries) = back {
                    canaries.prepare(self.shared.policy());
                    self.shared.narrow(collector);
                    canaries.go_on(self.shared.policy());
                } else {
                    self.shared.narrow(collector);
                }
            }
        }
    }
}

/// The containers that rules of this configuration are about.
pub(super) fn containers_for(config: &Config) -> Vec<Container> {
    if config.rules.iter().any(|rule| rule.containers) { containers::list() } else { Vec::new() }
}
