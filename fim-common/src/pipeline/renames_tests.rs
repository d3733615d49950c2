//! Directories that are renamed, with what they hold and what is under way in them; and files that
//! are changed through a name that is gone.

use super::*;
use crate::event::Provider;
use crate::time::Timestamp;

/// Of "text".
const SHA: &str = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";

fn rename(from: &Path, to: &Path, exchange: bool) -> Operation {
    let kind = OperationKind::Rename {
        from: Some(from.to_owned()),
        from_in_scope: true,
        to_in_scope: true,
        replaced: None,
        exchange,
    };
    let mut renamed = operation(kind, to, 7);
    renamed.after.kind = Some(ObjectKind::Dir);
    renamed
}

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        one,
        rustix::fs::CWD,
        other,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
}

/// Action, path below the watched directory, earlier path, and by which process.
fn told(bench: &Bench, events: &[Event]) -> Vec<(Action, String, Option<String>, u32)> {
    let below = |path: &str| {
        let below = Path::new(path).strip_prefix(bench.path("")).unwrap_or(Path::new(path));
        below.to_string_lossy().into_owned()
    };
    events
        .iter()
        .map(|event| {
            let from = event.fim.before.as_ref().and_then(|before| before.path.as_deref());
            let by = event.process.as_ref().map_or(0, |process| process.pid);
            let path = below(&event.file.as_ref().unwrap().path);
            (event.event.action, path, from.map(below), by)
        })
        .collect()
}

fn baseline_of(bench: &Bench) -> Baseline {
    Baseline::open(bench.state.path()).unwrap()
}

fn hash(event: &Event) -> Option<&str> {
    event.file.as_ref()?.hash.as_ref().map(|hash| hash.sha256.as_str())
}

/// `cp -r src new.tmp && mv new.tmp new`: all is done before anything is looked at.
#[test]
fn what_is_under_way_in_a_directory_goes_along_with_it() {
    for closes_before in [true, false] {
        let bench = Bench::new();
        let (from, to) = (bench.path("new.tmp"), bench.path("new"));
        let events = bench.run(async |sender| {
            fs::create_dir(&from).unwrap();
            fs::write(from.join("f"), "text").unwrap();
            fs::create_dir(from.join("d")).unwrap();
            let mut below = operation(OperationKind::Create, &from.join("d"), 7);
            below.after.kind = Some(ObjectKind::Dir);
            let mut made = operation(OperationKind::Create, &from, 7);
            made.after.kind = Some(ObjectKind::Dir);
            let created = operation(OperationKind::Create, &from.join("f"), 7);
            let opened = operation(OPEN, &from.join("f"), 7);
            fs::rename(&from, &to).unwrap();
            for one in [made, below, created, opened] {
                send(sender, one).await;
            }
            let mut closed = operation(close(0, Modified::Yes), &to.join("f"), 7);
            if closes_before {
                // It is to be hashed where it is no more, before the rename is told.
                closed.path = Some(from.join("f"));
                let renamed = rename(&from, &to, false);
                bench.before_fence(move |_| vec![renamed]);
                send(sender, closed).await;
                // What was told of the rename tells that it was taken in.
                bench.events(5).await;
            } else {
                send(sender, rename(&from, &to, false)).await;
                send(sender, closed).await;
            }
        });
        let told = told(&bench, &events);
        assert!(
            told.contains(&(Action::Created, "new/f".into(), None, 7)),
            "{closes_before} {told:?}"
        );
        assert_eq!(told.len(), 4, "{closes_before} {told:?}");
        let sub = baseline_of(&bench).get(&to.join("d")).unwrap().unwrap();
        assert_eq!(sub.kind, Some(ObjectKind::Dir));
        let created = events.iter().find(|event| event.file.as_ref().unwrap().path.ends_with("/f"));
        assert_eq!(hash(created.unwrap()), Some(SHA), "{closes_before}");
        let baseline = baseline_of(&bench);
        let known = baseline.get(&to.join("f")).unwrap().unwrap();
        assert_eq!(known.sha256.as_deref(), Some(SHA));
        assert_eq!(baseline.get(&from.join("f")).unwrap(), None);
    }
}

/// A rule as that for `authorized_keys`: the directories between are nobody's.
fn keys() -> Bench {
    let mut bench = Bench::new();
    let pattern =
        format!("{}/*/.ssh/keys", bench.path("").display().to_string().trim_end_matches('/'));
    let patterns = Pattern::parse(&pattern).unwrap();
    bench.policy = Some(Policy::new(vec![Rule::new("keys", patterns)]));
    bench
}

fn ann(bench: &Bench, name: &str) -> PathBuf {
    bench.path("ann").join(name)
}

async fn write(bench: &Bench, sender: &mpsc::Sender<Observation>, name: &str) {
    let path = ann(bench, name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    first_file(bench, sender, &path).await;
}

/// The first that is done: a file is made, which is told.
async fn first_file(bench: &Bench, sender: &mpsc::Sender<Observation>, path: &Path) {
    fs::write(path, "text").unwrap();
    send(sender, operation(OperationKind::Create, path, 1)).await;
    send(sender, operation(close(0, Modified::Yes), path, 1)).await;
    // agent_started, and this.
    bench.events(2).await;
}

#[test]
fn what_comes_and_goes_with_a_directory_that_no_rule_names_is_told() {
    let bench = keys();
    let events = bench.run(async |sender| {
        write(&bench, sender, ".ssh/keys").await;
        // Not watched where it is made.
        fs::create_dir(ann(&bench, "prepared")).unwrap();
        fs::write(ann(&bench, "prepared/keys"), "mine").unwrap();
        for (from, to) in [(".ssh", "old"), ("prepared", ".ssh")] {
            let (from, to) = (ann(&bench, from), ann(&bench, to));
            fs::rename(&from, &to).unwrap();
            send(sender, rename(&from, &to, false)).await;
        }
        bench.events(4).await;
    });
    let told = told(&bench, &events);
    assert_eq!(
        told,
        [
            (Action::Created, "ann/.ssh/keys".into(), None, 1),
            (Action::Moved, "ann/old/keys".into(), Some("ann/.ssh/keys".into()), 7),
            (Action::Moved, "ann/.ssh/keys".into(), Some("ann/prepared/keys".into()), 7),
        ]
    );
    let baseline = baseline_of(&bench);
    assert_eq!(baseline.get(&ann(&bench, ".ssh/keys")).unwrap().unwrap().size, Some(4));
    assert_eq!(baseline.get(&ann(&bench, "old/keys")).unwrap(), None);
}

#[test]
fn a_home_that_is_renamed_takes_what_is_watched_along() {
    let bench = keys();
    let events = bench.run(async |sender| {
        write(&bench, sender, ".ssh/keys").await;
        let (from, to) = (bench.path("ann"), bench.path("bob"));
        fs::rename(&from, &to).unwrap();
        send(sender, rename(&from, &to, false)).await;
        bench.events(3).await;
    });
    let moved = (Action::Moved, "bob/.ssh/keys".into(), Some("ann/.ssh/keys".into()), 7);
    assert_eq!(told(&bench, &events)[1..], [moved]);
    assert_eq!(hash(&events[1]), Some(SHA));
    let baseline = baseline_of(&bench);
    let known = baseline.get(&bench.path("bob/.ssh/keys")).unwrap().unwrap();
    assert_eq!(known.sha256.as_deref(), Some(SHA));
}

#[test]
fn directories_that_no_rule_names_exchange_what_they_hold() {
    let bench = keys();
    let events = bench.run(async |sender| {
        write(&bench, sender, ".ssh/keys").await;
        fs::create_dir(ann(&bench, "prepared")).unwrap();
        fs::write(ann(&bench, "prepared/keys"), "mine!").unwrap();
        let (one, other) = (ann(&bench, ".ssh"), ann(&bench, "prepared"));
        exchange(&one, &other);
        send(sender, rename(&one, &other, true)).await;
        send(sender, rename(&other, &one, true)).await;
        bench.events(4).await;
    });
    let mut told = told(&bench, &events);
    told.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        told[..2],
        [
            (Action::Created, "ann/.ssh/keys".into(), None, 1),
            (Action::Moved, "ann/.ssh/keys".into(), Some("ann/prepared/keys".into()), 7),
        ]
    );
    let away = (Action::Moved, "ann/prepared/keys".into(), Some("ann/.ssh/keys".into()), 7);
    assert_eq!(told[2..], [away]);
    let baseline = baseline_of(&bench);
    assert_eq!(baseline.get(&ann(&bench, ".ssh/keys")).unwrap().unwrap().size, Some(5));
}

/// A file with two names that loses the first; which file.
async fn one_of_two_names_goes(
    bench: &Bench,
    sender: &mpsc::Sender<Observation>,
    first: &Path,
    second: &Path,
) -> Option<ObjectId> {
    first_file(bench, sender, first).await;
    fs::hard_link(first, second).unwrap();
    let existing = Some(first.to_owned());
    let linked = OperationKind::Link { first: false, elsewhere: None, existing };
    send(sender, operation(linked, second, 1)).await;
    bench.events(3).await;
    let object = object(first);
    fs::remove_file(first).unwrap();
    send(sender, Operation { object, ..operation(OperationKind::Delete, first, 1) }).await;
    object
}

/// Who has a file open goes on after the name by which it was opened is gone.
#[test]
fn what_is_done_through_a_name_that_is_gone_is_told_of_the_one_that_is_left() {
    let bench = Bench::new();
    let (gone, left) = (bench.path("gone"), bench.path("left"));
    let events = bench.run(async |sender| {
        let object = one_of_two_names_goes(&bench, sender, &gone, &left).await;
        let after =
            ObjectState { kind: Some(ObjectKind::File), nlink: Some(1), ..ObjectState::default() };
        fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let after_mode = ObjectState { mode: Some(0o600), ..after.clone() };
        let mode = operation(OperationKind::SetAttributes, &gone, 7);
        send(sender, Operation { object, after: after_mode, ..mode }).await;
        bench.events(5).await;
        fs::write(&left, "other").unwrap();
        let closed = operation(close(0, Modified::Yes), &gone, 7);
        send(sender, Operation { object, after, ..closed }).await;
        bench.events(6).await;
    });
    let told = told(&bench, &events);
    let last: Vec<_> =
        told.iter().rev().take(2).rev().map(|(a, path, _, by)| (*a, path.as_str(), *by)).collect();
    assert_eq!(
        last,
        [(Action::AttributesModified, "left", 7), (Action::Updated, "left", 7)],
        "{told:?}"
    );
    assert_eq!(told.len(), 5, "{told:?}");
    let updated = events.last().unwrap();
    assert_eq!(updated.fim.hash_state, Some(HashState::Exact));
    assert!(updated.fim.changes.contains(&Property::Content));
    assert!(updated.fim.link_path.as_ref().unwrap().ends_with("/gone"));
}

/// Whoever writes sets the time back before the file is closed.
#[test]
fn a_write_whose_time_is_set_back_is_told() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        first_file(&bench, sender, &path).await;
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        send(sender, operation(OPEN, &path, 7)).await;
        fs::write(&path, "TEXT").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let mut set = operation(OperationKind::SetAttributes, &path, 7);
        set.before.mtime = Some(Timestamp::now());
        set.after.mtime = Some(Timestamp::from(modified));
        send(sender, set).await;
        send(sender, operation(close(0, Modified::No), &path, 7)).await;
        bench.events(4).await;
    });
    let updated = events.last().unwrap();
    assert_eq!(updated.event.action, Action::Updated, "{events:#?}");
    assert!(updated.fim.changes.contains(&Property::Content));
    assert_eq!(updated.event.provider, Some(Provider::Bpf));
}

/// The time is another at the close, because it was set, and not because anything was written.
#[test]
fn a_time_that_is_set_is_no_write() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        first_file(&bench, sender, &path).await;
        send(sender, operation(OPEN, &path, 7)).await;
        let mut set = operation(OperationKind::SetAttributes, &path, 7);
        set.before.mtime = crate::object::stat(&path).unwrap().mtime;
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        set.after.mtime = crate::object::stat(&path).unwrap().mtime;
        send(sender, set).await;
        bench.events(3).await;
        send(sender, operation(close(0, Modified::Yes), &path, 7)).await;
        send(sender, operation(OperationKind::Delete, &path, 7)).await;
        bench.events(4).await;
    });
    let actions: Vec<Action> = events.iter().map(|event| event.event.action).collect();
    assert!(!actions.contains(&Action::Updated), "{events:#?}");
}

/// A symbolic link has the name by which a file was opened, and the file has another one.
#[test]
fn what_took_the_name_of_a_file_says_nothing_of_its_content() {
    let bench = Bench::new();
    let (used, other) = (bench.path("used"), bench.path("other"));
    let events = bench.run(async |sender| {
        let object = one_of_two_names_goes(&bench, sender, &used, &other).await;
        std::os::unix::fs::symlink("/nowhere", &used).unwrap();
        let after = ObjectState { kind: Some(ObjectKind::Symlink), ..ObjectState::default() };
        let created = operation(OperationKind::Create, &used, 1);
        send(sender, Operation { after, ..created }).await;
        bench.events(5).await;
        fs::write(&other, "22\n").unwrap();
        // fanotify tells it by the name under which it was opened, and no state.
        let closed = operation(close(0, Modified::Yes), &used, 7);
        send(sender, Operation { object, after: ObjectState::default(), ..closed }).await;
        bench.events(7).await;
    });
    let updated = events.last().unwrap();
    assert!(updated.file.as_ref().unwrap().path.ends_with("/other"), "{events:#?}");
    assert_eq!(updated.fim.hash_state, Some(HashState::Exact));
    let known = baseline_of(&bench).get(&other).unwrap().unwrap();
    let sha256 = known.sha256.as_deref().map(ToString::to_string);
    assert_eq!(
        sha256.as_deref(),
        Some("f14b4987904bcb5814e4459a057ed4d20f58a633152288a761214dcd28780b56")
    );
}
