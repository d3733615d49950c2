//! Registry keys under ETW: what an event does not say is taken from the baseline and from the key
//! itself, and what no event told is found by looking.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use fim_common::baseline::{Baseline, BaselineError};
use fim_common::operation::{Operation, OperationKind, RegistryAction, RegistryOperation};
use fim_common::registry::{
    RegistryDifference, RegistryKey, RegistryKeys, RegistryValue, differences,
};
use fim_win32::registry::Key;

use super::super::registry::{self, Scope};

/// How often what is known is written to the baseline, at most.
const WRITE: Duration = Duration::from_secs(10);
/// A difference that no event told is told when it is there at a second look, this much later: the
/// event may be under way.
pub(super) const DOUBT: Duration = Duration::from_secs(2);

type Place = (String, Option<String>);

/// The keys of the rules.
pub(super) struct Keys {
    baseline: Arc<Baseline>,
    scope: Scope,
    known: RegistryKeys,
    /// By folded path.
    index: HashMap<String, String>,
    written: Instant,
    is_new: bool,
    doubtful: HashSet<Place>,
    /// What was asked for before, until a look has found what is asked for since.
    before: Option<Scope>,
}

fn fold(path: &str) -> String {
    path.to_lowercase()
}

/// A value by its name, whatever its case.
fn value_name(values: &BTreeMap<String, RegistryValue>, name: &str) -> Option<String> {
    match values.contains_key(name) {
        true => Some(name.to_owned()),
        false => values.keys().find(|known| fold(known) == fold(name)).cloned(),
    }
}

impl Keys {
    /// Compares what there is with what the baseline has: what was done while nobody looked.
    ///
    /// # Errors
    /// When the baseline cannot be read or written.
    pub(super) fn begin(
        baseline: Arc<Baseline>,
        scope: &Scope,
    ) -> Result<(Self, Vec<Operation>), BaselineError> {
        let (found, known) = match scope.is_empty() {
            // What the baseline has is of rules that are there no more.
            true => (Vec::new(), RegistryKeys::new()),
            false => {
                let found = registry::compare(&baseline, scope)?;
                (found, baseline.registry()?.unwrap_or_default())
            }
        };
        let index = known.keys().map(|path| (fold(path), path.clone())).collect();
        let keys = Self {
            baseline,
            scope: scope.clone(),
            known,
            index,
            written: Instant::now(),
            is_new: false,
            doubtful: HashSet::new(),
            before: None,
        };
        Ok((keys, found))
    }

    /// Other keys are looked at from now on: what the next look finds of what nobody had asked for
    /// until now is no change.
    pub(super) fn set_scope(&mut self, scope: &Scope) {
        if self.scope.is_same(scope) {
            return;
        }
        let before = std::mem::replace(&mut self.scope, scope.clone());
        self.before.get_or_insert(before);
        if scope.is_empty() {
            // Nobody looks.
            self.take_in(&RegistryKeys::new());
        }
    }

    /// Takes what is newly asked for as it was found, unless an event has told more of it by now, and
    /// forgets what nobody asks for any more.
    fn take_in(&mut self, found: &RegistryKeys) {
        let Some(before) = self.before.take() else { return };
        for (path, now) in found {
            let names = registry::names_of(path);
            // What of it was asked for already and is not known is new: that is a change.
            if before.wants(&names, None) {
                continue;
            }
            self.index.insert(fold(path), path.clone());
            let known = self.known.entry(path.clone()).or_default();
            if known.security.is_none() {
                known.security.clone_from(&now.security);
            }
            for (name, value) in &now.values {
                let is_known = value_name(&known.values, name).is_some();
                if !is_known && !before.wants(&names, Some(name)) {
                    known.values.insert(name.clone(), value.clone());
                }
            }
        }
        let scope = &self.scope;
        self.known.retain(|path, key| {
            let names = registry::names_of(path);
            let whole = scope.wants(&names, None);
            key.values.retain(|name, _| whole || scope.wants(&names, Some(name)));
            whole || !key.values.is_empty()
        });
        self.index.retain(|_, path| self.known.contains_key(path));
        self.is_new = true;
        if let Err(error) = registry::note_scope(&self.baseline, &self.scope) {
            tracing::error!(%error, "the baseline cannot be written");
        }
    }

    /// Whether looking would find the key: the 32-bit view of one that a rule names is told, but not
    /// looked for.
    fn is_looked_at(&self, path: &str) -> bool {
        let path = fold(path);
        self.scope.places().any(|(place, below)| {
            let rest = path.strip_prefix(&fold(place));
            rest.is_some_and(|rest| rest.is_empty() || below && rest.starts_with('\\'))
        })
    }

    /// The path by which a key is known: by any of its names.
    fn path_of<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<String> {
        names.into_iter().find_map(|name| self.index.get(&fold(name)).cloned())
    }

    /// The path of a key that is new: below what is known of it.
    fn new_path(&self, names: &[String]) -> Option<String> {
        let below = names.iter().find_map(|name| {
            let (parent, last) = name.rsplit_once('\\')?;
            Some(format!(r"{}\{last}", self.index.get(&fold(parent))?))
        });
        below.or_else(|| names.first().cloned())
    }

    /// Fills in what an event does not say, and notes what it does.
    pub(super) fn complete(&mut self, operation: &mut Operation) {
        let Operation { kind, failure, details, .. } = operation;
        let OperationKind::Registry(event) = kind else { return };
        let Some(hive) = event.hive.as_deref().filter(|_| failure.is_none()) else { return };
        let own = match event.key.is_empty() {
            true => hive.to_owned(),
            false => format!(r"{hive}\{}", event.key),
        };
        let other_view = fold(&own).contains(r"\wow6432node");
        let mut names = vec![own];
        // The 64-bit key is another one.
        names.extend(event.key_aliases().filter(|_| !other_view).map(str::to_owned));
        let path = self.path_of(names.iter().map(String::as_str));
        let Some(path) = path.or_else(|| self.new_path(&names)) else { return };
        match event.action {
            RegistryAction::SetValue => {
                let late = self.value_set(event, &path);
                if late {
                    // What was recorded is not all of it: it was read afterwards.
                    let details = details.get_or_insert_default();
                    details.unknown.remove("registry.data");
                }
            }
            RegistryAction::SetSecurity => {
                let now = Key::open(&names[0]).and_then(|key| key.security()).ok();
                if let Some(key) = self.known.get_mut(&path) {
                    event.previous_security = key.security.take();
                    key.security.clone_from(&now);
                }
                event.security = now;
            }
            RegistryAction::SetInformation => return,
            _ if !self.is_looked_at(&path) => return,
            RegistryAction::DeleteValue => {
                let name = event.value.clone().unwrap_or_default();
                let key = self.known.get_mut(&path);
                let value = key.and_then(|key| {
                    let name = value_name(&key.values, &name)?;
                    key.values.remove(&name)
                });
                tell_previous(event, value);
                // Without the values that a rule names, a key is of no interest.
                let empty = self.known.get(&path).is_some_and(|key| key.values.is_empty());
                if empty && !names.iter().any(|name| self.scope.asks(name, None)) {
                    self.forget(&path);
                }
            }
            RegistryAction::CreateKey => {
                if self.known.len() < registry::KEYS_MAX {
                    let security = Key::open(&names[0]).and_then(|key| key.security()).ok();
                    self.index.insert(fold(&path), path.clone());
                    let key = RegistryKey { security, values: BTreeMap::new() };
                    self.known.entry(path).or_insert(key);
                }
            }
            RegistryAction::DeleteKey => self.forget(&path),
        }
        self.is_new = true;
    }

    /// True: the data was read from the key.
    fn value_set(&mut self, event: &mut RegistryOperation, path: &str) -> bool {
        let name = event.value.clone().unwrap_or_default();
        let recorded = event.data.as_ref().and_then(|data| {
            let bytes = data.bytes.as_deref().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).ok()?;
            let all = event.size.is_none_or(|size| size == bytes.len() as u64);
            all.then(|| registry::known_value(data.clone(), &bytes))
        });
        let mut late = false;
        let after = recorded.or_else(|| {
            let values = Key::open(path).and_then(|key| key.values()).ok()?;
            let value = values.into_iter().find(|value| fold(&value.name) == fold(&name))?;
            late = true;
            Some(registry::value(value.kind, &value.data))
        });
        if self.is_looked_at(path) {
            self.index.entry(fold(path)).or_insert_with(|| path.to_owned());
            let key = self.known.entry(path.to_owned()).or_default();
            let spelled = value_name(&key.values, &name).unwrap_or(name);
            let before = match &after {
                Some(after) => key.values.insert(spelled, after.clone()),
                None => key.values.remove(&spelled),
            };
            tell_previous(event, before);
        }
        if let Some(after) = after {
            event.size = Some(after.size);
            event.sha256 = Some(after.sha256);
            if late {
                event.data = Some(after.data);
            }
        }
        late
    }

    fn forget(&mut self, path: &str) {
        let below = format!(r"{path}\");
        let gone: Vec<String> = std::iter::once(path.to_owned())
            .chain(
                self.known
                    .range(below.clone()..)
                    .map(|(key, _)| key.clone())
                    .take_while(|key| key.starts_with(&below)),
            )
            .collect();
        for key in gone {
            self.index.remove(&fold(&key));
            self.known.remove(&key);
        }
    }

    /// Takes in what a look found. What differs from what events told is doubtful at a first look:
    /// `Ok(true)`, there should be a second one after [`DOUBT`]. What was doubtful already is told.
    pub(super) fn looked(&mut self, now: &RegistryKeys, told: &mut Vec<Operation>) -> bool {
        self.take_in(now);
        let doubtful = std::mem::take(&mut self.doubtful);
        for found in differences(&self.known, now) {
            let place = (found.key.clone(), found.value.clone());
            if doubtful.contains(&place) {
                self.apply(&found, now);
                self.is_new = true;
                told.push(registry::operation(found));
            } else {
                self.doubtful.insert(place);
            }
        }
        !self.doubtful.is_empty()
    }

    fn apply(&mut self, found: &RegistryDifference, now: &RegistryKeys) {
        let path = found.key.as_str();
        match (found.action, &found.value) {
            (RegistryAction::DeleteKey, _) => self.forget(path),
            (RegistryAction::CreateKey | RegistryAction::SetSecurity, _) => {
                let security = now.get(path).and_then(|key| key.security.clone());
                self.index.insert(fold(path), path.to_owned());
                self.known.entry(path.to_owned()).or_default().security = security;
            }
            (_, Some(name)) => {
                let values = &mut self.known.entry(path.to_owned()).or_default().values;
                match &found.after {
                    Some(after) => drop(values.insert(name.clone(), after.clone())),
                    None => drop(values.remove(name)),
                }
            }
            (_, None) => {}
        }
    }

    /// Writes what is new to the baseline, now and then, or `now`.
    pub(super) fn write(&mut self, now: bool) {
        if !self.is_new || !(now || self.written.elapsed() >= WRITE) {
            return;
        }
        self.written = Instant::now();
        match self.baseline.set_registry(&self.known) {
            Ok(()) => self.is_new = false,
            Err(error) => tracing::error!(%error, "the baseline cannot be written"),
        }
    }
}

fn tell_previous(event: &mut RegistryOperation, value: Option<RegistryValue>) {
    if let Some(value) = value {
        event.previous_size = Some(value.size);
        event.previous_sha256 = Some(value.sha256);
        event.previous = Some(value.data);
    }
}
