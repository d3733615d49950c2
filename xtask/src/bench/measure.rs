//! One place, from beginning to end: every workload under every monitor, round by round.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    bench::{
        agent::{Agent, sum},
        hooks, load,
        load::{Done, LOADS},
        peers::{self, Peer},
        process, replay,
        results::{Monitor, Results, Sample, Told},
    },
    workspace::{output, say},
};

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// The agent.
    #[arg(long)]
    pub(crate) fim: PathBuf,
    #[arg(long)]
    pub(crate) backend: String,
    /// Where the workloads work.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Where the monitors keep what they keep: on another file system.
    #[arg(long)]
    pub(crate) state: PathBuf,
    #[arg(long)]
    pub(crate) scale: f64,
    #[arg(long)]
    pub(crate) rounds: u32,
    /// With the monitors that Debian ships.
    #[arg(long)]
    pub(crate) peers: bool,
}

const OURS: &[Monitor] =
    &[Monitor::None, Monitor::NoneAgain, Monitor::FimElsewhere, Monitor::FimHere];
const PEERS: &[Monitor] =
    &[Monitor::Fatrace, Monitor::Inotifywait, Monitor::AuditdElsewhere, Monitor::AuditdHere];
/// For the figure of resident memory.
const WATCHED_FILES: u64 = 10_000;
/// More operations than the default ring has room for, in units of a full create_delete.
const FLOOD: f64 = 4.0;

/// Measures all of it.
pub(crate) fn measure(plan: &Plan) -> Result<Results> {
    let fresh = |dir: &Path| {
        // What another run left, if there was one.
        fs::remove_dir_all(dir).ok();
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
    };
    fresh(&plan.dir)?;
    fresh(&plan.state)?;
    let results = measure_in(plan);
    fs::remove_dir_all(&plan.dir).ok();
    fs::remove_dir_all(&plan.state).ok();
    results
}

fn measure_in(plan: &Plan) -> Result<Results> {
    let mut results = Results {
        kernel: output(Command::new("uname").arg("-r"))?.trim().into(),
        cores: thread::available_parallelism().map_or(0, |count| count.get() as u64),
        backend: plan.backend.clone(),
        scale: plan.scale,
        rounds: plan.rounds,
        ..Results::default()
    };
    let (here, other) = (plan.dir.join("here"), plan.dir.join("other"));
    fs::create_dir(&other).context("creating a directory")?;
    load::prepare(&here)?;
    let mut monitors = OURS.to_vec();
    if plan.peers {
        monitors.extend(PEERS);
        // A kernel without auditing has nothing to switch off.
        if let Err(error) = peers::no_audit() {
            results.notes.push(format!("auditing could not be switched off: {error:#}"));
        }
    }
    for round in 0..plan.rounds {
        let mut failed = Vec::new();
        for turn in 0..monitors.len() {
            // Each comes first, second … once, so that none is always measured on a warmer machine.
            let monitor = monitors[(turn + round as usize) % monitors.len()];
            say(format!("bench: round {} of {}: {}", round + 1, plan.rounds, monitor.title()));
            match measure_monitor(plan, round, monitor, &here, &other) {
                Ok(samples) => results.samples.extend(samples),
                // A peer that cannot run here is no reason to measure nothing.
                Err(error) if PEERS.contains(&monitor) => {
                    results.notes.push(format!("{} could not run: {error:#}", monitor.title()));
                    failed.push(monitor);
                }
                Err(error) => return Err(error.context(monitor.title())),
            }
        }
        monitors.retain(|monitor| !failed.contains(monitor));
    }
    extras(plan, &here, &mut results)?;
    Ok(results)
}

/// What is measured once.
fn extras(plan: &Plan, here: &Path, results: &mut Results) -> Result<()> {
    say("bench: resident memory");
    let many = plan.dir.join("many");
    for number in 0..WATCHED_FILES {
        let dir = many.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir_all(&dir).context("creating a directory")?;
        }
        fs::write(dir.join(number.to_string()), "x").context("creating files")?;
    }
    let mut agent = Agent::start(&plan.fim, &plan.backend, &many, &plan.state.join("many"))?;
    agent.drain()?;
    let resident = |line: &&str| line.starts_with("process_resident_memory_bytes");
    results.resident = Some(sum(&agent.metrics()?, resident) as u64);
    results.ring_resident = process::ring_bytes(agent.pid())?;
    drop(agent);
    if plan.backend != "bpf" {
        say("bench: a replay");
        results.replays = replay::measure(&plan.fim, &many, &plan.state.join("replay"))?;
        return Ok(());
    }
    say("bench: the kernel's programs");
    let base = plan.state.join("hooks");
    let mut agent = Agent::start(&plan.fim, &plan.backend, here, &base)?;
    let names: Vec<_> = LOADS.iter().map(|load| load.name).collect();
    results.hooks = hooks::during(&plan.fim, agent.pid(), &names, |name| {
        let done = run_load(name, here, plan.scale)?;
        // What the agent does itself is not to be counted with the next workload.
        agent.drain().map(|_| done.operations)
    })?;
    drop(agent);
    say("bench: the ring");
    let mut agent = Agent::start(&plan.fim, &plan.backend, here, &plan.state.join("ring"))?;
    let held = agent.ring_holds(|| run_load("create_delete", here, FLOOD).map(drop));
    match held {
        Ok(held) => results.ring_holds = Some(held),
        Err(error) => results.notes.push(format!("the ring could not be filled: {error:#}")),
    }
    Ok(())
}

/// What runs beside a workload.
enum Running {
    Nothing,
    Fim(Agent),
    Peer(Peer),
}

impl Running {
    fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Fim(agent) => Some(agent.pid()),
            Self::Peer(peer) => Some(peer.pid()),
        }
    }
}

fn measure_monitor(
    plan: &Plan,
    round: u32,
    monitor: Monitor,
    here: &Path,
    other: &Path,
) -> Result<Vec<Sample>> {
    let base = plan.state.join(format!("{round}-{monitor:?}"));
    let fim = |watch: &Path| Agent::start(&plan.fim, &plan.backend, watch, &base);
    let mut running = match monitor {
        Monitor::None | Monitor::NoneAgain => Running::Nothing,
        Monitor::FimElsewhere => Running::Fim(fim(other)?),
        Monitor::FimHere => Running::Fim(fim(here)?),
        _ => Running::Peer(Peer::start(monitor, here, other, &base)?),
    };
    let mut before = Told::default();
    if let Running::Fim(agent) = &mut running {
        // What it does once, such as reading the package databases, no operation costs.
        let Told { lost, gaps, .. } = agent.drain()?;
        before = Told { lost, gaps, ..Told::default() };
    }
    let mut samples = Vec::new();
    for load in LOADS {
        let used = running.pid().map(process::cpu_us).transpose()?;
        let done = run_load(load.name, here, plan.scale)?;
        let mut told = None;
        if let Running::Fim(agent) = &mut running {
            let mut now = agent.drain()?;
            // These two are since the agent's start.
            let (lost, gaps) = (now.lost, now.gaps);
            now.lost -= before.lost;
            now.gaps -= before.gaps;
            told = Some(now);
            before = Told { lost, gaps, ..Told::default() };
        }
        let now = running.pid().map(process::cpu_us).transpose()?;
        let monitor_cpu_us = used.zip(now).map(|(used, now)| now.saturating_sub(used));
        let load = load.name.to_string();
        samples.push(Sample { round, monitor, load, done, monitor_cpu_us, told });
    }
    drop(running);
    // Journals of all rounds would fill a file system in memory.
    fs::remove_dir_all(&base).ok();
    Ok(samples)
}

fn run_load(name: &str, dir: &Path, scale: f64) -> Result<Done> {
    let program = env::current_exe().context("finding this program")?;
    let text =
        output(Command::new(program).args(["bench-load", name]).arg(dir).arg(scale.to_string()))?;
    serde_json::from_str(&text).with_context(|| format!("the workload {name} says {text}"))
}
