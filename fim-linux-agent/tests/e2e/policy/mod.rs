//! Who may do what and when, and another policy while the agent runs.

mod containers;
mod reload;
mod who;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::{Agent, Setup, dump};
use crate::event::{Event, path_text};
use crate::scratch::Scratch;

/// An agent with this configuration and no canary.
fn start(scratch: &Scratch, config: &str) -> (Agent, PathBuf) {
    let file = scratch.path().join("fim.toml");
    write(&file, config);
    let setup = Setup { config: Some(file.clone()), ..Setup::new(scratch.path(), &[]) };
    (Agent::start(setup), file)
}

fn write(file: &Path, config: &str) {
    std::fs::write(file, format!("[canary]\ninterval = 0\n{config}")).unwrap();
}

/// A rule of this name for a directory.
fn rule(name: &str, directory: &Path, more: &str) -> String {
    format!("[[rule]]\nname = {name:?}\npaths = [{directory:?}]\n{more}\n")
}

/// Waits for the event of this action at the path.
fn event(agent: &Agent, path: &Path, action: &str) -> Event {
    let text = path_text(path);
    let found =
        agent.stream.wait_below(path, |event| event.path() == text && event.action() == action);
    found.unwrap_or_else(|error| {
        panic!("{action} {text}: {error}\n{}\n{}", dump(&agent.stream.lines()), agent.log())
    })
}

/// The events of this action, once there are so many.
pub(crate) fn own(agent: &Agent, action: &str, count: usize) -> Vec<Event> {
    let mut found = Vec::new();
    let all = agent.stream.wait(|line| {
        if line.action == action {
            found.push(line.event());
        }
        (found.len() == count).then_some(())
    });
    if let Err(error) = all {
        panic!("{count} of {action}: {error}\n{}\n{}", dump(&agent.stream.lines()), agent.log());
    }
    found
}

/// A program of its own that does what a shell does.
fn program(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.path().join(name);
    std::fs::copy("/bin/sh", &path).unwrap();
    path
}

/// Has a program write to a file.
fn by(program: &Path, path: &Path) {
    let script = format!("echo \"$$\" > '{}'", path.display());
    // What busybox does goes by that name.
    let status = Command::new(program).arg0("sh").arg("-c").arg(script).status().unwrap();
    assert!(status.success(), "{status}");
}
