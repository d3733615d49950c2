//! When equal timestamps prove that nothing was written between two looks.
//!
//! The kernel stamps changes with its coarse clock, which moves once a tick (1 to 10 ms): a second
//! write within the tick of the first leaves mtime and ctime as they are. Two looks that both see
//! the time T prove something only if the clock had left T before the first. From Linux 6.13 on,
//! file systems with `FS_MGTIME` give a change its own, finer time once somebody has looked at the
//! previous one, and then there is nothing to wait for.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::object::Handle;
use crate::time::Timestamp;

/// No kernel ticks slower than `HZ=100`. A ctime further ahead than this comes from a clock that
/// was set back; waiting for it would be waiting for that long.
const TICK: Duration = Duration::from_millis(10);

/// How long until the coarse clock has passed `ctime`; `None` if it has already, or need not.
pub(super) fn unsettled(handle: &Handle, ctime: Timestamp) -> Option<Duration> {
    let ahead = wait(ctime, coarse())?;
    if multigrain(handle) { None } else { Some(ahead) }
}

/// The decision alone. One nanosecond at least, one tick at most: after a tick the clock has
/// moved, whatever `HZ` is.
fn wait(ctime: Timestamp, now: Timestamp) -> Option<Duration> {
    let ahead = ctime.since(now);
    let tick = TICK.as_nanos() as i128;
    (0..=tick).contains(&ahead).then_some(TICK)
}

fn coarse() -> Timestamp {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Timestamp::from_unix(now.tv_sec, now.tv_nsec as u32)
}

fn multigrain(handle: &Handle) -> bool {
    static KERNEL: OnceLock<bool> = OnceLock::new();
    let kernel = *KERNEL.get_or_init(|| {
        let uname = rustix::system::uname();
        release(&uname.release().to_string_lossy()).is_some_and(|version| version >= (6, 13))
    });
    kernel
        && rustix::fs::fstatfs(handle).is_ok_and(|statfs| {
            // ext4, xfs, btrfs, tmpfs: fs/*/super.c and mm/shmem.c with FS_MGTIME in 6.13.
            matches!(statfs.f_type as u32, 0xef53 | 0x5846_5342 | 0x9123_683e | 0x0102_1994)
        })
}

/// Major and minor number of a kernel release such as `6.18.44-fc`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_only_within_the_tick() {
        let at = |milliseconds: i128| Timestamp::from_nanos(milliseconds * 1_000_000);
        assert_eq!(wait(at(99), at(100)), None, "the clock has left that tick");
        assert_eq!(wait(at(100), at(100)), Some(TICK));
        assert_eq!(wait(at(104), at(100)), Some(TICK), "a fine-grained time, ahead of the tick");
        assert_eq!(wait(at(5_000), at(100)), None, "the clock was set back");
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(release("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(release("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(release("7.0-rc1"), Some((7, 0)));
        assert_eq!(release("what"), None);
    }
}
