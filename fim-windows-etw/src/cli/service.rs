//! `service`: the words of the Windows service.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fim_commands::start::{Arguments, Failure, configuration, registry_key};
use fim_common::pipeline::Format;

use super::live::Place;
use crate::commands::exit;
use crate::service::{self, NAME, manage};

/// What is logged unless it is said.
pub(super) const LOG: &str = "info";

#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// Install the service, which starts with the system; or update the one that is there.
    Install {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        agent: Agent,
    },
    /// Start it, and wait until it watches.
    Start(Name),
    /// Stop it, and wait until it has ended.
    Stop(Name),
    /// Have it read its configuration again.
    Reload(Name),
    /// Say whether it runs.
    Status(Name),
    /// Stop and remove it; state and configuration are kept.
    Uninstall(Name),
    /// What the service manager runs.
    Run {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        agent: Agent,
    },
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// The service's name.
    #[arg(long, default_value = NAME)]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Agent {
    #[command(flatten)]
    place: Place,
    /// Where to serve /metrics and /healthz [default: 127.0.0.1:9977].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Where the log goes [default: fim.log in the state directory].
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

impl Agent {
    fn arguments(&self) -> Arguments {
        Arguments {
            config: self.place.config.clone(),
            watch: self.place.watch.clone(),
            state_dir: self.place.state_dir.clone(),
            metrics: self.metrics,
            output: Some(Format::None),
            ..Arguments::default()
        }
    }

    fn log(&self) -> PathBuf {
        self.log_file.clone().unwrap_or_else(|| self.place.state_dir.join("fim.log"))
    }

    /// What the service manager is to say to the program: `service run` with all of this. Paths are
    /// absolute, as services begin in a directory of the system's.
    fn command_line(&self, name: &str, log: &str) -> std::io::Result<Vec<OsString>> {
        let mut words: Vec<OsString> = Vec::new();
        if log != LOG {
            words.extend(["--log".into(), log.into()]);
        }
        words.extend(["service".into(), "run".into()]);
        if name != NAME {
            words.extend(["--name".into(), name.into()]);
        }
        let mut path = |option: &str, path: &Path| -> std::io::Result<()> {
            words.extend([option.into(), std::path::absolute(path)?.into_os_string()]);
            Ok(())
        };
        if let Some(config) = &self.place.config {
            path("--config", config)?;
        }
        let (keys, files): (Vec<_>, Vec<_>) =
            self.place.watch.iter().partition(|watch| registry_key(watch).is_some());
        for watch in files {
            path("--watch", watch)?;
        }
        path("--state-dir", &self.place.state_dir)?;
        if let Some(log_file) = &self.log_file {
            path("--log-file", log_file)?;
        }
        for key in keys {
            words.extend(["--watch".into(), key.into()]);
        }
        if let Some(metrics) = self.metrics {
            words.extend(["--metrics".into(), metrics.to_string().into()]);
        }
        Ok(words)
    }
}

impl Service {
    /// The file that has the log in place of standard error.
    pub(super) fn log_file(&self) -> Option<PathBuf> {
        match self {
            Self::Run { agent, .. } => Some(agent.log()),
            _ => None,
        }
    }
}

/// Does what the command says.
pub(super) fn dispatch(out: &mut dyn Write, what: Service, log: &str) -> Result<u8, Failure> {
    match what {
        Service::Install { name, agent } => {
            // Better now than in the log of a service that does not start.
            configuration(&agent.arguments())?;
            let words = agent.command_line(&name.name, log).map_err(Failure::runtime)?;
            manage::install(out, &name.name, words)?;
        }
        Service::Start(name) => manage::start(out, &name.name)?,
        Service::Stop(name) => manage::stop(out, &name.name)?,
        Service::Reload(name) => manage::reload(out, &name.name)?,
        Service::Status(name) => return manage::status(out, &name.name),
        Service::Uninstall(name) => manage::uninstall(out, &name.name)?,
        Service::Run { name, agent } => service::run(&name.name, agent.arguments())?,
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command, live};
    use super::*;

    #[test]
    fn what_is_installed_says_the_same_again() {
        let line = |words: &[&str]| match Cli::try_parse_from(words).unwrap().command {
            Command::Live(live::Command::Service(
                Service::Install { name, agent } | Service::Run { name, agent },
            )) => (name, agent),
            other => panic!("{other:?}"),
        };
        let said = [
            "fim",
            "--log",
            "debug",
            "service",
            "install",
            "--name",
            "other",
            "--config",
            r"C:\a b\fim.toml",
            "--watch",
            r"C:\w",
            "--watch",
            r"HKLM\SOFTWARE\X",
            "--state-dir",
            r"C:\state",
            "--metrics",
            "127.0.0.1:1",
        ];
        let (name, agent) = line(&said);
        let words = agent.command_line(&name.name, "debug").unwrap();
        assert_eq!(words[..4], ["--log", "debug", "service", "run"]);
        let words: Vec<&str> =
            std::iter::once("fim").chain(words.iter().map(|word| word.to_str().unwrap())).collect();
        let (again, read) = line(&words);
        assert_eq!(again.name, "other");
        assert_eq!(format!("{:?}", read.arguments()), format!("{:?}", agent.arguments()));
        assert_eq!(read.log(), Path::new(r"C:\state\fim.log"));
        let (name, agent) = line(&["fim", "service", "install"]);
        let words = agent.command_line(&name.name, LOG).unwrap();
        assert_eq!(words, ["service", "run", "--state-dir", r"C:\ProgramData\fim"]);
    }
}
