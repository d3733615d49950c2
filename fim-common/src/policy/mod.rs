//! The policy: which objects are watched, and which rule decides about an event. Pure: values in,
//! verdict out, except for [`canonical`], which asks the disk.
//!
//! When several rules match, the one with the highest severity decides; among equals the one
//! whose pattern is more specific (more literal text at its beginning), then the one defined
//! first. An exclusion takes an object out of its own rule only. What the deciding rule makes of an
//! operation, by whom and when it was done, is its [`Standing`].
//!
//! Invariant: a verdict never depends on what exists on disk. A policy is matched against
//! canonical paths, so symbolic links in its own paths are resolved once, by
//! [`Policy::resolved`].

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::event::Action;
use crate::event::actor::Actor;

mod canonical;
mod condition;
mod containers;
mod explain;
mod glob;
pub mod maintenance;
mod pattern;
mod registry;
mod rule;
mod sets;
mod standing;
mod watch;
mod windows;

#[cfg(test)]
mod tests;

pub use canonical::{canonical, canonical_in, on_disk};
pub use condition::Condition;
pub use containers::{Container, Place};
pub use explain::{Exclusion, Explanation, Match, Reason};
pub use glob::{PatternError, PatternErrorKind};
pub use maintenance::Window;
pub use pattern::Pattern;
pub use registry::{RegistryError, RegistryPattern};
pub use rule::{DEFAULT_MAX_HASH_SIZE, DEFAULT_SEVERITY, Operations, Rule};
pub use sets::{BUILT_IN, BuiltIn, Platform, RegistryItem, Set, recommended, rules_of};
pub use standing::{Circumstances, Expect, Standing};
pub use watch::Watch;
pub(crate) use windows::{is_absolute as is_absolute_windows, subject};

use pattern::trimmed;

/// All rules, in the order of their definition, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Paths are those of Windows, matched by their keys.
    is_windows: bool,
    rules: Vec<Rule>,
    /// In which changes are expected.
    windows: Vec<Window>,
    /// All patterns by their base: a path asks for each of its ancestors, so that the cost grows
    /// with its depth and with the patterns that begin there, not with the number of rules.
    by_base: HashMap<Box<[u8]>, Vec<Slot>>,
    /// Whether a base is that long: most ancestors need not be asked for.
    lengths: Vec<bool>,
    /// Where the host has the root directories of containers in which something is watched.
    containers: Vec<PathBuf>,
}

/// One pattern of one rule.
#[derive(Clone, Copy, Debug)]
struct Slot {
    rule: usize,
    pattern: usize,
}

/// The rule that decides about an event.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'p> {
    /// It.
    pub rule: &'p Rule,
    /// Its pattern that matched.
    pub pattern: &'p Pattern,
    /// The rule that would decide without it.
    pub runner_up: Option<&'p Rule>,
}

/// A rule that matches, and what it counts by in comparison with others.
#[derive(Clone, Copy)]
struct Candidate<'p> {
    rule: &'p Rule,
    pattern: &'p Pattern,
    rank: (u8, usize, Reverse<usize>),
}

impl Policy {
    /// A policy of these rules; earlier ones win between equals.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut by_base: HashMap<Box<[u8]>, Vec<Slot>> = HashMap::new();
        for (rule_index, rule) in rules.iter().enumerate() {
            for (pattern_index, pattern) in rule.paths.iter().enumerate() {
                let slot = Slot { rule: rule_index, pattern: pattern_index };
                by_base.entry(trimmed(pattern.base()).into()).or_default().push(slot);
            }
        }
        let mut lengths = vec![false; by_base.keys().map(|base| base.len() + 1).max().unwrap_or(0)];
        for base in by_base.keys() {
            lengths[base.len()] = true;
        }
        Self { rules, by_base, lengths, ..Self::default() }
    }

    /// A policy for Windows paths, of rules whose patterns come from [`Pattern::parse_windows`].
    /// Nothing of it depends on the system on which it is asked.
    pub fn for_windows(rules: Vec<Rule>) -> Self {
        Self { is_windows: true, ..Self::new(rules) }
    }

    /// A policy of these rules, whose paths are of the same kind as those of this one.
    #[must_use]
    pub(crate) fn with_rules(&self, rules: Vec<Rule>) -> Self {
        Self { is_windows: self.is_windows, ..Self::new(rules) }
    }

    /// The same policy with these maintenance windows.
    #[must_use]
    pub fn with_windows(self, windows: Vec<Window>) -> Self {
        Self { windows, ..self }
    }

    /// What any of these asks for: to be watched, not to decide.
    pub fn joined(policies: &[&Self]) -> Self {
        let rules = policies.iter().flat_map(|policy| policy.rules.iter().cloned()).collect();
        Self { is_windows: policies.iter().any(|policy| policy.is_windows), ..Self::new(rules) }
    }

    /// The maintenance windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Where what the policy is about lies on the disk, as roots of a scan: each place, whether it
    /// is the only object there that matters, and how deep. Places of Windows are spelled as the
    /// rules have them in lower case.
    pub fn places(&self) -> Vec<(PathBuf, Option<u32>)> {
        let watches = self.watches().into_iter();
        let places = watches.map(|watch| match watch.first {
            Some(first) => (watch.base.join(first), Some(0)),
            None => (watch.base, watch.depth),
        });
        match self.is_windows {
            true => places
                .filter_map(|(base, depth)| windows::place(&base).map(|place| (place, depth)))
                .collect(),
            false => places.collect(),
        }
    }

    /// The registry keys that rules are about, each once.
    pub fn registry_keys(&self) -> Vec<&RegistryPattern> {
        let mut keys: Vec<&RegistryPattern> = Vec::new();
        for pattern in self.rules.iter().flat_map(|rule| &rule.registry) {
            if !keys.contains(&pattern) {
                keys.push(pattern);
            }
        }
        keys
    }

    /// The rules, in the order of their definition.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The same policy for canonical paths: each literal directory at the beginning of a pattern
    /// is replaced by what `canonicalize` makes of it (the canonical form of its longest existing
    /// prefix, and the rest). Where that directory is itself a symbolic link, the link stays
    /// watched too, as a single object.
    ///
    /// To resolve again after a link has changed, begin with the policy as it was configured.
    #[must_use]
    pub fn resolved(&self, canonicalize: &dyn Fn(&Path) -> PathBuf) -> Self {
        self.resolved_with(canonicalize, &[])
    }

    /// As [`Self::resolved`]; the paths of rules with `containers` are resolved in each of these
    /// too.
    #[must_use]
    pub fn resolved_with(
        &self,
        canonicalize: &dyn Fn(&Path) -> PathBuf,
        containers: &[Container],
    ) -> Self {
        // Its bases are keys and no paths, and what the kernel names has no links in it.
        if self.is_windows {
            return self.clone();
        }
        let resolve = |patterns: &[Pattern], containers: &[Container]| {
            let mut resolved: Vec<Pattern> = Vec::with_capacity(patterns.len());
            let on_host = patterns.iter().flat_map(|pattern| pattern.resolved(canonicalize));
            let inside = containers.iter().flat_map(|container| {
                patterns.iter().flat_map(|pattern| container.patterns(pattern))
            });
            for pattern in on_host.chain(inside) {
                if !resolved.iter().any(|known| known.same_extent(&pattern)) {
                    resolved.push(pattern);
                }
            }
            resolved
        };
        let of = |rule: &Rule| if rule.containers { containers } else { &[] };
        let rules = self.rules.iter().map(|rule| Rule {
            paths: resolve(&rule.paths, of(rule)),
            exclude: resolve(&rule.exclude, of(rule)),
            only: rule.only.iter().map(|only| only.resolved(canonicalize)).collect(),
            allow: rule.allow.iter().map(|allow| allow.resolved(canonicalize)).collect(),
            suppress: rule.suppress.iter().map(|entry| entry.resolved(canonicalize)).collect(),
            ..rule.clone()
        });
        let roots = containers.iter().filter_map(Container::host_root).map(Path::to_owned);
        let roots = roots.filter(|_| self.wants_containers()).collect();
        Self { containers: roots, ..Self::new(rules.collect()).with_windows(self.windows.clone()) }
    }

    /// Whether a rule is about containers.
    pub fn wants_containers(&self) -> bool {
        self.rules.iter().any(|rule| rule.containers)
    }

    /// Where the host has the root directories of the containers with which it was resolved.
    pub fn containers(&self) -> &[PathBuf] {
        &self.containers
    }

    /// The rule that decides about `action` on the object at the canonical `path`, whoever does it;
    /// `None` when no rule asks for it.
    pub fn verdict(&self, path: &Path, action: Action) -> Option<Verdict<'_>> {
        let (first, second) = self.best_two(path, |rule| rule.operations.contains(action));
        let first = first?;
        let runner_up = second.map(|second| second.rule);
        Some(Verdict { rule: first.rule, pattern: first.pattern, runner_up })
    }

    /// As [`Self::verdict`], for an operation by somebody: rules with `only` are asked too, and
    /// count where one of its entries holds.
    pub fn decide(&self, path: &Path, action: Action, actor: &Actor) -> Option<Verdict<'_>> {
        let asks = |rule: &Rule| {
            rule.operations.contains(action)
                && (rule.only.is_empty()
                    || rule.only.iter().any(|only| only.holds(path, action, actor)))
        };
        let (first, second) = self.best_two(path, asks);
        let first = first?;
        let runner_up = second.map(|second| second.rule);
        Some(Verdict { rule: first.rule, pattern: first.pattern, runner_up })
    }

    /// The rule that decides about a registry key (`value` is `None`) or value, and the pattern of
    /// it that matches. Rules are ranked as for files.
    pub fn registry(
        &self,
        key: &str,
        value: Option<&str>,
        action: Action,
    ) -> Option<(&Rule, &RegistryPattern)> {
        let matching = self.rules.iter().enumerate().flat_map(|(index, rule)| {
            let patterns = rule.registry.iter().filter(|pattern| pattern.matches(key, value));
            patterns.map(move |pattern| {
                ((rule.severity, pattern.specificity(), Reverse(index)), rule, pattern)
            })
        });
        matching
            .filter(|(_, rule, _)| rule.operations.contains(action))
            .max_by_key(|&(rank, ..)| rank)
            .map(|(_, rule, pattern)| (rule, pattern))
    }

    /// The rule that decides about the object at the canonical `path` as such, whatever happens
    /// to it: whether it belongs in the baseline, and whether its content is hashed.
    pub fn covers(&self, path: &Path) -> Option<&Rule> {
        self.best_two(path, |_| true).0.map(|first| first.rule)
    }

    /// The two best rules among those that `asks` lets through.
    fn best_two(
        &self,
        path: &Path,
        asks: impl Fn(&Rule) -> bool,
    ) -> (Option<Candidate<'_>>, Option<Candidate<'_>>) {
        let subject = match self.is_windows {
            // Also of what looks like a path of Linux.
            true => windows::key(&path.to_string_lossy()).into_bytes().into(),
            false => Cow::Borrowed(trimmed(path)),
        };
        let path = &*subject;
        let mut first: Option<Candidate<'_>> = None;
        let mut second: Option<Candidate<'_>> = None;
        self.each_match(path, |slot, rule, pattern| {
            let rank = (rule.severity, pattern.specificity(), Reverse(slot.rule));
            let candidate = Candidate { rule, pattern, rank };
            let same = |other: &Candidate<'_>| other.rank.2 == candidate.rank.2;
            let beats = |other: &Option<Candidate<'_>>| {
                other.as_ref().is_none_or(|other| candidate.rank > other.rank)
            };
            // The exclusions are asked last: they cost more than the rank.
            if !beats(&second) && !beats(&first) || !asks(rule) || is_excluded(rule, path) {
                return;
            }
            if beats(&first) {
                if !first.as_ref().is_some_and(same) {
                    second = first;
                }
                first = Some(candidate);
            } else if !first.as_ref().is_some_and(same) {
                second = Some(candidate);
            }
        });
        (first, second)
    }

    /// Calls `found` for each pattern that matches, exclusions not considered.
    fn each_match<'p>(&'p self, path: &[u8], mut found: impl FnMut(Slot, &'p Rule, &'p Pattern)) {
        if path.first() != Some(&b'/') {
            return;
        }
        let mut ancestor = |end: usize| {
            if self.lengths.get(end) != Some(&true) {
                return;
            }
            for &slot in self.by_base.get(&path[..end]).into_iter().flatten() {
                let rule = &self.rules[slot.rule];
                let pattern = &rule.paths[slot.pattern];
                let rest = path[end..].strip_prefix(b"/").unwrap_or(&path[end..]);
                if pattern.matches_below(rest) {
                    found(slot, rule, pattern);
                }
            }
        };
        ancestor(1);
        if path.len() > 1 {
            let slashes = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/');
            slashes.for_each(|(end, _)| ancestor(end));
            ancestor(path.len());
        }
    }
}

fn is_excluded(rule: &Rule, path: &[u8]) -> bool {
    rule.exclude.iter().any(|pattern| pattern.matches_bytes(path))
}
