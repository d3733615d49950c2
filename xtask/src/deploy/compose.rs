//! `deploy/compose.yaml` as it stands, by Compose on a real engine: the agent and a Prometheus that
//! scrapes it.
//!
//! The engine has a network of its own, so that the ports which the file names are free, and its own
//! `/var/lib/fim`. Prometheus' image is made from the program of this machine: the real one comes from
//! a registry. Of it the file expects that the program is the entry point.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    agent::{CURL, event, journal, wait_for},
    directory,
    engine::{Engine, LIMITS, can_raise_limits},
};
use crate::{
    vm,
    workspace::{Workspace, output, run, which},
};

/// What is watched of the host as delivered, and is the test's own here.
const WATCHED: &str = "/etc/cron.daily";

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let base = directory(ws).join("compose");
    let _ = fs::remove_dir_all(&base);
    let state = base.join("state");
    for directory in [&state, Path::new("/var/lib/fim"), Path::new(WATCHED)] {
        fs::create_dir_all(directory)?;
    }
    let busybox = vm::busybox().context("busybox is missing")?;
    let before = format!(
        "mount --bind '{}' /var/lib/fim\nmount -t tmpfs -o mode=755 test {WATCHED}\n\
         '{}' ip link set lo up",
        state.display(),
        busybox.display()
    );
    let engine = Engine::start(&base, &["--net"], &before)?;
    let prometheus = prometheus()?;
    let files: Vec<(&Path, &str)> =
        prometheus.iter().map(|(from, inside)| (from.as_path(), inside.as_str())).collect();
    engine.import(
        "prom/prometheus",
        &base,
        &files,
        &["ENTRYPOINT [\"/bin/prometheus\"]", "WORKDIR /prometheus"],
    )?;
    let file = file(ws, &base)?;
    let compose = |args: &[&str]| {
        let mut compose = engine.compose();
        compose.arg("--file").arg(&file).arg("--project-directory").arg(ws.root.join("deploy"));
        compose.args(args);
        compose
    };
    let done = started(&engine, &state, &compose);
    if done.is_err() {
        let _ = run(&mut compose(&["logs"]));
    }
    done?;
    // Both end in order when they are asked to.
    run(&mut compose(&["down", "--volumes"]))?;
    let last = journal(&state)?.pop().context("an empty journal")?;
    ensure!(last["event"]["action"] == "agent_stopped", "{last}");
    Ok(())
}

fn started(engine: &Engine, state: &Path, compose: &dyn Fn(&[&str]) -> Command) -> Result<()> {
    run(&mut compose(&["up", "--build", "--detach"]))?;
    let get = |url: &str| {
        let mut curl = engine.inside();
        // Braces are part of a query.
        output(curl.arg("curl").args(CURL).args(["--globoff", url]))
    };
    let ask = |what: &str| -> Result<Value> {
        let answer = get(&format!("http://127.0.0.1:9090/api/v1/{what}"))?;
        Ok(serde_json::from_str::<Value>(&answer)?["data"].take())
    };
    wait_for("the agent", || get("http://127.0.0.1:9977/healthz").map(Some))?;
    wait_for("what Prometheus has of the agent", || {
        let up = ask("query?query=up{job=%22fim%22}")?;
        Ok((up["result"][0]["value"][1] == "1").then_some(()))
    })?;
    let rules = ask("rules")?;
    let groups = rules["groups"].as_array().map_or(0, Vec::len);
    ensure!(groups > 0, "no rules: {rules}");

    // Without a configuration it is the recommended policy.
    let changed = Path::new(WATCHED).join("by-host");
    let mut change = engine.inside();
    run(change.args(["sh", "-c", &format!("echo x > {}", changed.display())]))?;
    let created = event(state, "created", &changed)?;
    ensure!(created["process"]["args"][0] == "sh", "{created}");
    let told =
        output(&mut compose(&["exec", "-T", "fim", "/fim", "events", "--action", "created"]))?;
    ensure!(told.contains("by-host"), "{told}");
    Ok(())
}

/// The file; for a machine that has not all capabilities to give a copy without the one.
fn file(ws: &Workspace, base: &Path) -> Result<PathBuf> {
    let file = ws.root.join("deploy/compose.yaml");
    if can_raise_limits()? {
        return Ok(file);
    }
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(LIMITS), "the file gives no {LIMITS}");
    let copy = base.join("compose.yaml");
    fs::write(&copy, text.replace(&format!(", {LIMITS}"), ""))?;
    Ok(copy)
}

/// The files of an image with Prometheus, and their places in it: with libraries, where it has any.
fn prometheus() -> Result<Vec<(PathBuf, String)>> {
    let program = which("prometheus").context("prometheus is missing")?;
    let mut files = vec![(program.clone(), "bin/prometheus".to_string())];
    // A static program has no libraries, which ldd calls a failure.
    let libraries = Command::new("ldd").arg(&program).stderr(Stdio::null()).output()?;
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        files.push((PathBuf::from(word), word.trim_start_matches('/').to_string()));
    }
    Ok(files)
}
