//! `cargo xtask conformance`: what comes of each operation, on each file system, kernel and
//! backend.
//!
//! `end-to-end test program, in a machine -> cells -> list (known.rs), page (page.rs)`

mod cell;
mod known;
mod list;
mod machine;
mod page;

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    e2e, ebpf,
    kernels::{self, KERNELS, Kernel},
    workspace::{Workspace, say},
};
use cell::{Cell, Grade};
use page::Marks;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A kernel: 5.10, 6.1, 6.12, 6.18, 7.x, or a Debian suite. May be repeated. [default: 6.1]
    #[arg(long = "kernel", value_name = "NAME", value_parser = Kernel::named)]
    kernels: Vec<&'static Kernel>,
    /// A file system: tmpfs, ext4, xfs, btrfs, overlayfs. May be repeated. [default: all]
    #[arg(long = "fs", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(page::FILE_SYSTEMS))]
    file_systems: Vec<String>,
    /// A backend. May be repeated. [default: bpf]
    #[arg(long = "backend", value_name = "NAME")]
    backends: Vec<Backend>,
    /// An operation, as docs/conformance.md names it. May be repeated. [default: all]
    #[arg(long = "op", value_name = "NAME")]
    operations: Vec<String>,
    /// Every kernel and both backends.
    #[arg(long, conflicts_with_all = ["kernels", "backends"])]
    all: bool,
    /// Run on this machine, through fanotify, instead of in virtual ones. Its kernel is nobody
    /// else's: the grades are shown and neither asserted nor written down.
    #[arg(long, conflicts_with_all = ["kernels", "backends", "all"])]
    host: bool,
    /// Compare with docs/conformance.md instead of writing it.
    #[arg(long)]
    check: bool,
    /// Take what the last run of each machine left below target/conformance, for a list that has
    /// changed since.
    #[arg(long, conflicts_with_all = ["host", "file_systems", "operations"])]
    recorded: bool,
}

/// A source of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Bpf,
    Fanotify,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Fanotify => "fanotify",
        }
    }
}

/// Which cells of one machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// All, if none is named.
    pub(crate) file_systems: Vec<String>,
    /// All, if none is named.
    pub(crate) operations: Vec<String>,
}

/// A few operations of each kind, for kernels on which a test has no time for all.
const SMOKE: &[&str] = &[
    "create_write",
    "mkdir",
    "write",
    "mmap_shared",
    "copy_file_range",
    "chmod",
    "acl_set",
    "setflags_immutable",
    "unlink",
    "rename_over",
    "link",
    "tree_moved_within",
    "mount_tmpfs",
    "denied_open_for_writing",
    "denied_unlink",
];
const SMOKE_FILE_SYSTEMS: &[&str] = &["tmpfs", "ext4"];

/// Runs what the options say, and writes or checks the page.
pub(crate) fn conformance(ws: &Workspace, options: &Options) -> Result<()> {
    let selection = Selection {
        file_systems: options.file_systems.clone(),
        operations: options.operations.clone(),
    };
    if !options.recorded {
        ebpf::build(ws, false)?;
    }
    if options.host {
        let cells = machine::host(ws, &selection)?;
        print_details(&cells);
        print_summary("here, fanotify", &cells);
        return match cells.iter().filter(|cell| cell.grade == Grade::Broken).count() {
            0 => Ok(()),
            count => bail!("{count} operations did not do what they are to do"),
        };
    }
    let every = || KERNELS.iter().collect();
    let default = Kernel::named(kernels::DEFAULT).map_err(anyhow::Error::msg)?;
    let kernels: Vec<&Kernel> = match (&*options.kernels, options.all) {
        (_, true) => every(),
        ([], false) => vec![default],
        (named, false) => named.to_vec(),
    };
    let backends = match (&*options.backends, options.all) {
        (_, true) => vec![Backend::Bpf, Backend::Fanotify],
        ([], false) => vec![Backend::Bpf],
        (named, false) => named.to_vec(),
    };
    let runs = backends
        .iter()
        .flat_map(|backend| kernels.iter().map(|kernel| (*kernel, *backend, selection.clone())));
    run(ws, &runs.collect::<Vec<_>>(), options.check, options.recorded)
}

/// The stage of `cargo xtask test`: everything on the default kernel, a few things on the others.
pub(crate) fn stage(ws: &Workspace) -> Result<()> {
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let smoke = Selection { file_systems: texts(SMOKE_FILE_SYSTEMS), operations: texts(SMOKE) };
    let selection = |kernel: &Kernel| match kernel.name == kernels::DEFAULT {
        true => Selection::default(),
        false => smoke.clone(),
    };
    let runs: Vec<_> =
        KERNELS.iter().map(|kernel| (kernel, Backend::Bpf, selection(kernel))).collect();
    run(ws, &runs, true, false)
}

fn run(
    ws: &Workspace,
    runs: &[(&'static Kernel, Backend, Selection)],
    check: bool,
    recorded: bool,
) -> Result<()> {
    let program = if recorded { None } else { Some(e2e::build(ws)?) };
    let path = ws.root.join("docs/conformance.md");
    let mut marks = Marks::parse(&fs::read_to_string(&path).unwrap_or_default());
    let mut problems = Vec::new();
    for (kernel, backend, selection) in runs {
        let started = Instant::now();
        let what = format!("{}, {}", kernel.name, backend.name());
        let results = match &program {
            Some(program) => machine::guest(ws, kernel, *backend, selection, program),
            None => machine::recorded(ws, kernel, *backend),
        };
        let cells = match results {
            Ok(machine::Results { mut cells, failure }) => {
                problems.extend(failure.map(|failure| format!("{what}: {failure}")));
                if let (Some(program), true) = (&program, check) {
                    try_again(ws, (kernel, *backend), program, &mut cells)?;
                }
                cells
            }
            Err(error) => {
                problems.push(format!("{what}: {error:#}"));
                continue;
            }
        };
        print_summary(&format!("{what}, {:.0} s", started.elapsed().as_secs_f64()), &cells);
        problems.extend(known::problems(&cells));
        if check {
            problems.extend(cells.iter().filter_map(|cell| differs(cell, &marks)));
            continue;
        }
        marks.take(&cells);
        if selection.operations.is_empty() {
            marks.set_operations(operations(&cells));
        }
        // After each machine: a long run that is ended has not been for nothing.
        fs::write(&path, marks.render()).with_context(|| format!("writing {}", path.display()))?;
    }
    if !problems.is_empty() {
        bail!("{} problems:\n  {}", problems.len(), problems.join("\n  "));
    }
    Ok(())
}

/// Does once more, in a machine of their own, what came out worse than the list says, if that is
/// little: a kernel that takes the processor from a program loses an operation now and then, which
/// is told, and no fault of the operation (docs/limitations.md). What is worse again, is.
fn try_again(
    ws: &Workspace,
    (kernel, backend): (&'static Kernel, Backend),
    program: &Path,
    cells: &mut [Cell],
) -> Result<()> {
    const MOST: usize = 3;
    let again: Vec<&mut Cell> = cells.iter_mut().filter(|cell| known::is_worse(cell)).collect();
    if again.is_empty() || again.len() > MOST {
        return Ok(());
    }
    let selection = Selection {
        file_systems: again.iter().map(|cell| cell.place.fs.clone()).collect(),
        operations: again.iter().map(|cell| cell.place.op.clone()).collect(),
    };
    let second = machine::guest(ws, kernel, backend, &selection, program)?.cells;
    for cell in again {
        say(format!("conformance: a second try decides: {cell}"));
        if let Some(second) = second.iter().find(|second| second.place == cell.place) {
            cell.clone_from(second);
        }
    }
    Ok(())
}

/// What the page says that is not so.
fn differs(cell: &Cell, marks: &Marks) -> Option<String> {
    let told = marks.grade(&cell.place);
    let name = |grade: Option<Grade>| grade.map_or("nothing", Grade::name);
    (told != Some(known::settled(cell)))
        .then(|| format!("{cell}; docs/conformance.md says {}", name(told)))
}

/// In the order of the test program.
fn operations(cells: &[Cell]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for cell in cells {
        if !names.contains(&cell.place.op) {
            names.push(cell.place.op.clone());
        }
    }
    names
}

fn print_details(cells: &[Cell]) {
    for cell in cells.iter().filter(|cell| cell.grade != Grade::Exact) {
        println!("{cell}");
    }
}

fn print_summary(what: &str, cells: &[Cell]) {
    let mut counts: BTreeMap<Grade, usize> = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.grade).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().rev().map(|(grade, count)| format!("{count} {}", grade.name())).collect();
    println!("conformance ({what}): {} cells: {}", cells.len(), counts.join(", "));
    say(format!("conformance ({what}) is done"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smoke_set_is_on_the_page() {
        let ws = Workspace::find().unwrap();
        let page = fs::read_to_string(ws.root.join("docs/conformance.md")).unwrap();
        for name in SMOKE {
            assert!(page.contains(&format!("\n| {name} |")), "no operation {name}");
        }
    }

    #[test]
    fn every_kernel_has_its_type_information() {
        let ws = Workspace::find().unwrap();
        let fixtures = ws.root.join("fim-linux-agent/src/bpf/fixtures");
        for kernel in KERNELS {
            let fixture = fixtures.join(format!("{}.btf", kernel.name));
            assert!(fixture.is_file(), "cargo xtask btf-fixture --kernel {}", kernel.name);
        }
    }
}
