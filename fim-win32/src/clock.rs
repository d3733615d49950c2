//! Processor time, and how much of it a thread may claim.

use std::io;
use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, GetProcessHandleCount, GetProcessTimes, GetThreadTimes,
    SetThreadPriority, THREAD_PRIORITY_BELOW_NORMAL, THREAD_PRIORITY_LOWEST,
};

const NONE: FILETIME = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };

/// Kernel and user time of the calling thread; Windows counts it in ticks of some 16 ms.
pub fn thread_time() -> Duration {
    let (mut created, mut ended, mut kernel, mut user) = (NONE, NONE, NONE, NONE);
    // SAFETY: the pseudo handle is always valid, and the four are ours to be written.
    let done = unsafe {
        GetThreadTimes(GetCurrentThread(), &mut created, &mut ended, &mut kernel, &mut user)
    };
    if done == 0 { Duration::ZERO } else { duration(kernel) + duration(user) }
}

/// Now, in ticks of 100 ns since 1601-01-01 UTC: what events are stamped with.
pub fn now() -> u64 {
    let mut time = NONE;
    // SAFETY: it is ours to be written.
    unsafe { GetSystemTimePreciseAsFileTime(&mut time) };
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// What this process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Kernel and user time of all threads, also of those that have ended.
    pub processor: Duration,
    /// When it began, in ticks of 100 ns since 1601-01-01 UTC.
    pub start: u64,
    /// Bytes in memory (the working set).
    pub resident: u64,
    /// Bytes of its own, in memory or in the page file.
    pub private: u64,
    /// Open handles.
    pub handles: u32,
}

/// What this process uses now; what the system does not tell is zero.
pub fn usage() -> Usage {
    let (mut created, mut ended, mut kernel, mut user) = (NONE, NONE, NONE, NONE);
    let mut memory = PROCESS_MEMORY_COUNTERS::default();
    let mut handles = 0;
    // SAFETY: the pseudo handle is always valid, and what is written to is ours and as large as is
    // said.
    unsafe {
        let process = GetCurrentProcess();
        GetProcessTimes(process, &mut created, &mut ended, &mut kernel, &mut user);
        K32GetProcessMemoryInfo(process, &mut memory, size_of_val(&memory) as u32);
        GetProcessHandleCount(process, &mut handles);
    }
    Usage {
        processor: duration(kernel) + duration(user),
        start: u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime),
        resident: memory.WorkingSetSize as u64,
        private: memory.PagefileUsage as u64,
        handles,
    }
}

/// Lets other threads go before the calling one; the nicer, the more.
///
/// # Errors
/// What the system says.
pub fn be_nice(nice: u8) -> io::Result<()> {
    let priority = if nice < 10 { THREAD_PRIORITY_BELOW_NORMAL } else { THREAD_PRIORITY_LOWEST };
    // SAFETY: the pseudo handle is always valid.
    match unsafe { SetThreadPriority(GetCurrentThread(), priority) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn duration(time: FILETIME) -> Duration {
    let ticks = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(ticks.saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_by() {
        let (before, began) = (usage(), thread_time());
        // The two are counted apart: each is waited for.
        while thread_time() == began || usage().processor == before.processor {}
        let after = usage();
        assert!(after.processor > before.processor && after.resident > 0, "{after:?}");
        assert!(after.start > 130_000_000_000_000_000, "{after:?}");
    }
}
