use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use base64::Engine as _;
use rustix::fs::{Mode, XattrFlags, lsetxattr, mkfifoat, setxattr};

use super::*;

const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\
    \x02\0\x04\0\xe8\x03\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\
    \x20\0\0\0\xff\xff\xff\xff";

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[test]
fn a_file_as_stat_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"12345").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
    fs::hard_link(&path, directory.path().join("second")).unwrap();
    let expected = fs::metadata(&path).unwrap();
    let state = state(&path).unwrap();
    assert_eq!(state.kind, Some(ObjectKind::File));
    assert_eq!(state.size, Some(5));
    assert_eq!(state.mode, Some(0o4640), "without the type bits");
    assert_eq!(state.uid, Some(expected.uid()));
    assert_eq!(state.gid, Some(expected.gid()));
    assert_eq!(state.inode, Some(expected.ino()));
    assert_eq!(state.device, Some(expected.dev()));
    assert_eq!(state.nlink, Some(2));
    let mtime = Timestamp::from_unix(expected.mtime(), expected.mtime_nsec() as u32);
    assert_eq!(state.mtime, Some(mtime));
    let ctime = Timestamp::from_unix(expected.ctime(), expected.ctime_nsec() as u32);
    assert_eq!(state.ctime, Some(ctime));
    assert_eq!(state.acl, Some(vec![]));
    assert_eq!(state.capabilities.as_deref(), Some(""));
    assert_eq!((state.sha256, state.target_path), (None, None));
}

#[test]
fn every_type_and_none_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), b"").unwrap();
    fs::create_dir(at("dir")).unwrap();
    symlink("file", at("link")).unwrap();
    mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let mut cases = vec![
        (at("file"), ObjectKind::File),
        (at("dir"), ObjectKind::Dir),
        (at("link"), ObjectKind::Symlink),
        (at("fifo"), ObjectKind::Fifo),
        (at("socket"), ObjectKind::Socket),
    ];
    cases.push(("/dev/null".into(), ObjectKind::CharDevice));
    for (path, kind) in cases {
        // Opening the FIFO for reading would block, the socket would fail.
        assert_eq!(state(&path).unwrap().kind, Some(kind), "{}", path.display());
        assert_eq!(stat(&path).unwrap().kind, Some(kind), "{}", path.display());
        let content = Handle::open_content(&path);
        match kind {
            ObjectKind::File => assert!(content.is_ok()),
            _ => assert_eq!(content.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{kind:?}"),
        }
    }
    assert_eq!(state(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = PathBuf::from(OsString::from_vec(b"no such \xff file".to_vec()));
    let path = directory.path().join("link");
    symlink(&target, &path).unwrap();
    let state = state(&path).unwrap();
    assert_eq!(state.target_path, Some(target));
    assert_eq!(state.size, Some(14));
}

#[test]
fn acl_and_attributes_through_both_kinds_of_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"x").unwrap();
    setxattr(&path, "user.note", b"hello\0", XattrFlags::empty()).unwrap();
    setxattr(&path, "system.posix_acl_access", ACL, XattrFlags::empty()).unwrap();
    for handle in [Handle::open(&path).unwrap(), Handle::open_content(&path).unwrap()] {
        let state = handle.state().unwrap();
        let acl = ["user::rw-", "user:1000:r--", "group::r--", "mask::rw-", "other::---"];
        assert_eq!(state.acl.unwrap(), acl);
        assert_eq!(state.mode, Some(0o660), "the mask shows as the group's bits");
        let xattrs = state.xattrs.unwrap();
        let value = base64::engine::general_purpose::STANDARD.encode(b"hello\0");
        assert_eq!(xattrs.get("user.note"), Some(&value));
        assert_eq!(xattrs.len(), 1, "the ACL is not told twice: {xattrs:?}");
    }
}

#[test]
fn the_default_acl_of_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    setxattr(path, "system.posix_acl_default", ACL, XattrFlags::empty()).unwrap();
    setxattr(path, "system.posix_acl_access", ACL, XattrFlags::empty()).unwrap();
    let acl = state(path).unwrap().acl.unwrap();
    assert_eq!(acl.len(), 10);
    assert_eq!(acl[1], "user:1000:r--");
    assert_eq!(acl[5], "default:user::rw-");
    assert_eq!(acl[8], "default:mask::rw-");
}

#[test]
fn large_and_many_attributes() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"").unwrap();
    for number in 0..100 {
        let value = vec![7_u8; 40 * number];
        let name = format!("user.a-name-of-some-length.{number:03}");
        if let Err(error) = setxattr(&path, &name, &value, XattrFlags::empty()) {
            return println!("skipped: no user xattrs on /dev/shm ({error})");
        }
    }
    let xattrs = state(&path).unwrap().xattrs.unwrap();
    assert_eq!(xattrs.len(), 100);
    let longest = base64::engine::general_purpose::STANDARD.encode([7_u8; 3960]);
    assert_eq!(xattrs["user.a-name-of-some-length.099"], longest);
}

#[test]
fn capabilities_as_getcap_says() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"x").unwrap();
    let v2 = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    setxattr(&path, "security.capability", v2, XattrFlags::empty()).unwrap();
    let state = state(&path).unwrap();
    assert_eq!(state.capabilities.as_deref(), Some("cap_net_bind_service=ep"));
    assert!(!state.xattrs.unwrap().contains_key("security.capability"));

    for text in [
        "cap_net_raw,cap_sys_admin=ep",
        "cap_net_raw=eip cap_kill=ep",
        "cap_kill=ip cap_chown=i cap_bpf=p",
        "=ep",
        "=ep cap_kill-ep",
        "cap_chown=i",
    ] {
        let set = std::process::Command::new("setcap").arg(text).arg(&path).status();
        if !set.is_ok_and(|status| status.success()) {
            println!("skipped: setcap(8) is not here or refuses {text}");
            continue;
        }
        let output = std::process::Command::new("getcap").arg(&path).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let expected = printed.trim().split_once(' ').unwrap().1;
        let ours = super::state(&path).unwrap().capabilities.unwrap();
        assert_eq!(ours, expected, "{text}");
    }
}

#[test]
fn attributes_of_a_link_are_its_own() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, b"").unwrap();
    symlink(&file, &link).unwrap();
    lsetxattr(&link, "trusted.of-link", b"1", XattrFlags::empty()).unwrap();
    setxattr(&file, "trusted.of-file", b"2", XattrFlags::empty()).unwrap();
    let names = |path| state(path).unwrap().xattrs.unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&link), ["trusted.of-link"]);
    assert_eq!(names(&file), ["trusted.of-file"]);
}

#[test]
fn a_file_system_without_attributes_has_none() {
    // proc has no xattrs of its own: ENOTSUP.
    let state = state(Path::new("/proc/version")).unwrap();
    assert_eq!(state.acl, Some(vec![]));
    assert!(state.xattrs.is_some_and(|xattrs| xattrs.is_empty()));
}

#[test]
fn a_handle_stays_with_its_object() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"old").unwrap();
    let handle = Handle::open(&path).unwrap();
    let content = Handle::open_content(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"newer").unwrap();
    assert_eq!(handle.state().unwrap().size, Some(3));
    assert_eq!(handle.state().unwrap().nlink, Some(0));
    assert_ne!(handle.id().unwrap(), state(&path).unwrap().id().unwrap());
    let mut buffer = [0; 16];
    assert_eq!(content.read_at(&mut buffer, 0).unwrap(), 3);
    assert_eq!(content.read_at(&mut buffer, 2).unwrap(), 1);
}

#[test]
fn reading_leaves_the_access_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"content").unwrap();
    // Older than mtime, so that relatime would update it.
    let old = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    fs::File::options().write(true).open(&path).unwrap().set_times(old).unwrap();
    let content = Handle::open_content(&path).unwrap();
    content.read_at(&mut [0; 16], 0).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().atime(), 0);
}
