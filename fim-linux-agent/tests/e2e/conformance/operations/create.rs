//! Objects that come to be.

use std::path::Path;

use crate::cases::nothing;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::content::Content;
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("create", nothing, &[create]),
    Case::new("create_write", nothing, &[create_write]),
    Case::new("create_io_uring", nothing, &[create_io_uring]),
    Case::new("mknod_fifo", nothing, &[mknod_fifo]),
    Case::new("mknod_device", nothing, &[mknod_device]),
    Case::new("mkdir", nothing, &[mkdir]),
    Case::new("symlink", nothing, &[symlink]),
    Case::new("o_tmpfile_linkat", nothing, &[o_tmpfile_linkat]),
];

fn created(trial: &Trial, op: impl FnOnce(Raw) -> Op) -> Outcome {
    let path = trial.path("new");
    let report = trial.operate(op(Raw::from(&path)))?;
    Ok(vec![Expected::new(&report, "created", &path).state().absent("fim.before")])
}

fn created_with_content(trial: &Trial, op: impl FnOnce(Raw) -> Op) -> Outcome {
    let path: &Path = &trial.path("new");
    let report = trial.operate(op(Raw::from(path)))?;
    Ok(vec![Expected::new(&report, "created", path).state().written()])
}

fn create(trial: &Trial) -> Outcome {
    created(trial, |path| Op::Create { path })
}

fn create_write(trial: &Trial) -> Outcome {
    created_with_content(trial, |path| Op::CreateWrite { path, bytes: b"new\n".to_vec() })
}

/// Opening is for a worker of the kernel's, as it may wait.
fn create_io_uring(trial: &Trial) -> Outcome {
    let path = trial.path("new");
    let report = trial.operate(Op::Content(Content::RingCreate { path: Raw::from(&path) }))?;
    Ok(vec![Expected::new(&report, "created", &path).state().by_worker()])
}

fn mknod_fifo(trial: &Trial) -> Outcome {
    created(trial, |path| Op::Fifo { path })
}

fn mknod_device(trial: &Trial) -> Outcome {
    created(trial, |path| Op::CharDevice { path })
}

fn mkdir(trial: &Trial) -> Outcome {
    created(trial, |path| Op::Mkdir { path })
}

fn symlink(trial: &Trial) -> Outcome {
    created(trial, |path| Op::Symlink { target: Raw::from(Path::new("to/nowhere")), path })
}

fn o_tmpfile_linkat(trial: &Trial) -> Outcome {
    created_with_content(trial, |path| Op::LinkTemporary { path, bytes: b"new\n".to_vec() })
}
