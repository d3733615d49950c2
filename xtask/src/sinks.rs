//! The sinks against real receivers: see `fim-linux-agent/tests/e2e/sinks`.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    e2e,
    setup::{self, Need},
    workspace::{Workspace, run},
};

/// The tests of this stage. Those of the other stages leave them out, as they lack `FIM_PEERS`.
const FILTER: &str = "sinks::";

/// Brings the receivers, and runs the tests.
pub(crate) fn stage(ws: &Workspace, args: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Receivers])?;
    let program = e2e::build(ws)?;
    let peers = ws.target.join("peers");
    fs::create_dir_all(&peers).with_context(|| format!("creating {}", peers.display()))?;
    let filter = [FILTER.to_string()];
    // timeout(1) ends the program's children too.
    run(Command::new("timeout")
        .args(["--kill-after=10", &e2e::TIME_LIMIT.as_secs().to_string()])
        .arg(program)
        .args(if args.is_empty() { &filter } else { args })
        .current_dir(ws.root.join(e2e::PACKAGE))
        .env("FIM_BIN", ws.fim(false))
        .env("FIM_BACKEND", "fanotify")
        .env("FIM_PEERS", peers))
}
