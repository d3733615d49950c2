//! Directories to work in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::UnmountFlags;

/// A directory that goes with this value, and what is mounted in it.
pub(crate) struct Scratch {
    path: PathBuf,
    mounts: Vec<PathBuf>,
}

const PREFIX: &str = "fim-e2e-";

impl Scratch {
    /// An empty directory that everybody can enter.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().canonicalize().unwrap();
        if count == 0 {
            remove_abandoned(&base);
        }
        let path = base.join(format!("{PREFIX}{}-{count}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path, mounts: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it, mode 0755.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        directory(&path);
        path
    }

    /// Mounts something at the new directory `name`.
    pub(crate) fn mount(&mut self, name: &str, args: &[&str]) -> Result<PathBuf, String> {
        let path = self.directory(name);
        let output = Command::new("mount").args(args).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => {
                self.mounts.push(path.clone());
                Ok(path)
            }
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    /// A small ext4 in a file, mounted at the new directory `name`.
    pub(crate) fn ext4(&mut self, name: &str) -> Result<PathBuf, String> {
        let image = self.path.join(format!("{name}.img"));
        fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image).output();
        match made {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => return Err(format!("mkfs.ext4: {error}")),
        }
        let image = image.to_str().unwrap().to_owned();
        self.mount(name, &["-t", "ext4", "-o", "loop", &image])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            // A process of a failed test may still be on its way out of it.
            let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A new directory, mode 0755 whatever the umask.
pub(crate) fn directory(path: &Path) {
    fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Removes what runs left that were killed or filtered. Nothing depends on that it succeeds.
fn remove_abandoned(base: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
            continue;
        }
        let path = entry.path();
        let below = |mount: &&str| Path::new(mount).starts_with(&path);
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(below) {
            let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&path);
    }
}
