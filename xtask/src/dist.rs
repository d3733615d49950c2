//! `cargo xtask dist`: what is delivered: one static program, its manual pages, a Debian package.
//!
//! The program is linked statically against the C library of the machine that builds it. Only the
//! program itself is compiled with that flag (`cargo rustc`): the crates below are those of any other
//! build, as Rust's own library is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf,
    setup::{self, Need},
    workspace::{Workspace, output, run, say},
};

/// Where all of it goes.
pub(crate) fn directory(ws: &Workspace) -> PathBuf {
    ws.target.join("dist")
}

/// Builds the program and the manual pages; gives the program.
pub(crate) fn program(ws: &Workspace, release: bool) -> Result<PathBuf> {
    setup::ensure(ws, &[Need::Build])?;
    let object = ebpf::build_object(ws)?;
    let mut cargo = ws.cargo();
    cargo.args(["rustc", "--package", "fim-linux-agent", "--bin", "fim"]);
    if release {
        cargo.arg("--release");
    }
    cargo
        .args(["--", "-C", "target-feature=+crt-static", "-L"])
        .arg(format!("native={}", archives(ws)?.display()))
        .env("FIM_EBPF_OBJECT", object);
    run(&mut cargo).context("building the static program")?;
    let directory = directory(ws);
    fs::create_dir_all(&directory)?;
    let program = directory.join("fim");
    // What was there may be running.
    let partial = directory.join("fim.partial");
    strip(&ws.fim(release), &partial)?;
    fs::rename(&partial, &program)?;
    is_static(&program)?;
    let man = directory.join("man");
    // Pages of commands that are gone.
    let _ = fs::remove_dir_all(&man);
    run(Command::new(&program).arg("man").arg(&man))?;
    say(format!("static program: {}", program.display()));
    Ok(program)
}

/// A directory with OpenSSL's archives and nothing else. Where the linker looks first it would find
/// the shared libraries beside them, and no static program can have those.
fn archives(ws: &Workspace) -> Result<PathBuf> {
    let directory = directory(ws).join("archives");
    fs::create_dir_all(&directory)?;
    for name in ["libssl.a", "libcrypto.a"] {
        let found = output(Command::new("cc").arg(format!("-print-file-name={name}")))?;
        let (from, to) = (Path::new(found.trim()), directory.join(name));
        if !from.is_absolute() {
            bail!("no {name}: install libssl-dev");
        }
        let _ = fs::remove_file(&to);
        std::os::unix::fs::symlink(from, to).with_context(|| format!("linking to {name}"))?;
    }
    Ok(directory)
}

/// Debug information is nine tenths of the file; a panic still names functions.
fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(from))
}

/// Fails if anything would be loaded beside it.
fn is_static(program: &Path) -> Result<()> {
    let headers = output(Command::new("readelf").args(["-lW"]).arg(program))?;
    if headers.contains("INTERP") {
        bail!("{} asks for a dynamic linker", program.display());
    }
    let needed = output(Command::new("readelf").arg("-dW").arg(program))?;
    if needed.contains("NEEDED") {
        bail!("{} asks for libraries: {needed}", program.display());
    }
    Ok(())
}

/// Packs what [`program`] has built; gives the package. `revision` is Debian's, behind the version.
pub(crate) fn deb(ws: &Workspace, revision: u32) -> Result<PathBuf> {
    setup::ensure(ws, &[Need::Package])?;
    let mut deb = Command::new(ws.tools().join("bin/cargo-deb"));
    deb.current_dir(&ws.root)
        .args(["--package", "fim-linux-agent", "--no-build", "--no-strip", "--quiet"])
        // Those of the machine would be asked for what a static program needs.
        .args(["--deb-revision", &revision.to_string(), "--output"])
        .arg(directory(ws));
    let text = output(&mut deb).context("packing")?;
    let package = text.lines().last().map(PathBuf::from).context("cargo-deb names no package")?;
    say(format!("package: {}", package.display()));
    Ok(package)
}
