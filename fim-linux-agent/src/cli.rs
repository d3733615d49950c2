//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use fim_common::config::{self, Backend};
use fim_common::pipeline::Format;
use fim_common::policy::{Platform, Set};

use crate::commands::{self, exit, run};
use crate::host_root;
use crate::memory;

/// File integrity monitor: what changed, what it was, what it is, and who did it.
#[derive(Debug, Parser)]
#[command(name = "fim", version, disable_help_subcommand = true)]
struct Cli {
    /// How much to log to standard error: error, warn, info, debug, trace, or a filter such as
    /// `fim_linux_agent::bpf=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = "info", env = "FIM_LOG")]
    log: String,
    /// In a container: where the host's root directory is mounted. Every other path, that of the
    /// configuration and of the state among them, is then one on the host.
    #[arg(long, global = true, value_name = "DIR", env = "FIM_HOST_ROOT")]
    host_root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Monitor in the foreground until SIGINT or SIGTERM.
    Run(Run),
    /// Monitor the operations that one process would do to make and remove each file in the watched
    /// directory, in place of what is done; say what it took. For `cargo xtask bench`.
    #[command(hide = true)]
    Replay {
        #[command(flatten)]
        run: Run,
        /// How often each file is made and removed.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
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
    /// Compare the file system with the baseline now; exits with 1 when something differs.
    Check {
        #[command(flatten)]
        place: Place,
        /// What to compare, with everything below it [default: everything that is watched].
        paths: Vec<PathBuf>,
        /// Read contents also where size, times and inode say that nothing was touched.
        #[arg(long)]
        deep: bool,
        /// As JSON, one event a line.
        #[arg(long)]
        json: bool,
    },
    /// Take, show or accept the known state.
    #[command(subcommand)]
    Baseline(Baseline),
    /// Show or check the policy.
    #[command(subcommand)]
    Policy(Policy),
    /// Write the manual pages into a directory.
    #[command(hide = true)]
    Man { directory: PathBuf },
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

/// What is watched, and where what is known of it lies.
#[derive(Debug, Args)]
struct Place {
    /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is watched is this path and everything below it; as for `fim run`. May be repeated.
    #[arg(long, value_name = "PATH")]
    watch: Vec<PathBuf>,
    /// Where baseline and journal are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/fim")]
    state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Baseline {
    /// Take the baseline: what there is now is what is known.
    Create {
        #[command(flatten)]
        place: Place,
    },
    /// Print what is known of each object, and who changed it last.
    List {
        /// Where baseline and journal are kept.
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fim")]
        state_dir: PathBuf,
        /// What to print, with everything below it [default: everything].
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

#[derive(Debug, Subcommand)]
enum Policy {
    /// The built-in rules item by item, what of them exists here, and how often they fire.
    Recommended {
        /// Of which platform [default: this one].
        #[arg(long, value_enum, value_name = "PLATFORM")]
        platform: Option<PlatformName>,
        /// Which set; may be repeated [default: recommended].
        #[arg(long, value_enum, value_name = "SET")]
        set: Vec<SetName>,
        /// Watch for this long (as in 10m), apart from any running agent, and say how often each
        /// item fires, by whom, and what to suppress.
        #[arg(long, value_name = "TIME", value_parser = commands::learn::duration)]
        learn: Option<Duration>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Validate the configuration.
    Check {
        /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective policy.
    Show {
        /// The configuration [default: /etc/fim/fim.toml, or the recommended policy].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlatformName {
    Linux,
    Windows,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SetName {
    /// What Microsoft Defender for Cloud recommends.
    Recommended,
    /// What attackers use today.
    AttackSurface,
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
    memory::no_huge_pages();
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

    // Before any path is looked at.
    if let Some(root) = &cli.host_root
        && let Err(error) = host_root::enter(root)
    {
        return fail(&error, exit::USAGE);
    }

    let out = &mut std::io::stdout();
    let result = match cli.command {
        Command::Run(arguments) => return run_agent(&arguments.into()),
        Command::Replay { run, rounds } => {
            return run_agent(&run::Arguments { replay: Some(rounds), ..run.into() });
        }
        Command::Check { place, paths, deep, json } => {
            let out = &mut std::io::BufWriter::new(out);
            let done =
                commands::check::check(&commands::Here, out, &place.into(), &paths, deep, json);
            return finish(done, out);
        }
        Command::Baseline(what) => {
            let out = &mut std::io::BufWriter::new(out);
            let done = match what {
                Baseline::Create { place } => {
                    commands::baseline::create(&commands::Here, out, &place.into())
                }
                Baseline::List { state_dir, paths, json } => {
                    commands::baseline::list(out, &state_dir, &paths, json)
                }
                Baseline::Accept { place, paths, json } => {
                    commands::baseline::accept(&commands::Here, out, &place.into(), &paths, json)
                }
            };
            return finish(done.map(|()| exit::OK), out);
        }
        Command::Doctor { config, metrics, json } => match metrics {
            Some(agent) => commands::doctor::doctor(out, json, agent, false),
            None => config::Config::load(config.as_deref()).map_err(anyhow::Error::from).and_then(
                |config| {
                    let asks = config.metrics.tls.is_some() || config.metrics.login.is_some();
                    commands::doctor::doctor(out, json, config.metrics.listen, asks)
                },
            ),
        },
        Command::Explain { path, config, json } => {
            commands::explain::explain(&commands::Here, out, &path, config.as_deref(), json)
        }
        Command::Man { directory } => commands::man::man(&Cli::command(), &directory),
        Command::Events(arguments) => commands::events::events(out, arguments),
        Command::Verify(arguments) => commands::verify::verify(out, &arguments),
        Command::Report(arguments) => commands::report::report(&commands::Here, out, &arguments),
        Command::Policy(Policy::Recommended { platform, set, learn, json }) => {
            let mut asked = commands::policy::Asked { json, ..Default::default() };
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
            let learned = learn.map(|time| commands::learn::learn(&asked, time)).transpose();
            learned.and_then(|learned| {
                commands::policy::recommended(&commands::Here, out, &asked, learned.as_ref())
            })
        }
        Command::Policy(Policy::Check { config, json }) => {
            commands::policy::check(out, config.as_deref(), json)
        }
        Command::Policy(Policy::Show { config, json }) => {
            commands::policy::show(&commands::Here, out, config.as_deref(), json)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let usage = error.downcast_ref::<config::Error>().is_some();
            fail(&fim_commands::causes(&error), if usage { exit::USAGE } else { exit::FAILURE })
        }
    }
}

fn run_agent(arguments: &run::Arguments) -> ExitCode {
    match run::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure, failure.code),
    }
}

/// Writes out what is left, and says why it failed.
fn finish(done: Result<u8, run::Failure>, out: &mut dyn std::io::Write) -> ExitCode {
    let written = commands::quiet_on_closed_pipe(out.flush());
    match (done, written) {
        (Err(failure), _) => fail(&failure, failure.code),
        (Ok(_), Err(error)) => fail(&error, exit::FAILURE),
        (Ok(code), Ok(())) => ExitCode::from(code),
    }
}

impl From<Place> for run::Arguments {
    fn from(place: Place) -> Self {
        let Place { config, watch, state_dir } = place;
        Self { config, watch, state_dir, ..Self::default() }
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
            replay: None,
        }
    }
}
