//! What the collectors have to look at: the policy in terms of directories.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::pattern::{Extent, Pattern, below, bytes, trimmed};
use super::{Policy, Rule};

/// A place at and below which objects can match. It may hold objects that do not: the verdict is
/// exact, the watch is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// The directory; or, without `first`, perhaps a file. It need not exist.
    pub base: PathBuf,
    /// How many components below `base` can match; `None`: any number.
    pub depth: Option<u32>,
    /// The only name directly below `base` that matters; then `base` itself does not. `None`:
    /// any, and `base` too.
    pub first: Option<OsString>,
}

impl Watch {
    fn of(pattern: &Pattern) -> Self {
        let base = pattern.base();
        match (pattern.extent(), base.parent(), base.file_name()) {
            // A link's own inode says nothing of the moment when it is replaced: its directory
            // does.
            (Extent::Object, Some(parent), Some(name)) => {
                Self { base: parent.into(), depth: Some(1), first: Some(name.into()) }
            }
            _ => Self { base: base.into(), depth: pattern.depth(), first: None },
        }
    }

    /// Whether the object at `path` lies in this watch.
    pub fn covers(&self, path: &Path) -> bool {
        let Some(rest) = below(bytes(&self.base), trimmed(path)) else { return false };
        let mut names = rest.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
        if let Some(first) = &self.first
            && names.peek() != Some(&first.as_encoded_bytes())
        {
            return false;
        }
        self.depth.is_none_or(|depth| names.count() <= depth as usize)
    }

    /// Whether everything in `other` lies in this watch.
    fn covers_all_of(&self, other: &Self) -> bool {
        // The topmost object of the other.
        let top = match &other.first {
            Some(first) => other.base.join(first),
            None => other.base.clone(),
        };
        let lowest = |watch: &Self, depth: u32| watch.base.components().count() + depth as usize;
        let fits =
            |depth| other.depth.is_some_and(|more| lowest(other, more) <= lowest(self, depth));
        self.covers(&top) && self.depth.is_none_or(fits)
    }
}

impl Policy {
    /// What has to be watched so that nothing any rule asks for is missed: each place once, none
    /// that lies in another. Sorted.
    pub fn watches(&self) -> Vec<Watch> {
        let mut deepest: BTreeMap<(PathBuf, Option<OsString>), Option<u32>> = BTreeMap::new();
        for watch in self.rules.iter().flat_map(|rule| &rule.paths).map(Watch::of) {
            deepest
                .entry((watch.base, watch.first))
                // `None` is the deepest, and not the smallest as `Ord` has it.
                .and_modify(|depth| *depth = depth.zip(watch.depth).map(|(a, b)| a.max(b)))
                .or_insert(watch.depth);
        }
        let watches: Vec<Watch> = deepest
            .into_iter()
            .map(|((base, first), depth)| Watch { base, depth, first })
            .collect();
        let is_covered = |watch: &Watch| {
            watches.iter().any(|other| other != watch && other.covers_all_of(watch))
        };
        watches.iter().filter(|watch| !is_covered(watch)).cloned().collect()
    }

    /// Directories below which no rule can match although they lie in a watched place: what a
    /// collector can drop early and a scan need not enter. None lies in another. Sorted.
    ///
    /// A directory itself may still be watched; it is what lies below it that is not.
    pub fn prunes(&self) -> Vec<PathBuf> {
        let mut prunes: Vec<PathBuf> = Vec::new();
        let mut excluded: Vec<&Path> = self
            .rules
            .iter()
            .flat_map(|rule| &rule.exclude)
            .filter(|pattern| pattern.is_whole_below())
            .map(Pattern::base)
            .collect();
        // An ancestor comes before what lies below it.
        excluded.sort_unstable();
        for path in excluded {
            let is_below_another = prunes.iter().any(|prune| path.starts_with(prune));
            if !is_below_another && !self.rules.iter().any(|rule| asks_below(rule, path)) {
                prunes.push(path.into());
            }
        }
        prunes
    }

    /// Whether something below the directory `path` can be covered; the directory itself may not be.
    pub fn reaches_below(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| asks_below(rule, path))
    }
}

/// Whether `rule` can match something below `path`.
fn asks_below(rule: &Rule, path: &Path) -> bool {
    let is_excluded = rule.exclude.iter().any(|pattern| {
        pattern.is_whole_below() && below(bytes(pattern.base()), trimmed(path)).is_some()
    });
    !is_excluded && rule.paths.iter().any(|pattern| pattern.can_match_below(path))
}
