//! Mode, owner, times, extended attributes, ACLs. fanotify tells only that one of them was set: the
//! comparison with the state before says which, so a value that is set anew is no change.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use crate::cases::{self, Case, Place, Table};
use crate::event::Event;
use crate::expect::Known;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "attributes",
    alone: false,
    cases: &[
        Case::new("chmod", prepare, chmod),
        Case::new("fchmod", prepare, fchmod),
        Case::new("chmod_directory", prepare, chmod_directory),
        Case::new("chown", prepare, chown),
        Case::new("utimensat", prepare, utimensat),
        Case::new("setxattr", prepare, setxattr).on_disk(),
        Case::new("setxattr_trusted", prepare, setxattr_trusted),
        Case::new("removexattr", prepare_xattr, removexattr).on_disk(),
        Case::new("acl_set", prepare, acl_set),
        Case::new("acl_set_on_disk", prepare, acl_set).on_disk(),
        Case::new("acl_remove", prepare_acl, acl_remove),
        Case::new("acl_remove_on_disk", prepare_acl, acl_remove).on_disk(),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

pub(crate) const ACL: &str = "system.posix_acl_access";
/// `user::rw-,user:1000:r--,group::r--,mask::r--,other::r--`: the mode stays 0644.
const ENTRIES: [(u16, u16, u32); 5] = [
    (0x01, 6, u32::MAX),
    (0x02, 4, 1000),
    (0x04, 4, u32::MAX),
    (0x10, 4, u32::MAX),
    (0x20, 4, u32::MAX),
];
pub(crate) const ENTRIES_TEXT: [&str; 5] =
    ["user::rw-", "user:1000:r--", "group::r--", "mask::r--", "other::r--"];

/// The kernel's format of an ACL; see `linux/posix_acl_xattr.h`.
pub(crate) fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in ENTRIES {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn prepare(place: &Place) {
    for name in ["a", "d/a"] {
        let path = place.inside.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "content\n").unwrap();
        // Whatever the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(place.inside.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn prepare_xattr(place: &Place) {
    prepare(place);
    let path = place.inside.join("a");
    rustix::fs::setxattr(path, "user.note", b"remove me", XattrFlags::empty()).unwrap();
}

fn prepare_acl(place: &Place) {
    prepare(place);
    rustix::fs::setxattr(place.inside.join("a"), ACL, &acl(), XattrFlags::empty()).unwrap();
}

/// Does it to the prepared file, or to `name`: one event that names what differs.
fn modified(scene: &Scene<'_>, name: &str, changes: &[&str], op: impl FnOnce(Raw) -> Op) -> Event {
    let path: PathBuf = scene.path(name);
    let known = Known::of(&path);
    let report = scene.operate(op(Raw::from(&path)));
    let event = scene.single(&report, "attributes_modified", &path);
    assert_eq!(event.list("fim.changes"), changes, "{event}");
    known.is(&event, "fim.before");
    event
}

fn chmod(scene: &Scene<'_>) {
    let event = modified(scene, "a", &["mode"], |path| Op::Chmod { path, mode: 0o4755 });
    assert_eq!(event.text("fim.before.mode"), Some("0644"), "{event}");
    assert_eq!(event.text("fim.after.mode"), Some("4755"), "{event}");
}

fn fchmod(scene: &Scene<'_>) {
    let event = modified(scene, "a", &["mode"], |path| Op::ChmodOpen { path, mode: 0o600 });
    assert_eq!(event.text("fim.before.mode"), Some("0644"), "{event}");
    assert_eq!(event.text("fim.after.mode"), Some("0600"), "{event}");
}

fn chmod_directory(scene: &Scene<'_>) {
    let event = modified(scene, "d", &["mode"], |path| Op::Chmod { path, mode: 0o1777 });
    assert_eq!(event.text("fim.after.mode"), Some("1777"), "{event}");
}

fn chown(scene: &Scene<'_>) {
    let path = scene.path("a");
    let (uid, gid) = (1000, 65_534);
    assert_ne!(fs::metadata(&path).unwrap().uid(), uid);
    let event = modified(scene, "a", &["uid", "gid"], |path| Op::Chown { path, uid, gid });
    assert_eq!(event.text("fim.before.uid"), Some("0"), "{event}");
    assert_eq!(event.text("fim.after.uid"), Some("1000"), "{event}");
    assert_eq!(event.text("fim.after.gid"), Some("65534"), "{event}");
}

fn utimensat(scene: &Scene<'_>) {
    let seconds = 981_173_106;
    let event = modified(scene, "a", &["mtime"], |path| Op::SetTimes { path, seconds });
    assert_eq!(event.text("fim.after.mtime"), Some("2001-02-03T04:05:06.000000000Z"), "{event}");
}

fn xattr<'e>(event: &'e Event, side: &str, name: &str) -> Option<&'e str> {
    event.at(side)["xattrs"][name].as_str()
}

fn set(scene: &Scene<'_>, name: &str) {
    let event = modified(scene, "a", &["xattrs"], |path| {
        let value = b"a value".to_vec();
        Op::SetXattr { path, name: name.to_owned(), value }
    });
    assert_eq!(xattr(&event, "fim.before", name), None, "{event}");
    assert_eq!(xattr(&event, "fim.after", name), Some("YSB2YWx1ZQ=="), "{event}");
}

fn setxattr(scene: &Scene<'_>) {
    set(scene, "user.note");
}

/// The attributes that every file system has which has any.
fn setxattr_trusted(scene: &Scene<'_>) {
    set(scene, "trusted.note");
}

fn removexattr(scene: &Scene<'_>) {
    let name = "user.note";
    let event =
        modified(scene, "a", &["xattrs"], |path| Op::RemoveXattr { path, name: name.to_owned() });
    assert_eq!(xattr(&event, "fim.before", name), Some("cmVtb3ZlIG1l"), "{event}");
    assert_eq!(xattr(&event, "fim.after", name), None, "{event}");
}

fn acl_set(scene: &Scene<'_>) {
    let event = modified(scene, "a", &["acl"], |path| Op::SetXattr {
        path,
        name: ACL.to_owned(),
        value: acl(),
    });
    assert_eq!(event.list("fim.before.acl"), [""; 0], "{event}");
    assert_eq!(event.list("fim.after.acl"), ENTRIES_TEXT, "{event}");
}

fn acl_remove(scene: &Scene<'_>) {
    let event =
        modified(scene, "a", &["acl"], |path| Op::RemoveXattr { path, name: ACL.to_owned() });
    assert_eq!(event.list("fim.before.acl"), ENTRIES_TEXT, "{event}");
    assert_eq!(event.list("fim.after.acl"), [""; 0], "{event}");
}
