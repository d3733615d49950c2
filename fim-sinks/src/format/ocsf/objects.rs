//! The objects that the classes are made of. What is not known is absent.

use fim_common::event::actor::{Ancestor, Container, Process, User};
use fim_common::event::{Event, File, Registry, RegistryData, Side};
use fim_common::state::ObjectKind;
use serde_json::{Map, Value, json};

use super::super::{milliseconds, name};
use super::{VERSION, text};

/// An object of what is known.
struct Known(Map<String, Value>);

impl Known {
    fn new() -> Self {
        Self(Map::new())
    }

    fn put(mut self, key: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
        self
    }

    fn text(self, key: &str, value: Option<&str>) -> Self {
        self.put(key, value.map(text))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// `device`: has to have a name of some kind.
pub(super) fn device(event: &Event) -> Value {
    let host = &event.host;
    let os = Known::new()
        .text("name", Some(host.os.name.as_deref().unwrap_or(&host.os.kind)))
        .text("type", Some(&host.os.kind))
        .text("version", host.os.version.as_deref())
        .text("build", host.os.kernel.as_deref())
        .put(
            "type_id",
            Some(match host.os.kind.as_str() {
                "windows" => 100,
                "linux" => 200,
                _ => 0,
            }),
        );
    let hostname = host.name.as_deref().filter(|name| is_hostname(name));
    let name = host.name.as_deref().unwrap_or("unknown");
    Known::new()
        .text("hostname", hostname)
        .text("name", Some(name))
        .text("uid", host.id.as_deref())
        .put("os", Some(os.done()))
        .put("type_id", Some(0))
        .text("type", Some("Unknown"))
        .done()
}

/// Whether it is a name as the schema has it (`hostname_t`).
fn is_hostname(name: &str) -> bool {
    name.split('.').all(|label| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// `metadata`.
pub(super) fn metadata(event: &Event, profiles: &[&str], is_win: bool) -> Value {
    let extensions = json!([{"name": "win", "uid": "2", "version": VERSION}]);
    Known::new()
        .put("version", Some(VERSION))
        .put("product", Some(product(event)))
        .text("uid", Some(&event.event.id))
        .put("sequence", Some(event.event.sequence))
        .text("event_code", Some(event.event.action.as_str()))
        .text("log_name", Some("fim"))
        .text("log_provider", event.event.provider.map(|provider| provider.as_str()))
        .text("original_time", Some(&event.timestamp.to_string()))
        .put("labels", (!event.tags.is_empty()).then(|| json!(event.tags)))
        .put("profiles", (!profiles.is_empty()).then(|| json!(profiles)))
        .put("extensions", is_win.then_some(extensions))
        .done()
}

/// The agent.
fn product(event: &Event) -> Value {
    Known::new()
        .text("name", Some("fim"))
        .text("vendor_name", Some("fim"))
        .text("version", Some(&event.agent.version))
        .text("uid", event.agent.id.as_deref())
        .done()
}

/// `app`: the agent; of a package manager's run, its package where it is one, else the manager.
pub(super) fn application(event: &Event) -> Value {
    let Some(run) = &event.fim.package_run else { return product(event) };
    let (name, version) = match run.packages.as_slice() {
        [one] => (&one.name, one.after.as_ref().or(one.before.as_ref())),
        _ => (&run.manager, None),
    };
    Known::new()
        .text("name", Some(name))
        // The database does not say who made it.
        .text("vendor_name", Some("Unknown"))
        .text("version", version.map(String::as_str))
        .done()
}

/// `actor`: has to have something. Of what a comparison found nobody knows who did it.
pub(super) fn actor(event: &Event) -> Value {
    let user = event.user.as_deref().map(user);
    let process = event
        .process
        .as_deref()
        .map(|process| self::process(process, user.as_ref(), event.container.as_ref(), event));
    let known = Known::new()
        .put("process", process)
        .put("user", user.filter(|user| has_any(user, &["uid", "name"])));
    match known.is_empty() {
        true => json!({"user": {"name": "Unknown", "type_id": 0, "type": "Unknown"}}),
        false => known.done(),
    }
}

fn has_any(object: &Value, keys: &[&str]) -> bool {
    keys.iter().any(|key| object.get(key).is_some())
}

fn user(user: &User) -> Value {
    let group = user.group.as_ref().map(|group| {
        json!([Known::new()
            .text("uid", Some(&group.id))
            .text("name", group.name.as_deref())
            .done()])
    });
    Known::new()
        .text("uid", user.id.as_deref())
        .text("name", user.name.as_deref())
        .put("groups", group)
        .done()
}

fn process(
    process: &Process,
    user: Option<&Value>,
    container: Option<&Container>,
    event: &Event,
) -> Value {
    let parent = process.parent.as_deref().map(|parent| {
        Known::new()
            .put("pid", Some(parent.pid))
            .text("uid", parent.entity_id.as_deref())
            .put("created_time", parent.start.map(milliseconds))
            .text("name", parent.name.as_deref())
            .text("cmd_line", parent.command_line.as_deref())
            .put("file", parent.executable.as_deref().map(executable))
            .done()
    });
    let lineage: Vec<&str> = event
        .fim
        .ancestors
        .iter()
        .filter_map(|ancestor: &Ancestor| {
            ancestor.executable.as_deref().or(ancestor.name.as_deref())
        })
        .map(text)
        .collect();
    let pod = event.kubernetes.as_ref().map(|kubernetes| kubernetes.pod.uid.as_str());
    let container = container.map(|container| {
        Known::new()
            .text("uid", Some(&container.id))
            .text("runtime", container.runtime.as_deref())
            .text("pod_uuid", pod.filter(|uid| is_uuid(uid)))
            .done()
    });
    Known::new()
        .put("pid", Some(process.pid))
        .put("tid", process.thread.map(|thread| thread.id))
        .text("uid", process.entity_id.as_deref())
        .put("created_time", process.start.map(milliseconds))
        .text("name", process.name.as_deref())
        .text("cmd_line", process.command_line.as_deref())
        .put("file", process.executable.as_deref().map(executable))
        .put("user", user.filter(|user| has_any(user, &["uid", "name"])).cloned())
        .put("parent_process", parent)
        .put("lineage", (!lineage.is_empty()).then(|| json!(lineage)))
        .put("container", container)
        .done()
}

/// As `uuid_t` has it.
fn is_uuid(uid: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = uid.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part))
}

fn executable(path: &str) -> Value {
    Known::new()
        .text("path", Some(path))
        .text("name", Some(name(path)))
        .put("type_id", Some(1))
        .done()
}

/// `file`, as it was; and `file_result`, as it is then. Of one that came to be, or is gone, there is
/// one only.
pub(super) fn files(event: &Event) -> (Value, Option<Value>) {
    let Some(after) = &event.file else { return (json!({"name": "unknown", "type_id": 0}), None) };
    let result = file(after, event.fim.after.as_deref());
    let before = event.fim.before.as_deref();
    match before {
        // There was nothing; what is there stands for both.
        None => (result.clone(), (!is_gone(event)).then_some(result)),
        Some(_) if is_gone(event) => (result, None),
        Some(before) => (earlier(after, before), Some(result)),
    }
}

fn is_gone(event: &Event) -> bool {
    use fim_common::event::Action;
    matches!(event.event.action, Action::Deleted | Action::Unmounted)
}

fn file(file: &File, side: Option<&Side>) -> Value {
    let owner = Known::new().text("uid", file.uid.as_deref()).text("name", file.owner.as_deref());
    let hash = file.hash.as_ref().map(|hash| hashes(&hash.sha256));
    let xattrs = side.and_then(|side| side.xattrs.as_ref());
    Known::new()
        .text("path", Some(&file.path))
        .text("name", Some(file.name.as_deref().unwrap_or_else(|| name(&file.path))))
        .text("parent_folder", file.directory.as_deref())
        .put("type_id", Some(kind(file.kind)))
        .put("size", file.size)
        .text("uid", file.inode.as_deref())
        .put("owner", (!owner.is_empty()).then(|| owner.done()))
        .put("modified_time", file.mtime.map(milliseconds))
        .put("hashes", hash)
        .put("xattributes", xattrs.map(|xattrs| json!(xattrs)))
        .done()
}

/// What is known of it before; what is not, is not taken from after.
fn earlier(after: &File, before: &Side) -> Value {
    let path = before.path.as_deref().unwrap_or(&after.path);
    Known::new()
        .text("path", Some(path))
        .text("name", Some(name(path)))
        .put("type_id", Some(kind(before.kind.or(after.kind))))
        .put("size", before.size)
        .text("uid", before.inode.as_deref())
        .put("owner", before.uid.as_deref().map(|uid| json!({"uid": uid})))
        .put("modified_time", before.mtime.map(milliseconds))
        .put("hashes", before.sha256.as_deref().map(hashes))
        .put("xattributes", before.xattrs.as_ref().map(|xattrs| json!(xattrs)))
        .done()
}

fn hashes(sha256: &str) -> Value {
    json!([{"algorithm": "SHA-256", "algorithm_id": 3, "value": sha256}])
}

fn kind(kind: Option<ObjectKind>) -> i64 {
    match kind {
        None => 0,
        Some(ObjectKind::File) => 1,
        Some(ObjectKind::Dir) => 2,
        Some(ObjectKind::CharDevice) => 3,
        Some(ObjectKind::BlockDevice) => 4,
        Some(ObjectKind::Socket) => 5,
        Some(ObjectKind::Fifo) => 6,
        Some(ObjectKind::Symlink) => 7,
    }
}

/// `reg_key`.
pub(super) fn key(registry: &Registry) -> Value {
    json!({"path": text(&registry.path)})
}

/// `reg_value`; its path is that of the key.
pub(super) fn value(registry: &Registry) -> Value {
    let value = registry.value.as_deref().unwrap_or_default();
    let key = registry.path.strip_suffix(value).and_then(|key| key.strip_suffix('\\'));
    let kind = registry.data.as_ref().and_then(|data| data.kind.as_deref());
    Known::new()
        .text("path", Some(key.unwrap_or(&registry.path)))
        .text("name", Some(value))
        .put("is_default", (value == "(Default)").then_some(true))
        .text("type", kind)
        .put("type_id", kind.map(value_kind))
        .put("data", registry.data.as_ref().and_then(data))
        .done()
}

/// Texts as they are, else the bytes in base64.
fn data(data: &RegistryData) -> Option<Value> {
    match (data.strings.as_deref(), &data.bytes) {
        (Some([one]), _) => Some(json!(one)),
        (Some(all), _) => Some(json!(all)),
        (None, bytes) => bytes.as_ref().map(|bytes| json!(bytes)),
    }
}

fn value_kind(kind: &str) -> i64 {
    match kind {
        "REG_BINARY" => 1,
        "REG_DWORD" | "REG_DWORD_LITTLE_ENDIAN" => 2,
        "REG_DWORD_BIG_ENDIAN" => 3,
        "REG_EXPAND_SZ" => 4,
        "REG_LINK" => 5,
        "REG_MULTI_SZ" => 6,
        "REG_NONE" => 7,
        "REG_QWORD" => 8,
        "REG_QWORD_LITTLE_ENDIAN" => 9,
        "REG_SZ" => 10,
        _ => 99,
    }
}

/// One element of `attacks`: `T1543.002` is a sub-technique of `T1543`.
pub(super) fn attack(id: &str) -> Value {
    match id.split_once('.') {
        Some((technique, _)) => {
            json!({"technique": {"uid": technique}, "sub_technique": {"uid": id}})
        }
        None => json!({"technique": {"uid": id}}),
    }
}

/// What the schema has no attribute for, by the names that the journal has.
pub(super) fn unmapped(event: &Event) -> Value {
    // An event can be written to JSON: it came from there.
    let all = serde_json::to_value(event).unwrap_or_default();
    let of = |pointer: &str, keys: &[&str]| {
        let part = all.pointer(pointer).and_then(Value::as_object)?;
        let kept: Map<String, Value> = part
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        (!kept.is_empty()).then_some(Value::Object(kept))
    };
    let mut fim = event.fim.clone();
    // These have a place.
    fim.message = None;
    if let Some(diff) = &mut fim.diff
        && diff.unified.as_deref().is_some_and(|diff| text(diff) == diff)
    {
        diff.unified = None;
    }
    fim.errno = None;
    let fim = serde_json::to_value(&fim).ok().filter(|fim| *fim != json!({}));
    let file =
        ["mode", "gid", "group", "device", "target_path", "ctime", "attributes", "fork_name"];
    let process = ["args", "working_directory", "tty"];
    Known::new()
        .put("event", of("/event", &["kind", "severity"]))
        .put("agent", of("/agent", &["ephemeral_id"]))
        .put("rule", of("/rule", &["name", "category"]))
        .put("file", of("/file", &file))
        .put("process", of("/process", &process))
        .put("user", of("/user", &["effective", "filesystem", "audit"]))
        .put("kubernetes", of("/kubernetes", &["pod"]))
        .put("fim", fim)
        .done()
}
