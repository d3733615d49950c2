//! The image on a real engine: the host and other containers are watched from inside a container.
//!
//! The image is made from the prebuilt program; the stage that builds from source is not run here,
//! as its base comes from a registry.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    agent::{event, get, is_confined, journal, wait_for},
    directory,
    engine::{Engine, LIMITS, can_raise_limits},
    free_port,
};
use crate::{
    vm,
    workspace::{Workspace, output, run},
};

/// What the documentation and the chart give the container.
pub(super) const CAPABILITIES: &[&str] =
    &["SYS_ADMIN", "DAC_READ_SEARCH", "SYS_PTRACE", "SYS_CHROOT", LIMITS];

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let base = directory(ws).join("container");
    let _ = fs::remove_dir_all(&base);
    fs::create_dir_all(&base)?;
    let engine = Engine::start(&base, &[], "")?;
    let done = in_container(ws, &engine, &base);
    if done.is_err() {
        let _ = run(engine.docker().args(["logs", "fim"]));
    }
    done
}

fn in_container(ws: &Workspace, engine: &Engine, base: &Path) -> Result<()> {
    // As its users do it.
    run(engine
        .docker()
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--quiet", "--tag", "fim", "--file", "deploy/Dockerfile"])
        .args(["--target", "prebuilt", "."])
        .current_dir(&ws.root))?;
    let busybox = vm::busybox().context("busybox is missing")?;
    engine.import("busybox", base, &[(&busybox, "bin/busybox")], &[])?;

    let (state, watched) = (base.join("state"), base.join("watched"));
    fs::create_dir_all(state.join("config"))?;
    fs::create_dir(&watched)?;
    let config = state.join("config/fim.toml");
    let rule = format!("[[rule]]\nname = \"watched\"\npaths = [{:?}]\n", watched.display());
    fs::write(&config, &rule)?;

    // In process ids of its own it would name nobody, or somebody else.
    let mut wrong = engine.docker();
    wrong.args(["run", "--rm", "--network=none", "--cap-add=SYS_CHROOT", "-v", "/:/host:ro"]);
    let refused = wrong.arg("fim").stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(64), "{}: {text}", refused.status);
    ensure!(text.contains("--pid=host"), "{text}");

    let port = free_port()?;
    let mut start = engine.docker();
    start.args(["run", "--detach", "--name=fim", "--pid=host", "--network=host", "--read-only"]);
    start.args(["--cap-drop=ALL", "--security-opt=apparmor=unconfined"]);
    let limits = can_raise_limits()?;
    let given = CAPABILITIES.iter().filter(|name| limits || **name != LIMITS);
    start.args(given.map(|name| format!("--cap-add={name}")));
    start.args(["-v", "/:/host:ro,rslave", "-v"]);
    start.arg(format!("{0}:/host{0}", state.display()));
    start.args(["fim", "run", "--output=none"]);
    start.arg(format!("--state-dir={}", state.display()));
    start.arg(format!("--config={}", config.display()));
    start.arg(format!("--metrics=127.0.0.1:{port}"));
    run(&mut start)?;
    let health = format!("http://127.0.0.1:{port}/healthz");
    wait_for("the agent in the container", || {
        let running = engine.inspect("fim", "{{.State.Running}}")?;
        ensure!(running == "true", "it has ended");
        get(&health, &[]).map(Some)
    })?;
    let pid: u32 = engine.inspect("fim", "{{.State.Pid}}")?.parse()?;
    is_confined(pid)?;

    // By the host: names of users are its own, the image has none.
    let by_host = watched.join("by-host");
    let script = format!("echo x > {0}; chown nobody {0}", by_host.display());
    run(Command::new("sh").args(["-c", &script]))?;
    let created = event(&state, "created", &by_host)?;
    ensure!(created["container"].is_null(), "not in a container: {created}");
    ensure!(created["process"]["args"][0] == "sh", "{created}");
    ensure!(created["user"]["name"] == "root", "{created}");
    ensure!(created["file"]["hash"]["sha256"].is_string(), "{created}");
    wait_for("the owner's name", || {
        let events = journal(&state)?;
        Ok(events.into_iter().find(|event| event["file"]["owner"] == "nobody"))
    })?;

    // By another container, which sees the directory elsewhere.
    let mut other = engine.docker();
    other.args(["create", "--network=none", "-v"]).arg(format!("{}:/data", watched.display()));
    other.args(["busybox", "/bin/busybox", "sh", "-c", "echo y > /data/by-container"]);
    let id = output(&mut other)?.trim().to_string();
    run(engine.docker().args(["start", "--attach", &id]))?;
    let created = event(&state, "created", &watched.join("by-container"))?;
    ensure!(created["container"]["id"] == id.as_str(), "its container is {id}: {created}");
    ensure!(created["container"]["runtime"] == "docker", "{created}");
    ensure!(created["process"]["name"] == "busybox", "{created}");

    // Another policy is in force without a restart.
    let partial = state.join("config/new");
    fs::write(&partial, format!("{rule}severity = 80\n"))?;
    fs::rename(&partial, &config)?;
    wait_for("the new policy", || {
        let events = journal(&state)?;
        Ok(events.into_iter().find(|event| event["event"]["action"] == "config_changed"))
    })?;

    let page = fs::read_to_string(ws.root.join("docs/installation.md"))?;
    for name in CAPABILITIES {
        ensure!(page.contains(&format!("--cap-add={name}")), "docs/installation.md lacks {name}");
    }
    let metrics = get(&format!("http://127.0.0.1:{port}/metrics"), &[])?;
    ensure!(metrics.contains("action=\"created\""), "{metrics}");
    // The commands see the host too; and there is nothing else in the image.
    let doctor = output(
        engine
            .docker()
            .args(["exec", "fim", "/fim", "doctor", "--metrics"])
            .arg(format!("127.0.0.1:{port}")),
    )?;
    ensure!(doctor.contains("dpkg"), "the host's packages: {doctor}");
    let events = output(
        engine
            .docker()
            .args(["exec", "fim", "/fim", "events", "--json"])
            .args(["--action", "created", "--state-dir"])
            .arg(&state),
    )?;
    ensure!(events.lines().count() >= 2, "{events}");
    let shell = engine.docker().args(["exec", "fim", "/bin/sh"]).stdin(Stdio::null()).output()?;
    ensure!(!shell.status.success(), "there is a shell");

    run(engine.docker().args(["stop", "--time=30", "fim"]).stdout(Stdio::null()))?;
    let code = engine.inspect("fim", "{{.State.ExitCode}}")?;
    ensure!(code == "0", "it ended with {code}");
    let last = journal(&state)?.pop().context("an empty journal")?;
    ensure!(last["event"]["action"] == "agent_stopped", "{last}");
    ensure!(
        fs::read_dir("/").is_ok_and(|mut all| all.all(|entry| {
            entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with(".fim-"))
        })),
        "something was left on the host"
    );
    Ok(())
}
