//! What a canary does.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fim_common::operation::{Modified, OperationKind as Kind};
use rustix::fs::XattrFlags;

use super::Expected;
use super::place::Place;

/// Files that stay from round to round.
pub(super) const WRITTEN: &str = "written";
pub(super) const TRUNCATED: &str = "truncated";
pub(super) const SET: &str = "set";

/// The operations of a round that are done so far.
struct Round<'a> {
    directory: &'a Path,
    expected: Vec<Expected>,
}

impl Round<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An operation that this file system does not have is none that can be missed.
    fn done(
        &mut self,
        operation: &'static str,
        name: &str,
        result: io::Result<()>,
        is: fn(&Kind) -> bool,
    ) {
        match result {
            Ok(()) => self.expected.push(Expected {
                operation,
                path: self.path(name),
                is,
                done: Instant::now(),
            }),
            Err(error) => tracing::debug!(operation, %error, "the canary cannot do this here"),
        }
    }
}

/// Does every operation once.
pub(super) fn all(place: &Place, number: u64) -> Vec<Expected> {
    let mut round = Round { directory: &place.directory, expected: Vec::new() };
    let name = |kind: &str| format!("{kind}-{number}");
    let (file, moved, link) = (name("file"), name("moved"), name("link"));
    let (soft, directory) = (name("soft"), name("directory"));

    let result = File::create_new(round.path(&file)).map(drop);
    round.done("create", &file, result, |kind| matches!(kind, Kind::Create));

    let opened = File::options().write(true).open(round.path(WRITTEN));
    let result = opened.and_then(|mut file| file.write_all(&number.to_ne_bytes()));
    let closed = result.as_ref().map(|_| ()).map_err(|error| io::Error::from(error.kind()));
    // Some file systems update times where no hook is; then the close says it.
    let is: fn(&Kind) -> bool = match place.updates_times {
        true => |kind| matches!(kind, Kind::Modify),
        false => |kind| match kind {
            Kind::Modify => true,
            Kind::CloseWrite { modified, .. } => *modified != Modified::No,
            _ => false,
        },
    };
    round.done("write", WRITTEN, result, is);
    round.done("close", WRITTEN, closed, |kind| matches!(kind, Kind::CloseWrite { .. }));

    let opened = File::options().write(true).open(round.path(TRUNCATED));
    let result = opened.and_then(|file| file.set_len(number % 2));
    // fanotify has no other word for it.
    let is = |kind: &Kind| matches!(kind, Kind::Truncate | Kind::Modify);
    round.done("truncate", TRUNCATED, result, is);

    let mode = fs::Permissions::from_mode(if number.is_multiple_of(2) { 0o600 } else { 0o640 });
    let result = fs::set_permissions(round.path(SET), mode);
    round.done("chmod", SET, result, |kind| matches!(kind, Kind::SetAttributes));
    // On another file: fanotify merges what happens to one.
    let value = number.to_ne_bytes();
    let path = round.path(TRUNCATED);
    let result = rustix::fs::setxattr(path, "trusted.fim-canary", &value, XattrFlags::empty());
    let is = |kind: &Kind| matches!(kind, Kind::SetXattr { .. } | Kind::SetAttributes);
    round.done("setxattr", TRUNCATED, result.map_err(io::Error::from), is);

    let result = fs::rename(round.path(&file), round.path(&moved));
    round.done("rename", &moved, result, |kind| matches!(kind, Kind::Rename { .. }));
    let result = fs::hard_link(round.path(&moved), round.path(&link));
    round.done("link", &link, result, |kind| matches!(kind, Kind::Link { .. } | Kind::Create));
    let result = fs::remove_file(round.path(&moved));
    round.done("unlink", &moved, result, |kind| matches!(kind, Kind::Delete));
    let _ = fs::remove_file(round.path(&link));

    let result = symlink("nowhere", round.path(&soft));
    round.done("symlink", &soft, result, |kind| matches!(kind, Kind::Create));
    let _ = fs::remove_file(round.path(&soft));

    let result = fs::create_dir(round.path(&directory));
    round.done("mkdir", &directory, result, |kind| matches!(kind, Kind::Create));
    let result = fs::remove_dir(round.path(&directory));
    round.done("rmdir", &directory, result, |kind| matches!(kind, Kind::Delete));
    round.expected
}
