//! Wine: what stands in for Windows in the tests.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::limit;
use crate::workspace::{run, say};

const WINE: &str = "/usr/lib/wine/wine64";
const SERVER: &str = "/usr/lib/wine/wineserver";
/// Making a new Windows took 6 s on an idle machine, one that comes up again 2 s.
const BOOT: Duration = Duration::from_secs(180);
/// `wineserver -k` asks for 10 s, and then kills.
const END: Duration = Duration::from_secs(30);
/// For one program of the tests.
const TESTS: Duration = Duration::from_secs(20 * 60);

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
    prefix: PathBuf,
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
        let text = script_text(&prefix, &shim, WINE);
        fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let wine = Self { script, prefix };
        // What an interrupted run has left in it.
        wine.end()?;
        let running = Running(&wine);
        if !wine.prefix.join("system.reg").is_file() {
            wine.done(&["wineboot", "-i"], BOOT)?;
        }
        // Old ones say that they are Windows 7, where a session of the kernel's own events has a
        // name that is given.
        let settings = fs::read_to_string(wine.prefix.join("user.reg")).unwrap_or_default();
        if !settings.contains(r#""Version"="win10""#) {
            let key = r"HKCU\Software\Wine";
            wine.done(&["reg", "add", key, "/v", "Version", "/d", "win10", "/f"], BOOT)?;
        }
        // Services have an environment of their own, without our path.
        let system = wine.prefix.join("drive_c/windows/system32");
        fs::copy(&library, system.join("bcryptprimitives.dll"))
            .context("copying a library into Wine")?;
        drop(running);
        Ok(wine)
    }

    /// Has it up, with its services, until what comes of this is dropped.
    ///
    /// Without that it comes up with the first program that runs in it, whose standard error all
    /// services get: who reads that program's output by a pipe waits for them. And it goes down with
    /// the last one, services and all.
    pub(super) fn up(&self) -> Result<Running<'_>> {
        self.end()?;
        let running = Running(self);
        let mut server = Command::new(SERVER);
        // Until it is ended.
        server.arg("-p").env("WINEPREFIX", &self.prefix);
        let began = limit::output(&mut server, BOOT, &self.folder())?;
        ensure!(began.status.success(), "wineserver -p: {began:?}");
        self.done(&["cmd.exe", "/c", "exit"], BOOT)?;
        Ok(running)
    }

    /// Runs a program in it to its end, which has to come by then.
    pub(super) fn output<I, A>(&self, words: I, limit: Duration) -> Result<Output>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        limit::output(Command::new(&self.script).args(words), limit, &self.folder())
    }

    fn done(&self, words: &[&str], limit: Duration) -> Result<()> {
        say(format!("$ wine {}", words.join(" ")));
        let output = self.output(words, limit)?;
        if !output.status.success() {
            bail!("wine {}: {output:?}", words.join(" "));
        }
        Ok(())
    }

    /// Ends all that runs in it, and nothing else: another Windows has a server of its own.
    pub(super) fn end(&self) -> Result<()> {
        let mut server = Command::new(SERVER);
        server.arg("-k").env("WINEPREFIX", &self.prefix);
        // Whether there was one makes no difference.
        limit::output(&mut server, END, &self.folder()).context("ending Wine")?;
        Ok(())
    }

    /// Where what programs say is kept while they run.
    fn folder(&self) -> PathBuf {
        self.script.with_file_name("")
    }

    /// Has cargo run what it builds for Windows in it, each program for so long at most.
    pub(super) fn runs(&self, cargo: &mut Command) {
        cargo.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", &self.script);
        cargo.env("FIM_WINE_LIMIT", TESTS.as_secs().to_string());
    }
}

/// What runs a program in Wine.
///
/// With a limit of time (as for the tests) a program that fails since Wine could not start another
/// one for it is run once more: its CreateProcess fails with `ERROR_INTERNAL_ERROR` (1359) when the
/// new process ends before it has told wineserver of itself, as one of 10,000 did on a busy machine.
/// Windows does not, and nothing of ours makes that code.
fn script_text(prefix: &Path, shim: &Path, wine: &str) -> String {
    let prefix = prefix.display();
    // Z: is the root directory.
    let shim = shim.display().to_string().replace('/', "\\");
    format!(
        r#"#!/bin/sh
export WINEPREFIX='{prefix}' WINEDEBUG="${{WINEDEBUG:--all}}" WINEPATH='Z:{shim}'
if [ -z "$FIM_WINE_LIMIT" ]; then exec {wine} "$@"; fi
# In a file: who reads a pipe waits for the services that Wine starts too.
said="$WINEPREFIX.said.$$"
trap 'rm -f "$said"' EXIT
limited() {{
    timeout --kill-after=10 "$FIM_WINE_LIMIT" {wine} "$@" > "$said" 2>&1
    code=$?
    cat "$said"
}}
limited "$@"
if [ $code != 0 ] && grep -q -E 'code: 1359,|os error 1359' "$said"; then
    echo 'xtask: Wine could not start a process; once more'
    limited "$@"
fi
exit $code
"#
    )
}

/// A Windows that is up; it goes down with this, whatever runs in it.
pub(super) struct Running<'w>(&'w Wine);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.end() {
            say(format!("wine: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the script of [`script_text`] with a Wine that fails in this way the first time.
    fn runs(fault: &str, limited: bool) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        let (wine, script) = (folder.path().join("wine64"), folder.path().join("wine.sh"));
        let text = format!(
            "if [ -e $WINEPREFIX.ran ]; then echo \"passed $1\"; exit 0; fi\n\
             : > $WINEPREFIX.ran; echo '{fault}' >&2; exit 101\n"
        );
        fs::write(&wine, text).unwrap();
        let command = format!("sh {}", wine.display());
        fs::write(&script, script_text(&folder.path().join("prefix"), folder.path(), &command))
            .unwrap();
        let mut shell = Command::new("sh");
        shell.arg(&script).arg("a word");
        if limited {
            shell.env("FIM_WINE_LIMIT", "60");
        }
        let output = shell.output().unwrap();
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3, "nothing but the two programs and the mark stays");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn what_wine_could_not_start_is_started_once_more() {
        let fault = r#"Os { code: 1359, kind: Uncategorized, message: "Internal error." }"#;
        let (code, said) = runs(fault, true);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("once more") && said.ends_with("passed a word\n"), "{said}");
        let (code, said) = runs("assertion failed", true);
        assert_eq!(code, Some(101), "another fault is one: {said}");
        assert_eq!(runs(fault, false).0, Some(101), "only in tests");
    }
}
