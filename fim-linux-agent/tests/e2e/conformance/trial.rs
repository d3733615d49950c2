//! A case at work on one file system.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::expected::{Expected, message};
use crate::cases::Place;
use crate::environment::ordinary_user;
use crate::operator::{Op, Operator, Raw, Report};

/// An operation, and what is to come of it.
pub(super) struct Case {
    /// As docs/conformance.md calls it.
    pub(super) name: &'static str,
    /// Makes what is there when the agent starts; on overlayfs in the lower layer.
    pub(super) prepare: fn(&Place),
    /// What has to be done on the very file system, before the agent starts.
    pub(super) arrange: fn(&Place),
    /// Between them everything that was done is taken in.
    pub(super) steps: &'static [Step],
}

/// Does something, and says what events are to come of it: these and no others.
pub(super) type Step = fn(&Trial) -> Result<Vec<Expected>, Stop>;

/// What ends a case early: why.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// There is no such operation here.
    NotApplicable(String),
    /// The agent was in the way of somebody's operation, which it must never be.
    Hindered(String),
}

impl Case {
    pub(super) const fn new(
        name: &'static str,
        prepare: fn(&Place),
        steps: &'static [Step],
    ) -> Self {
        Self { name, prepare, arrange: crate::cases::nothing, steps }
    }

    pub(super) const fn arranged(self, arrange: fn(&Place)) -> Self {
        Self { arrange, ..self }
    }
}

/// What a kernel or a file system says that does not know an operation. Nothing else does: what is
/// denied has other names.
const UNKNOWN_OPERATION: &[(i32, &str)] = &[
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::ENOTTY, "ENOTTY"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::EINVAL, "EINVAL"),
    (libc::EXDEV, "EXDEV"),
];

/// A case on a file system.
pub(super) struct Trial {
    pub(super) fs: &'static str,
    pub(super) case: &'static Case,
    pub(super) place: Place,
    /// What is to come.
    pub(super) expected: Vec<Expected>,
    pub(super) stopped: Option<Stop>,
    pub(super) broken: Option<String>,
}

impl Trial {
    /// On a file system, or why there is none.
    pub(super) fn new(fs: &'static str, case: &'static Case, place: Result<Place, String>) -> Self {
        let nowhere = || Place { inside: PathBuf::new(), outside: PathBuf::new() };
        let stopped = place.as_ref().err().cloned().map(Stop::NotApplicable);
        let place = place.unwrap_or_else(|_| nowhere());
        Self { fs, case, place, expected: Vec::new(), stopped, broken: None }
    }

    /// Does the next thing.
    pub(super) fn step(&mut self, number: usize) {
        if self.stopped.is_some() || self.broken.is_some() {
            return;
        }
        let Some(step) = self.case.steps.get(number) else {
            return;
        };
        match catch_unwind(AssertUnwindSafe(|| step(self))) {
            Ok(Ok(expected)) => self.expected.extend(expected),
            Ok(Err(reason)) => self.stopped = Some(reason),
            Err(panic) => self.broken = Some(message(&*panic)),
        }
    }

    /// Something in the watched directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.inside.join(name)
    }

    pub(super) fn raw(&self, name: &str) -> Raw {
        Raw::from(&self.path(name))
    }

    /// Something on the same file system that is not watched.
    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.place.outside.join(name)
    }

    pub(super) fn raw_outside(&self, name: &str) -> Raw {
        Raw::from(&self.outside(name))
    }

    /// Root does this, in a process that is gone at once.
    pub(super) fn operate(&self, op: Op) -> Result<Report, Stop> {
        let text = format!("{op:?}");
        let report = Operator::new(op).attempt();
        let Some(errno) = report.errno else {
            return Ok(report);
        };
        match UNKNOWN_OPERATION.iter().find(|(number, _)| *number == errno) {
            Some((_, name)) => Err(Stop::NotApplicable((*name).to_owned())),
            // Nobody else is there who could use anything.
            None if errno == libc::EBUSY => Err(Stop::Hindered("EBUSY".to_owned())),
            None => panic!("{}: {text}", io::Error::from_raw_os_error(errno)),
        }
    }

    /// Root attempts this in vain.
    pub(super) fn fails(&self, op: Op, errno: i32) -> Report {
        Self::attempt(Operator::new(op), errno)
    }

    /// Someone without privileges attempts this in vain.
    pub(super) fn denied(&self, op: Op, errno: i32) -> Report {
        Self::attempt(Operator::new(op).user(&ordinary_user()), errno)
    }

    fn attempt(operator: Operator, errno: i32) -> Report {
        let report = operator.attempt();
        assert_eq!(report.errno, Some(errno), "it should have failed, and otherwise");
        report
    }
}
