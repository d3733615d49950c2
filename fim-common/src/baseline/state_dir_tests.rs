use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::{Command, Stdio};

use super::*;
use crate::baseline::test_volume::{tempdir, tmpfs};

#[test]
fn made_private_with_an_id_that_stays() {
    let parent = tempdir();
    let path = parent.path().join("var/lib/fim");
    let first = StateDir::open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700);
    let id = first.agent_id().to_owned();
    assert!(uuid::Uuid::try_parse(&id).is_ok());
    assert!(first.journal().starts_with(&path));
    drop(first);
    assert_eq!(StateDir::open(&path).unwrap().agent_id(), id);
}

#[test]
fn a_link_is_resolved() {
    let parent = tempdir();
    let (real, link) = (parent.path().join("real"), parent.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let opened = StateDir::open(&link).unwrap();
    assert_eq!(opened.path(), real.canonicalize().unwrap());
}

#[test]
fn a_second_holder_is_refused_and_the_first_is_named() {
    let parent = tempdir();
    let path = parent.path().join("state");
    let first = StateDir::open(&path).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    let StateDirError::Locked { pid, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())));
    StateDir::check(&path).unwrap();
    drop(first);
    StateDir::open(&path).unwrap();
}

#[test]
fn a_holder_that_is_killed_leaves_no_lock() {
    let parent = tempdir();
    let path = parent.path().join("state");
    drop(StateDir::open(&path).unwrap());
    // --no-fork: the shell, and then sleep(1), is the process that we kill.
    let holder = Command::new("flock")
        .args(["--exclusive", "--no-fork"])
        .arg(path.join("lock"))
        .args(["sh", "-c", "echo locked; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        return println!("skipped: flock(1) is not here");
    };
    let mut said = [0; 7];
    holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(matches!(error, StateDirError::Locked { .. }), "{error:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    StateDir::open(&path).unwrap();
}

#[test]
fn what_others_can_write_is_refused() {
    let parent = tempdir();
    let path = parent.path().join("state");
    fs::create_dir(&path).unwrap();
    for (mode, refused) in [(0o770, true), (0o702, true), (0o1777, true), (0o755, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match StateDir::open(&path) {
            Err(error @ StateDirError::Writable { .. }) if refused => {
                assert!(error.to_string().contains("chmod 0700"), "{error}");
            }
            Ok(_) if !refused => {
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                assert_eq!(mode, 0o700, "others could read it");
            }
            other => panic!("{mode:o}: {other:?}"),
        }
    }
}

#[test]
fn somebody_elses_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root to give a directory away");
    }
    let parent = tempdir();
    let path = parent.path().join("state");
    fs::create_dir(&path).unwrap();
    chown(&path, Some(1234), None).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(matches!(error, StateDirError::ForeignOwner { owner: 1234, us: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("belongs to user 1234"));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "nothing was written into it");
}

#[test]
fn what_is_no_directory_is_refused() {
    let parent = tempdir();
    let path = parent.path().join("file");
    fs::write(&path, b"").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::NotADirectory { .. }), "{error:?}");
    }
}

#[test]
fn a_damaged_id_is_refused_and_kept() {
    let parent = tempdir();
    let path = parent.path().join("state");
    drop(StateDir::open(&path).unwrap());
    for bytes in [&b""[..], b"me", b"\xff\xff"] {
        fs::write(path.join("agent-id"), bytes).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::AgentId { .. }), "{error:?}");
        assert_eq!(fs::read(path.join("agent-id")).unwrap(), bytes);
    }
}

#[test]
fn a_read_only_one_is_refused() {
    let Some(volume) = tmpfs("size=8m,mode=0700") else { return };
    drop(StateDir::open(volume.path()).unwrap());
    volume.remount("ro");
    let error = StateDir::open(volume.path()).unwrap_err();
    assert!(matches!(error, StateDirError::ReadOnly { .. }), "{error:?}");
    let error = StateDir::open(&volume.path().join("new")).unwrap_err();
    assert!(matches!(error, StateDirError::ReadOnly { .. }), "{error:?}");
}

#[test]
fn a_full_one_is_refused() {
    let Some(volume) = tmpfs("size=1m,mode=0700") else { return };
    let error = StateDir::open(volume.path()).unwrap_err();
    assert!(matches!(error, StateDirError::Full { .. }), "{error:?}");
    volume.remount("size=8m");
    StateDir::open(volume.path()).unwrap();
}
