//! Who did it.

use serde_json::{Value, json};

use fim_windows_etw::decode::{CLASSIC_FILE, CLASSIC_PROCESS};
use fim_windows_etw::etl::PointerSize;

use super::scenario::Scenario;
use super::writer::{Options, START, sid};

const A: &str = "\\Device\\HarddiskVolume3\\a.txt";
const ITEM_SID: u16 = 2;
const ITEM_START_KEY: u16 = 13;

fn create(s: &mut Scenario, object: u64) {
    let name = format!("{A}{object}");
    s.file(30, json!({"FileObject": object, "FileName": name, "CreateOptions": 2 << 24}));
}

fn start(s: &mut Scenario, pid: u32, sequence: u64, parent: u32, image: &str) {
    let header = std::mem::replace(&mut s.pid, parent);
    let time = s.time;
    s.process(
        1,
        3,
        json!({"ProcessID": pid, "ProcessSequenceNumber": sequence, "CreateTime": time,
        "ParentProcessID": parent, "ParentProcessSequenceNumber": sequence - 1, "SessionID": 1,
        "ProcessTokenElevationType": 2, "ProcessTokenIsElevated": 1,
        "MandatoryLabel": "S-1-16-12288", "ImageName": image}),
    );
    s.pid = header;
}

fn name(event: &Value) -> Option<&str> {
    event["process"]["name"].as_str()
}

#[test]
fn the_process_its_parent_and_its_rights() {
    let mut s = Scenario::new();
    start(&mut s, 500, 41, 4, "\\Device\\HarddiskVolume3\\Windows\\explorer.exe");
    start(&mut s, 1000, 42, 500, "\\Device\\HarddiskVolume3\\x\\tool.exe");
    create(&mut s, 1);
    let events = s.events(&["--map", "\\Device\\HarddiskVolume3=C:"]);
    let event = &events[0];
    assert_eq!(name(event), Some("tool.exe"));
    assert_eq!(event["process"]["executable"], "C:\\x\\tool.exe");
    assert_eq!(event["process"]["entity_id"], "1000-42");
    assert_eq!(event["process"]["thread"]["id"], 1001);
    assert_eq!(event["process"]["parent"]["name"], "explorer.exe");
    assert_eq!(event["fim"]["ancestors"][0]["pid"], 500);
    let token = &event["fim"]["token"];
    assert_eq!(token["integrity_level"], "high");
    assert_eq!((&token["elevated"], &token["elevation_type"]), (&true.into(), &"full".into()));
    assert_eq!(token["session"], 1);
    assert_eq!(event["fim"]["unknown"]["process.command_line"], "not_recorded");
    assert_eq!(event["fim"]["unknown"]["process.args"], "not_recorded");
    assert_eq!(event["fim"]["unknown"]["user"], "not_recorded");
}

#[test]
fn a_process_id_that_is_used_again() {
    let mut s = Scenario::new();
    start(&mut s, 1000, 10, 4, "\\first.exe");
    create(&mut s, 1);
    s.process(2, 2, json!({"ProcessID": 1000, "ProcessSequenceNumber": 10}));
    // The kernel completes something for a process that has ended; later it is somebody else.
    create(&mut s, 2);
    s.later(5000);
    create(&mut s, 3);
    start(&mut s, 1000, 20, 4, "\\second.exe");
    create(&mut s, 4);
    // The start key says which, whatever the time; one that is not known is nobody known.
    for (object, key) in [(5, 10u64), (6, 20), (7, 99)] {
        s.items = vec![(ITEM_START_KEY, (key | 0x5 << 48).to_le_bytes().to_vec())];
        create(&mut s, object);
    }
    let events = s.events(&[]);
    let names: Vec<_> = events.iter().map(name).collect();
    let (first, second) = (Some("first.exe"), Some("second.exe"));
    assert_eq!(names, [first, first, None, second, first, second, None]);
    assert_eq!(events[2]["fim"]["unknown"]["process.executable"], "not_in_trace");
    assert_eq!(events[6]["process"]["entity_id"], "1000-99");
}

#[test]
fn the_user_by_the_whole_sid() {
    let mut s = Scenario::new();
    for (object, user) in [(1, "S-1-5-21-1-2-3-1001"), (2, "S-1-5-18")] {
        s.items = vec![(6, vec![0; 16]), (ITEM_SID, sid(user))];
        create(&mut s, object);
    }
    // One that is none.
    s.items = vec![(ITEM_SID, vec![9; 5])];
    create(&mut s, 3);
    let events = s.events(&[]);
    assert_eq!(events[0]["user"]["id"], "S-1-5-21-1-2-3-1001");
    assert_eq!(events[1]["user"]["name"], "NT AUTHORITY\\SYSTEM");
    assert!(events[2]["user"]["id"].is_null());
}

/// The NT Kernel Logger names files that were opened before, and knows command lines and users.
#[test]
fn classic_events_of_both_widths() {
    for pointer in [PointerSize::Four, PointerSize::Eight] {
        for version in 1..=4 {
            let mut s = Scenario::with(Options { pointer, ..Options::default() });
            s.classic(
                CLASSIC_PROCESS,
                3,
                3,
                version,
                json!({"ProcessID": 1000,
                "ParentProcessID": 4, "UserSID": "S-1-5-21-7-8", "ImageName": "tool.exe",
                "CommandLine": "tool.exe --all"}),
            );
            s.classic(CLASSIC_FILE, 4, 36, 2, json!({"FileKey": 77, "FileName": A}));
            s.items = vec![(ITEM_SID, sid("S-1-5-18"))];
            s.on(16, 5, 77, json!({}));
            let events = s.events(&[]);
            assert_eq!(events[0]["file"]["path"], A);
            assert_eq!(name(&events[0]), Some("tool.exe"));
            let line = &events[0]["process"]["command_line"];
            assert_eq!(line.as_str(), (version > 1).then_some("tool.exe --all"));
            let arguments = (version > 1).then(|| json!(["tool.exe", "--all"]));
            assert_eq!(events[0]["process"].get("args"), arguments.as_ref());
            // Somebody else's thread in that process.
            assert_eq!(events[0]["user"]["id"], "S-1-5-21-7-8");
            assert_eq!(events[0]["user"]["effective"]["id"], "S-1-5-18");
        }
    }
}

#[test]
fn every_version_of_the_process_events() {
    for (id, version) in [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (15, 0), (15, 1), (15, 2)] {
        let mut s = Scenario::new();
        s.process(
            id,
            version,
            json!({"ProcessID": 1000, "CreateTime": START,
            "ImageName": "\\x\\tool.exe"}),
        );
        create(&mut s, 1);
        let events = s.events(&[]);
        assert_eq!(name(&events[0]), Some("tool.exe"), "{id} v{version}");
    }
    for version in 0..3 {
        let mut s = Scenario::new();
        create(&mut s, 1);
        s.process(
            2,
            version,
            json!({"ProcessID": 1000, "CreateTime": START,
            "ImageName": "tool.exe"}),
        );
        create(&mut s, 2);
        let events = s.events(&[]);
        assert_eq!((name(&events[0]), name(&events[1])), (None, Some("tool.exe")), "v{version}");
    }
}

/// An item that says it is a SID, and is none, names nobody: no user without an id.
#[test]
fn a_sid_that_is_none_is_no_user() {
    let mut s = Scenario::new();
    s.items = vec![(ITEM_SID, vec![1, 5, 0, 0])];
    create(&mut s, 1);
    let events = s.events(&[]);
    assert!(events[0]["user"].is_null(), "{}", events[0]["user"]);
    assert_eq!(events[0]["fim"]["unknown"]["user"], "not_recorded");
}
