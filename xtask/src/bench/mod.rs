//! `cargo xtask bench`: what watching costs, beside no monitor and beside those of Debian.
//!
//! `workloads (load.rs) x monitors (agent.rs, peers.rs), round by round (measure.rs), and a replay
//! (replay.rs) -> results -> targets.rs, page.rs`; in a machine the same program measures (guest.rs).

mod agent;
mod events;
mod guest;
mod hooks;
mod load;
mod measure;
mod page;
mod peers;
mod process;
mod replay;
mod results;
mod scan;
mod sections;
mod targets;
mod windows;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::{
    ebpf,
    kernels::{self, Kernel},
    setup::{self, Need},
    workspace::{Workspace, say},
};
use results::Results;

pub(crate) use load::main as load;
pub(crate) use measure::Plan;

/// What to measure.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Only on this machine, through fanotify, beside Debian's monitors. The page keeps the rest.
    #[arg(long, conflicts_with = "guest")]
    native: bool,
    /// Only in virtual machines, through bpf. The page keeps the rest.
    #[arg(long)]
    guest: bool,
    /// A kernel to boot: 5.10, 6.1, 6.12, 6.18, 7.x, or a Debian suite. May be repeated.
    /// [default: 6.1]
    #[arg(long = "kernel", value_name = "NAME", value_parser = Kernel::named)]
    kernels: Vec<&'static Kernel>,
    /// Fewer operations: a tenth natively, a third of that in a machine.
    #[arg(long)]
    quick: bool,
    /// Measure nothing: write the page anew from the last figures.
    #[arg(long, conflicts_with_all = ["native", "guest", "kernels", "quick"])]
    page: bool,
}

/// A part with a page section of its own.
#[derive(Debug, Subcommand)]
enum What {
    /// First scan and check of a tree, beside AIDE and Samhain; the rest of the page stays as it is.
    Scan(scan::Options),
    /// Filters of `fim events` on a large journal; the rest of the page stays as it is.
    Events(events::Options),
    /// How many of Windows' events one core decodes and correlates; the rest of the page stays as it
    /// is.
    Windows,
}

/// Share of the full number of operations, and rounds.
const NATIVE: (f64, u32) = (1.0, 5);
const NATIVE_QUICK: (f64, u32) = (0.1, 5);
/// Under emulation everything is several times slower; its figures repeat, so less will do.
const GUEST: (f64, u32) = (0.1, 3);
const GUEST_QUICK: (f64, u32) = (0.03, 3);

/// Measures, and writes the page.
pub(crate) fn bench(ws: &Workspace, options: &Options) -> Result<()> {
    match &options.what {
        Some(What::Scan(options)) => return scan::bench(ws, options),
        Some(What::Events(options)) => return events::bench(ws, options),
        Some(What::Windows) => return windows::bench(ws),
        None => {}
    }
    let kept = ws.target.join("bench");
    if options.page {
        return write(ws, &kept);
    }
    let fim = ebpf::build(ws, true)?;
    let (native, guest) = match (options.native, options.guest) {
        (false, false) => (true, true),
        chosen => chosen,
    };
    fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
    if native {
        setup::ensure(ws, &[Need::Peers])?;
        let (scale, rounds) = if options.quick { NATIVE_QUICK } else { NATIVE };
        let plan = Plan {
            fim: fim.clone(),
            backend: "fanotify".into(),
            // In memory: a disk's own time and noise would hide what is to be seen.
            dir: PathBuf::from(format!("/dev/shm/fim-bench-{}", std::process::id())),
            state: kept.join("state"),
            scale,
            rounds,
            peers: true,
        };
        keep(&kept.join("native.json"), &measure::measure(&plan)?)?;
    }
    if guest {
        let default = Kernel::named(kernels::DEFAULT).map_err(anyhow::Error::msg)?;
        let kernels = match &*options.kernels {
            [] => vec![default],
            named => named.to_vec(),
        };
        let size = if options.quick { GUEST_QUICK } else { GUEST };
        for kernel in kernels {
            let results = guest::measure(ws, kernel, &fim, size)?;
            keep(&kept.join(format!("guest-{}.json", kernel.name)), &results)?;
        }
    }
    write(ws, &kept)
}

/// In a machine: measures and leaves the results in a file.
pub(crate) fn measure(plan: &Plan, out: &Path) -> Result<()> {
    keep(out, &measure::measure(plan)?)
}

fn keep(path: &Path, results: &Results) -> Result<()> {
    fs::write(path, serde_json::to_string(results)?)
        .with_context(|| format!("writing {}", path.display()))
}

/// Makes the page of the last results of each place.
fn write(ws: &Workspace, kept: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Option<Results>> {
        let path = kept.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("reading {name}"))
    };
    let native = read("native.json")?;
    let mut guests = Vec::new();
    for kernel in kernels::KERNELS {
        guests.extend(read(&format!("guest-{}.json", kernel.name))?);
    }
    let path = ws.root.join("docs/benchmarks.md");
    // What commands of their own have written stays.
    let old = fs::read_to_string(&path).unwrap_or_default();
    let mut page = page::render(native.as_ref(), &guests);
    for section in sections::NAMES.map(|name| sections::of(&old, name)) {
        if !section.is_empty() {
            page.push_str(&format!("\n{section}\n"));
        }
    }
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    say(format!("bench: {} is written", path.display()));
    Ok(())
}
