//! Who did it, also when that is hard to tell.

use std::os::unix::process::CommandExt as _;
use std::process::Child;

use crate::cases::{self, Case, Place, Table};
use crate::environment::{Account, ordinary_user, user_name};
use crate::event::{Event, path_text};
use crate::expect::{self, SHELL, shell};
use crate::operator::launch::login_is_possible;
use crate::operator::{Hold, Op, Operator, Raw, long_args};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "actors",
    alone: false,
    cases: &[
        Case::new("shell_that_exits_at_once", prepare, shell_that_exits_at_once),
        Case::new("many_shells_at_a_time", prepare, many_shells_at_a_time),
        Case::new("ordinary_user", prepare, user),
        Case::new("effective_user", prepare, effective_user),
        Case::new("login_user", prepare, login_user),
        Case::new("arguments_of_128_kib", prepare, arguments_of_128_kib),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

/// The directory is the ordinary user's.
fn prepare(place: &Place) {
    let user = ordinary_user();
    std::os::unix::fs::chown(&place.inside, Some(user.uid), Some(user.gid)).unwrap();
}

/// `echo x > name` by the ordinary user, and what is expected of its event.
fn echo(scene: &Scene<'_>, name: &str, account: &Account) -> (Child, String) {
    let script = format!("echo x > {}", scene.path(name).display());
    let child = shell(&script).uid(account.uid).gid(account.gid).spawn().unwrap();
    (child, script)
}

/// The event names the shell, its command line and its user.
fn is_by_shell(event: &Event, pid: u32, script: &str, account: &Account) {
    expect::change(event);
    assert_eq!(event.number("process.pid"), Some(pid.into()), "{event}");
    assert_eq!(event.text("process.executable"), Some(&**SHELL), "{event}");
    assert_eq!(event.list("process.args"), ["/bin/sh", "-c", script], "{event}");
    let line = event.text("process.command_line");
    assert_eq!(line, Some(&*format!("/bin/sh -c {script}")), "{event}");
    for (field, value) in [
        ("user.id", account.uid.to_string()),
        ("user.name", account.name.clone()),
        ("user.effective.id", account.uid.to_string()),
        ("user.group.id", account.gid.to_string()),
    ] {
        assert_eq!(event.text(field), Some(&*value), "{field}: {event}");
    }
    let own = u64::from(std::process::id());
    assert_eq!(event.number("process.parent.pid"), Some(own), "{event}");
}

fn shell_that_exits_at_once(scene: &Scene<'_>) {
    let account = ordinary_user();
    let (mut child, script) = echo(scene, "a", &account);
    assert!(child.wait().unwrap().success());
    let path = scene.path("a");
    let event = scene.wait("created by the shell", |event| {
        event.path() == path_text(&path) && event.text("fim.hash_state") == Some("exact")
    });
    is_by_shell(&event, child.id(), &script, &account);
    expect::state(&event, &path);
    expect::exact_hash(&event, b"x\n");
    assert_eq!(event.text("file.uid"), Some(&*account.uid.to_string()), "{event}");
}

/// Each is told from the others although all are gone when anybody can look.
fn many_shells_at_a_time(scene: &Scene<'_>) {
    let account = ordinary_user();
    let names: Vec<String> = (0..20).map(|number| format!("file-{number}")).collect();
    let started: Vec<_> = names.iter().map(|name| echo(scene, name, &account)).collect();
    for (name, (mut child, script)) in names.iter().zip(started) {
        assert!(child.wait().unwrap().success());
        let path = path_text(&scene.path(name));
        let event = scene.wait(&format!("created {path}"), |event| event.path() == path);
        assert_eq!(event.action(), "created", "{event}");
        is_by_shell(&event, child.id(), &script, &account);
    }
}

fn user(scene: &Scene<'_>) {
    let path = scene.path("a");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"mine\n".to_vec() };
    let account = ordinary_user();
    let report = Operator::new(op).user(&account).run();
    assert_eq!(report.uid, account.uid, "the operator is somebody else");
    let event = scene.content_created(&report, &path);
    assert_eq!(event.text("file.owner"), user_name(account.uid).as_deref(), "{event}");
}

/// As a set-user-ID program or a daemon does: started as one user, acting as another.
fn effective_user(scene: &Scene<'_>) {
    let path = scene.path("a");
    let account = ordinary_user();
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"whose?\n".to_vec() };
    // fanotify does not tell the user, who is read from /proc: of a process that is gone its user
    // at the last execution is told. So this one has to stay until its event has come.
    let operator = Operator::new(op).effective(account.uid).hold(Hold::BeforeExit);
    let mut running = operator.start();
    let report = running.report();
    assert_eq!((report.uid, report.euid), (0, account.uid), "the operator is somebody else");
    let event = scene.content_created(&report, &path);
    running.finish();
    assert_eq!(event.text("user.id"), Some("0"), "{event}");
    let effective = event.text("user.effective.id");
    assert_eq!(effective, Some(&*account.uid.to_string()), "{event}");
}

/// As after `sudo`: root does it, and it is known who logged in.
fn login_user(scene: &Scene<'_>) {
    let account = ordinary_user();
    if let Err(error) = login_is_possible(account.uid) {
        scene.skip(&format!("no login uid can be set here: {error}"));
        return;
    }
    let path = scene.path("a");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"by root\n".to_vec() };
    let report = Operator::new(op).login(account.uid).run();
    assert_eq!((report.uid, report.loginuid), (0, Some(account.uid)), "not logged in");
    let event = scene.content_created(&report, &path);
    assert_eq!(event.text("user.id"), Some("0"), "{event}");
    assert_eq!(event.text("user.audit.id"), Some(&*account.uid.to_string()), "{event}");
    assert_eq!(event.text("user.audit.name"), Some(&*account.name), "{event}");
}

/// They may be cut, which is then said; the event itself is not lost over it.
fn arguments_of_128_kib(scene: &Scene<'_>) {
    let path = scene.path("a");
    let op = Op::CreateWrite { path: Raw::from(&path), bytes: b"many words\n".to_vec() };
    let report = Operator::new(op).args(long_args(132, 1000)).run();
    let size: usize = report.args.iter().map(|arg| arg.as_os_str().len() + 1).sum();
    assert!(size > 128 * 1024, "only {size} bytes");
    let event = scene.content_created(&report, &path);
    if let Some(reason) = event.unknown("process.args") {
        let told: usize = event.list("process.args").iter().map(|arg| arg.len() + 1).sum();
        scene.note(&format!("{told} of {size} bytes of arguments are told: {reason}"));
    }
}
