//! The formats `ocsf` and `cef`, of every kind of event, held against the published schema and a parser
//! that others have written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use fim_common::event::Event;
use fim_common::journal::{Journal, JournalOptions};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::{peers, touch, wait_metric};
use crate::agent::{Agent, Setup};
use crate::scratch::Scratch;

/// Of each line of the sinks' files: what it is about in the journal.
struct Told {
    journal: Vec<Value>,
    ocsf: Vec<Value>,
    cef: Vec<String>,
}

/// An agent whose journal has an event of every kind already, and these sinks.
pub(super) fn start(scratch: &Scratch, sinks: &str) -> (Agent, PathBuf) {
    let watched = scratch.directory("watched");
    let config = scratch.path().join("fim.toml");
    let text = format!(
        "recommended = false\n[journal]\nheartbeat = 1\n{sinks}\n\
         [[rule]]\nname = \"w | = \\\\ x\"\npaths = [{watched:?}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut setup = Setup::new(scratch.path(), &[]);
    setup.config = Some(config);
    let directory = setup.state_dir.join("journal");
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    let mut journal = Journal::open(&directory, JournalOptions::default()).unwrap();
    for (index, event) in events().into_iter().enumerate() {
        let mut event: Event = serde_json::from_value(event.clone())
            .unwrap_or_else(|error| panic!("{error}: {event}"));
        event.event.sequence = index as u64 + 1;
        event.event.id = format!("01890000-0000-7000-8000-{index:012}");
        journal.append(&event).unwrap();
    }
    drop(journal);
    (Agent::start(setup), watched)
}

/// What comes of them, and of what a real agent adds, in each format.
fn told(scratch: &Scratch) -> Told {
    let (ocsf, cef) = (scratch.path().join("ocsf.jsonl"), scratch.path().join("events.cef"));
    let sink = |format: &str, path: &Path| {
        format!(
            "[[sink]]\nname = \"{format}\"\ntype = \"file\"\nformat = \"{format}\"\n\
             path = {path:?}\nbatch_wait_ms = 0\n"
        )
    };
    let (agent, watched) = start(scratch, &(sink("ocsf", &ocsf) + &sink("cef", &cef)));
    let file = watched.join("a=b|c\\d \u{fc}");
    touch(&file);
    let told = agent.stream.wait_below(&file, |event| event.action() == "created");
    told.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    // So that little is left for the time that sinks have at the end.
    for sink in ["ocsf", "cef"] {
        wait_metric(&agent, "sent_total", sink, |count| count >= 100.0);
        wait_metric(&agent, "lag_events", sink, |lag| lag < 10.0);
    }
    agent.stop();
    let lines = |path: &Path| -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    };
    let ocsf = lines(&ocsf).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = Told { journal: agent.journal(), ocsf, cef: lines(&cef) };
    assert_eq!(told.ocsf.len(), told.journal.len(), "{}", agent.log());
    assert_eq!(told.cef.len(), told.journal.len(), "{}", agent.log());
    let parked = agent.setup.state_dir.join("sinks");
    assert!(!parked.exists(), "something is parked: {}", agent.log());
    told
}

/// Each action, with as much and as little as an event of it can have.
fn events() -> Vec<Value> {
    let time = "2026-11-22T19:50:01.393327336Z";
    let least = json!({
        "@timestamp": time,
        "event": {"id": "", "sequence": 0, "kind": "event", "category": ["file"], "type": ["info"],
            "action": "", "outcome": "success"},
        "host": {"os": {"type": "linux"}},
        "agent": {"type": "fim", "version": "0.1.0", "ephemeral_id": "formats-0000"},
        "fim": {},
    });
    let mut most = least.clone();
    let sha256 = "ab".repeat(32);
    let process = json!({
        "pid": 4711, "thread": {"id": 4712}, "entity_id": "e1", "start": time, "name": "vi=m|\\",
        "executable": "/usr/bin/vim", "args": ["vim", "a=b|c\\d\ne"], "working_directory": "/",
        "command_line": "vim a=b|c\\d\ne cs9=x",
        "tty": {"char_device": {"major": 136, "minor": 1}},
        "parent": {"pid": 1, "entity_id": "e0", "start": time, "name": "bash",
            "executable": "/bin/bash", "args": ["bash"], "command_line": "bash"},
    });
    let side = json!({"path": "/etc/old =x", "type": "file", "size": 1, "mode": "0600", "uid": "0",
        "gid": "0", "mtime": time, "inode": "7", "xattrs": {"user.a": "eA=="},
        "capabilities": "cap_net_raw=ep", "attributes": ["immutable"], "sha256": sha256,
        "acl": ["user::rw-"]});
    let more = json!({
        "rule": {"name": "etc | = \\ x", "category": "configuration"}, "tags": ["a", "b"],
        "threat": {"technique": {"id": ["T1543.002", "T1098"]}},
        "file": {"path": "/etc/new|\\=\nname", "name": "new|\\=\nname", "directory": "/etc",
            "type": "file", "target_path": "x", "inode": "8", "device": "254:0", "size": 2,
            "mode": "4755", "uid": "0", "gid": "0", "owner": "root", "group": "root", "mtime": time,
            "ctime": time, "hash": {"sha256": sha256}, "attributes": ["immutable"]},
        "process": process,
        "user": {"id": "0", "name": "root", "group": {"id": "0", "name": "root"},
            "effective": {"id": "0"}, "filesystem": {"id": "0"},
            "audit": {"id": "1000", "name": "alice"}},
        "container": {"id": "c0ffee", "runtime": "docker"},
        "kubernetes": {"pod": {"uid": "0a1b2c3d-0000-4000-8000-00000000000f"}},
        "host": {"name": "host-1.example.org", "id": "m1", "boot": {"id": "b1"},
            "architecture": "x86_64", "os": {"type": "linux", "name": "Debian GNU/Linux",
                "version": "12", "kernel": "6.1.0"}},
        "fim": {"path_b64": "L2V0Yw==", "before": side, "after": side, "changes": ["content", "mode"],
            "hash_state": "exact", "verdict": "unexpected", "verdict_reason": "content",
            "package": {"name": "p", "version": "1", "manager": "dpkg"},
            "operations": [{"operation": "modify", "count": 3, "first": time, "last": time}],
            "writers": [{"process": process}], "ancestors": [{"pid": 1, "name": "init"}],
            "diff": {"state": "complete", "from": sha256, "to": sha256,
                "unified": "@@ -1 +1 @@\n-a=1\n+a=2\n",
                "lines_added": 1, "lines_removed": 1},
            "unknown": {"process.args": "truncated"}},
    });
    merge(&mut most, more);
    let with = |base: &Value, action: &str, more: Value| {
        let mut event = base.clone();
        event["event"]["action"] = json!(action);
        merge(&mut event, more);
        event
    };
    // Longer than either format takes.
    let long = json!({"process": {"command_line": "y=".repeat(35_000)},
        "fim": {"diff": {"unified": "\u{e9}".repeat(70_000)}}});
    let mut all = vec![with(&most, "updated", long)];
    for action in OBJECT {
        for severity in [0, 30, 60, 80, 100] {
            all.push(with(
                &most,
                action,
                json!({"event": {"severity": severity, "kind": "alert",
                "provider": "bpf"}}),
            ));
        }
        let failed = json!({"event": {"outcome": "failure", "provider": "fanotify"},
            "fim": {"errno": "EACCES", "link_path": "/x"}});
        all.push(with(&most, action, failed));
        // Nobody was seen doing it.
        let found = json!({"file": {"path": "/"}, "event": {"provider": "scan"},
            "fim": {"unknown": {"process": "not_observed"}, "window": {"to": time}}});
        all.push(with(&least, action, found));
        let security = json!({"fim": {"changes": ["mode", "uid"]}, "host": {"name": "_odd name"}});
        all.push(with(&most, action, security));
    }
    let windows = json!({"event": {"category": ["registry"], "provider": "etw"}, "fim": {
        "token": {"integrity_level": "high", "elevated": true}}, "host": {"os": {"type": "windows"}}});
    let key = r"HKLM\SOFTWARE\Vendor";
    for action in ["created", "updated", "deleted", "moved", "attributes_modified"] {
        let registry =
            json!({"registry": {"path": key, "hive": "HKLM", "key": r"SOFTWARE\Vendor"}});
        let mut event = with(&most, action, windows.clone());
        event.as_object_mut().unwrap().remove("file");
        merge(&mut event, registry.clone());
        all.push(event);
        let mut event = with(&least, action, windows.clone());
        merge(&mut event, registry);
        merge(
            &mut event,
            json!({"fim": {"changes": ["security"], "errno": "STATUS_ACCESS_DENIED"},
            "event": {"outcome": "failure"}}),
        );
        all.push(event);
        for (name, data) in [
            ("(Default)", json!({"type": "REG_SZ", "strings": ["a=b|c\\"]})),
            ("list", json!({"type": "REG_MULTI_SZ", "strings": ["a", "b"]})),
            ("bytes", json!({"type": "REG_BINARY", "bytes": "AAEC"})),
            ("odd", json!({"type": "REG_RESOURCE_LIST"})),
            ("none", Value::Null),
        ] {
            let mut event = with(&least, action, windows.clone());
            let path = format!("{key}\\{name}");
            merge(&mut event, json!({"registry": {"path": path, "value": name, "hive": "HKLM"}}));
            if !data.is_null() {
                merge(
                    &mut event,
                    json!({"registry": {"data": data}, "fim": {"before": {"data": data}}}),
                );
            }
            all.push(event);
        }
    }
    for action in OWN {
        let own = json!({"event": {"kind": "state", "category": ["host"]}});
        all.push(with(&least, action, own.clone()));
        let mut event = with(&most, action, own);
        event.as_object_mut().unwrap().remove("file");
        merge(
            &mut event,
            json!({"fim": {"message": "said = |\\\nmore", "gap": {"from": time,
            "to": time, "hooks": ["ring"], "scope": []},
            "suppressed": [{"rule": "r", "condition": "c", "count": 1, "first": time, "last": time,
                "paths": ["/x"], "processes": [{"user": "root", "count": 1}]}],
            "baseline": {"objects": 1, "created": 1, "updated": 0, "deleted": 0, "unreadable": 0,
                "paths": []}, "journal": {"segment": 1, "entries": 2, "head": "00"}}}),
        );
        all.push(event);
    }
    for packages in [
        json!([]),
        json!([{"name": "vim", "manager": "dpkg", "after": "2"}]),
        json!([{"name": "vim", "manager": "dpkg", "before": "1"}]),
        json!([{"name": "vim", "manager": "dpkg", "before": "1", "after": "2"},
            {"name": "nano", "manager": "dpkg", "before": "1", "after": "2"}]),
        json!([{"name": "vim", "manager": "dpkg", "before": "1", "after": "2"},
            {"name": "nano", "manager": "dpkg", "after": "2"}]),
    ] {
        let run = json!({"event": {"category": ["package"]}, "fim": {"package_run": {"id": "e1",
            "manager": "apt", "packages": packages, "files": {"expected": 1, "unknown": 0,
            "unexpected": 0}}}});
        let mut event = with(&most, "package_run", run);
        event.as_object_mut().unwrap().remove("file");
        all.push(event);
    }
    all
}

const OBJECT: [&str; 8] = [
    "created",
    "updated",
    "attributes_modified",
    "moved",
    "deleted",
    "linked",
    "mounted",
    "unmounted",
];
const OWN: [&str; 16] = [
    "agent_started",
    "agent_stopped",
    "config_changed",
    "gap",
    "gap_closed",
    "canary_missed",
    "agent_killed",
    "agent_tampered",
    "clock_changed",
    "suppressed",
    "heartbeat",
    "baseline_created",
    "baseline_accepted",
    "journal_dropped",
    "journal_full",
    "journal_truncated",
];

/// Sets what `more` has.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// So that a kind of event that is new is not left out.
pub(super) fn assert_all_kinds(journal: &[Value]) {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/event.schema.json")).unwrap();
    let known = schema["$defs"]["Action"]["oneOf"].as_array().unwrap();
    let known: BTreeSet<&str> = known.iter().map(|one| one["const"].as_str().unwrap()).collect();
    let had = journal.iter().map(|event| event["event"]["action"].as_str().unwrap()).collect();
    assert_eq!(known, had, "actions without a test of their formats");
}

#[test]
fn ocsf_is_what_its_schema_says() {
    let Some(directory) = peers("sinks::formats") else { return };
    let scratch = Scratch::new("sinks-ocsf");
    let told = told(&scratch);
    assert_all_kinds(&told.journal);
    let mut validators: BTreeMap<String, Validator> = BTreeMap::new();
    let mut problems = BTreeSet::new();
    let mut seen: BTreeMap<(i64, i64), BTreeSet<String>> = BTreeMap::new();
    for (event, object) in told.journal.iter().zip(&told.ocsf) {
        assert_eq!(event["event"]["id"], object["metadata"]["uid"]);
        let (class, activity) =
            (object["class_uid"].as_i64().unwrap(), object["activity_id"].as_i64().unwrap());
        assert_eq!(object["type_uid"], class * 100 + activity);
        let profiles = object["metadata"]["profiles"].as_array().into_iter().flatten();
        let profiles: String =
            profiles.map(|profile| format!("-{}", profile.as_str().unwrap())).collect();
        for version in ["1.3.0", "1.8.0"] {
            let name = format!("ocsf-{version}-{class}{profiles}.json");
            let validator = validators.entry(name.clone()).or_insert_with(|| {
                let path = directory.join("formats").join(&name);
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
            });
            for error in validator.iter_errors(object) {
                let what: String = error.to_string().chars().take(300).collect();
                let action = &event["event"]["action"];
                problems.insert(format!("{name}, {action}: {}: {what}", error.instance_path()));
            }
        }
        let action = event["event"]["action"].as_str().unwrap().to_owned();
        seen.entry((class, activity)).or_default().insert(action);
    }
    assert!(problems.is_empty(), "{problems:#?}");
    // The table of docs/sinks.md.
    let expected = [
        ((1001, 1), "created"),
        ((1001, 3), "updated"),
        ((1001, 4), "deleted"),
        ((1001, 5), "moved"),
        ((1001, 6), "attributes_modified"),
        ((1001, 7), "attributes_modified"),
        ((1001, 12), "mounted"),
        ((1001, 13), "unmounted"),
        ((1001, 99), "linked"),
        ((6002, 1), "package_run"),
        ((6002, 2), "package_run"),
        ((6002, 3), "agent_started"),
        ((6002, 4), "agent_stopped"),
        ((6002, 8), "package_run"),
        ((201_001, 1), "created"),
        ((201_001, 4), "deleted"),
        ((201_001, 5), "moved"),
        ((201_001, 6), "attributes_modified"),
        ((201_002, 2), "created updated"),
        ((201_002, 3), "updated"),
        ((201_002, 4), "deleted"),
    ];
    for (key, actions) in expected {
        let had = seen.get(&key).map(|had| had.iter().cloned().collect::<Vec<_>>().join(" "));
        assert_eq!(had.as_deref(), Some(actions), "{key:?}");
    }
    // What is said of a change, once in full.
    let mut updated = told.ocsf.iter().filter(|object| object["type_uid"] == 100_103);
    let updated = updated.nth(1).unwrap();
    assert_eq!(updated["file"]["path"], "/etc/old =x");
    assert_eq!(updated["file_result"]["path"], "/etc/new|\\=\nname");
    assert_eq!(updated["file_result"]["hashes"][0]["value"], "ab".repeat(32));
    assert_eq!(updated["actor"]["process"]["container"]["uid"], "c0ffee");
    assert_eq!(updated["attacks"][0]["sub_technique"]["uid"], "T1543.002");
    assert_eq!(updated["unmapped"]["fim"]["verdict"], "unexpected");
    assert_eq!(updated["time"], 1_795_377_001_393_i64);
}

/// Prints what the parser makes of each line.
const PARSER: &str = "
import json, sys, pycef
for line in open(sys.argv[1], encoding='utf-8', newline='\\n'):
    print(json.dumps(pycef.parse(line.rstrip('\\n'))))
";

#[test]
fn cef_is_read_by_a_parser() {
    let Some(directory) = peers("sinks::formats") else { return };
    let scratch = Scratch::new("sinks-cef");
    let told = told(&scratch);
    assert_all_kinds(&told.journal);
    let output = Command::new("python3")
        .args(["-c", PARSER])
        .arg(scratch.path().join("events.cef"))
        .env("PYTHONPATH", directory.join("formats"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parsed = String::from_utf8(output.stdout).unwrap();
    let parsed: Vec<Value> =
        parsed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), told.journal.len());
    for ((event, line), read) in told.journal.iter().zip(&told.cef).zip(&parsed) {
        let is = |key: &str, wanted: &Value| {
            let wanted = match wanted {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            // The parser leaves escapes as they are.
            let had = read[key].as_str().map(unescaped);
            let most = wanted.map(|text| text.chars().take(4000).collect::<String>());
            assert_eq!(had, most.filter(|text| !text.is_empty()), "{key} of {line}");
        };
        assert_eq!(read["DeviceVendor"], "fim", "{line}");
        assert_eq!(read["DeviceVersion"], "0.1.0", "{line}");
        let severity: u8 = read["Severity"].as_str().unwrap().parse().unwrap();
        let known = event["event"]["severity"].as_u64();
        assert!(known.is_none_or(|known| u64::from(severity) == (known + 5) / 10), "{line}");
        is("externalId", &event["event"]["id"]);
        is("act", &event["event"]["action"]);
        is("outcome", &event["event"]["outcome"]);
        is("reason", &event["fim"]["errno"]);
        is("dvchost", &event["host"]["name"]);
        is("sequence", &event["event"]["sequence"]);
        is("rule", &event["rule"]["name"]);
        is("suser", &event["user"]["name"]);
        is("suid", &event["user"]["id"]);
        is("spid", &event["process"]["pid"]);
        is("processCommandLine", &event["process"]["command_line"]);
        is("containerId", &event["container"]["id"]);
        let path = if event["registry"].is_null() { &event["file"] } else { &event["registry"] };
        is("filePath", &path["path"]);
        is("fileHash", &event["file"]["hash"]["sha256"]);
        is("fsize", &event["file"]["size"]);
        is("oldFilePath", &event["fim"]["before"]["path"]);
        is("oldFilePermission", &event["fim"]["before"]["mode"]);
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => panic!("half an escape: {text}"),
            },
            _ => out.push(character),
        }
    }
    out
}
