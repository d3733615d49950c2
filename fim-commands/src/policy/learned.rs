//! What a run of the collector has taught: what fires how often, because of whom, and what to
//! suppress. Running it is the agent's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use fim_common::config::quoted;
use fim_common::event::Event;
use fim_common::policy::{self, Pattern};
use serde::Serialize;

/// Paths that a suggestion names one by one.
const PATHS: usize = 8;
/// Processes that are shown of an item.
const SHOWN: usize = 3;

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Learned {
    /// For how long.
    seconds: u64,
    /// Changes.
    events: u64,
    /// Who changed what, most first.
    sources: Vec<Source>,
    /// What to add to the configuration; empty: nothing.
    suggestion: String,
    #[serde(skip)]
    seen: Vec<Seen>,
}

/// How often an item fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Noise {
    events: u64,
    /// Who, most first.
    by: Vec<(String, u64)>,
}

/// Changes of one rule by one program and user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Source {
    rule: String,
    /// `None`: nobody could be named.
    executable: Option<String>,
    user: Option<String>,
    events: u64,
    paths: Vec<String>,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Seen {
    rule: String,
    path: String,
    executable: Option<String>,
    user: Option<String>,
}

impl std::fmt::Display for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.events == 0 {
            return f.write_str("quiet");
        }
        let by = self.by.iter().take(SHOWN).map(|(who, count)| format!("{who} ({count})"));
        let by: Vec<String> = by.collect();
        write!(f, "fired {} times: {}", self.events, by.join(", "))
    }
}

impl Learned {
    /// Of what was seen in so long.
    pub fn new(seen: Vec<Seen>, time: Duration) -> Self {
        let sources = sources(&seen);
        let suggestion = suggestion(&sources, time);
        let events = seen.len() as u64;
        Self { seconds: time.as_secs(), events, sources, suggestion, seen }
    }

    /// How often the item `path` of a rule fired.
    pub(super) fn of(&self, rule: &str, path: &str) -> Noise {
        let patterns = Pattern::parse(path).unwrap_or_default();
        let rule = policy::Rule::new(rule, patterns);
        let policy = policy::Policy::new(vec![rule.clone()]).resolved(&policy::canonical);
        let mut by: BTreeMap<String, u64> = BTreeMap::new();
        let of_it = self.seen.iter().filter(|seen| {
            seen.rule == rule.name && policy.covers(Path::new(&seen.path)).is_some()
        });
        for seen in of_it {
            let who = seen.executable.clone().unwrap_or_else(|| "nobody known".to_owned());
            *by.entry(who).or_default() += 1;
        }
        let mut by: Vec<(String, u64)> = by.into_iter().collect();
        by.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Noise { events: by.iter().map(|(_, count)| count).sum(), by }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let Self { seconds, events, suggestion, .. } = self;
        writeln!(out, "\nWatched for {seconds} s: {events} changes.")?;
        if suggestion.is_empty() {
            writeln!(out, "Nothing to suppress.")?;
        } else {
            writeln!(out, "To count these instead of telling each, if you know them, add to the")?;
            writeln!(out, "configuration:\n\n{suggestion}")?;
        }
        Ok(())
    }
}

/// By rule, program and user, most first.
fn sources(seen: &[Seen]) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for Seen { rule, path, executable, user } in seen {
        let same = |source: &&mut Source| {
            source.rule == *rule && source.executable == *executable && source.user == *user
        };
        match sources.iter_mut().find(same) {
            Some(source) => {
                source.events += 1;
                if !source.paths.contains(path) {
                    source.paths.push(path.clone());
                }
            }
            None => sources.push(Source {
                rule: rule.clone(),
                executable: executable.clone(),
                user: user.clone(),
                events: 1,
                paths: vec![path.clone()],
            }),
        }
    }
    for source in &mut sources {
        source.paths.sort_unstable();
    }
    sources.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.paths.cmp(&b.paths)));
    sources
}

/// The configuration that suppresses these: as narrow as what was seen, by rule.
fn suggestion(sources: &[Source], time: Duration) -> String {
    let mut text = String::new();
    let mut rules: Vec<&str> = sources.iter().map(|source| source.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    for rule in rules {
        let _ = writeln!(text, "[[adjust]]\nrule = {}\n", quoted(rule));
        for source in sources.iter().filter(|source| source.rule == rule) {
            let paths = narrowed(&source.paths);
            let _ = writeln!(text, "[[adjust.suppress]]");
            if let Some(executable) = &source.executable {
                let _ = writeln!(text, "executable = [{}]", quoted(&literal(executable)));
            }
            if let Some(user) = &source.user {
                let _ = writeln!(text, "user = [{}]", quoted(user));
            }
            let _ = writeln!(
                text,
                "paths = [{}]",
                paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ")
            );
            let (seen, seconds) = (source.events, time.as_secs());
            let reason = match seen {
                1 => format!("1 change in {seconds} s was learned"),
                _ => format!("{seen} changes in {seconds} s were learned"),
            };
            let _ = writeln!(text, "reason = {}\n", quoted(&reason));
        }
    }
    text
}

/// As they are, or the directories where there are many.
fn narrowed(paths: &[String]) -> Vec<String> {
    if paths.len() <= PATHS {
        return paths.iter().map(|path| literal(path)).collect();
    }
    let directories = paths.iter().filter_map(|path| Path::new(path).parent());
    let mut directories: Vec<String> =
        directories.map(|path| format!("{}/*", literal(&path.to_string_lossy()))).collect();
    directories.sort_unstable();
    directories.dedup();
    directories
}

/// The text of a pattern that matches this path and no other characters.
fn literal(path: &str) -> String {
    Pattern::literal(PathBuf::from(path)).source().to_owned()
}

impl Seen {
    /// Of an event; `None`: it tells of no change of a file.
    pub fn of(event: &Event) -> Option<Self> {
        let user = event.user.as_ref().and_then(|user| user.effective.as_ref());
        Some(Self {
            rule: event.rule.as_ref()?.name.to_string(),
            path: event.file.as_ref()?.path.clone(),
            executable: event.process.as_ref().and_then(|process| process.executable.clone()),
            user: user.map(|user| user.name.as_ref().unwrap_or(&user.id).clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use fim_common::config::Config;

    use super::*;

    fn seen(rule: &str, path: &str, executable: Option<&str>) -> Seen {
        Seen {
            rule: rule.to_owned(),
            path: path.to_owned(),
            executable: executable.map(str::to_owned),
            user: executable.map(|_| "root".to_owned()),
        }
    }

    #[test]
    fn a_suggestion_suppresses_what_was_seen_and_no_more() {
        let mut all = vec![
            seen("system-configuration", "/etc/resolv.conf", Some("/usr/sbin/NetworkManager")),
            seen("system-configuration", "/etc/resolv.conf", Some("/usr/sbin/NetworkManager")),
            seen("scheduled-jobs", "/etc/cron.daily/[x]", None),
        ];
        for number in 0..20 {
            let path = format!("/usr/local/bin/tool{number}");
            all.push(seen("local-programs", &path, Some("/usr/bin/rsync")));
        }
        let learned = Learned::new(all, Duration::from_secs(600));
        assert_eq!(learned.events, 23);
        let text = format!("sets = [\"recommended\"]\n{}", learned.suggestion);
        let config = Config::parse(&text, Path::new("f")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let named = |name: &str| config.rules.iter().find(|rule| rule.name == name).unwrap();
        let entry = &named("system-configuration").suppress[0];
        assert!(entry.executables[0].matches(Path::new("/usr/sbin/NetworkManager")));
        assert!(entry.paths[0].matches(Path::new("/etc/resolv.conf")));
        assert!(!entry.paths[0].matches(Path::new("/etc/other.conf")));
        assert_eq!(entry.users, ["root"]);
        let nobody = &named("scheduled-jobs").suppress[0];
        assert!(nobody.executables.is_empty());
        assert!(nobody.paths[0].matches(Path::new("/etc/cron.daily/[x]")));
        let many = &named("local-programs").suppress[0];
        assert_eq!(many.paths.len(), 1);
        assert!(many.paths[0].matches(Path::new("/usr/local/bin/tool3")));

        let noise = learned.of("system-configuration", "/etc/*.conf");
        assert_eq!(noise.to_string(), "fired 2 times: /usr/sbin/NetworkManager (2)");
        assert_eq!(learned.of("boot", "/boot").to_string(), "quiet");
    }
}
