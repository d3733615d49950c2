//! Wine: what stands in for Windows in the tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::workspace::run;

const WINE: &str = "/usr/lib/wine/wine64";

/// Rust's library takes its random numbers from `ProcessPrng`, which Wine has from 10.0 on only.
const SHIM: &str = r"#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) {
    return RtlGenRandom(bytes, (ULONG)count);
}
";

/// Whether it is installed.
pub(crate) fn present() -> bool {
    Path::new(WINE).is_file()
}

/// A Windows of our own, below `target`.
pub(super) struct Wine {
    script: PathBuf,
}

impl Wine {
    /// Makes it, once.
    pub(super) fn prepare(target: &Path) -> Result<Self> {
        let (shim, prefix) = (target.join("shim"), target.join("wine"));
        fs::create_dir_all(&shim).with_context(|| format!("making {}", shim.display()))?;
        let library = shim.join("bcryptprimitives.dll");
        if !library.is_file() {
            let source = shim.join("shim.c");
            fs::write(&source, SHIM)?;
            run(Command::new(super::TARGET.cc)
                .args(["-shared", "-O2", "-o"])
                .args([&library, &source])
                .arg("-ladvapi32"))?;
        }
        let script = target.join("wine.sh");
        // Z: is the root directory.
        let text = format!(
            "#!/bin/sh\nexport WINEPREFIX='{}' WINEDEBUG=\"${{WINEDEBUG:--all}}\" \
             WINEPATH='Z:{}'\nexec {WINE} \"$@\"\n",
            prefix.display(),
            shim.display().to_string().replace('/', "\\"),
        );
        fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        if !prefix.join("system.reg").is_file() {
            run(Command::new(&script).args(["wineboot", "-i"]))?;
        }
        // Old ones say that they are Windows 7, where a session of the kernel's own events has a
        // name that is given.
        let settings = fs::read_to_string(prefix.join("user.reg")).unwrap_or_default();
        if !settings.contains(r#""Version"="win10""#) {
            run(Command::new(&script)
                .args(["reg", "add", r"HKCU\Software\Wine"])
                .args(["/v", "Version", "/d", "win10", "/f"]))?;
        }
        // Services have an environment of their own, without our path.
        let system = prefix.join("drive_c/windows/system32");
        fs::copy(&library, system.join("bcryptprimitives.dll"))
            .context("copying a library into Wine")?;
        Ok(Self { script })
    }

    /// What runs the program that is its first argument.
    pub(super) fn command(&self) -> Command {
        Command::new(&self.script)
    }

    /// Has cargo run what it builds for Windows in it.
    pub(super) fn runs(&self, cargo: &mut Command) {
        cargo.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", &self.script);
    }
}
