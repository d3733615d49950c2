//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fim_common::config::{self, Backend};
use fim_common::pipeline::Format;

use crate::commands::{self, exit, run};

/// File integrity monitor: what changed, what it was, what it is, and who did it.
#[derive(Debug, Parser)]
#[command(name = "fim", version, disable_help_subcommand = true)]
struct Cli {
    /// How much to log to standard error: error, warn, info, debug, trace, or a filter such as
    /// `fim_linux_agent::bpf=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = "info", env = "FIM_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Monitor in the foreground until SIGINT or SIGTERM.
    Run(Run),
    /// Say which backends and hooks work here, what to do about those that do not, and how the
    /// running agent is.
    Doctor {
        /// The configuration of the agent [default: /etc/fim/fim.toml].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where the agent serves its metrics [default: what the configuration says].
        #[arg(long, value_name = "ADDRESS:PORT")]
        metrics: Option<SocketAddr>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Find events in the journal.
    Events(commands::events::Arguments),
    /// Prove that the journal is whole and unaltered, or say where it is not.
    Verify(commands::verify::Arguments),
    /// Write one self-contained page for an auditor.
    Report(commands::report::Arguments),
    /// Say which rule decides about a path, and why.
    Explain {
        /// The path; it need not exist.
        path: PathBuf,
        /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show or check the policy.
    #[command(subcommand)]
    Policy(Policy),
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to watch; `auto` takes bpf where it works, else fanotify.
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<BackendName>,
    /// Watch this path and everything below it; without --config, nothing else. May be repeated.
    #[arg(long, value_name = "PATH")]
    watch: Vec<PathBuf>,
    /// What to print [default: pretty on a terminal, else json].
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<OutputName>,
    /// Where baseline and journal are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/fim")]
    state_dir: PathBuf,
    /// Where to serve /metrics and /healthz [default: 127.0.0.1:9977].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Policy {
    /// The recommended items, and what of them exists here.
    Recommended {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Validate the configuration.
    Check {
        /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the effective policy.
    Show {
        /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    Auto,
    Bpf,
    Fanotify,
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

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap's own code for one is 2, ours is 64.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let filter = match tracing_subscriber::EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => return fail(&format!("--log {}: {error}", cli.log), exit::USAGE),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();

    let out = &mut std::io::stdout();
    let result = match cli.command {
        Command::Run(arguments) => {
            return match run::run(&arguments.into()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => fail(&failure, failure.code),
            };
        }
        Command::Doctor { config, metrics, json } => match metrics {
            Some(agent) => commands::doctor::doctor(out, json, agent),
            None => config::Config::load(config.as_deref())
                .map_err(anyhow::Error::from)
                .and_then(|config| commands::doctor::doctor(out, json, config.metrics.listen)),
        },
        Command::Explain { path, config, json } => {
            commands::explain::explain(out, &path, config.as_deref(), json)
        }
        Command::Events(arguments) => commands::events::events(out, arguments),
        Command::Verify(arguments) => commands::verify::verify(out, &arguments),
        Command::Report(arguments) => commands::report::report(out, &arguments),
        Command::Policy(Policy::Recommended { json }) => commands::policy::recommended(out, json),
        Command::Policy(Policy::Check { config }) => {
            commands::policy::check(out, config.as_deref())
        }
        Command::Policy(Policy::Show { config }) => commands::policy::show(out, config.as_deref()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let usage = error.downcast_ref::<config::Error>().is_some();
            fail(&format!("{error:#}"), if usage { exit::USAGE } else { exit::FAILURE })
        }
    }
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Standard error may be closed: the code says it too.
    let _ = writeln!(std::io::stderr(), "fim: {error}");
    ExitCode::from(code)
}

impl From<Run> for run::Arguments {
    fn from(run: Run) -> Self {
        Self {
            config: run.config,
            backend: run.backend.map(|name| match name {
                BackendName::Auto => Backend::Auto,
                BackendName::Bpf => Backend::Bpf,
                BackendName::Fanotify => Backend::Fanotify,
            }),
            watch: run.watch,
            output: run.output.map(|name| match name {
                OutputName::Pretty => Format::Pretty,
                OutputName::Json => Format::Json,
                OutputName::None => Format::None,
            }),
            state_dir: run.state_dir,
            metrics: run.metrics,
        }
    }
}
