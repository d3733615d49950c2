//! What the self-test's program does, step by step, and what is to be told of each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fim_common::event::Action::{
    self, AttributesModified, Created, Deleted, Linked, Moved, Updated,
};
use fim_common::event::Outcome;
use fim_win32::registry::Key;
use fim_win32::security;

/// `REG_SZ` and `REG_DWORD`.
const TEXT: u32 = 1;
const NUMBER: u32 = 4;

/// Where the steps are done.
pub(super) struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// The key, below HKCU.
    pub key: String,
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn below(&self, name: &str) -> String {
        format!(r"{}\{name}", self.key)
    }
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A file or directory in the directory, by the name that it has afterwards.
    File(&'static str),
    /// A key below the key; empty: the key itself.
    Key(&'static str),
    /// A value of the key.
    Value(&'static str),
}

/// One step.
pub(super) struct Step {
    /// For people.
    pub name: &'static str,
    /// What it is about.
    pub object: Object,
    /// What the kernel's own word for it is.
    pub expected: &'static [Action],
    /// What a look afterwards can tell of it; empty: nothing.
    pub by_looking: &'static [Action],
    /// How it ends.
    pub outcome: Outcome,
    /// Does it.
    pub act: fn(&Place) -> io::Result<()>,
}

const fn step(
    name: &'static str,
    object: Object,
    expected: &'static [Action],
    by_looking: &'static [Action],
    act: fn(&Place) -> io::Result<()>,
) -> Step {
    Step { name, object, expected, by_looking, outcome: Outcome::Success, act }
}

/// All steps, each on what those before have left.
pub(super) const STEPS: &[Step] = &[
    step("create a file", Object::File("One.txt"), &[Created], &[Created], |place| {
        fs::write(place.file("One.txt"), "one")
    }),
    step("write to it", Object::File("One.txt"), &[Updated], &[Updated], |place| {
        OpenOptions::new().append(true).open(place.file("One.txt"))?.write_all(b" and two")
    }),
    step("truncate it", Object::File("One.txt"), &[Updated], &[Updated], |place| {
        OpenOptions::new().write(true).open(place.file("One.txt"))?.set_len(2)
    }),
    step(
        "set its times",
        Object::File("One.txt"),
        &[AttributesModified],
        &[AttributesModified],
        |place| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            OpenOptions::new().write(true).open(place.file("One.txt"))?.set_modified(time)
        },
    ),
    step(
        "make it read-only",
        Object::File("One.txt"),
        &[AttributesModified],
        &[AttributesModified],
        |place| read_only(&place.file("One.txt"), true),
    ),
    Step {
        outcome: Outcome::Failure,
        ..step("be refused to write to it", Object::File("One.txt"), &[Updated], &[], |place| {
            match OpenOptions::new().write(true).open(place.file("One.txt")) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(io::Error::other("nobody refused it")),
            }
        })
    },
    step(
        "make it writable",
        Object::File("One.txt"),
        &[AttributesModified],
        &[AttributesModified],
        |place| read_only(&place.file("One.txt"), false),
    ),
    step(
        "set its security",
        Object::File("One.txt"),
        &[AttributesModified],
        &[AttributesModified],
        |place| {
            let own = security::own_sid()?;
            security::set_dacl(&place.file("One.txt"), &format!("D:P(A;;FA;;;{own})(A;;FR;;;WD)"))
        },
    ),
    step("link to it", Object::File("Link.txt"), &[Linked], &[Linked, Created], |place| {
        fs::hard_link(place.file("One.txt"), place.file("Link.txt"))
    }),
    step("rename it", Object::File("Two.txt"), &[Moved], &[Moved, Linked, Created], |place| {
        fs::rename(place.file("One.txt"), place.file("Two.txt"))
    }),
    step(
        "write to a stream of it",
        Object::File("Two.txt:extra"),
        &[Created, Updated],
        &[],
        |place| fs::write(place.file("Two.txt:extra"), "hidden"),
    ),
    step("delete it", Object::File("Two.txt"), &[Deleted], &[Deleted], |place| {
        fs::remove_file(place.file("Two.txt"))
    }),
    step("make a directory", Object::File("Below"), &[Created], &[Created], |place| {
        fs::create_dir(place.file("Below"))
    }),
    step(
        "create a file in it",
        Object::File(r"Below\Three.txt"),
        &[Created],
        &[Created],
        |place| File::create(place.file(r"Below\Three.txt")).map(drop),
    ),
    step("delete that file", Object::File(r"Below\Three.txt"), &[Deleted], &[Deleted], |place| {
        fs::remove_file(place.file(r"Below\Three.txt"))
    }),
    step("remove the directory", Object::File("Below"), &[Deleted], &[Deleted], |place| {
        fs::remove_dir(place.file("Below"))
    }),
    step("create a key", Object::Key("Below"), &[Created], &[Created], |place| {
        Key::create(&place.below("Below")).map(drop)
    }),
    step("set a value", Object::Value("Run"), &[Updated, Created], &[Updated, Created], |place| {
        Key::create(&place.key)?.set("Run", TEXT, &text("one.exe"))
    }),
    step("change the value", Object::Value("Run"), &[Updated], &[Updated], |place| {
        Key::create(&place.key)?.set("Run", TEXT, &text("two.exe"))
    }),
    step(
        "set a number",
        Object::Value("Flag"),
        &[Updated, Created],
        &[Updated, Created],
        |place| Key::create(&place.key)?.set("Flag", NUMBER, &1_u32.to_le_bytes()),
    ),
    step("delete a value", Object::Value("Run"), &[Deleted], &[Deleted], |place| {
        Key::create(&place.key)?.delete_value("Run")
    }),
    step("delete the key", Object::Key("Below"), &[Deleted], &[Deleted], |place| {
        Key::delete(&place.below("Below"))
    }),
];

fn read_only(path: &Path, is_read_only: bool) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(is_read_only);
    fs::set_permissions(path, permissions)
}

/// As the registry keeps it.
fn text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
