//! Ranges of files: copied, shared, removed. In whole blocks, as some file systems ask for.

use std::fs;
use std::path::Path;

use crate::cases::{Place, nothing};
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::content::{Allocation, Content};
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("copy_file_range", prepare, &[copy_file_range]),
    Case::new("ficlone", prepare, &[ficlone]),
    Case::new("ficlonerange", prepare, &[ficlonerange]),
    Case::new("fideduperange", nothing, &[fideduperange]).arranged(arrange_same),
    Case::new("fallocate_extend", prepare, &[fallocate_extend]),
    Case::new("fallocate_punch_hole", prepare, &[fallocate_punch_hole]),
    Case::new("fallocate_zero_range", prepare, &[fallocate_zero_range]),
    Case::new("fallocate_collapse_range", prepare, &[fallocate_collapse_range]),
    Case::new("fallocate_insert_range", prepare, &[fallocate_insert_range]),
];

const BLOCK: usize = 4096;

fn old() -> Vec<u8> {
    [[b'a'; BLOCK], [b'b'; BLOCK], [b'c'; BLOCK]].concat()
}

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), old()).unwrap();
    fs::write(place.outside.join("source"), [[b'x'; BLOCK], [b'y'; BLOCK]].concat()).unwrap();
}

/// overlayfs does not share ranges with a lower layer, nor says that it cannot.
fn arrange_same(place: &Place) {
    fs::write(place.inside.join("a"), old()).unwrap();
    fs::write(place.outside.join("source"), old()).unwrap();
}

fn changed(trial: &Trial, op: impl FnOnce(Raw) -> Op) -> Outcome {
    let path: &Path = &trial.path("a");
    let report = trial.operate(op(Raw::from(path)))?;
    let old = old();
    assert_ne!(fs::read(path).unwrap(), old, "the operator did not change it");
    Ok(vec![Expected::new(&report, "updated", path).state().changed_from(&old)])
}

fn copy_file_range(trial: &Trial) -> Outcome {
    changed(trial, |to| Op::CopyRange { from: trial.raw_outside("source"), to })
}

fn ficlone(trial: &Trial) -> Outcome {
    let from = trial.raw_outside("source");
    changed(trial, |to| Op::Content(Content::Clone { from, to }))
}

fn ficlonerange(trial: &Trial) -> Outcome {
    let from = trial.raw_outside("source");
    changed(trial, |to| Op::Content(Content::CloneRange { from, to }))
}

/// The content is the same before and after, by the kernel's own comparison.
fn fideduperange(trial: &Trial) -> Outcome {
    let (from, to) = (trial.raw_outside("source"), trial.raw("a"));
    trial.operate(Op::Content(Content::Dedupe { from, to }))?;
    Ok(Vec::new())
}

fn fallocate_extend(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::Allocate { path, size: 16_384 })
}

fn allocate(trial: &Trial, mode: Allocation) -> Outcome {
    let (offset, length) = (BLOCK as u64, BLOCK as u64);
    changed(trial, |path| Op::Content(Content::Allocate { path, mode, offset, length }))
}

/// The size stays the same.
fn fallocate_punch_hole(trial: &Trial) -> Outcome {
    allocate(trial, Allocation::Punch)
}

fn fallocate_zero_range(trial: &Trial) -> Outcome {
    allocate(trial, Allocation::Zero)
}

fn fallocate_collapse_range(trial: &Trial) -> Outcome {
    allocate(trial, Allocation::Collapse)
}

fn fallocate_insert_range(trial: &Trial) -> Outcome {
    allocate(trial, Allocation::Insert)
}
