//! rsyslog.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::backlog::Seen;
use super::certificates::Certificates;
use super::program::Program;
use super::{Peer, metric, peers, start, survives, wait_metric};
use crate::agent::free_address;
use crate::scratch::Scratch;

/// rsyslogd with one input; it writes messages to a file as they are.
struct Rsyslog {
    program: Program,
    output: PathBuf,
    seen: Seen,
    port: Option<SocketAddr>,
    socket: Option<PathBuf>,
}

impl Rsyslog {
    fn new(scratch: &Path, modules: &str, input: &str) -> Self {
        let (config, output) = (scratch.join("rsyslog.conf"), scratch.join("rsyslog.out"));
        let text = format!(
            "global(workDirectory=\"{0}\" maxMessageSize=\"64k\"\n\
             parser.escapeControlCharactersOnReceive=\"off\" net.enableDNS=\"off\")\n\
             {modules}\n\
             template(name=\"event\" type=\"string\" string=\"%msg:::drop-last-lf%\\n\")\n\
             {input}\n\
             action(type=\"omfile\" file=\"{1}\" template=\"event\")\n",
            scratch.display(),
            output.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(config).arg("-i").arg(scratch.join("rsyslog.pid"));
        let program = Program::new(&command, &scratch.join("rsyslog.log"));
        Self { program, output, seen: Seen::default(), port: None, socket: None }
    }

    /// By TCP.
    fn tcp(scratch: &Path, address: SocketAddr) -> Self {
        let input = format!("input(type=\"imtcp\" port=\"{}\")", address.port());
        let mut peer = Self::new(scratch, "module(load=\"imtcp\")", &input);
        peer.port = Some(address);
        peer
    }

    /// By TLS, for clients that show a certificate of `agent.test`.
    fn tls(scratch: &Path, address: SocketAddr, certificates: &Certificates) -> Self {
        let modules = format!(
            "global(defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" \
             defaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" \
             streamDriver.authMode=\"x509/name\" permittedPeer=[\"agent.test\"])",
            certificates.ca.display(),
            certificates.server.0.display(),
            certificates.server.1.display()
        );
        let input = format!("input(type=\"imtcp\" port=\"{}\")", address.port());
        let mut peer = Self::new(scratch, &modules, &input);
        peer.port = Some(address);
        peer
    }

    /// By a socket, as `/dev/log` is one.
    fn unix(scratch: &Path, socket: &Path) -> Self {
        let input = format!(
            "input(type=\"imuxsock\" socket=\"{}\" useSpecialParser=\"off\" parseHostname=\"on\")",
            socket.display()
        );
        let module = "module(load=\"imuxsock\" sysSock.use=\"off\")";
        let mut peer = Self::new(scratch, module, &input);
        peer.socket = Some(socket.to_owned());
        peer
    }
}

impl Peer for Rsyslog {
    fn start(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
        self.program.start();
        if let Some(address) = self.port {
            self.program.wait_for_port(address);
        }
        if let Some(socket) = &self.socket {
            self.program.wait("the socket", || socket.exists());
        }
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    fn seen(&mut self) -> &Seen {
        self.seen.grown_events(&self.output);
        &self.seen
    }

    fn log(&self) -> String {
        self.program.log()
    }
}

#[test]
fn tls_with_client_certificates() {
    if peers("sinks::syslog").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-tls");
    let certificates = Certificates::new(scratch.path());
    let address = free_address();
    let mut peer = Rsyslog::tls(scratch.path(), address, &certificates);
    let url = format!("type = \"syslog\"\nurl = \"tls://localhost:{}\"", address.port());
    survives(&scratch, &mut peer, &format!("{url}\n{}", certificates.of_client()));
}

#[test]
fn tcp() {
    if peers("sinks::syslog").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-tcp");
    let address = free_address();
    let mut peer = Rsyslog::tcp(scratch.path(), address);
    survives(&scratch, &mut peer, &format!("type = \"syslog\"\nurl = \"tcp://{address}\""));
}

#[test]
fn unix_socket() {
    if peers("sinks::syslog").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-unix");
    let socket = scratch.path().join("log.socket");
    let mut peer = Rsyslog::unix(scratch.path(), &socket);
    let url = format!("unix://{}", socket.display());
    survives(&scratch, &mut peer, &format!("type = \"syslog\"\nurl = {url:?}"));
}

#[test]
fn nobody_is_trusted_who_does_not_prove_who_they_are() {
    if peers("sinks::syslog").is_none() {
        return;
    }
    let scratch = Scratch::new("sinks-refused");
    let certificates = Certificates::new(scratch.path());
    let address = free_address();
    let mut peer = Rsyslog::tls(scratch.path(), address, &certificates);
    peer.start();
    let port = address.port();
    let (good, stranger) = (certificates.of_client(), certificates.of_stranger());
    let sink = |name: &str, host: &str, keys: &str| {
        format!(
            "[[sink]]\nname = {name:?}\ntype = \"syslog\"\nmax_retry_wait = 1\n\
             url = \"tls://{host}:{port}\"\n{keys}"
        )
    };
    let sinks = [
        // It shows a certificate that the receiver does not trust.
        sink("stranger", "localhost", &stranger),
        // The receiver shows the certificate of another name.
        sink("name", "127.0.0.1", &format!("{good}server_name = \"elsewhere.test\"\n")),
        // The sink trusts other authorities than the receiver's.
        sink("authority", "localhost", ""),
    ];
    let (agent, _) = start(&scratch, &sinks.concat());
    for name in ["stranger", "name", "authority"] {
        wait_metric(&agent, "failed_total", name, |count| count >= 2.0);
    }
    assert_eq!(peer.seen().backlog(), 0, "{}", peer.log());
    let log = agent.log();
    assert!(log.contains("elsewhere.test") && log.contains("UnknownIssuer"), "{log}");
    assert_eq!(metric(&agent, "parked_total", "stranger"), 0.0);
    agent.stop();
}
