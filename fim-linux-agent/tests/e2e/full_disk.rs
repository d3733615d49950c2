//! No room for the journal: what the operator chose happens, it is told, and the agent goes on when
//! there is room again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::agent::{Agent, Setup};
use crate::environment::{beside_others, is_ready, skip};
use crate::lifecycle::page;
use crate::scratch::Scratch;

/// An agent whose state is on a small file system of its own; that, and what is watched.
fn start(scratch: &mut Scratch, on_full: &str) -> Result<(Agent, PathBuf, PathBuf), String> {
    let disk = scratch.mount("disk", &["-t", "tmpfs", "-o", "size=8M", "none"])?;
    let watched = scratch.directory("watched");
    let config = scratch.path().join("fim.toml");
    let text = format!(
        "[journal]\non_full = \"{on_full}\"\n[canary]\ninterval = 0\n\
         [[rule]]\nname = \"w\"\npaths = [{watched:?}]\n"
    );
    fs::write(&config, text).unwrap();
    let base = Setup::new(scratch.path(), &[]);
    let setup = Setup { config: Some(config), state_dir: disk.join("state"), loses: true, ..base };
    Ok((Agent::start(setup), disk, watched))
}

/// Fills a file system, beside the state directory.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    ballast
}

/// Changes enough to fill what the journal has begun to use of the disk.
fn change(watched: &Path, round: &str) {
    for number in 0..100 {
        fs::write(watched.join(format!("{round}-{number}")), "x").unwrap();
    }
}

fn is_unhealthy(agent: &Agent) -> bool {
    let (status, body) = page(agent.setup.metrics, "/healthz");
    status.contains(" 503 ") && body.contains("journal")
}

#[test]
fn block_waits_for_room_and_tells_everything() {
    if !is_ready("full_disk") {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("full-block");
    let (agent, disk, watched) = match start(&mut scratch, "block") {
        Ok(started) => started,
        Err(error) => return skip("full_disk", &error),
    };
    let ballast = fill(&disk);
    change(&watched, "a");
    agent.until("it says that it is full", || is_unhealthy(&agent));
    change(&watched, "b");
    fs::remove_file(ballast).unwrap();
    let told = |name: &str| {
        let path = watched.join(name);
        let found = agent.stream.wait(|line| (Path::new(line.path()) == path).then_some(()));
        found.unwrap_or_else(|error| panic!("{name}: {error}\n{}", agent.log()));
    };
    for number in 0..100 {
        told(&format!("a-{number}"));
        told(&format!("b-{number}"));
    }
    let full = agent.stream.wait(|line| (line.action == "journal_full").then_some(()));
    full.unwrap_or_else(|error| panic!("journal_full: {error}\n{}", agent.log()));
    agent
        .until("it is healthy again", || page(agent.setup.metrics, "/healthz").0.contains(" 200 "));
    agent.stop();
    // What is in the journal is what was told, and whole.
    let lines: Vec<String> = agent.stream.lines().iter().map(|line| line.text.clone()).collect();
    assert_eq!(agent.journal().len(), lines.len());
}

#[test]
fn stop_ends_the_agent() {
    if !is_ready("full_disk") {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("full-stop");
    let (agent, disk, watched) = match start(&mut scratch, "stop") {
        Ok(started) => started,
        Err(error) => return skip("full_disk", &error),
    };
    let ballast = fill(&disk);
    change(&watched, "a");
    assert_eq!(agent.exit_code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("on_full"), "{}", agent.log());
    fs::remove_file(ballast).unwrap();
    // What it did not write is found by the next one.
    let again = Agent::start(Setup { loses: true, ..agent.setup.clone() });
    for number in 0..100 {
        let path = watched.join(format!("a-{number}"));
        let both = agent.stream.lines().into_iter().chain(again.stream.lines());
        if both.map(|line| line.path().to_owned()).any(|told| Path::new(&told) == path) {
            continue;
        }
        let found = again.stream.wait(|line| (Path::new(line.path()) == path).then_some(()));
        found.unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), again.log()));
    }
    again.stop();
}
