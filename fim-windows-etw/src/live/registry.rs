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

    fn wants(&self, names: &[String], value: Option<&str>) -> bool {
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
                self.key(&format!(r"{path}\{name}"), depth - 1, found, left_out);
            }
        }
    }
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
fn names_of(path: &str) -> Vec<String> {
    let (hive, key) = path.split_once('\\').unwrap_or((path, ""));
    let path = RegistryPath { hive: Some(hive.to_owned()), key: key.to_owned() };
    std::iter::once(path.path()).chain(path.aliases()).collect()
}

/// Compares what there is with what the baseline has, and takes it into it. At the first look
/// nothing is a change.
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
    let Some(known) = baseline.registry()? else {
        baseline.set_registry(&now)?;
        return Ok(Vec::new());
    };
    let found = differences(&known, &now);
    if !found.is_empty() {
        baseline.set_registry(&now)?;
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
