//! Other processes: what they used, and their end.

use std::{
    fs,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How long a process has to end when it is asked to.
const GRACE: Duration = Duration::from_secs(20);

/// The processor time of all threads that a process has now, in microseconds. The scheduler counts
/// it in nanoseconds; `/proc/PID/stat` has ticks of 10 ms only.
pub(crate) fn cpu_us(pid: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("listing threads")?;
    let mut sum = 0;
    for task in tasks.flatten() {
        // A thread may be gone by now.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum / 1000)
}

/// Asks a child to end, and makes it after a while. Both fail only where it has ended.
pub(crate) fn end(child: &mut Child) {
    Command::new("kill").arg(child.id().to_string()).status().ok();
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().ok();
    child.wait().ok();
}
