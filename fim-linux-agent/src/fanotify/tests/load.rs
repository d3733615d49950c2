//! Many operations at once: nothing may be lost, and nothing attributed to another path.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, RenameFlags};

use super::*;

fn check(counters: &super::super::Counters) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let sum = || -> u64 {
        let done = [&counters.filtered, &counters.submitted, &counters.lost, &counters.error];
        done.into_iter().map(get).sum()
    };
    // Others are at work on this machine too: the two sides are not read at one time.
    let deadline = Instant::now() + Duration::from_secs(60);
    while get(&counters.seen) != sum() {
        assert!(Instant::now() < deadline, "{counters:?}");
        std::thread::yield_now();
    }
    assert_eq!(get(&counters.error), 0, "{counters:?}");
    assert_eq!(get(&counters.overflows) + get(&counters.malformed), 0, "{counters:?}");
}

#[test]
fn twenty_thousand_files_in_directories_that_are_removed_too() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let disk = tempfile::tempdir().unwrap();
    for base in [tmpfs.path(), disk.path().canonicalize().unwrap()] {
        // This one is there before the watch: its path is known by nothing but its handle.
        let old = base.join("old");
        fs::create_dir(&old).unwrap();
        let mut watch = Watch::new(&base);
        let started = Instant::now();
        for directory in 0..200 {
            let directory = match directory {
                0 => old.clone(),
                number => base.join(format!("d{number}")),
            };
            if directory != old {
                fs::create_dir(&directory).unwrap();
            }
            for file in 0..100 {
                fs::write(directory.join(file.to_string()), "x").unwrap();
            }
            fs::remove_dir_all(&directory).unwrap();
        }
        let done = started.elapsed();
        let operations = watch.operations();
        let cpu = watch.reader_time();
        println!(
            "{done:?} to do, {:?} to see; the reader took {} ns of CPU for each of {} operations",
            started.elapsed(),
            cpu.as_nanos() / operations.len() as u128,
            operations.len(),
        );
        let mut count: HashMap<(&str, usize), usize> = HashMap::new();
        for operation in &operations {
            let path = operation.path.as_deref().unwrap().strip_prefix(&base).unwrap();
            *count.entry((operation.kind.name(), path.components().count())).or_default() += 1;
        }
        assert_eq!(count[&("create", 2)], 20_000, "{count:?}");
        assert_eq!(count[&("delete", 2)], 20_000);
        assert_eq!(count[&("create", 1)], 199);
        assert_eq!(count[&("delete", 1)], 200);
        assert_eq!(count[&("close_write", 2)], 20_000);
        let pid = std::process::id();
        for operation in &operations {
            assert_eq!(operation.actor.process.as_ref().unwrap().pid, pid);
        }
        let actors: std::collections::HashSet<_> =
            operations.iter().map(|operation| Arc::as_ptr(&operation.actor)).collect();
        assert_eq!(actors.len(), 1, "one actor for all");
        check(&watch.collector.counters());
        watch.stop();
    }
}

impl Watch {
    /// CPU time that the readers of this process have taken: there is one here.
    fn reader_time(&self) -> Duration {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let readers = tasks.filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm == "fanotify\n")
        });
        let nanos = readers.filter_map(|task| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

#[test]
fn a_tree_that_was_there_is_removed_at_once() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    let mut wanted = std::collections::BTreeSet::new();
    for number in 0..500 {
        let path = base.join(format!("{}/{}/{}/{number}", number % 5, number % 7, number % 11));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("f"), "").unwrap();
        wanted.insert(path.join("f"));
        wanted.extend(path.ancestors().take_while(|p| **p != base).map(Path::to_owned));
    }
    // One process to remove them all, as fast as it can, before anything is read.
    let mut watch = Watch::new(&base);
    for number in 0..5 {
        fs::remove_dir_all(base.join(number.to_string())).unwrap();
    }
    let operations = watch.operations();
    let deleted: std::collections::BTreeSet<_> = operations
        .iter()
        .filter(|operation| operation.kind == OperationKind::Delete)
        .map(|operation| operation.path.clone().unwrap())
        .collect();
    assert_eq!(deleted, wanted);
    check(&watch.collector.counters());
    watch.stop();
}

#[test]
fn directories_that_move_while_their_events_wait() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    fs::create_dir_all(base.join("d0/sub")).unwrap();
    let mut watch = Watch::new(&base);
    let mut wanted = Vec::new();
    for number in 0..300 {
        let path = base.join(format!("d{number}/sub/f{number}"));
        fs::create_dir(&path).unwrap();
        wanted.push(path);
        let (from, to) = (base.join(format!("d{number}")), base.join(format!("d{}", number + 1)));
        fs::rename(from, to).unwrap();
    }
    let created: Vec<_> = watch
        .operations()
        .into_iter()
        .filter(|operation| operation.kind == OperationKind::Create)
        .map(|operation| operation.path.unwrap())
        .collect();
    assert_eq!(created, wanted);
    check(&watch.collector.counters());
    watch.stop();
}

/// What others do lies between the halves, and the batch may end there: more is read while it is
/// asked where these directories are.
#[test]
fn directories_that_are_exchanged_while_others_are_at_work() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let base = tmpfs.path();
    let places: Vec<_> = (0..100).map(|number| base.join(number.to_string())).collect();
    for place in &places {
        fs::create_dir_all(place.join("a/sub")).unwrap();
        fs::create_dir_all(place.join("b/sub")).unwrap();
    }
    let mut watch = Watch::new(&base);
    let mut others =
        spawn(Command::new("sh").arg("-c").arg("while :; do : > \"$0/x\"; done").arg(&base));
    for (number, place) in places.iter().enumerate() {
        let (one, other) = (place.join("a"), place.join("b"));
        rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        for path in [&one, &other] {
            fs::create_dir(path.join("sub/new")).unwrap();
        }
        let operations = watch.operations();
        let names = operations.iter().filter(|one| one.path.as_deref() != Some(&base.join("x")));
        let texts: Vec<_> = names.map(|operation| watch.text(operation)).collect();
        let told = [
            format!("rename {number}/a {number}/b exchange"),
            format!("rename {number}/b {number}/a exchange"),
            format!("create {number}/a/sub/new"),
            format!("create {number}/b/sub/new"),
        ];
        assert_eq!(texts, told);
    }
    others.kill().unwrap();
    others.wait().unwrap();
    check(&watch.collector.counters());
    watch.stop();
}

#[test]
fn a_storm_of_writes_is_a_handful() {
    use std::io::Write as _;
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let _alone = alone();
    let mut watch = Watch::new(&tmpfs.path());
    let mut file = fs::File::create_new(tmpfs.path().join("a")).unwrap();
    let started = Instant::now();
    for _ in 0..500_000 {
        file.write_all(b"x").unwrap();
    }
    drop(file);
    let took = started.elapsed();
    let operations = watch.operations();
    println!("{} operations for 500,000 writes in {took:?}", operations.len());
    // About one every 5 ms; a few more where the reader is slowed down while it reads.
    assert!(operations.len() < 10_000, "{}", operations.len());
    watch.stop();
}

#[test]
fn a_pipeline_that_does_not_keep_up() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let (sender, mut receiver) = mpsc::channel(10);
    let mut watch = Watch::with(&tmpfs.path(), |options| {
        options.sender = sender;
        options.spill = 90;
    });
    for number in 0..1000 {
        fs::create_dir(tmpfs.path().join(number.to_string())).unwrap();
    }
    let counters = watch.collector.counters();
    while counters.seen.load(Ordering::Relaxed) < 1000 {
        std::thread::yield_now();
    }
    let losses = watch.losses.clone();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        while let Some(observation) = receiver.blocking_recv() {
            all.push(observation);
        }
        all
    });
    watch.collector.stop().unwrap();
    drop(watch);
    let all = reader.join().unwrap();
    assert_eq!(all.iter().filter(|one| matches!(one, Observation::Operation(_))).count(), 55);
    // Half of what may be held stays free for others than this one directory.
    let gap = losses.take().unwrap();
    assert_eq!((gap.count, gap.scope), (Some(945), vec![tmpfs.path()]));
    check_sum(&counters);
}

fn check_sum(counters: &super::super::Counters) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(get(&counters.submitted) + get(&counters.lost), 1000, "{counters:?}");
}

#[test]
fn stopping_takes_in_what_is_queued() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let watch = Watch::new(&tmpfs.path());
    for number in 0..5000 {
        fs::create_dir(tmpfs.path().join(number.to_string())).unwrap();
    }
    let rest = watch.stop();
    let operations = rest.iter().filter(|o| matches!(o, Observation::Operation(_))).count();
    assert_eq!(operations, 5000);
    fs::create_dir(tmpfs.path().join("after")).unwrap();
}

#[test]
fn stopping_waits_for_a_pipeline_that_is_slow() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let (sender, mut receiver) = mpsc::channel(1);
    let mut watch = Watch::with(&tmpfs.path(), |options| options.sender = sender);
    for number in 0..1000 {
        fs::create_dir(tmpfs.path().join(number.to_string())).unwrap();
    }
    let slow = std::thread::spawn(move || {
        let mut operations = 0;
        while let Some(observation) = receiver.blocking_recv() {
            operations += usize::from(matches!(observation, Observation::Operation(_)));
            std::thread::sleep(Duration::from_millis(3));
        }
        operations
    });
    watch.collector.stop().unwrap();
    let losses = watch.losses.clone();
    drop(watch);
    assert_eq!(slow.join().unwrap(), 1000);
    assert_eq!(losses.take(), None);
}
