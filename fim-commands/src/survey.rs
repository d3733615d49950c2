//! What `fim run`, `fim check` and `fim baseline` compare, and how they show how far they are.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fim_common::baseline::{Baseline, PROGRAM};
use fim_common::config::Config;
use fim_common::ignored::Ignored;
use fim_common::pipeline::{scan_rule, scope_of};
use fim_common::policy::{self, Policy};
use fim_common::scan::{self, Limits, Progress, Root, ScanRule, Scope};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Failure, Site, exit};

/// How often a scan says how far it is where there is no terminal.
const SAY: Duration = Duration::from_secs(10);

/// The watched objects, or a part of them.
pub struct Survey {
    /// By which objects are watched.
    pub policy: Policy,
    /// What is nobody's business.
    pub ignore: Ignored,
    /// Where what is watched begins.
    watched: Vec<Root>,
    /// Where to look.
    pub roots: Vec<Root>,
}

impl Survey {
    /// Everything that is watched. What is the agent's own is left out.
    pub fn new(policy: Policy, ignore: Ignored) -> Self {
        let watched = scope_of(&policy);
        Self { policy, ignore, roots: watched.clone(), watched }
    }

    /// The same for a command beside the agent, which has canaries of its own.
    pub fn of(site: &dyn Site, config: &Config, state_dir: &Path, agent_id: Option<&str>) -> Self {
        let policy = site.policy(config);
        let state = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let canaries =
            agent_id.map_or_else(Vec::new, |id| site.own_directories(&policy, &state, id));
        let trees = std::iter::once(state).chain(canaries.iter().cloned()).collect();
        Self::new(policy, Ignored::new(trees, &canaries))
    }

    /// Only what is at and below these paths (empty: everything).
    ///
    /// # Errors
    /// A path at and below which nothing is watched.
    pub fn at(mut self, paths: &[PathBuf]) -> Result<Self, PathBuf> {
        if paths.is_empty() {
            return Ok(self);
        }
        let mut roots = Vec::new();
        for path in paths {
            let path = object(path);
            let count = roots.len();
            roots.extend(self.watched.iter().filter(|root| root.path.starts_with(&path)).cloned());
            let within = self.watched.iter().any(|root| path.starts_with(&root.path));
            if within && self.may_hold(&path) {
                roots.push(Root { path: path.clone(), depth: None });
            } else if count == roots.len() {
                return Err(path);
            }
        }
        self.roots = roots;
        Ok(self)
    }

    /// Leaves out, and names, what no scan has taken completely: that it is not in the baseline is no
    /// difference. Whether there is any.
    ///
    /// # Errors
    /// When there is nothing else, or the baseline cannot be read; with the exit code.
    pub(crate) fn leave_out_unknown(&mut self, baseline: &Baseline) -> Result<bool, Failure> {
        const NAMED: usize = 8;
        let scanned = baseline
            .scanned()
            .map_err(|error| crate::baseline::unreadable(error, exit::INPUT_OUTPUT))?;
        let is_known = |root: &Root| scanned.iter().any(|scanned| root.path.starts_with(scanned));
        let unknown: Vec<String> = self
            .roots
            .extract_if(.., |root| !is_known(root))
            .map(|root| root.path.display().to_string())
            .collect();
        if unknown.is_empty() {
            return Ok(false);
        }
        let more = unknown.len().saturating_sub(NAMED);
        let mut places = unknown.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            places.push_str(&format!(" and {more} more"));
        }
        let message = format!(
            "the baseline is incomplete: the first scan of {places} has not ended; a running agent ends \
             it, and so does `{PROGRAM} baseline create`"
        );
        if self.roots.is_empty() {
            return Err(Failure::new(exit::NO_INPUT, message));
        }
        tracing::warn!("{message}; the rest is looked at");
        Ok(true)
    }

    /// Whether what is at `path` belongs to what is watched.
    pub fn watches(&self, path: &Path) -> bool {
        self.watched.iter().any(|root| path.starts_with(&root.path))
    }

    fn may_hold(&self, path: &Path) -> bool {
        self.policy.covers(path).is_some()
            || self.watched.iter().any(|root| match (path.strip_prefix(&root.path), root.depth) {
                (Ok(_), None) => true,
                // What matches is at most so far below.
                (Ok(below), Some(depth)) => below.components().count() < depth,
                (Err(_), _) => root.path.starts_with(path),
            })
    }

    /// How an object is scanned; `None`: it is not.
    pub fn rule(&self, path: &Path) -> Option<ScanRule> {
        scan_rule(&self.policy, path).filter(|_| !self.ignore.contains(path))
    }

    /// Whether to look into a directory.
    pub fn descend(&self, path: &Path) -> bool {
        !self.ignore.contains(path) && self.may_hold(path)
    }

    /// Has `work` done with the scope of this survey, and shows how far it is.
    pub fn with_progress<T>(
        &self,
        limits: Limits,
        deep: bool,
        cancel: &AtomicBool,
        known: Option<u64>,
        work: impl FnOnce(Scope<'_>, scan::Options<'_>) -> T,
    ) -> T {
        let rule = |path: &Path| self.rule(path);
        let descend = |path: &Path| self.descend(path);
        let scope = Scope { roots: &self.roots, rule: &rule, descend: &descend };
        let bar = Bar::new(known);
        let ended = AtomicBool::new(false);
        std::thread::scope(|threads| {
            if bar.is_shown() && known.is_none() {
                // How much there is to do is not known before: counting the names takes a small
                // part of the time that looking at the objects does.
                let (bar, ended) = (&bar, &ended);
                threads.spawn(move || bar.count(scope, ended));
            }
            let progress = |progress: Progress| bar.show(progress);
            let done = work(scope, scan::Options { limits, deep, cancel, progress: &progress });
            ended.store(true, Ordering::Relaxed);
            bar.clear();
            done
        })
    }
}

/// The canonical path of the object itself: a link that it is is not followed.
pub(crate) fn object(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => policy::canonical(parent).join(name),
        _ => policy::canonical(&path),
    }
}

/// How far a scan is: a bar on a terminal, else lines in the log.
struct Bar {
    bar: ProgressBar,
    since: Instant,
    /// Objects there are to look at; 0: not known.
    total: AtomicU64,
    /// Seconds after which it was said last.
    said: AtomicU64,
}

impl Bar {
    fn new(known: Option<u64>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = match terminal {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(known, target);
        let bar = Self {
            bar,
            since: Instant::now(),
            total: AtomicU64::new(known.unwrap_or(0)),
            said: AtomicU64::new(0),
        };
        bar.style(known.is_some());
        bar
    }

    fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn style(&self, bounded: bool) {
        let template = match bounded {
            true => "{wide_bar} {human_pos}/{human_len} objects, {msg}, {per_sec}, {eta} left",
            false => "{spinner} {human_pos} objects, {msg}, {per_sec}",
        };
        // The templates are ours: they are right.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// Counts what there is to look at.
    fn count(&self, scope: Scope<'_>, ended: &AtomicBool) {
        let count = AtomicU64::new(0);
        let rule = |path: &Path| {
            if (scope.rule)(path).is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            // Without a rule nothing is opened, and only directories are looked at.
            None
        };
        let limits = Limits { threads: 1, ..Limits::default() };
        let options = scan::Options { limits, deep: false, cancel: ended, progress: &|_| {} };
        let scope = Scope { rule: &rule, ..scope };
        match scan::walk(scope, options, &mut |_, _, _| {}) {
            Ok(summary) if !summary.cancelled => {
                let count = count.load(Ordering::Relaxed);
                self.total.store(count, Ordering::Relaxed);
                self.bar.set_length(count);
                self.style(true);
            }
            _ => {}
        }
    }

    fn show(&self, progress: Progress) {
        let Progress { objects, bytes } = progress;
        if self.is_shown() {
            self.bar.set_position(objects);
            self.bar.set_message(format!("{} MiB read", bytes >> 20));
            return;
        }
        let elapsed = self.since.elapsed();
        let said = self.said.load(Ordering::Relaxed);
        if elapsed.as_secs() < said + SAY.as_secs() {
            return;
        }
        self.said.store(elapsed.as_secs(), Ordering::Relaxed);
        let rate = (objects as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        match self.total.load(Ordering::Relaxed) {
            0 => tracing::info!(objects, bytes, rate, "scanning"),
            total => tracing::info!(objects, of = total, bytes, rate, "scanning"),
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
