//! Attempts that fail: never told as changes. fanotify does not see them at all; BPF tells of them,
//! with `event.outcome` `failure` and the error.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::agent::{Agent, Setup};
use crate::cases::{self, Case, Place, Table};
use crate::environment::{Backend, backend, beside_others, is_ready, ordinary_user, skip};
use crate::event::path_text;
use crate::expect::Known;
use crate::operator::{Op, Operator, Raw};
use crate::scene::Scene;
use crate::scratch::Scratch;

pub(crate) static TABLE: Table = Table {
    name: "failures",
    alone: false,
    cases: &[
        Case::new("denied_unlink", prepare, denied_unlink),
        Case::new("denied_create", prepare, denied_create),
        Case::new("denied_write", prepare, denied_write),
        Case::new("denied_nameless", prepare, denied_nameless),
        Case::new("denied_truncate", prepare, denied_truncate),
        Case::new("denied_chmod", prepare, denied_chmod),
        Case::new("denied_chown", prepare, denied_chown),
        Case::new("denied_rename", prepare, denied_rename),
        Case::new("mkdir_over_a_file", prepare, mkdir_over_a_file),
        Case::new("unlink_of_nothing", prepare, unlink_of_nothing),
        Case::new("rename_of_nothing", prepare, rename_of_nothing),
        Case::new("denied_again_and_again", prepare, denied_again_and_again),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

/// What a process attempts in one watched tree is told, whatever it attempts in another that nobody
/// asks about.
#[test]
fn noise_in_one_tree_hides_nothing_in_another() {
    const TEST: &str = "operations::failures::noise_in_one_tree_hides_nothing_in_another";
    if !is_ready(TEST) {
        return;
    }
    if backend() != Backend::Bpf {
        return skip(TEST, "fanotify does not see attempts");
    }
    let _guard = beside_others();
    let scratch = Scratch::new("noise");
    let [noisy, quiet] = ["noisy", "quiet"].map(|name| scratch.directory(name));
    let files = [noisy.join("f"), quiet.join("f")];
    for file in &files {
        fs::write(file, "nobody but root").unwrap();
    }
    let config = scratch.path().join("fim.toml");
    let rules = format!(
        "[[rule]]\nname = \"noisy\"\npaths = [{noisy:?}]\nattempts = false\n\
         [[rule]]\nname = \"quiet\"\npaths = [{quiet:?}]\n"
    );
    fs::write(&config, rules).unwrap();
    let agent = Agent::start(Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) });
    let script = "i=0; while [ $i -lt 1000 ]; do true 2>/dev/null >\"$0\"; i=$((i+1)); done; \
                  true 2>/dev/null >\"$1\"; exit 0";
    let account = ordinary_user();
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).args(&files).uid(account.uid).gid(account.gid);
    let mut child = shell.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let event = agent.event_of(&files[1], |event| !event.is_success());
    assert_eq!(event.number("process.pid"), Some(child.id().into()), "{event}");
    assert_eq!(event.text("fim.errno"), Some("EACCES"), "{event}");
    assert!(!agent.events().iter().any(|event| event.path() == path_text(&files[0])));
    agent.stop();
}

fn prepare(place: &Place) {
    fs::write(place.inside.join("a"), "nobody but root\n").unwrap();
}

/// Attempts it, and checks that nothing is told that did not happen.
fn fails(scene: &Scene<'_>, operator: Operator, errno: i32, name: &str) {
    let path = scene.path("a");
    let known = Known::of(&path);
    let report = operator.attempt();
    assert_eq!(report.errno, Some(errno), "it should have failed, and otherwise");
    for event in scene.settled() {
        assert_eq!(backend(), Backend::Bpf, "fanotify cannot have seen this: {event}");
        assert_eq!(event.text("event.outcome"), Some("failure"), "{event}");
        assert_eq!(event.text("fim.errno"), Some(name), "{event}");
        assert_eq!(event.number("process.pid"), Some(report.pid.into()), "{event}");
    }
    // As far as the operator is concerned: it changed nothing indeed.
    let again = Known::of(&path);
    assert!(known == again, "the file has changed");
}

fn denied(scene: &Scene<'_>, op: impl FnOnce(Raw) -> Op) {
    let op = op(Raw::from(&scene.path("a")));
    fails(scene, Operator::new(op).user(&ordinary_user()), libc::EACCES, "EACCES");
}

fn not_permitted(scene: &Scene<'_>, op: impl FnOnce(Raw) -> Op) {
    let op = op(Raw::from(&scene.path("a")));
    fails(scene, Operator::new(op).user(&ordinary_user()), libc::EPERM, "EPERM");
}

fn denied_unlink(scene: &Scene<'_>) {
    denied(scene, |path| Op::Unlink { path });
}

fn denied_create(scene: &Scene<'_>) {
    let path = Raw::from(&scene.path("new"));
    denied(scene, |_| Op::Create { path });
}

fn denied_write(scene: &Scene<'_>) {
    denied(scene, |path| Op::Write { path, bytes: b"x".to_vec() });
}

/// A file that would have had no name: what is told of is the directory.
fn denied_nameless(scene: &Scene<'_>) {
    let path = Raw::from(&scene.path("new"));
    let op = Op::LinkTemporary { path, bytes: b"x".to_vec() };
    fails(scene, Operator::new(op).user(&ordinary_user()), libc::EACCES, "EACCES");
    let told: Vec<_> = scene.settled().iter().map(|event| event.path().to_owned()).collect();
    match backend() {
        Backend::Bpf => assert_eq!(told, [path_text(&scene.inside)], "{}", scene.dump()),
        Backend::Fanotify => assert_eq!(told, [""; 0]),
    }
}

fn denied_truncate(scene: &Scene<'_>) {
    denied(scene, |path| Op::Truncate { path, size: 0 });
}

fn denied_chmod(scene: &Scene<'_>) {
    not_permitted(scene, |path| Op::Chmod { path, mode: 0o777 });
}

fn denied_chown(scene: &Scene<'_>) {
    let user = ordinary_user();
    not_permitted(scene, |path| Op::Chown { path, uid: user.uid, gid: user.gid });
}

fn denied_rename(scene: &Scene<'_>) {
    let to = Raw::from(&scene.path("b"));
    denied(scene, |from| Op::Rename { from, to });
}

fn mkdir_over_a_file(scene: &Scene<'_>) {
    let op = Op::Mkdir { path: Raw::from(&scene.path("a")) };
    fails(scene, Operator::new(op), libc::EEXIST, "EEXIST");
}

fn unlink_of_nothing(scene: &Scene<'_>) {
    let op = Op::Unlink { path: Raw::from(&scene.path("none")) };
    fails(scene, Operator::new(op), libc::ENOENT, "ENOENT");
}

fn rename_of_nothing(scene: &Scene<'_>) {
    let (from, to) = (Raw::from(&scene.path("none")), Raw::from(&scene.path("b")));
    fails(scene, Operator::new(Op::Rename { from, to }), libc::ENOENT, "ENOENT");
}

/// A process that tries in a loop is told some hundred times a second; what is not told is counted,
/// exactly.
fn denied_again_and_again(scene: &Scene<'_>) {
    const ATTEMPTS: u64 = 3_000;
    if backend() != Backend::Bpf {
        return scene.skip("fanotify does not see attempts");
    }
    let path = scene.path("a");
    let op = Op::TryOpen { path: Raw::from(&path), count: ATTEMPTS as u32 };
    let report = Operator::new(op).user(&ordinary_user()).run();
    let (mut told, mut counted) = (0, 0);
    scene.wait("all attempts", |event| {
        assert_eq!(event.text("event.outcome"), Some("failure"), "{event}");
        assert_eq!(event.number("process.pid"), Some(report.pid.into()), "{event}");
        for operation in event.at("fim.operations").as_array().into_iter().flatten() {
            let count = operation["count"].as_u64().unwrap_or_default();
            match operation["operation"].as_str() {
                Some("attempts_not_told") => counted += count,
                _ => told += count,
            }
        }
        told + counted >= ATTEMPTS
    });
    assert_eq!(told + counted, ATTEMPTS, "{told} told, {counted} counted");
    assert!(told < ATTEMPTS / 2, "each of them was told");
}
