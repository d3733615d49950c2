//! What the system may refuse, and that nothing is left behind then.

use std::sync::{Arc, Mutex};

use fim_common::baseline::Baseline;
use fim_common::collector::Collector as _;
use fim_common::config::Config;
use fim_common::event::Provider;
use fim_common::loss::Losses;
use fim_common::policy::Policy;
use fim_etw_standin as etw;
use fim_win32::etw::StartError;
use fim_windows_etw::live::choice;
use fim_windows_etw::live::etw::{EtwError, Sizes, probe};
use serde_json::json;

use crate::rig::{Setup, file};

/// For whoever uses the sessions of a real agent: their names are fixed.
pub(crate) static AGENT: Mutex<()> = Mutex::new(());

fn refused(prefix: &str) -> StartError {
    match Setup::default().start(prefix) {
        Err(EtwError::Session(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was started"),
    }
}

#[test]
fn access_denied_at_each_step_leaves_no_session() {
    for (number, function) in
        ["StartTraceW", "EnableTraceEx2", "OpenTraceW"].into_iter().enumerate()
    {
        for session in ["processes", "changes"] {
            let prefix = format!("denied-{number}-{session}");
            etw::fail(&format!("{prefix}-{session}"), function, 5);
            let error = refused(&prefix);
            assert!(matches!(error, StartError::NotPermitted(_)), "{function}: {error:?}");
            assert!(error.to_string().contains("not permitted"), "{error}");
            for session in ["processes", "changes", "names"] {
                assert!(!etw::running(&format!("{prefix}-{session}")), "{function}, {session}");
            }
        }
    }
}

#[test]
fn a_session_that_is_still_ending_is_waited_for() {
    for _ in 0..2 {
        etw::fail("ending-changes", "StartTraceW", 183);
    }
    let mut rig = Setup::default().start("ending").unwrap();
    assert_eq!(etw::started("ending-changes"), 3);
    etw::deliver(&rig.changes, [file(30, json!({"FileObject": 7, "FileName": r"\D\new"}))]);
    assert_eq!(rig.next().kind.name(), "create");
    rig.stop();
}

#[test]
fn a_session_that_cannot_be_stopped_is_said() {
    for _ in 0..4 {
        etw::fail("stuck-processes", "StartTraceW", 183);
    }
    let error = refused("stuck");
    assert!(matches!(error, StartError::Exists), "{error:?}");
}

#[test]
fn no_room_for_another_session() {
    etw::fail("full-processes", "StartTraceW", 1450);
    assert!(matches!(refused("full"), StartError::NoRoom(_)));
}

#[test]
fn an_open_that_failed_does_not_make_the_next_one_fail() {
    for _ in 0..3 {
        etw::fail("again-changes", "OpenTraceW", 5);
        refused("again");
        Setup::default().start("again").unwrap().stop();
    }
}

#[test]
fn values_without_data_and_files_without_names_are_said() {
    let policy = || {
        let key = fim_common::policy::RegistryPattern::parse(r"HKLM\SOFTWARE\fim-none", None);
        let rule = fim_common::policy::Rule {
            registry: vec![key.unwrap()],
            ..fim_common::policy::Rule::new("keys", Vec::new())
        };
        Policy::for_windows(vec![rule])
    };
    etw::fail("poor-names", "StartTraceW", 5);
    let rig = Setup { policy: policy(), ..Setup::default() }.start("poor").unwrap();
    let summary = rig.collector.summary();
    assert!(summary.contains("files that are open already have no names"), "{summary}");
    rig.stop();
}

#[test]
fn without_etw_notifications_take_over_and_it_is_said() {
    let _agent = AGENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let state = tempfile::tempdir().unwrap();
    let baseline = Arc::new(Baseline::open(state.path()).unwrap());
    let (sender, observations) = tokio::sync::mpsc::channel(1000);
    etw::fail("fim-processes", "StartTraceW", 5);
    let config = Config::default();
    let policy = Policy::for_windows(Vec::new());
    let chosen = choice::start(&config, &policy, &baseline, sender, &Losses::default());
    let mut chosen = chosen.unwrap();
    assert_eq!(chosen.collector.provider(), Provider::Scan);
    for words in ["degraded", "who did it is not known", "not permitted", "administrator"] {
        assert!(chosen.choice.contains(words), "{words}: {}", chosen.choice);
    }
    chosen.collector.stop().unwrap();
    drop((chosen, observations));

    // The same with ETW.
    let (sender, _observations) = tokio::sync::mpsc::channel(1000);
    let chosen = choice::start(&config, &policy, &baseline, sender, &Losses::default());
    let mut chosen = chosen.unwrap();
    assert_eq!(chosen.collector.provider(), Provider::Etw);
    chosen.collector.stop().unwrap();
}

#[test]
fn a_doctor_finds_out() {
    let sizes = Sizes { buffer_kib: 64, buffers: 4, queue: 1 << 20 };
    let name = format!("fim-doctor-{}", std::process::id());
    probe(&sizes).unwrap();
    assert!(!etw::running(&name));
    etw::fail(&name, "OpenTraceW", 5);
    assert!(matches!(probe(&sizes), Err(StartError::NotPermitted(_))));
    assert!(!etw::running(&name));
}
