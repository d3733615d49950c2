//! `fim doctor`: each backend and hook, usable or not, why, and what to do about it.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Result;
use fim_common::hash;
use fim_common::packages::Databases;
use serde::Serialize;

use super::agent_status::AgentStatus;
use super::exit;
use crate::bpf::loader::{LoadError, Programs, Selection};
use crate::{fanotify, host};

/// The ring of a trial load: one page is enough.
const TRIAL_RING: u32 = 4096;

#[derive(Serialize)]
struct Report {
    kernel: Option<String>,
    privileged: bool,
    sha256_hardware: bool,
    backends: Vec<Backend>,
    packages: Vec<PackageDatabase>,
    agent: AgentStatus,
}

/// What verdicts are made of.
#[derive(Serialize)]
struct PackageDatabase {
    manager: &'static str,
    path: String,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Backend {
    name: &'static str,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    hooks: Vec<Hook>,
}

#[derive(Serialize)]
struct Hook {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<String>,
    /// Instructions that the kernel's verifier looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_instructions: Option<u32>,
}

/// Tries everything and says what came of it, and what the agent at `agent` says of itself.
///
/// # Errors
/// When `out` cannot be written.
pub fn doctor(out: &mut dyn Write, json: bool, agent: SocketAddr, is_guarded: bool) -> Result<u8> {
    let report = Report {
        kernel: host::host().os.kernel,
        privileged: host::is_privileged(),
        sha256_hardware: hash::hardware(),
        backends: vec![
            bpf("bpf", Selection::All),
            bpf("bpf process tracepoints", Selection::Processes),
            fanotify(),
        ],
        packages: package_databases(),
        agent: AgentStatus::ask(agent, is_guarded),
    };
    let works = report
        .backends
        .iter()
        .any(|backend| backend.usable && matches!(backend.name, "bpf" | "fanotify"));
    let written = if json {
        serde_json::to_writer_pretty(&mut *out, &report)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        text(out, &report)
    };
    super::quiet_on_closed_pipe(written)?;
    Ok(if works { exit::OK } else { exit::UNAVAILABLE })
}

fn text(out: &mut dyn Write, report: &Report) -> std::io::Result<()> {
    writeln!(out, "kernel       {}", report.kernel.as_deref().unwrap_or("unknown"))?;
    let yes = |yes: bool, no: &'static str| if yes { "yes" } else { no };
    writeln!(out, "privileged   {}", yes(report.privileged, "no: run as root"))?;
    writeln!(
        out,
        "sha-256      {}",
        if report.sha256_hardware { "by the CPU's instructions" } else { "in software" }
    )?;
    for backend in &report.backends {
        writeln!(out)?;
        let state = if backend.usable { "usable" } else { "NOT usable" };
        writeln!(out, "{}: {state}", backend.name)?;
        if let Some(reason) = &backend.reason {
            writeln!(out, "  why      {reason}")?;
        }
        if let Some(advice) = &backend.advice {
            writeln!(out, "  to do    {advice}")?;
        }
        for hook in &backend.hooks {
            let mark = if hook.usable { "ok " } else { "NO " };
            let target = hook.target.as_deref().unwrap_or_default();
            writeln!(out, "  {mark} {:<16} {target}", hook.name)?;
            if let Some(reason) = &hook.reason {
                writeln!(out, "      why      {reason}")?;
            }
            if let Some(without) = &hook.without {
                writeln!(out, "      without  {without}")?;
            }
        }
    }
    writeln!(out)?;
    if report.packages.is_empty() {
        writeln!(out, "packages: no database of dpkg, rpm or apk: changes have no verdict")?;
    }
    for database in &report.packages {
        let state = match (&database.packages, &database.reason) {
            (Some(count), _) => format!("{count} packages"),
            (None, reason) => format!("NOT usable: {}", reason.as_deref().unwrap_or("unknown")),
        };
        writeln!(out, "packages of {}: {state} ({})", database.manager, database.path)?;
    }
    report.agent.write(out)
}

fn package_databases() -> Vec<PackageDatabase> {
    let status = Databases::new("/").status().into_iter();
    status
        .map(|status| PackageDatabase {
            manager: status.manager.as_str(),
            path: status.path.display().to_string(),
            usable: status.packages.is_ok(),
            packages: status.packages.as_ref().ok().copied(),
            reason: status.packages.err().map(|error| error.to_string()),
        })
        .collect()
}

fn bpf(name: &'static str, selection: Selection) -> Backend {
    let programs = match Programs::load(selection, TRIAL_RING) {
        Ok((programs, _ring)) => programs,
        Err(error) => {
            let advice = match &error {
                LoadError::NoBtf(_) => "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
                LoadError::NotPermitted(_) => "run as root, or give CAP_BPF and CAP_PERFMON",
                LoadError::BadBtf(_) | LoadError::Layout(_) | LoadError::Object(_) => {
                    "report this kernel's version to the project; fanotify is used meanwhile"
                }
            };
            return Backend {
                name,
                usable: false,
                reason: Some(error.to_string()),
                advice: Some(advice.to_owned()),
                hooks: Vec::new(),
            };
        }
    };
    let hooks: Vec<Hook> = programs
        .status()
        .iter()
        .map(|status| Hook {
            name: status.hook.name().to_owned(),
            target: Some(format!("{:?} of {}", status.attach, status.target).to_lowercase()),
            usable: status.failure.is_none(),
            reason: status.failure.clone(),
            without: status.failure.as_ref().map(|_| status.loss.to_owned()),
            verified_instructions: status.verified,
        })
        .collect();
    let refused = hooks.iter().filter(|hook| !hook.usable).count();
    let usable = match selection {
        Selection::All => crate::bpf::collector::missing_essential(programs.status()).is_none(),
        Selection::Processes => refused == 0,
    };
    let missing = programs.missing_fields();
    let reason = if refused > 0 {
        Some(format!("{refused} of {} programs are refused", hooks.len()))
    } else if missing.is_empty() {
        None
    } else {
        Some(format!("this kernel lacks {}, which events then lack too", missing.join(", ")))
    };
    let advice = (!usable).then(|| {
        "the kernel must allow tracing programs (fentry, fexit): CONFIG_FUNCTION_TRACER with \
         direct calls, and no lockdown that forbids them; fanotify is used meanwhile"
            .to_owned()
    });
    Backend { name, usable, reason, advice, hooks }
}

fn fanotify() -> Backend {
    let hooks: Vec<Hook> = fanotify::probe()
        .into_iter()
        .map(|(name, result)| Hook {
            name: name.to_string(),
            target: None,
            usable: result.is_ok(),
            reason: result.err().map(|reason| reason.to_string()),
            without: None,
            verified_instructions: None,
        })
        .collect();
    let usable = hooks.first().is_some_and(|hook| hook.usable);
    Backend {
        name: "fanotify",
        usable,
        reason: (!usable).then(|| hooks.first().and_then(|hook| hook.reason.clone())).flatten(),
        advice: (!usable)
            .then(|| "run as root on Linux 5.9 or newer with CONFIG_FANOTIFY=y".to_owned()),
        hooks,
    }
}
