//! Events by HTTP to nginx, which keeps the body of each request in a file.
//!
//! Splunk itself cannot be had here: nginx takes the requests that are meant for it, and answers as
//! its documentation says.

use std::collections::HashSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::backlog::Seen;
use super::certificates::Certificates;
use super::program::Program;
use super::{Peer, peers, survives};
use crate::agent::free_address;
use crate::scratch::Scratch;

pub(super) struct Nginx {
    program: Program,
    pub(super) address: SocketAddr,
    bodies: PathBuf,
    done: HashSet<PathBuf>,
    seen: Seen,
}

impl Nginx {
    /// `server` says who may send, `answer` what they are told.
    pub(super) fn new(scratch: &Path, listen: &str, server: &str, answer: &str) -> Self {
        let (address, inner) = (free_address(), free_address());
        let bodies = scratch.join("bodies");
        std::fs::create_dir(&bodies).unwrap();
        let config = scratch.join("nginx.conf");
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {0}/nginx.pid;\n\
             error_log {0}/nginx.log; events {{}}\n\
             http {{\n\
             access_log off; client_max_body_size 64m;\n\
             client_body_temp_path {1}; client_body_in_file_only on;\n\
             proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;\n\
             scgi_temp_path {0}/s;\n\
             server {{ listen {2} {listen}; {server} }}\n\
             server {{ listen {3}; location / {{ {answer} }} }}\n\
             }}\n",
            scratch.display(),
            bodies.display(),
            address,
            inner
        );
        // nginx reads a body when it hands it on.
        let text = text.replace("HAND_ON", &format!("proxy_pass http://{inner}/;"));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(config).arg("-p").arg(scratch).args(["-e", "stderr"]);
        let program = Program::new(&command, &scratch.join("nginx.err"));
        Self { program, address, bodies, done: HashSet::new(), seen: Seen::default() }
    }

    pub(super) fn is_running(&self) -> bool {
        self.program.pid().is_some()
    }

    /// The events in OTLP: each is a text in there, behind its length, which is not looked at. What
    /// begins and does not end is not whole yet.
    fn protobuf(&mut self, bytes: &[u8]) -> bool {
        let mut is_whole = !bytes.is_empty();
        for start in memchr::memmem::find_iter(bytes, b"{\"@timestamp\"") {
            let event = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter().next();
            match event {
                Some(Ok(event)) => self.seen.event(&event),
                _ => is_whole = false,
            }
        }
        is_whole
    }

    /// Reads one body. `false`: it is not whole yet, or was cut.
    fn body(&mut self, path: &Path) -> bool {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).unwrap();
        let is_whole = MultiGzDecoder::new(file).read_to_end(&mut bytes).is_ok();
        if !bytes.starts_with(b"{") {
            return is_whole && self.protobuf(&bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines().filter(|_| is_whole) {
            let line: Value = serde_json::from_str(line).unwrap();
            match line.get("sourcetype") {
                None => self.seen.event(&line),
                Some(kind) => {
                    assert_eq!(
                        (kind.as_str(), line["index"].as_str()),
                        (Some("fim:event"), Some("x"))
                    );
                    assert!(line["time"].as_str().unwrap().parse::<f64>().unwrap() > 1.7e9);
                    self.seen.event(&line["event"]);
                }
            }
        }
        is_whole
    }
}

impl Peer for Nginx {
    fn start(&mut self) {
        self.program.start();
        self.program.wait_for_port(self.address);
    }

    fn kill(&mut self) {
        // The worker goes with its master only when it is told to, and a master that runs begins
        // another one at once.
        if let Some(pid) = self.program.pid() {
            let _ = Command::new("kill").args(["-STOP", &pid.to_string()]).status();
            let _ = Command::new("pkill").args(["-KILL", "-P", &pid.to_string()]).status();
        }
        self.program.kill();
    }

    fn seen(&mut self) -> &Seen {
        let entries = std::fs::read_dir(&self.bodies).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>() {
            if !self.done.contains(&path) && self.body(&path) {
                self.done.insert(path);
            }
        }
        &self.seen
    }

    fn log(&self) -> String {
        self.program.log()
    }
}

#[test]
fn a_webhook_with_tls_and_a_password() {
    if peers("sinks::nginx").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-webhook");
    let certificates = Certificates::new(scratch.path());
    let users = scratch.path().join("users");
    std::fs::write(&users, "fim:{PLAIN}a b=c\n").unwrap();
    let secret = scratch.path().join("password");
    std::fs::write(&secret, "a b=c\n").unwrap();
    let server = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; \
         ssl_verify_client on; \
         location = /hook {{ auth_basic x; auth_basic_user_file {}; HAND_ON }}",
        certificates.server.0.display(),
        certificates.server.1.display(),
        certificates.ca.display(),
        users.display()
    );
    let mut peer = Nginx::new(scratch.path(), "ssl", &server, "return 204;");
    let sink = format!(
        "type = \"http\"\nurl = \"https://localhost:{}/hook\"\nusername = \"fim\"\n\
         password_file = {secret:?}\n{}",
        peer.address.port(),
        certificates.of_client()
    );
    survives(&scratch, &mut peer, &sink);
}

#[test]
fn the_event_collector_of_splunk() {
    if peers("sinks::nginx").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-splunk");
    let token = scratch.path().join("token");
    std::fs::write(&token, "11111111-2222\n").unwrap();
    let server = "location = /services/collector/event { \
                  if ($http_authorization != \"Splunk 11111111-2222\") { return 403; } HAND_ON }";
    let answer = "default_type application/json; return 200 '{\"text\":\"Success\",\"code\":0}';";
    let mut peer = Nginx::new(scratch.path(), "", server, answer);
    let sink = format!(
        "type = \"splunk\"\nurl = \"http://{}\"\nindex = \"x\"\ntoken_file = {token:?}\n",
        peer.address
    );
    survives(&scratch, &mut peer, &sink);
}
