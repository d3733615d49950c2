//! Names that go and change.

use std::fs;
use std::path::Path;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::expect::Known;
use crate::operator::content::Content;
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("unlink", prepare, &[unlink]),
    Case::new("unlink_symlink", prepare, &[unlink_symlink]),
    Case::new("unlink_io_uring", prepare, &[unlink_io_uring]),
    Case::new("rmdir", prepare, &[rmdir]),
    Case::new("rename", prepare, &[rename]),
    Case::new("rename_io_uring", prepare, &[rename_io_uring]),
    Case::new("rename_into_a_directory", prepare, &[rename_into_a_directory]),
    Case::new("rename_over", prepare, &[rename_over]),
    Case::new("rename_exchange", prepare, &[rename_exchange]),
    Case::new("rename_whiteout", prepare, &[rename_whiteout]),
    Case::new("rename_in", prepare, &[rename_in]),
    Case::new("rename_in_over", prepare, &[rename_in_over]),
    Case::new("rename_out", prepare, &[rename_out]),
];

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), "content of a\n").unwrap();
    fs::write(place.inside.join("b"), "and this is b\n").unwrap();
    fs::create_dir(place.inside.join("d")).unwrap();
    std::os::unix::fs::symlink("a", place.inside.join("s")).unwrap();
    fs::write(place.outside.join("o"), "from outside\n").unwrap();
}

fn deleted(
    trial: &Trial,
    name: &str,
    kind: &'static str,
    op: impl FnOnce(Raw) -> Op,
) -> Result<Expected, Stop> {
    let path: &Path = &trial.path(name);
    let known = Known::of(path);
    let report = trial.operate(op(Raw::from(path)))?;
    let event = Expected::new(&report, "deleted", path).known("fim.before", known);
    Ok(event.absent("fim.after").field("file.type", kind))
}

fn unlink(trial: &Trial) -> Outcome {
    Ok(vec![deleted(trial, "a", "file", |path| Op::Unlink { path })?])
}

fn unlink_symlink(trial: &Trial) -> Outcome {
    let event = deleted(trial, "s", "symlink", |path| Op::Unlink { path })?;
    Ok(vec![event.field("fim.before.target_path", "a")])
}

fn unlink_io_uring(trial: &Trial) -> Outcome {
    let event = deleted(trial, "a", "file", |path| Op::Content(Content::RingUnlink { path }))?;
    Ok(vec![event.by_worker()])
}

fn rmdir(trial: &Trial) -> Outcome {
    Ok(vec![deleted(trial, "d", "dir", |path| Op::Rmdir { path })?])
}

fn moved(
    trial: &Trial,
    from: &Path,
    to: &Path,
    op: impl FnOnce(Raw, Raw) -> Op,
) -> Result<Expected, Stop> {
    let known = Known::of(from);
    let report = trial.operate(op(Raw::from(from), Raw::from(to)))?;
    let event = Expected::new(&report, "moved", to).from(from).changes_with("path");
    Ok(event.known("fim.before", known))
}

fn rename_op(from: Raw, to: Raw) -> Op {
    Op::Rename { from, to }
}

fn rename(trial: &Trial) -> Outcome {
    let event = moved(trial, &trial.path("a"), &trial.path("new name"), rename_op)?;
    Ok(vec![event.state().absent("fim.replaced")])
}

fn rename_io_uring(trial: &Trial) -> Outcome {
    let op = |from, to| Op::Content(Content::RingRename { from, to });
    let event = moved(trial, &trial.path("a"), &trial.path("new name"), op)?;
    Ok(vec![event.state().by_worker()])
}

fn rename_into_a_directory(trial: &Trial) -> Outcome {
    let event = moved(trial, &trial.path("a"), &trial.path("d/a"), rename_op)?;
    Ok(vec![event.state()])
}

fn rename_over(trial: &Trial) -> Outcome {
    let replaced = Known::of(&trial.path("b"));
    let event = moved(trial, &trial.path("a"), &trial.path("b"), rename_op)?;
    Ok(vec![event.state().known("fim.replaced", replaced)])
}

/// Two objects have other names: two events.
fn rename_exchange(trial: &Trial) -> Outcome {
    let (a, b) = (trial.path("a"), trial.path("b"));
    let (known_a, known_b) = (Known::of(&a), Known::of(&b));
    let report = trial.operate(Op::Exchange { from: Raw::from(&a), to: Raw::from(&b) })?;
    let half = |from: &Path, to: &Path, known: Known| {
        let event = Expected::new(&report, "moved", to).from(from).state();
        event.known("fim.before", known).absent("fim.replaced")
    };
    Ok(vec![half(&a, &b, known_a), half(&b, &a, known_b)])
}

/// What is left behind is an object too: a device with the number 0:0.
fn rename_whiteout(trial: &Trial) -> Outcome {
    let (from, to) = (trial.path("a"), trial.path("new name"));
    let known = Known::of(&from);
    let op = Op::RenameWhiteout { from: Raw::from(&from), to: Raw::from(&to) };
    let report = trial.operate(op)?;
    let moved = Expected::new(&report, "moved", &to).from(&from).state();
    let left = Expected::new(&report, "created", &from).state();
    Ok(vec![moved.known("fim.before", known), left])
}

fn rename_in(trial: &Trial) -> Outcome {
    let (from, to) = (trial.outside("o"), trial.path("new"));
    let report = trial.operate(rename_op(Raw::from(&from), Raw::from(&to)))?;
    Ok(vec![Expected::new(&report, "moved", &to).from(&from).state().hash()])
}

/// As editors and package managers write files, but from another directory: it is another content
/// of the file that was there.
fn rename_in_over(trial: &Trial) -> Outcome {
    let (from, to) = (trial.outside("o"), trial.path("b"));
    let replaced = Known::of(&to);
    let report = trial.operate(rename_op(Raw::from(&from), Raw::from(&to)))?;
    let event = Expected::new(&report, "updated", &to).renamed_from(&from).state().hash();
    Ok(vec![event.changes_with("inode").known("fim.before", replaced).absent("fim.replaced")])
}

fn rename_out(trial: &Trial) -> Outcome {
    Ok(vec![moved(trial, &trial.path("a"), &trial.outside("gone"), rename_op)?])
}
