//! Another configuration while the agent runs: on SIGHUP, and when the file changes.
//!
//! The steps are in `fim_common::pipeline::reload`. Here the file is watched and read, and the
//! collector is told. A file that is wrong changes nothing, and is told.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fim_common::baseline::Baseline;
use fim_common::collector::Collector;
use fim_common::config::sink::{Sink, Target};
use fim_common::config::{self, Config, Hash};
use fim_common::event::Configuration;
use fim_common::pipeline::{Pipeline, Refused, Reload, Reloader};
use fim_common::policy::{self, Container, Pattern, Policy, Rule};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::canaries::Canaries;
use super::config_file::Watch;
use super::seeds::Seeds;
use crate::containers::{self, Watcher};
use crate::process::Table;
use fim_commands::start::{Arguments, read_configuration, stdout_sink};

/// What is to be done next.
pub(super) enum Step {
    /// Read the file, because of a signal.
    Hangup,
    /// Read the file, because it may have changed.
    File,
    /// The new policy is in force; or the pipeline has ended.
    InForce(bool),
    /// What is newly watched is in the baseline.
    Taken,
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

/// A rule for what belongs to the agent. It makes no event: the pipeline knows the paths.
fn own_rule(path: Option<PathBuf>) -> Policy {
    let rule = path.map(|path| {
        let path = std::path::absolute(&path).unwrap_or(path);
        let paths = vec![Pattern::literal(path)];
        Rule { hash: false, attempts: false, ..Rule::new("the agent's own", paths) }
    });
    Policy::new(rule.into_iter().collect()).resolved(&policy::canonical)
}

/// All names of what a rule is about, as the collector tells them.
fn names(policy: &Policy) -> Vec<PathBuf> {
    let patterns = policy.rules().iter().flat_map(|rule| &rule.paths);
    patterns.map(|pattern| pattern.base().to_owned()).collect()
}

/// A policy on its way into force.
struct Pending {
    config: Config,
    policy: Policy,
    sha256: Option<String>,
    /// It is about other file systems, perhaps; other containers are no place for a canary.
    moves: bool,
    in_force: oneshot::Receiver<()>,
}

/// What is in force, and how it is replaced.
pub(super) struct Reloading {
    arguments: Arguments,
    config: Config,
    policy: Policy,
    sha256: Option<String>,
    /// Of the file that was looked at last; a wrong one is told once.
    seen: Option<String>,
    /// The configuration file; `None`: the command line says it all.
    file: Option<PathBuf>,
    hangup: Signal,
    watch: Option<Watch>,
    reloader: Option<Reloader>,
    pending: Option<Pending>,
    taken: Option<oneshot::Receiver<()>>,
    table: Arc<Mutex<Table>>,
    /// If a rule is about them.
    containers: Option<Watcher>,
    /// Standard output belongs to a sink.
    has_stdout: bool,
    /// Once the agent runs, if there are any.
    canaries: Option<Canaries>,
    seeds: Option<Seeds>,
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
        let default = Path::new(config::DEFAULT_PATH);
        let file = arguments.config.as_deref().unwrap_or(default);
        let file = (!arguments.has_no_file()).then(|| file.to_owned());
        let watch = file.as_deref().and_then(|file| {
            let watch = Watch::new(file);
            let message = "the configuration file is not watched: send SIGHUP when it changes";
            watch.inspect_err(|error| tracing::info!(%error, "{message}")).ok()
        });
        let containers = containers_for(config);
        let mut reloading = Self {
            policy: config.policy().resolved_with(&policy::canonical, &containers),
            config: config.clone(),
            arguments,
            seen: sha256.clone(),
            sha256,
            file,
            hangup: signal(SignalKind::hangup())?,
            watch,
            reloader: None,
            pending: None,
            taken: None,
            table: Arc::clone(table),
            containers: None,
            has_stdout: stdout_sink(config).is_some(),
            canaries: None,
            seeds: None,
        };
        reloading.watch_containers(containers);
        Ok(reloading)
    }

    /// From now on, if a rule is about them; `known` are those with which it is resolved.
    fn watch_containers(&mut self, known: Vec<Container>) {
        if !self.policy.wants_containers() {
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

    /// The policy in force, resolved.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where events go, of the configuration in force. Whether one of them is standard output was
    /// decided at the start.
    pub(super) fn sinks(&self) -> Vec<Sink> {
        let is_stdout = |sink: &Sink| sink.target == Target::Stdout;
        let wanted = self.config.sinks.iter().filter(|sink| !is_stdout(sink) || self.has_stdout);
        wanted.cloned().collect()
    }

    /// What the collector has to watch: that, and what belongs to the agent, so that who changes it
    /// can be named.
    pub(super) fn watched(&self) -> Policy {
        Policy::joined(&[&self.policy, &self.own()])
    }

    /// Configuration file, program, state.
    fn own(&self) -> Policy {
        let all = [self.file.clone(), program(), Some(self.arguments.state_dir.clone())];
        let [file, program, state] = all.map(own_rule);
        Policy::joined(&[&file, &program, &state])
    }

    /// Before the pipeline runs.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        self.reloader = Some(pipeline.reloader(names(&own_rule(self.file.clone()))));
        // As the kernel will name it.
        let state = &self.arguments.state_dir;
        let state = std::fs::canonicalize(state).unwrap_or_else(|_| state.clone());
        pipeline.look_after(names(&own_rule(program())), state);
    }

    /// From now on the canary goes where the policy does, and contents are kept as it wants.
    pub(super) fn attend(&mut self, canaries: Option<Canaries>, seeds: Seeds) {
        (self.canaries, self.seeds) = (canaries, Some(seeds));
    }

    /// Ends the canary, while it is still watched.
    pub(super) fn end_canaries(&mut self) {
        self.canaries = None;
    }

    /// Waits for something to do. What comes while a policy is on its way waits until it is there.
    pub(super) async fn step(&mut self) -> Step {
        if let Some(pending) = &mut self.pending {
            return Step::InForce((&mut pending.in_force).await.is_ok());
        }
        let taken = async {
            match &mut self.taken {
                // Closed without a word: the pipeline has ended.
                Some(taken) => taken.await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        };
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
            match &mut self.canaries {
                Some(canaries) => canaries.left().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.hangup.recv() => Step::Hangup,
            () = changed => Step::File,
            () = taken => Step::Taken,
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
        match step {
            Step::Hangup if self.file.is_none() => {
                tracing::warn!("SIGHUP: there is no configuration file; the command line says all");
            }
            Step::Hangup => self.read("SIGHUP", collector),
            Step::File => self.read("file_change", collector),
            Step::Containers(containers) => self.contain(&containers, collector),
            Step::InForce(in_force) => self.in_force(in_force, collector),
            Step::Taken => {
                self.taken = None;
                match baseline.linked() {
                    Ok(files) => collector.watch_linked(files),
                    Err(error) => tracing::error!(%error, "the baseline cannot be read"),
                }
                if let Some(seeds) = &mut self.seeds {
                    seeds.keep(&self.policy, baseline);
                }
            }
            Step::Left => self.narrow(collector),
        }
    }

    fn read(&mut self, trigger: &str, collector: &mut dyn Collector) {
        let (sha256, read) = read_configuration(&self.arguments);
        if trigger == "file_change" && sha256 == self.seen {
            return;
        }
        self.seen.clone_from(&sha256);
        let file = self.file.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH));
        let mut said = Configuration {
            file: file.display().to_string(),
            trigger: trigger.to_owned(),
            before_sha256: self.sha256.clone(),
            after_sha256: sha256.clone(),
            ..Configuration::default()
        };
        // Without a file another policy would apply, which nobody has asked for.
        let gone = sha256.is_none() && self.sha256.is_some();
        let config = match read {
            Ok(_) if gone => return self.refuse(said, "the file is gone"),
            Ok(config) => config,
            Err(error) => return self.refuse(said, &error.to_string()),
        };
        let containers = containers_for(&config);
        let policy = config.policy().resolved_with(&policy::canonical, &containers);
        compare(&self.config, &config, &mut said);
        if let Some(canaries) = &mut self.canaries {
            canaries.prepare(&policy);
        }
        if let Err(error) = self.widen(&policy, collector) {
            if let Some(canaries) = &mut self.canaries {
                canaries.give_up();
            }
            return self.refuse(said, &error);
        }
        let message = message(&said);
        tracing::info!(trigger, "{message}");
        self.put_in_force(config, policy, sha256, Some((said, message)));
    }

    /// Has the same rules applied to other containers.
    fn contain(&mut self, containers: &[Container], collector: &mut dyn Collector) {
        let policy = self.config.policy().resolved_with(&policy::canonical, containers);
        if let Err(error) = self.widen(&policy, collector) {
            return tracing::error!("rules are not applied to other containers: {error}");
        }
        self.put_in_force(self.config.clone(), policy, self.sha256.clone(), None);
    }

    /// Has the collector watch what this policy asks for as well.
    fn widen(&self, policy: &Policy, collector: &mut dyn Collector) -> Result<(), String> {
        let both = Policy::joined(&[&self.policy, policy, &self.own()]);
        collector.rescope(&both).map_err(|error| {
            if let Err(error) = collector.rescope(&self.watched()) {
                tracing::error!(%error, "what was watched may not be watched any more");
            }
            format!("it cannot be watched: {error}")
        })
    }

    fn put_in_force(
        &mut self,
        config: Config,
        policy: Policy,
        sha256: Option<String>,
        told: Option<(Configuration, String)>,
    ) {
        let (in_force, done) = oneshot::channel();
        let (baseline_taken, taken) = oneshot::channel();
        let contents = self.seeds.as_mut().and_then(|seeds| seeds.contents(&config));
        let moves = told.is_some();
        if let Some(reloader) = &self.reloader {
            reloader.reload(Reload {
                policy: policy.clone(),
                fold: config.events.fold,
                window: config.fold.window,
                settle: config.events.settle,
                alert_severity: config.events.alert_severity,
                suppressed_interval: config.events.suppressed_interval,
                contents,
                told,
                in_force,
                baseline_taken,
            });
        }
        self.taken = Some(taken);
        self.pending = Some(Pending { config, policy, sha256, moves, in_force: done });
    }

    fn refuse(&mut self, said: Configuration, error: &str) {
        tracing::error!("the configuration stays as it is: {error}");
        let errors = error.lines().map(str::to_owned).collect();
        let first = error.lines().next().unwrap_or_default();
        let message = format!("the configuration stays as it is: {first}");
        if let Some(reloader) = &self.reloader {
            reloader.refused(Refused { configuration: Configuration { errors, ..said }, message });
        }
    }

    fn in_force(&mut self, in_force: bool, collector: &mut dyn Collector) {
        let Some(pending) = self.pending.take().filter(|_| in_force) else { return };
        self.config = pending.config;
        self.policy = pending.policy;
        self.sha256 = pending.sha256;
        if let Some(canaries) = self.canaries.as_mut().filter(|_| pending.moves) {
            canaries.go_on(&self.policy);
        }
        self.narrow(collector);
        self.watch_containers(Vec::new());
    }

    /// Has the collector leave alone what nobody asks for any more.
    fn narrow(&self, collector: &mut dyn Collector) {
        if let Err(error) = collector.rescope(&self.watched()) {
            tracing::error!(%error, "more is watched than the policy asks for");
        }
    }
}

/// The containers that rules of this configuration are about.
pub(super) fn containers_for(config: &Config) -> Vec<Container> {
    if config.rules.iter().any(|rule| rule.containers) { containers::list() } else { Vec::new() }
}

/// Fills in what differs.
fn compare(old: &Config, new: &Config, said: &mut Configuration) {
    let names = |config: &Config| -> HashSet<String> {
        config.rules.iter().map(|rule| rule.name.clone()).collect()
    };
    let (before, after) = (names(old), names(new));
    let sorted = |names: Vec<&String>| {
        let mut names: Vec<String> = names.into_iter().cloned().collect();
        names.sort_unstable();
        names
    };
    said.rules_added = sorted(after.difference(&before).collect());
    said.rules_removed = sorted(before.difference(&after).collect());
    let changed = new
        .rules
        .iter()
        .filter(|rule| old.rules.iter().any(|other| other.name == rule.name && other != *rule));
    said.rules_changed = sorted(changed.map(|rule| &rule.name).collect());
    let listed = |pairs: &[(&str, bool)]| -> Vec<String> {
        pairs.iter().filter(|(_, differs)| *differs).map(|(key, _)| (*key).to_owned()).collect()
    };
    let order = |config: &Config| -> Vec<String> {
        let common = config.rules.iter().map(|rule| rule.name.clone());
        common.filter(|name| before.contains(name) && after.contains(name)).collect()
    };
    // Each key is here: one that nobody mentions would change nothing, and nobody would know.
    let Config {
        file: _,
        backend,
        journal,
        metrics,
        // In force through the rules.
        hash: Hash { max_size: _, workers, large },
        content,
        events,
        fold,
        collector,
        canary,
        packages,
        scan,
        sinks,
        rules: _,
        windows,
    } = old;
    said.settings_changed = listed(&[
        ("events", *events != new.events),
        ("fold", *fold != new.fold),
        ("maintenance", *windows != new.windows),
        ("sinks", *sinks != new.sinks),
        ("order of rules", order(old) != order(new)),
    ]);
    said.restart_needed = listed(&[
        ("backend", *backend != new.backend),
        ("journal", *journal != new.journal),
        ("metrics", *metrics != new.metrics),
        ("hash.workers", *workers != new.hash.workers),
        ("hash.large", *large != new.hash.large),
        ("content", *content != new.content),
        ("collector", *collector != new.collector),
        ("canary", *canary != new.canary),
        ("packages", *packages != new.packages),
        ("scan", *scan != new.scan),
        ("sink.stdout", stdout_sink(old).is_some() != stdout_sink(new).is_some()),
    ]);
}

/// What changed, for people.
fn message(said: &Configuration) -> String {
    let parts: Vec<String> = [
        ("added", &said.rules_added),
        ("removed", &said.rules_removed),
        ("changed", &said.rules_changed),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what} {}", names.join(", ")))
    .collect();
    let mut text = match parts.is_empty() {
        true => "configuration read again: the same rules".to_owned(),
        false => format!("configuration changed: rules {}", parts.join("; ")),
    };
    if !said.settings_changed.is_empty() {
        text.push_str(&format!("; {} changed", said.settings_changed.join(", ")));
    }
    if !said.restart_needed.is_empty() {
        let keys = said.restart_needed.join(", ");
        text.push_str(&format!("; {keys} in force after a restart"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("f.toml")).unwrap()
    }

    const RULE: &str = "[[rule]]\nname = 'a'\npaths = ['/a']\n";

    #[test]
    fn what_differs_is_named() {
        let old = parse(&format!("{RULE}[[rule]]\nname = 'b'\npaths = ['/b']"));
        let new = parse(&format!(
            "backend = 'bpf'\n[events]\nfold_ms = 1\n[canary]\ninterval = 9\n{RULE}severity = 3\n\
             [[rule]]\nname = 'c'\npaths = ['/c']"
        ));
        let mut said = Configuration::default();
        compare(&old, &new, &mut said);
        assert_eq!(said.rules_added, ["c"]);
        assert_eq!(said.rules_removed, ["b"]);
        assert_eq!(said.rules_changed, ["a"]);
        assert_eq!(said.settings_changed, ["events"]);
        assert_eq!(said.restart_needed, ["backend", "canary"]);
        let text = message(&said);
        assert_eq!(
            text,
            "configuration changed: rules added c; removed b; changed a; events changed; \
             backend, canary in force after a restart"
        );
        let silent = [
            "[hash]\nlarge = '1MiB'",
            "[content]\nmax_diff = 300",
            "[packages]\nhold = 9",
            "[scan]\nnice = 9",
        ];
        let all = parse(&format!("{}\n{RULE}content_diff = true\n", silent.join("\n")));
        let mut said = Configuration::default();
        compare(&old, &all, &mut said);
        assert_eq!(said.restart_needed, ["hash.large", "content", "packages", "scan"]);
        let mut same = Configuration::default();
        compare(&old, &old, &mut same);
        assert_eq!(same, Configuration::default());
    }
}
