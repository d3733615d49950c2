//! One line for people: `14:03:22.117 updated /etc/hosts by vim[812] …`.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::actor::{Process, User, UserId};
use super::{Action, Event, File, Fim, Kind, Outcome, Property, RegistryData, Side, Verdict};
use crate::state::HashState;
use crate::time::Timestamp;

/// Characters of a command line that are shown.
const COMMAND_LINE: usize = 120;
/// Digits of a hash that are shown.
const DIGITS: usize = 12;

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";

/// The event in one line, without a newline: local time, action, path, who, what changed. Control
/// characters of paths and command lines are escaped, so that a file's name cannot forge a line or
/// a terminal's command. `color` adds ANSI colours.
pub fn pretty(event: &Event, color: bool) -> String {
    pretty_in(event, color, &TimeZone::system())
}

/// [`pretty`] in a given time zone.
fn pretty_in(event: &Event, color: bool, zone: &TimeZone) -> String {
    let mut line = Line { text: String::with_capacity(256), color };
    line.styled(DIM, &clock(event.timestamp, zone));
    line.text.push(' ');
    let (style, mark) = look(event);
    line.styled(style, &format!("{mark}{:<10}", action(event.event.action)));
    if event.event.outcome == Outcome::Failure {
        line.styled(RED, &format!(" failed ({})", event.fim.errno.as_deref().unwrap_or("error")));
    }
    what_to(&mut line, event);
    who(&mut line, event);
    if let Some(rule) = &event.rule {
        line.styled(DIM, &format!("  [{}]", escaped(&rule.name)));
    }
    line.text
}

/// What it is about and what changed, in one line, without who did it: as in [`pretty`].
pub fn what(event: &Event) -> String {
    let mut line = Line { text: String::new(), color: false };
    if event.event.outcome == Outcome::Failure {
        line.text.push_str(&format!("failed ({})", event.fim.errno.as_deref().unwrap_or("error")));
    }
    what_to(&mut line, event);
    line.text.trim_start().to_owned()
}

fn what_to(line: &mut Line, event: &Event) {
    if let Some(file) = &event.file {
        line.text.push(' ');
        if event.event.action == Action::Moved
            && let Some(from) = event.fim.before.as_ref().and_then(|side| side.path.as_deref())
        {
            line.styled(BOLD, &format!("{} -> ", escaped(from)));
        }
        line.styled(BOLD, &escaped(&file.path));
        if let Some(target) = &file.target_path {
            let _ = write!(line.text, " -> {}", escaped(target));
        }
    }
    if let Some(registry) = &event.registry {
        line.text.push(' ');
        line.styled(BOLD, &escaped(&registry.path));
        if let Some(data) = &registry.data {
            let _ = write!(line.text, "  {}", registry_data(data));
        }
    }
    if let Some(message) = &event.fim.message {
        let _ = write!(line.text, " {}", escaped(message));
    }
    gap(line, &event.fim);
    package_run(line, &event.fim);
    let changes = changes(event);
    if !changes.is_empty() {
        let _ = write!(line.text, "  {}", changes.join(", "));
    }
}

struct Line {
    text: String,
    color: bool,
}

impl Line {
    fn styled(&mut self, style: &str, text: &str) {
        if self.color {
            let _ = write!(self.text, "{style}{text}{RESET}");
        } else {
            self.text.push_str(text);
        }
    }
}

/// `HH:MM:SS.mmm`.
fn clock(time: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_nanosecond(time.as_nanos()) {
        Ok(instant) => instant.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => "--:--:--.---".to_owned(),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::AttributesModified => "attributes",
        action => action.as_str(),
    }
}

fn look(event: &Event) -> (&'static str, &'static str) {
    if event.event.kind == Kind::Alert {
        return (RED, "! ");
    }
    let style = match event.event.action {
        Action::Created | Action::Linked | Action::Mounted => GREEN,
        Action::Deleted
        | Action::Unmounted
        | Action::Gap
        | Action::CanaryMissed
        | Action::AgentKilled
        | Action::AgentTampered
        | Action::ClockChanged
        | Action::JournalDropped
        | Action::JournalFull
        | Action::JournalTruncated => RED,
        Action::Updated | Action::AttributesModified | Action::Moved => YELLOW,
        Action::AgentStarted
        | Action::AgentStopped
        | Action::ConfigChanged
        | Action::GapClosed
        | Action::Suppressed
        | Action::Heartbeat
        | Action::PackageRun
        | Action::BaselineCreated
        | Action::BaselineAccepted => BLUE,
    };
    (style, "")
}

/// `apt: openssh-client 1:9.2-1 -> 1:9.2-2; 84 files as expected, 1 unknown: /etc/x`; of the change
/// of one file what is said of it.
fn package_run(line: &mut Line, fim: &Fim) {
    const SHOWN: usize = 6;
    if let Some(verdict) = fim.verdict {
        let word = match verdict {
            Verdict::Expected => "expected",
            Verdict::Unexpected => "unexpected",
            Verdict::Unknown => "unknown",
        };
        let _ = write!(line.text, " ({word}");
        if let Some(reason) = &fim.verdict_reason {
            let _ = write!(line.text, ": {}", escaped(reason));
        }
        if let Some(package) = &fim.package {
            let _ = write!(line.text, ", {} {}", escaped(&package.name), escaped(&package.version));
        }
        line.text.push(')');
    }
    let Some(run) = &fim.package_run else { return };
    let Some(files) = &run.files else { return };
    let _ = write!(line.text, " {}:", escaped(&run.manager));
    for (number, package) in run.packages.iter().take(SHOWN).enumerate() {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".into());
        let (before, after) = (version(&package.before), version(&package.after));
        let comma = if number > 0 { "," } else { "" };
        let _ = write!(line.text, "{comma} {}", escaped(&package.name));
        if before == after {
            let _ = write!(line.text, " {} again", escaped(&after));
        } else {
            let _ = write!(line.text, " {} -> {}", escaped(&before), escaped(&after));
        }
    }
    let omitted = usize::try_from(run.packages_omitted.unwrap_or(0)).unwrap_or(usize::MAX);
    let more = run.packages.len().saturating_sub(SHOWN).saturating_add(omitted);
    if more > 0 {
        let _ = write!(line.text, " and {more} more");
    }
    let separator = if run.packages.is_empty() { "" } else { ";" };
    let _ = write!(line.text, "{separator} {} files as expected", files.expected);
    for (count, word, paths) in [
        (files.unknown, "unknown", &files.unknown_paths),
        (files.unexpected, "unexpected", &files.unexpected_paths),
    ] {
        if count > 0 {
            let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| escaped(path)).collect();
            let _ = write!(line.text, ", {count} {word}: {}", shown.join(", "));
            if count > shown.len() as u64 {
                line.text.push_str(", …");
            }
        }
    }
}

/// `REG_SZ "text"`; bytes in base64 where they are neither text nor number.
fn registry_data(data: &RegistryData) -> String {
    let mut words = vec![escaped(data.kind.as_deref().unwrap_or("data"))];
    match (&data.strings, &data.bytes) {
        (Some(strings), _) => {
            words.extend(strings.iter().map(|text| shortened(text, COMMAND_LINE)))
        }
        (None, Some(bytes)) => words.push(shortened(bytes, COMMAND_LINE)),
        (None, None) => {}
    }
    words.join(" ")
}

fn gap(line: &mut Line, fim: &Fim) {
    let Some(gap) = &fim.gap else { return };
    let count = gap.count.map_or("an unknown number of".to_owned(), |count| count.to_string());
    let milliseconds = gap.to.since(gap.from) / 1_000_000;
    let _ = write!(line.text, " {count} operations lost within {milliseconds} ms");
    if !gap.hooks.is_empty() {
        let _ = write!(line.text, " in {}", escaped(&gap.hooks.join(", ")));
    }
    if !gap.scope.is_empty() {
        let _ = write!(line.text, " below {}", escaped(&gap.scope.join(", ")));
    }
}

/// What changed, or what there is now.
fn changes(event: &Event) -> Vec<String> {
    let nothing = Side::default();
    let before = event.fim.before.as_deref().unwrap_or(&nothing);
    let after = event.fim.after.as_deref().unwrap_or(&nothing);
    let mut words = Vec::new();
    for property in &event.fim.changes {
        match property {
            // A registry value's data is told beside its name.
            Property::Content if event.registry.is_some() => {}
            Property::Content => words.push(content(before, after, event.fim.hash_state)),
            Property::Size => words.push(pair("size", &before.size, &after.size)),
            Property::Mode => words.push(pair("mode", &before.mode, &after.mode)),
            Property::Uid => words.push(pair("uid", &before.uid, &after.uid)),
            Property::Gid => words.push(pair("gid", &before.gid, &after.gid)),
            Property::Type => {
                let name = |side: &Side| side.kind.map(|kind| format!("{kind:?}").to_lowercase());
                words.push(pair("type", &name(before), &name(after)));
            }
            Property::Acl => {
                let text = |side: &Side| side.acl.as_ref().map(|acl| list(acl));
                words.push(pair("acl", &text(before), &text(after)));
            }
            Property::Capabilities => {
                let text =
                    |side: &Side| side.capabilities.as_deref().map(|text| named(text, "none"));
                words.push(pair("capabilities", &text(before), &text(after)));
            }
            Property::Attributes => {
                let text = |side: &Side| side.attributes.as_ref().map(|names| list(names));
                words.push(pair("attributes", &text(before), &text(after)));
            }
            Property::TargetPath => {
                let text = |side: &Side| side.target_path.as_deref().map(escaped);
                words.push(pair("target", &text(before), &text(after)));
            }
            Property::Xattrs => words.push(xattrs(before, after)),
            Property::Security => words.push("security".to_owned()),
            // Times follow from the rest; alone they are the change.
            Property::Mtime if event.fim.changes.len() == 1 => words.push("mtime".to_owned()),
            Property::Existence | Property::Path | Property::Mtime | Property::Inode => {}
        }
    }
    if words.is_empty()
        && let Some(file) = &event.file
    {
        words.extend(present(file, event.fim.hash_state, event.event.action));
    }
    words
}

/// Of an object that came to be, or is gone: what it is, or was.
fn present(file: &File, hash: Option<HashState>, action: Action) -> Vec<String> {
    let mut words = Vec::new();
    if !matches!(action, Action::Created | Action::Linked | Action::Moved | Action::Deleted) {
        return words;
    }
    if let Some(mode) = &file.mode {
        words.push(format!("mode {mode}"));
    }
    if let Some(size) = file.size
        && file.hash.is_some()
    {
        words.push(format!("{size} bytes"));
    }
    match (&file.hash, hash) {
        (Some(hash), _) => words.push(format!("sha256 {}", short(&hash.sha256))),
        (None, Some(state)) if action != Action::Deleted => words.extend(unhashed(state)),
        _ => {}
    }
    words
}

fn content(before: &Side, after: &Side, state: Option<HashState>) -> String {
    let unknown = || state.and_then(unhashed).unwrap_or_else(|| "?".to_owned());
    let old = before.sha256.as_deref().map_or("?".to_owned(), short);
    let new = after.sha256.as_deref().map_or_else(unknown, short);
    format!("sha256 {old} -> {new}")
}

fn unhashed(state: HashState) -> Option<String> {
    Some(match state {
        HashState::Exact | HashState::Skipped => return None,
        HashState::Raced => "(changed while read)".to_owned(),
        HashState::TooLarge => "(too large to hash)".to_owned(),
        HashState::Gone => "(gone before it was read)".to_owned(),
        HashState::Denied => "(could not be read)".to_owned(),
    })
}

fn xattrs(before: &Side, after: &Side) -> String {
    let (Some(before), Some(after)) = (&before.xattrs, &after.xattrs) else {
        return "xattrs".to_owned();
    };
    let mut words = Vec::new();
    for (name, value) in after {
        match before.get(name) {
            None => words.push(format!("+{}", escaped(name))),
            Some(old) if old != value => words.push(format!("~{}", escaped(name))),
            Some(_) => {}
        }
    }
    words.extend(
        before.keys().filter(|name| !after.contains_key(*name)).map(|n| format!("-{}", escaped(n))),
    );
    format!("xattrs {}", words.join(" "))
}

fn pair<T: ToString>(name: &str, before: &Option<T>, after: &Option<T>) -> String {
    let text = |value: &Option<T>| value.as_ref().map_or("?".to_owned(), T::to_string);
    format!("{name} {} -> {}", text(before), text(after))
}

fn list(entries: &[String]) -> String {
    if entries.is_empty() { "none".to_owned() } else { entries.join(",") }
}

fn named(text: &str, empty: &str) -> String {
    if text.is_empty() { empty.to_owned() } else { escaped(text) }
}

fn short(hash: &str) -> String {
    hash.chars().take(DIGITS).collect()
}

fn who(line: &mut Line, event: &Event) {
    if let Some(process) = &event.process {
        line.text.push_str("  by ");
        line.styled(BOLD, &name(process));
        let command = process
            .command_line
            .clone()
            .or_else(|| process.args.as_ref().map(|args| args.join(" ")));
        if let Some(command) = command {
            let _ = write!(line.text, " ({})", shortened(&command, COMMAND_LINE));
        }
    }
    if let Some(user) = event.user.as_deref().and_then(users) {
        let _ = write!(line.text, " as {user}");
    }
    if let Some(kubernetes) = &event.kubernetes
        && let (Some(pod), Some(namespace)) = (&kubernetes.pod.name, &kubernetes.namespace)
    {
        let _ = write!(line.text, " in pod {}/{}", escaped(namespace), escaped(pod));
    }
    if let Some(container) = &event.container {
        let _ = write!(line.text, " in container {}", short(&escaped(&container.id)));
        if let Some(name) = &container.name {
            let _ = write!(line.text, " ({})", escaped(name));
        }
    }
}

fn name(process: &Process) -> String {
    match &process.name {
        Some(name) => format!("{}[{}]", escaped(name), process.pid),
        None => format!("process {}", process.pid),
    }
}

/// Who logged in, and as whom the process acts, where that differs.
pub fn users(user: &User) -> Option<String> {
    let text = |user: &UserId| user.name.as_deref().map_or_else(|| user.id.clone(), escaped);
    let real = || {
        let id = user.id.clone()?;
        Some(text(&UserId { id, name: user.name.clone() }))
    };
    let effective = user.effective.as_ref().map(text).or_else(real);
    let login = user.audit.as_ref().map(text);
    match (login, effective) {
        (Some(login), Some(effective)) if login != effective => {
            Some(format!("{login} -> {effective}"))
        }
        (login, effective) => effective.or(login),
    }
}

/// [`escaped`], of at most as many characters.
pub(crate) fn shortened(long: &str, most: usize) -> String {
    let mut text: String = long.chars().take(most).collect();
    if text.len() < long.len() {
        text.push('…');
    }
    escaped(&text)
}

/// Text without characters that would end the line or command the terminal: C0 and C1 controls,
/// the Unicode line ends, and those that reverse the direction of what follows.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{2028}'
            | '\u{2029}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{061c}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            character if character.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
#[path = "pretty_tests.rs"]
mod tests;
