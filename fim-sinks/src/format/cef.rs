//! ArcSight's Common Event Format, a line for each event.
//!
//! Source: "Implementing ArcSight Common Event Format (CEF)", version 25: header, escapes, keys of
//! the extension and how long their values may be (in characters).

use fim_common::event::{Event, File, Property, Side};
use fim_common::state::ObjectKind;
use serde::Serialize;

use super::{milliseconds, name, severity};

/// The event as a line, without a newline.
pub(super) fn line(event: &Event) -> String {
    let action = event.event.action.as_str();
    let subject = subject(event);
    let mut out = String::with_capacity(1024);
    // The version of the format, vendor, product and its version, class of events, name, severity.
    out.push_str("CEF:0|fim|fim|");
    for field in [
        event.agent.version.as_str(),
        &format!("{subject}.{action}"),
        &format!("{subject} {}", action.replace('_', " ")),
    ] {
        header(&mut out, field);
        out.push('|');
    }
    out.push_str(&((u16::from(severity(event)) + 5) / 10).min(10).to_string());
    out.push('|');
    let mut extension = Extension(out);
    extension.meta(event, subject);
    extension.object(event);
    extension.actor(event);
    extension.custom(event);
    extension.0
}

/// What it is about.
fn subject(event: &Event) -> &'static str {
    use fim_common::event::Category;
    match event.event.category.first() {
        _ if event.registry.is_some() => "registry",
        Some(Category::File) => "file",
        Some(Category::Package) => "package",
        _ => "agent",
    }
}

/// Escapes what a field of the header must not have.
fn header(out: &mut String, field: &str) {
    for character in field.chars() {
        match character {
            '\\' | '|' => out.extend(['\\', character]),
            '\r' | '\n' => out.push(' '),
            _ => out.push(character),
        }
    }
}

/// Keys and values, behind the header.
struct Extension(String);

impl Extension {
    /// A value of at most so many characters.
    fn put(&mut self, key: &str, most: usize, value: Option<&str>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        if !self.0.ends_with('|') {
            self.0.push(' ');
        }
        self.0.push_str(key);
        self.0.push('=');
        for character in value.chars().take(most) {
            match character {
                '\\' | '=' => self.0.extend(['\\', character]),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                _ => self.0.push(character),
            }
        }
    }

    fn number(&mut self, key: &str, value: Option<impl ToString>) {
        self.put(key, 40, value.map(|value| value.to_string()).as_deref());
    }

    /// A value that the format has no key for, and what it is.
    fn labelled(&mut self, key: &str, label: &str, most: usize, value: Option<&str>) {
        if value.is_some_and(|value| !value.is_empty()) {
            self.put(&format!("{key}Label"), 1023, Some(label));
            self.put(key, most, value);
        }
    }

    fn meta(&mut self, event: &Event, subject: &str) {
        self.number("rt", Some(milliseconds(event.timestamp)));
        self.put("externalId", 40, Some(&event.event.id));
        self.put("cat", 1023, Some(subject));
        self.put("act", 63, Some(event.event.action.as_str()));
        self.put("outcome", 63, Some(event.event.outcome.as_str()));
        self.put("reason", 1023, event.fim.errno.as_deref());
        self.put("dvchost", 100, event.host.name.as_deref());
        self.put("deviceExternalId", 255, event.host.id.as_deref());
        let provider = event.event.provider.map(|provider| provider.as_str());
        self.put("deviceFacility", 1023, provider);
        let operations = &event.fim.operations;
        let first = operations.iter().map(|operation| milliseconds(operation.first)).min();
        let last = operations.iter().map(|operation| milliseconds(operation.last)).max();
        self.number("start", first);
        self.number("end", last);
        self.put("msg", 1023, message(event).as_deref());
    }

    fn object(&mut self, event: &Event) {
        if let Some(registry) = &event.registry {
            self.put("filePath", 1023, Some(&registry.path));
            self.put("fname", 1023, Some(name(&registry.path)));
            let kind = if registry.value.is_some() { "registry_value" } else { "registry_key" };
            self.put("fileType", 1023, Some(kind));
        }
        if let Some(file) = &event.file {
            self.file(file);
        }
        if let Some(before) = &event.fim.before {
            self.before(before);
        }
    }

    fn file(&mut self, file: &File) {
        self.put("filePath", 1023, Some(&file.path));
        self.put("fname", 1023, Some(file.name.as_deref().unwrap_or_else(|| name(&file.path))));
        self.put("fileType", 1023, file.kind.map(kind));
        self.number("fsize", file.size);
        self.put("fileId", 1023, file.inode.as_deref());
        self.put("filePermission", 1023, file.mode.as_deref());
        self.number("fileModificationTime", file.mtime.map(milliseconds));
        self.put("fileHash", 255, file.hash.as_ref().map(|hash| hash.sha256.as_str()));
    }

    fn before(&mut self, before: &Side) {
        self.put("oldFilePath", 1023, before.path.as_deref());
        self.put("oldFileName", 1023, before.path.as_deref().map(name));
        self.put("oldFileType", 1023, before.kind.map(kind));
        self.number("oldFileSize", before.size);
        self.put("oldFileId", 1023, before.inode.as_deref());
        self.put("oldFilePermission", 1023, before.mode.as_deref());
        self.number("oldFileModificationTime", before.mtime.map(milliseconds));
        self.put("oldFileHash", 255, before.sha256.as_deref());
    }

    fn actor(&mut self, event: &Event) {
        if let Some(process) = &event.process {
            self.number("spid", Some(process.pid));
            let program = process.executable.as_deref().or(process.name.as_deref());
            self.put("sproc", 1023, program);
            let line = process.command_line.as_deref();
            self.labelled("cs2", "processCommandLine", 4000, line);
        }
        if let Some(user) = &event.user {
            self.put("suid", 1023, user.id.as_deref());
            self.put("suser", 1023, user.name.as_deref());
            // Who logged in, where that is another one.
            let login = user.audit.as_ref();
            let login = login.map(|login| login.name.as_deref().unwrap_or(&login.id));
            self.labelled("flexString2", "loginUser", 1023, login);
        }
    }

    fn custom(&mut self, event: &Event) {
        self.labelled("cs1", "rule", 4000, event.rule.as_ref().map(|rule| rule.name.as_str()));
        let container = event.container.as_ref().map(|container| container.id.as_str());
        self.labelled("cs3", "containerId", 4000, container);
        self.labelled("cs4", "verdict", 4000, event.fim.verdict.as_ref().and_then(word).as_deref());
        let changes: Vec<String> =
            event.fim.changes.iter().filter_map(|change: &Property| word(change)).collect();
        self.labelled("cs5", "changes", 4000, Some(&changes.join(",")));
        let data = event.registry.as_deref().and_then(|registry| registry.data.as_ref());
        let data = data.and_then(|data| match &data.strings {
            Some(strings) => Some(strings.join("\n")),
            None => data.bytes.clone(),
        });
        self.labelled("cs6", "registryData", 4000, data.as_deref());
        let techniques = event.threat.as_ref().map(|threat| threat.technique.id.join(","));
        self.labelled("flexString1", "attackTechnique", 1023, techniques.as_deref());
        self.labelled("cn1", "sequence", 40, Some(&event.event.sequence.to_string()));
    }
}

/// For people: what the agent says; or how the packages changed.
fn message(event: &Event) -> Option<String> {
    if let Some(message) = &event.fim.message {
        return Some(message.clone());
    }
    let run = event.fim.package_run.as_deref().filter(|run| !run.packages.is_empty())?;
    let packages = run.packages.iter().map(|package| {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
        format!("{} {} -> {}", package.name, version(&package.before), version(&package.after))
    });
    Some(packages.collect::<Vec<_>>().join(", "))
}

/// A value as the journal writes it.
fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::File => "file",
        ObjectKind::Dir => "dir",
        ObjectKind::Symlink => "symlink",
        ObjectKind::Fifo => "fifo",
        ObjectKind::Socket => "socket",
        ObjectKind::CharDevice => "char_device",
        ObjectKind::BlockDevice => "block_device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit tests hold the escapes; a parser that is not ours is in the end-to-end tests.
    #[test]
    fn nothing_in_a_value_ends_it() {
        let mut extension = Extension("CEF:0|".to_owned());
        extension.put("a", 99, Some("x=1 y\\ |\nz\r"));
        extension.put("b", 3, Some("äöüß"));
        extension.put("c", 99, Some(""));
        extension.put("d", 99, None);
        assert_eq!(extension.0, "CEF:0|a=x\\=1 y\\\\ |\\nz\\r b=äöü");
        let mut out = String::new();
        header(&mut out, "a|b\\c\nd=");
        assert_eq!(out, "a\\|b\\\\c d=");
    }
}
