//! Attempts that fail. fanotify cannot see them: there nothing at all is to come of them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::mount::MountFlags;

use super::flags::{arrange_immutable, is_immutable};
use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::environment::{Backend, backend, ordinary_user};
use crate::operator::{Op, Raw, Report};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("denied_open_for_writing", prepare, &[open_for_writing]),
    Case::new("denied_create", prepare, &[create]),
    Case::new("denied_mkdir", prepare, &[mkdir]),
    Case::new("denied_symlink", prepare, &[symlink]),
    Case::new("denied_link", prepare, &[link]),
    Case::new("denied_unlink", prepare, &[unlink]),
    Case::new("denied_rename", prepare, &[rename]),
    Case::new("denied_truncate", prepare, &[truncate]),
    Case::new("denied_chmod", prepare, &[chmod]),
    Case::new("denied_chown", prepare, &[chown_file]),
    Case::new("denied_setxattr", prepare, &[setxattr]),
    Case::new("immutable_open_for_writing", prepare, &[immutable]).arranged(arrange_immutable),
    Case::new("rmdir_not_empty", prepare, &[rmdir_not_empty]),
    Case::new("read_only_open_for_writing", prepare, &[read_only]).arranged(arrange_read_only),
];

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), "nobody but root\n").unwrap();
    fs::create_dir(place.inside.join("d")).unwrap();
    fs::write(place.inside.join("d/a"), "in the way\n").unwrap();
    let own = place.outside.join("own");
    fs::write(&own, "a file of one's own\n").unwrap();
    let user = ordinary_user();
    chown(&own, Some(user.uid), Some(user.gid)).unwrap();
}

fn failed(report: &Report, action: &'static str, path: &Path, errno: &'static str) -> Outcome {
    Ok(match backend() {
        Backend::Bpf => vec![Expected::new(report, action, path).failed(errno)],
        Backend::Fanotify => Vec::new(),
    })
}

/// Someone without privileges attempts it on `name`.
fn denied(
    trial: &Trial,
    action: &'static str,
    name: &str,
    errno: (i32, &'static str),
    op: impl FnOnce(Raw) -> Op,
) -> Outcome {
    let report = trial.denied(op(trial.raw(name)), errno.0);
    failed(&report, action, &trial.path(name), errno.1)
}

const ACCESS: (i32, &str) = (libc::EACCES, "EACCES");
const PERMISSION: (i32, &str) = (libc::EPERM, "EPERM");

fn open_for_writing(trial: &Trial) -> Outcome {
    denied(trial, "updated", "a", ACCESS, |path| Op::OpenWrite { path })
}

fn create(trial: &Trial) -> Outcome {
    denied(trial, "created", "new", ACCESS, |path| Op::Create { path })
}

fn mkdir(trial: &Trial) -> Outcome {
    denied(trial, "created", "new", ACCESS, |path| Op::Mkdir { path })
}

fn symlink(trial: &Trial) -> Outcome {
    let target = Raw::from(Path::new("a"));
    denied(trial, "created", "new", ACCESS, |path| Op::Symlink { target, path })
}

/// One's own file, since the kernel may protect those of others in its own way.
fn link(trial: &Trial) -> Outcome {
    let from = trial.raw_outside("own");
    denied(trial, "linked", "new", ACCESS, |to| Op::Link { from, to })
}

fn unlink(trial: &Trial) -> Outcome {
    denied(trial, "deleted", "a", ACCESS, |path| Op::Unlink { path })
}

/// The object is where it was.
fn rename(trial: &Trial) -> Outcome {
    let to = trial.raw("b");
    denied(trial, "moved", "a", ACCESS, |from| Op::Rename { from, to })
}

fn truncate(trial: &Trial) -> Outcome {
    denied(trial, "updated", "a", ACCESS, |path| Op::Truncate { path, size: 0 })
}

fn chmod(trial: &Trial) -> Outcome {
    let op = |path| Op::Chmod { path, mode: 0o777 };
    denied(trial, "attributes_modified", "a", PERMISSION, op)
}

fn chown_file(trial: &Trial) -> Outcome {
    let user = ordinary_user();
    let op = |path| Op::Chown { path, uid: user.uid, gid: user.gid };
    denied(trial, "attributes_modified", "a", PERMISSION, op)
}

fn setxattr(trial: &Trial) -> Outcome {
    let (name, value) = ("user.note".to_owned(), b"x".to_vec());
    let op = |path| Op::SetXattr { path, name, value };
    denied(trial, "attributes_modified", "a", ACCESS, op)
}

/// Not even root may.
fn immutable(trial: &Trial) -> Outcome {
    let path = trial.path("a");
    if !is_immutable(&path) {
        return Err(Stop::NotApplicable("the flag cannot be set".to_owned()));
    }
    let report = trial.fails(Op::OpenWrite { path: Raw::from(&path) }, libc::EPERM);
    failed(&report, "updated", &path, "EPERM")
}

fn rmdir_not_empty(trial: &Trial) -> Outcome {
    let path = trial.path("d");
    let report = trial.fails(Op::Rmdir { path: Raw::from(&path) }, libc::ENOTEMPTY);
    failed(&report, "deleted", &path, "ENOTEMPTY")
}

/// The directory is mounted over itself, to be read only.
fn arrange_read_only(place: &Place) {
    let at = place.inside.join("d");
    rustix::mount::mount_bind(&at, &at).unwrap();
    rustix::mount::mount_remount(&at, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
}

fn read_only(trial: &Trial) -> Outcome {
    let path = trial.path("d/a");
    let report = trial.fails(Op::OpenWrite { path: Raw::from(&path) }, libc::EROFS);
    failed(&report, "updated", &path, "EROFS")
}
