//! Every way to change content.

use std::fs;
use std::path::Path;

use crate::cases::{self, Case, Place, Table};
use crate::event::Event;
use crate::expect::Known;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "content",
    alone: false,
    cases: &[
        Case::new("write", prepare, write),
        Case::new("write_on_disk", prepare, write).on_disk(),
        Case::new("pwrite", prepare, pwrite),
        Case::new("writev", prepare, writev),
        Case::new("mmap_shared", prepare, mmap_shared),
        Case::new("mmap_shared_on_disk", prepare, mmap_shared).on_disk(),
        Case::new("truncate", prepare, truncate),
        Case::new("ftruncate", prepare, ftruncate),
        Case::new("open_o_trunc", prepare, open_o_trunc),
        Case::new("fallocate", prepare, fallocate),
        Case::new("copy_file_range", prepare, copy_file_range),
        Case::new("copy_file_range_on_disk", prepare, copy_file_range).on_disk(),
        Case::new("one_write_after_the_other", prepare, one_write_after_the_other),
        Case::new("open_for_writing_only", prepare, open_for_writing_only),
        Case::new("read", prepare, read),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

const OLD: &[u8] = b"old content\n";
const SOURCE: &[u8] = b"the content of another file, which is longer\n";

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), OLD).unwrap();
    fs::write(place.outside.join("source"), SOURCE).unwrap();
}

/// Does it to the prepared file: it is told as a change of content, with both sides.
fn changed(scene: &Scene<'_>, op: impl FnOnce(Raw) -> Op) -> Event {
    let path = scene.path("a");
    let known = Known::of(&path);
    let report = scene.operate(op(Raw::from(&path)));
    let event = scene.content_changed(&report, &path, OLD);
    known.is(&event, "fim.before");
    let after = fs::read(&path).unwrap();
    assert_eq!(event.text("fim.after.sha256"), event.text("file.hash.sha256"), "{event}");
    assert_eq!(event.number("fim.after.size"), Some(after.len() as u64), "{event}");
    event
}

fn has_content(path: &Path, content: &[u8]) {
    assert_eq!(fs::read(path).unwrap(), content, "the operator did something else");
}

fn write(scene: &Scene<'_>) {
    changed(scene, |path| Op::Write { path, bytes: b"new content, longer\n".to_vec() });
    has_content(&scene.path("a"), b"new content, longer\n");
}

/// The size stays the same: only the hash can tell.
fn pwrite(scene: &Scene<'_>) {
    let event = changed(scene, |path| Op::WriteAt { path, offset: 4, bytes: b"CONTENT".to_vec() });
    has_content(&scene.path("a"), b"old CONTENT\n");
    assert!(!event.list("fim.changes").contains(&"size"), "{event}");
}

fn writev(scene: &Scene<'_>) {
    let parts = vec![b"one ".to_vec(), b"two ".to_vec(), b"three four\n".to_vec()];
    changed(scene, |path| Op::WriteVectored { path, parts });
    has_content(&scene.path("a"), b"one two three four\n");
}

/// No system call writes. fanotify knows of it by the release of a description that was open for
/// writing, and a comparison; so does BPF on tmpfs, where not even the times change.
fn mmap_shared(scene: &Scene<'_>) {
    changed(scene, |path| Op::StoreMapped { path, bytes: b"mapped".to_vec() });
    has_content(&scene.path("a"), b"mappedntent\n");
}

fn truncate(scene: &Scene<'_>) {
    changed(scene, |path| Op::Truncate { path, size: 3 });
    has_content(&scene.path("a"), b"old");
}

/// Longer than before: zeros are content.
fn ftruncate(scene: &Scene<'_>) {
    changed(scene, |path| Op::TruncateOpen { path, size: 14 });
    has_content(&scene.path("a"), b"old content\n\0\0");
}

fn open_o_trunc(scene: &Scene<'_>) {
    changed(scene, |path| Op::OpenTruncate { path });
    has_content(&scene.path("a"), b"");
}

fn fallocate(scene: &Scene<'_>) {
    changed(scene, |path| Op::Allocate { path, size: 16 });
    has_content(&scene.path("a"), b"old content\n\0\0\0\0");
}

fn copy_file_range(scene: &Scene<'_>) {
    let from = Raw::from(&scene.outside.join("source"));
    changed(scene, |to| Op::CopyRange { from, to });
    has_content(&scene.path("a"), SOURCE);
}

/// What one event says came after is what the next one says was before.
fn one_write_after_the_other(scene: &Scene<'_>) {
    let path = scene.path("a");
    let mut before = OLD.to_vec();
    let mut events = 0;
    for content in ["first\n", "second\n", "third\n"] {
        let bytes = content.as_bytes().to_vec();
        let report = scene.operate(Op::Truncate { path: Raw::from(&path), size: 0 });
        let empty = scene.change_of_content(&report, &path, &before, b"");
        let report = scene.operate(Op::Write { path: Raw::from(&path), bytes });
        let full = scene.change_of_content(&report, &path, b"", content.as_bytes());
        assert!(empty.number("event.sequence") < full.number("event.sequence"));
        before = content.as_bytes().to_vec();
        events += 2;
    }
    scene.only_action("updated", &path, events..=events * 2);
}

fn open_for_writing_only(scene: &Scene<'_>) {
    scene.operate(Op::OpenWrite { path: Raw::from(&scene.path("a")) });
    scene.only(&[]);
}

fn read(scene: &Scene<'_>) {
    scene.operate(Op::Read { path: Raw::from(&scene.path("a")) });
    scene.only(&[]);
}
