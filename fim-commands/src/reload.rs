//! Another configuration while the agent runs.
//!
//! The steps are in `fim_common::pipeline::reload`. Here the file is read, what differs is named, and
//! the collector is told. A file that is wrong changes nothing, and is told. What tells that there is
//! something to read is the agent's.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim_common::baseline::Baseline;
use fim_common::collector::Collector;
use fim_common::config::sink::{Sink, Target};
use fim_common::config::{self, Config, Hash};
use fim_common::content::Contents;
use fim_common::event::Configuration;
use fim_common::pipeline::{Pipeline, Refused, Reload, Reloader};
use fim_common::policy::{self, Pattern, Policy, Rule};
use tokio::sync::oneshot;

use crate::start::{Arguments, read_configuration, stdout_sink};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The new policy is in force; or the pipeline has ended.
    InForce(bool),
    /// What is newly watched is in the baseline.
    Taken,
}

/// What goes where the policy does, on the systems that have it.
pub trait Followers {
    /// The collector is about to be told of this policy as well.
    fn prepare(&mut self, policy: &Policy);
    /// It is refused.
    fn give_up(&mut self);
    /// Where contents are kept from now on, if a rule of this configuration wants it.
    fn contents(&mut self, config: &Config) -> Option<Arc<Contents>>;
    /// The policy is in force.
    fn go_on(&mut self, policy: &Policy);
    /// What is newly watched is in the baseline.
    fn taken(&mut self, policy: &Policy, baseline: &Arc<Baseline>);
}

/// A policy on its way into force.
struct Pending {
    config: Config,
    policy: Policy,
    sha256: Option<String>,
    /// It is another one, not the same one for other containers.
    is_new: bool,
    in_force: oneshot::Receiver<()>,
}

/// What is in force, and how it is replaced.
pub struct Reloading {
    arguments: Arguments,
    config: Config,
    policy: Policy,
    sha256: Option<String>,
    /// Of the file that was looked at last; a wrong one is told once.
    seen: Option<String>,
    /// The configuration file; `None`: the command line says it all.
    file: Option<PathBuf>,
    /// What else belongs to the agent.
    others: Policy,
    reloader: Option<Reloader>,
    pending: Option<Pending>,
    taken: Option<oneshot::Receiver<()>>,
    /// Standard output belongs to a sink.
    has_stdout: bool,
}

impl Reloading {
    /// Of the configuration with which the agent starts, and its policy as it applies here.
    /// `others`: what belongs to the agent besides the configuration file.
    pub fn new(
        arguments: Arguments,
        config: &Config,
        policy: Policy,
        sha256: Option<String>,
        others: Policy,
    ) -> Self {
        let default = Path::new(config::DEFAULT_PATH);
        let file = arguments.config.as_deref().unwrap_or(default);
        let file = (!arguments.has_no_file()).then(|| file.to_owned());
        Self {
            policy,
            config: config.clone(),
            arguments,
            seen: sha256.clone(),
            sha256,
            file,
            others,
            reloader: None,
            pending: None,
            taken: None,
            has_stdout: stdout_sink(config).is_some(),
        }
    }

    /// The configuration file; `None`: the command line says it all.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The policy in force, resolved.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where events go, of the configuration in force. Whether one of them is standard output was
    /// decided at the start.
    pub fn sinks(&self) -> Vec<Sink> {
        let is_stdout = |sink: &Sink| sink.target == Target::Stdout;
        let wanted = self.config.sinks.iter().filter(|sink| !is_stdout(sink) || self.has_stdout);
        wanted.cloned().collect()
    }

    /// What the collector has to watch: that, and what belongs to the agent, so that who changes it
    /// can be named.
    pub fn watched(&self) -> Policy {
        Policy::joined(&[&self.policy, &self.file_rule(), &self.others])
    }

    fn file_rule(&self) -> Policy {
        own_rule(self.file.clone())
    }

    /// Before the pipeline runs.
    pub fn begin(&mut self, pipeline: &mut Pipeline) {
        let own = self.file_rule();
        let names = own.rules().iter().flat_map(|rule| &rule.paths);
        let names = names.filter_map(|pattern| match cfg!(windows) {
            // Its base is a key.
            true => policy::on_disk(pattern.base()),
            false => Some(pattern.base().to_owned()),
        });
        let names = names.collect();
        self.reloader = Some(pipeline.reloader(names));
    }

    /// Whether a policy is on its way: what comes meanwhile waits until it is there.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits for what was begun to get on. May be dropped at any time.
    pub async fn step(&mut self) -> Step {
        if let Some(pending) = &mut self.pending {
            return Step::InForce((&mut pending.in_force).await.is_ok());
        }
        match &mut self.taken {
            Some(taken) => {
                // Closed without a word: the pipeline has ended.
                let _ = taken.await;
                Step::Taken
            }
            None => std::future::pending().await,
        }
    }

    /// Does it. Blocks while the collector is told.
    pub fn take(
        &mut self,
        step: Step,
        collector: &mut dyn Collector,
        baseline: &Arc<Baseline>,
        followers: Option<&mut dyn Followers>,
    ) {
        match step {
            Step::InForce(in_force) => self.in_force(in_force, collector, followers),
            Step::Taken => {
                self.taken = None;
                match baseline.linked() {
                    Ok(files) => collector.watch_linked(files),
                    Err(error) => tracing::error!(%error, "the baseline cannot be read"),
                }
                if let Some(followers) = followers {
                    followers.taken(&self.policy, baseline);
                }
            }
        }
    }

    /// Reads the file again because of `trigger`; one that only may have changed (`file_change`) is
    /// not told of if it has not. `resolve` makes of a configuration the policy as it applies here.
    pub fn read(
        &mut self,
        trigger: &str,
        collector: &mut dyn Collector,
        mut followers: Option<&mut dyn Followers>,
        resolve: &dyn Fn(&Config) -> Policy,
    ) {
        if self.file.is_none() {
            return tracing::warn!(
                trigger,
                "there is no configuration file to read; the command line says all"
            );
        }
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
        let policy = resolve(&config);
        compare(&self.config, &config, &mut said);
        if let Some(followers) = &mut followers {
            followers.prepare(&policy);
        }
        if let Err(error) = self.widen(&policy, collector) {
            if let Some(followers) = followers {
                followers.give_up();
            }
            return self.refuse(said, &error);
        }
        let message = message(&said);
        tracing::info!(trigger, "{message}");
        self.put_in_force(config, policy, sha256, Some((said, message)), followers);
    }

    /// Has the same rules applied to other places: `policy` is what they mean now.
    ///
    /// # Errors
    /// When the collector cannot watch them.
    pub fn apply(
        &mut self,
        policy: Policy,
        collector: &mut dyn Collector,
        followers: Option<&mut dyn Followers>,
    ) -> Result<(), String> {
        self.widen(&policy, collector)?;
        self.put_in_force(self.config.clone(), policy, self.sha256.clone(), None, followers);
        Ok(())
    }

    /// Has the collector watch what this policy asks for as well.
    fn widen(&self, policy: &Policy, collector: &mut dyn Collector) -> Result<(), String> {
        let both = Policy::joined(&[&self.policy, policy, &self.file_rule(), &self.others]);
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
        followers: Option<&mut dyn Followers>,
    ) {
        let contents = followers.and_then(|followers| followers.contents(&config));
        let is_new = told.is_some();
        let (in_force, done) = oneshot::channel();
        let (baseline_taken, taken) = oneshot::channel();
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
        self.pending = Some(Pending { config, policy, sha256, is_new, in_force: done });
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

    fn in_force(
        &mut self,
        in_force: bool,
        collector: &mut dyn Collector,
        followers: Option<&mut dyn Followers>,
    ) {
        let Some(pending) = self.pending.take().filter(|_| in_force) else { return };
        self.config = pending.config;
        self.policy = pending.policy;
        self.sha256 = pending.sha256;
        if let Some(followers) = followers.filter(|_| pending.is_new) {
            followers.go_on(&self.policy);
        }
        self.narrow(collector);
    }

    /// Has the collector leave alone what nobody asks for any more.
    pub fn narrow(&self, collector: &mut dyn Collector) {
        if let Err(error) = collector.rescope(&self.watched()) {
            tracing::error!(%error, "more is watched than the policy asks for");
        }
    }
}

/// A rule for what belongs to the agent. It makes no event: the pipeline knows the paths.
pub fn own_rule(path: Option<PathBuf>) -> Policy {
    let rule = path.map(|path| {
        let path = std::path::absolute(&path).unwrap_or(path);
        let pattern = match cfg!(windows) {
            true => Pattern::literal_windows(&path),
            false => Pattern::literal(path),
        };
        Rule { hash: false, attempts: false, ..Rule::new("the agent's own", vec![pattern]) }
    });
    let rules = rule.into_iter().collect();
    let own = if cfg!(windows) { Policy::for_windows(rules) } else { Policy::new(rules) };
    own.resolved(&policy::canonical)
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
