//! File records to operations: paths on the host, times of the wall clock, actors by name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim_common::event::Provider;
use fim_common::event::actor::Actor;
use fim_common::operation::{Failure, Modified, Operation, OperationKind};
use fim_common::record::decode::{File, Record, components};
use fim_common::record::{Attrs, Hook, ID_UNSET, Object, Op, flag};
use fim_common::state::{ObjectId, ObjectKind, ObjectState};
use fim_common::time::Timestamp;

use super::roots::Roots;
use crate::process::{Credentials, Key, Table};

/// Who is about to mount (or unmount) something, and where in their own mount namespace.
pub fn mounter(
    record: &Record<'_>,
    file: &File<'_>,
    table: &mut Table,
) -> Option<(bool, PathBuf, Timestamp, Arc<Actor>)> {
    let mounts = match file.op {
        Op::Mount => true,
        Op::Unmount => false,
        _ => return None,
    };
    let mut path = PathBuf::from("/");
    path.extend(components(file.path).map(OsStr::from_bytes));
    let time = table.boot().to_wall(record.header.time);
    Some((mounts, path, time, actor(record, table)))
}

/// The operations that a file record tells of: one, or two for an exchange of names and for a
/// creation that leaves the file open for writing.
pub fn operations(
    record: &Record<'_>,
    file: &File<'_>,
    roots: &Roots,
    table: &mut Table,
) -> Vec<Operation> {
    let fixed = &file.fixed;
    let flags = fixed.flags;
    let dev = fixed.object.dev;
    let locate = |root: u32, tail: &[u8]| {
        if flags & (flag::PATH_TRUNCATED | flag::DISCONNECTED) != 0 {
            None
        } else {
            roots.locate(root, dev, tail)
        }
    };
    let first = locate(fixed.root, file.path);
    let second = || locate(fixed.root2, file.path2);
    let nameless = flags & flag::NAMELESS != 0;

    let mut after = state(&fixed.after, &fixed.object, roots);
    let (kind, path) = match file.op {
        Op::Create | Op::Mkdir | Op::Mknod => (OperationKind::Create, first),
        Op::Symlink => {
            after.target_path = Some(PathBuf::from(OsStr::from_bytes(file.extra)));
            (OperationKind::Create, first)
        }
        Op::OpenWrite => {
            (OperationKind::OpenWrite { truncate: flags & flag::TRUNCATE != 0 }, first)
        }
        Op::Modify => (OperationKind::Modify, first),
        Op::CloseWrite => {
            let modified = if flags & flag::MODIFIED != 0 {
                Modified::Yes
            } else if flags & flag::MAYBE_MODIFIED != 0 {
                Modified::Unknown
            } else {
                Modified::No
            };
            (OperationKind::CloseWrite { writers: Some(fixed.writers), modified }, first)
        }
        Op::Truncate => (OperationKind::Truncate, first),
        Op::SetAttr => (OperationKind::SetAttributes, first),
        Op::SetXattr => (OperationKind::SetXattr { name: text(file.extra) }, first),
        Op::RemoveXattr => (OperationKind::RemoveXattr { name: text(file.extra) }, first),
        Op::SetFlags => (OperationKind::SetFlags, first),
        Op::Map => (OperationKind::Map, first),
        // The mount table tells what came of these; see `collector`.
        Op::Mount | Op::Unmount => return Vec::new(),
        Op::Unlink | Op::Rmdir => (OperationKind::Delete, first),
        Op::Link => {
            let existing = if nameless { None } else { first };
            (OperationKind::Link { existing, first: nameless, elsewhere: None }, second())
        }
        Op::Rename => {
            let exchange = flags & flag::EXCHANGE != 0;
            let replaced = (flags & flag::REPLACED != 0 && !exchange)
                .then(|| id(&fixed.other, roots))
                .flatten();
            let kind = OperationKind::Rename {
                from: first.clone(),
                from_in_scope: flags & flag::PATH_IN_SCOPE != 0,
                to_in_scope: flags & flag::PATH2_IN_SCOPE != 0,
                replaced,
                exchange,
            };
            (kind, second())
        }
    };
    // A content operation on an object without a name belongs to no path.
    let path = match file.op {
        Op::OpenWrite | Op::Modify | Op::CloseWrite | Op::Truncate | Op::SetAttr | Op::Map
            if nameless =>
        {
            None
        }
        // Of a file that is mounted over a watched one. Its names lie elsewhere, and are not watched.
        Op::OpenWrite
        | Op::Modify
        | Op::CloseWrite
        | Op::Truncate
        | Op::SetAttr
        | Op::SetXattr
        | Op::RemoveXattr
        | Op::SetFlags
        | Op::Map => path.map(|path| roots.mounted_over(&path).map_or(path, Path::to_path_buf)),
        _ => path,
    };
    let path_in_process = path.as_deref().and_then(|path| {
        let key = Key::from(&record.actor);
        table.path_in_process(key, record.header.time, path, roots.mounts())
    });
    let operation = Operation {
        time: table.boot().to_wall(record.header.time),
        provider: Provider::Bpf,
        kind,
        path,
        path_in_process,
        object: id(&fixed.object, roots),
        before: if file.op == Op::Rename {
            ObjectState::default()
        } else {
            state(&fixed.before, &fixed.object, roots)
        },
        after,
        failure: (fixed.ret < 0).then(|| Failure {
            errno: -fixed.ret,
            folded: u64::from(fixed.writers),
            summary: false,
        }),
        actor: actor(record, table),
        details: None,
    };
    if file.op == Op::Create && flags & flag::OPENED_WRITE != 0 {
        let opened =
            Operation { kind: OperationKind::OpenWrite { truncate: false }, ..operation.clone() };
        return vec![operation, opened];
    }
    match &operation.kind {
        OperationKind::Rename { from: Some(from), .. }
            if flags & flag::WHITEOUT != 0 && fixed.ret == 0 =>
        {
            // A device that says "nothing here" to an overlay is left at the old name.
            let after =
                ObjectState { kind: Some(ObjectKind::CharDevice), ..ObjectState::default() };
            let whiteout = Operation {
                kind: OperationKind::Create,
                path: Some(from.clone()),
                object: None,
                after,
                ..operation.clone()
            };
            vec![operation, whiteout]
        }
        OperationKind::Rename { from, from_in_scope, to_in_scope, exchange: true, .. } => {
            let other = Operation {
                kind: OperationKind::Rename {
                    from: operation.path.clone(),
                    from_in_scope: *to_in_scope,
                    to_in_scope: *from_in_scope,
                    replaced: None,
                    exchange: true,
                },
                path: from.clone(),
                object: id(&fixed.other, roots),
                after: state(&fixed.before, &fixed.other, roots),
                ..operation.clone()
            };
            vec![operation, other]
        }
        _ => vec![operation],
    }
}

fn actor(record: &Record<'_>, table: &mut Table) -> Arc<Actor> {
    let key = Key::from(&record.actor);
    let mut credentials = Credentials::from(&record.actor);
    if record.hook == Hook::FileRelease
        && credentials.uid == ID_UNSET
        && let Some(last) = table.credentials(key)
    {
        // The file was released by another process than the one that opened it (it was passed
        // on, or a kernel worker did it): the ids in the record are not the opener's.
        credentials = last;
    }
    table.actor(key, Some(record.actor.tid), &credentials)
}

fn id(object: &Object, roots: &Roots) -> Option<ObjectId> {
    let device = roots.device(object.dev);
    (object.ino != 0).then_some(ObjectId { device, inode: object.ino })
}

fn state(attrs: &Attrs, object: &Object, roots: &Roots) -> ObjectState {
    let id = id(object, roots);
    let mut state = ObjectState {
        inode: id.map(|id| id.inode),
        device: id.map(|id| id.device).filter(|&device| device != 0),
        ..ObjectState::default()
    };
    if attrs.known != 0 {
        state.kind = ObjectKind::from_mode(attrs.mode);
        state.size = Some(attrs.size);
        state.mode = Some(attrs.mode & 0o7777);
        state.uid = Some(attrs.uid);
        state.gid = Some(attrs.gid);
        state.nlink = Some(u64::from(attrs.nlink));
        state.mtime = Some(Timestamp::from_unix(attrs.mtime, attrs.mtime_nsec));
    }
    state
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
