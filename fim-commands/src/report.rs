//! `fim report`: one page for an auditor.

use std::fs::OpenOptions;
use std::io::Write;
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use fim_common::baseline::DEFAULT_STATE_DIR;
use fim_common::config::Config;
use fim_common::journal::verify::directory_of;
use fim_common::report::{self, Options};
use fim_common::time::Timestamp;

use crate::verify::verification;
use crate::{Site, exit, parse_when, quiet_on_closed_pipe};

/// The command line of `fim report`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the period begins: a time, or how long ago [default: all that the journal has].
    #[arg(long, value_name = "T", value_parser = parse_when)]
    since: Option<Timestamp>,
    /// Where it ends [default: now].
    #[arg(long, value_name = "T", value_parser = parse_when)]
    until: Option<Timestamp>,
    /// The page to write; one that is there is replaced.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The public key that must have signed the journal [default: the one beside it].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the agent keeps its journal.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

/// `fim report`.
///
/// # Errors
/// When the configuration is wrong (exit code 64), the journal cannot be read or the page cannot
/// be written.
pub fn report(site: &dyn Site, out: &mut dyn Write, arguments: &Arguments) -> Result<u8> {
    let config = Config::load(arguments.config.as_deref())?;
    let journal = directory_of(&arguments.state_dir);
    let verification = verification(&arguments.state_dir, arguments.key.as_deref(), None)
        .with_context(|| format!("the journal in {}", journal.display()))?;
    let options = Options {
        journal,
        since: arguments.since,
        until: arguments.until,
        config,
        verification,
        host: site.host(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let report = report::report(&options)?;
    // It tells what is on this host: for whoever made it.
    let path = &arguments.output;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(report.html.as_bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    quiet_on_closed_pipe(writeln!(
        out,
        "{}: {} changes, {} alerts, {} bytes",
        path.display(),
        report.changes,
        report.alerts,
        report.html.len()
    ))?;
    Ok(exit::OK)
}
