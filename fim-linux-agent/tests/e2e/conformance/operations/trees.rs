//! Directories that are moved with what is in them.

use std::fs;
use std::path::Path;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("tree_moved_within", prepare, &[tree_moved_within, change_after_move]),
    Case::new("tree_moved_out", prepare, &[tree_moved_out, change_out_of_scope]),
    Case::new("tree_moved_in", prepare, &[tree_moved_in, change_after_move]),
];

fn prepare(place: &Place) {
    for tree in [place.inside.join("tree"), place.outside.join("other")] {
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("a"), "a\n").unwrap();
        fs::write(tree.join("sub/b"), "b\n").unwrap();
    }
    fs::create_dir(place.inside.join("d")).unwrap();
}

/// The directory itself, and everything in it.
const IN_IT: [&str; 4] = ["", "a", "sub", "sub/b"];

fn below(tree: &Path, name: &str) -> std::path::PathBuf {
    if name.is_empty() { tree.to_owned() } else { tree.join(name) }
}

fn tree_moved_within(trial: &Trial) -> Outcome {
    let (from, to) = (trial.path("tree"), trial.path("d/new"));
    let report = trial.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) })?;
    Ok(vec![Expected::new(&report, "moved", &to).from(&from)])
}

fn change_after_move(trial: &Trial) -> Outcome {
    let new = trial.path("d/new/sub/new");
    let op = Op::CreateWrite { path: Raw::from(&new), bytes: b"new\n".to_vec() };
    let report = trial.operate(op)?;
    Ok(vec![Expected::new(&report, "created", &new).state().written()])
}

fn tree_moved_out(trial: &Trial) -> Outcome {
    let (from, to) = (trial.path("tree"), trial.outside("gone"));
    let report = trial.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) })?;
    let moved = |name| Expected::new(&report, "moved", &below(&to, name)).from(&below(&from, name));
    Ok(IN_IT.map(moved).into())
}

fn change_out_of_scope(trial: &Trial) -> Outcome {
    trial.operate(Op::Create { path: trial.raw_outside("gone/sub/new") })?;
    Ok(Vec::new())
}

/// All of it is new here, and nobody knows what is in it.
fn tree_moved_in(trial: &Trial) -> Outcome {
    let (from, to) = (trial.outside("other"), trial.path("d/new"));
    let report = trial.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) })?;
    let moved = |name| {
        let path = below(&to, name);
        let event = Expected::new(&report, "moved", &path).from(&below(&from, name));
        if path.is_file() { event.state().hash() } else { event }
    };
    Ok(IN_IT.map(moved).into())
}
