//! OTLP to rotel, an OpenTelemetry collector, which hands on what it gets to nginx, which keeps it.
//!
//! The collector acknowledges what it has in memory only, so that it is asked to end (SIGTERM) rather
//! than killed: what a collector loses that it has acknowledged is not the agent's to send again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::backlog::Seen;
use super::nginx::Nginx;
use super::program::Program;
use super::{Peer, peers, survives};
use crate::agent::free_address;
use crate::scratch::Scratch;

struct Rotel {
    program: Program,
    http: SocketAddr,
    grpc: SocketAddr,
    behind: Nginx,
}

impl Rotel {
    fn new(peers: &Path, scratch: &Path) -> Self {
        let (http, grpc) = (free_address(), free_address());
        let behind = Nginx::new(scratch, "", "location / { HAND_ON }", "return 200;");
        let mut command = Command::new(peers.join("rotel"));
        command
            .args(["start", "--disable-batching", "--exporter", "otlp"])
            .args(["--otlp-exporter-protocol", "http", "--otlp-exporter-compression", "none"])
            .arg(format!("--otlp-exporter-endpoint=http://{}", behind.address))
            .arg(format!("--otlp-http-endpoint={http}"))
            .arg(format!("--otlp-grpc-endpoint={grpc}"));
        let program = Program::new(&command, &scratch.join("rotel.log"));
        Self { program, http, grpc, behind }
    }
}

impl Peer for Rotel {
    fn start(&mut self) {
        if !self.behind.is_running() {
            self.behind.start();
        }
        self.program.start();
        self.program.wait_for_port(self.http);
        self.program.wait_for_port(self.grpc);
    }

    fn kill(&mut self) {
        self.program.terminate();
    }

    fn seen(&mut self) -> &Seen {
        self.behind.seen()
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.program.log(), self.behind.log())
    }
}

#[test]
fn by_http() {
    let Some(directory) = peers("sinks::otlp") else { return };
    let scratch = Scratch::new("sinks-otlp-http");
    let mut peer = Rotel::new(&directory, scratch.path());
    let sink = format!("type = \"otlp\"\nurl = \"http://{}\"\n", peer.http);
    survives(&scratch, &mut peer, &sink);
}

#[test]
fn by_grpc() {
    let Some(directory) = peers("sinks::otlp") else { return };
    let scratch = Scratch::new("sinks-otlp-grpc");
    let mut peer = Rotel::new(&directory, scratch.path());
    let sink = format!("type = \"otlp\"\nprotocol = \"grpc\"\nurl = \"http://{}\"\n", peer.grpc);
    survives(&scratch, &mut peer, &sink);
}
