//! Where tests write: in memory, so that fsync(2) costs nothing, or on a small file system of
//! their own, for full and read-only disks.

use std::path::Path;
use std::process::Command;

/// A directory in memory where there is /dev/shm, else in /tmp.
pub(crate) fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A tmpfs, unmounted when dropped.
pub(crate) struct Volume {
    directory: tempfile::TempDir,
}

/// Mounts one, or says why the test is skipped.
pub(crate) fn tmpfs(options: &str) -> Option<Volume> {
    let directory = tempfile::tempdir().ok()?;
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "fim-test"])
        .arg(directory.path())
        .output();
    match mount {
        Ok(output) if output.status.success() => Some(Volume { directory }),
        Ok(output) => {
            println!("skipped: no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            println!("skipped: mount(8): {error}");
            None
        }
    }
}

impl Volume {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Changes its options.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "remount with {options}");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
