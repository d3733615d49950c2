//! Files in the state directory that are not as the agent left them: refused by name, and kept byte
//! for byte. They may be all that is left of the evidence.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Bench, FAILURE, outcome};
use crate::agent::Setup;
use crate::environment::{beside_others, is_ready};

/// `path` with `content`: the agent refuses it, and leaves it as it is.
fn refused(setup: &Setup, case: &str, path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    outcome(setup.command()).is_refusal(case, FAILURE, &[path.to_str().unwrap(), "untouched"]);
    let now = fs::read(path).unwrap();
    assert!(now == content, "{case}: {} was changed", path.display());
}

fn bench(name: &str) -> Bench {
    let mut bench = Bench::new(name);
    bench.setup.state_dir = bench.scratch.directory("the-state");
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&bench.setup.state_dir, private).unwrap();
    bench
}

#[test]
fn baseline() {
    if !is_ready("damaged baseline") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("damaged-baseline");
    let path = bench.setup.state_dir.join("baseline.db");
    let text = b"this is no database, and longer than the header of one ".repeat(4);
    refused(&bench.setup, "text", &path, &text);
    refused(&bench.setup, "empty", &path, b"");
    refused(&bench.setup, "zeros", &path, &[0; 8192]);
    let mut header = b"SQLite format 3\0".to_vec();
    header.resize(4096, 0xff);
    refused(&bench.setup, "another database", &path, &header);
}

#[test]
fn journal() {
    if !is_ready("damaged journal") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("damaged-journal");
    let directory = bench.setup.state_dir.join("journal");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("journal-000000000001.jsonl");
    let line = |sequence| {
        format!(
            "{{\"@timestamp\":\"2026-01-01T00:00:00.000000000Z\",\
             \"event\":{{\"id\":\"{sequence}\",\"sequence\":{sequence}}}}}\n"
        )
    };
    refused(&bench.setup, "text", &path, b"this is no journal\nnor is this\n");
    let middle = format!("{}{{\"@timestamp\":\"2026-01\n{}", line(1), line(3));
    refused(&bench.setup, "a line in the middle", &path, middle.as_bytes());
    let zeros = [line(1).as_bytes(), &[0; 512], b"\n", line(3).as_bytes()].concat();
    refused(&bench.setup, "zeros in the middle", &path, &zeros);
}

#[test]
fn agent_id() {
    if !is_ready("damaged agent id") {
        return;
    }
    let _guard = beside_others();
    let bench = bench("damaged-id");
    refused(&bench.setup, "text", &bench.setup.state_dir.join("agent-id"), b"number one\n");
}

/// What an agent really left, with a few bytes turned over; then as it was.
pub(crate) fn real_files_are_refused(setup: &Setup) {
    let path = setup.state_dir.join("baseline.db");
    let whole = fs::read(&path).unwrap();
    let turned = |from: usize, length: usize| {
        let mut bytes = whole.clone();
        bytes[from..from + length].iter_mut().for_each(|byte| *byte = !*byte);
        bytes
    };
    // The schema and the first page of a table; then a file that lacks its second half.
    refused(setup, "the first page", &path, &turned(100, 3000));
    refused(setup, "a page of a table", &path, &turned(4096, 512));
    refused(setup, "the first half", &path, &whole[..whole.len() / 2]);
    fs::write(&path, &whole).unwrap();

    let journal = setup.state_dir.join("journal/journal-000000000001.jsonl");
    let whole = fs::read(&journal).unwrap();
    let turned = [b"!", &whole[1..]].concat();
    refused(setup, "the first byte of the journal", &journal, &turned);
    fs::write(&journal, &whole).unwrap();
}
