//! What the host refuses.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::chown;
use std::process::Command;

use super::{Bench, FAILURE, NOT_PERMITTED, outcome};
use crate::environment::{beside_others, fim, is_ready, ordinary_user};
use std::os::unix::process::CommandExt as _;

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
