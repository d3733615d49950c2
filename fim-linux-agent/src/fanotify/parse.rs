//! From the bytes that read(2) on a fanotify group returns to events. See fanotify(7).
//!
//! The kernel is the only writer of these bytes, and yet they are treated as untrusted input: a
//! record that is not as documented ends the buffer with an error, and an information record of a
//! type that is not known is skipped, so that newer kernels may add to them.

use std::fmt;

/// `FANOTIFY_METADATA_VERSION`; the layout of the fixed part has been the same since 2.6.37.
const VERSION: u8 = 3;
/// Bytes of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// Bytes of `struct fanotify_event_info_header`.
const INFO_HEADER: usize = 4;
/// Bytes of a `__kernel_fsid_t` and of the fixed part of a `struct file_handle` behind it.
const FID: usize = 8 + 8;
/// `FILEID_INVALID`: no object (the parent of a root, an object that had no handle).
const FILEID_INVALID: i32 = 0xff;

/// Which object: a file system id and a file handle, as they lie in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fid<'a>(&'a [u8]);

impl<'a> Fid<'a> {
    /// From `fsid`, `handle_bytes`, `handle_type` and the handle, one behind the other.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(array(bytes, 8)?) as usize;
        (length == bytes.len().checked_sub(FID)?).then_some(Self(bytes))
    }

    /// The bytes as a whole: equal for equal objects.
    pub fn key(self) -> &'a [u8] {
        self.0
    }

    /// The file system, as statfs(2) names it in `f_fsid`.
    pub fn fsid(self) -> [u8; 8] {
        array(self.0, 0).unwrap_or_default()
    }

    /// `handle_type`.
    pub fn kind(self) -> i32 {
        array(self.0, 12).map_or(FILEID_INVALID, i32::from_ne_bytes)
    }

    /// `f_handle`.
    pub fn handle(self) -> &'a [u8] {
        self.0.get(FID..).unwrap_or_default()
    }

    /// Whether it names an object at all.
    fn is_valid(self) -> bool {
        self.kind() != FILEID_INVALID && !self.handle().is_empty()
    }
}

impl fmt::Debug for Fid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", u64::from_be_bytes(self.fsid()))?;
        self.handle().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The directory.
    pub directory: Fid<'a>,
    /// The name in it; empty for the directory itself.
    pub name: &'a [u8],
}

/// What the kernel says of the process behind an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidFd {
    /// It lives; the descriptor is the reader's to close.
    Open(i32),
    /// `FAN_NOPIDFD`: it is gone.
    Gone,
    /// There is no such information, or the descriptor could not be made.
    Unknown,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `FAN_*` bits; several where the kernel has merged events.
    pub mask: u64,
    /// Process id; 0 when it has none in the reader's pid namespace.
    pub pid: i32,
    /// The process.
    pub pidfd: PidFd,
    /// The name the object was reached by.
    pub name: Option<Name<'a>>,
    /// The object.
    pub object: Option<Fid<'a>>,
    /// `FAN_RENAME`: its name before.
    pub old: Option<Name<'a>>,
    /// `FAN_RENAME`: its name after.
    pub new: Option<Name<'a>>,
}

/// What is wrong with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A length does not fit.
    #[error("an event's length does not fit its buffer")]
    Length,
    /// The fixed part has another version.
    #[error("event format version {0}, expected {VERSION}")]
    Version(u8),
}

/// The events of a buffer, in order, up to the first that is wrong.
pub fn events(buffer: &[u8]) -> Events<'_> {
    Events { rest: buffer }
}

/// See [`events`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// What has not been looked at yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let event = event(self.rest);
        self.rest = match event {
            Ok((_, length)) => self.rest.get(length..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(event.map(|(event, _)| event))
    }
}

/// The first event in `bytes`, and its length.
fn event(bytes: &[u8]) -> Result<(Event<'_>, usize), ParseError> {
    let length = u32::from_ne_bytes(array(bytes, 0).ok_or(ParseError::Length)?) as usize;
    let version = *bytes.get(4).ok_or(ParseError::Length)?;
    if version != VERSION {
        return Err(ParseError::Version(version));
    }
    let metadata = u16::from_ne_bytes(array(bytes, 6).ok_or(ParseError::Length)?) as usize;
    if metadata < METADATA || length < metadata {
        return Err(ParseError::Length);
    }
    let bytes = bytes.get(..length).ok_or(ParseError::Length)?;
    let mut event = Event {
        mask: u64::from_ne_bytes(array(bytes, 8).ok_or(ParseError::Length)?),
        pid: i32::from_ne_bytes(array(bytes, 20).ok_or(ParseError::Length)?),
        pidfd: PidFd::Unknown,
        name: None,
        object: None,
        old: None,
        new: None,
    };
    let mut rest = &bytes[metadata..];
    while !rest.is_empty() {
        let kind = rest[0];
        let length = u16::from_ne_bytes(array(rest, 2).ok_or(ParseError::Length)?) as usize;
        if length < INFO_HEADER {
            return Err(ParseError::Length);
        }
        let body = rest.get(INFO_HEADER..length).ok_or(ParseError::Length)?;
        match kind {
            libc::FAN_EVENT_INFO_TYPE_FID => event.object = fid(body)?.0,
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME | libc::FAN_EVENT_INFO_TYPE_DFID => {
                event.name = name(body)?;
            }
            libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => event.old = name(body)?,
            libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => event.new = name(body)?,
            libc::FAN_EVENT_INFO_TYPE_PIDFD => {
                let descriptor = i32::from_ne_bytes(array(body, 0).ok_or(ParseError::Length)?);
                event.pidfd = match descriptor {
                    0.. => PidFd::Open(descriptor),
                    libc::FAN_NOPIDFD => PidFd::Gone,
                    _ => PidFd::Unknown,
                };
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok((event, length))
}

/// The object at the start of `body`, and what stands behind it.
fn fid(body: &[u8]) -> Result<(Option<Fid<'_>>, &[u8]), ParseError> {
    let handle = u32::from_ne_bytes(array(body, 8).ok_or(ParseError::Length)?) as usize;
    let end = FID.checked_add(handle).ok_or(ParseError::Length)?;
    let fid = Fid(body.get(..end).ok_or(ParseError::Length)?);
    Ok((fid.is_valid().then_some(fid), &body[end..]))
}

/// A directory and a name in it. The name ends at its first NUL; what follows is padding. `.` is
/// the directory itself.
fn name(body: &[u8]) -> Result<Option<Name<'_>>, ParseError> {
    let (directory, rest) = fid(body)?;
    let name = rest.split(|&byte| byte == 0).next().unwrap_or_default();
    // A name with a slash in it is none: it could lead out of the directory.
    if name == b".." || name.contains(&b'/') {
        return Err(ParseError::Length);
    }
    let name = if name == b"." { &[][..] } else { name };
    Ok(directory.map(|directory| Name { directory, name }))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An information record about `handle` in file system `fsid`, with a name if there is one.
    pub(crate) fn info(kind: u8, fsid: u64, handle: &[u8], name: Option<&[u8]>) -> Vec<u8> {
        let mut body = fsid.to_ne_bytes().to_vec();
        body.extend((handle.len() as u32).to_ne_bytes());
        body.extend(1i32.to_ne_bytes());
        body.extend(handle);
        if let Some(name) = name {
            body.extend(name);
            body.push(0);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut record = vec![kind, 0];
        record.extend(((body.len() + INFO_HEADER) as u16).to_ne_bytes());
        record.extend(body);
        record
    }

    /// An event with these information records.
    pub(crate) fn event_bytes(mask: u64, pid: i32, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let mut bytes = ((METADATA + infos.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend((METADATA as u16).to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend((-1i32).to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(infos);
        bytes
    }

    fn pidfd(descriptor: i32) -> Vec<u8> {
        let mut record = vec![libc::FAN_EVENT_INFO_TYPE_PIDFD, 0];
        record.extend(8u16.to_ne_bytes());
        record.extend(descriptor.to_ne_bytes());
        record
    }

    #[test]
    fn a_name_an_object_and_a_process() {
        let bytes = event_bytes(
            libc::FAN_CREATE,
            7,
            &[
                info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 1, b"directory", Some(b"n\xffme")),
                info(libc::FAN_EVENT_INFO_TYPE_FID, 1, b"object", None),
                pidfd(9),
                vec![200, 0, 4, 0], // of a kernel to come
            ],
        );
        let two = [bytes.clone(), bytes].concat();
        let events: Vec<_> = events(&two).collect::<Result<_, _>>().unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0], events[1]);
        let event = events[0];
        assert_eq!((event.mask, event.pid, event.pidfd), (libc::FAN_CREATE, 7, PidFd::Open(9)));
        let name = event.name.unwrap();
        assert_eq!((name.directory.handle(), name.name), (&b"directory"[..], &b"n\xffme"[..]));
        assert_eq!(name.directory.fsid(), 1u64.to_ne_bytes());
        assert_eq!(event.object.unwrap().handle(), b"object");
        assert_eq!(Fid::new(event.object.unwrap().key()), event.object);
    }

    #[test]
    fn what_is_absent_is_absent() {
        let overflow = event_bytes(libc::FAN_Q_OVERFLOW, 0, &[]);
        let event = events(&overflow).next().unwrap().unwrap();
        assert_eq!((event.pidfd, event.name, event.object), (PidFd::Unknown, None, None));

        let itself = info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 1, b"d", Some(b"."));
        let bytes = event_bytes(libc::FAN_ATTRIB, 1, &[itself, pidfd(libc::FAN_NOPIDFD)]);
        let event = events(&bytes).next().unwrap().unwrap();
        assert_eq!((event.name.unwrap().name, event.pidfd), (&b""[..], PidFd::Gone));

        let none = info(libc::FAN_EVENT_INFO_TYPE_FID, 1, b"", None);
        let bytes = event_bytes(libc::FAN_ATTRIB, 1, &[none, pidfd(libc::FAN_EPIDFD)]);
        let event = events(&bytes).next().unwrap().unwrap();
        assert_eq!((event.object, event.pidfd), (None, PidFd::Unknown));
    }

    #[test]
    fn wrong_lengths_and_versions() {
        let good = event_bytes(1, 1, &[info(libc::FAN_EVENT_INFO_TYPE_FID, 1, b"abcd", None)]);
        for cut in 1..good.len() {
            assert_eq!(events(&good[..cut]).next(), Some(Err(ParseError::Length)), "{cut}");
        }
        let mut other = good.clone();
        other[4] = 2;
        assert_eq!(events(&other).next(), Some(Err(ParseError::Version(2))));
        let mut long = good.clone();
        long[METADATA + 2..METADATA + 4].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(events(&long).next(), Some(Err(ParseError::Length)));
        let mut zero = good;
        zero[METADATA + 2..METADATA + 4].copy_from_slice(&0u16.to_ne_bytes());
        assert_eq!(events(&zero).next(), Some(Err(ParseError::Length)));
        for name in [&b".."[..], b"a/b"] {
            let info = info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 1, b"d", Some(name));
            let bytes = event_bytes(1, 1, &[info]);
            assert_eq!(events(&bytes).next(), Some(Err(ParseError::Length)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(events(&bytes).count() <= bytes.len() / METADATA + 1);
        }

        #[test]
        fn any_damage(
            names in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..64), 1..8),
            damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..16),
        ) {
            let mut bytes = Vec::new();
            for name in &names {
                bytes.extend(event_bytes(libc::FAN_RENAME, 1, &[
                    info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, 1, name, Some(name)),
                    info(libc::FAN_EVENT_INFO_TYPE_FID, 1, name, None),
                ]));
            }
            for (at, value) in damage {
                let at = at as usize % bytes.len();
                bytes[at] = value;
            }
            let mut good = 0;
            for event in events(&bytes) {
                good += usize::from(event.is_ok());
            }
            prop_assert!(good <= bytes.len() / METADATA);
        }
    }
}
