//! Watched paths that are not there yet, and file systems that come and go.

use std::fs;

use super::*;

impl Watch {
    /// Waits until a comparison of `path` is asked for; returns what came before.
    fn until_recheck(&mut self, path: &Path) -> Vec<Observation> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut before = Vec::new();
        loop {
            match self.next(deadline) {
                Observation::Recheck(found) if found == path => return before,
                other => before.push(other),
            }
        }
    }
}

#[test]
fn a_watched_path_appears() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path().join("opt/sbin");
    let mut watch = Watch::with(&base, |_| {});
    watch.base = base.clone();
    assert_eq!(watch.collector.roots(), [] as [PathBuf; 0]);
    fs::create_dir_all(&base).unwrap();
    fs::create_dir(base.join("d")).unwrap();
    assert_eq!(watch.short(), ["create ", "create d"]);
    watch.stop();
}

#[test]
fn a_watched_path_moves_in_with_a_directory_above_it() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path().join("opt/sbin");
    fs::create_dir_all(tmpfs.path().join("other/sbin/d")).unwrap();
    let mut watch = Watch::new(&base);
    fs::rename(tmpfs.path().join("other"), tmpfs.path().join("opt")).unwrap();
    watch.until_recheck(&base);
    fs::create_dir(base.join("d/e")).unwrap();
    assert_eq!(watch.short(), ["create d/e"]);
    watch.stop();
}

#[test]
fn a_tree_moves_in_and_out() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path().join("in");
    fs::create_dir(&base).unwrap();
    fs::create_dir_all(tmpfs.path().join("tree/a/b")).unwrap();
    let mut watch = Watch::new(&base);
    fs::rename(tmpfs.path().join("tree"), base.join("tree")).unwrap();
    let before = watch.until_recheck(&base.join("tree"));
    assert!(matches!(&before[..], [Observation::Operation(_)]), "{before:?}");
    fs::create_dir(base.join("tree/a/b/c")).unwrap();
    assert_eq!(watch.short(), ["create tree/a/b/c"]);
    fs::rename(base.join("tree"), tmpfs.path().join("tree")).unwrap();
    watch.until_recheck(&base.join("tree"));
    fs::create_dir(tmpfs.path().join("tree/a/b/d")).unwrap();
    assert_eq!(watch.short(), [] as [&str; 0]);
    watch.stop();
}

#[test]
fn a_file_system_is_mounted_below() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let point = tmpfs.path().join("point");
    fs::create_dir(&point).unwrap();
    let mut watch = Watch::new(&tmpfs.path());
    run("mount", &["-t", "tmpfs", "fim-below", point.to_str().unwrap()]);
    watch.until_recheck(&point);
    fs::create_dir(point.join("d")).unwrap();
    assert_eq!(watch.short(), ["mount point", "create point/d"]);
    run("umount", &[point.to_str().unwrap()]);
    watch.until_recheck(&point);
    fs::create_dir(point.join("e")).unwrap();
    assert_eq!(watch.short(), ["unmount point", "create point/e"]);
    watch.stop();
}

#[test]
fn a_bind_mount_shows_the_watched_path() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let (real, shown) = (tmpfs.path().join("real/conf"), tmpfs.path().join("etc/app"));
    fs::create_dir_all(real.join("sub")).unwrap();
    fs::create_dir_all(&shown).unwrap();
    run("mount", &["--bind", real.to_str().unwrap(), shown.to_str().unwrap()]);
    let mut watch = Watch::new(&shown);
    fs::create_dir(real.join("sub/d")).unwrap();
    fs::create_dir(shown.join("sub/e")).unwrap();
    fs::create_dir(tmpfs.path().join("real/other")).unwrap();
    assert_eq!(watch.short(), ["create sub/d", "create sub/e"]);
    watch.stop();
}

#[test]
fn only_a_part_of_a_file_system_is_mounted() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let top = tmpfs.path();
    let inner = top.join("whole");
    fs::create_dir_all(&inner).unwrap();
    run("mount", &["-t", "tmpfs", "fim-whole", inner.to_str().unwrap()]);
    fs::create_dir_all(inner.join("part/sub")).unwrap();
    fs::create_dir_all(inner.join("rest")).unwrap();
    let part = top.join("part");
    fs::create_dir(&part).unwrap();
    run("mount", &["--bind", inner.join("part").to_str().unwrap(), part.to_str().unwrap()]);
    let rest = fs::File::open(inner.join("rest")).unwrap();
    run("umount", &["-l", inner.to_str().unwrap()]);
    let mut watch = Watch::new(&part);
    fs::create_dir(part.join("sub/d")).unwrap();
    rustix::fs::mkdirat(&rest, "unseen", rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
    assert_eq!(watch.short(), ["create sub/d"]);
    watch.stop();
}

#[test]
fn overlayfs() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let top = tmpfs.path();
    for name in ["lower/old/sub", "upper", "work", "merged"] {
        fs::create_dir_all(top.join(name)).unwrap();
    }
    let merged = top.join("merged");
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", top.display());
    let mut command = Command::new("mount");
    command.args(["-t", "overlay", "fim-overlay", "-o", &options]).arg(&merged);
    let mounted = spawn(&mut command).wait().unwrap();
    if !mounted.success() {
        println!("skipped: this kernel has no overlayfs");
        return;
    }
    let _alone = alone();
    let mut watch = Watch::new(&merged);
    println!("{}", watch.collector.summary());
    fs::create_dir(merged.join("new")).unwrap();
    // Without marks on file systems, what is made in a new directory before it has its own mark is
    // found by a comparison only.
    let before = watch.until_recheck(&merged.join("new"));
    assert_eq!(before.len(), 1);
    fs::create_dir(merged.join("new/d")).unwrap();
    fs::write(merged.join("old/sub/f"), "x").unwrap();
    fs::rename(merged.join("new"), merged.join("old/sub/moved")).unwrap();
    fs::create_dir(merged.join("old/sub/moved/d/e")).unwrap();
    let short = watch.short();
    let want = [
        "create new/d",
        "create old/sub/f",
        "modify old/sub/f",
        "close_write old/sub/f yes",
        "rename new old/sub/moved",
    ];
    assert_eq!(short[..5], want);
    watch.stop();
}

#[test]
fn other_things_are_watched_after_an_update() {
    if !can_run() {
        return;
    }
    let (one, other) = (Tmpfs::new(), Tmpfs::new());
    let mut watch = Watch::new(&one.path());
    fs::create_dir(one.path().join("a")).unwrap();
    fs::create_dir(other.path().join("a")).unwrap();
    watch.collector.update(below(&other.path()), vec![other.path()]).unwrap();
    fs::create_dir(one.path().join("b")).unwrap();
    fs::create_dir(other.path().join("b")).unwrap();
    watch.base = other.path();
    let paths: Vec<_> = watch.operations().into_iter().map(|o| o.path.unwrap()).collect();
    assert_eq!(paths, [one.path().join("a"), other.path().join("b")]);
    assert_eq!(watch.collector.roots(), [other.path()]);
    watch.stop();
}

#[test]
fn what_the_kernel_makes_up_is_not_watchable() {
    if !can_run() {
        return;
    }
    let (sender, _receiver) = mpsc::channel(1);
    let result = FanotifyCollector::start(Options {
        scope: below(Path::new("/proc/sys")),
        watch_paths: vec!["/proc/sys".into()],
        ignore: fim_common::ignored::Ignored::default(),
        ignore_self: true,
        sync: Box::new(|| {}),
        table: Arc::new(Mutex::new(Table::new(process::Options::default()))),
        sender,
        losses: Losses::default(),

        post: Arc::default(),
        spill: 1,
        unlimited_queue: true,
    });
    let error = result.err().unwrap().to_string();
    assert!(error.contains("/proc/sys: proc is made up by the kernel"), "{error}");
}

#[test]
fn an_unmount_is_not_hindered() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let point = tmpfs.path().join("point");
    fs::create_dir(&point).unwrap();
    run("mount", &["-t", "tmpfs", "fim-below", point.to_str().unwrap()]);
    let mut watch = Watch::new(&tmpfs.path());
    fs::create_dir(point.join("d")).unwrap();
    assert_eq!(watch.short(), ["create point/d"]);
    // A mount is open only while the batch is worked on that needs it.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut umount = Command::new("umount");
    umount.arg(&point).stderr(std::process::Stdio::null());
    while !spawn(&mut umount).wait().unwrap().success() {
        assert!(Instant::now() < deadline, "it stays busy");
    }
    watch.until_recheck(&point);
    watch.stop();
}
