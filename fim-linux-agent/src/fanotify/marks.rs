//! Whether the marks are as they were set. Whoever takes the agent's descriptor from it
//! (pidfd_getfd(2), for root) can take them away.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// The marks of a group, by `/proc/self/fdinfo` (proc_pid_fdinfo(5)).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Those on file systems: masks by device number, as the kernel encodes it.
    filesystems: BTreeMap<u32, String>,
    /// Those on directories.
    directories: usize,
}

impl Marks {
    /// As they are.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(super) fn of(group: &impl AsFd) -> io::Result<Self> {
        let descriptor = group.as_fd().as_raw_fd();
        Ok(Self::parse(&std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?))
    }

    fn parse(text: &str) -> Self {
        let mut marks = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("fanotify ")) {
            if line.starts_with("ino:") {
                marks.directories += 1;
            } else if let Some(rest) = line.strip_prefix("sdev:")
                && let Some((device, masks)) = rest.split_once(' ')
                && let Ok(device) = u32::from_str_radix(device, 16)
            {
                marks.filesystems.insert(device, masks.trim_end().to_owned());
            }
        }
        marks
    }

    /// Directories come and go.
    pub(super) fn follow(&mut self, now: &Self) {
        self.directories = now.directories;
    }

    /// Whether something of what was set is missing here or changed. A mark goes with its file
    /// system, and that of a directory with the directory: only `devices`, which are mounted, are
    /// looked at, and whether any directory has its mark.
    pub(super) fn lack(&self, set: &Self, devices: impl IntoIterator<Item = (u32, u32)>) -> bool {
        let encoded = devices.into_iter().map(|(major, minor)| major << 20 | minor);
        let differs = |device: u32| {
            let set = set.filesystems.get(&device);
            set.is_some() && set != self.filesystems.get(&device)
        };
        encoded.into_iter().any(differs) || (set.directories > 0 && self.directories == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "pos:\t0\nflags:\t0104000\nmnt_id:\t15\nino:\t1059\n\
        fanotify flags:1e16 event-flags:8000\n\
        fanotify sdev:fe00000 mflags:0 mask:40000fce ignored_mask:0\n\
        fanotify sdev:1d mflags:0 mask:40000fce ignored_mask:0\n\
        fanotify ino:2 sdev:2b mflags:0 mask:48000fce ignored_mask:0 fhandle-bytes:8\n";
    const DEVICES: [(u32, u32); 2] = [(254, 0), (0, 29)];

    #[test]
    fn a_mark_that_is_gone_or_changed_is_missed() {
        let set = Marks::parse(SET);
        assert_eq!((set.filesystems.len(), set.directories), (2, 1));
        let lacks = |from: &str, to: &str| Marks::parse(&SET.replace(from, to)).lack(&set, DEVICES);
        assert!(!lacks("", ""));
        assert!(lacks("sdev:1d mflags", "sdev:1e mflags"), "one is gone");
        assert!(lacks("sdev:1d mflags:0 mask:40000fce", "sdev:1d mflags:0 mask:8"), "of less");
        assert!(
            lacks("mask:40000fce ignored_mask:0", "mask:40000fce ignored_mask:40000fce"),
            "but not of these"
        );
        assert!(lacks("ino:2", "mnt_id:2"), "no directory has one any more");
        assert!(!Marks::parse("").lack(&Marks::default(), DEVICES), "none were set");
        // A file system that is not mounted any more took its mark with it.
        let gone = Marks::parse(&SET.replace("sdev:1d mflags", "sdev:1e mflags"));
        assert!(!gone.lack(&set, [(254, 0)]));
    }
}
