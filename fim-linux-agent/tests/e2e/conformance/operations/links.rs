//! Hard links: one file, several names, not all of them watched.

use std::fs;
use std::path::Path;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::event::path_text;
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("link", prepare, &[link]),
    Case::new("link_out", prepare, &[link_out]),
    Case::new("link_in", prepare, &[link_in]),
    Case::new("write_by_name_outside", prepare, &[write_by_name_outside]).arranged(arrange),
    Case::new("chmod_by_name_outside", prepare, &[chmod_by_name_outside]).arranged(arrange),
    Case::new("link_in_write_outside", prepare, &[link_in, write_linked_in]),
    Case::new("link_out_write_outside", prepare, &[link_out, write_linked_out]),
];

const OLD: &[u8] = b"content of a\n";
const FOREIGN: &[u8] = b"from outside\n";
const NEW: &[u8] = b"through the other name\n";

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), OLD).unwrap();
    fs::write(place.outside.join("o"), FOREIGN).unwrap();
}

/// Not in a lower layer, where overlayfs would part the names at the first change.
fn arrange(place: &Place) {
    fs::hard_link(place.inside.join("a"), place.outside.join("l")).unwrap();
}

fn link(trial: &Trial) -> Outcome {
    let (from, to) = (trial.raw("a"), trial.path("l"));
    let report = trial.operate(Op::Link { from, to: Raw::from(&to) })?;
    Ok(vec![Expected::new(&report, "linked", &to).state()])
}

/// The watched file can be changed under that name from now on.
fn link_out(trial: &Trial) -> Outcome {
    let (from, to) = (trial.path("a"), trial.outside("l"));
    let report = trial.operate(Op::Link { from: Raw::from(&from), to: Raw::from(&to) })?;
    Ok(vec![Expected::new(&report, "linked", &from).field("fim.link_path", path_text(&to))])
}

fn link_in(trial: &Trial) -> Outcome {
    let (from, to) = (trial.raw_outside("o"), trial.path("l"));
    let report = trial.operate(Op::Link { from, to: Raw::from(&to) })?;
    Ok(vec![Expected::new(&report, "linked", &to).hash()])
}

/// A write under a name that nobody watches, to a file that is watched as `watched`.
fn written(trial: &Trial, name: &Path, watched: &Path, old: &[u8]) -> Outcome {
    let op = Op::Write { path: Raw::from(name), bytes: NEW.to_vec() };
    let report = trial.operate(op)?;
    assert_eq!(fs::read(watched).unwrap(), NEW, "these are two files");
    let event = Expected::new(&report, "updated", watched).state().changed_from(old);
    Ok(vec![event.field("fim.path_in_process", path_text(name))])
}

fn write_by_name_outside(trial: &Trial) -> Outcome {
    written(trial, &trial.outside("l"), &trial.path("a"), OLD)
}

fn chmod_by_name_outside(trial: &Trial) -> Outcome {
    let (name, watched) = (trial.outside("l"), trial.path("a"));
    let report = trial.operate(Op::Chmod { path: Raw::from(&name), mode: 0o600 })?;
    let event = Expected::new(&report, "attributes_modified", &watched).state();
    Ok(vec![event.changes(&["mode"]).field("fim.path_in_process", path_text(&name))])
}

fn write_linked_in(trial: &Trial) -> Outcome {
    written(trial, &trial.outside("o"), &trial.path("l"), FOREIGN)
}

fn write_linked_out(trial: &Trial) -> Outcome {
    written(trial, &trial.outside("l"), &trial.path("a"), OLD)
}
