//! Open Cybersecurity Schema Framework.
//!
//! Source: the schema of OCSF 1.3.0: classes File System Activity (1001), Registry Key Activity (201001)
//! and Registry Value Activity (201002) of the extension `win`, Application Lifecycle (6002). What it
//! has no attribute for is in `unmapped`. The tests hold all of it against the schema.

mod objects;

use fim_common::event::{Action, Event, Kind, Outcome, PackageRun, Property};
use serde_json::{Map, Value, json};

use super::{milliseconds, severity};

/// What the objects below are written by.
const VERSION: &str = "1.3.0";
/// The most characters of a text (`string_t`).
const TEXT_MAX: usize = 65_535;

/// A class, with its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    File,
    Key,
    Value,
    Application,
}

impl Class {
    fn of(event: &Event) -> Self {
        match (&event.registry, &event.file, event.event.action) {
            (Some(registry), ..) if registry.value.is_some() => Self::Value,
            (Some(_), ..) => Self::Key,
            // Its directory or file is not what it is about.
            (None, Some(_), action) if is_of_object(action) => Self::File,
            _ => Self::Application,
        }
    }

    fn uid(self) -> i64 {
        match self {
            Self::File => 1001,
            Self::Key => 201_001,
            Self::Value => 201_002,
            Self::Application => 6002,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::File => "File System Activity",
            Self::Key => "Registry Key Activity",
            Self::Value => "Registry Value Activity",
            Self::Application => "Application Lifecycle",
        }
    }

    fn category(self) -> (i64, &'static str) {
        match self {
            Self::Application => (6, "Application Activity"),
            _ => (1, "System Activity"),
        }
    }
}

/// Whether it is done to an object.
fn is_of_object(action: Action) -> bool {
    match action {
        Action::Created
        | Action::Updated
        | Action::AttributesModified
        | Action::Moved
        | Action::Deleted
        | Action::Linked
        | Action::Mounted
        | Action::Unmounted => true,
        Action::AgentStarted
        | Action::AgentStopped
        | Action::ConfigChanged
        | Action::Gap
        | Action::GapClosed
        | Action::CanaryMissed
        | Action::AgentKilled
        | Action::AgentTampered
        | Action::ClockChanged
        | Action::Suppressed
        | Action::Heartbeat
        | Action::PackageRun
        | Action::BaselineCreated
        | Action::BaselineAccepted
        | Action::JournalDropped
        | Action::JournalFull
        | Action::JournalTruncated => false,
    }
}

/// The activity within its class: number and caption. What the class has none for is 99, by our name.
fn activity(class: Class, event: &Event) -> (i64, &'static str) {
    let action = event.event.action;
    let is_security = !event.fim.changes.is_empty()
        && event.fim.changes.iter().all(|property| {
            use Property::{Acl, Capabilities, Gid, Mode, Security, Uid};
            matches!(property, Mode | Uid | Gid | Acl | Capabilities | Security)
        });
    match (class, action) {
        (Class::File, Action::Created) => (1, "Create"),
        (Class::File, Action::Updated) => (3, "Update"),
        (Class::File, Action::Deleted) => (4, "Delete"),
        (Class::File, Action::Moved) => (5, "Rename"),
        (Class::File, Action::AttributesModified) if is_security => (7, "Set Security"),
        (Class::File, Action::AttributesModified) => (6, "Set Attributes"),
        (Class::File, Action::Mounted) => (12, "Mount"),
        (Class::File, Action::Unmounted) => (13, "Unmount"),
        (Class::Key, Action::Created) => (1, "Create"),
        (Class::Key, Action::Deleted) => (4, "Delete"),
        (Class::Key, Action::Moved) => (5, "Rename"),
        (Class::Key, Action::AttributesModified) if is_security => (6, "Set Security"),
        (Class::Key, Action::Updated | Action::AttributesModified) => (3, "Modify"),
        (Class::Value, Action::Created) => (2, "Set"),
        // Whether it was there before is known where its data was.
        (Class::Value, Action::Updated) => match &event.fim.before {
            Some(before) if before.data.is_some() || before.size.is_some() => (3, "Modify"),
            _ => (2, "Set"),
        },
        (Class::Value, Action::Deleted) => (4, "Delete"),
        (Class::Application, Action::AgentStarted) => (3, "Start"),
        (Class::Application, Action::AgentStopped) => (4, "Stop"),
        (Class::Application, Action::PackageRun) => {
            event.fim.package_run.as_deref().map_or((99, action.as_str()), packages)
        }
        _ => (99, action.as_str()),
    }
}

/// A run that did one thing to all its packages is that thing.
fn packages(run: &PackageRun) -> (i64, &'static str) {
    let of = |change: &fim_common::event::PackageChange| match (&change.before, &change.after) {
        (None, Some(_)) => (1, "Install"),
        (Some(_), None) => (2, "Remove"),
        _ => (8, "Update"),
    };
    let mut all = run.packages.iter().map(of);
    match all.next() {
        Some(first) if all.all(|other| other == first) => first,
        _ => (99, Action::PackageRun.as_str()),
    }
}

/// The event as an object of OCSF.
pub(super) fn object(event: &Event) -> Value {
    let class = Class::of(event);
    let (activity_uid, activity_name) = activity(class, event);
    let (category_uid, category_name) = class.category();
    let (severity_uid, severity_name) = severity_of(event);
    let is_failure = event.event.outcome == Outcome::Failure;
    let mut profiles = Vec::new();
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    put("activity_id", Some(json!(activity_uid)));
    put("activity_name", Some(json!(activity_name)));
    put("category_uid", Some(json!(category_uid)));
    put("category_name", Some(json!(category_name)));
    put("class_uid", Some(json!(class.uid())));
    put("class_name", Some(json!(class.name())));
    put("type_uid", Some(json!(class.uid() * 100 + activity_uid)));
    put("type_name", Some(json!(format!("{}: {activity_name}", class.name()))));
    put("severity_id", Some(json!(severity_uid)));
    put("severity", Some(json!(severity_name)));
    put("status_id", Some(json!(if is_failure { 2 } else { 1 })));
    put("status", Some(json!(if is_failure { "Failure" } else { "Success" })));
    put("status_code", event.fim.errno.as_deref().map(|errno| json!(errno)));
    put("time", Some(json!(milliseconds(event.timestamp))));
    let operations = &event.fim.operations;
    let first = operations.iter().map(|operation| milliseconds(operation.first)).min();
    let last = operations.iter().map(|operation| milliseconds(operation.last)).max();
    put("start_time", first.map(|time| json!(time)));
    put("end_time", last.map(|time| json!(time)));
    put("message", Some(json!(text(&message(event)))));
    put("device", Some(objects::device(event)));
    match class {
        Class::File => {
            let (file, result) = objects::files(event);
            put("file", Some(file));
            put("file_result", result.filter(|_| !is_failure));
            let diff = event.fim.diff.as_ref().and_then(|diff| diff.unified.as_deref());
            put("file_diff", diff.map(|diff| json!(text(diff))));
        }
        Class::Key => put("reg_key", event.registry.as_deref().map(objects::key)),
        Class::Value => {
            put("reg_value", event.registry.as_deref().map(objects::value));
            let before = event.fim.before.as_deref().and_then(|before| before.data.as_ref());
            let previous = event.registry.as_deref().zip(before);
            put(
                "prev_reg_value",
                previous.map(|(registry, data)| {
                    objects::value(&fim_common::event::Registry {
                        data: Some(data.clone()),
                        ..registry.clone()
                    })
                }),
            );
        }
        Class::Application => {
            profiles.push("host");
            put("app", Some(objects::application(event)));
        }
    }
    if class != Class::Application || event.process.is_some() || event.user.is_some() {
        put("actor", Some(objects::actor(event)));
    }
    if event.container.is_some() && event.process.is_some() {
        profiles.push("container");
    }
    if let Some(threat) = &event.threat
        && class != Class::Application
    {
        profiles.push("security_control");
        let attacks: Vec<Value> =
            threat.technique.id.iter().map(|id| objects::attack(id)).collect();
        put("attacks", Some(json!(attacks)));
        // The profile asks for it: it was neither allowed nor denied by us.
        put("action_id", Some(json!(99)));
        put("action", Some(json!("Observed")));
    }
    let is_win = matches!(class, Class::Key | Class::Value);
    put("metadata", Some(objects::metadata(event, &profiles, is_win)));
    put("unmapped", Some(objects::unmapped(event)));
    Value::Object(out)
}

fn severity_of(event: &Event) -> (i64, &'static str) {
    match severity(event) {
        90.. => (5, "Critical"),
        75.. => (4, "High"),
        50.. => (3, "Medium"),
        25.. => (2, "Low"),
        _ => (1, "Informational"),
    }
}

/// For people.
fn message(event: &Event) -> String {
    if let Some(message) = &event.fim.message {
        return message.clone();
    }
    let action = event.event.action.as_str();
    let file = event.file.as_deref().map(|file| &file.path);
    let path = event.registry.as_deref().map(|registry| &registry.path).or(file);
    let alert = if event.event.kind == Kind::Alert { "alert: " } else { "" };
    match path {
        Some(path) => format!("{alert}{action} {path}"),
        None => format!("{alert}{action}"),
    }
}

/// What the schema takes of a text.
fn text(text: &str) -> &str {
    text.char_indices().nth(TEXT_MAX).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
