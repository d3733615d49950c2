//! Registry keys by looking at them.

use fim_common::baseline::Baseline;
use fim_common::operation::OperationKind;
use fim_common::policy::{Policy, RegistryPattern, Rule};
use fim_windows_etw::live::registry::{Scope, compare};

/// Runs `reg.exe`.
pub(crate) fn reg(arguments: &[&str]) {
    let done = std::process::Command::new("reg.exe").args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

/// A key of a test's own below HKLM\SOFTWARE, empty.
pub(crate) fn fresh(name: &str) -> String {
    let key = format!(r"HKLM\SOFTWARE\fim-test-{name}");
    let _ = std::process::Command::new("reg.exe").args(["delete", &key, "/f"]).output();
    reg(&["add", &key, "/f"]);
    key
}

fn policy(key: &str, values: Option<&[String]>) -> Policy {
    let rule = Rule {
        registry: vec![RegistryPattern::parse(key, values).unwrap()],
        ..Rule::new("keys", Vec::new())
    };
    Policy::for_windows(vec![rule])
}

#[test]
fn what_differs_from_the_baseline_once() {
    let key = fresh("diff");
    reg(&["add", &key, "/v", "Run", "/d", "one.exe", "/f"]);
    reg(&["add", &key, "/v", "Gone", "/t", "REG_DWORD", "/d", "1", "/f"]);
    let directory = tempfile::tempdir().unwrap();
    let baseline = Baseline::open(directory.path()).unwrap();
    let scope = Scope::of(&policy(&key, None));
    assert!(compare(&baseline, &scope).unwrap().is_empty(), "what is there is what is known");

    reg(&["add", &key, "/v", "Run", "/d", "another.exe", "/f"]);
    reg(&["delete", &key, "/v", "Gone", "/f"]);
    reg(&["add", &format!(r"{key}\Below"), "/f"]);
    let found = compare(&baseline, &scope).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|operation| {
            let OperationKind::Registry(registry) = &operation.kind else { panic!() };
            (
                registry.action.name(),
                registry.key.rsplit('\\').next().unwrap(),
                registry.value.as_deref(),
            )
        })
        .collect();
    // Wine's reg.exe gives a key that it makes an empty default value.
    assert_eq!(
        told[..3],
        [
            ("set_value", "fim-test-diff", Some("Run")),
            ("delete_value", "fim-test-diff", Some("Gone")),
            ("create_key", "Below", None),
        ]
    );
    let OperationKind::Registry(run) = &found[0].kind else { panic!() };
    assert_eq!(run.data.as_ref().unwrap().strings, Some(vec!["another.exe".to_owned()]));
    assert_eq!(run.previous.as_ref().unwrap().strings, Some(vec!["one.exe".to_owned()]));
    assert_eq!((run.previous_size, run.size), (Some(16), Some(24)));
    assert_ne!(run.previous_sha256, run.sha256);
    assert_eq!(found[0].actor.unknown.get("process").map(String::as_str), Some("not_observed"));
    assert!(compare(&baseline, &scope).unwrap().is_empty(), "once");
    reg(&["delete", &key, "/f"]);
    let found = compare(&baseline, &scope).unwrap();
    assert_eq!(found.len(), 2, "the key, and the one below it");
}

#[test]
fn only_the_values_that_a_rule_names() {
    let key = fresh("values");
    let directory = tempfile::tempdir().unwrap();
    let baseline = Baseline::open(directory.path()).unwrap();
    let scope = Scope::of(&policy(&key, Some(&["wanted".to_owned()])));
    compare(&baseline, &scope).unwrap();
    reg(&["add", &key, "/v", "other", "/d", "x", "/f"]);
    reg(&["add", &key, "/v", "Wanted", "/d", "x", "/f"]);
    let found = compare(&baseline, &scope).unwrap();
    let paths: Vec<_> = found.iter().map(|found| found.path.clone().unwrap()).collect();
    assert!(paths.iter().any(|path| path.ends_with("Wanted")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.ends_with("other")), "{paths:?}");
    reg(&["delete", &key, "/f"]);
}
