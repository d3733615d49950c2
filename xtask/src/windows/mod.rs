//! `cargo xtask windows`: the agent for Windows, cross-compiled, and its tests under Wine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::{
    cross::Target,
    dist,
    setup::{self, Need},
    workspace::{Workspace, run, say},
};

mod imports;
mod limit;
mod service;
mod wine;
mod zip;

pub(crate) use wine::present as has_wine;

const TARGET: Target =
    Target { triple: "x86_64-pc-windows-gnu", cc: "x86_64-w64-mingw32-gcc", folder: "windows" };

/// What is built and checked: everything that has a Windows side. fim-sinks is checked as the agent
/// depends on it: by itself it would have Kafka, and with that OpenSSL, which Windows' has not.
const PACKAGES: [&str; 10] = [
    "--package",
    "fim-win32",
    "--package",
    "fim-etw-standin",
    "--package",
    "fim-common",
    "--package",
    "fim-commands",
    "--package",
    "fim-windows-etw",
];

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Build fim-windows-etw.exe.
    Build {
        /// With optimisation.
        #[arg(long)]
        release: bool,
    },
    /// Build the zip that is delivered.
    Zip,
    /// Pack the program, without optimisation, and run the service that it is under Wine. Part of
    /// `test`.
    Service,
    /// Run clippy for Windows.
    Clippy,
    /// Run the tests for Windows under Wine.
    Test {
        /// Arguments for the test programs (a filter, `--nocapture`).
        #[arg(last = true)]
        args: Vec<String>,
    },
}

/// Runs a task.
pub(crate) fn run_task(ws: &Workspace, task: Task) -> Result<()> {
    setup::ensure(ws, &[Need::Windows])?;
    match task {
        Task::Build { release } => {
            let exe = build(ws, release)?;
            say(format!("agent: {}", exe.display()));
            Ok(())
        }
        Task::Zip => {
            let exe = build(ws, true)?;
            let (_, zip) = zip::pack(ws, &exe, &dist::directory(ws))?;
            zip::check(&zip).map(drop)
        }
        Task::Service => {
            service_test(ws, &wine::Wine::prepare(&TARGET.dir(ws))?, &build(ws, false)?)
        }
        Task::Clippy => clippy(ws),
        Task::Test { args } => test(ws, &args),
    }
}

/// The stage of `cargo xtask test`.
pub(crate) fn stage(ws: &Workspace) -> Result<()> {
    setup::ensure(ws, &[Need::Windows])?;
    test(ws, &[])?;
    clippy(ws)
}

/// Whether C can be compiled for Windows.
pub(crate) fn has_c() -> bool {
    TARGET.has_c("libkernel32.a")
}

fn build(ws: &Workspace, release: bool) -> Result<PathBuf> {
    let mut cargo = TARGET.cargo(ws, "build");
    cargo.args(["--package", "fim-windows-etw"]);
    if release {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    let exe = TARGET.dir(ws).join(TARGET.triple).join(profile).join("fim-windows-etw.exe");
    imports::check(&exe, imports::Etw::Windows)?;
    Ok(exe)
}

fn clippy(ws: &Workspace) -> Result<()> {
    clippy_commands(ws).iter_mut().try_for_each(run)
}

fn clippy_commands(ws: &Workspace) -> [Command; 2] {
    // Not fim-common's tests: they make files as Unix has them.
    let tests = ["--package", "fim-win32", "--package", "fim-windows-etw", "--all-targets"];
    [&PACKAGES[..], &tests].map(|what| {
        let mut cargo = TARGET.cargo(ws, "clippy");
        cargo.args(what).args(["--", "-D", "warnings"]);
        cargo
    })
}

/// The tests, to be built or run.
fn test_command(ws: &Workspace) -> Command {
    let mut cargo = TARGET.cargo(ws, "test");
    cargo.args(["--package", "fim-win32", "--package", "fim-windows-etw"]);
    // Documentation has no tests for Windows, and rustdoc would be of another compiler.
    cargo.args(["--lib", "--bins", "--tests"]);
    cargo
}

/// What of [`stage`] takes long and needs no Wine.
pub(crate) fn compile_commands(ws: &Workspace) -> Vec<Command> {
    let mut build = test_command(ws);
    build.arg("--no-run");
    std::iter::once(build).chain(clippy_commands(ws)).collect()
}

fn test(ws: &Workspace, args: &[String]) -> Result<()> {
    let wine = wine::Wine::prepare(&TARGET.dir(ws)).context("preparing Wine")?;
    let mut cargo = test_command(ws);
    cargo.arg("--").args(args);
    wine.runs(&mut cargo);
    let done = run(&mut cargo);
    // With what a failed test has left.
    wine.end()?;
    done?;
    // Built with these tests, as it is built for a release but for optimisation.
    let folder = TARGET.dir(ws).join(TARGET.triple).join("debug");
    let exe = folder.join(zip::PROGRAM);
    imports::check(&exe, imports::Etw::Windows)?;
    if !args.is_empty() {
        return Ok(());
    }
    let test = imports::newest(&folder.join("deps"), "etw-")?;
    imports::check(&test, imports::Etw::StandIn)?;
    // With the program that was built for the tests: it is packed in the same way.
    service_test(ws, &wine, &exe)
}

/// What is delivered, as it is used.
fn service_test(ws: &Workspace, wine: &wine::Wine, exe: &Path) -> Result<()> {
    let (_, zip) = zip::pack(ws, exe, &TARGET.dir(ws).join("dist"))?;
    service::test(wine, &zip::check(&zip)?)
}
