//! In a machine of one processor whose time is the number of instructions that it executed.

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench::results::Results,
    kernels::Kernel,
    vm::{self, GuestFile, VmEnd, VmSpec},
    workspace::{Workspace, say},
};

const TIME_LIMIT: Duration = Duration::from_secs(3600);
/// Journals and what is worked on are in memory.
const MEMORY_MB: u32 = 3072;
const PROGRAM: &str = "fim-bench";

/// Boots one, measures in it, and brings the results back.
pub(crate) fn measure(
    ws: &Workspace,
    kernel: &'static Kernel,
    fim: &Path,
    (scale, rounds): (f64, u32),
) -> Result<Results> {
    let out = ws.target.join("bench").join(kernel.name);
    fs::remove_dir_all(&out).ok();
    let this = env::current_exe().context("finding this program")?;
    let mut spec = VmSpec::new(kernel);
    spec.files = vec![
        GuestFile::new(fim, "/usr/bin/fim"),
        GuestFile::new(this, format!("/usr/bin/{PROGRAM}")),
    ];
    spec.command = Some(format!(
        "exec {PROGRAM} bench-measure --fim /usr/bin/fim --backend bpf --dir /tmp/bench \
         --state /run/bench --scale {scale} --rounds {rounds} --out /out/results.json"
    ));
    spec.icount = true;
    spec.smp = 1;
    spec.memory_mb = MEMORY_MB;
    spec.timeout = TIME_LIMIT;
    spec.out_dir = Some(out.clone());
    spec.echo = true;
    say(format!("bench: kernel {}", kernel.name));
    let outcome = vm::run(ws, &spec)?;
    if outcome.end != VmEnd::Exited(0) {
        bail!("{} (kernel {})\n{}", outcome.end, kernel.name, outcome.console);
    }
    let text = fs::read_to_string(out.join("results.json")).context("reading the results")?;
    serde_json::from_str(&text).context("reading the results")
}
