//! When equal times prove that nothing was written between two looks; see the module of the same
//! name for Linux.
//!
//! NTFS stamps changes with the system time, which moves every 1 to 16 ms.

use std::time::Duration;

use crate::object::Handle;
use crate::time::Timestamp;

/// The slowest rate of the system's clock: 64 Hz.
const TICK: Duration = Duration::from_millis(16);

/// How long until the clock has certainly passed `ctime`; `None` if it has already.
pub(super) fn unsettled(_: &Handle, ctime: Timestamp) -> Option<Duration> {
    // The clock that is asked is the precise one: the file's lags behind it by up to a tick. What
    // is further ahead comes from a clock that was set back.
    let age = Timestamp::now().since(ctime);
    let tick = TICK.as_nanos() as i128;
    (-tick..=tick).contains(&age).then_some(TICK)
}
