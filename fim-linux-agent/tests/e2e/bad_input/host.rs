//! What the host refuses.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::{Bench, FAILURE, NOT_PERMITTED, UNAVAILABLE, outcome};
use crate::environment::{Backend, backend, beside_others, fim, is_ready, ordinary_user, skip};

#[test]
fn metrics_port_in_use() {
    if !is_ready("port in use") {
        return;
    }
    let _guard = beside_others();
    let mut bench = Bench::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.setup.metrics = taken.local_addr().unwrap();
    let address = bench.setup.metrics.to_string();
    bench.run().is_refusal("port in use", FAILURE, &[&address, "in use"]);
}

#[test]
fn no_privileges() {
    if !is_ready("no privileges") {
        return;
    }
    let _guard = beside_others();
    let bench = Bench::new("privileges");
    let account = ordinary_user();
    let state = bench.scratch.directory("state");
    chown(&state, Some(account.uid), Some(account.gid)).unwrap();
    // By an open descriptor: the user may not be able to reach the directory of the program.
    let program = File::open(fim()).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(bench.setup.command().get_args()).uid(account.uid).gid(account.gid);
    outcome(command).is_refusal("no privileges", NOT_PERMITTED, &["root"]);
    // Nothing of it keeps the privileged agent from using the directory.
    fs::remove_dir_all(&state).unwrap();
}

/// A kernel in lockdown refuses the programs; then `--backend bpf` is an error, and says so.
#[test]
fn no_backend() {
    const TEST: &str = "no backend";
    if !is_ready(TEST) {
        return;
    }
    if backend() == Backend::Bpf {
        skip(TEST, "the BPF backend works here");
        return;
    }
    let _guard = beside_others();
    let bench = Bench::new("backend");
    let mut command = Command::new(fim());
    command.args(["run", "--backend", "bpf", "--output", "json", "--metrics", "127.0.0.1:0"]);
    command.arg("--watch").arg(&bench.setup.watch[0]);
    command.arg("--state-dir").arg(&bench.setup.state_dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    if !first.is_empty() {
        skip(TEST, "this kernel takes BPF programs");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(UNAVAILABLE), "{message}");
    assert!(message.contains("bpf"), "{message}");
}
