//! Notices when the configuration file may have changed.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fim_common::policy;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Tells when the file may have changed: written, replaced by a rename, or by another target of a
/// symbolic link (as Kubernetes does).
pub(super) struct Watch {
    file: PathBuf,
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Of this file.
    ///
    /// # Errors
    /// When the system refuses to watch its directory.
    pub(super) fn new(file: &Path) -> io::Result<Self> {
        let file = std::path::absolute(file)?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "what it is deprecated for cannot be with an OwnedFd")]
        let inotify = AsyncFd::new(inotify)?;
        let watch = Self { file, inotify };
        watch.add(watch.file.parent())?;
        // Beside the link, where it leads to.
        let _ = watch.add(policy::canonical(&watch.file).parent());
        Ok(watch)
    }

    fn add(&self, directory: Option<&Path>) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        let directory = directory.unwrap_or(Path::new("/"));
        inotify::add_watch(self.inotify.get_ref(), directory, flags)?;
        Ok(())
    }

    /// Waits until something happens to the file, or to what leads there.
    pub(super) async fn changed(&mut self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // The runtime is ending.
                return std::future::pending().await;
            };
            let target = policy::canonical(&self.file);
            let names = [self.file.file_name(), target.file_name()];
            let is_link = target != self.file;
            let mut changed = false;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            loop {
                match events.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                        changed |= is_link || name.is_none() || names.contains(&name);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            ready.clear_ready();
            drop(ready);
            if changed {
                // A link may lead elsewhere now.
                let _ = self.add(target.parent());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_led_elsewhere_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::write(at("fim.toml"), "").unwrap();
        let mut watch = Watch::new(&at("fim.toml")).unwrap();
        std::fs::write(at("fim.toml"), "x").unwrap();
        watch.changed().await;
        std::fs::write(at("new"), "y").unwrap();
        std::fs::rename(at("new"), at("fim.toml")).unwrap();
        watch.changed().await;

        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("f"), version).unwrap();
        }
        std::os::unix::fs::symlink("one", at("data")).unwrap();
        std::os::unix::fs::symlink("data/f", at("linked.toml")).unwrap();
        let mut watch = Watch::new(&at("linked.toml")).unwrap();
        std::os::unix::fs::symlink("two", at("data.new")).unwrap();
        std::fs::rename(at("data.new"), at("data")).unwrap();
        watch.changed().await;
        std::fs::write(at("two/f"), "three").unwrap();
        watch.changed().await;
    }
}
