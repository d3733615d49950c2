//! The configuration in force as a file that says the same.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use toml::Value;

use super::Config;
use super::validate::size_text;
use crate::policy::{Operations, Pattern, Rule};

/// `config` as TOML, with everything said, defaults too. Beside a path that `canonicalize` changes
/// stands what it becomes, and what `note` has to say of it.
pub fn to_toml(
    config: &Config,
    canonicalize: &dyn Fn(&Path) -> PathBuf,
    note: &dyn Fn(&Path) -> Option<String>,
) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_config(&mut out, config, canonicalize, note);
    out
}

fn write_config(
    out: &mut String,
    config: &Config,
    canonicalize: &dyn Fn(&Path) -> PathBuf,
    note: &dyn Fn(&Path) -> Option<String>,
) -> fmt::Result {
    let Config { file: _, backend, journal, metrics, hash, events, collector, canary, rules } =
        config;
    writeln!(out, "backend = {}", quoted(backend.as_str()))?;
    writeln!(out, "recommended = false  # those in force are written out below")?;
    writeln!(out, "\n[journal]")?;
    writeln!(out, "max_segment_bytes = {}", size_text(journal.max_segment_bytes))?;
    writeln!(out, "max_segments = {}", journal.max_segments)?;
    let days = journal.max_age.map_or(0, |age| age.as_secs() / 86_400);
    writeln!(out, "max_age_days = {days}")?;
    writeln!(out, "fsync = {}", quoted(journal.fsync.as_str()))?;
    writeln!(out, "on_full = {}", quoted(journal.on_full.as_str()))?;
    writeln!(out, "heartbeat = {}", journal.heartbeat.map_or(0, |beat| beat.as_secs()))?;
    writeln!(out, "\n[metrics]\nenabled = {}", metrics.enabled)?;
    writeln!(out, "listen = {}", quoted(&metrics.listen.to_string()))?;
    writeln!(out, "\n[hash]\nmax_size = {}", size_text(hash.max_size))?;
    writeln!(out, "workers = {}", hash.workers)?;
    writeln!(out, "\n[events]\nalert_severity = {}", events.alert_severity)?;
    writeln!(out, "fold_ms = {}", events.fold.as_millis())?;
    writeln!(out, "settle_ms = {}", events.settle.as_millis())?;
    writeln!(out, "\n[collector]\nring_bytes = {}", size_text(collector.ring_bytes.into()))?;
    writeln!(out, "queue_events = {}", collector.queue_events)?;
    writeln!(out, "spill_events = {}", collector.spill_events)?;
    writeln!(out, "unlimited_queue = {}", collector.unlimited_queue)?;
    let interval = canary.interval.map_or(0, |interval| interval.as_secs());
    writeln!(out, "\n[canary]\ninterval = {interval}")?;
    for rule in rules {
        write_rule(out, rule, canonicalize, note)?;
    }
    Ok(())
}

fn write_rule(
    out: &mut String,
    rule: &Rule,
    canonicalize: &dyn Fn(&Path) -> PathBuf,
    note: &dyn Fn(&Path) -> Option<String>,
) -> fmt::Result {
    let Rule {
        name,
        paths,
        exclude,
        operations,
        severity,
        category,
        tags,
        techniques,
        hash,
        max_hash_size,
        attempts,
    } = rule;
    let write_patterns = |key: &str, patterns: &[Pattern], out: &mut String| -> fmt::Result {
        writeln!(out, "{key} = [")?;
        let mut last = None;
        for pattern in patterns {
            // Alternatives in braces are several patterns of one text.
            let again = last.replace(pattern.source()) == Some(pattern.source());
            let resolved = canonicalize(pattern.base());
            let arrow = (resolved != pattern.base())
                .then(|| format!("{} -> {}", pattern.base().display(), resolved.display()));
            let remarks: Vec<String> = arrow.into_iter().chain(note(pattern.base())).collect();
            // A name on disk can hold a line break, which would end the comment.
            let remark = remarks.join("; ").replace(|c: char| c.is_control(), "\u{fffd}");
            let comment = if remark.is_empty() { remark } else { format!("  # {remark}") };
            match again {
                false => writeln!(out, "    {},{comment}", quoted(pattern.source()))?,
                true if comment.is_empty() => {}
                true => writeln!(out, "  {comment}")?,
            }
        }
        writeln!(out, "]")
    };
    writeln!(out, "\n[[rule]]\nname = {}", quoted(name))?;
    write_patterns("paths", paths, out)?;
    if !exclude.is_empty() {
        write_patterns("exclude", exclude, out)?;
    }
    if *operations != Operations::ALL {
        let names: Vec<String> =
            operations.iter().map(|action| action.as_str().to_owned()).collect();
        writeln!(out, "operations = {}", list(&names))?;
    }
    writeln!(out, "severity = {severity}")?;
    if let Some(category) = category {
        writeln!(out, "category = {}", quoted(category))?;
    }
    if !tags.is_empty() {
        writeln!(out, "tags = {}", list(tags))?;
    }
    if !techniques.is_empty() {
        writeln!(out, "techniques = {}", list(techniques))?;
    }
    writeln!(out, "hash = {hash}")?;
    writeln!(out, "max_hash_size = {}", size_text(*max_hash_size))?;
    writeln!(out, "attempts = {attempts}")
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
