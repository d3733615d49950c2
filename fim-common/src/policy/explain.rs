//! Why a rule decides about a path, or why none does: what `fim explain` prints.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use super::pattern::{Pattern, below, bytes};
use super::{Policy, Rule};

/// A rule, and its pattern that is spoken of.
#[derive(Clone, Copy, Debug)]
pub struct Match<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The pattern.
    pub pattern: &'p Pattern,
}

/// A rule that would match but for an exclusion.
#[derive(Clone, Copy, Debug)]
pub struct Exclusion<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The pattern that matches.
    pub pattern: &'p Pattern,
    /// The exclusion that matches too.
    pub exclude: &'p Pattern,
}

/// Why the deciding rule comes before the runner-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its severity is higher.
    Severity,
    /// Its pattern is more specific.
    Specificity,
    /// It is defined earlier.
    Order,
}

/// What the policy says of one path, whatever happens there.
#[derive(Clone, Debug)]
pub struct Explanation<'p> {
    /// The path that was asked for.
    pub path: PathBuf,
    /// The rule that decides.
    pub deciding: Option<Match<'p>>,
    /// Other rules that match, in the order in which they would decide. One of them decides about
    /// the actions that those before it do not ask for.
    pub others: Vec<Match<'p>>,
    /// Rules that would match but for an exclusion.
    pub excluded: Vec<Exclusion<'p>>,
    /// Patterns that begin with an ancestor of the path, and yet do not match.
    pub near: Vec<Match<'p>>,
}

impl Explanation<'_> {
    /// Why the deciding rule comes before the runner-up, where there is one.
    pub fn reason(&self) -> Option<Reason> {
        let (first, second) = (self.deciding?, self.others.first()?);
        Some(if first.rule.severity != second.rule.severity {
            Reason::Severity
        } else if first.pattern.specificity() != second.pattern.specificity() {
            Reason::Specificity
        } else {
            Reason::Order
        })
    }
}

impl Policy {
    /// What the policy says of the canonical `path`.
    pub fn explain(&self, path: &Path) -> Explanation<'_> {
        let subject = super::windows::subject(path);
        let bytes_of_path = &*subject;
        let mut matching = Vec::new();
        let mut excluded = Vec::new();
        let mut near = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let best = rule
                .paths
                .iter()
                .filter(|pattern| pattern.matches_bytes(bytes_of_path))
                .max_by_key(|pattern| pattern.specificity());
            let Some(pattern) = best else {
                near.extend(
                    rule.paths
                        .iter()
                        .filter(|pattern| {
                            let rest = below(bytes(pattern.base()), bytes_of_path);
                            !pattern.is_object() && rest.is_some_and(|rest| !rest.is_empty())
                        })
                        .map(|pattern| Match { rule, pattern }),
                );
                continue;
            };
            match rule.exclude.iter().find(|pattern| pattern.matches_bytes(bytes_of_path)) {
                Some(exclude) => excluded.push(Exclusion { rule, pattern, exclude }),
                None => {
                    let rank = (rule.severity, pattern.specificity(), Reverse(index));
                    matching.push((rank, Match { rule, pattern }));
                }
            }
        }
        matching.sort_by_key(|&(rank, _)| Reverse(rank));
        let mut matching = matching.into_iter().map(|(_, found)| found);
        Explanation {
            path: path.into(),
            deciding: matching.next(),
            others: matching.collect(),
            excluded,
            near,
        }
    }
}
