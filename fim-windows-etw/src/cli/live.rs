//! The subcommands that a live Windows has.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use fim_commands::{
    Arguments, Failure, baseline, check, events, exit, explain, policy, report, verify,
};
use fim_common::baseline::DEFAULT_STATE_DIR;
use fim_common::config;
use fim_common::pipeline::Format;
use fim_common::policy::{Platform, Set};
use tokio::sync::Notify;

use super::service::{self, Service};
use crate::commands::{doctor, run, selftest};
use crate::live::site::Here;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Monitor in the foreground.
    Run(Run),
    /// Say what works here, and why the rest does not.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install, start, stop and remove the Windows service.
    #[command(subcommand)]
    Service(Service),
    /// Have a program change files and keys in a place made for it, and say what was seen of that
    /// and who was named.
    Selftest {
        /// Where to make the directory [default: the user's directory for temporary files].
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What the self-test runs.
    #[command(hide = true)]
    SelftestActor {
        /// The directory.
        directory: PathBuf,
        /// The key.
        key: String,
    },
    /// Compare the file system with the baseline now.
    Check {
        #[command(flatten)]
        place: Place,
        /// What to compare, with everything below it [default: everything that is watched].
        paths: Vec<PathBuf>,
        /// Read contents also where size, times and file number say that nothing was touched.
        #[arg(long)]
        deep: bool,
        /// As JSON, one event a line.
        #[arg(long)]
        json: bool,
    },
    /// Take, show or accept the known state.
    #[command(subcommand)]
    Baseline(Baseline),
    /// Say which rule decides about a path, and why.
    Explain {
        /// The path; it need not exist.
        path: PathBuf,
        /// The configuration [default: C:\ProgramData\fim\fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show or check the policy.
    #[command(subcommand)]
    Policy(Policy),
    /// Query the journal.
    Events(events::Arguments),
    /// Prove the journal whole and unaltered, or say where it is not.
    Verify(verify::Arguments),
    /// Write one self-contained page for an auditor.
    Report(report::Arguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// The built-in rules item by item, and what of them exists here.
    Recommended {
        /// Of which platform [default: this one].
        #[arg(long, value_enum, value_name = "PLATFORM")]
        platform: Option<PlatformName>,
        /// Which set; may be repeated [default: recommended].
        #[arg(long, value_enum, value_name = "SET")]
        set: Vec<SetName>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Validate the configuration.
    Check {
        /// The configuration [default: C:\ProgramData\fim\fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective policy.
    Show {
        /// The configuration [default: C:\ProgramData\fim\fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PlatformName {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SetName {
    /// What Microsoft Defender for Cloud recommends.
    Recommended,
    /// What attackers change today.
    AttackSurface,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    place: Place,
    /// What to print [default: pretty on a terminal, else json].
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<OutputName>,
    /// Where to serve /metrics and /healthz [default: 127.0.0.1:9977].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

/// What is watched, and where what is known of it lies.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The configuration [default: C:\ProgramData\fim\fim.toml, or the recommended policy].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Watch this path or registry key (HKLM\SOFTWARE\…) and everything below it; without --config,
    /// nothing else. May be repeated.
    #[arg(long, value_name = "PATH")]
    pub(super) watch: Vec<PathBuf>,
    /// Where baseline and journal are kept.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(super) state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum Baseline {
    /// Take the baseline: what there is now is what is known.
    Create {
        #[command(flatten)]
        place: Place,
    },
    /// Print what is known of each object, and who changed it last.
    List {
        /// Where baseline and journal are kept.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
        state_dir: PathBuf,
        /// What to print, with everything below it [default: everything on drives].
        paths: Vec<PathBuf>,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Take what differs from the baseline into it; the journal says who did.
    Accept {
        #[command(flatten)]
        place: Place,
        /// What to accept, with everything below it [default: everything that is watched].
        paths: Vec<PathBuf>,
        /// What is accepted as JSON, one event a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputName {
    /// One line an event, for people.
    Pretty,
    /// One JSON object a line.
    Json,
    /// Nothing: the journal has it all.
    None,
}

impl From<Place> for Arguments {
    fn from(place: Place) -> Self {
        let Place { config, watch, state_dir } = place;
        Self { config, watch, state_dir, ..Self::default() }
    }
}

impl From<Run> for Arguments {
    fn from(run: Run) -> Self {
        Self {
            output: run.output.map(|name| match name {
                OutputName::Pretty => Format::Pretty,
                OutputName::Json => Format::Json,
                OutputName::None => Format::None,
            }),
            metrics: run.metrics,
            ..run.place.into()
        }
    }
}

impl Command {
    /// The file that has the log in place of standard error.
    pub(super) fn log_file(&self) -> Option<PathBuf> {
        match self {
            Self::Service(service) => service.log_file(),
            _ => None,
        }
    }
}

/// Does what the command says; `log` is the log's filter.
pub(super) fn dispatch(command: Command, log: &str) -> ExitCode {
    let out = &mut std::io::BufWriter::new(std::io::stdout());
    let failed = |failure: Failure| super::fail(&failure, failure.code);
    let done = match command {
        Command::Run(arguments) => return run_agent(&arguments.into()),
        Command::Check { place, paths, deep, json } => {
            match check::check(&Here, out, &place.into(), &paths, deep, json) {
                Ok(code) => Ok(code),
                Err(failure) => return failed(failure),
            }
        }
        Command::Baseline(what) => {
            let done = match what {
                Baseline::Create { place } => baseline::create(&Here, out, &place.into()),
                Baseline::List { state_dir, paths, json } => {
                    baseline::list(out, &state_dir, &paths, json)
                }
                Baseline::Accept { place, paths, json } => {
                    baseline::accept(&Here, out, &place.into(), &paths, json)
                }
            };
            match done {
                Ok(()) => Ok(exit::OK),
                Err(failure) => return failed(failure),
            }
        }
        Command::Service(what) => match service::dispatch(out, what, log) {
            Ok(code) => Ok(code),
            Err(failure) => return failed(failure),
        },
        Command::Selftest { directory, json } => {
            match selftest::selftest(out, directory.as_deref(), json) {
                Ok(code) => Ok(code),
                Err(failure) => return failed(failure),
            }
        }
        Command::SelftestActor { directory, key } => selftest::act(out, &directory, &key),
        Command::Policy(what) => show_policy(out, what),
        Command::Doctor { json } => doctor::doctor(out, json),
        Command::Explain { path, config, json } => {
            explain::explain(&Here, out, &path, config.as_deref(), json)
        }
        Command::Events(arguments) => events::events(out, arguments),
        Command::Verify(arguments) => verify::verify(out, &arguments),
        Command::Report(arguments) => report::report(&Here, out, &arguments),
    };
    let written = fim_commands::quiet_on_closed_pipe(out.flush());
    match done.and_then(|code| written.map(|()| code).map_err(Into::into)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let usage = error.downcast_ref::<config::Error>().is_some();
            super::fail(
                &fim_commands::causes(&error),
                if usage { exit::USAGE } else { exit::FAILURE },
            )
        }
    }
}

fn show_policy(out: &mut dyn std::io::Write, what: Policy) -> anyhow::Result<u8> {
    match what {
        Policy::Recommended { platform, set, json } => {
            let mut asked = policy::Asked { json, ..policy::Asked::default() };
            match platform {
                Some(PlatformName::Linux) => asked.platform = Platform::Linux,
                Some(PlatformName::Windows) => asked.platform = Platform::Windows,
                None => {}
            }
            if !set.is_empty() {
                let sets = set.into_iter().map(|set| match set {
                    SetName::Recommended => Set::Recommended,
                    SetName::AttackSurface => Set::AttackSurface,
                });
                asked.sets = sets.collect();
                asked.sets.dedup();
            }
            policy::recommended(&Here, out, &asked, None)
        }
        Policy::Check { config, json } => policy::check(out, config.as_deref(), json),
        Policy::Show { config, json } => policy::show(&Here, out, config.as_deref(), json),
    }
}

fn run_agent(arguments: &Arguments) -> ExitCode {
    let stop = Arc::new(Notify::new());
    let asked = Arc::clone(&stop);
    // Ctrl-C, Ctrl-Break, the end of the console or of the system.
    if let Err(error) = ctrlc::set_handler(move || asked.notify_one()) {
        tracing::warn!(%error, "nobody can ask the agent to stop");
    }
    match run::run(arguments, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => super::fail(&failure, failure.code),
    }
}
