//! `explain HKLM\…`: which rule decides about a registry key or value, and why.

use std::cmp::Reverse;
use std::io::Write;

use anyhow::Result;
use fim_common::policy::{Policy, RegistryPattern, Rule};
use serde::Serialize;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'p> {
    asked: &'p str,
    watched: bool,
    /// The rule that decides, first, and those that would without it.
    rules: Vec<Found<'p>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found<'p> {
    rule: &'p str,
    severity: u8,
    alert: bool,
    key: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'p [String]>,
    operations: Vec<&'static str>,
}

/// Whether a text is the path of a key or value.
pub(crate) fn is_one(text: &str) -> bool {
    RegistryPattern::parse(text, None).is_ok()
}

/// Says what the policy does with `path`, as a key and as a value of the key above.
pub(crate) fn write(
    out: &mut dyn Write,
    policy: &Policy,
    path: &str,
    alert_severity: u8,
    json: bool,
) -> Result<u8> {
    let rules = matching(policy, path, alert_severity);
    if json {
        let document = Document { asked: path, watched: !rules.is_empty(), rules };
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)?;
        out.flush()?;
        return Ok(0);
    }
    writeln!(out, "{path}")?;
    for (index, Found { rule, severity, alert, key, values, .. }) in rules.iter().enumerate() {
        let what = if index == 0 { "rule" } else { "and" };
        let alert = if *alert { ", an alert" } else { "" };
        let key = crate::explain::quoted(key);
        let values = values.map(|values| format!(" ({})", values.join(", "))).unwrap_or_default();
        writeln!(out, "  {what:<11} {rule:?}, severity {severity}{alert}: {key}{values}")?;
    }
    if rules.is_empty() {
        writeln!(out, "  not watched: no rule matches")?;
    }
    out.flush()?;
    Ok(0)
}

/// In the order in which they decide: one of them decides about the operations that those before it
/// do not ask for.
fn matching<'p>(policy: &'p Policy, path: &str, alert_severity: u8) -> Vec<Found<'p>> {
    let value = path.rsplit_once('\\');
    let fits = |pattern: &RegistryPattern| {
        pattern.matches(path, None)
            || value.is_some_and(|(key, value)| pattern.matches(key, Some(value)))
    };
    let best = |rule: &'p Rule| {
        let patterns = rule.registry.iter().filter(|pattern| fits(pattern));
        patterns.max_by_key(|pattern| pattern.specificity())
    };
    let mut found: Vec<(usize, &Rule, &RegistryPattern)> = policy
        .rules()
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| best(rule).map(|pattern| (index, rule, pattern)))
        .collect();
    found.sort_by_key(|(index, rule, pattern)| {
        (Reverse(rule.severity), Reverse(pattern.specificity()), *index)
    });
    found
        .into_iter()
        .map(|(_, rule, pattern)| Found {
            rule: &rule.name,
            severity: rule.severity,
            alert: rule.severity >= alert_severity,
            key: pattern.source(),
            values: pattern.values(),
            operations: rule.operations.iter().map(|action| action.as_str()).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_decides_comes_first() {
        let rule = |name: &str, severity: u8, key: &str, values: Option<&[String]>| Rule {
            severity,
            registry: vec![RegistryPattern::parse(key, values).unwrap()],
            ..Rule::new(name, Vec::new())
        };
        let values = ["appinit_dlls".to_owned()];
        let policy = Policy::for_windows(vec![
            rule("tree", 50, r"HKLM\SOFTWARE", None),
            rule("value", 85, r"HKLM\SOFTWARE\Windows", Some(&values)),
            rule("same", 50, r"HKLM\SOFTWARE\Windows", None),
        ]);
        let names = |path: &str| -> Vec<&str> {
            matching(&policy, path, 70).iter().map(|found| found.rule).collect()
        };
        let found = matching(&policy, r"HKLM\Software\Windows\AppInit_DLLs", 70);
        assert_eq!((found[0].rule, found[0].alert), ("value", true));
        assert_eq!(names(r"HKLM\Software\Windows\AppInit_DLLs"), ["value", "same", "tree"]);
        assert_eq!(names(r"HKLM\Software\Windows\Other"), ["same", "tree"]);
        assert_eq!(names(r"HKEY_LOCAL_MACHINE\SOFTWARE\x"), ["tree"]);
        assert!(names(r"HKCU\Software").is_empty());
        let mut out = Vec::new();
        write(&mut out, &policy, r"HKLM\SYSTEM", 70, false).unwrap();
        assert_eq!(out, b"HKLM\\SYSTEM\n  not watched: no rule matches\n");
        assert!(is_one(r"HKLM\x") && !is_one(r"C:\x") && !is_one("/etc"));
    }
}
