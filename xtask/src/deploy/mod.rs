//! Stage `deploy`: what is delivered is installed and run as its users do it.
//!
//! The program is the static one, built without optimisation: what is tested is how it is packed and
//! started. Everything is in `target/deploy`.

mod agent;
mod compose;
mod container;
mod debian;
mod docs;
mod engine;
mod kubernetes;
mod prometheus;
mod systemd;

use std::{net::TcpListener, path::PathBuf};

use anyhow::Result;

use crate::{
    dist,
    setup::{self, Need},
    workspace::{Workspace, say},
};

/// Where the tests keep what they make.
fn directory(ws: &Workspace) -> PathBuf {
    ws.target.join("deploy")
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

type Part = (&'static str, fn(&Workspace) -> Result<()>);

const PARTS: &[Part] = &[
    ("kubernetes", kubernetes::test),
    ("prometheus", prometheus::test),
    ("container", container::test),
    ("compose", compose::test),
    ("debian", debian::test),
    ("docs", docs::test),
];

/// Those that take long, and are run when they are named.
const ON_REQUEST: &[Part] = &[("systemd", systemd::test)];

pub(crate) use kubernetes::{is_current, manifests};

/// All parts, or those whose name has the filter in it.
pub(crate) fn stage(ws: &Workspace, filters: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Deploy])?;
    dist::program(ws, false)?;
    let is_named = |name: &str| filters.iter().any(|filter| name.contains(filter.as_str()));
    let on_request = ON_REQUEST.iter().filter(|(name, _)| is_named(name));
    for (name, part) in PARTS.iter().chain(on_request) {
        if filters.is_empty() || is_named(name) {
            let started = std::time::Instant::now();
            part(ws)?;
            say(format!("deploy: {name}: passed in {:.1} s", started.elapsed().as_secs_f64()));
        }
    }
    Ok(())
}
