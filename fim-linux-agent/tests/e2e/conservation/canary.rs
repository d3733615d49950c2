//! The agent sees what it does itself, on each file system, and says so when it does not.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Counts, at};
use crate::agent::{Agent, Setup, dump};
use crate::environment::{beside_others, is_ready, skip};
use crate::lifecycle::page;
use crate::policy::own;
use crate::scratch::Scratch;

const OPERATIONS: [&str; 10] = [
    "create", "write", "close", "chmod", "truncate", "rename", "link", "symlink", "mkdir", "unlink",
];

/// An agent that looks every second.
fn start(scratch: &Scratch, watched: &[&Path], environment: Vec<(&'static str, String)>) -> Agent {
    let config = scratch.path().join("fim.toml");
    fs::write(&config, configuration(watched)).unwrap();
    let config = Some(config);
    Agent::start(Setup { config, environment, ..Setup::new(scratch.path(), &[]) })
}

fn configuration(watched: &[&Path]) -> String {
    format!(
        "[canary]\ninterval = 1\n[[rule]]\nname = \"canary\"\npaths = {:?}\n",
        watched.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>()
    )
}

/// The sum of what a metric's samples with this label say.
fn sum(counts: &Counts, metric: &str, label: &str) -> u64 {
    let of = |(name, _): &(&String, &f64)| name.starts_with(metric) && name.contains(label);
    counts.0.iter().filter(of).map(|(_, value)| *value as u64).sum()
}

/// Of an operation on all file systems: rounds in which it was seen, and was not.
fn rounds(counts: &Counts, operation: &str) -> (u64, u64) {
    let of = |metric: &str| sum(counts, metric, &format!("operation=\"{operation}\""));
    (of("fim_canary_seconds_count{"), of("fim_canary_missed_total{"))
}

fn canaries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    entries.filter(|path| name(path).contains("canary")).collect()
}

#[test]
fn each_operation_is_seen_on_each_file_system() {
    if !is_ready("conservation::canary") {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("canary");
    let watched = scratch.directory("watched");
    let disk = match scratch.ext4("disk") {
        Ok(disk) => disk,
        Err(error) => {
            skip("conservation::canary on another file system", &error);
            watched.clone()
        }
    };
    let agent = start(&scratch, &[&watched, &disk], Vec::new());
    let counts = at(&agent, "three rounds of each operation, on both", |counts| {
        OPERATIONS.iter().all(|operation| rounds(counts, operation).0 >= 6)
    });
    for operation in OPERATIONS {
        assert_eq!(rounds(&counts, operation).1, 0, "{operation} was missed\n{}", agent.log());
    }
    assert!(page(agent.setup.metrics, "/healthz").0.contains(" 200 "));
    if disk != watched {
        let found = canaries(&disk);
        assert_eq!(found.len(), 1, "{found:?}");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(found[0].metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    agent.stop();
    assert!(canaries(&disk).is_empty(), "left behind");
    assert!(canaries(&agent.setup.state_dir).is_empty(), "left behind");
    let lines = agent.stream.lines();
    let about = lines
        .iter()
        .filter(|line| line.text.contains(".fim-canary") || line.path().contains("state/canary"));
    assert_eq!(about.count(), 0, "the canary is in events\n{}", dump(&lines));
    let baseline = fim_common::baseline::Baseline::open_read_only(&agent.setup.state_dir).unwrap();
    // The watched directories themselves, and what mkfs makes in one of them.
    let expected = if disk == watched { 1 } else { 3 };
    assert_eq!(baseline.count().unwrap(), expected, "the canary is in the baseline");
}

#[test]
fn a_hook_that_says_nothing_is_found() {
    if !is_ready("conservation::canary") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("canary-missed");
    let watched = scratch.directory("watched");
    let silenced = vec![("FIM_TEST_SILENCED_HOOK", "unlink".to_owned())];
    let agent = start(&scratch, &[&watched], silenced);
    let event = agent
        .stream
        .wait(|line| (line.action == "canary_missed").then(|| line.event()))
        .unwrap_or_else(|error| panic!("canary_missed: {error}\n{}", agent.log()));
    assert_eq!(event.text("event.kind"), Some("alert"), "{event}");
    assert!(event.text("fim.message").is_some_and(|text| text.contains("unlink")), "{event}");
    let counts = at(&agent, "the miss is counted", |counts| rounds(counts, "unlink").1 > 0);
    assert!(rounds(&counts, "create").0 > 0 && rounds(&counts, "create").1 == 0);
    let (status, body) = page(agent.setup.metrics, "/healthz");
    assert!(status.contains(" 503 ") && body.contains("canary"), "{status}\n{body}");
    agent.stop();
}

/// A reload takes the canary to a file system that is watched since then, and away again.
#[test]
fn it_goes_where_the_policy_goes() {
    if !is_ready("conservation::canary") {
        return;
    }
    let _guard = beside_others();
    let mut scratch = Scratch::new("canary-moves");
    let watched = scratch.directory("watched");
    let disk = match scratch.ext4("disk") {
        Ok(disk) => disk,
        Err(error) => return skip("conservation::canary on another file system", &error),
    };
    let agent = start(&scratch, &[&watched], Vec::new());
    let config = agent.setup.config.clone().unwrap();
    let replace = |watched: &[&Path]| {
        let new = scratch.path().join("fim.toml.new");
        fs::write(&new, configuration(watched)).unwrap();
        fs::rename(&new, &config).unwrap();
    };
    at(&agent, "a round", |counts| rounds(counts, "unlink").0 >= 1);
    assert!(canaries(&disk).is_empty());
    let label = format!("fs=\"{}\"", disk.display());
    let of_disk = |counts: &Counts| sum(counts, "fim_canary_seconds_count{", &label);
    let mut reloads = 0;
    let mut in_force = || {
        reloads += 1;
        own(&agent, "config_changed", reloads);
    };
    // It is asked back while it may still be on its way out.
    for _ in 0..5 {
        replace(&[&watched, &disk]);
        in_force();
        replace(&[&watched]);
        in_force();
    }
    for _ in 0..2 {
        replace(&[&watched, &disk]);
        let before = of_disk(&at(&agent, "the counts", |_| true));
        at(&agent, "rounds on the other file system", |counts| {
            of_disk(counts) >= before + OPERATIONS.len() as u64
        });
        // The round may be that of one which was on its way out.
        at(&agent, "the canary is there", |_| canaries(&disk).len() == 1);
        replace(&[&watched]);
        at(&agent, "the canary has left", |_| canaries(&disk).is_empty());
    }
    let counts = at(&agent, "another round", |counts| rounds(counts, "unlink").0 >= 6);
    for operation in OPERATIONS {
        assert_eq!(rounds(&counts, operation).1, 0, "{operation} was missed\n{}", agent.log());
    }
    // What is done there now is nobody's business.
    fs::write(disk.join("unwatched"), "").unwrap();
    agent.stop();
    let lines = agent.stream.lines();
    let about = lines.iter().filter(|line| line.path().starts_with(&*disk.to_string_lossy()));
    assert_eq!(about.count(), 0, "{}", dump(&lines));
}
