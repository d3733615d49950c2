//! The command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fim_common::config;

use crate::commands::{exit, replay};

#[cfg(windows)]
mod live;
#[cfg(windows)]
mod service;

/// File integrity monitor for Windows: what changed in files and in the registry, and who did it.
#[derive(Debug, Parser)]
#[command(name = "fim-windows-etw", version, disable_help_subcommand = true)]
struct Cli {
    /// How much to log to standard error: error, warn, info, debug, trace, or a filter.
    #[arg(long, global = true, value_name = "FILTER", default_value = "info", env = "FIM_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the events of a recorded trace (.etl), on any system.
    Replay(Replay),
    #[cfg(windows)]
    #[command(flatten)]
    Live(live::Command),
}

#[derive(Debug, Args)]
struct Replay {
    /// The trace.
    #[arg(value_name = "FILE.etl")]
    file: PathBuf,
    /// Instead of the events, print what the trace holds: records, losses, and how many of each
    /// event were decoded. A table on a terminal, else one JSON object.
    #[arg(long)]
    stats: bool,
    /// How to print [default: json; with --stats, pretty on a terminal].
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<OutputName>,
    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Events about this path or key and everything below it, or about what matches this glob.
    /// Case does not matter, / and \ are the same. Without --config, nothing else. May be repeated.
    #[arg(long, value_name = "PATH")]
    watch: Vec<String>,
    /// Events that the rules of this file ask for [default: all].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which drive a device was: \Device\HarddiskVolume3=C: (a trace does not say it). May be
    /// repeated.
    #[arg(long, value_name = "DEVICE=PATH", value_parser = mapping)]
    map: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputName {
    /// For people.
    Pretty,
    /// For programs: one JSON object a line.
    Json,
}

fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((device, path)) if device.starts_with('\\') && !path.is_empty() => {
            Ok((device.to_owned(), path.to_owned()))
        }
        _ => Err("not a device and a path, as in \\Device\\HarddiskVolume3=C:".to_owned()),
    }
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
    if let Err(error) = begin_log(filter, &cli.command) {
        return fail(&error, exit::FAILURE);
    }
    #[allow(clippy::infallible_destructuring_match, reason = "Windows has more commands")]
    let arguments = match cli.command {
        Command::Replay(arguments) => arguments,
        #[cfg(windows)]
        Command::Live(command) => return live::dispatch(command, &cli.log),
    };
    match replay::replay(&arguments.into()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let usage = error.downcast_ref::<config::Error>().is_some()
                || error.downcast_ref::<replay::BadPattern>().is_some();
            fail(&fim_commands::causes(&error), if usage { exit::USAGE } else { exit::FAILURE })
        }
    }
}

/// To standard error, or where the command wants it.
#[cfg_attr(not(windows), expect(clippy::unnecessary_wraps, reason = "Windows has log files"))]
fn begin_log(filter: tracing_subscriber::EnvFilter, command: &Command) -> Result<(), String> {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    #[cfg(windows)]
    if let Command::Live(command) = command
        && let Some(path) = command.log_file()
    {
        let file = path.parent().map_or(Ok(()), fim_common::own::directory);
        let file = file.and_then(|()| crate::service::Log::open(&path));
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        log.with_ansi(false).with_writer(file).init();
        return Ok(());
    }
    #[cfg(not(windows))]
    let _ = command;
    log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    Ok(())
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Standard error may be closed: the code says it too.
    let _ = writeln!(std::io::stderr(), "fim-windows-etw: {error}");
    ExitCode::from(code)
}

impl From<Replay> for replay::Arguments {
    fn from(replay: Replay) -> Self {
        let terminal = replay.stats && std::io::stdout().is_terminal();
        let pretty = match replay.output {
            Some(output) => output == OutputName::Pretty,
            None => terminal && !replay.json,
        };
        Self {
            file: replay.file,
            stats: replay.stats,
            pretty,
            watch: replay.watch,
            config: replay.config,
            map: replay.map,
        }
    }
}
