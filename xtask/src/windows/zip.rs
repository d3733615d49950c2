//! `cargo xtask windows zip`: what is delivered for Windows, as a zip that is the same for the same
//! sources.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::workspace::{Workspace, output, run, say};

pub(super) const PROGRAM: &str = "fim-windows-etw.exe";
const SUMS: &str = "SHA256SUMS";

/// What goes along, by its place in the repository. Each is a text.
const TEXTS: [(&str, &str); 7] = [
    ("fim.toml", "deploy/windows/fim.toml"),
    ("install.ps1", "deploy/windows/install.ps1"),
    ("uninstall.ps1", "deploy/windows/uninstall.ps1"),
    ("README.txt", "deploy/windows/README.txt"),
    ("windows.md", "docs/windows.md"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
];

/// Packs `program`; gives the directory with the files, and the zip.
pub(super) fn pack(ws: &Workspace, program: &Path, to: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = format!("fim-{}-windows-x86_64", env!("CARGO_PKG_VERSION"));
    let directory = to.join(&name);
    // What an earlier version had.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    run(Command::new("x86_64-w64-mingw32-strip")
        .arg("-o")
        .args([&directory.join(PROGRAM), program]))?;
    for (name, source) in TEXTS {
        let text = fs::read_to_string(ws.root.join(source)).with_context(|| source.to_owned())?;
        // As the editors of older versions of Windows want it.
        fs::write(directory.join(name), text.replace("\r\n", "\n").replace('\n', "\r\n"))?;
    }
    let names: Vec<&str> = std::iter::once(PROGRAM).chain(TEXTS.map(|(name, _)| name)).collect();
    let sums = output(Command::new("sha256sum").args(&names).current_dir(&directory))?;
    fs::write(directory.join(SUMS), sums)?;

    let path = to.join(format!("{name}.zip"));
    let mut zip = ZipWriter::new(File::create(&path)?);
    for file in names.into_iter().chain([SUMS]) {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        zip.start_file(format!("{name}/{file}"), options)?;
        zip.write_all(&fs::read(directory.join(file))?)?;
    }
    zip.finish()?.sync_all()?;
    say(format!("zip: {}", path.display()));
    Ok((directory, path))
}

/// Whether the zip has what it says, and nothing else; gives the directory where it was unpacked.
pub(super) fn check(zip: &Path) -> Result<PathBuf> {
    let to = zip.with_extension("unpacked");
    let _ = fs::remove_dir_all(&to);
    let mut archive = ZipArchive::new(File::open(zip)?)?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let name = file.name()?.into_owned();
        let (_, below) = name.split_once('/').context("a file is in no directory")?;
        names.push(below.to_owned());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        fs::create_dir_all(&to)?;
        fs::write(to.join(below), bytes)?;
    }
    names.sort_unstable();
    let mut wanted: Vec<&str> =
        [PROGRAM, SUMS].into_iter().chain(TEXTS.map(|(name, _)| name)).collect();
    wanted.sort_unstable();
    if names != wanted {
        bail!("the zip has {names:?} in place of {wanted:?}");
    }
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", SUMS]).current_dir(&to))?;
    let sums = fs::read_to_string(to.join(SUMS))?;
    if sums.lines().count() != wanted.len() - 1 {
        bail!("{SUMS} does not name each file: {sums}");
    }
    // What install.ps1 copies, and compares with the sums, is there.
    let script = fs::read_to_string(to.join("install.ps1"))?;
    let listed = script.lines().find_map(|line| line.trim().strip_prefix("$files = @($program, "));
    let listed = listed.context("install.ps1 lists no $files")?.trim_end_matches(')');
    for file in listed.split(", ").map(|file| file.trim_matches('\'')) {
        if !wanted.contains(&file) {
            bail!("install.ps1 wants {file}, which is not in the zip");
        }
    }
    let headers =
        output(Command::new("x86_64-w64-mingw32-objdump").arg("-h").arg(to.join(PROGRAM)))?;
    if headers.contains(".debug_info") {
        bail!("the program is not stripped");
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use tree_sitter::{Node, Parser};

    use super::*;

    fn errors(node: Node<'_>, found: &mut Vec<String>) {
        if node.is_error() || node.is_missing() {
            found.push(format!("line {}: {}", node.start_position().row + 1, node.kind()));
        }
        for index in 0..node.child_count() {
            if let Some(child) = node.child(index.try_into().unwrap()) {
                errors(child, found);
            }
        }
    }

    fn wrong(text: &str) -> Vec<String> {
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
        let mut found = Vec::new();
        errors(parser.parse(text, None).unwrap().root_node(), &mut found);
        found
    }

    #[test]
    fn the_scripts_are_powershell() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/windows");
        for name in ["install.ps1", "uninstall.ps1"] {
            let text = fs::read_to_string(deploy.join(name)).unwrap();
            assert_eq!(wrong(&text), Vec::<String>::new(), "{name}");
            // A bracket less is noticed.
            let at = text.rfind('}').unwrap();
            assert!(!wrong(&format!("{}{}", &text[..at], &text[at + 1..])).is_empty(), "{name}");
        }
    }
}
