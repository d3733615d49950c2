//! Registry events: which key an object stands for, and what was done to it.
//!
//! Only creating and opening a key carries names. Everything else names the open key by its object,
//! which is one handle's own and is used again when that is closed. A close may come before the
//! write in front of it: a closed key is remembered for [`GRACE`].

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use fim_common::event::RegistryData;
use fim_common::operation::{OperationKind, RegistryAction, RegistryOperation};

use super::bounded::{Bounded, Weight};
use super::{Emit, MAP_BYTES, OBJECTS_MAX};
use crate::decode::{Event, Values, Wide};
use crate::filetime::SECOND;
use crate::paths::registry_path;
use crate::process::Who;

/// How long a closed key is remembered.
const GRACE: u64 = 2 * SECOND;
/// Windows takes no longer names of keys: 512 levels of 255 units; longer ones are damage.
const NAME_MAX: usize = 512 * 256 * 3;

struct Key {
    name: Arc<str>,
    closed: Option<u64>,
}

impl Weight for Key {
    fn weight(&self) -> usize {
        self.name.len()
    }
}

/// The open keys.
pub(super) struct Keys {
    by_object: Bounded<u64, Key>,
    /// Operations on keys that nobody saw opened.
    pub(super) nameless: u64,
    /// Attempts to open a key that failed: reads for the most part.
    pub(super) failed_opens: u64,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { by_object: Bounded::new(OBJECTS_MAX, MAP_BYTES), nameless: 0, failed_opens: 0 }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.by_object.evicted()
    }

    /// Notes a key that was opened before, unless an event has told of its object since.
    pub(super) fn open_already(&mut self, object: u64, name: &str) {
        if object != 0 && name.len() <= NAME_MAX && self.by_object.get(&object).is_none() {
            self.by_object.insert(object, Key { name: name.into(), closed: None });
        }
    }

    fn name_of(&mut self, object: u64, at: u64) -> Option<Arc<str>> {
        if object == 0 {
            return None;
        }
        let key = self.by_object.get(&object)?;
        let over = key.closed.is_some_and(|closed| at > closed.saturating_add(GRACE));
        (!over).then(|| Arc::clone(&key.name))
    }

    /// Takes in an event.
    pub(super) fn take(&mut self, event: &Event<'_>, who: &Who, emit: &mut Emit<'_>) {
        let values = &event.values;
        let status = values.status.unwrap_or(0);
        let object = values.key_object.unwrap_or(0);
        let action = match event.id {
            1 | 2 => return self.opened(event.id, values, status, who, emit),
            3 => RegistryAction::DeleteKey,
            5 => RegistryAction::SetValue,
            6 => RegistryAction::DeleteValue,
            11 => RegistryAction::SetInformation,
            15 => RegistryAction::SetSecurity,
            13 => {
                if let Some(key) = self.by_object.get(&object) {
                    key.closed.get_or_insert(who.filetime);
                }
                return;
            }
            // Reads, flushes, and what hives do.
            _ => return,
        };
        let said = values.key_name.filter(|name| !name.is_empty());
        let name = said
            .map(|name| Arc::from(name.to_string()))
            .or_else(|| self.name_of(object, who.filetime));
        if name.is_none() {
            self.nameless += 1;
        }
        tell(action, name.as_deref(), values, status, who, emit);
    }

    fn opened(
        &mut self,
        id: u16,
        values: &Values<'_>,
        status: u32,
        who: &Who,
        emit: &mut Emit<'_>,
    ) {
        let text = |name: Option<Wide<'_>>| name.map(|name| name.to_string()).unwrap_or_default();
        let (base, relative) = (text(values.base_name), text(values.relative_name));
        let absolute = |name: &str| name.starts_with('\\');
        let base = match base {
            _ if absolute(&relative) => None,
            base if !base.is_empty() => Some(Arc::from(base)),
            _ => self.name_of(values.base_object.unwrap_or(0), who.filetime),
        };
        let name = match base {
            Some(base) if relative.is_empty() => base.to_string(),
            Some(base) => format!("{}\\{relative}", base.trim_end_matches('\\')),
            None => relative,
        };
        let done = super::succeeded(status);
        if id == 1 && (!done || values.disposition == Some(1)) {
            tell(RegistryAction::CreateKey, Some(&name), values, status, who, emit);
        } else if !done {
            self.failed_opens += 1;
        }
        let object = values.key_object.unwrap_or(0);
        // A failed open has no object, and says nothing of it.
        if done && object != 0 && !name.is_empty() && name.len() <= NAME_MAX {
            self.by_object.insert(object, Key { name: name.into(), closed: None });
        }
    }
}

fn tell(
    action: RegistryAction,
    name: Option<&str>,
    values: &Values<'_>,
    status: u32,
    who: &Who,
    emit: &mut Emit<'_>,
) {
    let name = name.unwrap_or_default();
    let resolved = registry_path(name);
    let of_value = matches!(action, RegistryAction::SetValue | RegistryAction::DeleteValue);
    let value = of_value.then(|| values.value_name.map(|n| n.to_string()).unwrap_or_default());
    let with_value = |key: String| match &value {
        Some(value) if value.is_empty() => format!("{key}\\(Default)"),
        Some(value) => format!("{key}\\{value}"),
        None => key,
    };
    let key = resolved.path();
    let mut keys = resolved.aliases();
    keys.insert(0, key.clone());
    if !emit.wants_key(&keys, value.as_deref()) {
        return;
    }
    let aliases = keys.into_iter().skip(1).map(|key| PathBuf::from(with_value(key))).collect();
    let path = with_value(key.clone());
    let mut details = emit.details();
    if name.is_empty() {
        details.unknown.insert("registry.key".to_owned(), "opened_before_the_trace".to_owned());
    } else if !name.starts_with('\\') {
        details.unknown.insert("registry.hive".to_owned(), "opened_before_the_trace".to_owned());
    }
    if key != name {
        details.original_path = Some(with_value(name.to_owned()));
    }
    let texts = [values.relative_name, values.base_name, values.key_name, values.value_name];
    if texts.into_iter().flatten().any(|text| !text.is_exact()) {
        details.unknown.insert("registry.path".to_owned(), "not_utf16".to_owned());
    }
    let mut data = None;
    let mut size = None;
    if action == RegistryAction::SetValue {
        let captured = values.data.unwrap_or_default();
        size = values.data_size.map(u64::from);
        data = values.data_type.map(|kind| registry_data(kind, captured));
        let missing = size.unwrap_or(0).saturating_sub(captured.len() as u64);
        if missing > 0 {
            let why = if captured.is_empty() { "not_captured" } else { "cut" };
            details.unknown.insert("registry.data".to_owned(), why.to_owned());
        }
    }
    let previous = values.previous_data.filter(|data| !data.is_empty());
    let previous = previous.zip(values.previous_type).map(|(data, kind)| registry_data(kind, data));
    let previous_size = previous.as_ref().and(values.previous_size).map(u64::from);
    let registry = RegistryOperation {
        action,
        hive: resolved.hive.clone(),
        key: resolved.key,
        value,
        data,
        size,
        previous,
        previous_size,
        sha256: None,
        previous_sha256: None,
        security: None,
        previous_security: None,
        aliases,
    };
    let kind = OperationKind::Registry(Box::new(registry));
    emit.operation(kind, path, details, status, who);
}

/// Name of a type of data; its number where it has none.
fn type_name(kind: u32) -> String {
    const NAMES: [&str; 12] = [
        "REG_NONE",
        "REG_SZ",
        "REG_EXPAND_SZ",
        "REG_BINARY",
        "REG_DWORD",
        "REG_DWORD_BIG_ENDIAN",
        "REG_LINK",
        "REG_MULTI_SZ",
        "REG_RESOURCE_LIST",
        "REG_FULL_RESOURCE_DESCRIPTOR",
        "REG_RESOURCE_REQUIREMENTS_LIST",
        "REG_QWORD",
    ];
    NAMES.get(kind as usize).map_or_else(|| format!("REG_{kind}"), |name| (*name).to_owned())
}

/// What is told of data of this type.
pub(crate) fn registry_data(kind: u32, data: &[u8]) -> RegistryData {
    let strings = match kind {
        1 | 2 | 6 => Some(vec![until_nul(data)]),
        7 => {
            let mut texts: Vec<String> =
                Wide::from_bytes(data).to_string().split('\0').map(str::to_owned).collect();
            while texts.last().is_some_and(String::is_empty) {
                texts.pop();
            }
            Some(texts)
        }
        4 => data.first_chunk().map(|bytes| vec![u32::from_le_bytes(*bytes).to_string()]),
        5 => data.first_chunk().map(|bytes| vec![u32::from_be_bytes(*bytes).to_string()]),
        11 => data.first_chunk().map(|bytes| vec![u64::from_le_bytes(*bytes).to_string()]),
        _ => None,
    };
    let strings = strings.filter(|_| !data.is_empty());
    let bytes = base64::engine::general_purpose::STANDARD.encode(data);
    RegistryData {
        kind: Some(type_name(kind)),
        strings,
        bytes: (!data.is_empty()).then_some(bytes),
    }
}

fn until_nul(data: &[u8]) -> String {
    let text = Wide::from_bytes(data).to_string();
    text.split('\0').next().unwrap_or_default().to_owned()
}
