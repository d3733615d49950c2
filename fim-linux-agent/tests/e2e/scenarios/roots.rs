//! Watched directories that come and go, or have odd names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cases::{self, Case, Table, nothing};
use crate::event::{Event, path_base64, path_text};
use crate::expect;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "roots",
    alone: false,
    cases: &[
        Case::new("appears_later", nothing, appears_later),
        Case::new("name_is_not_utf8", nothing, name_is_not_utf8),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

/// All directories on the way and a file in them, as fast as can be.
fn make(scene: &Scene<'_>, root: &Path, content: &[u8]) -> Event {
    let directory = root.join("sub");
    scene.operate(Op::MkdirAndCreate {
        directory: Raw::from(&directory),
        name: "a".to_owned(),
        bytes: content.to_vec(),
    });
    let path = path_text(&directory.join("a"));
    let hash = crate::event::sha256(content);
    // The file may be there before the directory is watched; then a look at the directory finds
    // it, which is all that can be asked for.
    let event = scene.wait_below(root, &format!("created {path}"), |event| {
        event.path() == path && event.text("file.hash.sha256") == Some(&hash)
    });
    expect::change_of_any_provider(&event);
    assert!(["created", "updated"].contains(&event.action()), "{event}");
    event
}

/// Neither the watched directory nor its parent is there when the agent starts.
fn appears_later(scene: &Scene<'_>) {
    let root = scene.shared.later.clone();
    assert!(!root.parent().unwrap().exists());
    let event = make(scene, &root, b"at last\n");
    scene.note(&format!("found by {}", event.at("event.provider")));
    let path = root.join("b");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"b\n".to_vec() };
    let report = scene.operate(op);
    live(scene, &root, &path, &report);

    // And once more, after it has gone with everything in it.
    fs::remove_dir_all(&root).unwrap();
    scene.wait_below(&root, "deletion of the file", |event| {
        event.action() == "deleted" && event.path() == path_text(&path)
    });
    make(scene, &root, b"here again\n");
    let path = root.join("c");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"c\n".to_vec() };
    let report = scene.operate(op);
    live(scene, &root, &path, &report);
}

/// The creation of `path` was seen when it happened.
fn live(scene: &Scene<'_>, root: &Path, path: &Path, report: &crate::operator::Report) {
    let event = scene.wait_below(root, "creation", |event| event.path() == path_text(path));
    assert_eq!(event.action(), "created", "{event}");
    expect::change(&event);
    expect::actor(&event, report);
}

fn name_is_not_utf8(scene: &Scene<'_>) {
    let root = scene.shared.odd.clone();
    for name in [&b"plain"[..], b"\xfe"] {
        let path = root.join(OsStr::from_bytes(name));
        let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"content\n".to_vec() };
        let report = scene.operate(op);
        live(scene, &root, &path, &report);
        let event = scene.wait_below(&root, "path", |event| event.path() == path_text(&path));
        assert_eq!(event.text("fim.path_b64"), Some(&*path_base64(&path)), "{event}");
    }
}
