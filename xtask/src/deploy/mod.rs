//! Stage `deploy`: what is delivered is installed and run as its users do it.
//!
//! The program is the static one, built without optimisation: what is tested is how it is packed and
//! started. Everything is in `target/deploy`.

mod debian;

use std::path::PathBuf;

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

type Part = (&'static str, fn(&Workspace) -> Result<()>);

const PARTS: &[Part] = &[("debian", debian::test)];

/// All parts, or those whose name has the filter in it.
pub(crate) fn stage(ws: &Workspace, filters: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Deploy])?;
    dist::program(ws, false)?;
    for (name, part) in PARTS {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            let started = std::time::Instant::now();
            part(ws)?;
            say(format!("deploy: {name}: passed in {:.1} s", started.elapsed().as_secs_f64()));
        }
    }
    Ok(())
}
