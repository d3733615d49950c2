//! Mode, owner, times, extended attributes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::cases::Place;
use crate::conformance::expected::Expected;
use crate::conformance::trial::{Case, Stop, Trial};
use crate::expect::Known;
use crate::operations::attributes::{ACL, acl};
use crate::operator::{Op, Raw};

type Outcome = Result<Vec<Expected>, Stop>;

pub(super) const CASES: &[Case] = &[
    Case::new("chmod", prepare, &[chmod]),
    Case::new("fchmod", prepare, &[fchmod]),
    Case::new("chmod_directory", prepare, &[chmod_directory]),
    Case::new("chown", prepare, &[chown]),
    Case::new("utimensat", prepare, &[utimensat]),
    Case::new("setxattr_user", prepare, &[setxattr_user]),
    Case::new("setxattr_trusted", prepare, &[setxattr_trusted]),
    Case::new("setxattr_selinux", prepare, &[setxattr_selinux]),
    Case::new("removexattr", prepare, &[removexattr]).arranged(arrange_xattr),
    Case::new("acl_set", prepare, &[acl_set]),
    Case::new("acl_remove", prepare, &[acl_remove]).arranged(arrange_acl),
    Case::new("capability_set", prepare, &[capability_set]),
    Case::new("capability_stripped_by_chown", prepare, &[capability_stripped_by_chown])
        .arranged(arrange_capability),
    Case::new("capability_stripped_by_write", prepare, &[capability_stripped_by_write])
        .arranged(arrange_capability),
];

const CONTENT: &[u8] = b"content\n";
const CAPABILITY: &str = "security.capability";
/// `cap_net_bind_service+ep`: `struct vfs_cap_data` of `linux/capability.h`, revision 2.
const NET_BIND_SERVICE: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];

fn capability() -> Vec<u8> {
    NET_BIND_SERVICE.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn prepare(place: &Place) {
    let (file, directory) = (place.inside.join("a"), place.inside.join("d"));
    fs::write(&file, CONTENT).unwrap();
    fs::create_dir(&directory).unwrap();
    // Whatever the umask.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
}

fn arrange(place: &Place, name: &str, value: &[u8]) {
    // Where there is no such thing, the operation itself says so.
    let _ = rustix::fs::setxattr(place.inside.join("a"), name, value, XattrFlags::empty());
}

fn arrange_xattr(place: &Place) {
    arrange(place, "trusted.note", b"remove me");
}

fn arrange_acl(place: &Place) {
    arrange(place, ACL, &acl());
}

fn arrange_capability(place: &Place) {
    arrange(place, CAPABILITY, &capability());
}

fn modified(
    trial: &Trial,
    name: &str,
    changes: &'static [&'static str],
    op: impl FnOnce(Raw) -> Op,
) -> Result<Expected, Stop> {
    let path: &Path = &trial.path(name);
    let known = Known::of(path);
    let report = trial.operate(op(Raw::from(path)))?;
    let event = Expected::new(&report, "attributes_modified", path).state().changes(changes);
    Ok(event.known("fim.before", known))
}

fn chmod(trial: &Trial) -> Outcome {
    let event = modified(trial, "a", &["mode"], |path| Op::Chmod { path, mode: 0o4755 })?;
    Ok(vec![event.field("fim.after.mode", "4755")])
}

fn fchmod(trial: &Trial) -> Outcome {
    let event = modified(trial, "a", &["mode"], |path| Op::ChmodOpen { path, mode: 0o600 })?;
    Ok(vec![event.field("fim.after.mode", "0600")])
}

fn chmod_directory(trial: &Trial) -> Outcome {
    let event = modified(trial, "d", &["mode"], |path| Op::Chmod { path, mode: 0o1777 })?;
    Ok(vec![event.field("fim.after.mode", "1777")])
}

fn chown(trial: &Trial) -> Outcome {
    let op = |path| Op::Chown { path, uid: 1000, gid: 65_534 };
    let event = modified(trial, "a", &["uid", "gid"], op)?;
    Ok(vec![event.field("fim.after.uid", "1000").field("fim.after.gid", "65534")])
}

fn utimensat(trial: &Trial) -> Outcome {
    let op = |path| Op::SetTimes { path, seconds: 981_173_106 };
    let event = modified(trial, "a", &["mtime"], op)?;
    Ok(vec![event.field("fim.after.mtime", "2001-02-03T04:05:06.000000000Z")])
}

fn set(trial: &Trial, name: &str) -> Outcome {
    let event = modified(trial, "a", &["xattrs"], |path| Op::SetXattr {
        path,
        name: name.to_owned(),
        value: b"a value".to_vec(),
    })?;
    Ok(vec![event.xattr("fim.before", name, None).xattr("fim.after", name, Some("YSB2YWx1ZQ=="))])
}

fn setxattr_user(trial: &Trial) -> Outcome {
    set(trial, "user.note")
}

fn setxattr_trusted(trial: &Trial) -> Outcome {
    set(trial, "trusted.note")
}

/// A label is an attribute like others where SELinux does not run.
fn setxattr_selinux(trial: &Trial) -> Outcome {
    set(trial, "security.selinux")
}

fn removexattr(trial: &Trial) -> Outcome {
    let name = "trusted.note";
    let op = |path| Op::RemoveXattr { path, name: name.to_owned() };
    let event = modified(trial, "a", &["xattrs"], op)?;
    Ok(vec![event.xattr("fim.before", name, Some("cmVtb3ZlIG1l")).xattr("fim.after", name, None)])
}

/// As [`acl`] has them.
const ACL_TEXT: [&str; 5] = ["user::rw-", "user:1000:r--", "group::r--", "mask::r--", "other::r--"];

fn acl_set(trial: &Trial) -> Outcome {
    let op = |path| Op::SetXattr { path, name: ACL.to_owned(), value: acl() };
    let event = modified(trial, "a", &["acl"], op)?;
    Ok(vec![event.list("fim.before.acl", &[]).list("fim.after.acl", &ACL_TEXT)])
}

fn acl_remove(trial: &Trial) -> Outcome {
    let op = |path| Op::RemoveXattr { path, name: ACL.to_owned() };
    let event = modified(trial, "a", &["acl"], op)?;
    Ok(vec![event.list("fim.before.acl", &ACL_TEXT).list("fim.after.acl", &[])])
}

fn capability_set(trial: &Trial) -> Outcome {
    let op = |path| Op::SetXattr { path, name: CAPABILITY.to_owned(), value: capability() };
    let event = modified(trial, "a", &["capabilities"], op)?;
    Ok(vec![event.empty("fim.before.capabilities").present("fim.after.capabilities")])
}

/// The kernel takes capabilities from a file that changes hands.
fn capability_stripped_by_chown(trial: &Trial) -> Outcome {
    let op = |path| Op::Chown { path, uid: 1000, gid: 65_534 };
    let event = modified(trial, "a", &["uid", "gid", "capabilities"], op)?;
    Ok(vec![event.present("fim.before.capabilities").empty("fim.after.capabilities")])
}

/// And from one that is written, whoever writes.
fn capability_stripped_by_write(trial: &Trial) -> Outcome {
    let path: &Path = &trial.path("a");
    let op = Op::Write { path: Raw::from(path), bytes: b"another content\n".to_vec() };
    let report = trial.operate(op)?;
    let event = Expected::new(&report, "updated", path).state().changed_from(CONTENT);
    let event = event.changes_with("capabilities");
    Ok(vec![event.present("fim.before.capabilities").empty("fim.after.capabilities")])
}
