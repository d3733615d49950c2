//! `fim explain PATH`: which rule decides about a path, and why.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fim_common::config::Config;
use fim_common::policy::{self, Condition, Expect, Explanation, Match, Operations, Policy, Reason};
use serde::Serialize;

use crate::{Site, clean, explain_registry, quietly};

/// `fim explain PATH`.
///
/// # Errors
/// When the configuration is wrong ([`fim_common::config::Error`], exit code 64) or `out` cannot
/// be written to; a closed pipe is not an error.
pub fn explain(
    site: &dyn Site,
    out: &mut dyn Write,
    path: &Path,
    config: Option<&Path>,
    json: bool,
) -> Result<u8> {
    quietly(write_explanation(site, out, path, &Config::load(config)?, json))
}

fn write_explanation(
    site: &dyn Site,
    out: &mut dyn Write,
    path: &Path,
    config: &Config,
    json: bool,
) -> Result<u8> {
    let policy = site.policy(config);
    if let Some(key) = path.to_str().filter(|text| explain_registry::is_one(text)) {
        return explain_registry::write(out, &policy, key, config.events.alert_severity, json);
    }
    let object = object(path);
    let target = policy::canonical(path);
    let answers = [Some(&object), (target != object).then_some(&target)];
    let answers: Vec<Answer<'_>> = answers
        .into_iter()
        .flatten()
        .map(|object| Answer::new(&policy, object, config.events.alert_severity))
        .collect();
    if json {
        serde_json::to_writer_pretty(&mut *out, &Document { asked: clean(path), answers })?;
        writeln!(out)?;
    } else {
        if object != path {
            writeln!(out, "{} is {}", clean(path), clean(&object))?;
        }
        for (index, answer) in answers.iter().enumerate() {
            if index > 0 {
                writeln!(out, "\nIt is a symbolic link to {}:", answer.path)?;
            }
            write_answer(out, answer)?;
        }
    }
    out.flush()?;
    Ok(0)
}

/// The canonical path of the object itself: a link that it is is not followed.
fn object(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => policy::canonical(parent).join(name),
        _ => policy::canonical(&path),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'p> {
    asked: String,
    /// The object; and, when it is a symbolic link, what it leads to.
    answers: Vec<Answer<'p>>,
}

#[derive(Debug, Serialize)]
struct Answer<'p> {
    path: String,
    watched: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deciding: Option<Deciding<'p>>,
    /// The rule that would decide without it, the first of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_up: Option<&'p str>,
    /// Why it comes before that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    others: Vec<Other<'p>>,
    excluded: Vec<Excluded<'p>>,
    near: Vec<Other<'p>>,
}

#[derive(Debug, Serialize)]
struct Deciding<'p> {
    #[serde(flatten)]
    rule: Other<'p>,
    alert: bool,
    category: Option<&'p str>,
    operations: Vec<&'static str>,
    tags: &'p [String],
    techniques: &'p [String],
    hash: bool,
    max_hash_size: u64,
    /// What each event of it is measured by.
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'static str>,
    only: Vec<String>,
    allow: Vec<String>,
    suppress: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Other<'p> {
    rule: &'p str,
    severity: u8,
    pattern: &'p str,
    /// Where the pattern begins on this host, when a symbolic link makes that elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(skip)]
    operations: Operations,
}

#[derive(Debug, Serialize)]
struct Excluded<'p> {
    rule: &'p str,
    pattern: &'p str,
    exclude: &'p str,
}

impl<'p> Other<'p> {
    fn new(found: Match<'p>) -> Self {
        let (rule, pattern) = (found.rule, found.pattern);
        // The text may begin with wildcards or escapes; then there is nothing to compare.
        // Where it begins is spelled for comparing on Windows, and never elsewhere.
        let is_elsewhere = cfg!(unix) && !Path::new(pattern.source()).starts_with(pattern.base());
        Self {
            rule: &rule.name,
            severity: rule.severity,
            pattern: pattern.source(),
            base: is_elsewhere.then(|| clean(pattern.base())),
            operations: rule.operations,
        }
    }
}

impl<'p> Answer<'p> {
    fn new(policy: &'p Policy, path: &Path, alert_severity: u8) -> Self {
        let explanation = policy.explain(path);
        let because = explanation.reason().map(|reason| match reason {
            Reason::Severity => "its severity is higher",
            Reason::Specificity => "its pattern is more specific",
            Reason::Order => "it is defined first",
        });
        let Explanation { path, deciding, others, excluded, near } = explanation;
        Self {
            path: clean(&path),
            watched: deciding.is_some(),
            deciding: deciding.map(|found| Deciding {
                rule: Other::new(found),
                alert: found.rule.severity >= alert_severity,
                category: found.rule.category.as_deref(),
                operations: found.rule.operations.iter().map(|action| action.as_str()).collect(),
                tags: &found.rule.tags,
                techniques: &found.rule.techniques,
                hash: found.rule.hash,
                max_hash_size: found.rule.max_hash_size,
                expect: found.rule.expect.map(Expect::as_str),
                only: found.rule.only.iter().map(Condition::describe).collect(),
                allow: found.rule.allow.iter().map(Condition::describe).collect(),
                suppress: found.rule.suppress.iter().map(Condition::describe).collect(),
            }),
            because,
            runner_up: others.first().map(|found| found.rule.name.as_str()),
            others: others.into_iter().map(Other::new).collect(),
            excluded: excluded
                .into_iter()
                .map(|found| Excluded {
                    rule: &found.rule.name,
                    pattern: found.pattern.source(),
                    exclude: found.exclude.source(),
                })
                .collect(),
            near: near.into_iter().map(Other::new).collect(),
        }
    }
}

fn write_answer(out: &mut dyn Write, answer: &Answer<'_>) -> Result<()> {
    match &answer.deciding {
        Some(deciding) => write_deciding(out, answer, deciding)?,
        None => writeln!(out, "{}\n  not watched: no rule matches", answer.path)?,
    }
    for Excluded { rule, pattern, exclude } in &answer.excluded {
        writeln!(
            out,
            "  excluded    by {} from rule {rule:?}, whose {} matches",
            quoted(exclude),
            quoted(pattern)
        )?;
    }
    if answer.deciding.is_none() {
        for near in &answer.near {
            writeln!(
                out,
                "  near        rule {:?}: {} does not match it",
                near.rule,
                pattern(near)
            )?;
        }
    }
    Ok(())
}

fn write_deciding(out: &mut dyn Write, answer: &Answer<'_>, deciding: &Deciding<'_>) -> Result<()> {
    let alert = if deciding.alert { ", an alert" } else { "" };
    let Deciding { rule, category, operations, tags, techniques, hash, max_hash_size, .. } =
        deciding;
    writeln!(out, "{}", answer.path)?;
    writeln!(out, "  rule        {:?}, severity {}{alert}", rule.rule, rule.severity)?;
    writeln!(out, "  pattern     {}", pattern(rule))?;
    if rule.operations != Operations::ALL {
        writeln!(out, "  operations  {}", operations.join(", "))?;
    }
    match hash {
        true => writeln!(out, "  hashed      up to {max_hash_size} bytes")?,
        false => writeln!(out, "  hashed      no")?,
    }
    if let Some(category) = category {
        writeln!(out, "  category    {category}")?;
    }
    if !tags.is_empty() {
        writeln!(out, "  tags        {}", tags.join(" "))?;
    }
    if !techniques.is_empty() {
        writeln!(out, "  techniques  {}", techniques.join(" "))?;
    }
    if let Some(expect) = deciding.expect {
        writeln!(
            out,
            "  expects     {}",
            match expect {
                "never" => "no change: each is an alert",
                _ => "changes in maintenance windows only: each other one is an alert",
            }
        )?;
    }
    let entries =
        [("only", &deciding.only), ("allows", &deciding.allow), ("suppresses", &deciding.suppress)];
    for (what, conditions) in entries {
        for condition in conditions {
            writeln!(out, "  {what:<11} {condition}")?;
        }
    }
    if let (Some(runner_up), Some(because)) = (answer.others.first(), answer.because) {
        let Other { rule, severity, .. } = runner_up;
        let pattern = pattern(runner_up);
        writeln!(out, "  runner-up   rule {rule:?}, severity {severity}, {pattern}: {because}")?;
    }
    for other in answer.others.iter().skip(1) {
        writeln!(
            out,
            "  and         rule {:?}, severity {}, {}",
            other.rule,
            other.severity,
            pattern(other)
        )?;
    }
    if rule.operations != Operations::ALL && !answer.others.is_empty() {
        writeln!(
            out,
            "  About other operations the first of those rules decides that asks for them."
        )?;
    }
    Ok(())
}

fn pattern(found: &Other<'_>) -> String {
    match &found.base {
        Some(base) => format!("{} (here {base})", quoted(found.pattern)),
        None => quoted(found.pattern),
    }
}

/// In quotes; what Windows separates names by stays as it is written.
pub(crate) fn quoted(text: &str) -> String {
    let quoted = format!("{text:?}");
    if cfg!(windows) { quoted.replace(r"\\", r"\") } else { quoted }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::bare::Bare;

    const POLICY: &str = "
        [[rule]]
        name = 'tree'
        paths = ['ROOT/link']
        severity = 80
        [[rule]]
        name = 'conf'
        paths = ['ROOT/real/*.conf']
        exclude = ['ROOT/real/b.conf']
        operations = ['updated', 'deleted']
        severity = 95
        tags = ['t']
        expect = 'never'
        [[rule.allow]]
        executable = ['/opt/puppet']
        user = ['root']
    ";

    fn explained(name: &str, json: bool) -> (String, String) {
        let temp = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temp.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        let base = root.display().to_string();
        let file = root.join("fim.toml");
        std::fs::write(&file, POLICY.replace("ROOT", &base)).unwrap();
        let mut out = Vec::new();
        assert_eq!(explain(&Bare, &mut out, &root.join(name), Some(&file), json).unwrap(), 0);
        (String::from_utf8(out).unwrap().replace(&base, ""), base)
    }

    #[test]
    fn the_deciding_rule_and_the_runner_up() {
        let (text, _) = explained("link/a.conf", false);
        for want in [
            "/link/a.conf is /real/a.conf\n",
            "  rule        \"conf\", severity 95, an alert\n",
            "  pattern     \"/real/*.conf\"\n",
            "  operations  updated, deleted\n",
            "  tags        t\n",
            "  runner-up   rule \"tree\", severity 80, \"/link\" (here /real): its severity is higher\n",
            "About other operations",
            "  expects     no change: each is an alert\n",
            "  allows      executable /opt/puppet, user root\n",
        ] {
            assert!(text.contains(want), "{want}\nis not in\n{text}");
        }
        let (text, _) = explained("real/b.conf", false);
        assert!(text.contains("rule        \"tree\", severity 80, an alert\n"), "{text}");
        assert!(text.contains("excluded    by \"/real/b.conf\" from rule \"conf\""), "{text}");
    }

    #[test]
    fn a_link_and_what_it_leads_to() {
        let (text, _) = explained("link", false);
        assert!(text.contains("/link\n  rule        \"tree\""), "{text}");
        assert!(
            text.contains("It is a symbolic link to /real:\n/real\n  rule        \"tree\""),
            "{text}"
        );
    }

    #[test]
    fn nothing_watches_it() {
        let (text, _) = explained("other", false);
        assert_eq!(text, "/other\n  not watched: no rule matches\n");
        let (text, _) = explained("other", true);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["answers"][0]["watched"], false);
        let (text, _) = explained("link/a.conf", true);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["answers"][0]["deciding"]["rule"], "conf");
        assert_eq!(answer["answers"][0]["runner_up"], "tree");
        assert_eq!(answer["answers"][0]["others"][0]["base"], "/real");
    }

    #[test]
    fn a_wrong_configuration_is_an_error() {
        let error =
            explain(&Bare, &mut Vec::new(), Path::new("/"), Some(Path::new("/nowhere")), false);
        assert!(error.unwrap_err().is::<fim_common::config::Error>());
    }
}
