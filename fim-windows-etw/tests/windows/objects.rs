//! What an object tells of itself, and how it is kept.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::path::Path;

use fim_common::baseline::{Baseline, StateDir, StateDirError};
use fim_common::hash;
use fim_common::object;
use fim_common::state::{HashState, ObjectKind};

fn attrib(arguments: &[&str]) {
    let done = std::process::Command::new("attrib.exe").args(arguments).status().unwrap();
    assert!(done.success(), "{arguments:?}");
}

#[test]
fn a_file_by_its_handle() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("A file.txt");
    std::fs::write(&path, "abc").unwrap();
    let before = object::state(&path).unwrap();
    assert_eq!((before.kind, before.size), (Some(ObjectKind::File), Some(3)));
    assert_eq!((before.mode, before.uid, before.nlink), (None, None, Some(1)));
    let acl = before.acl.as_ref().unwrap();
    assert!(acl[0].starts_with("O:") && acl.iter().any(|part| part.starts_with("(A;")), "{acl:?}");

    attrib(&["+h", path.to_str().unwrap()]);
    attrib(&["+r", path.to_str().unwrap()]);
    let after = object::state(&path).unwrap();
    assert_eq!(after.attributes.unwrap(), ["hidden", "readonly"]);
    assert_eq!((after.inode, after.device), (before.inode, before.device));
    attrib(&["-r", path.to_str().unwrap()]);
    attrib(&["-h", path.to_str().unwrap()]);

    let outcome = hash::content(&path, before.id(), 1 << 20);
    assert_eq!(outcome.state, HashState::Exact);
    let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(outcome.sha256.as_deref(), Some(want));
    assert_eq!(hash::content(&path, before.id(), 2).state, HashState::TooLarge);

    // Another file by the same name is not the one that was asked for.
    let other = directory.path().join("other");
    std::fs::write(&other, "xyz").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(hash::content(&path, before.id(), 1 << 20).state, HashState::Gone);
    assert_eq!(hash::content(directory.path(), None, 1 << 20).state, HashState::Skipped);
    assert!(object::state(&directory.path().join("nothing")).is_err());
}

#[test]
fn names_beyond_what_is_usual() {
    let directory = tempfile::tempdir().unwrap();
    let mut deep = std::fs::canonicalize(directory.path()).unwrap();
    while deep.as_os_str().len() < 400 {
        deep.push("a directory with a long name");
    }
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("ü€😀");
    std::fs::write(&path, "x").unwrap();
    assert_eq!(object::state(&path).unwrap().size, Some(1));
    assert_eq!(hash::content(&path, None, 10).state, HashState::Exact);
}

#[test]
fn the_baseline_keeps_names_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let baseline = Baseline::open(directory.path()).unwrap();
    // A lone surrogate is no UTF-16, and yet a name.
    let odd = OsString::from_wide(&[0x61, 0xd800, 0x62]);
    let root = Path::new(r"C:\watched");
    let state = object::state(directory.path()).unwrap();
    let paths = [root.join("a.txt"), root.join("b"), root.join("b").join(&odd)];
    for path in &paths {
        baseline.put(path, &state).unwrap();
    }
    baseline.put(Path::new(r"C:\watchedx"), &state).unwrap();
    let found: Vec<_> = baseline.tree(root).map(|found| found.unwrap().0).collect();
    assert_eq!(found, paths);
    assert_eq!(baseline.tree(Path::new(r"C:\")).count(), 4);
    assert_eq!(baseline.get(&paths[2]).unwrap().unwrap().acl, state.acl);
}

#[test]
fn a_state_directory_is_one_agent_s() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let first = StateDir::open(&path).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(matches!(error, StateDirError::Locked { .. }), "{error}");
    let id = first.agent_id().to_owned();
    drop(first);
    assert_eq!(StateDir::open(&path).unwrap().agent_id(), id);
}
