//! Times as Windows counts them.

use fim_common::time::Timestamp;

/// Steps of FILETIME in a second: 100 ns each.
pub const SECOND: u64 = 10_000_000;
/// 1970 in FILETIME, which counts from 1601.
const EPOCH: i128 = 116_444_736_000_000_000;

/// The instant of a FILETIME.
pub fn timestamp(filetime: u64) -> Timestamp {
    Timestamp::from_nanos((i128::from(filetime) - EPOCH) * 100)
}
