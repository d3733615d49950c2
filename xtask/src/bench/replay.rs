//! What fim alone costs: the agent on records made beforehand (`fim replay`), as often as they can
//! be read.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{bench::results::Replay, workspace::output};

/// How often each file is made and removed: at 3 records each, 900,000 with 10,000 files. What the
/// agent does once, such as reading the package databases, is a small part of that.
const ROUNDS: u32 = 30;
/// Of these the median counts.
const TIMES: u32 = 5;

/// Runs the agent on the operations that make and remove each file in `watch`. `base` is for what
/// it keeps.
pub(crate) fn measure(fim: &Path, watch: &Path, base: &Path) -> Result<Vec<Replay>> {
    (0..TIMES).map(|_| once(fim, watch, base)).collect()
}

fn once(fim: &Path, watch: &Path, base: &Path) -> Result<Replay> {
    fs::remove_dir_all(base).ok();
    fs::create_dir_all(base).with_context(|| format!("creating {}", base.display()))?;
    let config = base.join("fim.toml");
    let text = format!(
        "[canary]\ninterval = 0\n[[rule]]\nname = \"bench\"\npaths = [{watch:?}]\nhash = false\n"
    );
    fs::write(&config, text).context("writing the configuration")?;
    let mut command = Command::new(fim);
    command
        .args(["--log", "error", "replay", "--output", "none", "--metrics", "127.0.0.1:0"])
        .args(["--rounds", &ROUNDS.to_string()])
        .arg("--config")
        .arg(&config)
        .arg("--state-dir")
        .arg(base.join("state"))
        .stdin(Stdio::null());
    let said = output(&mut command)?;
    serde_json::from_str(said.trim()).with_context(|| format!("what fim replay said: {said}"))
}
