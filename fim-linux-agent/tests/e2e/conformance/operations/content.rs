//! Content, written in all ways.

use std::fs;
use std::path::Path;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::content::Content;
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("write", prepare, &[write]),
    Case::new("append", prepare, &[append]),
    Case::new("pwrite", prepare, &[pwrite]),
    Case::new("writev", prepare, &[writev]),
    Case::new("pwritev2", prepare, &[pwritev2]),
    Case::new("mmap_shared", prepare, &[mmap_shared]),
    Case::new("mmap_mprotect", prepare, &[mmap_mprotect]),
    Case::new("io_uring_write", prepare, &[io_uring_write]),
    Case::new("io_uring_write_worker", prepare, &[io_uring_write_worker]),
    Case::new("splice", prepare, &[splice]),
    Case::new("sendfile", prepare, &[sendfile]),
    Case::new("truncate", prepare, &[truncate]),
    Case::new("ftruncate", prepare, &[ftruncate]),
    Case::new("open_o_trunc", prepare, &[open_o_trunc]),
    Case::new("open_for_writing_only", prepare, &[open_for_writing_only]),
    Case::new("read", prepare, &[read]),
];

const OLD: &[u8] = b"old content\n";
const NEW: &[u8] = b"new content, longer\n";

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), OLD).unwrap();
    fs::write(place.outside.join("source"), "the content of another file\n").unwrap();
}

fn changed(trial: &Trial, op: impl FnOnce(Raw) -> Op) -> Outcome {
    Ok(vec![event(trial, op)?])
}

fn event(trial: &Trial, op: impl FnOnce(Raw) -> Op) -> Result<Expected, Stop> {
    let path: &Path = &trial.path("a");
    let report = trial.operate(op(Raw::from(path)))?;
    assert_ne!(fs::read(path).unwrap(), OLD, "the operator did not change it");
    Ok(Expected::new(&report, "updated", path).state().changed_from(OLD))
}

fn write(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::Write { path, bytes: NEW.to_vec() })
}

fn append(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::Content(Content::Append { path, bytes: NEW.to_vec() }))
}

/// The size stays the same: only the hash can tell.
fn pwrite(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::WriteAt { path, offset: 4, bytes: b"CONTENT".to_vec() })
}

fn writev(trial: &Trial) -> Outcome {
    let parts = vec![b"one ".to_vec(), b"two ".to_vec(), b"three four\n".to_vec()];
    changed(trial, |path| Op::WriteVectored { path, parts })
}

fn pwritev2(trial: &Trial) -> Outcome {
    let bytes = b"CONTENT".to_vec();
    changed(trial, |path| Op::Content(Content::WriteVectoredAt { path, offset: 4, bytes }))
}

fn mmap_shared(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::StoreMapped { path, bytes: b"mapped".to_vec() })
}

/// Nothing looked like writing when the mapping was made.
fn mmap_mprotect(trial: &Trial) -> Outcome {
    let bytes = b"mapped".to_vec();
    changed(trial, |path| Op::Content(Content::StoreUpgraded { path, bytes }))
}

fn io_uring_write(trial: &Trial) -> Outcome {
    let op = |path| Op::Content(Content::RingWrite { path, bytes: NEW.to_vec(), worker: false });
    // The file system may make the ring hand it to a worker all the same.
    Ok(vec![event(trial, op)?.by_worker()])
}

fn io_uring_write_worker(trial: &Trial) -> Outcome {
    let op = |path| Op::Content(Content::RingWrite { path, bytes: NEW.to_vec(), worker: true });
    Ok(vec![event(trial, op)?.by_worker()])
}

fn splice(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::Content(Content::Splice { path, bytes: NEW.to_vec() }))
}

fn sendfile(trial: &Trial) -> Outcome {
    let from = trial.raw_outside("source");
    changed(trial, |to| Op::Content(Content::SendFile { from, to }))
}

fn truncate(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::Truncate { path, size: 3 })
}

fn ftruncate(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::TruncateOpen { path, size: 14 })
}

fn open_o_trunc(trial: &Trial) -> Outcome {
    changed(trial, |path| Op::OpenTruncate { path })
}

fn open_for_writing_only(trial: &Trial) -> Outcome {
    trial.operate(Op::OpenWrite { path: trial.raw("a") })?;
    Ok(Vec::new())
}

fn read(trial: &Trial) -> Outcome {
    trial.operate(Op::Read { path: trial.raw("a") })?;
    Ok(Vec::new())
}
