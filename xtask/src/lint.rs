//! All static checks: formatting, clippy for the host and for BPF, dependencies, [`tidy`], and that
//! what was made from something is still of it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{
    deploy, e2e, ebpf,
    setup::{self, Need},
    tidy,
    toolchain::BpfToolchain,
    workspace::{Workspace, run, say},
};

/// Runs every check, so that one run shows everything there is to mend.
pub(crate) fn lint(ws: &Workspace, advisories: bool) -> Result<()> {
    setup::ensure(ws, &[Need::Build, Need::Lint])?;
    let checks: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("formatting", &|| run(ws.cargo().args(["fmt", "--all", "--check"]))),
        ("clippy", &|| clippy(ws)),
        ("clippy for BPF", &|| clippy_ebpf(ws)),
        ("dependencies", &|| dependencies(ws, advisories)),
        ("tidy", &|| tidy::check(ws)),
        ("manifests", &|| deploy::is_current(ws)),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            say(format!("lint: {name}: {error:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: {} failed", failed.join(", "));
    }
    say("lint: all checks passed");
    Ok(())
}

fn clippy(ws: &Workspace) -> Result<()> {
    // The agent's build script wants the object that it embeds.
    let object = ebpf::build_object(ws)?;
    let clippy = |args: &[&str]| {
        let mut cargo = ws.cargo();
        cargo.arg("clippy").args(args).args(["--", "-D", "warnings"]);
        run(cargo.env("FIM_EBPF_OBJECT", &object))
    };
    clippy(&["--workspace", "--exclude", "fim-ebpf", "--all-targets"])?;
    // `--all-targets` leaves out test targets that do not run by default.
    if e2e::exists(ws) {
        clippy(&["--package", e2e::PACKAGE, "--test", e2e::TARGET])?;
    }
    Ok(())
}

fn clippy_ebpf(ws: &Workspace) -> Result<()> {
    let toolchain = BpfToolchain::find().context("no BPF toolchain")?;
    run(toolchain.cargo(ws, "clippy")?.args(["--bin", "fim-ebpf", "--", "-D", "warnings"]))
}

fn dependencies(ws: &Workspace, advisories: bool) -> Result<()> {
    let mut deny = Command::new(ws.tools().join("bin/cargo-deny"));
    deny.current_dir(&ws.root).args(["--workspace", "--all-features"]);
    deny.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    if advisories {
        deny.arg("advisories");
    } else {
        say("lint: advisories are left out, since their database is fetched from GitHub, which \
             not every machine reaches: `cargo xtask lint --advisories` includes them");
    }
    run(&mut deny)
}
