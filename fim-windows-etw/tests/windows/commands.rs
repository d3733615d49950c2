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
    let run = r"HKLM\Software\Microsoft\Windows\CurrentVersion\Run\a.exe";
    let (code, text) = fim(&["explain", run]);
    assert!(
        code == 0 && text.contains("rule        \"run-keys\", severity 75, an alert"),
        "{text}"
    );
    let (code, text) = fim(&["doctor", "--json"]);
    assert!(code == 0 && text.contains("RegNotifyChangeKeyValue works"), "{text}");
}

#[test]
fn the_policy_says_what_exists_here_and_what_is_watched() {
    let output = Command::new(env!("CARGO_BIN_EXE_fim-windows-etw"))
        .args([
            "policy",
            "recommended",
            "--set",
            "recommended",
            "--set",
            "attack-surface",
            "--json",
        ])
        .output()
        .unwrap();
    let items: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let item = |path: &str| items.iter().find(|item| item["path"] == path).unwrap();
    assert_eq!(item(r"C:\Windows\explorer.exe")["exists"], true);
    assert_eq!(item(r"C:\config.sys")["exists"], false);
    assert_eq!(item(r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run")["exists"], true);
    let services = item(r"HKLM\SYSTEM\CurrentControlSet\Services");
    assert_eq!((&services["exists"], &services["here"]), (&true.into(), &"key".into()));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fim.toml");
    let text = "[[rule]]\nname = 'a'\npaths = ['C:\\Windows\\*.exe', 'C:\\none']\nregistry = \
                ['HKLM\\SOFTWARE\\x', { key = 'HKLM\\SOFTWARE\\y', values = ['V'] }]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let (code, text) = fim(&["policy", "check", "--config", file]);
    assert!(code == 0 && text.contains("ok: 1 rule"), "{text}");
    let (code, text) = fim(&["policy", "show", "--config", file]);
    assert_eq!(code, 0, "{text}");
    for want in [
        r"'C:\none',  # not here yet",
        r"#   C:\Windows, what lies directly in it",
        r"#   HKLM\SOFTWARE\x and everything below",
        r"#   HKLM\SOFTWARE\y: v",
    ] {
        assert!(text.to_lowercase().contains(&want.to_lowercase()), "{want} in {text}");
    }
    // What it prints says the same again.
    let again = directory.path().join("again.toml");
    std::fs::write(&again, &text).unwrap();
    let (code, text) = fim(&["policy", "check", "--config", again.to_str().unwrap()]);
    assert!(code == 0 && text.contains("ok: 1 rule"), "{text}");
    std::fs::write(&again, "[[rule]]\nname = 'a'\npaths = ['none']\n").unwrap();
    assert_eq!(fim(&["policy", "check", "--config", again.to_str().unwrap()]).0, 64);
}

#[test]
fn the_selftest_says_what_was_seen_and_that_nobody_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fim-windows-etw"))
        .args(["selftest", "--json", "--directory", directory.path().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let steps = report["findings"].as_array().unwrap();
    let step = |name: &str| steps.iter().find(|step| step["step"] == name).unwrap();
    for seen in [
        "create a file",
        "write to it",
        "delete it",
        "create a key",
        "set a value",
        "delete a value",
    ] {
        assert_eq!(step(seen)["seen"], "yes", "{seen}: {report:#}");
    }
    // Wine has no ETW.
    assert_eq!(report["is_degraded"], true);
    assert!(report["collector"].as_str().unwrap().starts_with("degraded: "), "{report:#}");
    let unnamed = step("create a file")["not_attributed"].as_array().unwrap();
    assert!(unnamed.contains(&"process.pid".into()), "{unnamed:?}");
    assert_eq!(step("be refused to write to it")["seen"], "cannot_be");
    assert_eq!(report["ended_in_order"], true);
    let unseen = steps.iter().any(|step| step["done"] == "yes" && step["seen"] == "no");
    assert_eq!(output.status.code(), Some(if unseen { 1 } else { 69 }), "{report:#}");
    // It leaves nothing behind.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
