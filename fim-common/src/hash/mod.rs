//! Content hashes that belong to an identified object, or say that they do not.
//!
//! Invariant: a hash marked [`HashState::Exact`] is of the object asked for, and of content that
//! no write(2) changed between the first and the last byte read. Three things together show it:
//! the file system's clock has left the time of the last change (`clock`), no write was going on
//! ([`Handle::settle`]), and size, mtime and ctime are the same afterwards. None of them shows a
//! store through a shared mapping whose page was dirty before (the kernel moves the time at the
//! first store after a writeback, not at each), nor direct I/O that overwrites.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::event::ContentDiff;
use crate::object::Handle;
use crate::scan::Throttle;
use crate::state::{HashState, ObjectId, ObjectState};

#[cfg_attr(windows, path = "clock_windows.rs")]
mod clock;
mod pool;

pub use pool::{Compare, Done, HashPool, Job, PoolOptions, QueueFull};

/// Bytes read at once. 128 KiB stays in a core's L2 cache between read(2) and SHA-256.
const BUFFER: usize = 128 * 1024;

/// What came of hashing one object.
#[derive(Clone, Debug, PartialEq)]
pub struct HashOutcome {
    /// How far the hash can be trusted.
    pub state: HashState,
    /// 64 lower-case hexadecimal digits; only with [`HashState::Exact`].
    pub sha256: Option<String>,
    /// What fstat(2) said of the object afterwards (without ACL, xattrs, capabilities); `None`
    /// when the object asked for could not be opened.
    pub after: Option<ObjectState>,
    /// Bytes of content read, both times if it was read twice.
    pub bytes: u64,
    /// Time from opening to the last look, without the time in a pool's queue.
    pub seconds: f64,
    /// What text changed, where the job asked for it.
    pub diff: Option<ContentDiff>,
}

impl HashOutcome {
    /// Of content that was not read, or not to the end.
    pub fn unread(state: HashState, after: Option<ObjectState>) -> Self {
        Self { state, sha256: None, after, bytes: 0, seconds: 0.0, diff: None }
    }
}

/// Hashes the content of the regular file that `path` names, if it is the object `expected`
/// (`None`: whichever it is; a `device` of 0 is not compared, for a kernel's device number that
/// stat(2) does not show, as on btrfs). At most `limit` bytes and one more are read.
///
/// Blocks on the disk, and for up to a clock tick (1 to 10 ms) when the file was changed within
/// the current one and the file system could not show another change in it.
pub fn content(path: &Path, expected: Option<ObjectId>, limit: u64) -> HashOutcome {
    content_until(path, expected, limit, &AtomicBool::new(false))
}

/// [`content`], given up when `cancel` becomes true: [`HashState::Skipped`].
pub fn content_until(
    path: &Path,
    expected: Option<ObjectId>,
    limit: u64,
    cancel: &AtomicBool,
) -> HashOutcome {
    let start = Instant::now();
    let mut buffer = vec![0_u8; BUFFER];
    let mut outcome = match open(path, expected) {
        Ok((handle, _)) => handle_content(&handle, limit, &mut buffer, Reading::until(cancel)),
        Err(outcome) => *outcome,
    };
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

/// [`content`], and what it read; `None` when that is more than `limit` bytes.
pub fn content_kept(
    path: &Path,
    expected: Option<ObjectId>,
    limit: u64,
) -> (HashOutcome, Option<Vec<u8>>) {
    match open(path, expected) {
        Ok((handle, _)) => {
            let mut buffer = vec![0_u8; BUFFER];
            let mut kept = Kept { limit, bytes: None };
            let cancel = AtomicBool::new(false);
            let outcome = handle_content_kept(
                &handle,
                limit,
                &mut buffer,
                Reading::until(&cancel),
                Some(&mut kept),
            );
            (outcome, kept.bytes)
        }
        Err(outcome) => (*outcome, None),
    }
}

/// Opens what is to be hashed, or says why it cannot be.
fn open(
    path: &Path,
    expected: Option<ObjectId>,
) -> Result<(Handle, ObjectState), Box<HashOutcome>> {
    let unread = |state| Box::new(HashOutcome::unread(state, None));
    let handle = Handle::open_content(path).map_err(|error| {
        let state = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HashState::Gone,
            _ if expected.is_some_and(|expected| is_another(path, expected)) => HashState::Gone,
            io::ErrorKind::InvalidInput => HashState::Skipped,
            _ => HashState::Denied,
        };
        unread(state)
    })?;
    let stat = handle.stat().map_err(|_| unread(HashState::Denied))?;
    match expected {
        // The name means another object by now; the one asked for has lost it.
        Some(expected) if !same_object(&stat, expected) => Err(unread(HashState::Gone)),
        _ => Ok((handle, stat)),
    }
}

/// Whether the name means another object than the one asked for, of which that says nothing.
fn is_another(path: &Path, expected: ObjectId) -> bool {
    crate::object::stat(path).is_ok_and(|stat| !same_object(&stat, expected))
}

fn same_object(stat: &ObjectState, expected: ObjectId) -> bool {
    stat.inode == Some(expected.inode)
        && (expected.device == 0 || stat.device == Some(expected.device))
}

/// How long to wait until the file system's clock has ticked past the last change; `None` if it
/// has, or if a change within the tick would show all the same.
fn unsettled(handle: &Handle, stat: &ObjectState) -> Option<Duration> {
    clock::unsettled(handle, stat.ctime?)
}

/// What content is read under.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// Gives it up when it becomes true.
    pub(crate) cancel: &'a AtomicBool,
    /// Bytes a second.
    pub(crate) throttle: Option<&'a Throttle>,
}

impl<'a> Reading<'a> {
    /// Without a limit.
    pub(crate) fn until(cancel: &'a AtomicBool) -> Self {
        Self { cancel, throttle: None }
    }
}

/// Hashes an object that is open for reading; the caller has checked which object it is. A race is
/// tried once more. Waits up to a clock tick before each reading, as [`content`] says.
pub(crate) fn handle_content(
    handle: &Handle,
    limit: u64,
    buffer: &mut [u8],
    reading: Reading<'_>,
) -> HashOutcome {
    handle_content_kept(handle, limit, buffer, reading, None)
}

/// Content that is kept while it is hashed.
pub(crate) struct Kept {
    /// Larger content is not kept; bytes.
    pub(crate) limit: u64,
    /// What the hash is of, when it is exact; `None`: it is larger.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// [`handle_content`], keeping what it reads.
pub(crate) fn handle_content_kept(
    handle: &Handle,
    limit: u64,
    buffer: &mut [u8],
    reading: Reading<'_>,
    mut kept: Option<&mut Kept>,
) -> HashOutcome {
    let start = Instant::now();
    let mut bytes = 0;
    let mut outcome = settled(handle, limit, buffer, reading, &mut bytes, kept.as_deref_mut());
    if outcome.state == HashState::Raced {
        outcome = settled(handle, limit, buffer, reading, &mut bytes, kept);
    }
    outcome.bytes = bytes;
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

/// One pass, from after the clock tick of the last change.
fn settled(
    handle: &Handle,
    limit: u64,
    buffer: &mut [u8],
    reading: Reading<'_>,
    bytes: &mut u64,
    kept: Option<&mut Kept>,
) -> HashOutcome {
    let denied = || HashOutcome::unread(HashState::Denied, None);
    let Ok(mut stat) = handle.stat() else { return denied() };
    let mut ambiguous = false;
    if let Some(wait) = unsettled(handle, &stat) {
        std::thread::sleep(wait);
        stat = match handle.stat() {
            Ok(stat) => stat,
            Err(_) => return denied(),
        };
        // Somebody writes in every tick: equal times would prove nothing.
        ambiguous = unsettled(handle, &stat).is_some();
    }
    // Between the look and the reading: a write that began before it has its time in `stat`.
    handle.settle();
    let outcome = once(handle, stat, limit, buffer, reading, bytes, kept);
    match outcome.state {
        HashState::Exact if ambiguous => HashOutcome::unread(HashState::Raced, outcome.after),
        _ => outcome,
    }
}

/// One pass over the content.
fn once(
    handle: &Handle,
    before: ObjectState,
    limit: u64,
    buffer: &mut [u8],
    reading: Reading<'_>,
    bytes: &mut u64,
    mut kept: Option<&mut Kept>,
) -> HashOutcome {
    let size = before.size.unwrap_or(0);
    if size > limit {
        return HashOutcome::unread(HashState::TooLarge, Some(before));
    }
    if let Some(kept) = &mut kept {
        kept.bytes = (size <= kept.limit).then(Vec::new);
    }
    let mut hasher = Sha256::new();
    let mut position = 0_u64;
    // The read that would only find the end is spared: the size is compared afterwards.
    while position < size {
        if reading.cancel.load(Ordering::Relaxed) {
            return HashOutcome::unread(HashState::Skipped, Some(before));
        }
        let most = usize::try_from(size - position).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else { break };
        match handle.read_at(buffer, position) {
            Ok(0) => break,
            Ok(length) => {
                position += length as u64;
                *bytes += length as u64;
                if let Some(throttle) = reading.throttle {
                    throttle.take(length, reading.cancel);
                }
                if let Some(read) = buffer.get(..length) {
                    hasher.update(read);
                    if let Some(kept) = kept.as_deref_mut().and_then(|kept| kept.bytes.as_mut()) {
                        kept.extend_from_slice(read);
                    }
                }
            }
            // Bad sectors, a stale network handle, a mandatory lease.
            Err(_) => return HashOutcome::unread(HashState::Denied, Some(before)),
        }
    }
    // With what completes the state: one system call instead of two for each object of a scan.
    let Ok(after) = handle.stat_with_attributes() else {
        return HashOutcome::unread(HashState::Denied, Some(before));
    };
    let untouched = position == size
        && before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime;
    if !untouched {
        return HashOutcome::unread(HashState::Raced, Some(after));
    }
    HashOutcome {
        state: HashState::Exact,
        sha256: Some(hex(&hasher.finalize())),
        after: Some(after),
        bytes: 0,
        seconds: 0.0,
        diff: None,
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Whether SHA-256 runs on the CPU's own instructions: the very conditions under which the sha2
/// crate (0.11, `src/sha256.rs`) chooses its SHA-NI or ARMv8 back end at run time. With them a
/// core makes some 2 GB/s, without a fifth of that.
pub fn hardware() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Bytes a second that one core hashes now, measured for about `time`; for `fim doctor`.
pub fn rate(time: Duration) -> f64 {
    let buffer = vec![0xa5_u8; BUFFER];
    let start = Instant::now();
    let mut hasher = Sha256::new();
    let mut bytes = 0_u64;
    while bytes == 0 || start.elapsed() < time {
        hasher.update(&buffer);
        bytes += buffer.len() as u64;
    }
    std::hint::black_box(hasher.finalize());
    bytes as f64 / start.elapsed().as_secs_f64()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
