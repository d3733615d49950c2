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

/// Bytes of maps of eBPF that a process has resident: those of a ring count twice, since its pages
/// are mapped twice in a row.
pub(crate) fn ring_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).context("reading smaps")?;
    Ok(ring_kib(&text) * 1024)
}

fn ring_kib(smaps: &str) -> u64 {
    let mut is_ring = false;
    let mut sum = 0;
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(size) if is_ring => {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
            }
            Some(_) => {}
            // proc_pid_smaps(5): what begins with a range of addresses begins a mapping.
            None if line.split(' ').next().is_some_and(|range| range.contains('-')) => {
                is_ring = line.ends_with("anon_inode:bpf-map");
            }
            None => {}
        }
    }
    sum
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

#[cfg(test)]
mod tests {
    use super::ring_kib;

    #[test]
    fn the_ring_is_what_maps_take() {
        let smaps = "7f00-7f10 rw-p 00000000 00:00 0 \nRss:     12 kB\nVmFlags: rd wr\n\
            7f20-7f30 r--s 00001000 00:10 1038 anon_inode:bpf-map\nSize: 4 kB\nRss:   4100 kB\n\
            7f40-7f50 rw-s 00000000 00:10 1038 anon_inode:bpf-map\nRss:   4 kB\n\
            7f60-7f70 r-xp 00000000 00:10 1038 /usr/bin/fim\nRss:   900 kB\n";
        assert_eq!(ring_kib(smaps), 4104);
    }
}
