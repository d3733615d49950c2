//! What the kernel may write, and what is to be told of it.

use serde_json::json;

use super::scenario::{Scenario, briefs};

const A: &str = "\\Device\\HarddiskVolume3\\d\\a.txt";
const B: &str = "\\Device\\HarddiskVolume3\\d\\b.txt";
const MAP: [&str; 2] = ["--map", "\\Device\\HarddiskVolume3=C:"];
const DENIED: u32 = 0xC000_0022;

fn told(scenario: &mut Scenario) -> Vec<String> {
    briefs(&scenario.events(&MAP))
}

#[test]
fn an_open_proves_nothing() {
    let mut s = Scenario::new();
    s.open(1, A, 2).open(2, A, 5).open(3, A, 1);
    assert!(told(&mut s).is_empty());
}

#[test]
fn an_open_with_its_outcome() {
    // Disposition, status, information, what is told.
    for (disposition, status, information, expected) in [
        (2, 0, 2, Some("created C:\\d\\a.txt")),
        (3, 0, 2, Some("created C:\\d\\a.txt")),
        (3, 0, 1, None),
        (1, 0, 1, None),
        (5, 0, 2, Some("created C:\\d\\a.txt")),
        (5, 0, 3, Some("updated C:\\d\\a.txt")),
        (4, 0, 3, Some("updated C:\\d\\a.txt")),
        (0, 0, 0, Some("updated C:\\d\\a.txt")),
        (2, 0xC000_0035, 0, Some("created C:\\d\\a.txt failed STATUS_OBJECT_NAME_COLLISION")),
        (4, DENIED, 0, Some("updated C:\\d\\a.txt failed STATUS_ACCESS_DENIED")),
        (1, DENIED, 0, None),
        (2, 0x104, 0, None),
    ] {
        let mut s = Scenario::new();
        s.open(1, A, disposition).outcome(1, status, information);
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(told(&mut s), expected, "{disposition} {status:#x} {information}");
    }
}

#[test]
fn one_creation_is_told_once_however_often_the_kernel_says_it() {
    let mut s = Scenario::new();
    s.open(1, A, 2);
    s.file(30, json!({"FileObject": 1, "FileName": A, "CreateOptions": 2 << 24}));
    s.file(10, json!({"FileKey": 9, "FileName": A}));
    s.outcome(1, 0, 2);
    s.on(16, 1, 9, json!({"IOSize": 100})).outcome(1, 0, 100);
    s.on(16, 1, 9, json!({"IOSize": 50})).outcome(1, 0, 50);
    s.on(13, 1, 9, json!({})).on(14, 1, 9, json!({}));
    let events = s.events(&MAP);
    assert_eq!(briefs(&events), ["created C:\\d\\a.txt"]);
    let write = &events[0]["fim"]["operations"][1];
    assert_eq!((&write["operation"], &write["bytes"]), (&"modify".into(), &150.into()));
    assert_eq!(events[0]["fim"]["original_path"], A);
    assert_eq!(events[0]["file"]["directory"], "C:\\d");
    assert_eq!(events[0]["file"]["name"], "a.txt");
}

#[test]
fn a_directory() {
    let mut s = Scenario::new();
    s.file(30, json!({"FileObject": 1, "FileName": A, "CreateOptions": 2 << 24 | 1}));
    let events = s.events(&MAP);
    assert_eq!(events[0]["file"]["type"], "dir");
}

#[test]
fn writes_that_bring_to_disk_what_was_written_before() {
    let mut s = Scenario::new();
    s.open(1, A, 1).on(16, 1, 9, json!({})).on(13, 1, 9, json!({}));
    // After the last handle was closed, and as paging.
    s.pid = 4;
    s.later(100).on(16, 1, 9, json!({})).on(16, 2, 9, json!({"IOFlags": 0x43}));
    s.on(17, 1, 9, json!({"InfoClass": 20})).on(14, 1, 9, json!({}));
    let events = s.events(&MAP);
    assert_eq!(briefs(&events), ["updated C:\\d\\a.txt"]);
    assert_eq!(events[0]["process"]["pid"], 1000);
    assert!(events[0]["fim"]["writers"].is_null());
}

#[test]
fn a_file_that_is_written_for_a_long_time_is_told_while_it_is_open() {
    let mut s = Scenario::new();
    s.open(1, A, 1);
    for _ in 0..50 {
        s.on(16, 1, 9, json!({"IOSize": 10})).later(100);
    }
    s.on(13, 1, 9, json!({})).on(14, 1, 9, json!({}));
    let events = s.events(&MAP);
    assert!((2..10).contains(&events.len()), "{:?}", briefs(&events));
    let written: u64 =
        events.iter().map(|event| event["fim"]["operations"][0]["bytes"].as_u64().unwrap()).sum();
    assert_eq!(written, 500);
}

#[test]
fn a_rename_takes_the_name_of_the_handle_and_tells_the_new_one() {
    let mut s = Scenario::new();
    s.open(1, A, 1).on(27, 1, 9, json!({"FilePath": B, "InfoClass": 10}));
    s.file(11, json!({"FileKey": 9, "FileName": A}));
    s.file(10, json!({"FileKey": 9, "FileName": B}));
    s.on(14, 1, 9, json!({}));
    // By the file's address it has the new name.
    s.on(16, 5, 9, json!({})).on(13, 5, 9, json!({}));
    assert_eq!(told(&mut s), ["moved C:\\d\\a.txt -> C:\\d\\b.txt", "updated C:\\d\\b.txt"]);
}

#[test]
fn a_rename_without_its_path_is_known_by_the_names_that_go_and_come() {
    let mut s = Scenario::new();
    s.open(1, A, 1).on(19, 1, 9, json!({"InfoClass": 10}));
    s.pid = 4;
    s.file(11, json!({"FileKey": 9, "FileName": A}));
    s.file(10, json!({"FileKey": 9, "FileName": B}));
    let events = s.events(&MAP);
    assert_eq!(briefs(&events), ["moved C:\\d\\a.txt -> C:\\d\\b.txt"]);
    assert_eq!(events[0]["process"]["pid"], 1000);
}

#[test]
fn a_rename_that_fails_changes_nothing() {
    let mut s = Scenario::new();
    s.open(1, A, 1).outcome(1, 0, 1);
    s.on(19, 1, 9, json!({})).on(27, 1, 9, json!({"FilePath": B})).outcome(1, DENIED, 0);
    s.on(16, 1, 9, json!({})).outcome(1, 0, 0).on(13, 1, 9, json!({}));
    assert_eq!(
        told(&mut s),
        ["moved ? -> C:\\d\\a.txt failed STATUS_ACCESS_DENIED", "updated C:\\d\\a.txt"]
    );
}

#[test]
fn what_lies_in_a_renamed_directory_has_its_new_path() {
    let mut s = Scenario::new();
    s.open(1, A, 1).open(2, "\\Device\\HarddiskVolume3\\d", 1);
    s.on(27, 2, 8, json!({"FilePath": "\\Device\\HarddiskVolume3\\e"}));
    s.on(16, 1, 9, json!({})).on(13, 1, 9, json!({}));
    assert_eq!(told(&mut s), ["moved C:\\d -> C:\\e", "updated C:\\e\\a.txt"]);
}

#[test]
fn a_hard_link() {
    let mut s = Scenario::new();
    s.open(1, A, 1).on(28, 1, 9, json!({"FilePath": B}));
    s.file(10, json!({"FileKey": 9, "FileName": B}));
    assert_eq!(told(&mut s), ["linked C:\\d\\b.txt"]);
}

#[test]
fn a_deletion_counts_when_the_handle_is_closed() {
    let mut s = Scenario::new();
    s.open(1, A, 1).on(18, 1, 9, json!({"InfoClass": 13, "ExtraInformation": 1}));
    s.on(26, 1, 9, json!({"FilePath": A, "InfoClass": 13, "ExtraInformation": 1}));
    s.pid = 4;
    s.on(13, 1, 9, json!({})).file(11, json!({"FileKey": 9, "FileName": A}));
    let events = s.events(&MAP);
    assert_eq!(briefs(&events), ["deleted C:\\d\\a.txt"]);
    assert_eq!(events[0]["process"]["pid"], 1000);
    // Taken back.
    let mut s = Scenario::new();
    s.open(1, A, 1);
    s.on(26, 1, 9, json!({"FilePath": A, "InfoClass": 64, "ExtraInformation": 3}));
    s.on(26, 1, 9, json!({"FilePath": A, "InfoClass": 64, "ExtraInformation": 0}));
    s.on(13, 1, 9, json!({}));
    assert!(told(&mut s).is_empty());
    // Nothing but the name that goes.
    let mut s = Scenario::new();
    s.file(11, json!({"FileKey": 9, "FileName": A}));
    assert_eq!(told(&mut s), ["deleted C:\\d\\a.txt"]);
    // Asked for when it was opened.
    let mut s = Scenario::new();
    let options = 1 << 24 | 0x1000;
    s.file(12, json!({"FileObject": 1, "FileName": A, "CreateOptions": options}));
    s.pid = 4;
    s.on(13, 1, 9, json!({})).on(14, 1, 9, json!({}));
    let events = s.events(&MAP);
    assert_eq!(briefs(&events), ["deleted C:\\d\\a.txt"]);
    assert_eq!(events[0]["process"]["pid"], 1000);
    // Refused: one attempt, although two events tell of it.
    let mut s = Scenario::new();
    s.open(1, A, 1).outcome(1, 0, 1).on(18, 1, 9, json!({"InfoClass": 13}));
    s.on(26, 1, 9, json!({"FilePath": A, "InfoClass": 13, "ExtraInformation": 1}));
    s.outcome(1, 0xC000_0121, 0).on(13, 1, 9, json!({}));
    assert_eq!(told(&mut s), ["deleted C:\\d\\a.txt failed STATUS_CANNOT_DELETE"]);
}

#[test]
fn a_file_that_is_deleted_and_made_again() {
    let mut s = Scenario::new();
    for object in [1, 2] {
        s.file(30, json!({"FileObject": object, "FileName": A, "CreateOptions": 2 << 24}));
        s.on(26, object, 9, json!({"FilePath": A})).on(14, object, 9, json!({}));
    }
    let once = ["created C:\\d\\a.txt", "deleted C:\\d\\a.txt"];
    assert_eq!(told(&mut s), [once, once].concat());
}

#[test]
fn attributes_security_and_extended_attributes() {
    let mut s = Scenario::new();
    s.open(1, A, 1);
    for (id, class) in [(17, 4), (31, 0), (33, 0), (17, 14), (22, 4), (32, 0), (34, 0)] {
        s.on(id, 1, 9, json!({"InfoClass": class}));
    }
    let events = s.events(&MAP);
    let changes: Vec<_> = events.iter().map(|event| event["fim"]["changes"][0].clone()).collect();
    assert_eq!(changes, ["attributes", "security", "xattrs"]);
    assert!(briefs(&events).iter().all(|text| text == "attributes_modified C:\\d\\a.txt"));
}

#[test]
fn an_address_that_is_used_again_is_another_file() {
    let mut s = Scenario::new();
    s.open(1, A, 1).open(1, B, 1).on(16, 1, 0, json!({})).on(13, 1, 0, json!({}));
    assert_eq!(told(&mut s), ["updated C:\\d\\b.txt"]);
}

#[test]
fn a_file_that_was_opened_before_the_trace_has_no_name() {
    let mut s = Scenario::new();
    s.on(16, 1, 9, json!({})).on(17, 1, 9, json!({"InfoClass": 4}));
    let (_, stats, _) = super::command::stats(&s.trace(), &[]);
    assert_eq!(stats["correlation"]["nameless_files"], 2);
    assert_eq!(stats["events"], 0);
}

#[test]
fn streams_shares_and_paths_that_nothing_is_known_of() {
    let mut s = Scenario::new();
    for (object, name) in [
        "\\Device\\HarddiskVolume3\\d\\a.txt:Zone.Identifier",
        "\\Device\\Mup\\DfsClient\\;Z:0000000000012345\\srv\\share\\x",
        "\\Device\\HarddiskVolume30\\x",
    ]
    .into_iter()
    .enumerate()
    {
        let object = object + 1;
        s.file(30, json!({"FileObject": object, "FileName": name, "CreateOptions": 2 << 24}));
    }
    let events = s.events(&MAP);
    assert_eq!(
        briefs(&events),
        [
            "created C:\\d\\a.txt:Zone.Identifier",
            "created \\\\srv\\share\\x",
            "created \\Device\\HarddiskVolume30\\x",
        ]
    );
    assert_eq!(events[0]["file"]["fork_name"], "Zone.Identifier");
    assert_eq!(events[0]["file"]["name"], "a.txt");
    assert!(events[2]["fim"]["original_path"].is_null());
}

#[test]
fn rules_decide_what_is_told() {
    let mut s = Scenario::new();
    for (object, name) in [(1, A), (2, B)] {
        s.file(30, json!({"FileObject": object, "FileName": name, "CreateOptions": 2 << 24}));
    }
    let trace = s.trace();
    let run = |arguments: &[&str]| {
        let (code, events) = super::command::events(&trace, &[&MAP[..], arguments].concat());
        assert_eq!(code, 0);
        events
    };
    assert_eq!(briefs(&run(&["--watch", "c:/D/A*"])), ["created C:\\d\\a.txt"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fim.toml");
    let config =
        "[[rule]]\nname = 'b'\npaths = ['C:\\d']\nexclude = ['C:\\D\\a.txt']\nseverity = 'high'\n";
    std::fs::write(&file, config).unwrap();
    let events = run(&["--config", file.to_str().unwrap()]);
    assert_eq!(briefs(&events), ["created C:\\d\\b.txt"]);
    assert_eq!(
        (&events[0]["rule"]["name"], &events[0]["event"]["kind"]),
        (&"b".into(), &"alert".into())
    );
}

#[test]
fn a_registry_key_by_absolute_and_relative_names() {
    let mut s = Scenario::new();
    let set = "\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001";
    s.registry(2, json!({"KeyObject": 1, "RelativeName": set}));
    s.registry(
        1,
        json!({"BaseObject": 1, "KeyObject": 2, "RelativeName": "Services\\x", "Disposition": 1}),
    );
    s.registry(
        1,
        json!({"BaseObject": 1, "KeyObject": 3, "RelativeName": "Services\\x", "Disposition": 2}),
    );
    // The close may come before the write in front of it.
    s.registry(13, json!({"KeyObject": 2})).later(500);
    s.registry(5, json!({"KeyObject": 2, "ValueName": "Start", "Type": 4, "DataSize": 4}));
    s.later(3000);
    s.registry(5, json!({"KeyObject": 2, "ValueName": "late", "Type": 4}));
    s.registry(15, json!({"KeyObject": 3})).registry(6, json!({"KeyObject": 3, "ValueName": ""}));
    s.registry(3, json!({"KeyObject": 3, "Status": DENIED}));
    s.registry(2, json!({"KeyObject": 0, "Status": DENIED, "RelativeName": "\\REGISTRY\\USER\\x"}));
    let trace = s.trace();
    let (_, events) = super::command::events(&trace, &[]);
    let key = "HKLM\\SYSTEM\\ControlSet001\\Services\\x";
    assert_eq!(
        briefs(&events),
        [
            format!("created {key}"),
            format!("updated {key}\\Start"),
            "updated \\late".to_owned(),
            format!("attributes_modified {key}"),
            format!("deleted {key}\\(Default)"),
            format!("deleted {key} failed STATUS_ACCESS_DENIED"),
        ]
    );
    assert_eq!(events[1]["fim"]["unknown"]["registry.data"], "not_captured");
    assert_eq!(events[1]["fim"]["after"]["size"], 4);
    assert_eq!(events[1]["event"]["category"][0], "registry");
    assert_eq!(events[0]["registry"]["hive"], "HKLM");
    assert_eq!(events[0]["fim"]["original_path"], format!("{set}\\Services\\x"));
    // A rule may call the control set the current one.
    let rule = ["--watch", "HKLM\\System\\CurrentControlSet\\Services\\*\\Start"];
    let (_, events) = super::command::events(&trace, &rule);
    assert_eq!(briefs(&events), [format!("updated {key}\\Start")]);
}

#[test]
fn registry_data_of_each_type() {
    for (kind, bytes, name, strings) in [
        (1, "410042000000", "REG_SZ", json!(["AB"])),
        (2, "25000000", "REG_EXPAND_SZ", json!(["%"])),
        (3, "0102", "REG_BINARY", json!(null)),
        (4, "01000080", "REG_DWORD", json!(["2147483649"])),
        (5, "00000102", "REG_DWORD_BIG_ENDIAN", json!(["258"])),
        (7, "4100000042000000000000", "REG_MULTI_SZ", json!(["A", "B"])),
        (11, "0100000000000000", "REG_QWORD", json!(["1"])),
        (99, "00", "REG_99", json!(null)),
    ] {
        let mut s = Scenario::new();
        s.registry(2, json!({"KeyObject": 1, "RelativeName": "\\REGISTRY\\MACHINE\\K"}));
        s.registry(
            5,
            json!({"KeyObject": 1, "ValueName": "v", "Type": kind,
            "CapturedData": bytes, "DataSize": bytes.len() / 2,
            "PreviousDataType": 4, "PreviousDataSize": 4, "PreviousData": "05000000"}),
        );
        let events = s.events(&[]);
        let data = &events[0]["registry"]["data"];
        assert_eq!((&data["type"], &data["strings"]), (&name.into(), &strings), "{name}");
        let before = &events[0]["fim"]["before"];
        assert_eq!((&before["size"], &before["data"]["strings"][0]), (&4.into(), &"5".into()));
    }
}
