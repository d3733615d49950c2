//! What an attacker or an accident does to a journal, and what `verify` says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::event;
use super::verify::{Fault, Kind, Request, Verification, verify};
use super::*;
use crate::baseline::test_volume::tempdir;

/// A key that all of these journals are signed with.
pub(super) fn key() -> Key {
    static KEY: std::sync::LazyLock<Key> = std::sync::LazyLock::new(|| Key::generate().unwrap());
    KEY.clone()
}

fn options() -> JournalOptions {
    JournalOptions { segment_bytes: 1500, key: Some(key()), ..JournalOptions::default() }
}

/// All in one segment.
fn one_segment() -> JournalOptions {
    JournalOptions { segment_bytes: 1 << 20, ..options() }
}

/// A closed journal of 20 events in some five segments.
fn written() -> tempfile::TempDir {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    for sequence in 1..=20 {
        journal.append(&event(sequence)).unwrap();
    }
    drop(journal);
    assert!(segments(directory.path()).unwrap().len() >= 4);
    directory
}

fn check(directory: &Path) -> Verification {
    let request = Request { key: Some(key().public()), ..Request::default() };
    verify(directory, &request).unwrap()
}

/// The one thing that is wrong.
fn fault(directory: &Path) -> Fault {
    let found = check(directory);
    assert_eq!(found.faults.len(), 1, "{found:#?}");
    found.faults.into_iter().next().unwrap()
}

fn first(directory: &Path) -> (PathBuf, Vec<u8>) {
    let path = segments(directory).unwrap().remove(0);
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_journal_as_it_was_written_is_sound() {
    let directory = written();
    let found = check(directory.path());
    assert!(found.is_sound(), "{found:#?}");
    assert_eq!((found.entries, found.first_segment), (20, Some(1)));
    assert_eq!(found.sealed + 1, found.segments, "all but the last are closed");
    // It goes on after a restart.
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    assert_eq!(journal.head().to_string(), found.head.unwrap());
    journal.append(&event(1)).unwrap();
    let head = journal.head();
    drop(journal);
    let request = Request { contains: Some(head), ..Request::default() };
    let found = verify(directory.path(), &request).unwrap();
    assert!(found.is_sound() && found.contains == Some(true), "{found:#?}");
    // As an agent told that began it, and as long as nothing was removed.
    let start = Request { contains: Some(Head::START), ..Request::default() };
    assert_eq!(verify(directory.path(), &start).unwrap().contains, Some(true));
    fs::remove_file(first(directory.path()).0).unwrap();
    assert_eq!(verify(directory.path(), &start).unwrap().contains, Some(false));
    let nowhere = Head::parse(&[b'a'; 64]);
    let request = Request { contains: nowhere, ..Request::default() };
    assert!(!verify(directory.path(), &request).unwrap().is_sound());
}

#[test]
fn every_changed_byte_is_found_at_its_entry() {
    let directory = written();
    let (path, bytes) = first(directory.path());
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &bytes).collect();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        // Neither is an end of a line then that was none, or the other way round.
        if bytes[at] == b'\n' {
            continue;
        }
        changed[at] ^= 0x40;
        fs::write(&path, &changed).unwrap();
        let found = check(directory.path());
        let line = ends.iter().filter(|end| **end < at).count() as u64 + 1;
        let fault = &found.faults[0];
        assert_eq!((fault.kind, fault.segment), (Kind::Altered, 1), "byte {at}: {found:#?}");
        // Where the digits of the chain are changed, the next one does not follow from them; the
        // last one's are in the seal.
        assert!(
            fault.line == Some(line) || fault.line.is_none(),
            "byte {at} of line {line}: {found:#?}"
        );
    }
}

#[test]
fn removed_inserted_and_moved_entries_are_told_apart() {
    let directory = written();
    let (path, bytes) = first(directory.path());
    let all = lines(&bytes);
    let removed = [&all[..1], &all[2..]].concat().concat();
    fs::write(&path, removed).unwrap();
    let found = check(directory.path()).faults.remove(0);
    assert_eq!((found.kind, found.line, found.sequence), (Kind::EntriesMissing, Some(2), Some(3)));
    assert!(found.message.contains("1 entries are missing"), "{found:?}");
    let doubled = [&all[..2], &all[1..]].concat().concat();
    fs::write(&path, doubled).unwrap();
    let found = check(directory.path()).faults.remove(0);
    assert_eq!((found.kind, found.line), (Kind::Altered, Some(3)));
    assert!(found.message.contains("inserted or moved"), "{found:?}");
    let swapped = [&all[..1], &[all[2].clone(), all[1].clone()], &all[3..]].concat().concat();
    fs::write(&path, swapped).unwrap();
    assert_eq!(check(directory.path()).faults.remove(0).line, Some(2));
}

#[test]
fn a_cut_at_every_byte_is_a_truncation() {
    let directory = written();
    for path in [first(directory.path()).0, segments(directory.path()).unwrap().pop().unwrap()] {
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let found = check(directory.path());
            let kinds: Vec<Kind> = found.faults.iter().map(|fault| fault.kind).collect();
            assert!(kinds.contains(&Kind::Truncated), "cut at {cut}: {found:#?}");
            // The next segment says that it begins elsewhere; no entry is called altered.
            assert!(found.faults.iter().all(|fault| fault.line.is_none()), "{found:#?}");
        }
        fs::write(&path, &bytes).unwrap();
        assert!(check(directory.path()).is_sound());
    }
}

#[test]
fn a_journal_does_not_end_with_a_closed_segment() {
    let directory = written();
    let last = segments(directory.path()).unwrap().pop().unwrap();
    for ending in ["jsonl", "seal"] {
        fs::remove_file(last.with_extension(ending)).unwrap();
    }
    let number = number_of(&last).unwrap();
    let fault = fault(directory.path());
    assert_eq!((fault.kind, fault.segment), (Kind::SegmentMissing, number), "{fault:?}");
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    let notices = journal.take_notices();
    assert!(matches!(&notices[..], [Notice::Truncated { .. }]), "{notices:?}");
    drop(journal);
    // Told once; and the journal goes on.
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    assert!(journal.take_notices().is_empty());
    journal.append(&event(21)).unwrap();
}

#[test]
fn missing_segments_are_named() {
    let directory = written();
    let all = segments(directory.path()).unwrap();
    let bytes = fs::read(&all[1]).unwrap();
    fs::remove_file(&all[1]).unwrap();
    let found = fault(directory.path());
    assert_eq!((found.kind, found.segment), (Kind::SegmentMissing, 2));
    fs::write(&all[1], &bytes).unwrap();
    // The first one, and the last one with its seal left.
    let (last, first) = (all.last().unwrap(), &all[0]);
    let bytes = fs::read(first).unwrap();
    fs::remove_file(first).unwrap();
    let found = fault(directory.path());
    assert_eq!((found.kind, found.segment), (Kind::SegmentMissing, 1));
    fs::write(first, bytes).unwrap();
    fs::remove_file(last).unwrap();
    let found = fault(directory.path());
    assert_eq!((found.kind, found.segment), (Kind::SegmentMissing, all.len() as u64));
    // The agent says so too when it starts, and does not take the number again.
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    let notices = journal.take_notices();
    assert!(matches!(notices.as_slice(), [Notice::Truncated { .. }]), "{notices:?}");
    assert_eq!(journal.position().0, all.len() as u64 + 1);
}

/// Everything anew from the second event on, the chain too: only the signature tells.
fn rewritten(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut head = Head::START;
    for (index, line) in lines(bytes).into_iter().enumerate() {
        let text = String::from_utf8(line).unwrap();
        let mut event: serde_json::Value = serde_json::from_str(&text).unwrap();
        event["fim"] = serde_json::json!({});
        if index == 1 {
            event["file"]["path"] = "/nothing/happened".into();
        }
        let start = out.len();
        // The order of members is not ours any more; who rewrites does not care.
        event.as_object_mut().unwrap().remove("fim");
        let body = event.to_string();
        out.extend_from_slice(body.trim_end_matches('}').as_bytes());
        out.extend_from_slice(b"},\"fim\":{}}");
        head = chain::extend(&mut out, start, &head);
        out.push(b'\n');
    }
    out
}

#[test]
fn a_rewritten_chain_does_not_pass_the_signature() {
    let directory = written();
    let (path, bytes) = first(directory.path());
    fs::write(&path, rewritten(&bytes)).unwrap();
    let found = check(directory.path());
    let first = &found.faults[0];
    assert_eq!((first.kind, first.segment), (Kind::Altered, 1), "{found:#?}");
    assert!(first.message.contains("rewritten, chain and all"), "{first:?}");
}

#[test]
fn another_key_and_a_changed_or_missing_seal_are_found() {
    let directory = written();
    let path = segments(directory.path()).unwrap().remove(0);
    let seal = seal::seal_path(&path);
    let good = fs::read_to_string(&seal).unwrap();
    fs::write(&seal, good.replace("\"entries\":", "\"entries\":1")).unwrap();
    assert_eq!(fault(directory.path()).kind, Kind::Altered);
    fs::write(&seal, "nonsense").unwrap();
    assert_eq!(fault(directory.path()).kind, Kind::Altered);
    fs::remove_file(&seal).unwrap();
    assert_eq!(fault(directory.path()).kind, Kind::NotSigned);
    let mut statement = serde_json::from_str::<Statement>(good.lines().next().unwrap()).unwrap();
    let other = Key::generate().unwrap();
    statement.public_key = other.public().to_base64();
    seal::write(&path, &statement, &other, false).unwrap();
    assert_eq!(fault(directory.path()).kind, Kind::NotSigned);
    // Without a key from elsewhere the second one that turns up is the wrong one.
    let found = verify(directory.path(), &Request::default()).unwrap();
    assert!(!found.is_sound());
    fs::write(&seal, good).unwrap();
    assert!(check(directory.path()).is_sound());
}

#[test]
fn a_killed_agent_leaves_a_sound_journal_wherever_its_tail_is_cut() {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), one_segment()).unwrap();
    for sequence in 1..=8 {
        journal.append(&event(sequence)).unwrap();
    }
    journal.sync().unwrap();
    let path = journal.path().to_owned();
    let sealed = fs::metadata(&path).unwrap().len() as usize;
    for sequence in 9..=10 {
        journal.append(&event(sequence)).unwrap();
    }
    journal.flush().unwrap();
    assert_eq!(journal.path(), path, "both are in one segment");
    // No destructor runs.
    std::mem::forget(journal);
    let bytes = fs::read(&path).unwrap();
    let seal = fs::read(seal::seal_path(&path)).unwrap();
    for cut in sealed..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        fs::write(seal::seal_path(&path), &seal).unwrap();
        let mut journal = Journal::open(directory.path(), one_segment()).unwrap();
        assert_eq!(journal.take_notices(), [], "cut at {cut}");
        let next = journal.last_sequence().unwrap() + 1;
        journal.append(&event(next)).unwrap();
        drop(journal);
        let found = check(directory.path());
        assert!(found.is_sound(), "cut at {cut}: {found:#?}");
        for path in segments(directory.path()).unwrap().iter().filter(|other| **other > path) {
            fs::remove_file(path).unwrap();
            fs::remove_file(seal::seal_path(path)).unwrap();
        }
    }
    // What was synchronised and is not there is no accident of a kill.
    fs::write(&path, &bytes[..sealed - 1]).unwrap();
    fs::write(seal::seal_path(&path), &seal).unwrap();
    let lines = bytes[..sealed].iter().filter(|byte| **byte == b'\n').count();
    fs::write(&path, lines_of(&bytes, lines - 1)).unwrap();
    let mut journal = Journal::open(directory.path(), one_segment()).unwrap();
    assert!(matches!(journal.take_notices().as_slice(), [Notice::Truncated { .. }]));
}

fn lines_of(bytes: &[u8], count: usize) -> Vec<u8> {
    lines(bytes)[..count].concat()
}

#[test]
fn a_kill_while_a_segment_is_begun_is_made_good() {
    let directory = written();
    let all = segments(directory.path()).unwrap();
    let (last, before) = (all.last().unwrap(), &all[all.len() - 2]);
    // As it is right after the new segment was made: empty, and the old one not yet closed.
    fs::write(last, b"").unwrap();
    fs::remove_file(seal::seal_path(last)).unwrap();
    let seal = seal::read(before).unwrap().unwrap();
    let statement = Statement { state: SegmentState::Open, ..seal.statement };
    seal::write(before, &statement, &key(), false).unwrap();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    assert_eq!(journal.take_notices(), []);
    let next = journal.head();
    journal.append(&event(20)).unwrap();
    drop(journal);
    let found = check(directory.path());
    assert!(found.is_sound() && found.notes.is_empty(), "{found:#?}");
    assert_ne!(next, Head::START);
}

/// The verifier in `docs/journal.md`, which shares no code with this one.
#[test]
fn the_documented_verifier_agrees() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/journal.md");
    let text = fs::read_to_string(page).unwrap();
    let code = text.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = written();
    let run = || {
        let python = Command::new("python3").arg("-c").arg(code).arg(directory.path()).output();
        python.map(|output| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!error.contains("Traceback"), "{error}");
            (output.status.code(), said + &error)
        })
    };
    let Ok((code, said)) = run() else { return println!("skipped: there is no python3") };
    let head = check(directory.path()).head.unwrap();
    assert!(code == Some(0) && said.contains(&head), "{code:?} {said}");
    let (path, mut bytes) = first(directory.path());
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
    let (code, said) = run().unwrap();
    assert!(code == Some(1) && said.contains("journal-000000000001.jsonl line 1"), "{said}");
}
