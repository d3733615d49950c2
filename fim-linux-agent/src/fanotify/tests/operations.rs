//! Each operation through its real system call.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use fim_common::operation::OperationKind;
use fim_common::state::ObjectKind;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags};

use super::*;

/// Does `operation` in a watched directory beside an unwatched one, on tmpfs and on the file system
/// of the temporary directory; `want` is what comes of it. `prepare` is not watched.
fn table(prepare: fn(&Path), operation: fn(&Path), want: &[&str]) {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let disk = tempfile::tempdir().unwrap();
    let _alone = alone();
    for base in [tmpfs.path(), disk.path().canonicalize().unwrap()] {
        let watched = base.join("in");
        fs::create_dir(&watched).unwrap();
        fs::create_dir(base.join("out")).unwrap();
        prepare(&watched);
        let mut watch = Watch::new(&watched);
        operation(&watched);
        assert_eq!(watch.short(), want, "{}", watch.collector.summary());
        watch.stop();
    }
}

fn nothing(_: &Path) {}

fn file(base: &Path) {
    fs::write(base.join("a"), "old").unwrap();
}

fn open(path: &Path, flags: OFlags) -> std::os::fd::OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600)).unwrap()
}

#[test]
fn create() {
    let operation = |base: &Path| drop(File::create_new(base.join("a")).unwrap());
    table(nothing, operation, &["create a", "close_write a unknown"]);
}

#[test]
fn create_and_write() {
    let operation = |base: &Path| fs::write(base.join("a"), "x").unwrap();
    table(nothing, operation, &["create a", "modify a", "close_write a yes"]);
}

#[test]
fn mkdir_and_inside() {
    let operation = |base: &Path| {
        fs::create_dir_all(base.join("d/e")).unwrap();
        fs::create_dir(base.join("d/e/f")).unwrap();
    };
    table(nothing, operation, &["create d", "create d/e", "create d/e/f"]);
}

#[test]
fn symbolic_link() {
    table(nothing, |base| symlink("/etc/passwd", base.join("s")).unwrap(), &["create s"]);
}

#[test]
fn fifo_and_device() {
    let operation = |base: &Path| {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, base.join("f"), FileType::Fifo, mode, 0).unwrap();
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, base.join("n"), FileType::CharacterDevice, mode, null).unwrap();
    };
    table(nothing, operation, &["create f", "create n"]);
}

/// Gives a file that was opened with `O_TMPFILE` a name.
fn give_name(file: &impl std::os::fd::AsRawFd, path: &Path) {
    let old = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, old, CWD, path, AtFlags::SYMLINK_FOLLOW).unwrap();
}

#[test]
fn tmpfile_then_link() {
    let operation = |base: &Path| {
        let fd = open(base, OFlags::TMPFILE | OFlags::WRONLY);
        rustix::io::write(&fd, b"x").unwrap();
        give_name(&fd, &base.join("t"));
    };
    // The write and the close are of a file that the kernel names "#<inode number>", and may be
    // read when it has its name.
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let mut watch = Watch::new(&tmpfs.path());
    operation(&tmpfs.path());
    let short = watch.short();
    assert_eq!(short[0], "create t", "{short:?}");
    assert!(matches!(short[1..], [] | [_]), "{short:?}");
    assert!(short[1..].iter().all(|text| text.starts_with("close_write t ")), "{short:?}");
    watch.stop();
}

#[test]
fn write_and_close_without_writing() {
    let close = |base: &Path| drop(open(&base.join("a"), OFlags::WRONLY));
    table(file, close, &["close_write a unknown"]);
    let write = |base: &Path| {
        let mut file = File::options().append(true).open(base.join("a")).unwrap();
        file.write_all(b"x").unwrap();
    };
    table(file, write, &["modify a", "close_write a yes"]);
}

#[test]
fn read_only_is_nothing() {
    table(file, |base| drop(fs::read(base.join("a")).unwrap()), &[]);
}

#[test]
fn truncate() {
    table(
        file,
        |base| {
            let path = std::ffi::CString::new(base.join("a").as_os_str().as_bytes()).unwrap();
            // SAFETY: `path` is NUL-terminated and outlives the call.
            assert_eq!(unsafe { libc::truncate(path.as_ptr(), 1) }, 0);
        },
        &["modify a"],
    );
    table(
        file,
        |base| drop(open(&base.join("a"), OFlags::WRONLY | OFlags::TRUNC)),
        &["modify a", "close_write a yes"],
    );
    table(
        file,
        |base| File::options().write(true).open(base.join("a")).unwrap().set_len(0).unwrap(),
        &["modify a", "close_write a yes"],
    );
}

#[test]
fn unlink_and_rmdir() {
    let prepare = |base: &Path| {
        file(base);
        fs::create_dir(base.join("d")).unwrap();
    };
    let operation = |base: &Path| {
        fs::remove_file(base.join("a")).unwrap();
        fs::remove_dir(base.join("d")).unwrap();
    };
    table(prepare, operation, &["delete a", "delete d"]);
}

#[test]
fn rename_in_out_over_and_within() {
    let prepare = |base: &Path| {
        file(base);
        fs::write(base.join("b"), "b").unwrap();
        fs::write(base.join("../out/o"), "o").unwrap();
    };
    table(prepare, |b| fs::rename(b.join("a"), b.join("c")).unwrap(), &["rename a c"]);
    table(prepare, |b| fs::rename(b.join("a"), b.join("b")).unwrap(), &["rename a b"]);
    table(prepare, |b| fs::rename(b.join("a"), b.join("../out/a")).unwrap(), &["rename a outside"]);
    table(prepare, |b| fs::rename(b.join("../out/o"), b.join("o")).unwrap(), &["rename outside o"]);
}

#[test]
fn rename_exchange() {
    let prepare = |base: &Path| {
        file(base);
        fs::create_dir_all(base.join("d/sub")).unwrap();
    };
    let operation = |base: &Path| {
        let (one, other) = (base.join("a"), base.join("d"));
        rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        fs::create_dir(base.join("a/sub/new")).unwrap();
    };
    table(prepare, operation, &["rename a d exchange", "rename d a exchange", "create a/sub/new"]);
}

#[test]
fn hard_links() {
    let operation = |base: &Path| {
        fs::hard_link(base.join("a"), base.join("l")).unwrap();
        fs::remove_file(base.join("a")).unwrap();
    };
    table(file, operation, &["link l", "delete a"]);
    let operation = |base: &Path| {
        drop(File::create_new(base.join("n")).unwrap());
        fs::hard_link(base.join("n"), base.join("m")).unwrap();
    };
    table(nothing, operation, &["create n", "close_write n unknown", "link m"]);
}

#[test]
fn attributes() {
    let chmod = |base: &Path| {
        fs::set_permissions(base.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    };
    table(file, chmod, &["set_attributes a"]);
    let chown = |base: &Path| std::os::unix::fs::chown(base.join("a"), Some(1), Some(1)).unwrap();
    table(file, chown, &["set_attributes a"]);
    let utimes = |base: &Path| {
        let file = File::open(base.join("a")).unwrap();
        let times = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH)
            .set_accessed(std::time::UNIX_EPOCH);
        file.set_times(times).unwrap();
    };
    table(file, utimes, &["set_attributes a"]);
    let xattr = |base: &Path| {
        let (path, name) = (base.join("a"), "trusted.fim");
        rustix::fs::setxattr(&path, name, b"1", XattrFlags::empty()).unwrap();
    };
    table(file, xattr, &["set_attributes a"]);
    let directory = |base: &Path| {
        fs::set_permissions(base, fs::Permissions::from_mode(0o700)).unwrap();
    };
    table(nothing, directory, &["set_attributes "]);
}

#[test]
fn names_that_are_not_utf8() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let directory = tmpfs.path().join(OsStr::from_bytes(b"d\xff \n"));
    let path = directory.join(OsStr::from_bytes(b"\xfe\x80"));
    let mut watch = Watch::new(&tmpfs.path());
    fs::create_dir(&directory).unwrap();
    drop(File::create_new(&path).unwrap());
    let operations = watch.operations();
    let paths: Vec<_> = operations.iter().map(|o| o.path.clone().unwrap()).collect();
    assert_eq!(paths, [directory, path.clone(), path]);
    watch.stop();
}

#[test]
fn the_state_after() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let path = tmpfs.path().join("a");
    let mut watch = Watch::new(&tmpfs.path());
    fs::write(&path, "abc").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    let operations = watch.operations();
    let metadata = fs::metadata(&path).unwrap();
    for operation in &operations {
        let after = &operation.after;
        assert_eq!(after.kind, Some(ObjectKind::File));
        assert_eq!(after.inode, Some(metadata.ino()));
        assert_eq!(operation.object, after.id());
        assert_eq!(operation.object.unwrap().device, metadata.dev());
        assert_eq!((after.uid, after.gid, after.nlink), (Some(0), Some(0), Some(1)));
        assert_eq!(operation.failure, None);
    }
    let last = &operations.last().unwrap().after;
    assert_eq!((last.size, last.mode), (Some(3), Some(0o4755)));

    fs::remove_file(&path).unwrap();
    let operations = watch.operations();
    let [operation] = operations.as_slice() else { panic!("{operations:?}") };
    assert_eq!(operation.kind, OperationKind::Delete);
    assert_eq!(operation.object.unwrap().inode, metadata.ino(), "known without the file");
    assert_eq!(operation.after, Default::default());
    watch.stop();
}

#[test]
fn failed_attempts_are_not_seen() {
    let operation = |base: &Path| {
        fs::create_dir(base.join("a")).unwrap_err();
        fs::remove_file(base.join("none")).unwrap_err();
        fs::rename(base.join("none"), base.join("b")).unwrap_err();
    };
    table(file, operation, &[]);
}

#[test]
fn a_directory_that_changes_places_with_a_file_takes_along_what_is_in_it() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    fs::create_dir_all(base.join("b")).unwrap();
    fs::create_dir_all(base.join("d")).unwrap();
    fs::write(base.join("b/f"), "x").unwrap();
    let mut watch = Watch::new(&base);
    fs::create_dir(base.join("d/n")).unwrap();
    watch.operations();
    // The file first.
    let (from, to) = (base.join("b/f"), base.join("d"));
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
    fs::create_dir(base.join("b/f/n/x")).unwrap();
    assert_eq!(watch.short().last().unwrap(), "create b/f/n/x");
    watch.stop();
}

#[test]
fn directories_that_change_places_while_their_events_wait() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    let pairs: Vec<[String; 2]> =
        (0..50).map(|number| [format!("a{number}"), format!("b{number}")]).collect();
    for name in pairs.iter().flatten() {
        fs::create_dir(base.join(name)).unwrap();
    }
    // Not known by their names yet: the kernel is asked where they are, after they were exchanged.
    let mut watch = Watch::new(&base);
    let mut wanted = Vec::new();
    for [one, other] in &pairs {
        for (name, new) in [(one, "x"), (other, "y")] {
            fs::create_dir(base.join(name).join(new)).unwrap();
            wanted.push(format!("create {name}/{new}"));
        }
        let (from, to) = (base.join(one), base.join(other));
        rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
        fs::create_dir(base.join(one).join("z")).unwrap();
        wanted.push(format!("create {one}/z"));
    }
    let created: Vec<String> =
        watch.short().into_iter().filter(|one| one.starts_with("create")).collect();
    assert_eq!(created, wanted);
    watch.stop();
}

#[test]
fn the_number_of_what_is_gone_is_nobody_s() {
    if !can_run() {
        return;
    }
    // ext4 gives the number to another file soon.
    let disk = tempfile::tempdir().unwrap();
    let base = disk.path().canonicalize().unwrap();
    let _alone = alone();
    fs::write(base.join("g"), "x").unwrap();
    let mut watch = Watch::new(&base);
    let mut open = File::options().write(true).open(base.join("g")).unwrap();
    fs::remove_file(base.join("g")).unwrap();
    watch.operations();
    open.write_all(b"y").unwrap();
    drop(open);
    let operations = watch.operations();
    assert!(!operations.is_empty());
    for operation in operations {
        let told = (&operation.path, operation.object);
        assert_eq!(told, (&Some(base.join("g")), None), "{:?}", operation.kind);
    }
    watch.stop();
}

#[test]
fn a_file_without_a_name_that_gets_one_when_its_write_was_read() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    let _alone = alone();
    let nameless: Arc<Mutex<Option<File>>> = Arc::default();
    let (to_link, name) = (Arc::clone(&nameless), base.join("a"));
    let mut watch = Watch::with(&base, |options| {
        // Between the reading of events and the work on them.
        options.sync = Box::new(move || {
            if let Some(file) = to_link.lock().unwrap().take() {
                give_name(&file, &name);
            }
        });
    });
    let mut file = File::from(open(&base, OFlags::TMPFILE | OFlags::WRONLY));
    *nameless.lock().unwrap() = Some(file.try_clone().unwrap());
    file.write_all(b"x").unwrap();
    // The marker may come before the link.
    let told = std::iter::repeat_with(|| watch.short()).find(|told| !told.is_empty());
    assert_eq!(told.unwrap(), ["create a"]);
    file.write_all(b"y").unwrap();
    drop(file);
    for operation in watch.operations() {
        assert_eq!((&operation.path, operation.after.size), (&Some(base.join("a")), Some(2)));
    }
    watch.stop();
}

#[test]
fn a_file_without_a_name_from_elsewhere_is_watched_by_the_one_it_gets() {
    if !can_run() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let base = disk.path().canonicalize().unwrap();
    let _alone = alone();
    for directory in ["in", "out"] {
        fs::create_dir(base.join(directory)).unwrap();
    }
    let mut watch = Watch::new(&base.join("in"));
    let mut file = File::from(open(&base.join("out"), OFlags::TMPFILE | OFlags::WRONLY));
    give_name(&file, &base.join("in/a"));
    assert_eq!(watch.short(), ["create a"]);
    file.write_all(b"x").unwrap();
    drop(file);
    assert_eq!(watch.short(), ["modify a", "close_write a yes"]);
    watch.stop();
}
