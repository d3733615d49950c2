//! What kernels before 5.15 tell: no object of a creation or removal, renames in two halves, no
//! process descriptors.

use std::fs;

use rustix::fs::{CWD, RenameFlags};

use super::*;

fn table(operation: fn(&Path), want: &[&str]) {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let watched = tmpfs.path().join("in");
    for name in ["in/d/sub", "in/e", "out"] {
        fs::create_dir_all(tmpfs.path().join(name)).unwrap();
    }
    fs::write(watched.join("a"), "a").unwrap();
    fs::write(watched.join("b"), "b").unwrap();
    let mut watch = Watch::old(&watched);
    assert!(watch.collector.summary().contains("without"), "{}", watch.collector.summary());
    operation(&watched);
    assert_eq!(watch.short(), want);
    watch.stop();
}

#[test]
fn files() {
    table(
        |base| fs::write(base.join("n"), "x").unwrap(),
        &["create n", "modify n", "close_write n yes"],
    );
    table(|base| fs::remove_file(base.join("a")).unwrap(), &["delete a"]);
    table(|base| fs::hard_link(base.join("a"), base.join("l")).unwrap(), &["link l"]);
}

#[test]
fn directories() {
    let operation = |base: &Path| {
        fs::create_dir(base.join("n")).unwrap();
        fs::create_dir(base.join("n/m")).unwrap();
        fs::rename(base.join("n"), base.join("e/n")).unwrap();
        fs::create_dir(base.join("e/n/m/o")).unwrap();
    };
    table(operation, &["create n", "create n/m", "rename n e/n", "create e/n/m/o"]);
}

#[test]
fn renames() {
    table(|b| fs::rename(b.join("a"), b.join("c")).unwrap(), &["rename a c"]);
    table(|b| fs::rename(b.join("a"), b.join("b")).unwrap(), &["rename a b"]);
    table(|b| fs::rename(b.join("a"), b.join("../out/a")).unwrap(), &["rename a outside"]);
    table(|b| fs::rename(b.join("d"), b.join("../out/d")).unwrap(), &["rename d outside"]);
    let create_and_move = |base: &Path| {
        fs::write(base.join(".n.tmp"), "x").unwrap();
        fs::rename(base.join(".n.tmp"), base.join("n")).unwrap();
    };
    let want = ["create .n.tmp", "modify .n.tmp", "close_write .n.tmp yes", "rename .n.tmp n"];
    table(create_and_move, &want);
}

#[test]
fn an_exchange_is_compared() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let (one, other) = (tmpfs.path().join("a"), tmpfs.path().join("b"));
    fs::write(&one, "a").unwrap();
    fs::write(&other, "b").unwrap();
    let mut watch = Watch::old(&tmpfs.path());
    rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    // Read one by one they are two renames. Where halves are merged, in part or all, both paths have
    // to be looked at, in whatever order the batches have them.
    let mut texts: Vec<String> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while texts.len() < 2 {
        texts.push(match watch.next(deadline) {
            Observation::Operation(operation) => watch.text(&operation),
            Observation::Recheck(path) => format!("recheck {}", path.display()),
            Observation::Fence(number) => panic!("nobody asked for fence {number}"),
        });
    }
    let rechecks = [&one, &other].map(|path| format!("recheck {}", path.display()));
    let is_told = texts == ["rename a b", "rename b a"];
    texts.sort();
    assert!(is_told || texts == rechecks, "{texts:?}");
    watch.stop();
}

/// Whether its halves are merged or not: what is done in them afterwards is told of the names that
/// they have then.
#[test]
fn directories_are_exchanged() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let (one, other) = (tmpfs.path().join("a"), tmpfs.path().join("b"));
    for directory in [&one, &other] {
        fs::create_dir_all(directory.join("sub")).unwrap();
    }
    let mut watch = Watch::old(&tmpfs.path());
    for number in 0..50 {
        rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        fs::create_dir(one.join(format!("sub/x{number}"))).unwrap();
        fs::create_dir(other.join(format!("sub/y{number}"))).unwrap();
        let texts = watch.short();
        let created: Vec<_> = texts.iter().filter(|text| text.starts_with("create")).collect();
        let want = [format!("create a/sub/x{number}"), format!("create b/sub/y{number}")];
        assert_eq!(created, [&want[0], &want[1]], "{texts:?}");
    }
    watch.stop();
}

/// A tree that is removed faster than its events are read: without objects of removals the paths
/// of directories that were there before are gone with them, and are counted.
#[test]
fn a_tree_is_removed() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    for number in 0..100 {
        fs::create_dir_all(base.join(format!("{number}/a/b"))).unwrap();
    }
    let mut watch = Watch::old(&base);
    for number in 0..100 {
        fs::remove_dir_all(base.join(number.to_string())).unwrap();
    }
    let observations = watch.observations();
    let mut deleted = 0;
    for observation in &observations {
        if let Observation::Operation(operation) = observation {
            assert!(operation.path.as_ref().unwrap().starts_with(&base));
            deleted += u64::from(operation.kind == OperationKind::Delete);
        }
    }
    let counters = watch.collector.counters();
    let error = counters.error.load(std::sync::atomic::Ordering::Relaxed);
    println!("{deleted} of 300 with a path, {error} without");
    assert_eq!(deleted + error, 300);
    watch.stop();
}
