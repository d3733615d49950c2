//! The configuration in force as a file that says the same.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use toml::Value;

use super::Config;
use super::validate::size_text;
use crate::policy::maintenance::{When, weekday_name};
use crate::policy::{Condition, Operations, Pattern, Rule, Window};

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
    let Config {
        file: _,
        backend,
        journal,
        metrics,
        hash,
        content,
        events,
        fold,
        collector,
        canary,
        packages,
        scan,
        sinks,
        rules,
        windows,
    } = config;
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
    let path = |path: &Path| quoted(&path.to_string_lossy());
    if let Some((certificate, key)) = &metrics.tls {
        writeln!(out, "tls_cert = {}\ntls_key = {}", path(certificate), path(key))?;
    }
    if let Some((user, file)) = &metrics.login {
        writeln!(out, "username = {}\npassword_file = {}", quoted(user), path(file))?;
    }
    writeln!(out, "\n[hash]\nmax_size = {}", size_text(hash.max_size))?;
    writeln!(out, "large = {}", size_text(hash.large))?;
    writeln!(out, "workers = {}", hash.workers)?;
    writeln!(out, "\n[content]\nmax_file = {}", size_text(content.file))?;
    writeln!(out, "max_diff = {}", size_text(content.diff as u64))?;
    writeln!(out, "max_total = {}", size_text(content.total))?;
    writeln!(out, "\n[events]\nalert_severity = {}", events.alert_severity)?;
    writeln!(out, "fold_ms = {}", events.fold.as_millis())?;
    writeln!(out, "settle_ms = {}", events.settle.as_millis())?;
    writeln!(out, "suppressed_interval = {}", events.suppressed_interval.as_secs())?;
    writeln!(out, "\n[fold]\nwindow = {}", fold.window_text())?;
    writeln!(out, "\n[collector]\nring_bytes = {}", size_text(collector.ring_bytes.into()))?;
    writeln!(out, "queue_events = {}", collector.queue_events)?;
    writeln!(out, "spill_events = {}", collector.spill_events)?;
    writeln!(out, "unlimited_queue = {}", collector.unlimited_queue)?;
    writeln!(out, "etw_buffer = {}", size_text(collector.etw_buffer.into()))?;
    writeln!(out, "etw_buffers = {}", collector.etw_buffers)?;
    writeln!(out, "etw_queue = {}", size_text(collector.etw_queue as u64))?;
    let interval = canary.interval.map_or(0, |interval| interval.as_secs());
    writeln!(out, "\n[canary]\ninterval = {interval}")?;
    writeln!(out, "\n[packages]\nenabled = {}", packages.enabled)?;
    writeln!(out, "hold = {}", packages.hold.as_secs())?;
    writeln!(out, "details = {}", packages.details)?;
    writeln!(out, "alert_severity = {}", packages.alert_severity)?;
    writeln!(out, "\n[scan]\nthreads = {}", scan.limits.threads)?;
    let rate = scan.limits.bytes_per_second.map_or(0, std::num::NonZero::get);
    writeln!(out, "max_bytes_per_second = {}", size_text(rate))?;
    writeln!(out, "cpu_percent = {}", scan.limits.cpu_percent)?;
    writeln!(out, "nice = {}", scan.limits.nice)?;
    let interval = scan.verify.map_or(0, |interval| interval.as_secs());
    writeln!(out, "verify_interval = {interval}")?;
    for sink in sinks {
        super::render_sinks::write(out, sink)?;
    }
    for window in windows {
        write_window(out, window)?;
    }
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
        containers,
        operations,
        severity,
        category,
        tags,
        techniques,
        hash,
        max_hash_size,
        attempts,
        registry,
        only,
        allow,
        suppress,
        expect,
        maintenance,
        content_diff,
        secret,
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
    if !paths.is_empty() {
        write_patterns("paths", paths, out)?;
    }
    if !registry.is_empty() {
        writeln!(out, "registry = [")?;
        for pattern in registry {
            match pattern.values() {
                None => writeln!(out, "    {},", quoted(pattern.source()))?,
                Some(values) => {
                    let (key, values) = (quoted(pattern.source()), list(values));
                    writeln!(out, "    {{ key = {key}, values = {values} }},")?;
                }
            }
        }
        writeln!(out, "]")?;
    }
    if !exclude.is_empty() {
        write_patterns("exclude", exclude, out)?;
    }
    if *containers {
        writeln!(out, "containers = true")?;
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
    writeln!(out, "attempts = {attempts}")?;
    writeln!(out, "content_diff = {content_diff}")?;
    if let Some(secret) = secret {
        writeln!(out, "secret = {secret}")?;
    }
    if let Some(expect) = expect {
        writeln!(out, "expect = {}", quoted(expect.as_str()))?;
    }
    if !maintenance.is_empty() {
        writeln!(out, "maintenance = {}", list(maintenance))?;
    }
    for (name, conditions) in [("only", only), ("allow", allow), ("suppress", suppress)] {
        for condition in conditions {
            writeln!(out, "\n[[rule.{name}]]")?;
            write_condition(out, condition)?;
        }
    }
    Ok(())
}

fn write_condition(out: &mut String, condition: &Condition) -> fmt::Result {
    let Condition {
        paths,
        operations,
        executables,
        process_names,
        ancestors,
        users,
        login_users,
        reason,
    } = condition;
    let sources = |patterns: &[Pattern]| {
        // Alternatives in braces are several patterns of one text.
        let mut sources: Vec<String> =
            patterns.iter().map(|pattern| pattern.source().to_owned()).collect();
        sources.dedup();
        sources
    };
    let operations = operations.map(|operations| {
        operations.iter().map(|action| action.as_str().to_owned()).collect::<Vec<_>>()
    });
    for (key, texts) in [
        ("paths", sources(paths)),
        ("operations", operations.unwrap_or_default()),
        ("executable", sources(executables)),
        ("process_name", process_names.clone()),
        ("ancestor", sources(ancestors)),
        ("user", users.clone()),
        ("login_user", login_users.clone()),
    ] {
        if !texts.is_empty() {
            writeln!(out, "{key} = {}", list(&texts))?;
        }
    }
    match reason {
        Some(reason) => writeln!(out, "reason = {}", quoted(reason)),
        None => Ok(()),
    }
}

fn write_window(out: &mut String, window: &Window) -> fmt::Result {
    writeln!(out, "\n[[maintenance]]\nname = {}", quoted(&window.name))?;
    match &window.when {
        When::Once { from, until } => {
            writeln!(out, "from = {}", quoted(&from.to_string()))?;
            writeln!(out, "until = {}", quoted(&until.to_string()))
        }
        When::Weekly { days, start, duration, zone } => {
            let days: Vec<String> = days.iter().map(|&day| weekday_name(day).to_owned()).collect();
            writeln!(out, "days = {}", list(&days))?;
            writeln!(out, "start = {}", quoted(&start.strftime("%H:%M").to_string()))?;
            writeln!(out, "duration = {}", quoted(&format!("{duration:#}")))?;
            writeln!(out, "timezone = {}", quoted(zone.iana_name().unwrap_or("local")))
        }
    }
}

/// A text as TOML has it.
pub fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

pub(super) fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
