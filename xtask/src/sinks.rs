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

/// The schema of OCSF, and a parser of CEF.
const FORMATS: [&str; 2] = ["ocsf-json-schema==1.2.0", "pycef==1.11"];
/// Writes JSON schemas of the classes in use, with the profiles in use, of the version in use and of
/// the newest.
const OCSF_SCHEMAS: &str = r#"
import json, sys
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
for version in "1.3.0", "1.8.0":
    published = get_ocsf_schema(version=version)
    schema = OcsfJsonSchemaEmbedded(published)
    names = {made["uid"]: name for name, made in published["classes"].items()}
    for uid in 1001, 6002, 201001, 201002:
        for profiles in [[], ["host"], ["host", "container"], ["container"], ["security_control"],
                         ["container", "security_control"]]:
            made = schema.get_class_schema(class_name=names[uid], profiles=profiles)
            path = "-".join([f"{sys.argv[1]}/ocsf", version, str(uid), *profiles]) + ".json"
            with open(path, "w") as out:
                json.dump(made, out)
"#;

/// Brings the receivers, and runs the tests.
pub(crate) fn stage(ws: &Workspace, args: &[String]) -> Result<()> {
    setup::ensure(ws, &[Need::Receivers])?;
    let peers = ws.target.join("peers");
    fs::create_dir_all(&peers).with_context(|| format!("creating {}", peers.display()))?;
    opensearch(ws, &peers).context("getting OpenSearch")?;
    kafka(ws, &peers).context("getting Kafka")?;
    formats(&peers).context("getting what formats are held against")?;
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
    java(ws, peers, "opensearch", &["OpenSearchNode.java"], "OpenSearch, 45 MB")
}

/// Those of Apache Kafka's, with what starts a node, and what reads from it.
fn kafka(ws: &Workspace, peers: &Path) -> Result<()> {
    java(ws, peers, "kafka", &["KafkaNode.java", "KafkaReader.java"], "Apache Kafka, 54 MB")
}

/// What the project `NAME.xml` depends on, and these classes, compiled with it.
fn java(ws: &Workspace, peers: &Path, name: &str, classes: &[&str], what: &str) -> Result<()> {
    let sources = ws.root.join(e2e::PACKAGE).join("tests/e2e/sinks/peers");
    let project = sources.join(format!("{name}.xml"));
    let classes: Vec<PathBuf> = classes.iter().map(|class| sources.join(class)).collect();
    let mut made_of = fs::read_to_string(&project)?;
    for class in &classes {
        made_of += &fs::read_to_string(class)?;
    }
    let directory = peers.join(name);
    fresh(&directory, &made_of, || {
        say(format!("getting {what}, from Maven Central (once)"));
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
            .arg(&directory)
            .args(&classes))
    })
}

/// Schemas of OCSF, written by the package that has them, and a parser of CEF.
fn formats(peers: &Path) -> Result<()> {
    let directory = peers.join("formats");
    fresh(&directory, &(FORMATS.join("\n") + OCSF_SCHEMAS), || {
        say("getting the schema of OCSF and a parser of CEF from PyPI (once; 2.5 MB)");
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--target"])
            .arg(&directory)
            .args(FORMATS))?;
        run(Command::new("python3")
            .args(["-c", OCSF_SCHEMAS])
            .arg(&directory)
            .env("PYTHONPATH", &directory))
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
