//! Flags of inodes.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::operator::flags::{Flag, Flags};
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("setflags_immutable", prepare, &[setflags_immutable]),
    Case::new("setflags_immutable_off", prepare, &[setflags_immutable_off])
        .arranged(arrange_immutable),
    Case::new("setflags_append_only", prepare, &[setflags_append_only]),
    Case::new("setflags_no_dump", prepare, &[setflags_no_dump]),
    Case::new("setflags_directory", prepare, &[setflags_directory]),
    Case::new("fssetxattr_no_dump", prepare, &[fssetxattr_no_dump]),
];

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), "content\n").unwrap();
    fs::create_dir(place.inside.join("d")).unwrap();
}

pub(super) fn arrange_immutable(place: &Place) {
    let file = File::open(place.inside.join("a")).unwrap();
    // Where there are no flags, the operation itself says so.
    if let Ok(flags) = ioctl_getflags(&file) {
        let _ = ioctl_setflags(&file, flags | IFlags::IMMUTABLE);
    }
}

/// Whether [`arrange_immutable`] did it.
pub(super) fn is_immutable(path: &Path) -> bool {
    let flags = File::open(path).ok().and_then(|file| ioctl_getflags(&file).ok());
    flags.is_some_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

fn set(trial: &Trial, name: &str, flag: &'static str, op: impl FnOnce(Raw) -> Flags) -> Outcome {
    let path: &Path = &trial.path(name);
    let report = trial.operate(Op::Flags(op(Raw::from(path))))?;
    let event = Expected::new(&report, "attributes_modified", path).state();
    let event = event.changes(&["attributes"]).has("file.attributes", flag);
    Ok(vec![event.has("fim.after.attributes", flag).has_not("fim.before.attributes", flag)])
}

fn setflags_immutable(trial: &Trial) -> Outcome {
    set(trial, "a", "immutable", |path| Flags::Set { path, flag: Flag::Immutable })
}

fn setflags_immutable_off(trial: &Trial) -> Outcome {
    let path: &Path = &trial.path("a");
    let flag = Flag::Immutable;
    let was = is_immutable(path);
    let report = trial.operate(Op::Flags(Flags::Clear { path: Raw::from(path), flag }))?;
    if !was {
        return Err(Stop::NotApplicable("the flag cannot be set".to_owned()));
    }
    let event = Expected::new(&report, "attributes_modified", path).state();
    let event = event.changes(&["attributes"]).has_not("file.attributes", "immutable");
    let event = event.has("fim.before.attributes", "immutable");
    Ok(vec![event.has_not("fim.after.attributes", "immutable")])
}

fn setflags_append_only(trial: &Trial) -> Outcome {
    set(trial, "a", "append_only", |path| Flags::Set { path, flag: Flag::AppendOnly })
}

fn setflags_no_dump(trial: &Trial) -> Outcome {
    set(trial, "a", "no_dump", |path| Flags::Set { path, flag: Flag::NoDump })
}

fn setflags_directory(trial: &Trial) -> Outcome {
    set(trial, "d", "immutable", |path| Flags::Set { path, flag: Flag::Immutable })
}

fn fssetxattr_no_dump(trial: &Trial) -> Outcome {
    set(trial, "a", "no_dump", |path| Flags::SetExtended { path, flag: Flag::NoDump })
}
