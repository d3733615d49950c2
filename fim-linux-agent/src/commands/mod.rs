//! What each subcommand of `fim` does. They write to what they are given and return the exit
//! code; [`crate::cli`] has the command line.

mod accounts;
mod agent_status;
mod canaries;
mod config_file;
pub mod doctor;
pub mod learn;
pub mod man;
mod reload;
mod replay;
pub mod run;
mod seeds;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fim_commands::Site;
pub use fim_commands::{
    baseline, check, events, exit, explain, policy, quiet_on_closed_pipe, report, verify,
};
use fim_common::config::Config;
use fim_common::event::Host;
use fim_common::event::actor::Actor;
use fim_common::pipeline::Names;

use fim_common::policy::{self as rules, Policy};

use crate::process::{self, Alive, Sighting, Table};
use crate::{canary, host};

/// This host.
pub(crate) struct Here;

impl Site for Here {
    fn host(&self) -> Host {
        host::host()
    }

    fn names(&self) -> Box<dyn Names> {
        Box::new(run::HostNames::new())
    }

    fn actor(&self) -> Arc<Actor> {
        Table::new(process::Options::default()).actor_of(Sighting {
            pid: std::process::id(),
            alive: Alive::Yes,
            read: u64::MAX,
        })
    }

    fn policy(&self, config: &Config) -> Policy {
        // And to the containers on it.
        config.policy().resolved_with(&rules::canonical, &reload::containers_for(config))
    }

    fn own_directories(&self, policy: &Policy, state: &Path, agent_id: &str) -> Vec<PathBuf> {
        let places = canary::places(&policy.watches(), state, agent_id);
        places.into_iter().map(|place| place.directory).collect()
    }

    fn interrupted(&self) -> Arc<AtomicBool> {
        interrupted()
    }
}

/// Becomes true at SIGINT or SIGTERM: a command that scans ends in order, and keeps what it has.
pub(crate) fn interrupted() -> Arc<AtomicBool> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // Fails for signals that cannot be caught only.
        let _ = signal_hook::flag::register(signal, Arc::clone(&cancel));
    }
    cancel
}
