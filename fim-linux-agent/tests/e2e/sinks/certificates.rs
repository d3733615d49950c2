//! An authority, and what it has signed, made by openssl(1).

use std::path::{Path, PathBuf};
use std::process::Command;

/// Files in PEM.
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    /// `localhost` and 127.0.0.1.
    pub(super) server: (PathBuf, PathBuf),
    /// `agent.test`.
    pub(super) client: (PathBuf, PathBuf),
    /// Of another authority.
    pub(super) stranger: (PathBuf, PathBuf),
}

impl Certificates {
    pub(super) fn new(directory: &Path) -> Self {
        let authority = |name: &str| {
            let pair = files(directory, name);
            let subject = format!("/CN={name}");
            make(&pair, &["-subj", &subject, "-addext", "basicConstraints=critical,CA:TRUE"]);
            pair
        };
        let (ca, other) = (authority("ca"), authority("other"));
        let signed = |name: &str, by: &(PathBuf, PathBuf), subject: &str, names: &str| {
            let pair = files(directory, name);
            let names = format!("subjectAltName={names}");
            let (cert, key) = (by.0.to_str().unwrap(), by.1.to_str().unwrap());
            let args = ["-subj", subject, "-CA", cert, "-CAkey", key];
            // Without it each is an authority.
            let more = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
            make(&pair, &[&args[..], &more[..]].concat());
            pair
        };
        let server = signed("server", &ca, "/CN=localhost", "DNS:localhost,IP:127.0.0.1");
        let client = signed("client", &ca, "/CN=agent.test", "DNS:agent.test");
        let stranger = signed("stranger", &other, "/CN=agent.test", "DNS:agent.test");
        Self { ca: ca.0, server, client, stranger }
    }

    /// The keys of a sink that shows the client's.
    pub(super) fn of_client(&self) -> String {
        keys(&self.ca, &self.client)
    }

    /// The same with a certificate that nobody trusts.
    pub(super) fn of_stranger(&self) -> String {
        keys(&self.ca, &self.stranger)
    }
}

fn keys(ca: &Path, (cert, key): &(PathBuf, PathBuf)) -> String {
    format!("ca_file = {ca:?}\ncert_file = {cert:?}\nkey_file = {key:?}\n")
}

fn files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")))
}

fn make((cert, key): &(PathBuf, PathBuf), args: &[&str]) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-out"])
        .arg(cert)
        .arg("-keyout")
        .arg(key)
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
