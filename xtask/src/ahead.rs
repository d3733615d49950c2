//! Compiling for other machines beside stages that leave a processor idle: at the lowest priority,
//! and for the cache alone. The stage that it is for runs the same commands again, finds what there
//! is, and says what is wrong.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, say};

/// What goes on; nothing.
#[derive(Default)]
pub(crate) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    /// Runs the commands one after the other. What they print is in a file below `target`.
    pub(crate) fn start(&mut self, ws: &Workspace, commands: Vec<Command>) -> Result<()> {
        self.wait();
        let log = ws.target.join("ahead.log");
        fs::create_dir_all(&ws.target)?;
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        say(format!("compiling for other machines meanwhile (see {})", log.display()));
        let work = move || {
            for command in &commands {
                let (Ok(out), Ok(errors)) = (file.try_clone(), file.try_clone()) else { return };
                // Whatever comes of it, the stage finds out.
                let _ = nice(command).stdin(Stdio::null()).stdout(out).stderr(errors).status();
            }
        };
        self.0 = Some(std::thread::Builder::new().name("ahead".to_owned()).spawn(work)?);
        Ok(())
    }

    /// Until nothing goes on any more.
    pub(crate) fn wait(&mut self) {
        if let Some(work) = self.0.take() {
            // A panic was printed, and all that is missing is a cache.
            let _ = work.join();
        }
    }
}

/// The command, behind everything else that wants a processor.
fn nice(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        nice.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_same_but_for_its_priority() {
        let mut command = Command::new("sh");
        command.args(["-c", "nice; pwd; echo $KEPT-$PATH_GONE"]).current_dir("/");
        command.env("KEPT", "a b").env_remove("PATH_GONE");
        let out = nice(&command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "19\n/\na b-\n");
    }
}
