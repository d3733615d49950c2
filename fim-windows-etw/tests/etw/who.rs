//! Who did it: the user by the SID on the event, the process as the system has it.

use std::process::{Command, Stdio};

use fim_common::collector::Collector as _;
use fim_common::operation::OperationKind;
use fim_common::policy::{Pattern, Policy, RegistryPattern, Rule};
use fim_etw_standin as etw;
use fim_win32::process::Process;
use fim_win32::security;
use serde_json::json;

use crate::rig::{Rig, Setup, file, process, registry, wait};
use crate::writer::sid;

const SID: u16 = 2;
const START_KEY: u16 = 13;

fn acted(pid: u32, user: &str) -> etw::Record {
    let items = vec![(SID, sid(user)), (START_KEY, 77_u64.to_le_bytes().to_vec())];
    let values = json!({"FileObject": 7, "FileName": r"\D\new"});
    etw::Record { process: pid, items, ..file(30, values) }
}

/// Waits until what was told of a process has been taken in. On a live system records of files are
/// held for longer than that takes.
fn known(rig: &Rig) {
    let counters = rig.collector.counters();
    wait(|| (counters.records.load(std::sync::atomic::Ordering::Relaxed) > 0).then_some(()));
}

#[test]
fn a_user_is_the_whole_sid_and_has_a_name() {
    let own = security::own_sid().unwrap();
    // ferrisetw would cut it to S-1-5-21.
    assert!(own.split('-').count() > 5, "{own}");
    let mut rig = Setup::default().start("user").unwrap();
    etw::deliver(&rig.changes, [acted(0x7000_0000, &own)]);
    let operation = rig.next();
    let user = operation.actor.user.as_ref().unwrap();
    assert_eq!(user.id.as_deref(), Some(&*own));
    let account = security::account(&own).unwrap();
    assert_eq!(user.name, Some(format!(r"{}\{}", account.domain, account.name)));
    // Nothing is known of the process but what the event says.
    let process = operation.actor.process.as_ref().unwrap();
    assert_eq!(process.entity_id.as_deref(), Some("1879048192-77"));
    assert!(operation.actor.unknown.contains_key("process.command_line"));
    rig.stop();
}

#[test]
fn a_process_is_looked_at_when_it_starts() {
    let mut rig = Setup::default().start("child").unwrap();
    let mut child = Command::new("cmd.exe")
        .args(["/c", "set /p fim_waits="])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let found = Process::look(child.id()).unwrap();
    let values = json!({"ProcessID": child.id(), "CreateTime": found.created.unwrap(),
        "ParentProcessID": std::process::id(), "SessionID": 1,
        "ImageName": r"\Device\Nothing\cmd.exe"});
    etw::deliver(&rig.processes, [process(1, 0, values)]);
    known(&rig);
    let own = security::own_sid().unwrap();
    etw::deliver(&rig.changes, [acted(child.id(), &own)]);
    let actor = rig.next().actor;
    drop(child.stdin.take());
    child.wait().unwrap();
    let process = actor.process.as_ref().unwrap();
    assert_eq!(process.pid, child.id());
    assert_eq!(process.thread.unwrap().id, 1001);
    let line = process.command_line.as_deref().unwrap();
    assert!(line.contains("fim_waits"), "{line}");
    let arguments = process.args.as_deref().unwrap();
    assert_eq!(arguments[1..], ["/c", "set /p fim_waits="], "{line}");
    assert_eq!(process.name.as_deref(), Some("cmd.exe"));
    let parent = process.parent.as_ref().unwrap();
    assert_eq!(parent.pid, std::process::id());
    // This program ran before anybody looked.
    let us = std::env::current_exe().unwrap();
    let us = us.file_name().unwrap().to_str().unwrap();
    assert!(parent.name.as_deref().unwrap().eq_ignore_ascii_case(us), "{parent:?}");
    assert!(parent.command_line.is_some(), "{parent:?}");
    let user = actor.user.as_ref().unwrap();
    assert_eq!((user.id.as_deref(), &user.effective), (Some(&*own), &None));
    let token = actor.token.as_ref().unwrap();
    assert!(token.integrity_level.is_some() && token.elevated.is_some(), "{token:?}");
    rig.stop();
}

#[test]
fn another_process_with_the_same_id_is_not_it() {
    let mut rig = Setup::default().start("reused").unwrap();
    // One that has ended by now: we have its id.
    let created = Process::look(std::process::id()).unwrap().created.unwrap() - 600_000_000;
    let values = json!({"ProcessID": std::process::id(), "CreateTime": created,
        "ParentProcessID": 4, "SessionID": 1, "ImageName": r"\Device\Nothing\other.exe"});
    let before = created + 10;
    etw::deliver(&rig.processes, [etw::Record { time: before, ..process(1, 0, values) }]);
    known(&rig);
    let early = etw::Record { time: before + 10, ..acted(std::process::id(), "S-1-5-18") };
    etw::deliver(&rig.changes, [early]);
    let actor = rig.next().actor;
    let process = actor.process.as_ref().unwrap();
    assert_eq!(process.name.as_deref(), Some("other.exe"));
    assert_eq!(process.command_line, None);
    assert_eq!(actor.unknown["process.command_line"], "not_recorded");
    rig.stop();
}

fn reg(arguments: &[&str]) {
    let done = Command::new("reg.exe").args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

#[test]
fn keys_that_a_rule_asks_for_later_are_told_from_then_on() {
    let key = r"HKLM\SOFTWARE\fim-test-etw-later";
    let _ = Command::new("reg.exe").args(["delete", key, "/f"]).output();
    reg(&["add", key, "/v", "Old", "/d", "one.exe", "/f"]);
    let files = Rule::new("all", vec![Pattern::everything()]);
    let keys = Rule {
        registry: vec![RegistryPattern::parse(key, None).unwrap()],
        ..Rule::new("keys", Vec::new())
    };
    let mut rig = Setup::default().start("later").unwrap();
    assert!(!etw::running("later-registry"));
    // Both, and then what stays: as a reload does it.
    let both = Policy::for_windows(vec![files, keys.clone()]);
    rig.collector.rescope(&both).unwrap();
    rig.collector.rescope(&Policy::for_windows(vec![keys])).unwrap();
    assert!(etw::running("later-registry"));
    // The session that was there goes on: nothing is lost.
    assert_eq!((etw::started("later-changes"), rig.losses.take()), (1, None));

    let name = r"\REGISTRY\MACHINE\SOFTWARE\fim-test-etw-later";
    let set = |value: &str, data: &str| {
        reg(&["add", key, "/v", value, "/d", data, "/f"]);
        let open = json!({"KeyObject": 0x78, "RelativeName": name});
        let size = 2 * (data.len() + 1);
        let set = json!({"KeyObject": 0x78, "ValueName": value, "Type": 1, "DataSize": size});
        etw::deliver("later-registry", [registry(2, open), registry(5, set)]);
    };
    set("New", "x.exe");
    let mut told = rig.next();
    let OperationKind::Registry(new) = &told.kind else { panic!("{told:?}") };
    assert_eq!((new.value.as_deref(), &new.previous), (Some("New"), &None));
    assert_eq!(told.provider, fim_common::event::Provider::Etw);
    // What a session lost is found by looking, and what was there before the rule is not told.
    reg(&["add", key, "/v", "Silent", "/d", "x", "/f"]);
    etw::lose("later-registry", 1, 0);
    assert_eq!(rig.gap().hooks, ["etw_registry"]);
    told = rig.next();
    let OperationKind::Registry(found) = &told.kind else { panic!("{told:?}") };
    assert_eq!(found.value.as_deref(), Some("Silent"));
    // By now what was there is known.
    set("Old", "two.exe");
    told = rig.next();
    let OperationKind::Registry(old) = &told.kind else { panic!("{told:?}") };
    assert_eq!(old.previous.as_ref().unwrap().strings, Some(vec!["one.exe".to_owned()]));
    let rest = rig.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(!etw::running("later-registry"));
    reg(&["delete", key, "/f"]);
}

#[test]
fn a_value_is_told_with_what_it_was_and_by_whom() {
    let key = r"HKLM\SOFTWARE\fim-test-etw";
    let _ = Command::new("reg.exe").args(["delete", key, "/f"]).output();
    reg(&["add", key, "/v", "Run", "/d", "one.exe", "/f"]);
    let rule = Rule {
        registry: vec![RegistryPattern::parse(key, None).unwrap()],
        ..Rule::new("keys", Vec::new())
    };
    let setup = Setup { policy: Policy::for_windows(vec![rule]), ..Setup::default() };
    let mut rig = setup.start("values").unwrap();
    let own = security::own_sid().unwrap();
    let who = |record: etw::Record| etw::Record { items: vec![(SID, sid(&own))], ..record };
    let name = r"\REGISTRY\MACHINE\SOFTWARE\FIM-test-etw";
    reg(&["add", key, "/v", "Run", "/d", "another.exe", "/f"]);
    // As Windows tells it where it was not asked for the data: the type, the size, and nothing.
    let open = json!({"KeyObject": 0x77, "RelativeName": name});
    let set = json!({"KeyObject": 0x77, "ValueName": "run", "Type": 1, "DataSize": 24});
    etw::deliver(&rig.changes, [registry(2, open), who(registry(5, set))]);
    let told = rig.next();
    let OperationKind::Registry(set) = &told.kind else { panic!("{told:?}") };
    assert_eq!(set.data.as_ref().unwrap().strings, Some(vec!["another.exe".to_owned()]));
    assert_eq!(set.previous.as_ref().unwrap().strings, Some(vec!["one.exe".to_owned()]));
    assert_eq!((set.previous_size, set.size), (Some(16), Some(24)));
    assert!(set.sha256.is_some() && set.sha256 != set.previous_sha256);
    assert_eq!(told.actor.user.as_ref().unwrap().id.as_deref(), Some(&*own));

    reg(&["delete", key, "/v", "Run", "/f"]);
    let gone = json!({"KeyObject": 0x77, "ValueName": "Run"});
    etw::deliver(&rig.changes, [who(registry(6, gone))]);
    let told = rig.next();
    let OperationKind::Registry(gone) = &told.kind else { panic!("{told:?}") };
    assert_eq!(gone.previous.as_ref().unwrap().strings, Some(vec!["another.exe".to_owned()]));

    // What no event told is found when something was lost.
    reg(&["add", key, "/v", "Silent", "/d", "x", "/f"]);
    etw::lose(&rig.changes, 1, 0);
    let told = rig.next();
    let OperationKind::Registry(found) = &told.kind else { panic!("{told:?}") };
    assert_eq!(found.value.as_deref(), Some("Silent"));
    assert_eq!(told.provider, fim_common::event::Provider::Scan);
    // And what was told is not told again.
    let rest = rig.stop();
    assert!(rest.is_empty(), "{rest:?}");
    reg(&["delete", key, "/f"]);
}
