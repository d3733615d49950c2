//! A collector whose sessions are stand-ins, and events for them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::baseline::Baseline;
use fim_common::collector::{Collector as _, Gap, Observation};
use fim_common::loss::Losses;
use fim_common::operation::Operation;
use fim_common::policy::{Pattern, Policy, Rule};
use fim_etw_standin as etw;
use fim_windows_etw::decode::{KERNEL_FILE, KERNEL_PROCESS, KERNEL_REGISTRY};
use fim_windows_etw::etl::{EventKey, Guid, PointerSize, Source};
use fim_windows_etw::live::etw::{EtwCollector, EtwError, Options, Sizes};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};

use crate::writer::payload;

/// Beyond this what is waited for does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing is held that long: what is held is handed over when the collector is stopped.
pub(crate) const FOREVER: Duration = Duration::from_secs(100_000);

pub(crate) struct Rig {
    /// In front of the collector, which may be waiting for it when a test has failed.
    pub(crate) observations: Receiver<Observation>,
    pub(crate) collector: EtwCollector,
    pub(crate) losses: Losses,
    pub(crate) changes: String,
    pub(crate) processes: String,
    _state: tempfile::TempDir,
}

pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) hold: Duration,
    pub(crate) queue: usize,
    pub(crate) channel: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let everything = Rule::new("all", vec![Pattern::everything()]);
        Self {
            policy: Policy::for_windows(vec![everything]),
            hold: Duration::from_millis(20),
            queue: 16 << 20,
            channel: 100_000,
        }
    }
}

impl Setup {
    /// With sessions whose names begin with `prefix`.
    pub(crate) fn start(self, prefix: &str) -> Result<Rig, EtwError> {
        let state = tempfile::tempdir().unwrap();
        let (sender, observations) = channel(self.channel);
        let losses = Losses::default();
        let collector = EtwCollector::start(Options {
            policy: self.policy,
            baseline: Arc::new(Baseline::open(state.path()).unwrap()),
            sender,
            losses: losses.clone(),
            sizes: Sizes { buffer_kib: 256, buffers: 128, queue: self.queue },
            prefix: prefix.to_owned(),
            hold: self.hold,
        })?;
        let (changes, processes) = (format!("{prefix}-changes"), format!("{prefix}-processes"));
        Ok(Rig { collector, losses, observations, changes, processes, _state: state })
    }
}

impl Rig {
    /// The next operation.
    pub(crate) fn next(&mut self) -> Operation {
        loop {
            match self.observations.blocking_recv() {
                Some(Observation::Operation(operation)) => return *operation,
                Some(_) => {}
                None => panic!("the collector has ended"),
            }
        }
    }

    /// Stops it; everything that it still had.
    pub(crate) fn stop(mut self) -> Vec<Operation> {
        self.collector.stop().unwrap();
        drop(self.collector);
        let mut operations = Vec::new();
        while let Some(observation) = self.observations.blocking_recv() {
            if let Observation::Operation(operation) = observation {
                operations.push(*operation);
            }
        }
        operations
    }

    /// The next loss that is told.
    pub(crate) fn gap(&self) -> Gap {
        wait(|| self.losses.take())
    }
}

/// Waits until there is something.
pub(crate) fn wait<T>(mut wanted: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An event of a provider, from values by the manifest's names.
pub(crate) fn event(provider: Guid, id: u16, version: u8, values: Value) -> etw::Record {
    let key = EventKey { source: Source::Manifest(provider), id, version };
    let values: HashMap<String, Value> = serde_json::from_value(values).unwrap();
    etw::Record {
        provider: provider.digits(),
        id,
        version,
        process: 1000,
        thread: 1001,
        time: fim_win32::clock::now(),
        payload: payload(key, &values, PointerSize::Eight),
        ..etw::Record::default()
    }
}

pub(crate) fn file(id: u16, values: Value) -> etw::Record {
    event(KERNEL_FILE, id, u8::from(!matches!(id, 10 | 11 | 24)), values)
}

pub(crate) fn registry(id: u16, values: Value) -> etw::Record {
    event(KERNEL_REGISTRY, id, 0, values)
}

pub(crate) fn process(id: u16, version: u8, values: Value) -> etw::Record {
    event(KERNEL_PROCESS, id, version, values)
}

/// What the kernel calls a path.
pub(crate) fn device_path(path: &Path) -> String {
    let path = path.to_str().unwrap().trim_start_matches(r"\\?\");
    let (drive, rest) = path.split_at(2);
    let devices = fim_win32::file::devices();
    let device = devices.iter().find(|(known, _)| known.eq_ignore_ascii_case(drive));
    format!("{}{rest}", device.unwrap().1)
}

/// A directory, as the disk spells it.
pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let made = tempfile::tempdir().unwrap();
    let path = fim_win32::file::spelled(made.path()).unwrap();
    (made, path)
}

/// An operation in a few words.
pub(crate) fn brief(operation: &Operation) -> String {
    let path = operation.path.as_ref().map_or("-", |path| path.to_str().unwrap());
    format!("{} {path}", operation.kind.name())
}
