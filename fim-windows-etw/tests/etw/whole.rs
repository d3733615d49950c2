//! The agent: from events of a session to its journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim_commands::Arguments;
use fim_common::event::{Event, Provider};
use fim_common::pipeline::Format;
use fim_etw_standin as etw;
use fim_windows_etw::commands::run::run;
use serde_json::json;
use tokio::sync::Notify;

use crate::errors::AGENT;
use crate::rig::{device_path, directory, file, wait};
use crate::writer::sid;

fn journal(state: &Path) -> Vec<Event> {
    let Ok(entries) = std::fs::read_dir(state.join("journal")) else { return Vec::new() };
    let mut segments: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.sort();
    let text: String = segments.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn what_a_session_tells_reaches_the_journal() {
    let _agent = AGENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_made, top) = directory();
    let watched = top.join("Watched");
    std::fs::create_dir(&watched).unwrap();
    std::fs::write(watched.join("Known.txt"), "before").unwrap();
    let state = top.join("state");
    let config = top.join("fim.toml");
    let lower = watched.to_str().unwrap().to_lowercase();
    std::fs::write(&config, format!("[[rule]]\nname = 'files'\npaths = ['{lower}']\n")).unwrap();
    let stop = Arc::new(Notify::new());
    let agent = std::thread::spawn({
        let (stop, state) = (Arc::clone(&stop), state.clone());
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let arguments = Arguments {
            config: Some(config),
            output: Some(Format::None),
            state_dir: state,
            metrics: Some(metrics),
            ..Arguments::default()
        };
        move || run(&arguments, &stop)
    });
    let event = |action: &str, end: &str| {
        wait(|| {
            assert!(!agent.is_finished(), "the agent has ended");
            journal(&state).into_iter().find(|event| {
                let path = event.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
                event.event.action.as_str() == action && path.ends_with(end)
            })
        })
    };
    wait(|| {
        journal(&state).into_iter().find(|event| event.event.action.as_str() == "agent_started")
    });

    // The kernel tells a name as it was asked for.
    let path = watched.join("New.txt");
    std::fs::write(&path, "hello").unwrap();
    let named = device_path(&path).to_uppercase();
    let who = |record: etw::Record| etw::Record {
        process: std::process::id(),
        items: vec![(2, sid("S-1-5-18"))],
        ..record
    };
    let records = [
        file(
            12,
            json!({"Irp": 1, "FileObject": 1, "FileName": named, "CreateOptions": 0x500_0060}),
        ),
        file(
            30,
            json!({"Irp": 1, "FileObject": 1, "FileName": named, "CreateOptions": 0x500_0060}),
        ),
        file(24, json!({"Irp": 1, "Status": 0, "ExtraInformation": 2})),
        file(16, json!({"Irp": 2, "FileObject": 1, "FileKey": 9, "IOSize": 5})),
        file(24, json!({"Irp": 2, "Status": 0, "ExtraInformation": 5})),
        file(13, json!({"Irp": 3, "FileObject": 1, "FileKey": 9})),
    ];
    etw::deliver("fim-changes", records.map(who));
    let created = event("created", r"Watched\New.txt");
    assert_eq!(created.event.provider, Some(Provider::Etw));
    let told = created.file.as_ref().unwrap();
    assert_eq!(PathBuf::from(&told.path), path, "as the disk spells it");
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(told.hash.as_ref().map(|hash| hash.sha256.as_str()), Some(hash));
    let process = created.process.as_ref().unwrap();
    assert_eq!(process.pid, std::process::id());
    assert!(process.command_line.is_some());
    // Whose process it is, and for whom it acted.
    let user = created.user.as_ref().unwrap();
    assert_eq!(user.id, fim_win32::security::own_sid().ok());
    assert_eq!(user.effective.as_ref().map(|user| &*user.id), Some("S-1-5-18"));

    // What a lost event would have told is found by comparing.
    std::fs::write(watched.join("Known.txt"), "after").unwrap();
    etw::lose("fim-changes", 1, 0);
    let found = event("updated", "Known.txt");
    assert_eq!(found.event.provider, Some(Provider::Scan));
    let gap = journal(&state).into_iter().find(|event| event.event.action.as_str() == "gap");
    assert!(gap.is_some());

    // Deleted by a name in other letters: known by that of the baseline.
    std::fs::remove_file(&path).unwrap();
    let records = [
        file(
            12,
            json!({"Irp": 1, "FileObject": 2, "FileName": named, "CreateOptions": 0x100_0060}),
        ),
        file(24, json!({"Irp": 1, "Status": 0, "ExtraInformation": 1})),
        file(
            26,
            json!({"Irp": 2, "FileObject": 2, "FileKey": 9, "InfoClass": 13,
            "ExtraInformation": 1, "FilePath": named}),
        ),
        file(24, json!({"Irp": 2, "Status": 0})),
        file(13, json!({"Irp": 3, "FileObject": 2, "FileKey": 9})),
    ];
    etw::deliver("fim-changes", records.map(who));
    let deleted = event("deleted", "New.txt");
    assert_eq!(deleted.event.provider, Some(Provider::Etw));
    assert!(deleted.fim.before.is_some(), "{deleted:?}");

    stop.notify_one();
    agent.join().unwrap().unwrap();
    let last = journal(&state).pop().unwrap();
    assert_eq!(last.event.action.as_str(), "agent_stopped");
    for session in ["fim-changes", "fim-processes", "fim-names"] {
        assert!(!etw::running(session), "{session}");
    }
}
