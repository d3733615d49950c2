//! The sinks against real receivers: see `fim-linux-agent/tests/e2e/sinks`.
//!
//! What is no Debian package comes from Maven Central and PyPI, at one version each, and is kept below
//! `target/peers`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    e2e,
    setup::{self, Need},
    workspace::{Workspace, run, say},
};

/// The tests of this stage. Those of the other stages leave them out, as they lack `FIM_PEERS`.
const FILTER: &str = "sinks::";
/// An OpenTelemetry collector; its wheel has the program in it.
const ROTEL: &str = "rotel==0.0.1a15";

/// Brings the receivers, and runs the tests.
pub(crate) fn stage(ws: &Workspace, args: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Receivers])?;
    let peers = ws.target.join("peers");
    fs::create_dir_all(&peers).with_context(|| format!("creating {}", peers.display()))?;
    opensearch(ws, &peers).context("getting OpenSearch")?;
    rotel(&peers).context("getting rotel")?;
    let program = e2e::build(ws)?;
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

/// The libraries of OpenSearch's distribution, and the class that starts a node of them.
fn opensearch(ws: &Workspace, peers: &Path) -> Result<()> {
    let sources = ws.root.join(e2e::PACKAGE).join("tests/e2e/sinks/peers");
    let (project, class) = (sources.join("opensearch.xml"), sources.join("OpenSearchNode.java"));
    let made_of = fs::read_to_string(&project)? + &fs::read_to_string(&class)?;
    let directory = peers.join("opensearch");
    fresh(&directory, &made_of, || {
        say("getting OpenSearch from Maven Central (once; 45 MB)");
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&project)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", directory.display()))
            .arg("-DincludeScope=runtime"))?;
        run(Command::new("javac")
            .args(["-nowarn", "-cp"])
            .arg(format!("{}/*", directory.display()))
            .arg("-d")
            .args([&directory, &class]))
    })
}

fn rotel(peers: &Path) -> Result<()> {
    let directory = peers.join("rotel.wheel");
    fresh(&directory, ROTEL, || {
        say("getting rotel from PyPI (once; 10 MB)");
        // Whatever Python this machine has: only a file in the wheel is wanted.
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"])
            .args(["--platform", "manylinux_2_34_x86_64", "--dest"])
            .arg(&directory)
            .arg(ROTEL))?;
        let wheel = fs::read_dir(&directory)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .context("pip has brought no wheel")?;
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).args([&wheel, &directory]))?;
        let program: PathBuf = peers.join("rotel");
        fs::copy(directory.join("rotel/rotel-agent"), &program)?;
        run(Command::new("chmod").arg("0755").arg(program))
    })
}

/// Has `make` fill `directory`, unless it was filled from the same before.
fn fresh(directory: &Path, made_of: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = directory.join("made-of");
    if fs::read_to_string(&mark).is_ok_and(|had| had == made_of) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory)?;
    make()?;
    fs::write(mark, made_of).context("leaving a mark")
}
