//! Tables of cases: each prepares a directory of its own before the agent starts, does something
//! there, and looks at the events of that directory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use crate::environment::{alone, beside_others, is_ready, say};
use crate::scene::Scene;
use crate::shared::Shared;

/// One case.
pub(crate) struct Case {
    /// Unique in its table.
    pub(crate) name: &'static str,
    pub(crate) volume: Volume,
    /// Makes what is there when the agent starts, so that the baseline has it.
    pub(crate) prepare: fn(&Place),
    pub(crate) run: fn(&Scene<'_>),
}

/// A table.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// It loads the machine or measures times: no other test runs beside it.
    pub(crate) alone: bool,
    pub(crate) cases: &'static [Case],
}

/// Where a case takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// The file system of the temporary directory: ext4 or the like on a host, tmpfs in a guest.
    Usual,
    /// One that has `user.*` attributes, which tmpfs lacks before 6.6: another ext4 if need be.
    Disk,
}

/// The directories of a case.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Watched.
    pub(crate) inside: PathBuf,
    /// On the same file system, and not watched.
    pub(crate) outside: PathBuf,
}

impl Case {
    /// A case on the usual volume.
    pub(crate) const fn new(name: &'static str, prepare: fn(&Place), run: fn(&Scene<'_>)) -> Self {
        Self { name, volume: Volume::Usual, prepare, run }
    }

    /// A case on a disk.
    pub(crate) const fn on_disk(self) -> Self {
        Self { volume: Volume::Disk, ..self }
    }
}

/// Runs a table on the shared agent, one case after the other.
pub(crate) fn run(table: &'static Table) {
    if !is_ready(table.name) {
        return;
    }
    let guards = match table.alone {
        true => (Some(alone()), None),
        false => (None, Some(beside_others())),
    };
    let shared = Shared::enter();
    let wanted = std::env::var("FIM_CASES").unwrap_or_default();
    let mut failed = Vec::new();
    for case in table.cases.iter().filter(|case| case.name.contains(&wanted)) {
        let name = format!("{}::{}", table.name, case.name);
        let started = Instant::now();
        let Some(scene) = Scene::new(&shared, table, case) else {
            continue;
        };
        // The message goes where libtest has it go.
        let passed = catch_unwind(AssertUnwindSafe(|| (case.run)(&scene))).is_ok();
        let seconds = started.elapsed().as_secs_f64();
        say(&format!("case {name} ... {} ({seconds:.2} s)", if passed { "ok" } else { "FAILED" }));
        match passed {
            true => scene.close(),
            false => failed.push(name),
        }
    }
    let left = shared.leave();
    drop(guards);
    assert!(
        failed.is_empty(),
        "{} of {} cases failed: {failed:?}",
        failed.len(),
        table.cases.len()
    );
    left.unwrap();
}

/// For a case that starts with nothing.
pub(crate) fn nothing(_: &Place) {}
