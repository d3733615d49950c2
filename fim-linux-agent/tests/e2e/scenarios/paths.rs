//! Paths that are hard to carry, and paths that change.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cases::{self, Case, Place, Table, nothing};
use crate::environment::{Backend, backend};
use crate::event::{path_base64, path_text};
use crate::expect;
use crate::operator::content::Content;
use crate::operator::{Op, Raw};
use crate::scene::Scene;

pub(crate) static TABLE: Table = Table {
    name: "paths",
    alone: false,
    cases: &[
        Case::new("not_utf8", nothing, not_utf8),
        Case::new("newline_and_quotes", nothing, newline_and_quotes),
        Case::new("longest_name", nothing, longest_name),
        Case::new("deep_directory", nothing, deep_directory),
        Case::new("directory_renamed", prepare, directory_renamed),
        Case::new("directory_above_renamed", prepare, directory_above_renamed),
        Case::new("directory_moved_in", prepare, directory_moved_in),
        Case::new("directory_moved_out", prepare, directory_moved_out),
        Case::new("directory_made_again", nothing, directory_made_again),
        Case::new("name_reused", nothing, name_reused),
        Case::new("another_mount_namespace", nothing, another_mount_namespace),
        Case::new("another_root", nothing, another_root),
        Case::new("opened_by_handle", prepare, opened_by_handle).on_disk(),
    ],
};

#[test]
fn cases() {
    cases::run(&TABLE);
}

fn prepare(place: &Place) {
    fs::create_dir_all(place.inside.join("d/sub")).unwrap();
    fs::write(place.inside.join("d/sub/a"), "inside\n").unwrap();
    fs::create_dir_all(place.outside.join("tree/sub")).unwrap();
    fs::write(place.outside.join("tree/sub/a"), "outside\n").unwrap();
}

/// Creates a file, and checks its event.
fn created(scene: &Scene<'_>, path: &Path) {
    let op = Op::CreateWrite { path: Raw::from(path), bytes: b"content\n".to_vec() };
    let report = scene.operate(op);
    let event = scene.change(&report, "created", path);
    expect::state(&event, path);
    match path.to_str() {
        // Its bytes are in the path already.
        Some(_) => assert!(!event.has("fim.path_b64"), "{event}"),
        None => assert_eq!(event.text("fim.path_b64"), Some(&*path_base64(path)), "{event}"),
    }
}

fn not_utf8(scene: &Scene<'_>) {
    created(scene, &scene.inside.join(OsStr::from_bytes(b"\xff\xfe name \xc3")));
    let directory = scene.inside.join(OsStr::from_bytes(b"dir \x80"));
    fs::create_dir(&directory).unwrap();
    created(scene, &directory.join("plain name"));
}

/// A file is created by `command`, whose process sees it as `seen`.
fn created_as(scene: &Scene<'_>, command: &mut Command, path: &Path, seen: &Path) {
    // Its standard input is open until the event has come.
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let event = scene.wait("the creation", |event| {
        event.action() == "created" && event.path() == path_text(path)
    });
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    assert_eq!(event.text("fim.path_in_process"), Some(&*path_text(seen)), "{event}");
}

/// As in a container that has the host's directory, and that lives longer than what it runs.
fn another_mount_namespace(scene: &Scene<'_>) {
    if backend() != Backend::Bpf {
        return scene.skip("fanotify does not tell by which mount");
    }
    let point = scene.outside.join("elsewhere");
    fs::create_dir(&point).unwrap();
    let (inside, point_text) = (scene.inside.display(), point.display());
    let script = format!(
        "mount --make-rprivate / && mount --bind '{inside}' '{point_text}' && \
         sh -c 'echo new > {point_text}/seen' && cat"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    created_as(scene, &mut command, &scene.path("seen"), &point.join("seen"));
}

/// chroot(2).
fn another_root(scene: &Scene<'_>) {
    if backend() != Backend::Bpf {
        return scene.skip("fanotify does not tell by which root");
    }
    let Some(busybox) =
        ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
    else {
        return scene.skip("no busybox");
    };
    let root = Path::new("/tmp");
    let program = scene.outside.join("busybox");
    fs::copy(busybox, &program).unwrap();
    let below = |path: &Path| Path::new("/").join(path.strip_prefix(root).unwrap());
    let seen = below(&scene.path("seen"));
    let mut command = Command::new("chroot");
    command.arg(root).arg(below(&program));
    command.args(["sh", "-c", &format!("echo new > '{}'", seen.display())]);
    created_as(scene, &mut command, &scene.path("seen"), &seen);
}

/// By whoever serves files to other hosts, or somebody who hopes that a file without a name is not
/// seen.
fn opened_by_handle(scene: &Scene<'_>) {
    let path = scene.path("d/sub/a");
    let bytes = b"by its handle\n".to_vec();
    let op = Content::ByHandle { path: Raw::from(&path), bytes: bytes.clone(), mode: 0o600 };
    let report = scene.operate(Op::Content(op));
    // Nobody looks at the file by its name before that: the kernel would have one of it again. It is
    // written over from its beginning, by more than there was.
    scene.change_of_content(&report, &path, b"inside\n", &bytes);
    let event = scene.wait("the mode", |event| {
        event.path() == path_text(&path) && event.text("fim.after.mode") == Some("0600")
    });
    assert!(event.list("fim.changes").contains(&"mode"), "{event}");
    // It does not do to remember that it was outside.
    created(scene, &scene.path("d/sub/b"));
}

/// The event is one line all the same: the stream would say so if it were not.
fn newline_and_quotes(scene: &Scene<'_>) {
    created(scene, &scene.path("two\nlines, a \"quote\", a \\ and \u{1b}[31m"));
}

fn longest_name(scene: &Scene<'_>) {
    created(scene, &scene.path(&"n".repeat(255)));
}

/// Directories that appear together with what is in them: all of it is told, by whom.
fn deep_directory(scene: &Scene<'_>) {
    // Some 3,900 bytes: open(2) takes less than 4,096.
    let names = (0..170).map(|level| format!("level {level:03} of the tree"));
    let directory: PathBuf = names.fold(scene.inside.clone(), |path, name| path.join(name));
    let report = scene.operate(Op::MkdirAndCreate {
        directory: Raw::from(&directory),
        name: "a".to_owned(),
        bytes: b"deep\n".to_vec(),
    });
    let path = directory.join("a");
    let event = scene.change(&report, "created", &path);
    expect::state(&event, &path);
    for above in path.ancestors().skip(1).take_while(|above| *above != scene.inside) {
        scene.change(&report, "created", above);
    }
}

fn directory_renamed(scene: &Scene<'_>) {
    let (from, to) = (scene.path("d/sub"), scene.path("d/other"));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    scene.change(&report, "moved", &to);
    created(scene, &to.join("new"));
    // What was in it has a new path as well.
    let bytes = b"changed\n".to_vec();
    let report = scene.operate(Op::Write { path: Raw::from(&to.join("a")), bytes: bytes.clone() });
    scene.change_of_content(&report, &to.join("a"), b"inside\n", &bytes);
}

fn directory_above_renamed(scene: &Scene<'_>) {
    let (from, to) = (scene.path("d"), scene.path("e"));
    // Something is known of the directory below under its old path.
    created(scene, &scene.path("d/sub/before"));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    scene.change(&report, "moved", &to);
    created(scene, &scene.path("e/sub/after"));
}

/// Nothing happened to the file in it, and yet it is new here.
fn directory_moved_in(scene: &Scene<'_>) {
    let (from, to) = (scene.outside.join("tree"), scene.path("tree"));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    scene.change(&report, "moved", &to);
    let file = to.join("sub/a");
    let event = scene.wait("the file in the directory", |event| {
        event.path() == path_text(&file) && event.text("fim.hash_state") == Some("exact")
    });
    expect::change_of_any_provider(&event);
    expect::exact_hash(&event, b"outside\n");
    created(scene, &to.join("sub/new"));
}

/// What happens there is no longer of interest.
fn directory_moved_out(scene: &Scene<'_>) {
    let (from, to) = (scene.path("d"), scene.outside.join("d"));
    // The way to the directory below is known.
    created(scene, &scene.path("d/sub/before"));
    let report = scene.operate(Op::Rename { from: Raw::from(&from), to: Raw::from(&to) });
    scene.change(&report, "moved", &to);
    let before = scene.settled().len();
    let new = to.join("sub/new");
    scene.operate(Op::CreateWrite { path: Raw::from(&new), bytes: b"x".to_vec() });
    scene.mark();
    let about = scene.agent.stream.lines_below(&new);
    assert!(about.is_empty(), "{}", about[0].text);
    // The files that went along are told, if at all, as what they are: gone from here.
    for event in &scene.events()[before..] {
        assert_eq!(event.action(), "deleted", "{}", scene.dump());
    }
}

/// The inode of a directory that is removed may be that of the next one, here as well as outside.
fn directory_made_again(scene: &Scene<'_>) {
    for round in 0..3 {
        for place in [scene.outside.join("again"), scene.path(&format!("again-{round}"))] {
            fs::create_dir(&place).unwrap();
            let file = place.join("file");
            if place.starts_with(&scene.outside) {
                fs::write(&file, "x").unwrap();
            } else {
                created(scene, &file);
            }
            fs::remove_file(&file).unwrap();
            fs::remove_dir(&place).unwrap();
            if place.starts_with(&scene.inside) {
                scene.wait("the removal", |event| {
                    event.action() == "deleted" && event.path() == path_text(&place)
                });
            }
        }
    }
}

/// Another file under the same name: nothing of the first one is told of it.
fn name_reused(scene: &Scene<'_>) {
    let path = scene.path("a");
    created(scene, &path);
    let gone = expect::Known::of(&path);
    let report = scene.operate(Op::Unlink { path: Raw::from(&path) });
    let deleted = scene.change(&report, "deleted", &path);
    gone.is(&deleted, "fim.before");
    created(scene, &path);
}
