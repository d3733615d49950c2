//! The manifests for Kubernetes: valid by its own schemas, and those that the chart makes.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{Workspace, output, run, say};

/// Versions whose schemas the manifests have to fit: the oldest that the chart takes, and a new one.
const VERSIONS: &[&str] = &["1.25", "1.34"];

/// Fails if the manifest was made from another chart.
pub(crate) fn is_current(ws: &Workspace) -> Result<()> {
    let text = fs::read_to_string(ws.root.join("deploy/kubernetes/fim.yaml"))?;
    ensure!(
        text.contains(&chart_hash(ws)?),
        "deploy/kubernetes/fim.yaml is not of this chart: make it anew with `cargo xtask manifests`"
    );
    Ok(())
}

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let manifest = ws.root.join("deploy/kubernetes/fim.yaml");
    let text = fs::read_to_string(&manifest)?;
    for version in VERSIONS {
        let validate = ws.tools().join("python/bin/kubernetes-validate");
        run(Command::new(validate).args(["--strict", "-k", version]).arg(&manifest))?;
    }
    // What the documentation and the engine's test say of the least that it needs.
    let added = format!("add: [{}]", super::container::CAPABILITIES.join(", "));
    ensure!(text.contains(&added), "the container gets others than {added}");
    let compose = fs::read_to_string(ws.root.join("deploy/compose.yaml"))?;
    let added = format!("cap_add: [{}]", super::container::CAPABILITIES.join(", "));
    ensure!(compose.contains(&added), "compose.yaml gives others than {added}");
    Ok(())
}

/// Of everything that the chart consists of.
fn chart_hash(ws: &Workspace) -> Result<String> {
    let chart = ws.root.join("deploy/kubernetes/chart");
    let mut files =
        vec!["../namespace.yaml".to_string(), "Chart.yaml".into(), "values.yaml".into()];
    let mut templates = Vec::new();
    for entry in fs::read_dir(chart.join("templates"))? {
        templates.push(format!("templates/{}", entry?.file_name().to_string_lossy()));
    }
    templates.sort();
    files.extend(templates);
    let sums = output(Command::new("sha256sum").args(&files).current_dir(&chart))?;
    let mut sum = Command::new("sha256sum");
    sum.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = sum.spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no pipe")?, sums.as_bytes())?;
    let out = child.wait_with_output()?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text.split(' ').next().unwrap_or_default().to_string())
}

/// Makes the manifest anew from the chart, with the `helm` that is in PATH.
pub(crate) fn manifests(ws: &Workspace) -> Result<()> {
    let chart = ws.root.join("deploy/kubernetes/chart");
    let helm = |more: &[&str]| {
        let mut helm = Command::new("helm");
        helm.args(["template", "fim", "--kube-version", "1.30.0"])
            .arg(&chart)
            .args(["--namespace", "fim"])
            .args(more);
        output(&mut helm).context(
            "helm is needed (https://helm.sh, or: go install helm.sh/helm/v3/cmd/helm@latest)",
        )
    };
    run(Command::new("helm").args(["lint", "--strict"]).arg(&chart))?;
    // Everything that is off by default has to be valid as well.
    helm(&["--set", "serviceMonitor.enabled=true,openshift=true,metrics.probes=false"])?;
    let namespace = fs::read_to_string(ws.root.join("deploy/kubernetes/namespace.yaml"))?;
    let text = format!(
        "# Made from the chart beside it by `cargo xtask manifests`, {}.\n# kubectl apply -f fim.yaml\n\
         {namespace}{}",
        chart_hash(ws)?,
        helm(&[])?
            .replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl"),
    );
    let file = ws.root.join("deploy/kubernetes/fim.yaml");
    fs::write(&file, text)?;
    say(format!("written: {}", file.display()));
    Ok(())
}
