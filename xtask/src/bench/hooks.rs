//! The kernel's own count of how often each program ran, and for how long.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    bench::results::{Hook, Runs},
    workspace::output,
};

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

/// Counts while each of the workloads runs: `work` gives its number of operations.
pub(crate) fn during(
    fim: &Path,
    pid: u32,
    loads: &[&str],
    mut work: impl FnMut(&str) -> Result<u64>,
) -> Result<Vec<Hook>> {
    let doctor = output(Command::new(fim).args(["doctor", "--json"])).context("fim doctor")?;
    let mut hooks = hooks(&doctor)?;
    fs::write(SWITCH, "1").context("switching the kernel's count on")?;
    let counted = loads.iter().try_for_each(|load| {
        let before = programs(pid)?;
        let operations = work(load)?;
        assign(&mut hooks, load, operations, &before, &programs(pid)?);
        Ok(())
    });
    fs::write(SWITCH, "0").context("switching the kernel's count off")?;
    counted.map(|()| hooks)
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
                loads: Vec::new(),
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
fn assign(hooks: &mut [Hook], load: &str, operations: u64, before: &[Program], after: &[Program]) {
    let mut left = after.to_vec();
    for hook in hooks {
        let Some(at) = left.iter().position(|program| program.verified == hook.verified) else {
            continue;
        };
        let Program { id, runs, nanoseconds, .. } = left.remove(at);
        let start = before.iter().find(|program| program.id == id);
        let (ran, took) = start.map_or((0, 0), |start| (start.runs, start.nanoseconds));
        hook.loads.push(Runs {
            load: load.into(),
            operations,
            runs: runs.saturating_sub(ran),
            nanoseconds: nanoseconds.saturating_sub(took),
        });
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
        let after = parse(text).unwrap();
        let before = Program { runs: 1, nanoseconds: 300, ..after };
        assign(&mut hooks, "stat", 10, &[before], &[after]);
        let expected = Runs { load: "stat".into(), operations: 10, runs: 2, nanoseconds: 600 };
        assert_eq!((hooks.len(), &hooks[0].loads), (1, &vec![expected]));
        assert_eq!(parse("pos:\t0\nprog_id:\t4\n"), None);
    }
}
