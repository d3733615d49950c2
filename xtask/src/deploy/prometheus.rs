//! Metrics as their users have them: scraped by Prometheus through TLS and a password, checked by
//! promtool, alerted on, and shown by the dashboard.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    agent::{Running, get, is_confined, journal, wait_for},
    directory, free_port,
};
use crate::{
    dist,
    workspace::{Workspace, output, run},
};

/// Of these there is nothing to show in a minute in which all is well, or no sink is configured.
const MAY_BE_EMPTY: &[&str] = &["fim_sink_", "outcome=\"failure\"", "fim_hash_seconds_bucket"];

pub(super) fn test(ws: &Workspace) -> Result<()> {
    rules(ws)?;
    let base = directory(ws).join("prometheus");
    let _ = fs::remove_dir_all(&base);
    fs::create_dir_all(base.join("watched"))?;

    // An agent that is guarded.
    let (agent_port, port) = (free_port()?, free_port()?);
    certificate(&base)?;
    fs::write(base.join("password"), "correct horse\n")?;
    let config = base.join("fim.toml");
    write(&config, &agent_config(&base, agent_port))?;
    // Others must not be able to read the password.
    fs::set_permissions(base.join("password"), Permissions::from_mode(0o644))?;
    let mut refused = agent(ws, &base);
    let refused = refused.stderr(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(64) && text.contains("chmod 0600"), "{text}");
    fs::set_permissions(base.join("password"), Permissions::from_mode(0o600))?;
    let mut fim = Running(agent(ws, &base).stderr(Stdio::null()).spawn()?);
    let url = format!("https://localhost:{agent_port}");
    let authority = base.join("cert.pem").display().to_string();
    let login = ["--cacert", &authority, "--user", "prometheus:correct horse"];
    wait_for("the agent", || get(&format!("{url}/healthz"), &login).map(Some))?;
    is_confined(fim.0.id())?;
    for wrong in [
        &["--cacert", &authority][..],
        &["--cacert", &authority, "--user", "prometheus:wrong"],
        &["--user", "prometheus:correct horse"],
    ] {
        ensure!(get(&format!("{url}/metrics"), wrong).is_err(), "served to {wrong:?}");
    }
    let plain = get(&format!("http://localhost:{agent_port}/metrics"), &login[2..]);
    ensure!(plain.is_err(), "served in clear text");
    for number in 0..10 {
        fs::write(base.join(format!("watched/{number}")), "x")?;
    }
    let page = wait_for("events in the metrics", || {
        let page = get(&format!("{url}/metrics"), &login)?;
        Ok(page.contains("action=\"created\"").then_some(page))
    })?;
    promtool_takes(&base, &page)?;

    let scrape = scrape_config(ws, &base, agent_port);
    write(&base.join("prometheus.yml"), &scrape)?;
    let server = format!("http://127.0.0.1:{port}");
    let _prometheus = Running(prometheus(&base, port)?);
    wait_for("a scrape", || {
        let up = query(&server, "up{job=\"fim\"}")?;
        Ok(up.first().is_some_and(|sample| sample["value"][1] == "1").then_some(()))
    })?;
    // A rate wants two.
    wait_for("a second scrape", || {
        let twice = query(&server, "count_over_time(up{job=\"fim\"}[1m]) >= 3")?;
        Ok((!twice.is_empty()).then_some(()))
    })?;
    let rules: Value = serde_json::from_str(&get(&format!("{server}/api/v1/rules"), &[])?)?;
    let all = rules["data"]["groups"][0]["rules"].as_array().context("no rules")?;
    ensure!(!all.is_empty(), "no rules");
    wait_for("the alerts", || {
        let rules: Value = serde_json::from_str(&get(&format!("{server}/api/v1/rules"), &[])?)?;
        let all = rules["data"]["groups"][0]["rules"].as_array().context("no rules")?.clone();
        for rule in &all {
            ensure!(rule["health"] != "err", "{rule}");
            ensure!(rule["state"] != "firing", "an alert although all is well: {rule}");
        }
        Ok(all.iter().all(|rule| rule["health"] == "ok").then_some(()))
    })?;
    let queries = dashboard(ws)?;
    ensure!(queries.len() > 20, "{} queries only", queries.len());
    for (panel, expression) in &queries {
        let result = query(&server, expression).with_context(|| format!("panel {panel}"))?;
        let may_be_empty = MAY_BE_EMPTY.iter().any(|part| expression.contains(part));
        ensure!(may_be_empty || !result.is_empty(), "panel {panel} shows nothing: {expression}");
    }
    // One that is gone is noticed, and after a kill the next one says so.
    fim.stop()?;
    wait_for("that the agent is gone", || {
        let up = query(&server, "up{job=\"fim\"}")?;
        Ok(up.first().is_some_and(|sample| sample["value"][1] == "0").then_some(()))
    })?;
    let state = base.join("state");
    let healthy = || get(&format!("{url}/healthz"), &login).map(Some);
    let killed = || -> Result<usize> {
        let events = journal(&state)?;
        Ok(events.iter().filter(|event| event["event"]["action"] == "agent_killed").count())
    };
    let mut fim = Running(agent(ws, &base).stderr(Stdio::null()).spawn()?);
    wait_for("the next agent", healthy)?;
    ensure!(killed()? == 0, "the last one ended in order");
    fim.0.kill()?;
    fim.0.wait()?;
    let _fim = Running(agent(ws, &base).stderr(Stdio::null()).spawn()?);
    wait_for("the agent after that", healthy)?;
    wait_for("that it tells of the kill", || Ok((killed()? == 1).then_some(())))
}

/// The alerts fire when they should; each of them is tried, and asks for metrics that there are.
fn rules(ws: &Workspace) -> Result<()> {
    let directory = ws.root.join("deploy/prometheus");
    let promtool = |args: &[&str]| run(Command::new("promtool").args(args).current_dir(&directory));
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["test", "rules", "rules_test.yml"])?;
    let rules = fs::read_to_string(directory.join("rules.yml"))?;
    let tests = fs::read_to_string(directory.join("rules_test.yml"))?;
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        ensure!(tests.contains(&format!("alertname: {name}\n")), "{name} is not tested");
        let operations = fs::read_to_string(ws.root.join("docs/operations.md"))?;
        ensure!(operations.contains(name), "docs/operations.md does not say what to do on {name}");
    }
    let known = fs::read_to_string(ws.root.join("docs/metrics.md"))?;
    let board = fs::read_to_string(ws.root.join("deploy/grafana/fim.json"))?;
    for text in [&rules, &board] {
        for name in names(text) {
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = known.contains(&format!("`{}`", family.unwrap_or(name)));
            ensure!(known, "there is no metric {name}");
        }
    }
    Ok(())
}

/// Names of metrics of ours in a text.
fn names(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("fim_")).collect()
}

/// `promtool check metrics` has nothing to say.
fn promtool_takes(base: &Path, page: &str) -> Result<()> {
    let file = base.join("metrics");
    fs::write(&file, page)?;
    let out = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(file)?)
        .output()?;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(out.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn certificate(base: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args(["-days", "1", "-subj", "/CN=localhost", "-addext"]);
    openssl.args(["subjectAltName=DNS:localhost", "-keyout"]).arg(base.join("key.pem"));
    output(openssl.arg("-out").arg(base.join("cert.pem")))?;
    fs::set_permissions(base.join("key.pem"), Permissions::from_mode(0o600))?;
    Ok(())
}

fn agent_config(base: &Path, port: u16) -> String {
    let path = |name: &str| format!("{:?}", base.join(name));
    format!(
        "[metrics]\nlisten = \"127.0.0.1:{port}\"\ntls_cert = {}\ntls_key = {}\n\
         username = \"prometheus\"\npassword_file = {}\n[canary]\ninterval = 1\n\
         [[rule]]\nname = \"watched\"\npaths = [{}]\n",
        path("cert.pem"),
        path("key.pem"),
        path("password"),
        path("watched"),
    )
}

fn agent(ws: &Workspace, base: &Path) -> Command {
    let mut fim = Command::new(dist::directory(ws).join("fim"));
    fim.args(["run", "--output", "none", "--config"]).arg(base.join("fim.toml"));
    fim.arg("--state-dir").arg(base.join("state")).stdin(Stdio::null());
    fim
}

fn scrape_config(ws: &Workspace, base: &Path, port: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{rules:?}]\n\
         scrape_configs:\n  \
         - job_name: fim\n    scheme: https\n    tls_config: {{ca_file: {ca:?}}}\n    \
         basic_auth: {{username: prometheus, password: correct horse}}\n    \
         static_configs: [{{targets: [\"localhost:{port}\"]}}]\n",
        rules = ws.root.join("deploy/prometheus/rules.yml"),
        ca = base.join("cert.pem"),
    )
}

fn prometheus(base: &Path, port: u16) -> Result<std::process::Child> {
    let log = fs::File::create(base.join("log"))?;
    let mut prometheus = Command::new("prometheus");
    prometheus.arg("--config.file").arg(base.join("prometheus.yml"));
    prometheus.arg("--storage.tsdb.path").arg(base.join("data"));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    prometheus.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    prometheus.spawn().context("starting prometheus")
}

/// The samples that a query gives now.
fn query(server: &str, expression: &str) -> Result<Vec<Value>> {
    let expression = format!("query={expression}");
    let text = get(&format!("{server}/api/v1/query"), &["--get", "--data-urlencode", &expression])?;
    let answer: Value = serde_json::from_str(&text)?;
    ensure!(answer["status"] == "success", "{expression}: {answer}");
    answer["data"]["result"].as_array().cloned().context("no result")
}

/// Each query of the dashboard with the title of its panel, as Grafana sends it for all hosts.
fn dashboard(ws: &Workspace) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(ws.root.join("deploy/grafana/fim.json"))?;
    let board: Value = serde_json::from_str(&text)?;
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("a target without a query")?;
            let expression =
                expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
            ensure!(!expression.contains('$'), "an unknown variable in {expression}");
            queries.push((panel["title"].as_str().unwrap_or_default().to_string(), expression));
        }
    }
    Ok(queries)
}
