//! What holds for every event, whatever it tells of.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::environment::{Backend, backend, group_name, user_name};
use crate::event::{Event, nanos, path_text, sha256};
use crate::operator::Report;

/// A change that was seen when it was made.
pub(crate) fn change(event: &Event) {
    assert_eq!(event.text("event.provider"), Some(backend().name()), "{event}");
    assert_eq!(event.text("event.kind"), Some("event"), "{event}");
    change_of_any_provider(event);
}

/// A change, however it became known.
pub(crate) fn change_of_any_provider(event: &Event) {
    assert!(event.is_success(), "{event}");
    assert!(!event.has("fim.errno"), "{event}");
    assert_eq!(event.list("event.category"), ["file"], "{event}");
    let types = event.list("event.type");
    let kind = match event.action() {
        "created" => Some("creation"),
        "updated" | "attributes_modified" => Some("change"),
        "deleted" => Some("deletion"),
        _ => None,
    };
    assert!(!types.is_empty() && kind.is_none_or(|kind| types.contains(&kind)), "{event}");
    assert!(event.has("rule.name") && event.has("event.severity"), "{event}");
}

/// The event names the process of `report`, and its user.
pub(crate) fn actor(event: &Event, report: &Report) {
    match backend() {
        // A close is told of the process that opened the file, and a store through a mapping is
        // told by nothing else; the thread may be another one.
        Backend::Bpf
            if event
                .operations()
                .iter()
                .all(|name| ["open_write", "map", "close_write"].contains(name)) => {}
        Backend::Bpf => {
            assert_eq!(event.number("process.thread.id"), Some(report.tid.into()), "{event}");
        }
        // fanotify tells of processes, not of threads (it could, but then not of processes).
        Backend::Fanotify => assert!(!event.has("process.thread.id"), "{event}"),
    }
    process(event, report);
}

/// As [`actor`], whichever of its threads it was.
pub(crate) fn process(event: &Event, report: &Report) {
    let time = event.nanos();
    // What a clock may be set back by while it is read in two places.
    const SLACK: i128 = 50_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().cast_signed();
    let span = i128::from(report.began) - SLACK..=now;
    assert!(span.contains(&time), "@timestamp {time} is not in {span:?}: {event}");

    assert_eq!(event.number("process.pid"), Some(report.pid.into()), "{event}");
    assert_eq!(event.text("process.executable"), Some(&*report.exe.text()), "{event}");
    let name = report.exe.as_path().file_name().unwrap().to_str();
    assert_eq!(event.text("process.name"), name, "{event}");
    assert_eq!(event.text("process.working_directory"), Some(&*report.cwd.text()), "{event}");
    assert!(event.has("process.entity_id"), "{event}");
    started(event, report.start_ticks);
    args(event, report);

    assert_eq!(event.number("process.parent.pid"), Some(report.ppid.into()), "{event}");
    assert_eq!(event.text("process.parent.executable"), Some(&**OWN), "{event}");
    let ancestor = &event.at("fim.ancestors")[0];
    assert_eq!(ancestor["pid"].as_u64(), Some(report.ppid.into()), "{event}");
    user(event, report);
}

fn args(event: &Event, report: &Report) {
    let args: Vec<String> = report.args.iter().map(|arg| arg.text()).collect();
    let told = event.list("process.args");
    match event.unknown("process.args") {
        None => assert_eq!(told, args, "{event}"),
        // As much of it as there was room for.
        Some(reason) => {
            let size: usize = args.iter().map(|arg| arg.len() + 1).sum();
            assert!(size > 2048, "{reason}: an ordinary command line: {event}");
            let whole = told.iter().zip(&args).take_while(|(told, arg)| **told == **arg).count();
            let rest = (&told[whole..], &args[whole..]);
            let is_start = match rest {
                ([], _) => true,
                ([cut], [arg, ..]) => arg.starts_with(*cut),
                _ => false,
            };
            assert!(is_start, "not the beginning of the arguments: {event}");
        }
    }
    let line = event.text("process.command_line");
    assert_eq!(line, (!told.is_empty()).then(|| told.join(" ")).as_deref(), "{event}");
}

fn started(event: &Event, ticks: u64) {
    let boot = clock_gettime(ClockId::Boottime);
    let uptime = i128::from(boot.tv_sec) * 1_000_000_000 + i128::from(boot.tv_nsec);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().cast_signed();
    let expected = now - uptime + i128::from(ticks) * 1_000_000_000 / TICKS_PER_SECOND;
    let told = nanos(event.text("process.start").unwrap_or_default());
    let apart = (told - expected).abs();
    assert!(apart < 1_000_000_000, "process.start is {apart} ns off: {event}");
}

/// `USER_HZ`: part of the kernel's interface, and the same on all that Debian runs on.
const TICKS_PER_SECOND: i128 = 100;

fn user(event: &Event, report: &Report) {
    let id = |id: u32| Some(id.to_string());
    for (field, value) in [
        ("user.id", id(report.uid)),
        ("user.name", user_name(report.uid)),
        ("user.group.id", id(report.gid)),
        ("user.group.name", group_name(report.gid)),
        ("user.effective.id", id(report.euid)),
        ("user.effective.name", user_name(report.euid)),
        ("user.filesystem.id", id(report.fsuid)),
        // An unset login uid is absent, never a user.
        ("user.audit.id", report.loginuid.and_then(id)),
        ("user.audit.name", report.loginuid.and_then(user_name)),
    ] {
        assert_eq!(event.text(field), value.as_deref(), "{field}: {event}");
    }
}

/// `file.*` is what is at `path` now.
pub(crate) fn state(event: &Event, path: &Path) {
    assert_eq!(event.path(), path_text(path), "{event}");
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "char_device",
        () => "block_device",
    };
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let device = metadata.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    for (field, value) in [
        ("file.type", Some(kind.to_owned())),
        ("file.name", path.file_name().map(|name| name.to_string_lossy().into_owned())),
        ("file.directory", path.parent().map(path_text)),
        ("file.inode", Some(metadata.ino().to_string())),
        ("file.device", Some(device)),
        ("file.mode", Some(format!("{:04o}", metadata.mode() & 0o7777))),
        ("file.uid", Some(uid.to_string())),
        ("file.gid", Some(gid.to_string())),
        ("file.owner", user_name(uid)),
        ("file.group", group_name(gid)),
    ] {
        assert_eq!(event.text(field), value.as_deref(), "{field}: {event}");
    }
    let time = |field| event.text(field).map(nanos);
    let mtime = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    // A directory goes on changing while things are made in it.
    if kind != "dir" {
        assert_eq!(event.number("file.size"), Some(metadata.len()), "{event}");
        assert_eq!(time("file.mtime"), Some(mtime), "{event}");
        let ctime = i128::from(metadata.ctime()) * 1_000_000_000;
        let ctime = ctime + i128::from(metadata.ctime_nsec());
        assert_eq!(time("file.ctime"), Some(ctime), "{event}");
    }
    if kind == "symlink" {
        let target = path_text(&fs::read_link(path).unwrap());
        assert_eq!(event.text("file.target_path"), Some(&*target), "{event}");
    }
    if kind != "file" {
        assert!(!event.has("file.hash"), "{event}");
    }
}

/// `fim.operations` has a rename from `path`.
pub(crate) fn renamed_from(event: &Event, path: &str) {
    let operations = event.at("fim.operations").as_array().into_iter().flatten();
    let is_this = |operation: &&serde_json::Value| {
        operation["operation"] == "rename" && operation["from"] == path
    };
    assert_eq!(operations.filter(is_this).count(), 1, "no rename from {path}: {event}");
}

/// The hash is of `content`, and the event vouches for it.
pub(crate) fn exact_hash(event: &Event, content: &[u8]) {
    assert_eq!(event.text("fim.hash_state"), Some("exact"), "{event}");
    assert_eq!(event.text("file.hash.sha256"), Some(&*sha256(content)), "{event}");
}

/// What an object is before something happens to it.
#[derive(PartialEq, Eq)]
pub(crate) struct Known {
    fields: Vec<(&'static str, String)>,
    size: u64,
    mtime: i128,
    is_directory: bool,
}

impl Known {
    pub(crate) fn of(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        let mut fields = vec![
            ("mode", format!("{:04o}", metadata.mode() & 0o7777)),
            ("uid", metadata.uid().to_string()),
            ("gid", metadata.gid().to_string()),
            ("inode", metadata.ino().to_string()),
        ];
        if metadata.is_file() {
            fields.push(("sha256", sha256(&fs::read(path).unwrap())));
        }
        let mtime =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { fields, size: metadata.len(), mtime, is_directory: metadata.is_dir() }
    }

    /// `side`, as `fim.before` or `fim.replaced`, tells all of it.
    pub(crate) fn is(&self, event: &Event, side: &str) {
        for (field, value) in &self.fields {
            let told = event.text(&format!("{side}.{field}"));
            assert_eq!(told, Some(&**value), "{side}.{field}: {event}");
        }
        if !self.is_directory {
            assert_eq!(event.number(&format!("{side}.size")), Some(self.size), "{side}: {event}");
            let mtime = event.text(&format!("{side}.mtime")).map(nanos);
            assert_eq!(mtime, Some(self.mtime), "{side}: {event}");
        }
    }
}

/// This program, which starts all others.
static OWN: LazyLock<String> =
    LazyLock::new(|| path_text(&fs::read_link("/proc/self/exe").unwrap()));

/// What the shell is here: a path to its program, links resolved.
pub(crate) static SHELL: LazyLock<String> =
    LazyLock::new(|| path_text(&fs::canonicalize("/bin/sh").unwrap()));

/// A shell that runs `script`.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}
