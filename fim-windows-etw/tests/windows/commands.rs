//! The subcommands, as programs.

use std::process::{Command, Output};

fn fim(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_fim-windows-etw")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().unwrap(), text)
}

#[test]
fn check_tells_what_differs_and_accept_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let watched = directory.path().join("w");
    std::fs::create_dir(&watched).unwrap();
    std::fs::write(watched.join("one"), "1").unwrap();
    let place = ["--watch", watched.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    let with = |words: &[&'static str]| [words, &place].concat();
    let (code, text) = fim(&with(&["check"]));
    assert_eq!(code, 66, "{text}");
    let (code, text) = fim(&with(&["baseline", "create"]));
    assert_eq!(code, 0, "{text}");
    let (code, text) = fim(&with(&["check"]));
    assert_eq!(code, 0, "{text}");
    std::fs::write(watched.join("two"), "2").unwrap();
    std::fs::write(watched.join("one"), "one").unwrap();
    let (code, text) = fim(&with(&["check", "--json"]));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(r"\\two") && text.contains("\"updated\""), "{text}");
    let (code, text) = fim(&with(&["baseline", "accept"]));
    assert_eq!(code, 0, "{text}");
    assert_eq!(fim(&with(&["check"])).0, 0);
    let state = state.to_str().unwrap();
    let (code, text) = fim(&["baseline", "list", "--state-dir", state, "--json"]);
    assert!(code == 0 && text.contains(r"\\two"), "{text}");
    let (code, text) = fim(&["events", "--state-dir", state, "--json"]);
    assert!(code == 0 && text.contains("baseline_accepted"), "{text}");
    let (code, text) = fim(&["verify", state]);
    assert_eq!(code, 0, "{text}");
    let page = directory.path().join("report.html");
    let (code, text) = fim(&["report", "--state-dir", state, "--output", page.to_str().unwrap()]);
    assert!(code == 0 && page.is_file(), "{text}");
}

#[test]
fn bad_usage_and_what_works() {
    assert_eq!(fim(&["run", "--bogus"]).0, 64);
    assert_eq!(fim(&["check", "--config", r"C:\nothing\there.toml"]).0, 64);
    let (code, text) = fim(&["explain", r"C:\Windows\System32\userinit.exe"]);
    assert!(code == 0 && text.contains("system-programs"), "{text}");
    let (code, text) = fim(&["doctor", "--json"]);
    assert!(code == 0 && text.contains("RegNotifyChangeKeyValue works"), "{text}");
}
