//! Whose functions of ETW an executable has: those of Windows, or the tests' stand-in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{output, say};

/// What fim-etw-standin has in it.
const MARK: &str = "fim-etw-standin stands in for ETW";
/// Without these nothing is collected.
const FUNCTIONS: [&str; 6] =
    ["StartTraceW", "EnableTraceEx2", "OpenTraceW", "ProcessTrace", "CloseTrace", "ControlTraceW"];

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Etw {
    Windows,
    StandIn,
}

/// Fails where an executable has others than it should.
pub(super) fn check(exe: &Path, whose: Etw) -> Result<()> {
    let name = exe.display();
    let tables = output(Command::new("x86_64-w64-mingw32-objdump").arg("-p").arg(exe))
        .with_context(|| format!("reading the imports of {name}"))?;
    let bytes = fs::read(exe).with_context(|| format!("reading {name}"))?;
    verdict(&imported(&tables), holds(&bytes, MARK.as_bytes()), whose)
        .with_context(|| format!("{name}"))?;
    say(format!("imports: {name}: ETW's functions are those of {whose:?}"));
    Ok(())
}

fn verdict(imported: &[&str], marked: bool, whose: Etw) -> Result<()> {
    for function in FUNCTIONS {
        let there = imported.contains(&function);
        match whose {
            Etw::Windows => ensure!(there, "does not import {function}"),
            Etw::StandIn => ensure!(!there, "imports {function}: the stand-in is not used"),
        }
    }
    match whose {
        Etw::Windows => ensure!(!marked, "the stand-in for ETW is in it"),
        Etw::StandIn => ensure!(marked, "the stand-in for ETW is not in it"),
    }
    Ok(())
}

/// The names in the import tables that objdump prints: `vma:  Hint/Ord Member-Name Bound-To`, and
/// lines of `address  number  name`.
fn imported(tables: &str) -> Vec<&str> {
    let lines = tables.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (address, ordinal, name) = (words.next()?, words.next()?, words.next()?);
        let hexadecimal = address.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = ordinal.bytes().all(|byte| byte.is_ascii_digit());
        (hexadecimal && number).then_some(name)
    });
    lines.collect()
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The newest executable in a folder whose name begins with `prefix` and has a hash behind it.
pub(super) fn newest(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hash = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".exe"));
        if hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let newest = found.into_iter().max().map(|(_, path)| path);
    newest.with_context(|| format!("no {prefix}*.exe in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "\
The Import Tables (interpreted .idata section contents)
 vma:            Hint    Time      Forward  DLL       First
                 Table   Stamp     Chain    Name      Thunk
 00d2d000\t00d2d258 00000000 00000000 00d31008 00d2db90

\tDLL Name: advapi32.dll
\tvma:  Hint/Ord Member-Name Bound-To
\td2e4c8\t 1113  CloseTrace
\td2e4d6\t    0  ControlTraceW
\td2e4e6\t 1266  EnableTraceEx2
\td2e4f8\t 1590  OpenTraceW
\td2e506\t 1600  ProcessTrace
\td2e516\t 1818  StartTraceW
";

    #[test]
    fn whose_functions_they_are() {
        let all = imported(TABLES);
        assert_eq!(all.len(), 6, "{all:?}");
        assert!(verdict(&all, false, Etw::Windows).is_ok());
        assert!(verdict(&[], true, Etw::StandIn).is_ok());
        // Each of these is a mistake.
        assert!(verdict(&all, true, Etw::Windows).is_err());
        assert!(verdict(&all[1..], false, Etw::Windows).is_err());
        assert!(verdict(&all, true, Etw::StandIn).is_err());
        assert!(verdict(&[], false, Etw::StandIn).is_err());
        assert!(holds(b"a fim-etw-standin stands in for ETW b", MARK.as_bytes()));
        assert!(!holds(b"a fim-etw", MARK.as_bytes()));
    }
}
