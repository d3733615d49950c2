use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::baseline::test_volume::{tempdir, tmpfs};
use crate::event::{
    Action, Agent, Category, Event, File as FileFields, Fim, Host, Kind, Meta, Outcome, Type,
};
use crate::time::Timestamp;

pub(crate) fn event(sequence: u64) -> Event {
    Event {
        timestamp: Timestamp::from_unix(1_700_000_000, sequence as u32),
        event: Meta {
            id: format!("01890000-0000-7000-8000-{sequence:012}"),
            sequence,
            kind: Kind::Event,
            category: vec![Category::File],
            types: vec![Type::Creation],
            action: Action::Created,
            outcome: Outcome::Success,
            provider: None,
            severity: None,
        },
        rule: None,
        tags: vec![],
        threat: None,
        registry: None,
        file: Some(Box::new(FileFields {
            path: format!("/tmp/ä/{sequence}"),
            ..FileFields::default()
        })),
        process: None,
        user: None,
        container: None,
        kubernetes: None,
        host: Host::default().into(),
        agent: Agent::default().into(),
        fim: Fim::default(),
    }
}

fn options() -> JournalOptions {
    JournalOptions::default()
}

/// The sequence numbers in all segments; fails on a line that is not an event.
fn sequences(directory: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for path in segments(directory).unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{} is torn", path.display());
        found.extend(
            text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().event.sequence),
        );
    }
    found
}

/// A journal of `count` events, closed, and its only segment.
fn written(count: u64) -> (tempfile::TempDir, PathBuf) {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    for sequence in 1..=count {
        journal.append(&event(sequence)).unwrap();
    }
    let path = journal.path().to_owned();
    (directory, path)
}

#[test]
fn events_are_lines_and_go_on_after_a_restart() {
    let parent = tempdir();
    let directory = parent.path().join("journal");
    let mut journal = Journal::open(&directory, options()).unwrap();
    assert_eq!((journal.last_sequence(), journal.torn()), (None, None));
    let bytes = journal.append(&event(1)).unwrap();
    assert!(journal.is_dirty());
    assert_eq!(fs::metadata(journal.path()).unwrap().len(), 0, "gathered");
    journal.flush().unwrap();
    assert!(!journal.is_dirty());
    assert_eq!(fs::metadata(journal.path()).unwrap().len(), bytes as u64);
    journal.append(&event(2)).unwrap();
    assert_eq!(journal.last_sequence(), Some(2));
    drop(journal);
    let mut journal = Journal::open(&directory, options()).unwrap();
    assert_eq!((journal.last_sequence(), journal.torn()), (Some(2), None));
    journal.append(&event(1)).unwrap();
    drop(journal);
    assert_eq!(sequences(&directory), [1, 2, 1]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&segments(&directory).unwrap()[0]), 0o600);
}

#[test]
fn many_gathered_bytes_are_written_at_once() {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    let mut total = 0;
    while total < WRITE_AT {
        total += journal.append(&event(1)).unwrap();
    }
    assert!(!journal.is_dirty());
    assert_eq!(fs::metadata(journal.path()).unwrap().len(), total as u64);
}

#[test]
fn segments_are_rotated_and_the_oldest_removed() {
    let directory = tempdir();
    // `,"chain":"…"`; the suffix has the two braces too.
    let line = serde_json::to_string(&event(1)).unwrap().len() + chain::SUFFIX - 2 + 1;
    let line = line as u64;
    let options = JournalOptions { segment_bytes: 3 * line, segments: 4, ..options() };
    let mut journal = Journal::open(directory.path(), options.clone()).unwrap();
    for sequence in 1..=9 {
        journal.append(&event(sequence)).unwrap();
    }
    journal.flush().unwrap();
    // Three full ones, and the empty one that the next event goes to.
    assert_eq!(segments(directory.path()).unwrap().len(), 4);
    assert_eq!((journal.removed(), sequences(directory.path()).len()), (0, 9));
    for sequence in 1..=5 {
        journal.append(&event(sequence)).unwrap();
    }
    assert_eq!(journal.removed(), 1);
    drop(journal);
    assert_eq!(sequences(directory.path()), [4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5]);
    let names: Vec<_> = segments(directory.path()).unwrap();
    assert!(names[0].ends_with("journal-000000000002.jsonl"), "{names:?}");
    // Fewer are asked for at the next start.
    let fewer = JournalOptions { segments: 2, ..options };
    let journal = Journal::open(directory.path(), fewer).unwrap();
    assert_eq!(journal.removed(), 2);
    assert_eq!(journal.last_sequence(), Some(5));
}

#[test]
fn the_tail_is_cut_at_every_byte() {
    let (directory, path) = written(3);
    let whole = fs::read(&path).unwrap();
    let lines: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    let (second, third) = (lines[1], lines[2]);
    assert_eq!(third, whole.len());
    for cut in second..=third {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = Journal::open(directory.path(), options()).unwrap();
        let torn = journal.torn().cloned();
        journal.append(&event(4)).unwrap();
        drop(journal);
        if cut == third {
            assert_eq!(torn, None);
            assert_eq!(sequences(directory.path()), [1, 2, 3, 4]);
        } else if cut == third - 1 {
            assert_eq!(torn, Some(Torn::Completed { segment: path.clone() }));
            assert_eq!(sequences(directory.path()), [1, 2, 3, 4]);
        } else if cut == second {
            assert_eq!(torn, None);
            assert_eq!(sequences(directory.path()), [1, 2, 4]);
        } else {
            let Some(Torn::SetAside { segment, file, bytes }) = torn else {
                panic!("{torn:?} at {cut}")
            };
            assert_eq!((segment, bytes), (path.clone(), (cut - second) as u64));
            assert_eq!(fs::read(&file).unwrap(), whole[second..cut], "kept, at {cut}");
            assert_eq!(sequences(directory.path()), [1, 2, 4], "at {cut}");
        }
    }
}

#[test]
fn the_first_line_is_cut_at_every_byte() {
    let (directory, path) = written(1);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = Journal::open(directory.path(), options()).unwrap();
        journal.append(&event(2)).unwrap();
        drop(journal);
        let expected: &[u64] = if cut == whole.len() - 1 { &[1, 2] } else { &[2] };
        assert_eq!(sequences(directory.path()), expected, "at {cut}");
    }
}

#[test]
fn an_end_of_zeros_is_set_aside() {
    let (directory, path) = written(2);
    let whole = fs::read(&path).unwrap();
    let zeros = [&whole[..], &[0; 4096]].concat();
    fs::write(&path, &zeros).unwrap();
    let journal = Journal::open(directory.path(), options()).unwrap();
    assert!(matches!(journal.torn(), Some(Torn::SetAside { bytes: 4096, .. })));
    drop(journal);
    assert_eq!(fs::read(&path).unwrap(), whole);
    fs::write(&path, [0; 100]).unwrap();
    let journal = Journal::open(directory.path(), options()).unwrap();
    assert!(matches!(journal.torn(), Some(Torn::SetAside { bytes: 100, .. })));
}

#[test]
fn side_files_are_never_overwritten() {
    let (directory, path) = written(2);
    let whole = fs::read(&path).unwrap();
    let mut files = Vec::new();
    for cut in [whole.len() - 10, whole.len() - 20, whole.len() - 10] {
        fs::write(&path, &whole[..cut]).unwrap();
        let journal = Journal::open(directory.path(), options()).unwrap();
        let Some(Torn::SetAside { file, .. }) = journal.torn().cloned() else { panic!() };
        files.push(file);
    }
    assert_ne!(files[0], files[1]);
    assert_eq!(files[0], files[2], "the same bytes, as after a crash in between");
}

#[test]
fn damage_in_the_middle_is_refused_and_kept() {
    let (directory, path) = written(5);
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let third = second + whole[second..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let mut cases = Vec::new();
    for (at, with) in [(second, b'x'), (second + 40, b'\n'), (third - 2, b' '), (second + 5, 0)] {
        let mut bytes = whole.clone();
        bytes[at] = with;
        cases.push(bytes);
    }
    let mut zeroed = whole.clone();
    zeroed[second..third].fill(0);
    cases.push(zeroed);
    let inserted = [&whole[..second], b"{\"note\":1}\n", &whole[second..]].concat();
    cases.push(inserted);
    for bytes in cases {
        fs::write(&path, &bytes).unwrap();
        let error = Journal::open(directory.path(), options()).unwrap_err();
        let JournalError::Damaged { line, offset, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*line, *offset), (2, second as u64));
        assert!(error.to_string().contains("left untouched"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "changed");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was added");
    }
}

#[test]
fn what_is_no_journal_is_refused_and_kept() {
    let directory = tempdir();
    let path = directory.path().join("journal-000000000001.jsonl");
    for bytes in [&b"notes\n"[..], b"notes", b"{}\n", b"\x7fELF\0\0\n\n\n", b"\n"] {
        fs::write(&path, bytes).unwrap();
        let error = Journal::open(directory.path(), options()).unwrap_err();
        assert!(matches!(error, JournalError::Foreign { .. }), "{bytes:?}: {error:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = Journal::open(directory.path(), options()).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }), "{error:?}");
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let error = Journal::open(directory.path(), options()).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }), "{error:?}");
    // Other names are nobody's business.
    fs::remove_file(&path).unwrap();
    fs::write(directory.path().join("journal-1.jsonl"), b"notes").unwrap();
    fs::write(directory.path().join("README"), b"notes").unwrap();
    Journal::open(directory.path(), options()).unwrap();
}

#[test]
fn a_full_disk_tears_nothing_and_loses_nothing() {
    let Some(volume) = tmpfs("size=256k") else { return };
    let directory = volume.path().join("journal");
    let mut journal = Journal::open(&directory, options()).unwrap();
    let mut sequence = 0;
    loop {
        sequence += 1;
        journal.append(&event(sequence)).unwrap();
        if let Err(error) = journal.flush() {
            assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
            break;
        }
    }
    let whole: Vec<u64> = (1..sequence).collect();
    assert_eq!(sequences(&directory), whole, "whole lines, up to the one that failed");
    // Taken while the disk is full, until there is too much of it.
    let refused = loop {
        sequence += 1;
        assert!(sequence < 1_000_000);
        if let Err(error) = journal.append(&event(sequence)) {
            assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
            break sequence;
        }
    };
    assert!(journal.is_dirty());
    volume.remount("size=32m");
    journal.flush().unwrap();
    drop(journal);
    assert_eq!(sequences(&directory), (1..refused).collect::<Vec<_>>());
}

#[test]
fn a_read_only_directory_is_said() {
    let Some(volume) = tmpfs("size=1m") else { return };
    volume.remount("ro");
    let error = Journal::open(&volume.path().join("journal"), options()).unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly { .. }), "{error:?}");
}
