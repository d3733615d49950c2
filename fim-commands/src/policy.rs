//! `policy recommended|check|show`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fim_common::config::{self, Config};
use fim_common::policy::{self, Pattern, RegistryPattern, Watch};
use fim_common::time::Timestamp;
use serde::Serialize;

use crate::{Site, clean, exit, quietly};

mod learned;
mod recommended;

pub use learned::{Learned, Seen};
pub use recommended::Asked;

/// `fim policy recommended`: each item of the built-in rules, what of it exists here, and how often
/// it fired, if that was `learned`.
///
/// # Errors
/// When `out` cannot be written to; a closed pipe is not an error.
pub fn recommended(
    site: &dyn Site,
    out: &mut dyn Write,
    asked: &Asked,
    learned: Option<&Learned>,
) -> Result<u8> {
    quietly(recommended::write(site, out, asked, learned))
}

/// `fim policy check`: says what is wrong with the configuration, if anything is.
///
/// # Errors
/// When `out` cannot be written to; a closed pipe is not an error.
pub fn check(out: &mut dyn Write, config: Option<&Path>, json: bool) -> Result<u8> {
    quietly(if json { write_check_json(out, config) } else { write_check(out, config) })
}

/// `fim policy show`: the configuration in force as TOML, with comments on the paths, or as JSON.
///
/// # Errors
/// When the configuration is wrong ([`config::Error`], exit code 64) or `out` cannot be written
/// to; a closed pipe is not an error.
pub fn show(site: &dyn Site, out: &mut dyn Write, config: Option<&Path>, json: bool) -> Result<u8> {
    quietly(match json {
        true => write_show_json(site, out, config),
        false => write_show(site, out, config),
    })
}

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    rules: usize,
    errors: Vec<Finding>,
    warnings: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
}

fn write_check_json(out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let loaded = Config::load(named);
    let file = named.map(clean);
    let checked = match &loaded {
        Ok(config) => Checked {
            ok: true,
            file: config.file.as_deref().map(clean),
            rules: config.rules.len(),
            errors: Vec::new(),
            warnings: warnings(config),
        },
        Err(error) => {
            let errors = match error {
                config::Error::Invalid { problems } => problems
                    .iter()
                    .map(|problem| Finding {
                        line: Some(problem.line),
                        column: Some(problem.column),
                        message: problem.message.clone(),
                    })
                    .collect(),
                other => {
                    vec![Finding { line: None, column: None, message: other.to_string() }]
                }
            };
            Checked { ok: false, file, rules: 0, errors, warnings: Vec::new() }
        }
    };
    serde_json::to_writer_pretty(&mut *out, &checked)?;
    writeln!(out)?;
    out.flush()?;
    Ok(if checked.ok { 0 } else { exit::USAGE })
}

fn write_check(out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let config = match Config::load(named) {
        Ok(config) => config,
        Err(error) => {
            writeln!(out, "{error}")?;
            out.flush()?;
            return Ok(exit::USAGE);
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

/// The objects directly in `resolved`, the base of `pattern`, that match it.
fn children(pattern: &Pattern, resolved: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(resolved).into_iter().flatten().flatten();
    let written = recommended::written(pattern, resolved);
    entries
        .filter(move |entry| pattern.matches(&written.join(entry.file_name())))
        .map(|entry| entry.path())
}

/// What is allowed in a configuration, and yet hardly meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let now = Timestamp::now();
    for window in config.windows.iter().filter(|window| window.is_over(now)) {
        warnings
            .push(format!("maintenance window {:?} is over and never opens again", window.name));
    }
    for rule in &config.rules {
        if !cfg!(windows) && !rule.registry.is_empty() && rule.paths.is_empty() {
            warnings
                .push(format!("rule {:?} is about the registry: it means nothing here", rule.name));
        }
        for entry in rule.allow.iter().chain(&rule.suppress) {
            if !entry.process_names.is_empty() && entry.executables.is_empty() {
                warnings.push(format!(
                    "rule {:?}: anybody can give a program the name {}; name its executable",
                    rule.name,
                    entry.process_names.join(" or "),
                ));
            }
        }
        for pattern in &rule.paths {
            if pattern.is_tree() || pattern.depth() != Some(1) {
                continue;
            }
            let Some(base) = policy::on_disk(pattern.base()) else { continue };
            // Another path of the rule may say what lies in it, as `/etc/rc?.d/*` beside `/etc/rc?.d`.
            let says_more = |other: &Pattern, child: &Path| {
                other.matches(&child.join("x")) || other.matches(&child.join("x.conf"))
            };
            let is_directory = |child: &PathBuf| {
                child.is_dir()
                    && !child.is_symlink()
                    && !rule.paths.iter().any(|other| says_more(other, child))
            };
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

fn write_show(site: &dyn Site, out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let config = Config::load(named)?;
    match &config.file {
        Some(file) => writeln!(out, "# In force with {}", clean(file))?,
        None => writeln!(out, "# In force: the defaults; there is no {}", config::DEFAULT_PATH)?,
    }
    let missing = |path: &Path| {
        let gone = std::fs::symlink_metadata(policy::on_disk(path)?).is_err();
        gone.then(|| "not here yet".to_owned())
    };
    // A pattern of Windows begins with a key, and not with a path that links could lead from.
    let resolved = |path: &Path| match cfg!(windows) {
        true => path.to_owned(),
        false => policy::canonical(path),
    };
    out.write_all(config::to_toml(&config, &resolved, &missing).as_bytes())?;
    let policy = site.policy(&config);
    writeln!(out, "\n# Watched:")?;
    for Watch { base, depth, first } in policy.watches() {
        let Some(base) = policy::on_disk(&base) else { continue };
        match (first, depth) {
            (Some(first), _) => {
                writeln!(out, "#   {} alone, a symbolic link", clean(&base.join(first)))?;
            }
            (None, None) => writeln!(out, "#   {} and everything below", clean(&base))?,
            (None, Some(1)) => writeln!(out, "#   {}, what lies directly in it", clean(&base))?,
            (None, Some(depth)) => writeln!(out, "#   {}, {depth} levels below", clean(&base))?,
        }
    }
    for prune in policy.prunes().iter().filter_map(|prune| policy::on_disk(prune)) {
        writeln!(out, "#   but nothing below {}", clean(&prune))?;
    }
    for key in registry_keys(&policy) {
        match key.values() {
            None => writeln!(out, "#   {} and everything below", key.source())?,
            Some(values) => writeln!(out, "#   {}: {}", key.source(), values.join(", "))?,
        }
    }
    out.flush()?;
    Ok(0)
}

/// The registry keys that are watched here.
fn registry_keys(policy: &policy::Policy) -> Vec<&RegistryPattern> {
    if cfg!(windows) { policy.registry_keys() } else { Vec::new() }
}

fn write_show_json(site: &dyn Site, out: &mut dyn Write, named: Option<&Path>) -> Result<u8> {
    let config = Config::load(named)?;
    let text = config::to_toml(&config, &|path| path.to_owned(), &|_| None);
    let in_force: serde_json::Value = toml::from_str(&text)?;
    let policy = site.policy(&config);
    let watched: Vec<serde_json::Value> = policy
        .watches()
        .into_iter()
        .filter_map(|Watch { base, depth, first }| {
            let first = first.map(|first| first.to_string_lossy().into_owned());
            let base = policy::on_disk(&base)?;
            Some(serde_json::json!({ "base": clean(&base), "depth": depth, "only": first }))
        })
        .collect();
    let prunes = policy.prunes();
    let excluded = prunes.iter().filter_map(|path| policy::on_disk(path));
    let excluded: Vec<String> = excluded.map(|path| clean(&path)).collect();
    let mut shown = serde_json::json!({
        "file": config.file.as_deref().map(clean),
        "in_force": in_force,
        "watched": watched,
        "excluded": excluded,
    });
    if cfg!(windows) {
        let keys = registry_keys(&policy).into_iter();
        let keys = keys
            .map(|key| serde_json::json!({ "key": key.source(), "values": key.values() }))
            .collect();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("registry".to_owned(), keys);
        }
    }
    serde_json::to_writer_pretty(&mut *out, &shown)?;
    writeln!(out)?;
    out.flush()?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use fim_common::policy::{BuiltIn, Platform, Set};

    use std::io;

    use super::*;
    use crate::bare::Bare;

    fn recommended(out: &mut dyn Write, asked: &Asked) -> Result<u8> {
        super::recommended(&Bare, out, asked, None)
    }

    fn show(out: &mut dyn Write, config: Option<&Path>, json: bool) -> Result<u8> {
        super::show(&Bare, out, config, json)
    }

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
    fn each_item_is_told() {
        for platform in Platform::ALL {
            for set in Set::ALL {
                let asked = Asked { platform, sets: vec![set], ..Asked::default() };
                let (code, text) = run(|out| recommended(out, &asked));
                assert_eq!(code, 0);
                let (_, json) = run(|out| recommended(out, &Asked { json: true, ..asked.clone() }));
                let items: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
                let files = BuiltIn::of(set, platform).flat_map(|rule| rule.paths).copied();
                let keys = BuiltIn::of(set, platform).flat_map(|rule| rule.registry);
                let all: Vec<&str> = files.chain(keys.map(|item| item.key)).collect();
                assert_eq!(items.len(), all.len());
                for path in all {
                    assert!(text.contains(path), "{path} is not in\n{text}");
                    assert!(items.iter().any(|item| item["path"] == path), "{path}");
                }
            }
        }
        let asked = Asked { json: true, ..Asked::default() };
        let (_, text) = run(|out| recommended(out, &asked));
        let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(items.len(), 18);
        let boot = items.iter().find(|item| item["path"] == "/boot").unwrap();
        assert_eq!(boot["exists"], Path::new("/boot").exists());
        assert_eq!(boot["severity"], 80);
    }

    #[test]
    fn check_says_what_is_wrong() {
        let (_temp, good) = file("[[rule]]\nname = 'a'\npaths = ['/w']");
        let (code, text) = run(|out| check(out, Some(&good), false));
        assert_eq!((code, text), (0, format!("ok: 1 rule ({})\n", good.display())));

        let (_temp, bad) = file("[[rule]]\nname = 'a'\npaths = ['w', '/[']\nseverity = 101");
        let (code, text) = run(|out| check(out, Some(&bad), false));
        assert_eq!(code, 64);
        let bad = bad.display();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with(&format!("{bad}:3:11: \"w\": the path is not absolute")),
            "{text}"
        );
        assert!(lines[1].starts_with(&format!("{bad}:3:17: ")), "{text}");
        assert!(lines[2].starts_with(&format!("{bad}:4:12: severity 101")), "{text}");

        let (code, text) = run(|out| check(out, Some(Path::new("/nowhere/fim.toml")), false));
        assert_eq!(code, 64);
        assert!(text.starts_with("/nowhere/fim.toml: no such file"), "{text}");
    }

    #[test]
    fn check_warns() {
        let temp = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temp.path()).unwrap();
        std::fs::create_dir_all(root.join("home/x\n")).unwrap();
        let text = format!(
            "[[maintenance]]\nname = 'past'\nfrom = '2020-01-01T00:00:00Z'\nuntil = \
             '2020-01-02T00:00:00Z'\n[[rule]]\nname = 'a'\npaths = ['{}/home/*']\n\
             [[rule.allow]]\nprocess_name = ['puppet']\n[[rule]]\nname = 'b'\n\
             registry = ['HKLM\\x']",
            root.display()
        );
        let file = root.join("fim.toml");
        std::fs::write(&file, text).unwrap();
        let (code, text) = run(|out| check(out, Some(&file), false));
        assert_eq!(code, 0);
        assert_eq!(text.matches("warning: ").count(), 4, "{text}");
        assert!(text.contains("window \"past\" is over"), "{text}");
        assert!(text.contains("can give a program the name puppet"), "{text}");
        assert!(text.contains("rule \"b\" is about the registry"), "{text}");
        assert!(text.contains(r"home/x\n, but not what lies in it"), "{text}");
        assert!(text.contains("/home/*/**"), "{text}");
    }

    #[test]
    fn what_another_path_of_the_rule_covers_is_no_warning() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("rc2.d")).unwrap();
        let rule = |paths: &[&str]| {
            let paths: Vec<String> =
                paths.iter().map(|path| format!("{}/{path}", temp.path().display())).collect();
            let (_temp, path) = file(&format!("[[rule]]\nname = \"rc\"\npaths = {paths:?}\n"));
            run(|out| check(out, Some(&path), false)).1
        };
        assert!(rule(&["rc?.d"]).contains("but not what lies in it"));
        assert!(!rule(&["rc?.d", "rc?.d/*"]).contains("but not what lies in it"));
    }

    #[test]
    fn json_says_the_same() {
        let (_temp, bad) = file("[[rule]]\nname = 'a'\npaths = ['w']");
        let (code, text) = run(|out| check(out, Some(&bad), true));
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &said["ok"]), (64, &false.into()));
        assert_eq!(
            (&said["errors"][0]["line"], &said["errors"][0]["column"]),
            (&3.into(), &11.into())
        );

        let (_temp, good) = file("[[rule]]\nname = 'a'\npaths = ['/w']\nexpect = 'never'");
        let (code, text) = run(|out| check(out, Some(&good), true));
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &said["ok"], &said["rules"]), (0, &true.into(), &1.into()));
        let (_, text) = run(|out| show(out, Some(&good), true));
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["in_force"]["rule"][0]["expect"], "never");
        assert_eq!(said["watched"][0]["base"], "/w");
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
        let (code, text) = run(|out| show(out, Some(&file), false));
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
        assert!(show(&mut Vec::new(), Some(Path::new("/nowhere")), false).is_err());
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let (_temp, file) = file("");
        for json in [false, true] {
            let asked = Asked { json, ..Asked::default() };
            assert_eq!(recommended(&mut Closed, &asked).unwrap(), 0);
        }
        assert_eq!(check(&mut Closed, Some(&file), false).unwrap(), 0);
        assert_eq!(show(&mut Closed, Some(&file), false).unwrap(), 0);
    }
}
