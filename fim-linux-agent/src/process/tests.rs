//! The table: records in, actors out.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use fim_common::record::ID_UNSET;

use super::clock::Boot;
use super::*;

const SECOND: u64 = 1_000_000_000;

/// A table that finds no process: everything it knows is from records.
fn table(capacity: usize) -> (tempfile::TempDir, Table) {
    let root = tempfile::tempdir().unwrap();
    let boot_id = root.path().join("proc/sys/kernel/random");
    std::fs::create_dir_all(&boot_id).unwrap();
    std::fs::write(boot_id.join("boot_id"), "1b4e28ba-2fa1-11d2-883f-0016d3cca427\n").unwrap();
    std::fs::create_dir_all(root.path().join("host/etc")).unwrap();
    let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
    std::fs::write(root.path().join("host/etc/passwd"), passwd).unwrap();
    std::fs::write(root.path().join("host/etc/group"), "wheel:x:10:ann\n").unwrap();
    let options = Options {
        proc: root.path().join("proc"),
        host_root: root.path().join("host"),
        capacity,
        weight: 1024 * 1024,
        keep: 60 * SECOND,
    };
    (root, Table::new(options))
}

fn key(tgid: u32, exec_id: u32) -> Key {
    Key { tgid, start: u64::from(tgid) * SECOND + 5, exec_id }
}

fn credentials() -> Credentials {
    Credentials {
        uid: 1000,
        gid: 10,
        euid: 0,
        egid: 0,
        fsuid: 77,
        loginuid: ID_UNSET,
        sessionid: ID_UNSET,
    }
}

fn description(key: Key, exe: &str) -> Description {
    let comm = exe.rsplit('/').next().unwrap();
    let mut description = Description::new(key, OsStr::new(comm).into(), credentials());
    description.exe = Some(Path::new(exe).into());
    description.cwd = Some(Path::new("/home/ann").into());
    description.args = Some([comm.into(), "-x".into(), "a b".into()].into());
    description.args_state = ArgsState::Complete;
    description
}

#[test]
fn an_actor_has_everything() {
    let (_root, mut table) = table(100);
    let mut init = description(key(1, 1), "/sbin/init");
    init.args = Some(["init".into()].into());
    table.describe(init);
    let mut vi = description(key(200, 4), "/usr/bin/vi");
    vi.tty = Tty::from_kernel(136 << 20 | 3);
    vi.ancestors = [
        Ancestor { key: key(100, 2), comm: OsStr::new("bash").into() },
        Ancestor { key: key(1, 1), comm: OsStr::new("init").into() },
    ]
    .into();
    table.describe(vi);
    let actor = table.actor(key(200, 4), Some(201), &credentials());

    let process = actor.process.as_ref().unwrap();
    assert_eq!((process.pid, process.thread.unwrap().id), (200, 201));
    assert_eq!(process.name.as_deref(), Some("vi"));
    assert_eq!(process.executable.as_deref(), Some("/usr/bin/vi"));
    assert_eq!(process.args.as_ref().unwrap().len(), 3);
    assert_eq!(process.command_line.as_deref(), Some("vi -x a b"));
    assert_eq!(process.working_directory.as_deref(), Some("/home/ann"));
    let tty = process.tty.as_ref().unwrap().char_device;
    assert_eq!((tty.major, tty.minor), (136, 3));
    let apart = process.start.unwrap().since(table.boot().to_wall(key(200, 4).start));
    assert!(apart.abs() < 1_000_000_000);

    // The parent was never described: what the child's record says of it.
    let parent = process.parent.as_ref().unwrap();
    assert_eq!((parent.pid, parent.name.as_deref()), (100, Some("bash")));
    assert_eq!(parent.executable, None);
    let executables: Vec<_> = actor.ancestors.iter().map(|a| a.executable.as_deref()).collect();
    assert_eq!(executables, [None, Some("/sbin/init")]);

    let user = actor.user.as_ref().unwrap();
    assert_eq!((user.id.as_deref(), user.name.as_deref()), (Some("1000"), Some("ann")));
    let group = user.group.as_ref().unwrap();
    assert_eq!((group.id.as_str(), group.name.as_deref()), ("10", Some("wheel")));
    assert_eq!(user.effective.as_ref().unwrap().name.as_deref(), Some("root"));
    assert_eq!(user.filesystem.as_ref().unwrap().id, "77");
    assert_eq!(user.filesystem.as_ref().unwrap().name, None);
    assert_eq!(user.audit, None, "an unset login uid is absent");
    assert!(actor.unknown.is_empty());
}

#[test]
fn operations_of_one_process_share_an_actor() {
    let (_root, mut table) = table(100);
    table.describe(description(key(7, 1), "/bin/a"));
    let first = table.actor(key(7, 1), Some(7), &credentials());
    assert!(Arc::ptr_eq(&first, &table.actor(key(7, 1), Some(7), &credentials())));
    let root = Credentials { uid: 0, ..credentials() };
    let other = table.actor(key(7, 1), Some(7), &root);
    assert_eq!(other.user.as_ref().unwrap().id.as_deref(), Some("0"));
    assert!(!Arc::ptr_eq(&first, &table.actor(key(7, 1), Some(8), &credentials())));
}

#[test]
fn executions_and_reused_ids_are_told_apart() {
    let (_root, mut table) = table(100);
    table.describe(description(key(7, 1), "/bin/a"));
    table.describe(description(key(7, 2), "/bin/b"));
    let reused = Key { start: 99 * SECOND, ..key(7, 1) };
    table.describe(description(reused, "/bin/c"));
    let mut ids = std::collections::HashSet::new();
    for (key, exe) in [(key(7, 1), "/bin/a"), (key(7, 2), "/bin/b"), (reused, "/bin/c")] {
        let actor = table.actor(key, None, &credentials());
        let process = actor.process.as_ref().unwrap();
        assert_eq!(process.executable.as_deref(), Some(exe));
        ids.insert(process.entity_id.clone().unwrap());
    }
    assert_eq!(ids.len(), 3);
}

#[test]
fn entity_ids_are_stable() {
    let (_root, mut table) = table(100);
    table.describe(description(key(7, 1), "/bin/a"));
    let actor = table.actor(key(7, 1), None, &credentials());
    assert_eq!(
        actor.process.as_ref().unwrap().entity_id.as_deref(),
        Some("0b1b4605c126f10f19ec9c07e3aec067"),
        "a change of this makes events of different versions of the agent incomparable",
    );
}

#[test]
fn a_fork_is_its_parent_until_it_executes() {
    let (_root, mut table) = table(100);
    table.describe(description(key(7, 1), "/bin/sh"));
    let child = Key { tgid: 8, start: 50 * SECOND, exec_id: 1 };
    table.fork(key(7, 1), child, credentials());
    table.exit(key(7, 1), 60 * SECOND, credentials());
    let actor = table.actor(child, None, &credentials());
    let process = actor.process.as_ref().unwrap();
    assert_eq!((process.pid, process.executable.as_deref()), (8, Some("/bin/sh")));
    assert_eq!(process.parent.as_ref().unwrap().pid, 7);
    assert_eq!(process.parent.as_ref().unwrap().command_line.as_deref(), Some("sh -x a b"));

    // Grandchildren of grandchildren keep eight ancestors.
    let mut above = child;
    for tgid in 9..30 {
        let next = Key { tgid, start: u64::from(tgid) * 100 * SECOND, exec_id: 1 };
        table.fork(above, next, credentials());
        above = next;
    }
    let actor = table.actor(above, None, &credentials());
    let pids: Vec<_> = actor.ancestors.iter().map(|ancestor| ancestor.pid).collect();
    assert_eq!(pids, (21..29).rev().collect::<Vec<_>>());
}

#[test]
fn what_is_not_known_is_said() {
    let (_root, mut table) = table(100);
    let mut hidden = description(key(7, 1), "/bin/a");
    hidden.args = None;
    hidden.args_state = ArgsState::NotResident;
    table.describe(hidden);
    let mut thread = Description::new(key(2, 0), OsStr::new("kworker/0:1").into(), credentials());
    thread.kernel_thread = true;
    thread.args_state = ArgsState::KernelThread;
    table.describe(thread);
    let mut gone = description(key(9, 1), "/tmp/x");
    gone.exe_deleted = true;
    table.describe(gone);

    let mut unknown = |key| {
        let actor = table.actor(key, None, &credentials());
        let process = actor.process.clone().unwrap();
        let unknown = actor.unknown.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
        (process.name.clone(), process.args.clone(), unknown.join(" "))
    };
    assert_eq!(unknown(key(7, 1)), (Some("a".into()), None, "process.args=not_resident".into()));
    assert_eq!(
        unknown(key(2, 0)),
        (
            Some("kworker/0:1".into()),
            None,
            "process.args=kernel_thread process.executable=kernel_thread".into()
        )
    );
    assert_eq!(unknown(key(9, 1)).2, "process.executable=deleted");
    // Its record was lost, and it is gone.
    let (name, args, why) = unknown(key(5, 1));
    assert_eq!((name, args), (None, None));
    assert!(why.contains("process.executable=exited"), "{why}");
}

#[test]
fn by_process_id_only() {
    let (_root, mut table) = table(100);
    let read = 1_000 * SECOND;
    let gone = |pid| Sighting { pid, alive: Alive::No, read };
    assert_eq!(table.actor_of(gone(0)).process, None, "never process 0");
    let actor = table.actor_of(gone(5));
    assert_eq!(actor.process.as_ref().unwrap().pid, 5);
    assert_eq!(actor.unknown["process"], "exited");
    assert_eq!(actor.user, None);

    table.describe(description(key(7, 1), "/bin/a"));
    let at_exit = Credentials { loginuid: 1000, ..credentials() };
    table.exit(key(7, 1), 900 * SECOND, at_exit);
    // Whoever has the id now is not who made the event.
    let next = Key { tgid: 7, start: 950 * SECOND, exec_id: 1 };
    table.describe(description(next, "/bin/b"));
    let actor = table.actor_of(gone(7));
    assert_eq!(actor.process.as_ref().unwrap().executable.as_deref(), Some("/bin/a"));
    let audit = actor.user.as_ref().unwrap().audit.as_ref().unwrap();
    assert_eq!(audit.name.as_deref(), Some("ann"), "the credentials at its end");
    // And one that was started after the event was read is not, either.
    let before = Sighting { pid: 7, alive: Alive::Unknown, read: 920 * SECOND };
    let actor = table.actor_of(before);
    assert_eq!(actor.process.as_ref().unwrap().executable.as_deref(), Some("/bin/a"));
}

/// The process is gone when its event is read, and the record of its end has not come yet.
#[test]
fn a_process_whose_end_is_not_told_yet_is_what_it_executed() {
    let (_root, mut table) = table(100);
    table.describe(description(key(7, 1), "/bin/parent"));
    let forked = key(8, 1);
    table.fork(key(7, 1), forked, credentials());
    let executed = Key { exec_id: 2, ..forked };
    table.describe(description(executed, "/bin/child"));
    let gone = Sighting { pid: 8, alive: Alive::No, read: 1_000 * SECOND };
    let executable = |table: &mut Table| {
        let actor = table.actor_of(gone);
        actor.process.as_ref().unwrap().executable.clone().unwrap()
    };
    assert_eq!(executable(&mut table), "/bin/child");
    table.exit(executed, 900 * SECOND, credentials());
    assert_eq!(executable(&mut table), "/bin/child");
}

#[test]
fn exited_processes_are_kept_a_while() {
    let (_root, mut table) = table(1000);
    for tgid in 1..=10 {
        table.describe(description(key(tgid, 1), "/bin/a"));
        table.exit(key(tgid, 1), u64::from(tgid) * SECOND, credentials());
    }
    assert_eq!(table.len(), 10);
    table.describe(description(key(100, 1), "/bin/a"));
    table.exit(key(100, 1), 65 * SECOND, credentials());
    assert_eq!(table.len(), 7, "those that ended before second 5 are forgotten");
    let actor = table.actor(key(6, 1), None, &credentials());
    assert!(actor.process.as_ref().unwrap().executable.is_some());
}

#[test]
fn the_table_is_bounded() {
    let (_root, mut table) = table(160);
    for tgid in 1..=1000 {
        table.describe(description(key(tgid, 1), "/bin/a"));
        if tgid % 2 == 0 {
            table.exit(key(tgid, 1), u64::from(tgid) * 1000, credentials());
        }
        assert!(table.len() <= 160);
    }
    let actor = table.actor(key(1000, 1), None, &credentials());
    assert!(actor.process.as_ref().unwrap().executable.is_some(), "the last one is there");
    // The first to go are those that have ended.
    assert!(table.len() > 140);
}

/// Of a shell that starts one program after the other, each with these arguments and one operation.
fn start_many(table: &mut Table, programs: u32, argument: &str) {
    table.describe(description(key(1, 1), "/bin/sh"));
    for tgid in 2..2 + programs {
        table.fork(key(1, 1), key(tgid, 1), credentials());
        let mut executed = description(key(tgid, 2), "/bin/a");
        executed.args = Some(["a".into(), argument.into()].into());
        executed.ancestors = [Ancestor { key: key(1, 1), comm: OsStr::new("sh").into() }].into();
        table.describe(executed);
        table.actor(key(tgid, 2), None, &credentials());
        table.exit(key(tgid, 2), u64::from(tgid) * 1000, credentials());
    }
}

#[test]
fn what_has_ended_is_bounded_by_its_bytes() {
    let (_root, mut table) = table(100_000);
    start_many(&mut table, 2_000, &"y".repeat(4_000));
    // Of each: two entries, the arguments once, and twice in the actor.
    assert!((50..2 * 1024 * 1024 / 12_000).contains(&table.len()), "{}", table.len());
    let executable = |table: &mut Table, tgid| {
        let actor = table.actor(key(tgid, 2), None, &credentials());
        actor.process.as_ref().unwrap().executable.clone()
    };
    assert_eq!(executable(&mut table, 2_001).as_deref(), Some("/bin/a"), "the last one is there");
    assert_eq!(executable(&mut table, 2), None, "the first has gone");
    let actor = table.actor(key(1, 1), None, &credentials());
    let shell = actor.process.as_ref().unwrap();
    assert_eq!(shell.executable.as_deref(), Some("/bin/sh"), "what lives stays");
}

#[test]
fn what_is_forgotten_weighs_nothing() {
    let (_root, mut table) = table(100_000);
    start_many(&mut table, 50, "b");
    assert!(table.weight() > 50 * 2 * 300);
    let later = |seconds: u64| Boot::now() + seconds * SECOND;
    table.exit(key(1, 1), later(100), credentials());
    table.describe(description(key(3, 9), "/bin/a"));
    table.exit(key(3, 9), later(200), credentials());
    assert_eq!(table.len(), 1);
    let (_root, mut fresh) = self::table(100_000);
    fresh.describe(description(key(3, 9), "/bin/a"));
    assert_eq!(table.weight(), fresh.weight());
}

#[test]
fn a_process_shares_what_it_has_of_its_parent() {
    let (_root, mut table) = table(100);
    start_many(&mut table, 2, "b");
    let shell = table.find(key(1, 1)).unwrap().description.clone();
    let forked = table.find(key(2, 1)).unwrap().description.clone();
    let executed = table.find(key(2, 2)).unwrap().description.clone();
    let same = |a: &Option<Arc<Path>>, b: &Option<Arc<Path>>| {
        Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
    };
    assert!(same(&shell.exe, &forked.exe) && same(&shell.cwd, &executed.cwd));
    assert!(Arc::ptr_eq(shell.args.as_ref().unwrap(), forked.args.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&forked.ancestors, &executed.ancestors));
    let other = table.find(key(3, 1)).unwrap();
    assert!(Arc::ptr_eq(&forked.ancestors, &other.description.ancestors));
}

#[test]
fn long_arguments_are_bounded_together() {
    let (_root, mut table) = table(100_000);
    for tgid in 1..=2000 {
        let mut long = description(key(tgid, 1), "/bin/a");
        long.args = Some(["a".into(), "y".repeat(100_000).into()].into());
        table.describe(long);
    }
    let args = |table: &mut Table, tgid| {
        let actor = table.actor(key(tgid, 1), None, &credentials());
        (actor.process.as_ref().unwrap().args.as_ref().unwrap().len(), actor.unknown.len())
    };
    assert_eq!(args(&mut table, 1), (2, 0));
    assert_eq!(args(&mut table, 2000), (1, 1), "and it is said");
}

#[test]
fn names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let (_root, mut table) = table(100);
    let mut odd = description(key(7, 1), "/bin/a");
    odd.exe = Some(Path::new(OsStr::from_bytes(b"/tmp/\xff")).into());
    table.describe(odd);
    let actor = table.actor(key(7, 1), None, &credentials());
    assert_eq!(actor.process.as_ref().unwrap().executable.as_deref(), Some("/tmp/\u{fffd}"));
}

#[test]
fn this_host() {
    let mut table = Table::new(Options::default());
    let described = table.snapshot().unwrap();
    assert!(described > 1);
    assert!(table.len() >= described / 2);
    let pid = std::process::id();
    let now = || Sighting { pid, alive: Alive::Yes, read: Boot::now() };
    let actor = table.actor_of(now());
    let process = actor.process.as_ref().unwrap();
    assert_eq!(
        process.executable.as_deref().map(Path::new),
        std::env::current_exe().ok().as_deref()
    );
    assert!(!actor.ancestors.is_empty());
    assert!(Arc::ptr_eq(&actor, &table.actor_of(now())));

    // The kernel's own key for the same execution finds what /proc described.
    let stat = procfs::stat(Path::new("/proc"), pid).unwrap();
    let key = Key { tgid: pid, start: stat.start() + 1_234_567, exec_id: 12 };
    let credentials = procfs::credentials(Path::new("/proc"), pid).unwrap().0;
    let by_record = table.actor(key, Some(pid), &credentials);
    assert_eq!(by_record.process.as_ref().unwrap().entity_id, process.entity_id);
    let other = Key { start: key.start + SECOND, ..key };
    let other = table.actor(other, None, &credentials);
    assert_eq!(other.process.as_ref().unwrap().executable, None, "started at another time");
}

#[test]
fn an_execution_is_noticed_without_records() {
    use std::io::{BufRead as _, BufReader};
    let mut child = std::process::Command::new("sh")
        .args(["-c", "echo; read x; exec cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut table = Table::new(Options::default());
    let mut name = |child: &std::process::Child| {
        let sighting = Sighting { pid: child.id(), alive: Alive::Yes, read: Boot::now() };
        table.actor_of(sighting).process.clone().unwrap()
    };
    output.read_line(&mut line).unwrap();
    let before = name(&child);
    assert_eq!(before.args.as_ref().unwrap()[1], "-c");
    use std::io::Write as _;
    input.write_all(b"go\nhello\n").unwrap();
    output.read_line(&mut line).unwrap();
    let after = name(&child);
    assert_eq!(after.name.as_deref(), Some("cat"));
    assert_ne!(before.entity_id, after.entity_id);
    assert_eq!(before.parent, after.parent);
    drop(input);
    child.wait().unwrap();
}

/// A path says which program it is only on the host itself.
#[test]
fn a_known_program_is_one_of_the_host() {
    let mut description = Description::new(key(7, 1), OsStr::new("dpkg").into(), credentials());
    assert!(description.known_program(false).is_none(), "by its name");
    description.exe = Some(Path::new("/usr/bin/dpkg").into());
    let program = description.known_program(false).and_then(|program| program.manager());
    assert_eq!(program, Some("dpkg"));
    assert!(description.known_program(true).is_none(), "in another mount namespace");
    let chrooted = Description { root: Some(Path::new("/srv/root").into()), ..description.clone() };
    assert!(chrooted.known_program(false).is_none(), "in another root");
    let deleted = Description { exe_deleted: true, ..description };
    assert!(deleted.known_program(false).is_none(), "removed");
}
