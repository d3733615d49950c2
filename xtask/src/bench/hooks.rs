//! The kernel's own count of how often each program ran, and for how long.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{bench::results::Hook, workspace::output};

/// The switch; counting costs some 30 ns a call, so it is on while it is looked at only.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A program that a process has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    id: u64,
    verified: u64,
    nanoseconds: u64,
    runs: u64,
}

/// Counts while `work` runs.
pub(crate) fn during(fim: &Path, pid: u32, work: impl FnOnce() -> Result<()>) -> Result<Vec<Hook>> {
    let doctor = output(Command::new(fim).args(["doctor", "--json"])).context("fim doctor")?;
    let mut hooks = hooks(&doctor)?;
    fs::write(SWITCH, "1").context("switching the kernel's count on")?;
    let worked = work();
    fs::write(SWITCH, "0").context("switching the kernel's count off")?;
    worked?;
    assign(&mut hooks, &programs(pid)?);
    Ok(hooks)
}

/// The hooks of the bpf backend.
fn hooks(doctor: &str) -> Result<Vec<Hook>> {
    let doctor: Value = serde_json::from_str(doctor).context("what fim doctor says")?;
    let backends = doctor["backends"].as_array().context("fim doctor names no backends")?;
    let bpf = backends.iter().find(|backend| backend["name"] == "bpf");
    let hooks = bpf.and_then(|bpf| bpf["hooks"].as_array()).context("it names no hooks")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    Ok(hooks
        .iter()
        .filter_map(|hook| {
            Some(Hook {
                name: text(&hook["name"]),
                target: text(&hook["target"]),
                verified: hook["verified_instructions"].as_u64()?,
                runs: 0,
                nanoseconds: 0,
            })
        })
        .collect())
}

fn programs(pid: u32) -> Result<Vec<Program>> {
    let mut programs: Vec<Program> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("listing files of fim")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        if let Some(program) = parse(&text)
            && !programs.iter().any(|known| known.id == program.id)
        {
            programs.push(program);
        }
    }
    programs.sort_by_key(|program| program.id);
    Ok(programs)
}

fn parse(text: &str) -> Option<Program> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    Some(Program {
        id: value("prog_id")?,
        verified: value("verified_insns")?,
        nanoseconds: value("run_time_ns")?,
        runs: value("run_cnt")?,
    })
}

/// fdinfo has no names. What the verifier counted tells programs apart, and where two have the same
/// number the order in which they are loaded, which is the doctor's.
fn assign(hooks: &mut [Hook], programs: &[Program]) {
    let mut left = programs.to_vec();
    for hook in hooks {
        if let Some(at) = left.iter().position(|program| program.verified == hook.verified) {
            let program = left.remove(at);
            hook.runs = program.runs;
            hook.nanoseconds = program.nanoseconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_find_their_hooks() {
        let doctor = r#"{"backends": [{"name": "bpf", "hooks": [
            {"name": "a", "target": "entry of x", "usable": true, "verified_instructions": 7},
            {"name": "b", "target": "exit of y", "usable": false}]}]}"#;
        let mut hooks = hooks(doctor).unwrap();
        let text = "pos:\t0\nprog_type:\t26\nprog_id:\t4\nrun_time_ns:\t900\nrun_cnt:\t3\n\
                    recursion_misses:\t0\nverified_insns:\t7\n";
        assign(&mut hooks, &[parse(text).unwrap()]);
        assert_eq!(hooks.len(), 1);
        assert_eq!((hooks[0].runs, hooks[0].nanoseconds), (3, 900));
        assert_eq!(parse("pos:\t0\nprog_id:\t4\n"), None);
    }
}
