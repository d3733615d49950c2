//! What comes to be.

use std::path::PathBuf;

use crate::cases::{self, Case, Table, nothing};
use crate::event::Event;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "create",
    alone: false,
    cases: &[
        Case::new("open_creat", nothing, open_creat),
        Case::new("open_creat_and_write", nothing, open_creat_and_write),
        Case::new("open_creat_and_write_on_disk", nothing, open_creat_and_write).on_disk(),
        Case::new("mknod_fifo", nothing, mknod_fifo),
        Case::new("mknod_char_device", nothing, mknod_char_device),
        Case::new("mkdir", nothing, mkdir),
        Case::new("symlink", nothing, symlink),
        Case::new("o_tmpfile_and_linkat", nothing, o_tmpfile_and_linkat),
        Case::new("o_tmpfile_and_linkat_on_disk", nothing, o_tmpfile_and_linkat).on_disk(),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

fn open_creat(scene: &Scene<'_>) {
    let path = scene.path("a");
    let report = scene.operate(Op::Create { path: Raw::from(&path) });
    let event = scene.content_created(&report, &path);
    assert!(event.operations().contains(&"create"), "{event}");
    assert_eq!(event.text("file.mode"), Some("0640"), "{event}");
}

fn open_creat_and_write(scene: &Scene<'_>) {
    let path = scene.path("a");
    let bytes = b"new content\n".to_vec();
    let report = scene.operate(Op::CreateWrite { path: Raw::from(&path), bytes });
    scene.content_created(&report, &path);
    let created = scene.wait("created", |event| event.action() == "created");
    assert!(created.operations().contains(&"create"), "{created}");
}

/// Something that is not a regular file: one event, at once, and no hash.
fn other(scene: &Scene<'_>, kind: &str, op: fn(Raw) -> Op) -> (PathBuf, Event) {
    let path = scene.path("a");
    let report = scene.operate(op(Raw::from(&path)));
    let event = scene.single(&report, "created", &path);
    assert_eq!(event.text("file.type"), Some(kind), "{event}");
    assert!(!event.has("fim.before"), "{event}");
    assert_ne!(event.text("fim.hash_state"), Some("exact"), "{event}");
    (path, event)
}

fn mknod_fifo(scene: &Scene<'_>) {
    other(scene, "fifo", |path| Op::Fifo { path });
}

fn mknod_char_device(scene: &Scene<'_>) {
    other(scene, "char_device", |path| Op::CharDevice { path });
}

fn mkdir(scene: &Scene<'_>) {
    other(scene, "dir", |path| Op::Mkdir { path });
}

fn symlink(scene: &Scene<'_>) {
    // It need not lead anywhere.
    let target = "/nowhere/at all";
    let (_, event) = other(scene, "symlink", |path| Op::Symlink {
        target: Raw::from(std::ffi::OsStr::new("/nowhere/at all")),
        path,
    });
    assert_eq!(event.text("file.target_path"), Some(target), "{event}");
}

/// The file is written before it has a name: it is its content under the name that counts.
fn o_tmpfile_and_linkat(scene: &Scene<'_>) {
    let path = scene.path("a");
    let bytes = b"nameless until now\n".to_vec();
    let report = scene.operate(Op::LinkTemporary { path: Raw::from(&path), bytes });
    scene.content_created(&report, &path);
}
