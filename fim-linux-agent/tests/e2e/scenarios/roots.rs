//! Watched directories that come and go, or have odd names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cases::{self, Case, Place, Table, nothing};
use crate::environment::{Backend, backend};
use crate::event::{Event, path_base64, path_text, sha256};
use crate::expect;
use crate::operator::mounts::Mount;
use crate::operator::{Op, Raw, Report};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "roots",
    alone: false,
    cases: &[
        Case::new("appears_later", nothing, appears_later),
        Case::new("name_is_not_utf8", nothing, name_is_not_utf8),
        Case::new("file_mounted_over_a_file", prepare_files, file_mounted_over_a_file),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

fn prepare_files(place: &Place) {
    fs::write(place.inside.join("a"), "below the mount\n").unwrap();
    fs::write(place.outside.join("o"), "from outside\n").unwrap();
}

/// What a watched path leads to while a file is mounted there is watched, by either name.
fn file_mounted_over_a_file(scene: &Scene<'_>) {
    if backend() != Backend::Bpf {
        return scene.skip("fanotify knows files by their own place only");
    }
    let (at, from) = (scene.path("a"), scene.outside.join("o"));
    let op = Mount::Bind { from: Raw::from(&from), at: Raw::from(&at) };
    let report = scene.operate(Op::Mount(op));
    scene.change(&report, "mounted", &at);
    let (first, second) = (b"by the watched name\n".as_slice(), b"by the other one\n".as_slice());
    let write = |path: &Path, bytes: &[u8]| {
        scene.operate(Op::Write { path: Raw::from(path), bytes: bytes.to_vec() })
    };
    // Before, it may not have been looked at yet.
    let told = |report: &Report, bytes: &[u8]| {
        let hash = sha256(bytes);
        let event = scene.wait("the new content", |event| {
            event.path() == path_text(&at) && event.text("file.hash.sha256") == Some(&hash)
        });
        assert_eq!(event.action(), "updated", "{event}");
        expect::change(&event);
        expect::actor(&event, report);
    };
    // Longer than the content is, so that nothing of it is left.
    told(&write(&at, first), first);
    let report = scene.operate(Op::Truncate { path: Raw::from(&from), size: 0 });
    scene.change_of_content(&report, &at, first, b"");
    let report = write(&from, second);
    scene.change_of_content(&report, &at, b"", second);
    let report = scene.operate(Op::Mount(Mount::Unmount { at: Raw::from(&at) }));
    scene.change(&report, "unmounted", &at);
    // The other file is nobody's business any more.
    write(&from, b"told to nobody, and long enough\n");
    told(&write(&at, b"into the file below\n"), b"into the file below\n");
    scene.mark();
    let events = scene.events();
    assert!(!events.iter().any(|event| event.path() == path_text(&from)), "{}", scene.dump());
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
    let hash = sha256(content);
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
fn live(scene: &Scene<'_>, root: &Path, path: &Path, report: &Report) {
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
