//! Mounts inside and over watched directories. What is mounted is empty, and hides nothing.

use std::fs;

use rustix::mount::MountFlags;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::mounts::Mount;
use crate::operator::{Op, Raw, Report};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("mount_tmpfs", prepare, &[mount_tmpfs]),
    Case::new("mount_new_calls", prepare, &[mount_new_calls]),
    Case::new("umount", prepare, &[umount]).arranged(arrange),
    Case::new("mount_bind_outside_in", prepare, &[bind_outside_in]),
    Case::new("mount_bind_within", prepare, &[bind_within]),
    Case::new("mount_move", prepare, &[mount_move]).arranged(arrange),
    Case::new("change_below_mount", prepare, &[mount_tmpfs, create, write, remove, umount]),
    Case::new("change_below_bind_mount", prepare, &[bind_outside_in, create, write]),
];

fn prepare(place: &Place) {
    for path in [place.inside.join("m"), place.inside.join("n"), place.outside.join("o")] {
        fs::create_dir(path).unwrap();
    }
}

fn arrange(place: &Place) {
    let at = place.inside.join("m");
    rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).unwrap();
}

fn mounted(trial: &Trial, report: &Report, name: &str) -> Expected {
    let path = trial.path(name);
    Expected::new(report, "mounted", &path).field("file.type", "dir")
}

fn mount_tmpfs(trial: &Trial) -> Outcome {
    let report = trial.operate(Op::Mount(Mount::Tmpfs { at: trial.raw("m") }))?;
    Ok(vec![mounted(trial, &report, "m")])
}

fn mount_new_calls(trial: &Trial) -> Outcome {
    let report = trial.operate(Op::Mount(Mount::TmpfsByNewCalls { at: trial.raw("m") }))?;
    Ok(vec![mounted(trial, &report, "m")])
}

fn umount(trial: &Trial) -> Outcome {
    let report = trial.operate(Op::Mount(Mount::Unmount { at: trial.raw("m") }))?;
    Ok(vec![Expected::new(&report, "unmounted", &trial.path("m"))])
}

fn bind_outside_in(trial: &Trial) -> Outcome {
    let op = Mount::Bind { from: trial.raw_outside("o"), at: trial.raw("m") };
    let report = trial.operate(Op::Mount(op))?;
    Ok(vec![mounted(trial, &report, "m")])
}

fn bind_within(trial: &Trial) -> Outcome {
    let op = Mount::Bind { from: trial.raw("n"), at: trial.raw("m") };
    let report = trial.operate(Op::Mount(op))?;
    Ok(vec![mounted(trial, &report, "m")])
}

fn mount_move(trial: &Trial) -> Outcome {
    let op = Mount::Move { from: trial.raw("m"), to: trial.raw("n") };
    let report = trial.operate(Op::Mount(op))?;
    let unmounted = Expected::new(&report, "unmounted", &trial.path("m"));
    Ok(vec![unmounted, mounted(trial, &report, "n")])
}

const FIRST: &[u8] = b"first\n";

fn create(trial: &Trial) -> Outcome {
    let path = trial.path("m/a");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: FIRST.to_vec() };
    let report = trial.operate(op)?;
    Ok(vec![Expected::new(&report, "created", &path).written()])
}

fn write(trial: &Trial) -> Outcome {
    let path = trial.path("m/a");
    let op = Op::Write { path: Raw::from(&path), bytes: b"second, longer\n".to_vec() };
    let report = trial.operate(op)?;
    Ok(vec![Expected::new(&report, "updated", &path).changed_from(FIRST)])
}

fn remove(trial: &Trial) -> Outcome {
    let path = trial.path("m/a");
    let report = trial.operate(Op::Unlink { path: Raw::from(&path) })?;
    Ok(vec![Expected::new(&report, "deleted", &path)])
}
