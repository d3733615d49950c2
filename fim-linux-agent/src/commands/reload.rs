//! Another configuration while the agent runs: on SIGHUP, when the file changes, and the same one for
//! other containers. What is done then is in `fim_commands::reload`.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fim_commands::reload;
use fim_common::baseline::Baseline;
use fim_common::collector::Collector;
use fim_common::config::Config;
use fim_common::pipeline::Pipeline;
use fim_common::policy::{self, Container, Policy};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::containers::{self, Watcher};
use crate::process::Table;
use fim_commands::start::Arguments;

/// What is to be done next.
pub(super) enum Step {
    /// Read the file, because of a signal.
    Hangup,
    /// Read the file, because it may have changed.
    File,
    /// What was begun gets on.
    Shared(reload::Step),
    /// There are other containers.
    Containers(Vec<Container>),
}

/// What is in force, and what tells that it is to be replaced.
pub(super) struct Reloading {
    shared: reload::Reloading,
    hangup: Signal,
    watch: Option<Watch>,
    table: Arc<Mutex<Table>>,
    /// If a rule is about them.
    containers: Option<Watcher>,
}

impl Deref for Reloading {
    type Target = reload::Reloading;

    fn deref(&self) -> &reload::Reloading {
        &self.shared
    }
}

impl Reloading {
    /// Of the configuration with which the agent starts.
    ///
    /// # Errors
    /// When the system refuses to handle signals.
    pub(super) fn new(
        arguments: Arguments,
        config: &Config,
        sha256: Option<String>,
        table: &Arc<Mutex<Table>>,
    ) -> io::Result<Self> {
        let containers = containers_for(config);
        let policy = config.policy().resolved_with(&policy::canonical, &containers);
        let shared = reload::Reloading::new(arguments, config, policy, sha256);
        let watch = shared.file().and_then(|file| {
            let watch = Watch::new(file);
            let message = "the configuration file is not watched: send SIGHUP when it changes";
            watch.inspect_err(|error| tracing::info!(%error, "{message}")).ok()
        });
        let mut reloading = Self {
            shared,
            hangup: signal(SignalKind::hangup())?,
            watch,
            table: Arc::clone(table),
            containers: None,
        };
        reloading.watch_containers(containers);
        Ok(reloading)
    }

    /// From now on, if a rule is about them; `known` are those with which it is resolved.
    fn watch_containers(&mut self, known: Vec<Container>) {
        if !self.shared.policy().wants_containers() {
            self.containers = None;
            return;
        }
        if self.containers.is_some() {
            return;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match Watcher::start(&mut table, known) {
            Ok(watcher) => self.containers = Some(watcher),
            Err(error) => tracing::error!(%error, "containers that are started are not noticed"),
        }
    }

    /// Before the pipeline runs.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        self.shared.begin(pipeline);
    }

    /// Waits for something to do. What comes while a policy is on its way waits until it is there.
    pub(super) async fn step(&mut self) -> Step {
        if self.shared.is_busy() {
            return Step::Shared(self.shared.step().await);
        }
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let containers = async {
            match &mut self.containers {
                Some(watcher) => watcher.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.hangup.recv() => Step::Hangup,
            () = changed => Step::File,
            step = self.shared.step() => Step::Shared(step),
            containers = containers => Step::Containers(containers),
        }
    }

    /// Does it. Blocks while the collector is told.
    pub(super) fn take(&mut self, step: Step, collector: &mut dyn Collector, baseline: &Baseline) {
        let resolve = |config: &Config| -> Policy {
            config.policy().resolved_with(&policy::canonical, &containers_for(config))
        };
        match step {
            Step::Hangup => self.shared.read("SIGHUP", collector, &resolve),
            Step::File => self.shared.read("file_change", collector, &resolve),
            Step::Containers(containers) => {
                let policy = self.config().policy();
                let policy = policy.resolved_with(&policy::canonical, &containers);
                if let Err(error) = self.shared.apply(policy, collector) {
                    tracing::error!("rules are not applied to other containers: {error}");
                }
            }
            Step::Shared(step) => {
                self.shared.take(step, collector, baseline);
                if step == reload::Step::InForce(true) {
                    self.watch_containers(Vec::new());
                }
            }
        }
    }
}

/// The containers that rules of this configuration are about.
pub(super) fn containers_for(config: &Config) -> Vec<Container> {
    if config.rules.iter().any(|rule| rule.containers) { containers::list() } else { Vec::new() }
}

/// Tells when the file may have changed: written, replaced by a rename, or by another target of a
/// symbolic link (as Kubernetes does).
struct Watch {
    file: PathBuf,
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    fn new(file: &Path) -> io::Result<Self> {
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
    async fn changed(&mut self) {
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
