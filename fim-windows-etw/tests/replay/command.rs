//! Runs the command.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::scenario::Scenario;

/// Runs `replay` with these arguments on a file.
pub fn replay(file: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fim-windows-etw"))
        .arg("replay")
        .arg(file)
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs `replay` on a trace, and returns its exit code and its events, each of them checked against
/// the schema.
pub fn events(trace: &[u8], arguments: &[&str]) -> (i32, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.etl");
    std::fs::write(&file, trace).unwrap();
    let output = replay(&file, arguments);
    (output.status.code().unwrap(), parse(&output))
}

/// The events of an output.
pub fn parse(output: &Output) -> Vec<Value> {
    let schema = include_str!("../../../docs/event.schema.json");
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut events = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if let Err(error) = validator.validate(&event) {
            panic!("not valid: {error}\n{line}");
        }
        events.push(event);
    }
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["event"]["sequence"], number + 1);
    }
    events
}

/// `--stats` of a trace.
pub fn stats(trace: &[u8], arguments: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.etl");
    std::fs::write(&file, trace).unwrap();
    let output = replay(&file, &[&["--stats"], arguments].concat());
    let code = output.status.code().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {code} {errors}"));
    (code, value, errors)
}

#[test]
fn usage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.etl");
    std::fs::write(&file, "no trace").unwrap();
    let code = |arguments: &[&str]| replay(&file, arguments).status.code();
    assert_eq!(code(&["--unknown"]), Some(64));
    assert_eq!(code(&["--watch", "C:\\[a"]), Some(64));
    assert_eq!(code(&["--map", "C:"]), Some(64));
    assert_eq!(code(&["--config", "/does/not/exist"]), Some(64));
    assert_eq!(code(&["--json", "--output", "pretty"]), Some(64));
    let output = replay(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("x.etl: not an event trace file"), "{error}");
    let missing = replay(Path::new("/does/not/exist.etl"), &[]);
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8(replay(folder.path(), &[]).stderr).unwrap();
    assert_eq!(error.matches("Is a directory").count(), 1, "{error}");
}

/// Whoever redirects the events has them all, or is told.
#[test]
fn what_cannot_be_printed_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.etl");
    let mut scenario = Scenario::new();
    scenario.file(10, json!({"FileKey": 1, "FileName": "\\D\\x"}));
    std::fs::write(&file, scenario.trace()).unwrap();
    for arguments in [&[][..], &["--stats"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_fim-windows-etw"))
            .arg("replay")
            .arg(&file)
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {error}");
        assert!(error.contains("standard output cannot be written: No space left"), "{error}");
        assert!(!error.contains("journal"), "{error}");
    }
}
