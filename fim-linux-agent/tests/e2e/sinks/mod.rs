//! Sinks against real receivers, which these tests start, kill with SIGKILL in the middle of 100,000
//! events, and start again: nothing may be missing.
//!
//! They need programs that `cargo xtask test --only sinks` brings to `FIM_PEERS`; without that they
//! are skipped.

mod backlog;
mod certificates;
mod formats;
mod kafka;
mod nginx;
mod opensearch;
mod otlp;
mod program;
mod syslog;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Setup};
use crate::environment::{is_ready, skip};
use crate::lifecycle::{page, samples};
use crate::operator::{Op, Operator, Raw};
use crate::scratch::Scratch;

use backlog::{EVENTS, Seen};

/// After this long without progress something is taken for missing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much a receiver has when it is killed.
const BEFORE: usize = EVENTS / 10;

/// A receiver.
trait Peer {
    /// Starts it, also again; returns when it takes events.
    fn start(&mut self);
    /// Kills it with SIGKILL.
    fn kill(&mut self);
    /// What it has so far.
    fn seen(&mut self) -> &Seen;
    /// For a test that fails.
    fn log(&self) -> String;
}

/// Where what the stage brings lies; `None`: this test is skipped.
fn peers(test: &str) -> Option<PathBuf> {
    if !is_ready(test) {
        return None;
    }
    let peers = std::env::var_os("FIM_PEERS").map(PathBuf::from);
    if peers.is_none() {
        skip(test, "FIM_PEERS is not set: `cargo xtask test --only sinks` sets it");
    }
    peers
}

/// An agent with a backlog and these sinks.
fn start(scratch: &Scratch, sinks: &str) -> (Agent, PathBuf) {
    let watched = scratch.directory("watched");
    let config = scratch.path().join("fim.toml");
    let rule = format!("[[rule]]\nname = \"w\"\npaths = [{watched:?}]\n");
    let text = format!("recommended = false\n[journal]\nheartbeat = 1\n{sinks}\n{rule}");
    std::fs::write(&config, text).unwrap();
    let mut setup = Setup::new(scratch.path(), &[]);
    backlog::write(&setup.state_dir);
    setup.config = Some(config);
    (Agent::start(setup), watched)
}

/// Waits until `look` has something, as long as there is progress.
fn wait<T>(agent: &Agent, peer: &mut dyn Peer, what: &str, look: impl Fn(&Seen) -> Option<T>) -> T {
    let mut progress = (0, Instant::now());
    loop {
        let seen = peer.seen();
        if let Some(found) = look(seen) {
            return found;
        }
        if seen.backlog() > progress.0 {
            progress = (seen.backlog(), Instant::now());
        }
        let missing = seen.missing();
        assert!(
            progress.1.elapsed() < PATIENCE,
            "{what}: {} of {EVENTS}, without {missing:?}\n{}\n{}",
            progress.0,
            peer.log(),
            agent.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metric(agent: &Agent, name: &str, sink: &str) -> f64 {
    let (_, text) = page(agent.setup.metrics, "/metrics");
    let name = format!("fim_sink_{name}{{sink=\"{sink}\"}}");
    samples(&text).get(&name).copied().unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn wait_metric(agent: &Agent, name: &str, sink: &str, wanted: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(metric(agent, name, sink)) {
        let value = metric(agent, name, sink);
        assert!(Instant::now() < deadline, "{name} of {sink} is {value}\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn touch(path: &Path) {
    Operator::new(Op::CreateWrite { path: Raw::from(path), bytes: b"new\n".to_vec() }).run();
}

/// The outage: the receiver of the sink `peer` dies in the middle of the backlog. Beside it there is
/// a sink that works.
fn survives(scratch: &Scratch, peer: &mut dyn Peer, sink: &str) {
    let beside = scratch.path().join("beside.jsonl");
    let sinks = format!(
        "[[sink]]\nname = \"peer\"\nmax_retry_wait = 1\nbatch_events = 500\n\
         max_events_per_second = 20000\n{sink}\n\
         [[sink]]\nname = \"beside\"\ntype = \"file\"\npath = {beside:?}\nstart = \"newest\"\n\
         batch_wait_ms = 0\n"
    );
    peer.start();
    let (agent, watched) = start(scratch, &sinks);
    wait(&agent, peer, "the first events", |seen| (seen.backlog() >= BEFORE).then_some(()));
    peer.kill();
    let had = peer.seen().backlog();
    assert!(had < EVENTS, "it had everything before it was killed: {had}");
    wait_metric(&agent, "failed_total", "peer", |count| count >= 1.0);
    // Meanwhile nobody else notices anything.
    let file = watched.join("meanwhile");
    touch(&file);
    let told = agent.stream.wait_below(&file, |event| event.action() == "created");
    told.unwrap_or_else(|error| panic!("the agent stands still: {error}\n{}", agent.log()));
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&beside).unwrap_or_default().contains("watched/meanwhile") {
        assert!(Instant::now() < deadline, "the other sink stands still\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Published once a second.
    wait_metric(&agent, "lag_events", "peer", |lag| lag > 0.0);
    // The first attempt that fails may not be the last that something of the receiver answers.
    wait_metric(&agent, "up", "peer", |up| up < 0.5);
    peer.start();
    wait(&agent, peer, "the rest", |seen| seen.missing().is_empty().then_some(()));
    wait(&agent, peer, "what came meanwhile", |seen| seen.has_path(&file).then_some(()));
    wait_metric(&agent, "lag_events", "peer", |lag| lag < 10.0);
    assert_eq!(metric(&agent, "parked_total", "peer"), 0.0);
    wait_metric(&agent, "up", "peer", |up| up > 0.5);
    agent.stop();
    // The last event leaves before the agent is gone.
    wait(&agent, peer, "agent_stopped", |seen| seen.has_action("agent_stopped").then_some(()));
    peer.kill();
}
