//! Retention: by number, by age, with a reader that is behind, and on a disk that is full.

use std::fs;
use std::time::{Duration, SystemTime};

use super::cursor::{Cursor, Position};
use super::tests::event;
use super::verify::{Request, verify};
use super::verify_tests::key;
use super::*;
use crate::baseline::test_volume::{tempdir, tmpfs};

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 1500,
        segments: 3,
        key: Some(key()),
        ..JournalOptions::default()
    }
}

fn is_sound(directory: &Path) {
    let request = Request { key: Some(key().public()), ..Request::default() };
    let found = verify(directory, &request).unwrap();
    assert!(found.is_sound(), "{found:#?}");
}

fn dropped(journal: &mut Journal) -> Vec<(u64, Reason)> {
    let notices = journal.take_notices();
    let dropped = notices.into_iter().filter_map(|notice| match notice {
        Notice::Dropped(Dropped { segment, reason, entries, chain }) => {
            assert!(entries.is_some() && chain.is_some(), "its seal was there");
            Some((segment, reason))
        }
        _ => None,
    });
    dropped.collect()
}

#[test]
fn what_retention_removes_is_told_and_is_no_fault() {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    for sequence in 1..=20 {
        journal.append(&event(sequence)).unwrap();
    }
    let told = dropped(&mut journal);
    assert_eq!(told[0], (1, Reason::Count));
    assert_eq!(told.len() as u64, journal.removed());
    drop(journal);
    assert_eq!(segments(directory.path()).unwrap().len(), 3);
    is_sound(directory.path());
    // One more, by hand, is one.
    fs::remove_file(segments(directory.path()).unwrap().remove(0)).unwrap();
    assert!(!verify(directory.path(), &Request::default()).unwrap().is_sound());
}

#[test]
fn what_is_too_old_is_removed() {
    let directory = tempdir();
    let options = JournalOptions { segments: 100, ..options() };
    let mut journal = Journal::open(directory.path(), options.clone()).unwrap();
    for sequence in 1..=20 {
        journal.append(&event(sequence)).unwrap();
    }
    drop(journal);
    let all = segments(directory.path()).unwrap();
    let old = SystemTime::now() - Duration::from_secs(100_000);
    for path in &all[..2] {
        File::open(path).unwrap().set_modified(old).unwrap();
    }
    let max_age = Some(Duration::from_secs(86_400));
    let mut journal =
        Journal::open(directory.path(), JournalOptions { max_age, ..options }).unwrap();
    assert_eq!(dropped(&mut journal), [(1, Reason::Age), (2, Reason::Age)]);
    drop(journal);
    is_sound(directory.path());
}

#[test]
fn a_reader_that_is_behind_keeps_its_segments() {
    let directory = tempdir();
    let mut journal = Journal::open(directory.path(), options()).unwrap();
    let mut cursor = Cursor::open(directory.path(), "siem").unwrap();
    assert_eq!(cursor.position(), None);
    cursor.advance(Position { segment: 1, offset: 0 }).unwrap();
    let mut sequence = 0;
    let error = loop {
        sequence += 1;
        assert!(sequence < 100, "it is never full");
        journal.append(&event(sequence)).unwrap();
        if let Err(error) = journal.flush() {
            break error;
        }
    };
    let JournalError::Held { segment: 1, by, .. } = &error else { panic!("{error:?}") };
    assert_eq!(by, "siem");
    assert!(error.is_full());
    assert_eq!(journal.removed(), 0);
    let notices = journal.take_notices();
    assert!(matches!(notices.as_slice(), [Notice::Full { .. }]), "once: {notices:?}");
    // Read, and it goes on.
    cursor.advance(Position { segment: 2, offset: 0 }).unwrap();
    journal.flush().unwrap();
    assert_eq!(dropped(&mut journal), [(1, Reason::Count)]);
    drop(journal);
    is_sound(directory.path());
    // The operator may say otherwise.
    let options = JournalOptions { on_full: OnFull::DropOldest, ..options() };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    for sequence in 100..=120 {
        journal.append(&event(sequence)).unwrap();
        journal.flush().unwrap();
    }
    assert_eq!(dropped(&mut journal)[0], (2, Reason::Count));
    for name in ["", ".x", "a/b", "ä", &"x".repeat(65)] {
        Cursor::open(directory.path(), name).unwrap_err();
    }
}

#[test]
fn a_full_disk_drops_the_oldest_where_that_is_wanted() {
    let Some(volume) = tmpfs("size=512k") else { return };
    let directory = volume.path().join("journal");
    let options = JournalOptions {
        segment_bytes: 64 * 1024,
        segments: 100,
        on_full: OnFull::DropOldest,
        ..options()
    };
    let mut journal = Journal::open(&directory, options).unwrap();
    let mut told = Vec::new();
    for sequence in 1..=3000 {
        journal.append(&event(sequence)).unwrap();
        told.extend(dropped(&mut journal));
    }
    journal.flush().unwrap();
    assert!(told.contains(&(1, Reason::DiskFull)), "{told:?}");
    drop(journal);
    is_sound(&directory);
}

#[test]
fn a_full_disk_is_told_once_and_leaves_a_sound_journal() {
    let Some(volume) = tmpfs("size=256k") else { return };
    let directory = volume.path().join("journal");
    let options = JournalOptions { segment_bytes: 64 * 1024, segments: 100, ..options() };
    let mut journal = Journal::open(&directory, options).unwrap();
    let mut sequence = 0;
    while journal.flush().is_ok() {
        sequence += 1;
        journal.append(&event(sequence)).unwrap();
    }
    journal.flush().unwrap_err();
    assert_eq!(journal.take_notices().len(), 1);
    is_sound(&directory);
    volume.remount("size=32m");
    journal.flush().unwrap();
    drop(journal);
    let request = Request { key: Some(key().public()), ..Request::default() };
    assert_eq!(verify(&directory, &request).unwrap().entries, sequence);
    is_sound(&directory);
}
