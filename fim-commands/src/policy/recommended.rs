//! `fim policy recommended`: the built-in rules, item by item.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fim_common::policy::{self, BuiltIn, Pattern, Platform, Set};
use serde::Serialize;

use super::learned::{Learned, Noise};
use crate::{Site, clean};

/// Entries that are looked at to see whether something matches a glob.
const LOOKED_AT: usize = 50_000;
/// How deep for `**`.
const DEPTH: u32 = 6;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Of which platform.
    pub platform: Platform,
    /// Which sets.
    pub sets: Vec<Set>,
    /// As JSON.
    pub json: bool,
}

impl Default for Asked {
    fn default() -> Self {
        let (platform, sets) = (Platform::here(), vec![Set::Recommended]);
        Self { platform, sets, json: false }
    }
}

/// One item.
#[derive(Debug, Serialize)]
struct Item {
    /// File, directory, glob or registry key.
    path: &'static str,
    /// The values of the key; empty: all.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    values: &'static [&'static str],
    /// Absent for an item of another platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    exists: Option<bool>,
    /// What it is here, for people.
    here: String,
    /// What it means here, where a symbolic link leads elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved: Option<PathBuf>,
    platform: &'static str,
    set: &'static str,
    rule: &'static str,
    category: &'static str,
    severity: u8,
    standards: &'static [&'static str],
    techniques: &'static [&'static str],
    /// With `--learn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    learned: Option<Noise>,
}

/// What `--json --learn` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    items: &'a [Item],
    learned: &'a Learned,
}

pub(super) fn write(
    site: &dyn Site,
    out: &mut dyn Write,
    asked: &Asked,
    learned: Option<&Learned>,
) -> Result<u8> {
    let rules = asked.sets.iter().flat_map(|&set| BuiltIn::of(set, asked.platform));
    let rules: Vec<(&BuiltIn, Vec<Item>)> =
        rules.map(|rule| (rule, items(site, rule, learned))).collect();
    if !asked.json {
        for (rule, items) in &rules {
            write_rule(out, rule, items)?;
        }
    }
    let all: Vec<Item> = rules.into_iter().flat_map(|(_, items)| items).collect();
    match (learned, asked.json) {
        (None, true) => serde_json::to_writer_pretty(&mut *out, &all)?,
        (Some(learned), true) => {
            serde_json::to_writer_pretty(&mut *out, &Document { items: &all, learned })?;
        }
        (learned, false) => {
            write_summary(out, asked, &all)?;
            if let Some(learned) = learned {
                learned.write(out)?;
            }
        }
    }
    if asked.json {
        writeln!(out)?;
    }
    out.flush()?;
    Ok(0)
}

fn items(site: &dyn Site, rule: &'static BuiltIn, learned: Option<&Learned>) -> Vec<Item> {
    let item = |path, values, exists, here, resolved| Item {
        path,
        values,
        exists,
        here,
        resolved,
        platform: rule.platform.as_str(),
        set: rule.set.as_str(),
        rule: rule.name,
        category: rule.category,
        severity: rule.severity,
        standards: rule.standards(),
        techniques: rule.techniques,
        learned: learned.map(|learned| learned.of(rule.name, path)),
    };
    let foreign = || format!("on {}", rule.platform.as_str());
    let files = rule.paths.iter().map(|&path| {
        if rule.platform != Platform::here() {
            return item(path, &[], None, foreign(), None);
        }
        let parse = if cfg!(windows) { Pattern::parse_windows } else { Pattern::parse };
        let patterns = parse(path).unwrap_or_default();
        let (exists, here) = whats_here(&patterns);
        let resolved = patterns.first().and_then(|pattern| {
            let resolved = policy::on_disk(pattern.base())?;
            (resolved != written(pattern, &resolved)).then_some(resolved)
        });
        item(path, &[], Some(exists), here, resolved)
    });
    let keys = rule.registry.iter().map(|key| {
        let found = match rule.platform == Platform::here() {
            true => key.pattern().and_then(|pattern| site.registry(&pattern)),
            false => None,
        };
        let here = match (found, rule.platform == Platform::here(), key.values) {
            (Some(0), ..) => "not here".to_owned(),
            (Some(1), _, []) => "key".to_owned(),
            (Some(count), _, []) => format!("{count} keys"),
            (Some(count), _, values) => format!("{count} of {} values", values.len()),
            (None, true, _) => "cannot be read".to_owned(),
            (None, false, _) => foreign(),
        };
        item(key.key, key.values, found.map(|count| count > 0), here, None)
    });
    files.chain(keys).collect()
}

fn write_rule(out: &mut dyn Write, rule: &BuiltIn, items: &[Item]) -> Result<()> {
    let techniques = rule.techniques.join(" ");
    writeln!(out, "{}  severity {}  {techniques}", rule.name, rule.severity)?;
    writeln!(out, "  {}", rule.why)?;
    for item in items {
        let values = match item.values {
            [] => String::new(),
            values => format!(" ({})", values.join(", ")),
        };
        let noise = item.learned.as_ref().map(|noise| format!("  {noise}")).unwrap_or_default();
        writeln!(out, "    {:<18} {}{noise}", format!("{}{values}", item.path), item.here)?;
    }
    writeln!(out)?;
    Ok(())
}

fn write_summary(out: &mut dyn Write, asked: &Asked, all: &[Item]) -> Result<()> {
    if asked.platform == Platform::here() {
        let here = all.iter().filter(|item| item.exists == Some(true)).count();
        writeln!(
            out,
            "{here} of {} items exist here. What is missing is watched from the",
            all.len()
        )?;
        write!(out, "moment it appears. ")?;
    } else {
        writeln!(out, "{} items.", all.len())?;
    }
    let mut standards: Vec<&str> = all.iter().flat_map(|item| item.standards).copied().collect();
    standards.sort_unstable();
    standards.dedup();
    writeln!(out, "Standards: {}", standards.join(" "))?;
    Ok(())
}

/// Whether something of an item exists, and what it is.
fn whats_here(patterns: &[Pattern]) -> (bool, String) {
    let mut count = 0;
    let mut literal = None;
    for pattern in patterns {
        let Some(resolved) = policy::on_disk(pattern.base()) else { continue };
        if !pattern.is_tree() {
            count += matching(pattern, &resolved);
            continue;
        }
        let Ok(metadata) = std::fs::metadata(&resolved) else { continue };
        count += 1;
        let kind = if metadata.is_dir() { "directory" } else { "file" };
        literal = Some(match resolved == written(pattern, &resolved) {
            true => kind.to_owned(),
            false => format!("{kind} -> {}", clean(&resolved)),
        });
    }
    match (count, literal) {
        (0, _) => (false, "not here".to_owned()),
        (1, Some(what)) => (true, what),
        (count, _) => (true, format!("{count} here")),
    }
}

/// How many objects at and below `resolved`, the base of the pattern, match it.
fn matching(pattern: &Pattern, resolved: &Path) -> usize {
    let deepest = pattern.depth().unwrap_or(DEPTH);
    let mut looked_at = 0;
    let mut found = 0;
    // On disk, and as the pattern has it.
    let mut todo = vec![(resolved.to_owned(), written(pattern, resolved), 1)];
    while let Some((directory, named, depth)) = todo.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > LOOKED_AT {
                return found;
            }
            let path = named.join(entry.file_name());
            found += usize::from(pattern.matches(&path));
            if depth < deepest && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push((entry.path(), path, depth + 1));
            }
        }
    }
    found
}

/// The base of a pattern as its text has it, which is at `resolved` on the disk. On Windows a pattern
/// matches what the disk has.
pub(super) fn written(pattern: &Pattern, resolved: &Path) -> PathBuf {
    if cfg!(windows) { resolved.to_owned() } else { pattern.base().to_owned() }
}
