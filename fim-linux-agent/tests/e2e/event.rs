//! An event as users see it: JSON, not our types.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::Value;

/// An event, and when its line arrived here.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) value: Value,
    pub(crate) arrived: Instant,
}

impl Event {
    pub(crate) fn parse(line: &str, arrived: Instant) -> Result<Self, String> {
        let value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        Ok(Self { value, arrived })
    }

    /// What is at a place such as `process.parent.pid`; null where there is nothing.
    pub(crate) fn at(&self, place: &str) -> &Value {
        place.split('.').fold(&self.value, |value, name| &value[name])
    }

    pub(crate) fn has(&self, place: &str) -> bool {
        !self.at(place).is_null()
    }

    pub(crate) fn text(&self, place: &str) -> Option<&str> {
        self.at(place).as_str()
    }

    pub(crate) fn number(&self, place: &str) -> Option<u64> {
        self.at(place).as_u64()
    }

    /// The texts of a list; empty where there is none.
    pub(crate) fn list(&self, place: &str) -> Vec<&str> {
        self.at(place).as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub(crate) fn id(&self) -> &str {
        self.text("event.id").unwrap_or_default()
    }

    pub(crate) fn action(&self) -> &str {
        self.text("event.action").unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.text("file.path").unwrap_or_default()
    }

    /// Why something is not known.
    pub(crate) fn unknown(&self, field: &str) -> Option<&str> {
        self.at("fim.unknown")[field].as_str()
    }

    pub(crate) fn is_success(&self) -> bool {
        self.text("event.outcome") == Some("success")
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn nanos(&self) -> i128 {
        nanos(self.text("@timestamp").unwrap_or_default())
    }

    /// The process ids of everybody who is named: the process, and further writers.
    pub(crate) fn named(&self) -> Vec<u64> {
        let writers = self.at("fim.writers").as_array().into_iter().flatten();
        let pids = writers.filter_map(|writer| writer["process"]["pid"].as_u64());
        self.number("process.pid").into_iter().chain(pids).collect()
    }

    /// The names of the operations folded into it.
    pub(crate) fn operations(&self) -> Vec<&str> {
        let list = self.at("fim.operations").as_array().into_iter().flatten();
        list.filter_map(|operation| operation["operation"].as_str()).collect()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

/// A timestamp of an event in nanoseconds since the epoch.
pub(crate) fn nanos(text: &str) -> i128 {
    text.parse::<fim_common::time::Timestamp>()
        .unwrap_or_else(|error| panic!("{text:?} is not a timestamp: {error}"))
        .as_nanos()
}

/// A path as events carry it.
pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as `fim.path_b64` carries it.
pub(crate) fn path_base64(path: &Path) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(path.as_os_str().as_bytes())
}

/// SHA-256 as events carry it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with an event by the schema that users have.
pub(crate) fn violations(value: &Value) -> Option<String> {
    static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let schema = include_str!("../../../docs/event.schema.json");
        jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
    });
    // The schema lets them pass, since our own types read them.
    if has_null(value) {
        return Some("a null: what is not known is absent".to_owned());
    }
    if VALIDATOR.is_valid(value) {
        return None;
    }
    let errors = VALIDATOR.iter_errors(value);
    Some(
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect::<Vec<_>>()
            .join("; "),
    )
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
