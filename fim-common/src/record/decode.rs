//! Bytes from the ring to records. The bytes are untrusted: lengths, version, codes and offsets
//! are checked, and nothing here can panic.

use core::fmt;

use super::{
    ANCESTORS_MAX, Actor, Ancestor, Attrs, FileBody, ForkBody, Header, Hook, Kind, Object, Op,
    ProcessBody, VERSION,
};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part has.
    Short {
        /// How many there are.
        len: usize,
    },
    /// The header's length is not that of the record.
    Length {
        /// What the header says.
        claimed: u32,
        /// How many bytes there are.
        len: usize,
    },
    /// Written by programs of another version.
    Version(u16),
    /// Unknown kind.
    Kind(u16),
    /// Unknown operation.
    Op(u32),
    /// Unknown hook.
    Hook(u32),
    /// The lengths of the tail's parts are not that of the tail.
    Tail,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len } => write!(f, "{len} bytes are too few for a record"),
            Self::Length { claimed, len } => {
                write!(f, "the record claims {claimed} bytes and has {len}")
            }
            Self::Version(version) => write!(f, "record version {version}, not {VERSION}"),
            Self::Kind(kind) => write!(f, "unknown record kind {kind}"),
            Self::Op(op) => write!(f, "unknown operation {op}"),
            Self::Hook(hook) => write!(f, "unknown hook {hook}"),
            Self::Tail => write!(f, "the tail's parts do not add up"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// First part.
    pub header: Header,
    /// The hook of the header.
    pub hook: Hook,
    /// Who.
    pub actor: Actor,
    /// What.
    pub body: Body<'a>,
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A file operation.
    File(File<'a>),
    /// A process.
    Process(Process<'a>),
    /// A new process.
    Fork(ForkBody),
    /// The end of the actor.
    Exit,
}

/// A file operation with its tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// The fixed part.
    pub fixed: FileBody,
    /// Its operation.
    pub op: Op,
    /// First path, leaf first.
    pub path: &'a [u8],
    /// Second path.
    pub path2: &'a [u8],
    /// Attribute name or link target.
    pub extra: &'a [u8],
}

/// A process with its tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// The fixed part.
    pub fixed: ProcessBody,
    /// Path of the executable, leaf first.
    pub exe: &'a [u8],
    /// Working directory.
    pub cwd: &'a [u8],
    /// Its control group below the root of its hierarchy, leaf first.
    pub group: &'a [u8],
    /// Arguments, each ended by NUL.
    pub args: &'a [u8],
}

/// Takes plain values off the front of a slice; zeroes once it is used up, which the caller's
/// check of the length rules out.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some((head, rest)) = self.0.split_at_checked(N) {
            bytes.copy_from_slice(head);
            self.0 = rest;
        }
        bytes
    }
}

macro_rules! wire {
    ($($type:ident { $($field:ident: $kind:ident),* $(,)? })*) => {
        $(impl $type {
            fn take(cursor: &mut Cursor<'_>) -> Self {
                Self { $($field: wire!(@ $kind cursor)),* }
            }

            #[cfg(feature = "std")]
            pub(super) fn put(&self, bytes: &mut std::vec::Vec<u8>) {
                $(wire!(> $kind self.$field, bytes);)*
            }
        })*
    };
    (> bytes $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field) };
    (> ancestors $self:ident.$field:ident, $bytes:ident) => {
        for ancestor in &$self.$field {
            ancestor.put($bytes);
        }
    };
    (> u16 $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field.to_ne_bytes()) };
    (> u32 $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field.to_ne_bytes()) };
    (> i32 $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field.to_ne_bytes()) };
    (> u64 $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field.to_ne_bytes()) };
    (> i64 $self:ident.$field:ident, $bytes:ident) => { $bytes.extend($self.$field.to_ne_bytes()) };
    (> $other:ident $self:ident.$field:ident, $bytes:ident) => { $self.$field.put($bytes) };
    (@ u16 $cursor:ident) => { u16::from_ne_bytes($cursor.take()) };
    (@ u32 $cursor:ident) => { u32::from_ne_bytes($cursor.take()) };
    (@ i32 $cursor:ident) => { i32::from_ne_bytes($cursor.take()) };
    (@ u64 $cursor:ident) => { u64::from_ne_bytes($cursor.take()) };
    (@ i64 $cursor:ident) => { i64::from_ne_bytes($cursor.take()) };
    (@ bytes $cursor:ident) => { $cursor.take() };
    (@ ancestors $cursor:ident) => {
        core::array::from_fn::<Ancestor, ANCESTORS_MAX, _>(|_| Ancestor::take($cursor))
    };
    (@ $other:ident $cursor:ident) => { $other::take($cursor) };
}

wire! {
    Header { len: u32, version: u16, kind: u16, time: u64, sequence: u64, cpu: u32, hook: u32 }
    Actor {
        start: u64, tgid: u32, tid: u32, exec_id: u32, uid: u32, gid: u32, euid: u32, egid: u32,
        fsuid: u32, loginuid: u32, sessionid: u32,
    }
    Object { ino: u64, dev: u32, generation: u32 }
    Attrs {
        size: u64, mtime: i64, mtime_nsec: u32, mode: u32, uid: u32, gid: u32, nlink: u32,
        known: u32,
    }
    FileBody {
        op: u32, ret: i32, flags: u32, root: u32, root2: u32, writers: u32, object: Object,
        other: Object, before: Attrs, after: Attrs, path_len: u16, path2_len: u16,
        extra_len: u16, reserved: u16,
    }
    Ancestor { start: u64, tgid: u32, exec_id: u32, comm: bytes }
    ProcessBody {
        cgroup: u64, comm: bytes, flags: u32, ancestors_len: u32, tty: u32, ns_pid: u32,
        mnt_ns: u32, pid_ns: u32, user_ns: u32, args_total: u32, ancestors: ancestors,
        exe_len: u16, cwd_len: u16, args_len: u16, group_len: u16,
    }
    ForkBody { start: u64, tgid: u32, exec_id: u32 }
}

/// Decodes one record, which `bytes` must be exactly.
///
/// # Errors
/// When the bytes are not a record of [`VERSION`].
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let len = bytes.len();
    if len < size_of::<Header>() + size_of::<Actor>() {
        return Err(DecodeError::Short { len });
    }
    let mut cursor = Cursor(bytes);
    let header = Header::take(&mut cursor);
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    if header.len as usize != len {
        return Err(DecodeError::Length { claimed: header.len, len });
    }
    let kind = Kind::from_code(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    let hook = Hook::from_code(header.hook).ok_or(DecodeError::Hook(header.hook))?;
    let actor = Actor::take(&mut cursor);
    let left = cursor.0.len();
    let body = match kind {
        Kind::File => {
            if left < size_of::<FileBody>() {
                return Err(DecodeError::Short { len });
            }
            let fixed = FileBody::take(&mut cursor);
            let op = Op::from_code(fixed.op).ok_or(DecodeError::Op(fixed.op))?;
            let [path, path2, extra] =
                tail(cursor.0, [fixed.path_len, fixed.path2_len, fixed.extra_len])?;
            Body::File(File { fixed, op, path, path2, extra })
        }
        Kind::Process => {
            if left < size_of::<ProcessBody>() {
                return Err(DecodeError::Short { len });
            }
            let fixed = ProcessBody::take(&mut cursor);
            if fixed.ancestors_len as usize > ANCESTORS_MAX {
                return Err(DecodeError::Tail);
            }
            let lens = [fixed.exe_len, fixed.cwd_len, fixed.group_len, fixed.args_len];
            let [exe, cwd, group, args] = tail(cursor.0, lens)?;
            Body::Process(Process { fixed, exe, cwd, group, args })
        }
        Kind::Fork => {
            if left != size_of::<ForkBody>() {
                return Err(DecodeError::Length { claimed: header.len, len });
            }
            Body::Fork(ForkBody::take(&mut cursor))
        }
        Kind::Exit => {
            if left != 0 {
                return Err(DecodeError::Length { claimed: header.len, len });
            }
            Body::Exit
        }
    };
    Ok(Record { header, hook, actor, body })
}

fn tail<const N: usize>(bytes: &[u8], lens: [u16; N]) -> Result<[&[u8]; N], DecodeError> {
    let mut parts = [&bytes[..0]; N];
    let mut rest = bytes;
    for (part, len) in parts.iter_mut().zip(lens) {
        let (head, more) = rest.split_at_checked(usize::from(len)).ok_or(DecodeError::Tail)?;
        *part = head;
        rest = more;
    }
    if rest.is_empty() { Ok(parts) } else { Err(DecodeError::Tail) }
}

/// The components of a path tail, root first.
pub fn components(tail: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tail = tail.strip_suffix(b"\0").unwrap_or(tail);
    tail.rsplit(|&byte| byte == 0).filter(|component| !component.is_empty())
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    /// A record of this kind with this tail; the fixed part of the body is `fixed`.
    fn record(kind: Kind, fixed: &[u8], tail: &[u8]) -> Vec<u8> {
        let len = 80 + fixed.len() + tail.len();
        let mut bytes = Vec::new();
        bytes.extend((len as u32).to_ne_bytes());
        bytes.extend(VERSION.to_ne_bytes());
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes());
        bytes.extend(8_u64.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend((Hook::Unlink as u32).to_ne_bytes());
        bytes.resize(80, 0);
        bytes.extend(fixed);
        bytes.extend(tail);
        bytes
    }

    fn file(op: u32, lens: [u16; 3], tail: &[u8]) -> Vec<u8> {
        let mut fixed = vec![0; size_of::<FileBody>()];
        fixed[..4].copy_from_slice(&op.to_ne_bytes());
        let at = size_of::<FileBody>() - 8;
        for (index, len) in lens.into_iter().enumerate() {
            fixed[at + 2 * index..][..2].copy_from_slice(&len.to_ne_bytes());
        }
        record(Kind::File, &fixed, tail)
    }

    #[test]
    fn a_file_record() {
        let bytes = file(Op::Rename as u32, [6, 2, 1], b"a\0etc\0b\0x");
        let record = decode(&bytes).unwrap();
        assert_eq!((record.header.time, record.header.sequence, record.header.cpu), (7, 8, 1));
        let Body::File(file) = record.body else { panic!("{record:?}") };
        assert_eq!(file.op, Op::Rename);
        assert_eq!(components(file.path).collect::<Vec<_>>(), [&b"etc"[..], b"a"]);
        assert_eq!(components(file.path2).collect::<Vec<_>>(), [b"b"]);
        assert_eq!(file.extra, b"x");
    }

    #[test]
    fn refusals() {
        let good = file(1, [2, 0, 0], b"a\0");
        let mut version = good.clone();
        version[4] = 9;
        let mut kind = good.clone();
        kind[6] = 77;
        let mut hook = good.clone();
        hook[28] = 99;
        let cases: [(&str, Vec<u8>, DecodeError); 7] = [
            ("empty", vec![], DecodeError::Short { len: 0 }),
            ("version", version, DecodeError::Version(9)),
            ("kind", kind, DecodeError::Kind(77)),
            ("hook", hook, DecodeError::Hook(99)),
            ("op", file(99, [0; 3], b""), DecodeError::Op(99)),
            ("tail too short", file(1, [5, 0, 0], b"a\0"), DecodeError::Tail),
            ("tail too long", file(1, [1, 0, 0], b"a\0"), DecodeError::Tail),
        ];
        for (name, bytes, error) in cases {
            assert_eq!(decode(&bytes), Err(error), "{name}");
        }
        let cut = &good[..good.len() - 1];
        assert!(matches!(decode(cut), Err(DecodeError::Length { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_change_of_a_good_record(at in 0_usize..226, value: u8) {
            let mut bytes = file(14, [2, 2, 2], b"a\0b\0cd");
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(&bytes);
        }
    }
}
