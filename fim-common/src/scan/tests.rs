use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::baseline::Baseline;
use crate::baseline::test_volume::{tempdir, tmpfs};
use crate::object;
use crate::state::ObjectKind;

const RULE: ScanRule = ScanRule { hash: true, max_size: 1 << 30 };
static NEVER: AtomicBool = AtomicBool::new(false);

/// A tree to scan and a baseline beside it.
struct Bed {
    directory: tempfile::TempDir,
    baseline: Baseline,
    deep: bool,
}

impl Bed {
    fn new() -> Self {
        let directory = tempdir();
        fs::create_dir(directory.path().join("tree")).unwrap();
        let baseline = Baseline::open(directory.path()).unwrap();
        Self { directory, baseline, deep: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("tree").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn options(&self) -> Options<'static> {
        Options {
            limits: Limits { threads: 3, ..Limits::default() },
            deep: self.deep,
            cancel: &NEVER,
            progress: &|_| {},
        }
    }

    fn reconcile(&self, mode: Mode, rule: &RuleOf<'_>) -> (Summary, Vec<String>) {
        self.reconcile_root(mode, rule, &self.directory.path().join("tree"))
    }

    /// The summary, and `path: changes` of each difference, sorted.
    fn reconcile_root(&self, mode: Mode, rule: &RuleOf<'_>, root: &Path) -> (Summary, Vec<String>) {
        let roots = [Root { path: root.to_owned(), depth: None }];
        let scope = Scope { roots: &roots, rule, descend: &|_| true };
        let mut found = Vec::new();
        let summary = reconcile(&self.baseline, scope, mode, self.options(), &mut |difference| {
            let path = difference.path.strip_prefix(self.path("")).unwrap();
            let what = match (&difference.before, &difference.after) {
                (None, Some(_)) => "created".to_owned(),
                (Some(_), None) => "deleted".to_owned(),
                _ => format!("{:?}", difference.changes),
            };
            found.push(format!("{}: {what}", path.display()));
        })
        .unwrap();
        found.sort();
        assert_eq!(summary.differences, found.len() as u64);
        (summary, found)
    }

    fn first(&self) -> Summary {
        let (summary, found) = self.reconcile(Mode::First, &all);
        assert_eq!(found, [""; 0]);
        summary
    }
}

fn all(_: &Path) -> Option<ScanRule> {
    Some(RULE)
}

#[test]
fn walks_everything_once_with_hashes() {
    let bed = Bed::new();
    let mut expected = BTreeMap::new();
    for directory in 0..30 {
        for name in 0..40 {
            let name = format!("{directory}/{name}/file");
            bed.write(&name, &name);
            expected.insert(bed.path(&name), name);
        }
    }
    let roots = [Root { path: bed.path(""), depth: None }];
    let scope = Scope { roots: &roots, rule: &all, descend: &|_| true };
    let (mut files, mut directories) = (0, 0);
    let summary = walk(scope, bed.options(), &mut |path, state, hash| match state.kind {
        Some(ObjectKind::File) => {
            let content = expected.remove(&path).expect("once");
            assert_eq!(hash, Some(HashState::Exact));
            let alone = crate::hash::content(&path, state.id(), 1 << 20);
            assert_eq!(state.sha256, alone.sha256);
            let whole = ObjectState { sha256: None, ..state };
            assert_eq!(whole, object::state(&path).unwrap(), "{content}");
            files += 1;
        }
        _ => directories += 1,
    })
    .unwrap();
    assert_eq!((files, directories), (1200, 1 + 30 + 1200));
    assert_eq!((summary.objects, summary.errors), (2431, 0));
}

#[test]
fn a_large_directory_is_shared_and_compared_in_parts() {
    let bed = Bed::new();
    for number in 0..1500 {
        bed.write(&format!("{number:04}"), "x");
    }
    assert_eq!(bed.first().objects, 1501);
    assert_eq!(bed.baseline.count().unwrap(), 1501);
    // At and around the borders of the parts.
    for name in ["0000", "0511", "0512", "1023", "1499"] {
        fs::remove_file(bed.path(name)).unwrap();
    }
    for name in ["-", "0510a", "0511a", "9999"] {
        bed.write(name, "new");
    }
    let (_, found) = bed.reconcile(Mode::Compare, &all);
    let expected = [
        "-: created",
        "0000: deleted",
        "0510a: created",
        "0511: deleted",
        "0511a: created",
        "0512: deleted",
        "1023: deleted",
        "1499: deleted",
        "9999: created",
    ];
    assert_eq!(found, expected);
}

#[test]
fn differences_and_then_none() {
    let bed = Bed::new();
    for name in ["same", "content", "mode", "gone", "sub/gone", "sub/deep/gone", "replaced"] {
        bed.write(name, name);
    }
    symlink("same", bed.path("link")).unwrap();
    bed.write("kind", "");
    let first = bed.first();
    assert_eq!(first.objects, 1 + 7 + 2 + 2);
    assert_eq!(bed.reconcile(Mode::Compare, &all).1, [""; 0]);

    bed.write("content", "CONTENT");
    fs::set_permissions(bed.path("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(bed.path("gone")).unwrap();
    fs::remove_dir_all(bed.path("sub")).unwrap();
    bed.write("new/below", "x");
    fs::remove_file(bed.path("link")).unwrap();
    symlink("elsewhere", bed.path("link")).unwrap();
    fs::remove_file(bed.path("kind")).unwrap();
    fs::create_dir(bed.path("kind")).unwrap();
    fs::rename(bed.path("replaced"), bed.path("moved")).unwrap();
    let expected = [
        "content: [Content, Mtime]",
        "gone: deleted",
        "kind: [Type, ",
        "link: [",
        "mode: [Mode]",
        "moved: created",
        "new/below: created",
        "new: created",
        "replaced: deleted",
        "sub/deep/gone: deleted",
        "sub/deep: deleted",
        "sub/gone: deleted",
        "sub: deleted",
    ];
    // Twice the same without an update, and nothing after one.
    for mode in [Mode::Compare, Mode::Update] {
        let (_, found) = bed.reconcile(mode, &all);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} instead of {expected}");
        }
    }
    assert_eq!(bed.reconcile(Mode::Update, &all).1, [""; 0]);
    assert_eq!(bed.baseline.get(&bed.path("sub/deep/gone")).unwrap(), None);
    let state = bed.baseline.get(&bed.path("content")).unwrap().unwrap();
    let now = object::state(&bed.path("content")).unwrap();
    assert_eq!(ObjectState { sha256: None, ..state }, now);
}

#[test]
fn unchanged_content_is_not_read_unless_asked_for() {
    let mut bed = Bed::new();
    bed.write("file", "0123456789");
    assert_eq!(bed.first().bytes, 10);
    assert_eq!(bed.reconcile(Mode::Compare, &all).0.bytes, 0);
    assert_eq!(bed.first().bytes, 0, "nor by a first scan that goes on");
    // Content changed behind the file system's back: only the hash can tell.
    let mut state = bed.baseline.get(&bed.path("file")).unwrap().unwrap();
    state.sha256 = Some("00".repeat(32));
    bed.baseline.put(&bed.path("file"), &state).unwrap();
    assert_eq!(bed.reconcile(Mode::Compare, &all).1, [""; 0]);
    bed.deep = true;
    let (summary, found) = bed.reconcile(Mode::Compare, &all);
    assert_eq!(found, ["file: [Content]"]);
    assert_eq!(summary.bytes, 10);
}

#[test]
fn a_missing_hash_is_made_up_for_without_a_difference() {
    let bed = Bed::new();
    bed.write("file", "0123456789");
    let unhashed: &RuleOf<'_> = &|_| Some(ScanRule { hash: false, ..RULE });
    assert_eq!(bed.reconcile(Mode::First, unhashed).0.bytes, 0);
    let (summary, found) = bed.reconcile(Mode::Update, &all);
    assert_eq!((summary.bytes, found.as_slice()), (10, &[][..]));
    assert!(bed.baseline.get(&bed.path("file")).unwrap().unwrap().sha256.is_some());
    assert_eq!(bed.reconcile(Mode::Update, &all).0.bytes, 0);
    let small: &RuleOf<'_> = &|_| Some(ScanRule { hash: true, max_size: 9 });
    bed.write("large", "0123456789");
    let (summary, found) = bed.reconcile(Mode::Update, small);
    assert_eq!((summary.bytes, found.len()), (0, 1));
}

#[test]
fn the_rule_and_the_depth_decide() {
    let bed = Bed::new();
    for name in ["a.conf", "b.txt", "sub/c.conf", "sub/sub/d.conf", "skipped/e.conf"] {
        bed.write(name, name);
    }
    let rule: &RuleOf<'_> =
        &|path| path.extension().is_some_and(|extension| extension == "conf").then_some(RULE);
    let names = |depth| {
        let roots = [Root { path: bed.path(""), depth }];
        let descend: &Descend<'_> = &|path| !path.ends_with("skipped");
        let mut names = Vec::new();
        let scope = Scope { roots: &roots, rule, descend };
        walk(scope, bed.options(), &mut |path, _, _| {
            names.push(path.strip_prefix(bed.path("")).unwrap().display().to_string());
        })
        .unwrap();
        names.sort();
        names
    };
    assert_eq!(names(Some(0)), [""; 0]);
    assert_eq!(names(Some(1)), ["a.conf"]);
    assert_eq!(names(Some(2)), ["a.conf", "sub/c.conf"]);
    assert_eq!(names(None), ["a.conf", "sub/c.conf", "sub/sub/d.conf"]);
}

#[test]
fn what_no_rule_asks_for_any_more_is_forgotten_silently() {
    let bed = Bed::new();
    for name in ["kept", "dropped", "sub/kept", "sub/dropped"] {
        bed.write(name, name);
    }
    bed.first();
    let rule: &RuleOf<'_> = &|path| (!path.ends_with("dropped")).then_some(RULE);
    fs::remove_dir_all(bed.path("sub")).unwrap();
    let (summary, found) = bed.reconcile(Mode::Update, rule);
    assert_eq!(found, ["sub/kept: deleted", "sub: deleted"]);
    assert_eq!(summary.forgotten, 2);
    assert_eq!(bed.baseline.count().unwrap(), 2);
}

#[test]
fn directories_that_are_not_in_scope_themselves() {
    let bed = Bed::new();
    bed.write("home/u/.ssh/keys", "x");
    let rule: &RuleOf<'_> = &|path| path.ends_with("keys").then_some(RULE);
    bed.reconcile(Mode::First, rule);
    assert_eq!(bed.baseline.count().unwrap(), 1);
    fs::rename(bed.path("home/u"), bed.path("home/v")).unwrap();
    let (_, found) = bed.reconcile(Mode::Update, rule);
    assert_eq!(found, ["home/u/.ssh/keys: deleted", "home/v/.ssh/keys: created"]);
}

#[test]
fn a_directory_that_became_a_link_to_another() {
    let bed = Bed::new();
    bed.write("dir/file", "x");
    bed.first();
    fs::rename(bed.path("dir"), bed.directory.path().join("outside")).unwrap();
    symlink(bed.directory.path().join("outside"), bed.path("dir")).unwrap();
    let (_, found) = bed.reconcile(Mode::Update, &all);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("dir/file: deleted"), "{found:?}");
    assert!(found[1].starts_with("dir: [Type"), "{found:?}");
}

#[test]
fn a_root_that_is_a_file_appears_changes_and_goes() {
    let bed = Bed::new();
    let path = bed.path("file");
    let reconcile = || bed.reconcile_root(Mode::Update, &all, &path).1;
    assert_eq!(reconcile(), [""; 0]);
    bed.write("file", "x");
    assert_eq!(reconcile(), ["file: created"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(reconcile(), ["file: [Mode]"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(reconcile(), ["file: deleted"]);
    assert_eq!(reconcile(), [""; 0]);
}

#[test]
fn a_root_that_is_gone_takes_its_tree_along() {
    let bed = Bed::new();
    bed.write("r/a/b", "x");
    bed.write("r-side/a", "x");
    bed.first();
    fs::remove_dir_all(bed.path("r")).unwrap();
    let (_, found) = bed.reconcile_root(Mode::Update, &all, &bed.path("r"));
    assert_eq!(found, ["r/a/b: deleted", "r/a: deleted", "r: deleted"]);
    assert_eq!(bed.baseline.count().unwrap(), 3);
}

#[test]
fn overlapping_roots_are_looked_at_once() {
    let root = |path: &str, depth| Root { path: path.into(), depth };
    let roots = [
        root("/etc", Some(1)),
        root("/etc/ssh", None),
        root("/etc/ssh/keys", Some(3)),
        root("/usr", None),
        root("/usr", None),
        root("/usr/bin", None),
        root("/a", Some(2)),
        root("/a/b", Some(1)),
        root("/a/b/c", Some(1)),
    ];
    let paths: Vec<_> = distinct(&roots).iter().map(|root| root.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/etc", "/etc/ssh", "/usr", "/a", "/a/b/c"]);

    let bed = Bed::new();
    bed.write("sub/file", "x");
    let roots =
        [Root { path: bed.path(""), depth: Some(1) }, Root { path: bed.path("sub"), depth: None }];
    for path in ["sub", "sub/gone"] {
        bed.baseline.put(&bed.path(path), &ObjectState::default()).unwrap();
    }
    bed.baseline.flush().unwrap();
    let scope = Scope { roots: &roots, rule: &all, descend: &|_| true };
    let mut found = Vec::new();
    reconcile(&bed.baseline, scope, Mode::Compare, bed.options(), &mut |difference| {
        found.push(difference.path);
    })
    .unwrap();
    found.sort();
    assert_eq!(
        found,
        [bed.path(""), bed.path("sub/file"), bed.path("sub/gone")]
            .map(|path| path.components().collect::<PathBuf>())
    );
}

#[test]
fn pseudo_file_systems_are_not_entered() {
    let roots =
        [Root { path: "/proc".into(), depth: None }, Root { path: "/sys".into(), depth: None }];
    let scope = Scope { roots: &roots, rule: &all, descend: &|_| true };
    let bed = Bed::new();
    let mut found = Vec::new();
    let summary = walk(scope, bed.options(), &mut |path, _, _| found.push(path)).unwrap();
    assert_eq!((found, summary.errors), (vec!["/proc".into(), "/sys".into()], 0));
}

#[test]
fn other_mounts_are_entered() {
    let Some(volume) = tmpfs("size=1m") else { return };
    fs::write(volume.path().join("file"), b"x").unwrap();
    let parent = volume.path().parent().unwrap();
    let mount = volume.path().to_owned();
    let roots = [Root { path: parent.to_owned(), depth: None }];
    let within: &Descend<'_> = &|path| path.starts_with(&mount);
    let rule: &RuleOf<'_> = &|path| path.starts_with(&mount).then_some(RULE);
    let scope = Scope { roots: &roots, rule, descend: within };
    let mut found = Vec::new();
    let bed = Bed::new();
    walk(scope, bed.options(), &mut |path, _, _| found.push(path)).unwrap();
    found.sort();
    assert_eq!(found, [mount.clone(), mount.join("file")]);
}

#[test]
fn names_of_any_bytes_and_paths_of_any_length() {
    let bed = Bed::new();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n\x1b[31m \\");
    fs::write(bed.path("").join(odd), b"x").unwrap();
    // 40 directories of 200 bytes: twice PATH_MAX.
    let name = "n".repeat(200);
    let mut directory =
        object::Handle::open_directory_at(object::Place::WORKING, &bed.path("")).unwrap();
    let mut expected = bed.path("");
    for _ in 0..40 {
        rustix::fs::mkdirat(&directory, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
        directory = object::Handle::open_directory_at(directory.place(), Path::new(&name)).unwrap();
        expected.push(&name);
    }
    let summary = bed.first();
    assert_eq!((summary.objects, summary.errors), (42, 0));
    assert!(bed.baseline.get(&expected).unwrap().is_some());
    assert!(bed.baseline.get(&bed.path("").join(odd)).unwrap().is_some());
    assert_eq!(bed.reconcile(Mode::Update, &all).1, [""; 0]);
}

#[test]
fn a_wide_and_deep_tree_does_not_use_up_descriptors() {
    let bed = Bed::new();
    // Each level has two directories, so that one always waits and holds on to its parent.
    let mut path = bed.path("");
    for _ in 0..700 {
        fs::create_dir(path.join("a")).unwrap();
        fs::create_dir(path.join("b")).unwrap();
        path.push("b");
    }
    let most = Cell::new(0);
    let roots = [Root { path: bed.path(""), depth: None }];
    let scope = Scope { roots: &roots, rule: &all, descend: &|_| true };
    let summary = walk(
        scope,
        Options { limits: Limits { threads: 1, ..Limits::default() }, ..bed.options() },
        &mut |_, _, _| {
            let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
            most.set(most.get().max(open));
        },
    )
    .unwrap();
    assert_eq!((summary.objects, summary.errors), (1401, 0));
    // Other tests run in this process and have theirs.
    assert!(most.get() < 600, "{} descriptors", most.get());
}

#[test]
fn cancelled_scans_say_so_and_take_nothing_for_gone() {
    let bed = Bed::new();
    for number in 0..2000 {
        bed.write(&format!("{}/{number}", number % 50), "x");
    }
    bed.first();
    let cancel = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    let rule: &RuleOf<'_> = &|_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 300 {
            cancel.store(true, Ordering::Relaxed);
        }
        Some(RULE)
    };
    let roots = [Root { path: bed.path(""), depth: None }];
    let scope = Scope { roots: &roots, rule, descend: &|_| true };
    let options = Options { cancel: &cancel, ..bed.options() };
    let summary = reconcile(&bed.baseline, scope, Mode::Update, options, &mut |_| {}).unwrap();
    assert!(summary.cancelled);
    assert!(summary.objects < 2050, "{summary:?}");
    assert_eq!(summary.differences, 0);
    assert_eq!(bed.baseline.count().unwrap(), 2051);
}

#[test]
fn what_the_pipeline_has_taken_into_account_is_not_reported_again() {
    let bed = Bed::new();
    for name in ["updated", "deleted", "untouched"] {
        bed.write(name, "old");
    }
    bed.first();
    bed.write("updated", "new");
    bed.write("created", "new");
    fs::remove_file(bed.path("deleted")).unwrap();
    bed.write("untouched", "new");
    // The pipeline's writes come after the threads have read, before the findings are taken: the
    // rule is asked by the threads, and the committed baseline they read is older.
    let once = std::sync::Once::new();
    let rule: &RuleOf<'_> = &|_| {
        once.call_once(|| {
            for name in ["updated", "created"] {
                let path = bed.path(name);
                let mut state = object::state(&path).unwrap();
                state.sha256 = crate::hash::content(&path, None, 100).sha256;
                bed.baseline.put(&path, &state).unwrap();
            }
            bed.baseline.remove(&bed.path("deleted")).unwrap();
        });
        Some(RULE)
    };
    let (_, found) = bed.reconcile(Mode::Update, rule);
    assert_eq!(found, ["untouched: [Content, Mtime]"]);
}

#[test]
fn progress_is_shown_and_ends_with_the_sum() {
    let bed = Bed::new();
    for number in 0..100 {
        bed.write(&number.to_string(), "12345");
    }
    let last = Cell::new(Progress::default());
    let progress = |progress| last.set(progress);
    let options = Options { progress: &progress, ..bed.options() };
    let roots = [Root { path: bed.path(""), depth: None }];
    let scope = Scope { roots: &roots, rule: &all, descend: &|_| true };
    walk(scope, options, &mut |_, _, _| {}).unwrap();
    assert_eq!(last.get(), Progress { objects: 101, bytes: 500 });
}
