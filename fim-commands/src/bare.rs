//! For tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fim_common::config::Config;
use fim_common::event::Host;
use fim_common::event::actor::Actor;
use fim_common::pipeline::Names;
use fim_common::policy::{self, Policy};

use crate::Site;

/// Where nothing but the policy matters.
pub(crate) struct Bare;

impl Site for Bare {
    fn host(&self) -> Host {
        Host::default()
    }

    fn names(&self) -> Box<dyn Names> {
        unreachable!("nobody is named")
    }

    fn actor(&self) -> Arc<Actor> {
        Arc::default()
    }

    fn policy(&self, config: &Config) -> Policy {
        config.policy().resolved(&policy::canonical)
    }

    fn own_directories(&self, _: &Policy, _: &Path, _: &str) -> Vec<PathBuf> {
        Vec::new()
    }

    fn interrupted(&self) -> Arc<AtomicBool> {
        Arc::default()
    }
}
