//! Rules of this repository that no other linter knows.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, output};

/// Where blocks and functions that the compiler does not check may be; each states why it is
/// sound (clippy's `undocumented_unsafe_blocks`).
const UNSAFE_ALLOWED: &[&str] = &[
    "fim-ebpf/",
    "fim-linux-agent/src/bpf/",
    "fim-linux-agent/src/fanotify/",
    "fim-linux-agent/src/memory.rs",
    "fim-win32/",
    // Functions of ETW for tests, as the system has them.
    "fim-etw-standin/src/",
    // The system calls that the operations under test are made of.
    "fim-linux-agent/tests/e2e/operator/sys.rs",
];

/// The keyword, put together so that this file does not contain it.
const UNSAFE: &str = concat!("un", "safe");

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/.cargo"), concat!("/ro", "ot/.rustup")];

/// Endings of what people write by hand; recorded test data may end as it likes.
const SOURCES: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "service"];

/// Checks all files that are in the repository or about to be.
pub(crate) fn check(ws: &Workspace) -> Result<()> {
    let files = output(Command::new("git").current_dir(&ws.root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("listing the repository's files (git is needed)")?;
    let mut problems = Vec::new();
    let mut count = 0;
    for name in files.split('\0').filter(|name| !name.is_empty()) {
        // Deleted files are still listed until that is committed.
        let Ok(bytes) = fs::read(ws.root.join(name)) else { continue };
        count += 1;
        // Anything else is data.
        if let Ok(text) = String::from_utf8(bytes) {
            let root = format!("{}/", ws.root.display());
            problems.extend(check_file(name, &text, &root));
        }
    }
    if !problems.is_empty() {
        bail!("{} problems:\n  {}", problems.len(), problems.join("\n  "));
    }
    crate::workspace::say(format!("tidy: {count} files are in order"));
    Ok(())
}

fn check_file(name: &str, text: &str, root: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if SOURCES.contains(&extension) && !text.is_empty() && !text.ends_with('\n') {
        problems.push(format!("{name}: does not end with a newline"));
    }
    let unsafe_allowed = UNSAFE_ALLOWED.iter().any(|prefix| name.starts_with(prefix));
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        // The root may be short (`/src/`), and then means something else elsewhere.
        let paths = MACHINE_PATHS.iter().copied().chain((root.len() > 8).then_some(root));
        for path in paths.filter(|path| has_path(line, path)) {
            problems.push(format!("{place}: `{path}` exists on one machine only"));
        }
        if extension == "rs" && !unsafe_allowed && has_unsafe(code(line)) {
            problems.push(format!("{place}: `{UNSAFE}` belongs into {UNSAFE_ALLOWED:?} only"));
        }
    }
    problems
}

/// Whether `path` begins a path in this line, rather than being in the middle of one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}~*".contains(c)))
}

/// Whether the keyword stands here as one, rather than in a longer name or as a word in a text.
fn has_unsafe(line: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(UNSAFE).any(|(at, _)| {
        let rest = &line[at + UNSAFE.len()..];
        let next = rest.trim_start();
        !line[..at].ends_with(part)
            && (next.is_empty()
                || next.starts_with(['{', '('])
                || ["fn ", "impl", "trait ", "extern "]
                    .iter()
                    .any(|word| rest != next && next.starts_with(word)))
    })
}

/// The line less a comment that fills it or ends it.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, text: &str) -> usize {
        check_file(name, text, "/home/someone/fim/").len()
    }

    #[test]
    fn machine_paths_are_found() {
        let path = MACHINE_PATHS[0];
        assert_eq!(problems("a.md", &format!("see {path}x\n")), 1);
        assert_eq!(problems("a.md", &format!("see /home{path}x\n")), 0);
        assert_eq!(problems("a.md", "in /home/someone/fim/docs\n"), 1);
        assert_eq!(problems("a.md", "watch /root/.ssh\n"), 0);
    }

    #[test]
    fn the_keyword_is_confined() {
        let code = format!("{UNSAFE} {{ f() }}\n");
        assert_eq!(problems("fim-common/src/lib.rs", &code), 1);
        assert_eq!(problems("fim-ebpf/src/main.rs", &code), 0);
        assert_eq!(problems("x/a.rs", &format!("#![forbid({UNSAFE}_code)] // {UNSAFE}\n")), 0);
        assert_eq!(problems("x/a.rs", &format!("pub {UNSAFE} fn f() {{\n")), 1);
        assert_eq!(problems("x/a.rs", &format!("#[{UNSAFE}(no_mangle)]\n")), 1);
        assert_eq!(problems("x/a.rs", &format!("\"cache={UNSAFE}\"\n")), 0);
        assert_eq!(problems("README.md", &code), 0);
    }

    #[test]
    fn sources_end_with_a_newline() {
        assert_eq!(problems("a.rs", "fn f() {}"), 1);
        assert_eq!(problems("a.rs", ""), 0);
        assert_eq!(problems("golden.json", "{}"), 0);
    }
}
