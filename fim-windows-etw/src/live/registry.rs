//! Registry keys by looking at them: what the rules are about, and what has become of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fim_common::baseline::{Baseline, BaselineError};
use fim_common::event::actor::Actor;
use fim_common::event::{Provider, RegistryData};
use fim_common::operation::{Operation, OperationKind, RegistryOperation};
use fim_common::policy::{Policy, RegistryPattern};
use fim_common::registry::{
    RegistryDifference, RegistryKey, RegistryKeys, RegistryValue, differences,
};
use fim_common::state::ObjectState;
use fim_common::time::Timestamp;
use fim_win32::registry::Key;
use sha2::{Digest as _, Sha256};

use crate::correlate::registry_data;
use crate::paths::RegistryPath;

/// Keys that are looked at; beyond, what lies deeper is left out, and that is said.
pub const KEYS_MAX: usize = 65_536;
/// Levels below a rule's key: Windows takes 512.
const DEPTH_MAX: usize = 512;
/// Content that is kept and told; of longer one only size and hash. Bytes.
const DATA_MAX: usize = 1024;
/// Where the baseline has what the keys in it were asked for by.
const SCOPE: &str = "registry_scope";

/// The keys that rules are about.
#[derive(Clone, Debug)]
pub struct Scope {
    patterns: Vec<RegistryPattern>,
    /// Where to look, and whether what is below matters.
    places: BTreeMap<String, bool>,
}

impl Scope {
    /// Of a policy. Rules about HKCU are about each user whose hive is loaded.
    pub fn of(policy: &Policy) -> Self {
        let patterns: Vec<RegistryPattern> = policy.registry_keys().into_iter().cloned().collect();
        let users = users();
        let mut places = BTreeMap::new();
        for pattern in &patterns {
            let (place, below) = pattern.place();
            let own: Vec<String> = match place.strip_prefix("HKCU") {
                Some(rest) => users.iter().map(|sid| format!(r"HKU\{sid}{rest}")).collect(),
                None => vec![place],
            };
            for place in own {
                *places.entry(place).or_insert(below) |= below;
            }
        }
        Self { patterns, places }
    }

    /// By what keys and values are asked for, as a text that [`Self::read_back`] reads.
    fn text(&self) -> String {
        let patterns: Vec<(&str, Option<&[String]>)> =
            self.patterns.iter().map(|pattern| (pattern.source(), pattern.values())).collect();
        // Plain texts: they cannot fail to be written.
        serde_json::to_string(&patterns).unwrap_or_default()
    }

    /// Whether the same keys and values are asked for.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.text() == other.text()
    }

    /// What is asked for by a text; without places to look at.
    fn read_back(text: &str) -> Self {
        let patterns: Vec<(String, Option<Vec<String>>)> =
            serde_json::from_str(text).unwrap_or_default();
        let patterns = patterns
            .into_iter()
            .filter_map(|(key, values)| RegistryPattern::parse(&key, values.as_deref()).ok());
        Self { patterns: patterns.collect(), places: BTreeMap::new() }
    }

    /// Where to look, and whether what is below matters.
    pub fn places(&self) -> impl Iterator<Item = (&str, bool)> {
        self.places.iter().map(|(place, below)| (place.as_str(), *below))
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a rule is about a key, or a value of it.
    pub fn asks(&self, name: &str, value: Option<&str>) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name, value))
    }

    /// Whether a rule is about a key, or a value of it, by any of its names.
    pub(super) fn wants(&self, names: &[String], value: Option<&str>) -> bool {
        names.iter().any(|name| self.asks(name, value))
    }

    /// What there is now, and how many keys found no room.
    pub fn look(&self) -> (RegistryKeys, u64) {
        let mut found = RegistryKeys::new();
        let mut left_out = 0;
        for (place, below) in self.places() {
            self.key(place, if below { DEPTH_MAX } else { 0 }, &mut found, &mut left_out);
        }
        (found, left_out)
    }

    fn key(&self, path: &str, depth: usize, found: &mut RegistryKeys, left_out: &mut u64) {
        if found.contains_key(path) {
            return;
        }
        // Gone, or not for us to read: what was known of it is compared by itself.
        let Ok(key) = Key::open(path) else { return };
        if found.len() >= KEYS_MAX {
            *left_out += 1;
            return;
        }
        let names = names_of(path);
        let whole = self.wants(&names, None);
        let values = key.values().unwrap_or_default();
        let values: BTreeMap<String, RegistryValue> = values
            .into_iter()
            .filter(|value| whole || self.wants(&names, Some(&value.name)))
            .map(|found| {
                let known = value(found.kind, &found.data);
                (found.name, known)
            })
            .collect();
        if whole || !values.is_empty() {
            let security = key.security().ok().filter(|_| whole);
            found.insert(path.to_owned(), RegistryKey { security, values });
        }
        if depth > 0 {
            for name in key.names().unwrap_or_default() {
                let below = format!(r"{path}\{name}");
                // A rule about all users is not about all that users have.
                let names = names_of(&below);
                let leads_on =
                    |name: &String| self.patterns.iter().any(|pattern| pattern.leads_to(name));
                if names.iter().any(leads_on) {
                    self.key(&below, depth - 1, found, left_out);
                }
            }
        }
    }
}

/// How many keys there are that a pattern means or, where it names values, how many of these there
/// are. What lies below a key that it means is not counted.
pub fn count(pattern: &RegistryPattern) -> usize {
    let levels = |path: &str| path.split('\\').count();
    let (mut found, mut looked) = (0, 0);
    let mut todo = vec![pattern.place().0];
    while let Some(path) = todo.pop() {
        looked += 1;
        let Ok(key) = Key::open(&path) else { continue };
        if levels(&path) < levels(pattern.source()) {
            // Where there are this many, more say no more.
            if looked < KEYS_MAX {
                let names = key.names().unwrap_or_default().into_iter();
                let below = names.map(|name| format!(r"{path}\{name}"));
                todo.extend(below.filter(|below| pattern.leads_to(below)));
            }
        } else if pattern.values().is_none() {
            found += usize::from(pattern.matches(&path, None));
        } else {
            let values = key.values().unwrap_or_default();
            found += values.iter().filter(|v| pattern.matches(&path, Some(&v.name))).count();
        }
    }
    found
}

/// What is kept of a value.
pub(super) fn value(kind: u32, data: &[u8]) -> RegistryValue {
    let short = data.len() <= DATA_MAX;
    let kept = registry_data(kind, if short { data } else { &[] });
    RegistryValue { data: kept, ..known_value(RegistryData::default(), data) }
}

/// What is kept of a value whose `data` was told already.
pub(super) fn known_value(mut data: RegistryData, bytes: &[u8]) -> RegistryValue {
    if bytes.len() > DATA_MAX {
        (data.bytes, data.strings) = (None, None);
    }
    let hash = Sha256::digest(bytes);
    RegistryValue {
        data,
        size: bytes.len() as u64,
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The users whose hives are loaded.
fn users() -> Vec<String> {
    let names = Key::open("HKU").and_then(|key| key.names()).unwrap_or_default();
    names.into_iter().filter(|n| n.starts_with("S-1-5-21-") && !n.ends_with("_Classes")).collect()
}

/// A key's path and its other names, by which a rule may mean it.
pub(super) fn names_of(path: &str) -> Vec<String> {
    let (hive, key) = path.split_once('\\').unwrap_or((path, ""));
    let path = RegistryPath { hive: Some(hive.to_owned()), key: key.to_owned() };
    std::iter::once(path.path()).chain(path.aliases()).collect()
}

/// Notes in the baseline for which keys it has what it has.
///
/// # Errors
/// When the baseline cannot be written.
pub(super) fn note_scope(baseline: &Baseline, scope: &Scope) -> Result<(), BaselineError> {
    baseline.set_meta(SCOPE, &scope.text())
}

/// Compares what there is with what the baseline has, and takes it into it. At the first look
/// nothing is a change, nor is what nobody had asked for until now, or does not any more.
///
/// # Errors
/// When the baseline cannot be read or written.
pub fn compare(baseline: &Baseline, scope: &Scope) -> Result<Vec<Operation>, BaselineError> {
    let (now, left_out) = scope.look();
    if left_out > 0 {
        tracing::warn!(
            left_out,
            limit = KEYS_MAX,
            "there are more registry keys than are compared"
        );
    }
    let asked = scope.text();
    let before = baseline.meta(SCOPE)?;
    let is_other = before.as_ref() != Some(&asked);
    if is_other {
        note_scope(baseline, scope)?;
    }
    let Some(known) = baseline.registry()? else {
        baseline.set_registry(&now)?;
        return Ok(Vec::new());
    };
    let mut found = differences(&known, &now);
    if !found.is_empty() {
        baseline.set_registry(&now)?;
    }
    if let Some(before) = before.filter(|_| is_other) {
        let before = Scope::read_back(&before);
        found.retain(|found| {
            let (names, value) = (names_of(&found.key), found.value.as_deref());
            before.wants(&names, value) && scope.wants(&names, value)
        });
    }
    Ok(found.into_iter().map(operation).collect())
}

/// A difference as an operation that nobody was seen to do.
pub(super) fn operation(found: RegistryDifference) -> Operation {
    let RegistryDifference { key: path, value, action, before, after, security } = found;
    let (hive, key) = path.split_once('\\').unwrap_or((&path, ""));
    let names = names_of(&path);
    let with_value = |key: &String| match &value {
        Some(value) if value.is_empty() => format!(r"{key}\(Default)"),
        Some(value) => format!(r"{key}\{value}"),
        None => key.clone(),
    };
    let mut names = names.iter().map(|name| PathBuf::from(with_value(name)));
    let (previous_security, security) = security.unzip();
    let kind = OperationKind::Registry(Box::new(RegistryOperation {
        action,
        hive: Some(hive.to_owned()),
        key: key.to_owned(),
        value: value.clone(),
        size: after.as_ref().map(|value| value.size),
        sha256: after.as_ref().map(|value| value.sha256.clone()),
        data: after.map(|value| value.data),
        previous_size: before.as_ref().map(|value| value.size),
        previous_sha256: before.as_ref().map(|value| value.sha256.clone()),
        previous: before.map(|value| value.data),
        security,
        previous_security,
        aliases: names.by_ref().skip(1).collect(),
    }));
    Operation {
        time: Timestamp::now(),
        provider: Provider::Scan,
        kind,
        path: Some(PathBuf::from(with_value(&path.clone()))),
        path_in_process: None,
        object: None,
        before: ObjectState::default(),
        after: ObjectState::default(),
        failure: None,
        actor: Arc::new(Actor::unobserved()),
        details: None,
    }
}
