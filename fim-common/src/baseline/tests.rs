use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::test_volume::{tempdir, tmpfs};
use super::*;
use crate::event::actor::Process;
use crate::state::ObjectKind;

fn opened() -> (tempfile::TempDir, Baseline) {
    let directory = tempdir();
    let baseline = Baseline::open(directory.path()).unwrap();
    (directory, baseline)
}

fn file(inode: u64) -> ObjectState {
    ObjectState {
        kind: Some(ObjectKind::File),
        inode: Some(inode),
        device: Some(1),
        ..ObjectState::default()
    }
}

fn full() -> ObjectState {
    ObjectState {
        kind: Some(ObjectKind::Symlink),
        size: Some(u64::MAX),
        mode: Some(0o7777),
        uid: Some(u32::MAX),
        gid: Some(0),
        mtime: Some(Timestamp::from_unix(-5, 999_999_999)),
        // Beyond 64 bits of nanoseconds, as ext4 and tmpfs can have it.
        ctime: Some(Timestamp::from_unix(15_032_385_535, 1)),
        inode: Some(u64::MAX - 1),
        device: Some(u64::MAX),
        nlink: Some(3),
        acl: Some(vec!["user::rw-".into(), "default:mask::r-x".into()]),
        xattrs: Some(BTreeMap::from([("user.a\"b".into(), "AA==".into())])),
        capabilities: Some("cap_net_raw=ep".into()),
        attributes: Some(vec!["append_only".into(), "immutable".into()]),
        target_path: Some(PathBuf::from(OsString::from_vec(b"\xff\xfe".to_vec()))),
        sha256: Some("0123456789abcdef".repeat(4)),
    }
}

#[test]
fn every_field_and_none_comes_back() {
    let (directory, baseline) = opened();
    let empty = ObjectState {
        acl: Some(vec![]),
        xattrs: Some(BTreeMap::new()),
        capabilities: Some(String::new()),
        attributes: Some(vec![]),
        ..ObjectState::default()
    };
    let odd = PathBuf::from(OsString::from_vec(b"/a/\xff\n\x01 b".to_vec()));
    let cases = [
        (Path::new("/"), ObjectState::default()),
        (Path::new("/etc"), empty),
        (odd.as_path(), full()),
    ];
    for (path, state) in &cases {
        assert_eq!(baseline.get(path).unwrap(), None);
        baseline.put(path, state).unwrap();
    }
    drop(baseline);
    let baseline = Baseline::open(directory.path()).unwrap();
    assert!(!baseline.created());
    for (path, state) in &cases {
        assert_eq!(baseline.get(path).unwrap().as_ref(), Some(state), "{}", path.display());
    }
    assert_eq!(baseline.count().unwrap(), 3);
    assert_eq!(baseline.remove(&odd).unwrap(), Some(full()));
    assert_eq!(baseline.remove(&odd).unwrap(), None);
    assert_eq!(baseline.count().unwrap(), 2);
}

#[test]
fn every_kind_has_a_code() {
    let (_directory, baseline) = opened();
    for kind in [
        ObjectKind::File,
        ObjectKind::Dir,
        ObjectKind::Symlink,
        ObjectKind::Fifo,
        ObjectKind::Socket,
        ObjectKind::CharDevice,
        ObjectKind::BlockDevice,
    ] {
        let state = ObjectState { kind: Some(kind), ..ObjectState::default() };
        baseline.put(Path::new("/x"), &state).unwrap();
        assert_eq!(baseline.get(Path::new("/x")).unwrap(), Some(state));
    }
}

/// A tree with neighbours whose names begin the same.
fn tree() -> (tempfile::TempDir, Baseline) {
    let (directory, baseline) = opened();
    let paths = [
        "/etc",
        "/etc/a",
        "/etc/b",
        "/etc/b/c",
        "/etc/b/c/d",
        "/etc/b-side",
        "/etc/b.d",
        "/etc/b0",
        "/etc-old",
        "/etc-old/a",
        "/usr",
    ];
    for (inode, path) in paths.into_iter().enumerate() {
        baseline.put(Path::new(path), &file(inode as u64)).unwrap();
    }
    (directory, baseline)
}

fn below(baseline: &Baseline, root: &str) -> Vec<String> {
    let objects = baseline.tree(Path::new(root)).map(|object| object.unwrap().0);
    objects.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn trees_are_listed_directory_by_directory() {
    let (_directory, baseline) = tree();
    assert_eq!(below(&baseline, "/etc/b"), ["/etc/b", "/etc/b/c", "/etc/b/c/d"]);
    let etc = [
        "/etc",
        "/etc/a",
        "/etc/b",
        "/etc/b-side",
        "/etc/b.d",
        "/etc/b0",
        "/etc/b/c",
        "/etc/b/c/d",
    ];
    assert_eq!(below(&baseline, "/etc"), etc);
    assert_eq!(below(&baseline, "/").len(), 11);
    assert_eq!(below(&baseline, "/none"), [""; 0]);
    let children = baseline.children(Path::new("/etc/b")).unwrap();
    assert_eq!(children, [(PathBuf::from("/etc/b/c"), file(3))]);
}

#[test]
fn what_is_forgotten_for_good_was_never_scanned() {
    let (_directory, baseline) = tree();
    let roots = ["/", "/etc", "/etc/b", "/etc/b-side", "/etc/b/c", r"C:\Users", r"\\srv\share"];
    for root in roots {
        baseline.set_scan_complete(Path::new(root), Timestamp::now()).unwrap();
    }
    assert_eq!(baseline.scanned().unwrap(), roots.map(PathBuf::from));
    baseline.forget_below(Path::new("/etc/b")).unwrap();
    assert_eq!(below(&baseline, "/etc/b"), [""; 0]);
    assert_eq!(below(&baseline, "/etc/b-side"), ["/etc/b-side"]);
    let left = ["/", "/etc", "/etc/b-side", r"C:\Users", r"\\srv\share"];
    assert_eq!(baseline.scanned().unwrap(), left.map(PathBuf::from));
    assert_eq!(baseline.scan_complete(Path::new("/etc/b")).unwrap(), None);
}

#[test]
fn a_long_tree_is_fetched_in_pages() {
    let (_directory, baseline) = opened();
    let mut expected = Vec::new();
    for directory in 0..5 {
        for name in 0..777 {
            let path = format!("/r/{directory}/{name:04}");
            baseline.put(Path::new(&path), &file(1)).unwrap();
            expected.push(path);
        }
    }
    assert_eq!(below(&baseline, "/r"), expected);
    assert_eq!(below(&baseline, "/"), expected);
}

#[test]
fn a_tree_is_removed_and_returned() {
    let (_directory, baseline) = tree();
    let removed = baseline.remove_tree(Path::new("/etc/b")).unwrap();
    let paths: Vec<_> = removed.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/etc/b", "/etc/b/c", "/etc/b/c/d"]);
    assert_eq!(removed[2].1, file(4));
    assert_eq!(baseline.count().unwrap(), 8);
    assert_eq!(baseline.remove_tree(Path::new("/etc/b")).unwrap(), []);
    assert_eq!(baseline.remove_tree(Path::new("/")).unwrap().len(), 8);
}

#[test]
fn a_tree_is_renamed_over_another() {
    let (_directory, baseline) = tree();
    // `/etc-old` and what is below it is replaced.
    assert_eq!(baseline.rename_tree(Path::new("/etc/b"), Path::new("/etc-old")).unwrap(), 3);
    assert_eq!(below(&baseline, "/etc-old"), ["/etc-old", "/etc-old/c", "/etc-old/c/d"]);
    assert_eq!(below(&baseline, "/etc/b"), [""; 0]);
    assert_eq!(baseline.get(Path::new("/etc-old/c/d")).unwrap(), Some(file(4)));
    assert_eq!(baseline.rename_tree(Path::new("/x"), Path::new("/y")).unwrap(), 0);
    assert_eq!(baseline.rename_tree(Path::new("/usr"), Path::new("/usr")).unwrap(), 0);
    assert!(baseline.get(Path::new("/usr")).unwrap().is_some());
    let odd = PathBuf::from(OsString::from_vec(b"/u\xff".to_vec()));
    baseline.put(&odd.join("x"), &full()).unwrap();
    baseline.rename_tree(&odd, Path::new("/v")).unwrap();
    assert_eq!(baseline.get(Path::new("/v/x")).unwrap(), Some(full()));
}

#[test]
fn trees_are_exchanged() {
    let (_directory, baseline) = tree();
    baseline.exchange_trees(Path::new("/etc/b"), Path::new("/etc-old")).unwrap();
    assert_eq!(below(&baseline, "/etc-old"), ["/etc-old", "/etc-old/c", "/etc-old/c/d"]);
    assert_eq!(below(&baseline, "/etc/b"), ["/etc/b", "/etc/b/a"]);
    assert_eq!(baseline.get(Path::new("/etc/b")).unwrap(), Some(file(8)));
    assert_eq!(baseline.count().unwrap(), 11);
}

#[test]
fn the_paths_of_an_object() {
    let (_directory, baseline) = tree();
    for path in ["/etc/hard", "/usr/link"] {
        baseline.put(Path::new(path), &file(1)).unwrap();
    }
    let other = ObjectState { device: Some(2), ..file(1) };
    baseline.put(Path::new("/other"), &other).unwrap();
    let paths = |device| {
        let paths = baseline.paths_of(ObjectId { device, inode: 1 }).unwrap();
        paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(1), ["/etc/a", "/etc/hard", "/usr/link"]);
    assert_eq!(paths(2), ["/other"]);
    assert_eq!(paths(3), [""; 0]);
    assert_eq!(paths(0), ["/other", "/etc/a", "/etc/hard", "/usr/link"]);
}

#[test]
fn directories_one_after_the_other() {
    let (_directory, baseline) = tree();
    let mut found = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    while let Some(next) = baseline.directory_after(Path::new("/etc"), last.as_deref()).unwrap() {
        found.push(String::from_utf8(next.clone()).unwrap());
        last = Some(next);
    }
    assert_eq!(found, ["/etc", "/etc/b", "/etc/b/c"]);
}

#[test]
fn committed_writes_are_seen_by_others_and_the_rest_is_not() {
    let (directory, baseline) = opened();
    let other = Baseline::open_read_only(directory.path()).unwrap();
    let path = Path::new("/etc/x");
    baseline.put(path, &full()).unwrap();
    assert_eq!(baseline.get(path).unwrap(), Some(full()), "its own writes are seen");
    assert_eq!(other.get(path).unwrap(), None);
    baseline.flush().unwrap();
    assert_eq!(other.get(path).unwrap(), Some(full()));
    for number in 0..COMMIT_EVERY {
        baseline.put(&path.join(number.to_string()), &file(number)).unwrap();
    }
    assert_eq!(other.count().unwrap(), 1 + COMMIT_EVERY, "committed after so many");
    assert!(matches!(other.put(path, &full()), Err(BaselineError::ReadOnly { .. })));
}

#[test]
fn a_killed_agent_loses_only_what_was_not_committed() {
    let (directory, baseline) = opened();
    baseline.put(Path::new("/kept"), &full()).unwrap();
    baseline.flush().unwrap();
    baseline.put(Path::new("/lost"), &full()).unwrap();
    // What a kill leaves: the files as they are, with the log not folded in.
    let copy = tempdir();
    for file in ["baseline.db", "baseline.db-wal"] {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    let after = Baseline::open(copy.path()).unwrap();
    assert_eq!(after.get(Path::new("/kept")).unwrap(), Some(full()));
    assert_eq!(after.get(Path::new("/lost")).unwrap(), None);
}

#[test]
fn notes_beside_the_objects() {
    let (directory, baseline) = opened();
    assert_eq!(baseline.meta("agent").unwrap(), None);
    baseline.set_meta("agent", "a").unwrap();
    baseline.set_meta("agent", "b").unwrap();
    assert_eq!(baseline.meta("agent").unwrap().as_deref(), Some("b"));
    baseline.remove_meta("agent").unwrap();
    assert_eq!(baseline.meta("agent").unwrap(), None);

    let odd = PathBuf::from(OsString::from_vec(b"/\xff".to_vec()));
    let at = Timestamp::from_unix(1_700_000_000, 5);
    baseline.set_scan_complete(&odd, at).unwrap();
    assert_eq!(baseline.scan_complete(&odd).unwrap(), Some(at));
    assert_eq!(baseline.scan_complete(Path::new("/etc")).unwrap(), None);

    assert_eq!(baseline.take_down_since().unwrap(), None);
    baseline.set_stopped(at).unwrap();
    drop(baseline);
    let baseline = Baseline::open(directory.path()).unwrap();
    assert_eq!(baseline.take_down_since().unwrap(), Some(at));
    assert_eq!(baseline.take_down_since().unwrap(), None);
    // One that was killed left word last then.
    let later = Timestamp::from_unix(9, 0);
    assert_eq!(baseline.killed_after().unwrap(), None);
    baseline.set_alive(later).unwrap();
    assert_eq!(baseline.killed_after().unwrap(), Some(later));
    assert_eq!(baseline.take_down_since().unwrap(), Some(later));
}

#[test]
fn the_file_is_private_and_new_only_once() {
    let (directory, baseline) = opened();
    assert!(baseline.created());
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

/// A database of some pages, closed, and its bytes.
fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let (directory, baseline) = opened();
    for number in 0..3_000 {
        let path = format!("/some/directory/{number:05}");
        baseline.put(Path::new(&path), &ObjectState { inode: Some(number), ..full() }).unwrap();
    }
    let path = baseline.path().to_owned();
    drop(baseline);
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes)
}

#[test]
fn damage_is_refused_and_kept() {
    let (directory, path, good) = written();
    let page = 4096;
    let pages = good.len() / page;
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for length in [0, 1, 99, 100, page, good.len() / 2, good.len() - page] {
        cases.push((format!("cut to {length}"), good[..length].to_vec()));
    }
    let mut overwritten = |at: usize, with: u8, count: usize| {
        let mut bytes = good.clone();
        bytes[at..at + count].fill(with);
        cases.push((format!("{count} bytes of {with:#x} at {at}"), bytes));
    };
    overwritten(0, b'x', 1);
    overwritten(0, 0, 100);
    overwritten(16, 0xff, 2);
    // The header of b-tree pages, early, in the middle and last.
    for number in [1, pages / 3, pages / 2, pages - 2] {
        overwritten(number * page, 0xff, 64);
        overwritten(number * page, 0, page);
    }
    cases.push(("text".into(), b"these are my notes\n".repeat(50)));
    for (what, bytes) in cases {
        fs::write(&path, &bytes).unwrap();
        let error = match Baseline::open(directory.path()) {
            Ok(_) => panic!("{what} was taken"),
            Err(error) => error,
        };
        assert!(matches!(error, BaselineError::Damaged { .. }), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("left untouched"), "{message}");
        assert!(message.contains("fim baseline create"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}: the file was changed");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(Baseline::open(directory.path()).unwrap().count().unwrap(), 3_000);
}

#[test]
fn another_application_and_a_later_format_are_refused() {
    let (directory, path, good) = written();
    for (pragma, foreign) in [("application_id = 7", true), ("user_version = 3", false)] {
        fs::write(&path, &good).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        connection.close().unwrap();
        let bytes = fs::read(&path).unwrap();
        let error = Baseline::open(directory.path()).err().unwrap();
        match error {
            BaselineError::Foreign { .. } if foreign => {}
            BaselineError::Newer { found: 3, known: 2, .. } if !foreign => {}
            error => panic!("{pragma}: {error:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempdir();
    let path = directory.path().join("baseline.db");
    fs::create_dir(&path).unwrap();
    let error = Baseline::open(directory.path()).err().unwrap();
    assert!(matches!(error, BaselineError::Foreign { .. }), "{error:?}");
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
    let error = Baseline::open(directory.path()).err().unwrap();
    assert!(matches!(error, BaselineError::Foreign { .. }), "{error:?}");
    fs::remove_file(&path).unwrap();
    fs::write(directory.path().join("baseline.db-wal"), b"log").unwrap();
    let error = Baseline::open(directory.path()).err().unwrap();
    assert!(matches!(error, BaselineError::Damaged { .. }), "{error:?}");
    let none = tempdir();
    let error = Baseline::open_read_only(none.path()).err().unwrap();
    let BaselineError::Io { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_creation_that_was_killed_is_made_up_for() {
    let directory = tempdir();
    fs::write(directory.path().join("baseline.db.new"), b"half").unwrap();
    assert!(Baseline::open(directory.path()).unwrap().created());
    assert!(!directory.path().join("baseline.db.new").exists());
}

#[test]
fn a_full_disk_is_said_and_what_was_committed_stays() {
    let Some(volume) = tmpfs("size=600k") else { return };
    let baseline = Baseline::open(volume.path()).unwrap();
    baseline.put(Path::new("/kept"), &full()).unwrap();
    baseline.flush().unwrap();
    let mut tried = 0;
    let error = loop {
        tried += 1;
        assert!(tried < 100_000, "the disk never filled up");
        let path = format!("/filler/{tried}");
        if let Err(error) = baseline.put(Path::new(&path), &full()) {
            break error;
        }
        if tried % 100 == 0
            && let Err(error) = baseline.flush()
        {
            break error;
        }
    };
    assert!(matches!(error, BaselineError::Full { .. }), "{error:?}");
    assert_eq!(baseline.get(Path::new("/kept")).unwrap(), Some(full()));
    drop(baseline);
    volume.remount("size=20m");
    let baseline = Baseline::open(volume.path()).unwrap();
    assert_eq!(baseline.get(Path::new("/kept")).unwrap(), Some(full()));
    baseline.put(Path::new("/after"), &full()).unwrap();
    baseline.flush().unwrap();
}

#[test]
fn a_scan_does_not_put_back_what_others_wrote_since() {
    let (_directory, baseline) = opened();
    let path = Path::new("/etc/x");
    let watch = baseline.watch();
    let began = watch.generation();
    let (old, new, newer) = (file(1), file(2), file(3));

    // Nobody wrote: the scan may.
    assert!(watch.set(path, None, Some(&old), began).unwrap());
    assert!(watch.unchanged(path, Some(&old), began).unwrap());
    // Another value than the scan knew.
    assert!(!watch.set(path, None, Some(&new), began).unwrap());
    // Somebody wrote, even if it is the same value again.
    baseline.put(path, &old).unwrap();
    assert!(!watch.set(path, Some(&old), Some(&new), began).unwrap());
    let later = watch.generation();
    assert!(watch.set(path, Some(&old), Some(&new), later).unwrap());
    // Somebody removed a directory above it.
    baseline.remove_tree(Path::new("/etc")).unwrap();
    assert!(!watch.set(path, None, Some(&newer), later).unwrap());
    let object = |path: &str| Scanned { path: path.into(), before: None, after: newer.clone() };
    let refused = watch.set_all(vec![object("/etc/x"), object("/usr/y")], later).unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].path, path);
    assert_eq!(baseline.get(Path::new("/usr/y")).unwrap(), Some(newer));
    drop(watch);
    // A new scan begins with no notes.
    baseline.put(path, &old).unwrap();
    let watch = baseline.watch();
    assert!(watch.set(path, Some(&old), None, watch.generation()).unwrap());
    assert_eq!(baseline.get(path).unwrap(), None);
}

#[test]
fn what_is_gathered_is_seen_by_whatever_is_asked() {
    let (_directory, baseline) = opened();
    let (path, other) = (Path::new("/a/x"), Path::new("/a/y"));
    baseline.put(path, &file(1)).unwrap();
    baseline.put(path, &file(2)).unwrap();
    assert_eq!(baseline.get(path).unwrap(), Some(file(2)));
    assert_eq!(baseline.children(Path::new("/a")).unwrap(), [(path.to_owned(), file(2))]);
    baseline.put(other, &file(3)).unwrap();
    assert_eq!(baseline.remove(other).unwrap(), Some(file(3)));
    assert_eq!(baseline.remove(other).unwrap(), None, "made and removed again");
    assert_eq!(baseline.count().unwrap(), 1);
    // Above one that the database has.
    baseline.put(path, &file(4)).unwrap();
    baseline.rename_tree(Path::new("/a"), Path::new("/b")).unwrap();
    assert_eq!(baseline.get(path).unwrap(), None);
    assert_eq!(baseline.remove(Path::new("/b/x")).unwrap(), Some(file(4)));
    assert_eq!(baseline.get(Path::new("/b/x")).unwrap(), None);
    assert_eq!(baseline.count().unwrap(), 0);
}

#[test]
fn who_changed_it_last() {
    let (_directory, baseline) = opened();
    let path = Path::new("/dir/file");
    let mut event = crate::journal::tests::event(1);
    event.event.id = "one".to_owned();
    event.event.provider = Some(crate::event::Provider::Bpf);
    let (pid, name) = (7, Some("vim".to_owned()));
    event.process = Some(Process { pid, name, ..Process::default() }.into());
    let told = Told::of(&event).unwrap();
    let last = LastChange::of(&event).unwrap();
    assert_eq!(
        last,
        LastChange {
            time: event.timestamp,
            event_id: "one".to_owned(),
            action: crate::event::Action::Created,
            provider: crate::event::Provider::Bpf,
            pid: Some(7),
            process: Some("vim".to_owned()),
            executable: None,
            user: None,
            login: None,
        }
    );
    baseline.put(path, &full()).unwrap();
    assert_eq!(baseline.last_change(path).unwrap(), None);
    baseline.put_by(path, &full(), told).unwrap();
    // What a scan brings up to date nobody has changed.
    baseline.put(path, &ObjectState { device: Some(99), ..full() }).unwrap();
    assert_eq!(baseline.last_change(path).unwrap(), Some(last.clone()));
    baseline.rename_tree(Path::new("/dir"), Path::new("/other")).unwrap();
    let moved = Path::new("/other/file");
    assert_eq!(baseline.last_change(moved).unwrap(), Some(last.clone()));
    let next = LastChange { event_id: "two".to_owned(), ..last };
    baseline.set_last_change(moved, &next).unwrap();
    assert_eq!(baseline.last_change(moved).unwrap(), Some(next));
    baseline.remove(moved).unwrap();
    baseline.put(moved, &full()).unwrap();
    assert_eq!(baseline.last_change(moved).unwrap(), None, "another object");
}

#[test]
fn an_earlier_format_is_brought_up_to_date() {
    let (directory, baseline) = opened();
    baseline.put(Path::new("/kept"), &full()).unwrap();
    let path = baseline.path().to_owned();
    drop(baseline);
    let earlier = Connection::open(&path).unwrap();
    earlier
        .execute_batch(
            "ALTER TABLE objects DROP COLUMN last_change; PRAGMA user_version = 1; \
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    drop(earlier);
    let baseline = Baseline::open(directory.path()).unwrap();
    assert_eq!(baseline.get(Path::new("/kept")).unwrap(), Some(full()));
    assert_eq!(baseline.last_change(Path::new("/kept")).unwrap(), None);
}
