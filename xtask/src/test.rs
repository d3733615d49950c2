//! `cargo xtask test`: everything that must hold before a change lands, stage by stage.

use std::time::Instant;

use anyhow::{Result, bail};
use nix::sys::resource::UsageWho;

use crate::{
    ahead::Ahead,
    arm64, conformance, deploy, e2e, ebpf,
    kernels::{self, Kernel},
    lint,
    setup::{self, Need},
    sinks,
    vm::Lsm,
    windows,
    workspace::{Workspace, processor_time, run, say},
};

/// One step, with those that must have passed before it makes sense.
struct Stage {
    name: &'static str,
    about: &'static str,
    needs: &'static [&'static str],
    run: fn(&Workspace, &[String]) -> Result<()>,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "setup",
        about: "what building and testing needs",
        needs: &[],
        run: |ws, _| setup::ensure(ws, &[Need::Build, Need::Lint, Need::Vm, default_kernel()?]),
    },
    Stage {
        name: "lint",
        about: "formatting, clippy, dependencies, tidy",
        needs: &["setup"],
        run: |ws, _| lint::lint(ws, false),
    },
    Stage {
        name: "build",
        about: "the BPF object and the agent",
        needs: &["setup"],
        run: |ws, _| ebpf::build(ws, false).map(drop),
    },
    Stage {
        name: "unit",
        about: "unit and integration tests of the host crates",
        needs: &["build"],
        run: |ws, _| {
            let crates = ["--workspace", "--exclude", "fim-ebpf", "--exclude", "xtask"];
            run(ws.cargo().arg("test").args(crates).env("FIM_EBPF_OBJECT", ws.ebpf_object()))
        },
    },
    Stage {
        name: "xtask",
        about: "unit tests of these tasks",
        needs: &[],
        run: |ws, _| run(ws.cargo().args(["test", "--package", "xtask"])),
    },
    Stage {
        name: "e2e-vm-lsm-bpf",
        about: "end to end on kernel 6.1 with BPF as a security module",
        needs: &["build"],
        run: |ws, args| {
            let name = "e2e-vm-lsm-bpf";
            if !args.is_empty() {
                return e2e::guest(ws, name, Lsm::WithBpf, args);
            }
            let others = ["--skip".to_string(), FLOOD.to_string()];
            e2e::guest(ws, name, Lsm::WithBpf, &others)?;
            // In a machine that nothing else has used: it is overloaded on purpose.
            e2e::guest(ws, name, Lsm::WithBpf, &[FLOOD.to_string()])
        },
    },
    Stage {
        name: "e2e-vm-no-lsm-bpf",
        about: "what is done to files, by whom and where, without it",
        needs: &["build"],
        run: |ws, args| {
            // The list of modules decides which hooks there are, and so what of this is seen; what
            // the agent does with it is the same.
            let seen = ["operations::", "scenarios::", "lifecycle::"].map(ToString::to_string);
            let args = if args.is_empty() { seen.as_slice() } else { args };
            e2e::guest(ws, "e2e-vm-no-lsm-bpf", Lsm::WithoutBpf, args)
        },
    },
    Stage {
        name: "conformance",
        about: "every operation on every file system on kernel 6.1, some on the others",
        needs: &["build"],
        run: |ws, _| conformance::stage(ws),
    },
    Stage {
        name: "e2e-host",
        about: "end to end on this machine, through fanotify",
        needs: &["build"],
        run: |ws, args| e2e::host(ws, args),
    },
    Stage {
        name: "sinks",
        about: "events reach real receivers, which are killed meanwhile",
        needs: &["build"],
        run: |ws, args| sinks::stage(ws, args),
    },
    Stage {
        name: "arm64",
        about: "the agent compiles for arm64",
        needs: &["build"],
        run: |ws, _| {
            setup::ensure(ws, &[Need::Arm64])?;
            arm64::check(ws)
        },
    },
    Stage {
        name: "windows",
        about: "the agent for Windows: its tests under Wine, and clippy",
        needs: &["setup"],
        run: |ws, _| windows::stage(ws),
    },
    Stage {
        name: "deploy",
        about: "what is delivered, installed and run as its users do it",
        needs: &["build"],
        run: |ws, args| deploy::stage(ws, args),
    },
];

/// The stages that are mostly compiling for other machines, and when that may begin: with the first
/// stage that leaves a processor idle and measures no time.
const ELSEWHERE: [&str; 2] = ["arm64", "windows"];
const IDLE_FROM: &str = "conformance";

/// The tests in which the ring overflows.
const FLOOD: &str = "conservation::flood";

fn default_kernel() -> Result<Need> {
    Kernel::named(kernels::DEFAULT).map(Need::Kernel).map_err(anyhow::Error::msg)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// Not run, as something that it needs has failed.
    Blocked,
}

/// Help on the stages.
pub(crate) fn stages_help() -> String {
    let mut text = String::from("Stages, in order:\n");
    for stage in STAGES {
        text.push_str(&format!("  {:18} {}\n", stage.name, stage.about));
    }
    text
}

/// Finds a stage, or all those that begin with this name and a dash (`e2e`, `e2e-vm`).
pub(crate) fn named(name: &str) -> Result<String, String> {
    if STAGES.iter().any(|stage| matches(stage, name)) {
        return Ok(name.to_string());
    }
    let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
    Err(format!("no such stage; known: {}", known.join(", ")))
}

fn matches(stage: &Stage, name: &str) -> bool {
    stage.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Runs the stages (all, or the named ones and what these need), and prints a summary.
pub(crate) fn test(ws: &Workspace, only: &[String], args: &[String]) -> Result<()> {
    let mut results: Vec<(&Stage, Verdict, f64, f64)> = Vec::new();
    let selected = select(only);
    let is_selected = |name: &str| selected.iter().any(|stage| stage.name == name);
    let mut ahead = Ahead::default();
    for stage in &selected {
        let stage = *stage;
        if stage.name == IDLE_FROM && ELSEWHERE.iter().all(|name| is_selected(name)) {
            // What is missing for it, the stages themselves say.
            if let Err(error) = start_ahead(ws, &mut ahead) {
                say(format!("nothing is compiled meanwhile: {error:#}"));
            }
        }
        if ELSEWHERE.contains(&stage.name) {
            ahead.wait();
        }
        let blocked = stage.needs.iter().any(|need| {
            results
                .iter()
                .any(|(done, verdict, ..)| done.name == *need && *verdict != Verdict::Passed)
        });
        if blocked {
            println!("==> {}: not run, since what it needs has failed", stage.name);
            results.push((stage, Verdict::Blocked, 0.0, 0.0));
            continue;
        }
        println!("==> {}: {}", stage.name, stage.about);
        let (started, used) = (Instant::now(), processor_time(UsageWho::RUSAGE_CHILDREN)?);
        let verdict = match (stage.run)(ws, args) {
            Ok(()) => Verdict::Passed,
            Err(error) => {
                say(format!("{}: {error:#}", stage.name));
                Verdict::Failed
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        println!("<== {}: {} in {seconds:.1} s", stage.name, word(verdict));
        let used = processor_time(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(used);
        results.push((stage, verdict, seconds, used.as_secs_f64()));
    }
    println!("\n{:18} {:8} {:>8} {:>10}", "stage", "result", "seconds", "processor");
    for (stage, verdict, seconds, processor) in &results {
        println!("{:18} {:8} {seconds:8.1} {processor:10.1}", stage.name, word(*verdict));
    }
    let passed = results.iter().filter(|(_, verdict, ..)| *verdict == Verdict::Passed).count();
    let failed = results.len() - passed;
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} of {} stages failed", results.len());
    }
    Ok(())
}

fn start_ahead(ws: &Workspace, ahead: &mut Ahead) -> Result<()> {
    setup::ensure(ws, &[Need::Arm64, Need::Windows])?;
    let arm64 = std::iter::once(arm64::command(ws));
    ahead.start(ws, arm64.chain(windows::compile_commands(ws)).collect())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Blocked => "not run",
    }
}

/// The stages to run: with `only`, those and what they need.
fn select(only: &[String]) -> Vec<&'static Stage> {
    let mut wanted: Vec<bool> = STAGES
        .iter()
        .map(|stage| only.is_empty() || only.iter().any(|name| matches(stage, name)))
        .collect();
    // A stage needs earlier ones only, so one pass from the last to the first finds all.
    for index in (0..STAGES.len()).rev() {
        if wanted[index] {
            for (other, stage) in STAGES.iter().enumerate() {
                wanted[other] |= STAGES[index].needs.contains(&stage.name);
            }
        }
    }
    STAGES.iter().zip(wanted).filter_map(|(stage, wanted)| wanted.then_some(stage)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        select(&only).iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn needs_come_earlier_and_exist() {
        for (index, stage) in STAGES.iter().enumerate() {
            for need in stage.needs {
                assert!(STAGES[..index].iter().any(|other| other.name == *need), "{need}");
            }
        }
    }

    #[test]
    fn a_selection_brings_what_it_needs() {
        assert_eq!(selected(&[]).len(), STAGES.len());
        assert_eq!(selected(&["xtask"]), ["xtask"]);
        assert_eq!(selected(&["unit"]), ["setup", "build", "unit"]);
        assert_eq!(
            selected(&["e2e-vm"]),
            ["setup", "build", "e2e-vm-lsm-bpf", "e2e-vm-no-lsm-bpf"]
        );
        assert!(named("e2e").is_ok());
        assert!(named("e2").is_err());
    }
}
