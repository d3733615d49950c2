//! Who did it.

use std::ffi::OsStr;
use std::fs;

use super::*;
use crate::process::{ArgsState, Credentials, Description, Key};

#[test]
fn this_process() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let mut watch = Watch::new(&tmpfs.path());
    fs::create_dir(tmpfs.path().join("d")).unwrap();
    let operations = watch.operations();
    let actor = &operations[0].actor;
    let process = actor.process.as_ref().unwrap();
    assert_eq!(process.pid, std::process::id());
    assert_eq!(process.executable, std::env::current_exe().unwrap().to_str().map(str::to_owned));
    let args: Vec<_> = std::env::args().collect();
    assert_eq!(process.command_line, Some(args.join(" ")));
    assert_eq!(process.args, Some(args));
    let parent = process.parent.as_ref().unwrap();
    assert_eq!(parent.pid, std::os::unix::process::parent_id());
    assert!(parent.executable.is_some());
    assert_eq!(actor.ancestors[0].pid, parent.pid);
    let user = actor.user.as_ref().unwrap();
    assert_eq!((user.id.as_deref(), user.name.as_deref()), (Some("0"), Some("root")));
    assert_eq!(user.effective.as_ref().map(|user| user.id.as_str()), Some("0"));
    let loginuid = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let loginuid = Some(loginuid).filter(|id| !id.is_empty() && id != "4294967295");
    assert_eq!(user.audit.as_ref().map(|user| user.id.clone()), loginuid);
    let apart = operations[0].time.since(process.start.unwrap());
    assert!(apart > 0, "started before it did something");
    assert_eq!(actor.unknown.len(), 0, "{:?}", actor.unknown);
    watch.stop();
}

/// Processes that are gone before their events are read have at least their id; what is made up of
/// records has everything.
#[test]
fn a_process_that_exits_at_once() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let mut watch = Watch::new(&tmpfs.path());
    let mut pids = Vec::new();
    for number in 0..20 {
        let file = tmpfs.path().join(number.to_string());
        let script = format!("exec 3> {}", file.display());
        let mut child = spawn(Command::new("sh").args(["-c", &script]));
        pids.push(child.id());
        child.wait().unwrap();
    }
    let operations = watch.operations();
    let created: Vec<_> = operations.iter().filter(|o| o.kind == OperationKind::Create).collect();
    let seen: Vec<_> = created.iter().map(|o| o.actor.process.as_ref().unwrap().pid).collect();
    assert_eq!(seen, pids);
    for operation in created {
        let actor = &operation.actor;
        let known = actor.process.as_ref().unwrap().executable.is_some();
        assert_eq!(known, actor.user.is_some() && actor.unknown.is_empty(), "{actor:?}");
    }
    watch.stop();
}

#[test]
fn a_process_that_is_gone_is_named_by_its_records() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let table = Arc::new(Mutex::new(Table::new(process::Options::default())));
    let records = Arc::clone(&table);
    let pid = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let shared = Arc::clone(&pid);
    let mut watch = Watch::with(&tmpfs.path(), |options| {
        options.table = table;
        // What the ring would tell: an execution and an exit.
        options.sync = Box::new(move || {
            let tgid = loop {
                match shared.load(std::sync::atomic::Ordering::Acquire) {
                    0 => std::thread::yield_now(),
                    tgid => break tgid,
                }
            };
            let key = Key { tgid, start: process::clock::Boot::now() - 1_000_000_000, exec_id: 3 };
            let credentials = Credentials {
                uid: 0,
                gid: 0,
                euid: 0,
                egid: 0,
                fsuid: 0,
                loginuid: 4_000_000,
                sessionid: 1,
            };
            let mut description = Description::new(key, OsStr::new("true").into(), credentials);
            description.exe = Some(Path::new("/usr/bin/true").into());
            description.args = Some(["true".into(), "--now".into()].into());
            description.args_state = ArgsState::Complete;
            let mut table = records.lock().unwrap();
            table.describe(description);
            table.exit(key, process::clock::Boot::now(), credentials);
        });
    });
    let file = tmpfs.path().join("f");
    let script = format!(": > {}", file.display());
    let mut child = spawn(Command::new("sh").args(["-c", &script]));
    let id = child.id();
    child.wait().unwrap();
    pid.store(id, std::sync::atomic::Ordering::Release);
    let operations = watch.operations();
    let of_child: Vec<_> = operations
        .iter()
        .filter(|operation| operation.path.as_ref() == Some(&file))
        .map(|operation| &operation.actor)
        .collect();
    assert!(!of_child.is_empty());
    for actor in of_child {
        let process = actor.process.as_ref().unwrap();
        assert_eq!(process.pid, id);
        assert_eq!(process.executable.as_deref(), Some("/usr/bin/true"));
        assert_eq!(process.command_line.as_deref(), Some("true --now"));
        let audit = actor.user.as_ref().unwrap().audit.as_ref().unwrap();
        assert_eq!((audit.id.as_str(), audit.name.as_deref()), ("4000000", None));
    }
    watch.stop();
}

#[test]
fn another_user() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    run("chmod", &["777", tmpfs.path().to_str().unwrap()]);
    let mut watch = Watch::new(&tmpfs.path());
    let file = tmpfs.path().join("f");
    // It waits for its input to end, so that it is there when its event is read.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "1", "--regid", "1", "--clear-groups", "sh", "-c"])
        .arg(format!("exec 3> {}; read x", file.display()))
        .stdin(std::process::Stdio::piped());
    let mut child = spawn(&mut command);
    while !file.exists() {
        std::thread::yield_now();
    }
    let operations = watch.operations();
    drop(child.stdin.take());
    child.wait().unwrap();
    let actor = &operations[0].actor;
    let user = actor.user.as_ref().unwrap();
    assert_eq!((user.id.as_deref(), user.name.as_deref()), (Some("1"), Some("daemon")));
    assert_eq!(user.group.as_ref().unwrap().id, "1");
    assert_eq!(user.filesystem.as_ref().unwrap().id, "1");
    let process = actor.process.as_ref().unwrap();
    assert_eq!(process.pid, child.id());
    assert!(process.command_line.as_ref().unwrap().starts_with("sh -c exec 3> "));
    watch.stop();
}

#[test]
fn the_agent_itself_is_left_out() {
    if !can_run() {
        return;
    }
    let tmpfs = Tmpfs::new();
    let mut watch = Watch::with(&tmpfs.path(), |options| {
        options.ignore_self = true;
        options.ignore = fim_common::ignored::Ignored::new(vec![tmpfs.path().join("state")], &[]);
    });
    fs::create_dir(tmpfs.path().join("own")).unwrap();
    let by_another = |name: &str| run("mkdir", &[tmpfs.path().join(name).to_str().unwrap()]);
    by_another("state");
    by_another("state/journal");
    by_another("other");
    let rest = {
        let mut paths = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while paths.is_empty() {
            if let Observation::Operation(operation) = watch.next(deadline) {
                paths.push(operation.path.unwrap());
            }
        }
        paths
    };
    assert_eq!(rest, [tmpfs.path().join("other")]);
    watch.stop();
}
