//! Names that come, go and change: unlink, rmdir, rename, link.

use std::fs;
use std::path::Path;

use crate::cases::{self, Case, Place, Table};
use crate::event::{Event, path_text};
use crate::expect::{self, Known};
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "names",
    alone: false,
    cases: &[
        Case::new("unlink", prepare, unlink),
        Case::new("unlink_symlink", prepare, unlink_symlink),
        Case::new("rmdir", prepare, rmdir),
        Case::new("rename", prepare, rename),
        Case::new("rename_into_a_directory", prepare, rename_into_a_directory),
        Case::new("rename_over", prepare, rename_over),
        Case::new("rename_exchange", prepare, rename_exchange),
        Case::new("exchange_across_the_border", prepare, exchange_across_the_border),
        Case::new("rename_in", prepare, rename_in),
        Case::new("rename_in_over", prepare, rename_in_over),
        Case::new("rename_out", prepare, rename_out),
        Case::new("link", prepare, link),
        Case::new("link_then_write_and_unlink", prepare, link_then_write_and_unlink),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), "content of a\n").unwrap();
    fs::write(place.inside.join("b"), "and this is b\n").unwrap();
    fs::create_dir(place.inside.join("d")).unwrap();
    std::os::unix::fs::symlink("a", place.inside.join("s")).unwrap();
    fs::write(place.outside.join("o"), "from outside\n").unwrap();
    for (tree, file) in [(place.inside.join("x"), "left"), (place.outside.join("y"), "came")] {
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(file), "in a directory\n").unwrap();
    }
}

fn deleted(scene: &Scene<'_>, name: &str, kind: &str, op: fn(Raw) -> Op) -> Event {
    let path = scene.path(name);
    let known = Known::of(&path);
    let report = scene.operate(op(Raw::from(&path)));
    let event = scene.change(&report, "deleted", &path);
    known.is(&event, "fim.before");
    assert!(!event.has("fim.after"), "{event}");
    assert_eq!(event.text("file.type"), Some(kind), "{event}");
    scene.only(&[&event]);
    event
}

fn unlink(scene: &Scene<'_>) {
    deleted(scene, "a", "file", |path| Op::Unlink { path });
}

fn unlink_symlink(scene: &Scene<'_>) {
    let event = deleted(scene, "s", "symlink", |path| Op::Unlink { path });
    assert_eq!(event.text("fim.before.target_path"), Some("a"), "{event}");
}

fn rmdir(scene: &Scene<'_>) {
    deleted(scene, "d", "dir", |path| Op::Rmdir { path });
}

/// Where it was, and that it is the same file as before.
fn is_moved(event: &Event, from: &Path, known: &Known) {
    assert_eq!(event.text("fim.before.path"), Some(&*path_text(from)), "{event}");
    assert!(event.list("fim.changes").contains(&"path"), "{event}");
    known.is(event, "fim.before");
}

fn rename(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.path("new name"));
    let known = Known::of(&from);
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.single(&report, "moved", &to);
    is_moved(&event, &from, &known);
    assert!(!event.has("fim.replaced"), "{event}");
}

fn rename_into_a_directory(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.path("d/a"));
    let known = Known::of(&from);
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    is_moved(&scene.single(&report, "moved", &to), &from, &known);
}

fn rename_over(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.path("b"));
    let (known, replaced) = (Known::of(&from), Known::of(&to));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.single(&report, "moved", &to);
    is_moved(&event, &from, &known);
    replaced.is(&event, "fim.replaced");
}

/// Two objects have other names: two events.
fn rename_exchange(scene: &Scene<'_>) {
    let (a, b) = (scene.path("a"), scene.path("b"));
    let (known_a, known_b) = (Known::of(&a), Known::of(&b));
    let report = scene.operate(Op::Exchange { from: Raw::from(&a), to: Raw::from(&b) });
    let to_b = scene.change(&report, "moved", &b);
    let to_a = scene.change(&report, "moved", &a);
    scene.only(&[&to_b, &to_a]);
    is_moved(&to_b, &a, &known_a);
    is_moved(&to_a, &b, &known_b);
    expect::state(&to_b, &b);
    expect::state(&to_a, &a);
    for event in [&to_a, &to_b] {
        // Nothing is gone.
        assert!(!event.has("fim.replaced"), "{event}");
    }
}

/// One directory leaves the watched tree and another one takes its place, each with what is in it.
fn exchange_across_the_border(scene: &Scene<'_>) {
    let (x, y) = (scene.path("x"), scene.outside.join("y"));
    let report = scene.operate(Op::Exchange { from: Raw::from(&x), to: Raw::from(&y) });
    let moves = [
        (x.clone(), y.clone()),
        (x.join("left"), y.join("left")),
        (y.clone(), x.clone()),
        (y.join("came"), x.join("came")),
    ];
    let events = moves.map(|(from, to)| {
        let event = scene.change(&report, "moved", &to);
        assert_eq!(event.text("fim.before.path"), Some(&*path_text(&from)), "{event}");
        event
    });
    scene.only(&events.iter().collect::<Vec<_>>());
}

/// The one event is about a file that nobody watched before: it has to be looked at.
fn rename_in(scene: &Scene<'_>) {
    let (from, to) = (scene.outside.join("o"), scene.path("new"));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.single(&report, "moved", &to);
    expect::exact_hash(&event, b"from outside\n");
    // Where it was is known: nothing keeps the agent from saying it.
    assert_eq!(event.text("fim.before.path"), Some(&*path_text(&from)), "{event}");
}

/// As editors and package managers write files, but from another directory.
fn rename_in_over(scene: &Scene<'_>) {
    let (from, to) = (scene.outside.join("o"), scene.path("b"));
    let replaced = Known::of(&to);
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.single(&report, "updated", &to);
    expect::exact_hash(&event, b"from outside\n");
    replaced.is(&event, "fim.before");
    expect::renamed_from(&event, &path_text(&from));
}

fn rename_out(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.outside.join("gone"));
    let known = Known::of(&from);
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.change(&report, "moved", &to);
    is_moved(&event, &from, &known);
    scene.only(&[&event]);
}

fn link(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.path("second"));
    let report = scene.operate(Op::Link { from: Raw::from(&from), to: Raw::from(&to) });
    let event = scene.change(&report, "linked", &to);
    expect::state(&event, &to);
    scene.only(&[&event]);
}

/// What is done through one name is told under both, and the other one stays.
fn link_then_write_and_unlink(scene: &Scene<'_>) {
    let (from, to) = (scene.path("a"), scene.path("second"));
    let report = scene.operate(Op::Link { from: Raw::from(&from), to: Raw::from(&to) });
    let linked = scene.change(&report, "linked", &to);
    let bytes = b"through the second name\n".to_vec();
    let report = scene.operate(Op::Write { path: Raw::from(&to), bytes: bytes.clone() });
    let updated = scene.change_of_content(&report, &to, b"content of a\n", &bytes);
    let under = |event: &Event, used: &Path| {
        assert_eq!(event.text("fim.link_path"), Some(&*path_text(used)), "{event}");
        assert!(!event.has("fim.path_in_process"), "{event}");
    };
    let other = scene.change_of_content(&report, &from, b"content of a\n", &bytes);
    expect::exact_hash(&other, &bytes);
    under(&other, &to);
    let report = scene.operate(Op::Chmod { path: Raw::from(&from), mode: 0o640 });
    scene.change(&report, "attributes_modified", &from);
    let other = scene.change(&report, "attributes_modified", &to);
    assert_eq!(other.text("fim.after.mode"), Some("0640"), "{other}");
    under(&other, &from);
    let report = scene.operate(Op::Unlink { path: Raw::from(&to) });
    let deleted = scene.change(&report, "deleted", &to);
    let sequence = [&linked, &updated, &deleted].map(|event| event.number("event.sequence"));
    assert!(sequence.is_sorted(), "{}", scene.dump());
}
