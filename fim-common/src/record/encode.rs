//! Records to bytes, as the eBPF programs write them: for a replay.

use std::vec::Vec;

use super::decode::{Body, File, Process, Record};
use super::{FileBody, Header, Kind, ProcessBody, VERSION};

/// The bytes of a record. Its length, version, kind and hook, its operation and the lengths of the
/// tail's parts are those of what it holds, whatever the fixed parts say.
pub fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let kind = match &record.body {
        Body::File(_) => Kind::File,
        Body::Process(_) => Kind::Process,
        Body::Fork(_) => Kind::Fork,
        Body::Exit => Kind::Exit,
    };
    let hook = record.hook as u32;
    Header { len: 0, version: VERSION, kind: kind as u16, hook, ..record.header }.put(&mut bytes);
    record.actor.put(&mut bytes);
    match &record.body {
        Body::File(File { fixed, op, path, path2, extra }) => {
            let fixed = FileBody {
                op: *op as u32,
                path_len: path.len() as u16,
                path2_len: path2.len() as u16,
                extra_len: extra.len() as u16,
                ..*fixed
            };
            fixed.put(&mut bytes);
            [path, path2, extra].into_iter().for_each(|part| bytes.extend_from_slice(part));
        }
        Body::Process(Process { fixed, exe, cwd, group, args }) => {
            let fixed = ProcessBody {
                exe_len: exe.len() as u16,
                cwd_len: cwd.len() as u16,
                args_len: args.len() as u16,
                group_len: group.len() as u16,
                ..*fixed
            };
            fixed.put(&mut bytes);
            [exe, cwd, group, args].into_iter().for_each(|part| bytes.extend_from_slice(part));
        }
        Body::Fork(fork) => fork.put(&mut bytes),
        Body::Exit => {}
    }
    let len = (bytes.len() as u32).to_ne_bytes();
    bytes[..len.len()].copy_from_slice(&len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::super::{Actor, Ancestor, Attrs, ForkBody, Hook, Object, Op};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let header = Header { time: 1, sequence: 2, cpu: 3, ..Header::default() };
        let actor = Actor { start: 4, tgid: 5, tid: 6, loginuid: u32::MAX, ..Actor::default() };
        let object = Object { ino: 7, dev: 8, generation: 9 };
        let after = Attrs { size: 10, mtime: -11, nlink: 12, known: 1, ..Attrs::default() };
        let fixed = FileBody { ret: -13, root2: 14, object, after, ..FileBody::default() };
        let (path, path2, extra) = (&b"a\0etc\0"[..], &b"b\0"[..], &b"x"[..]);
        let file = File { fixed, op: Op::Rename, path, path2, extra };
        let mut fixed = ProcessBody { cgroup: 15, comm: [16; 16], ..ProcessBody::default() };
        (fixed.ancestors[7], fixed.ancestors_len) =
            (Ancestor { tgid: 17, ..Ancestor::default() }, 8);
        let (exe, group, args) = (&b"sh\0bin\0"[..], &b"b.scope\0a.slice\0"[..], &b"sh\0-c\0"[..]);
        let process = Process { fixed, exe, cwd: b"", group, args };
        let fork = ForkBody { start: 18, tgid: 19, exec_id: 20 };
        for body in [Body::File(file), Body::Process(process), Body::Fork(fork), Body::Exit] {
            let bytes = encode(&Record { header, hook: Hook::Rename, actor, body });
            let read = decode(&bytes).unwrap();
            assert_eq!((read.hook, read.actor), (Hook::Rename, actor));
            assert_eq!((read.header.time, read.header.sequence, read.header.cpu), (1, 2, 3));
            match (read.body, body) {
                (Body::File(read), Body::File(file)) => {
                    assert_eq!((read.op, read.path, read.path2), (Op::Rename, path, path2));
                    assert_eq!((read.extra, read.fixed.path_len), (extra, 6));
                    let fixed = FileBody {
                        op: Op::Rename as u32,
                        path_len: 6,
                        path2_len: 2,
                        extra_len: 1,
                        ..file.fixed
                    };
                    assert_eq!(read.fixed, fixed);
                }
                (Body::Process(read), Body::Process(process)) => {
                    assert_eq!(
                        (read.exe, read.cwd, read.group, read.args),
                        (process.exe, process.cwd, process.group, process.args)
                    );
                    assert_eq!(read.fixed.ancestors, process.fixed.ancestors);
                }
                (read, body) => assert_eq!(read, body),
            }
        }
    }
}
