//! Many operations at once, each on a name of its own, and every kind of operation once.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags};
use serde::{Deserialize, Serialize};

use super::Raw;

/// What is done many times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Flood {
    /// In a directory: `count` rounds of [`ROUND`], all on names.
    Names { directory: Raw, count: u32 },
    /// In a directory: `count` files are created and written; every other one is renamed, every
    /// third removed, every fifth written again.
    Files { directory: Raw, count: u32 },
    /// Each of `count` changes of its own kind, one after the other ([`change`]).
    Changes { directory: Raw, count: u32 },
    /// Each kind of operation, also those that fail. Results are written to `results`.
    Everything { directory: Raw, results: Raw },
}

/// What a round of [`Flood::Names`] is, by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) mkdir: u64,
    pub(crate) symlink: u64,
    pub(crate) rename: u64,
    pub(crate) unlink: u64,
    pub(crate) rmdir: u64,
}

impl Round {
    pub(crate) fn all(self) -> u64 {
        self.mkdir + self.symlink + self.rename + self.unlink + self.rmdir
    }
}

/// Each of these is one operation of one hook.
pub(crate) const ROUND: Round = Round { mkdir: 3, symlink: 2, rename: 1, unlink: 1, rmdir: 1 };

impl Flood {
    pub(super) fn act(&self) -> io::Result<()> {
        match self {
            Self::Names { directory, count } => {
                let path = |kind: char, n: u32| directory.as_path().join(format!("{kind}{n:06}"));
                for n in 0..*count {
                    fs::create_dir(path('d', n))?;
                    symlink("nowhere", path('s', n))?;
                    fs::create_dir(path('m', n))?;
                    fs::rename(path('m', n), path('r', n))?;
                    fs::create_dir(path('x', n))?;
                    fs::remove_dir(path('x', n))?;
                    symlink("nowhere", path('y', n))?;
                    fs::remove_file(path('y', n))?;
                }
                Ok(())
            }
            Self::Files { directory, count } => {
                let path = |kind: char, n: u32| directory.as_path().join(format!("{kind}{n:06}"));
                for n in 0..*count {
                    let mut name = path('f', n);
                    File::create_new(&name)?.write_all(format!("content {n}").as_bytes())?;
                    if n % 2 == 0 {
                        fs::rename(&name, path('g', n))?;
                        name = path('g', n);
                    }
                    if n % 3 == 0 {
                        fs::remove_file(&name)?;
                    } else if n % 5 == 0 {
                        // As long as before: only times and content tell.
                        File::options().write(true).open(&name)?.write_all_at(b"CONTENT", 0)?;
                        fs::set_permissions(&name, fs::Permissions::from_mode(0o600))?;
                    }
                }
                Ok(())
            }
            Self::Changes { directory, count } => {
                (0..*count).try_for_each(|n| change(directory.as_path(), n).map(drop))
            }
            Self::Everything { directory, results } => {
                fs::write(results.as_path(), everything(directory.as_path()))
            }
        }
    }
}

/// Change number `n`: the action that it is told by, and of which name.
pub(crate) fn changed(n: u32) -> (&'static str, String) {
    let action = ["created", "created", "moved", "deleted"][n as usize % 4];
    (action, format!("change-{n}"))
}

/// Does it. What is moved and deleted is there from the beginning (see [`prepare_changes`]).
fn change(directory: &Path, n: u32) -> io::Result<()> {
    let path = directory.join(changed(n).1);
    match n % 4 {
        0 => fs::write(path, format!("change {n}")),
        1 => fs::create_dir(path),
        2 => fs::rename(directory.join(format!("old-{n}")), path),
        _ => fs::remove_file(path),
    }
}

/// What [`Flood::Changes`] needs.
pub(crate) fn prepare_changes(directory: &Path, count: u32) {
    for n in 0..count {
        match n % 4 {
            2 => fs::write(directory.join(format!("old-{n}")), "old").unwrap(),
            3 => fs::write(directory.join(changed(n).1), "old").unwrap(),
            _ => {}
        }
    }
}

/// The results of every kind of operation, a line each.
fn everything(directory: &Path) -> String {
    let mut lines = String::new();
    let mut say = |what: &str, result: io::Result<u64>| {
        let text = match result {
            Ok(value) => value.to_string(),
            Err(error) => format!("errno {:?}", error.raw_os_error()),
        };
        let _ = writeln!(lines, "{what}: {text}");
    };
    let path = |name: &str| -> PathBuf { directory.join(name) };
    let unit = |result: io::Result<()>| result.map(|()| 0);
    let system = |result: rustix::io::Result<()>| unit(result.map_err(io::Error::from));
    let mode = Mode::from_raw_mode(0o640);

    say("mkdir", unit(fs::create_dir(path("dir"))));
    say("mkdir that exists", unit(fs::create_dir(path("dir"))));
    say("mkdir in nothing", unit(fs::create_dir(path("none/dir"))));
    say("create", File::create_new(path("file")).map(|_| 0));
    say("create that exists", File::create_new(path("file")).map(|_| 0));
    say("create with a name too long", File::create_new(path(&"x".repeat(256))).map(|_| 0));
    say("open a directory for writing", File::options().write(true).open(path("dir")).map(|_| 0));
    let file = File::options().read(true).write(true).open(path("file"));
    say("open", file.as_ref().map(|_| 0).map_err(|error| io::Error::from(error.kind())));
    if let Ok(file) = file {
        say("write", (&file).write(&[7; 10_000]).map(|count| count as u64));
        say("pwrite", file.write_at(b"abc", 5_000).map(|count| count as u64));
        say("ftruncate", unit(file.set_len(7_000)));
        say("fallocate", system(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 8_192)));
        say("fsync", unit(file.sync_all()));
        say("read back", file.read_at(&mut [0; 9_000], 0).map(|count| count as u64));
    }
    say("copy", fs::copy(path("file"), path("copy")));
    say("chmod", unit(fs::set_permissions(path("file"), fs::Permissions::from_mode(0o604))));
    say("chmod of nothing", unit(fs::set_permissions(path("no"), fs::Permissions::from_mode(0o0))));
    say("chown", unit(std::os::unix::fs::chown(path("file"), Some(1), Some(2))));
    let xattr = |name: &str| {
        system(rustix::fs::setxattr(path("file"), name, b"value", XattrFlags::empty()))
    };
    say("setxattr", xattr("trusted.fim"));
    say("setxattr without a class", xattr("fim"));
    say("removexattr", system(rustix::fs::removexattr(path("file"), "trusted.none")));
    say("symlink", unit(symlink("file", path("link"))));
    say("symlink that exists", unit(symlink("file", path("link"))));
    say("link", unit(fs::hard_link(path("file"), path("dir/name"))));
    say("link of nothing", unit(fs::hard_link(path("none"), path("dir/other"))));
    say("mknod", system(rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, mode, 0)));
    say("rename", unit(fs::rename(path("copy"), path("dir/copy"))));
    say("rename of nothing", unit(fs::rename(path("none"), path("other"))));
    say("rename over a directory", unit(fs::rename(path("file"), path("dir"))));
    let (one, other) = (path("file"), path("dir/copy"));
    let flags = RenameFlags::EXCHANGE;
    say("exchange", system(rustix::fs::renameat_with(CWD, &one, CWD, &other, flags)));
    let flags = RenameFlags::NOREPLACE;
    say("rename on none", system(rustix::fs::renameat_with(CWD, &one, CWD, &other, flags)));
    say("rmdir that is not empty", unit(fs::remove_dir(path("dir"))));
    say("unlink", unit(fs::remove_file(path("link"))));
    say("unlink of nothing", unit(fs::remove_file(path("link"))));
    say("unlink of a directory", unit(fs::remove_file(path("dir"))));
    say("mkdir to go", unit(fs::create_dir(path("gone"))));
    say("rmdir", unit(fs::remove_dir(path("gone"))));
    for n in 0..200 {
        let name = path(&format!("many-{n}"));
        say("many", unit(fs::write(&name, format!("{n}"))));
        if n % 2 == 0 {
            say("few", unit(fs::remove_file(&name)));
        }
    }
    lines
}
