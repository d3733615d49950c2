//! Tells when the configuration file may have changed.

use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// The file, by its directory: it may be replaced.
pub struct ConfigFile {
    changes: watch::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl ConfigFile {
    /// Begins to watch; `None`: that cannot be, and is said.
    pub fn watch(file: &Path) -> Option<Self> {
        let watched = Self::new(file);
        let message = "the configuration file is not watched: \
                       say `fim-windows-etw service reload` when it changes";
        watched.inspect_err(|error| tracing::info!(%error, "{message}")).ok()
    }

    fn new(file: &Path) -> notify::Result<Self> {
        let file = std::path::absolute(file)?;
        let name = file.file_name().map(|name| name.to_ascii_lowercase());
        let (told, changes) = watch::channel(());
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let ours =
                    |path: &PathBuf| path.file_name().map(|n| n.to_ascii_lowercase()) == name;
                let may_have_changed = match event {
                    Ok(event) if event.need_rescan() => true,
                    Ok(event) => {
                        !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(ours)
                    }
                    // Lost: it may have been ours.
                    Err(_) => true,
                };
                if may_have_changed {
                    let _ = told.send(());
                }
            })?;
        let directory = file.parent().unwrap_or(&file);
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits until something happens to it. May be dropped at any time.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // Its watcher is gone: nothing comes any more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Fim.toml");
        let mut file = ConfigFile::watch(&path).unwrap();
        std::fs::write(&path, "one").unwrap();
        file.changed().await;
        std::fs::write(directory.path().join("new"), "two").unwrap();
        std::fs::rename(directory.path().join("new"), directory.path().join("FIM.TOML")).unwrap();
        file.changed().await;
    }
}
