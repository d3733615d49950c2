//! `fim policy recommended|check|show`.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fim_common::config::{self, Config};
use fim_common::policy::{self, Pattern, RECOMMENDED_RULES, Watch};
use serde::Serialize;

/// Exit code for a configuration that is wrong (`EX_USAGE`).
const WRONG: u8 = 64;

/// `fim policy recommended`: each recommended item, and what of it exists here.
///
/// # Errors
/// When `out` cannot be written to; a closed pipe is not an error.
pub fn recommended(out: &mut dyn Write, json: bool) -> Result<u8> {
    quietly(write_recommended(out, json))
}

/// `fim policy check`: says what is wrong with the configuration, if anything is.
///
/// # Errors
/// When `out` cannot be written to; a closed pipe is not an error.
pub fn check(out: &mut dyn Write, config: Option<&Path>) -> Result<u8> {
    quietly(write_check(out, config))
}

/// `fim policy show`: the configuration in force as TOML, with comments on the paths.
///
/// # Errors
/// When the configuration is wrong ([`config::Error`], exit code 64) or `out` cannot be written
/// to; a closed pipe is not an error.
pub fn show(out: &mut dyn Write, config: Option<&Path>) -> Result<u8> {
    quietly(write_show(out, config))
}

/// One recommended path.
#[derive(Debug, Serialize)]
struct Item {
    path: &'static str,
    exists: bool,
    /// What it is here, for people.
    here: String,
    /// What it means here, where a symbolic link leads elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved: Option<PathBuf>,
    rule: &'static str,
    category: &'static str,
    severity: u8,
    standards: &'static [&'static str],
    techniques: &'static [&'static str],
}

fn write_recommended(out: &mut dyn Write, json: bool) -> Result<u8> {
    let mut all = Vec::new();
    for rule in RECOMMENDED_RULES {
        let items = rule.paths.iter().filter_map(|&path| {
            let pattern = Pattern::parse(path).ok()?.into_iter().next()?;
            let resolved = policy::canonical(pattern.base());
            let (exists, here) = whats_here(&pattern, &resolved);
            Some(Item {
                path,
                exists,
                here,
                resolved: (resolved != pattern.base()).then_some(resolved),
                rule: rule.name,
                category: rule.category,
                severity: rule.severity,
                standards: rule.standards(),
                techniques: rule.techniques,
            })
        });
        let items: Vec<Item> = items.collect();
        if !json {
            let techniques = rule.techniques.join(" ");
            writeln!(out, "{}  severity {}  {techniques}", rule.name, rule.severity)?;
            writeln!(out, "  {}", rule.why)?;
            for item in &items {
                writeln!(out, "    {:<18} {}", item.path, item.here)?;
            }
            writeln!(out)?;
        }
        all.extend(items);
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)?;
    } else {
        let here = all.iter().filter(|item| item.exists).count();
        let mut standards: Vec<&str> =
            RECOMMENDED_RULES.iter().flat_map(|rule| rule.standards()).copied().collect();
        standards.sort_unstable();
        standards.dedup();
        writeln!(
            out,
            "{here} of {} items exist here. What is missing is watched from the",
            all.len()
        )?;
        writeln!(out, "moment it appears. Standards: {}", standards.join(" "))?;
    }
    out.flush()?;
    Ok(0)
}

/// Whether something of `pattern`, whose base is `resolved`, exists, and what it is.
fn whats_here(pattern: &Pattern, resolved: &Path) -> (bool, String) {
    let missing = || (false, "not here".to_owned());
    if !pattern.is_tree() {
        let count = children(pattern, resolved).count();
        return if count == 0 { missing() } else { (true, format!("{count} here")) };
    }
    let Ok(metadata) = std::fs::metadata(resolved) else { return missing() };
    let kind = if metadata.is_dir() { "directory" } else { "file" };
    if resolved == pattern.base() {
        return (true, kind.to_owned());
    }
    (true, format!("{kind} -> {}", clean(resolved)))
}

/// The objects directly in `resolved`, the base of `pattern`, that match it.
fn children(pattern: &Pattern, resolved: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(resolved).into_iter().flatten().flatten();
    // The pattern has the base as it was written.
    entries
        .filter(|entry| pattern.matches(&pattern.base().join(entry.file_name())))
        .map(|entry| entry.path())
}

fn write_check(out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let config = match Config::load(named) {
        Ok(config) => config,
        Err(error) => {
            writeln!(out, "{error}")?;
            out.flush()?;
            return Ok(WRONG);
        }
    };
    for warning in warnings(&config) {
        writeln!(out, "warning: {warning}")?;
    }
    let count = config.rules.len();
    let rules = if count == 1 { "rule" } else { "rules" };
    match &config.file {
        Some(file) => writeln!(out, "ok: {count} {rules} ({})", clean(file))?,
        None => writeln!(
            out,
            "ok: {count} {rules} (the recommended policy: there is no {})",
            config::DEFAULT_PATH
        )?,
    }
    out.flush()?;
    Ok(0)
}

/// What is allowed in a configuration, and yet hardly meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = &config.file
        && let Ok(metadata) = std::fs::metadata(file)
    {
        let file = clean(file);
        if metadata.mode() & 0o022 != 0 {
            warnings.push(format!("{file}: others than its owner can write to it"));
        }
        // Whoever may run fim may write to their own configuration.
        if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
            warnings.push(format!("{file}: it belongs to user {}, not to root", metadata.uid()));
        }
    }
    for rule in &config.rules {
        for pattern in &rule.paths {
            if pattern.is_tree() || pattern.depth() != Some(1) {
                continue;
            }
            let base = policy::canonical(pattern.base());
            let is_directory = |child: &PathBuf| child.is_dir() && !child.is_symlink();
            if let Some(directory) = children(pattern, &base).find(is_directory) {
                warnings.push(format!(
                    "rule {:?}: {:?} matches a directory here, {}, but not what lies in it; to \
                     watch that too, add {:?}",
                    rule.name,
                    pattern.source(),
                    clean(&directory),
                    format!("{}/**", pattern.source()),
                ));
            }
        }
    }
    warnings
}

fn write_show(out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let config = Config::load(named)?;
    match &config.file {
        Some(file) => writeln!(out, "# In force with {}", clean(file))?,
        None => writeln!(out, "# In force: the defaults; there is no {}", config::DEFAULT_PATH)?,
    }
    let missing = |path: &Path| {
        let gone = std::fs::symlink_metadata(policy::canonical(path)).is_err();
        gone.then(|| "not here yet".to_owned())
    };
    out.write_all(config::to_toml(&config, &policy::canonical, &missing).as_bytes())?;
    let policy = config.policy().resolved(&policy::canonical);
    writeln!(out, "\n# Watched:")?;
    for Watch { base, depth, first } in policy.watches() {
        match (first, depth) {
            (Some(first), _) => {
                writeln!(out, "#   {} alone, a symbolic link", clean(&base.join(first)))?;
            }
            (None, None) => writeln!(out, "#   {} and everything below", clean(&base))?,
            (None, Some(1)) => writeln!(out, "#   {}, what lies directly in it", clean(&base))?,
            (None, Some(depth)) => writeln!(out, "#   {}, {depth} levels below", clean(&base))?,
        }
    }
    for prune in policy.prunes() {
        writeln!(out, "#   but nothing below {}", clean(&prune))?;
    }
    out.flush()?;
    Ok(0)
}

/// Ends quietly when the reader has gone: `fim policy show | head` is no failure.
pub(super) fn quietly(result: Result<u8>) -> Result<u8> {
    let is_closed = |error: &anyhow::Error| {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let json =
            error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if is_closed(&error) => Ok(0),
        other => other,
    }
}

/// A path for a terminal, which a name on disk must not control.
pub(super) fn clean(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(run: impl FnOnce(&mut dyn Write) -> Result<u8>) -> (u8, String) {
        let mut out = Vec::new();
        let code = run(&mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("fim.toml");
        std::fs::write(&file, text).unwrap();
        (temp, file)
    }

    /// A pipe whose reader has gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn each_recommended_item_is_told() {
        let (code, text) = run(|out| recommended(out, false));
        assert_eq!(code, 0);
        for path in RECOMMENDED_RULES.iter().flat_map(|rule| rule.paths) {
            let line = text.lines().find(|line| line.trim().starts_with(&format!("{path} ")));
            assert!(line.is_some(), "{path} is not in\n{text}");
        }
        let (_, text) = run(|out| recommended(out, true));
        let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(items.len(), 18);
        let boot = items.iter().find(|item| item["path"] == "/boot").unwrap();
        assert_eq!(boot["exists"], Path::new("/boot").exists());
        assert_eq!(boot["severity"], 80);
    }

    #[test]
    fn check_says_what_is_wrong() {
        let (_temp, good) = file("[[rule]]\nname = 'a'\npaths = ['/w']");
        let (code, text) = run(|out| check(out, Some(&good)));
        assert_eq!((code, text), (0, format!("ok: 1 rule ({})\n", good.display())));

        let (_temp, bad) = file("[[rule]]\nname = 'a'\npaths = ['w', '/[']\nseverity = 101");
        let (code, text) = run(|out| check(out, Some(&bad)));
        assert_eq!(code, 64);
        let bad = bad.display();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with(&format!("{bad}:3:11: \"w\": the path is not absolute")),
            "{text}"
        );
        assert!(lines[1].starts_with(&format!("{bad}:3:17: ")), "{text}");
        assert!(lines[2].starts_with(&format!("{bad}:4:12: severity 101")), "{text}");

        let (code, text) = run(|out| check(out, Some(Path::new("/nowhere/fim.toml"))));
        assert_eq!(code, 64);
        assert!(text.starts_with("/nowhere/fim.toml: no such file"), "{text}");
    }

    #[test]
    fn check_warns() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temp.path()).unwrap();
        std::fs::create_dir_all(root.join("home/x\n")).unwrap();
        let text = format!("[[rule]]\nname = 'a'\npaths = ['{}/home/*']", root.display());
        let file = root.join("fim.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let (code, text) = run(|out| check(out, Some(&file)));
        assert_eq!(code, 0);
        assert!(text.contains("warning: ") && text.contains("others than its owner"), "{text}");
        assert!(text.contains(r"home/x\n, but not what lies in it"), "{text}");
        assert!(text.contains("/home/*/**"), "{text}");
    }

    #[test]
    fn show_reads_back_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temp.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let base = root.display();
        let (_temp, file) = file(&format!(
            "[[rule]]\nname = 'a'\npaths = ['{base}/link', '{base}/none/*.x']\nexclude = ['{base}/link/tmp']"
        ));
        let (code, text) = run(|out| show(out, Some(&file)));
        assert_eq!(code, 0);
        for want in [
            format!("\"{base}/link\",  # {base}/link -> {base}/real\n"),
            format!("\"{base}/none/*.x\",  # not here yet\n"),
            format!("#   {base}/link alone, a symbolic link\n"),
            format!("#   {base}/real and everything below\n"),
            format!("#   {base}/none, what lies directly in it\n"),
            format!("#   but nothing below {base}/real/tmp\n"),
        ] {
            assert!(text.contains(&want), "{want}\nis not in\n{text}");
        }
        let again = Config::parse(&text, &file).unwrap();
        assert_eq!(again, Config::load(Some(&file)).unwrap());
        assert!(show(&mut Vec::new(), Some(Path::new("/nowhere"))).is_err());
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let (_temp, file) = file("");
        assert_eq!(recommended(&mut Closed, false).unwrap(), 0);
        assert_eq!(recommended(&mut Closed, true).unwrap(), 0);
        assert_eq!(check(&mut Closed, Some(&file)).unwrap(), 0);
        assert_eq!(show(&mut Closed, Some(&file)).unwrap(), 0);
    }
}
