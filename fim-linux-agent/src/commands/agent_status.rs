//! What a running agent says of itself, for `fim doctor`: its pages are asked for, as a monitoring
//! system would.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fim_common::ledger::{Identity, Stage};
use serde::Serialize;

/// An agent that is overloaded still answers: its pages have a thread of their own.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any page of an agent has.
const PAGE_MAX: u64 = 4 << 20;

/// The agent on this host.
#[derive(Debug, Serialize)]
pub(super) struct AgentStatus {
    /// Where it was asked.
    address: SocketAddr,
    /// Whether an agent answered.
    running: bool,
    /// Why not, or what is wrong with it, by its own account.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// What its stages have counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ledger: BTreeMap<&'static str, u64>,
    /// What came in less what became of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    imbalance: BTreeMap<&'static str, i64>,
    /// Losses that it has told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    gaps: Option<u64>,
}

impl AgentStatus {
    /// Asks at `address`; where its pages are guarded by TLS or a password it is only looked whether
    /// somebody listens.
    pub(super) fn ask(address: SocketAddr, is_guarded: bool) -> Self {
        let mut status = Self {
            address,
            running: false,
            problem: None,
            ledger: BTreeMap::new(),
            imbalance: BTreeMap::new(),
            gaps: None,
        };
        if is_guarded && TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
            let why = "somebody listens there, but with TLS or a password, which this command does \
                       not have: ask for /metrics and /healthz with them";
            status.problem = Some(why.to_owned());
            return status;
        }
        let metrics = match page(address, "/metrics") {
            Ok((_, metrics)) if metrics.contains("fim_build_info{") => metrics,
            Ok(_) => {
                status.problem = Some("something else than fim listens there".to_owned());
                return status;
            }
            Err(error) => {
                status.problem = Some(error.to_string());
                return status;
            }
        };
        status.running = true;
        status.problem = match page(address, "/healthz") {
            Ok((200, _)) => None,
            Ok((_, problems)) => Some(problems.trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        status.gaps = sample(&metrics, "fim_gaps_total");
        for stage in Stage::ALL {
            let name = format!("fim_ledger_operations_total{{stage=\"{}\"}}", stage.name());
            status.ledger.extend(sample(&metrics, &name).map(|count| (stage.name(), count)));
        }
        for identity in Identity::ALL {
            let name = format!("fim_ledger_imbalance{{identity=\"{}\"}}", identity.name);
            status.imbalance.extend(sample(&metrics, &name).map(|count| (identity.name, count)));
        }
        status
    }

    /// For people.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.running {
            let why = self.problem.as_deref().unwrap_or_default();
            return writeln!(out, "\nagent: none answers at {} ({why})", self.address);
        }
        match &self.problem {
            None => writeln!(out, "\nagent: runs, and is healthy ({})", self.address)?,
            Some(problem) => {
                writeln!(out, "\nagent: runs, and is NOT healthy ({})", self.address)?;
                for line in problem.lines() {
                    writeln!(out, "  why      {line}")?;
                }
            }
        }
        writeln!(out, "  losses told of: {}", self.gaps.unwrap_or_default())?;
        let sum = |stages: &[Stage]| {
            let part = |stage: &Stage| {
                let count = self.ledger.get(stage.name()).copied().unwrap_or_default();
                format!("{} {count}", stage.name())
            };
            stages.iter().map(part).collect::<Vec<_>>().join(" + ")
        };
        for identity in Identity::ALL {
            let off = match self.imbalance.get(identity.name) {
                None | Some(0) => String::new(),
                Some(off) => format!("  (under way, or lost: {off})"),
            };
            let (from, to) = (sum(identity.from), sum(identity.to));
            writeln!(out, "  {:<9} {from} = {to}{off}", identity.name)?;
        }
        Ok(())
    }
}

/// Status code and body.
fn page(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: fim\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(PAGE_MAX).read_to_string(&mut text)?;
    let parse = || {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    };
    parse().ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// The value of a sample.
fn sample<T: std::str::FromStr>(metrics: &str, name: &str) -> Option<T> {
    let rest = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let page = "# TYPE fim_gaps_total counter\nfim_gaps_total 3\n\
                    fim_ledger_imbalance{identity=\"ring\"} -2\n";
        assert_eq!(sample(page, "fim_gaps_total"), Some(3_u64));
        assert_eq!(sample(page, "fim_ledger_imbalance{identity=\"ring\"}"), Some(-2_i64));
        assert_eq!(sample::<u64>(page, "fim_gaps"), None);
    }

    #[test]
    fn nobody_there_is_said() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let status = AgentStatus::ask(free, false);
        assert!(!status.running && status.problem.is_some(), "{status:?}");
        let mut text = Vec::new();
        status.write(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("none answers at"));
    }
}
