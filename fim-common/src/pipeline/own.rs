//! What others do to what belongs to the agent: its program, and its state while it runs. Whoever
//! changes these is named, whatever the policy watches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Pipeline;
use super::steps::same;
use crate::event::actor::Actor;
use crate::operation::{Modified, Operation, OperationKind};

/// Paths that one event names; of the rest it has the number.
const NAMED: usize = 8;
/// Processes whose deeds are gathered for one round of telling; of more, each path counts to the
/// last one.
const ACTORS: usize = 64;

/// Where readers keep how far they have got; the first one makes it.
const CURSORS: &str = "journal/cursors";

/// One process's deeds since they were told last.
#[derive(Debug)]
pub(super) struct Meddling {
    pub(super) actor: Arc<Actor>,
    /// What was done last to each path.
    paths: BTreeMap<PathBuf, &'static str>,
    more: u64,
    /// Nothing but the program was changed.
    only_program: bool,
}

/// What is looked after, and what was done to it.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The program, by all its names.
    program: Vec<PathBuf>,
    /// The state directory.
    state: Option<PathBuf>,
    found: Vec<Meddling>,
}

impl Own {
    /// Takes note of an operation. What the agent does itself does not come here.
    pub(super) fn note(&mut self, operation: &Operation) {
        let Some(path) = &operation.path else { return };
        let from = match &operation.kind {
            OperationKind::Rename { from: Some(from), .. } => Some(from),
            _ => None,
        };
        let Some(path) = [Some(path), from].into_iter().flatten().find(|path| self.has(path))
        else {
            return;
        };
        let first_cursor = operation.kind == OperationKind::Create && path.ends_with(CURSORS);
        let reads = self.is_reader(operation, path);
        if operation.failure.is_none() && !first_cursor && !reads && changes(&operation.kind, path)
        {
            self.add(operation, path);
        }
    }

    /// Whether it is the end of a reader of the baseline (`fim check`): what the agent writes to the
    /// log (`-wal`) while a reader has that open looks like the reader's at its close. Only the
    /// agent's own program passes for one.
    fn is_reader(&self, operation: &Operation, path: &Path) -> bool {
        let process = operation.actor.process.as_ref();
        let executable = process.and_then(|process| process.executable.as_deref());
        matches!(operation.kind, OperationKind::CloseWrite { .. })
            && path.as_os_str().as_encoded_bytes().ends_with(b"-wal")
            && executable.is_some_and(|executable| {
                self.program.iter().any(|program| program.as_os_str() == executable)
            })
    }

    fn has(&self, path: &Path) -> bool {
        // As bytes: this is asked of each operation.
        let bytes = path.as_os_str().as_encoded_bytes();
        let begins = |state: &PathBuf| bytes.starts_with(state.as_os_str().as_encoded_bytes());
        let state = self.state.as_ref().filter(|state| begins(state));
        let below = state.and_then(|state| path.strip_prefix(state).ok());
        self.program.iter().any(|program| program.as_os_str() == path.as_os_str())
            || below.is_some_and(|below| !is_cursor(below))
    }

    fn add(&mut self, operation: &Operation, path: &Path) {
        let actor = &operation.actor;
        let known = self.found.iter().position(|found| same(&found.actor, actor));
        let at = known.unwrap_or_else(|| {
            if self.found.len() < ACTORS {
                self.found.push(Meddling {
                    actor: Arc::clone(actor),
                    paths: BTreeMap::new(),
                    more: 0,
                    only_program: true,
                });
            }
            self.found.len() - 1
        });
        let found = &mut self.found[at];
        found.only_program &= self.program.iter().any(|program| program == path);
        if found.paths.len() < NAMED || found.paths.contains_key(path) {
            found.paths.insert(path.to_owned(), operation.kind.name());
        } else {
            found.more += 1;
        }
    }
}

impl Meddling {
    /// For people.
    pub(super) fn message(&self) -> String {
        let what = if self.only_program { "program" } else { "files" };
        let paths = self.paths.iter().map(|(path, done)| format!("{} ({done})", path.display()));
        let mut text = format!(
            "another process has changed the agent's own {what}: {}",
            paths.collect::<Vec<_>>().join(", ")
        );
        if self.more > 0 {
            text.push_str(&format!(", and {} more", self.more));
        }
        text
    }

    /// A package manager has replaced the program, as it does when the package is upgraded.
    pub(super) fn is_upgrade(&self) -> bool {
        let program = self.actor.process.as_ref().and_then(|process| process.program);
        self.only_program && program.is_some_and(|program| program.manager().is_some())
    }
}

/// Whether it is the place of a reader (`fim events --cursor`), which writes that itself; not of a
/// sink.
fn is_cursor(below: &Path) -> bool {
    below.strip_prefix(CURSORS).is_ok_and(|name| {
        !name.as_os_str().is_empty() && !name.as_os_str().as_encoded_bytes().starts_with(b"sink-")
    })
}

/// Whether the operation changes something. Readers of the baseline write to the memory that they
/// share with the agent (SQLite's `-shm`), and give it and the log (`-wal`) the owner of the database
/// when root opens them (robustFchown in SQLite's os_unix.c): `fim check` does.
fn changes(kind: &OperationKind, path: &Path) -> bool {
    let ends = |with: &[u8]| path.as_os_str().as_encoded_bytes().ends_with(with);
    match kind {
        OperationKind::OpenWrite { truncate } => *truncate,
        OperationKind::CloseWrite { modified, .. } => *modified == Modified::Yes,
        OperationKind::Map | OperationKind::EndGroup => false,
        OperationKind::Modify => !ends(b"-shm"),
        OperationKind::SetAttributes => !ends(b"-shm") && !ends(b"-wal"),
        _ => true,
    }
}

impl Pipeline {
    /// Looks after the agent's own program, by all its names, and its state directory: what the
    /// collector tells of others there is an event. The paths are as the collector tells them.
    pub fn look_after(&mut self, program: Vec<PathBuf>, state: PathBuf) {
        // Spelt in one way, as collectors do it: they are compared as bytes.
        let plain = |path: PathBuf| path.components().collect::<PathBuf>();
        let program = program.into_iter().map(plain).collect();
        self.own = Own { program, state: Some(plain(state)), found: Vec::new() };
    }

    /// Tells what others did.
    pub(super) fn tell_meddling(&mut self) {
        for found in std::mem::take(&mut self.own.found) {
            let message = found.message();
            tracing::error!("{message}");
            self.output.meddling(message, &found.actor, found.is_upgrade());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::operation;

    fn own() -> Own {
        let program = vec![PathBuf::from("/usr/bin/fim")];
        Own { program, state: Some("/var/lib/fim".into()), found: Vec::new() }
    }

    fn noted(kind: OperationKind, path: &str) -> Option<String> {
        let mut own = own();
        own.note(&operation(kind, Path::new(path), 7));
        own.found.first().map(Meddling::message)
    }

    #[test]
    fn what_changes_the_program_or_the_state_is_noted() {
        let rename = |from: &str| OperationKind::Rename {
            from: Some(from.into()),
            from_in_scope: true,
            to_in_scope: true,
            replaced: None,
            exchange: false,
        };
        let close = |modified| OperationKind::CloseWrite { writers: Some(0), modified };
        for (kind, path, told) in [
            (OperationKind::Modify, "/usr/bin/fim", true),
            (OperationKind::Modify, "/usr/bin/fimx", false),
            (OperationKind::Delete, "/var/lib/fim/journal/journal-000000000001.jsonl", true),
            (OperationKind::Delete, "/var/lib/fim", true),
            (OperationKind::Modify, "/var/lib/fim/journal/cursors/siem.json", false),
            (OperationKind::Modify, "/var/lib/fim/journal/cursors/sink-siem.json", true),
            (OperationKind::Create, "/var/lib/fim/journal/cursors", false),
            (OperationKind::Delete, "/var/lib/fim/journal/cursors", true),
            (OperationKind::Delete, "/var/lib/fimx", false),
            (OperationKind::SetAttributes, "/var/lib/fim/journal-key.pem", true),
            (OperationKind::SetAttributes, "/var/lib/fim/baseline.db", true),
            (OperationKind::SetAttributes, "/var/lib/fim/baseline.db-wal", false),
            (OperationKind::SetAttributes, "/var/lib/fim/baseline.db-shm", false),
            (OperationKind::OpenWrite { truncate: true }, "/var/lib/fim/lock", true),
            (OperationKind::OpenWrite { truncate: false }, "/var/lib/fim/lock", false),
            (close(Modified::Yes), "/var/lib/fim/lock", true),
            (close(Modified::Unknown), "/var/lib/fim/lock", false),
            (OperationKind::Map, "/var/lib/fim/baseline.db-shm", false),
            (OperationKind::Modify, "/var/lib/fim/baseline.db-shm", false),
            (OperationKind::Modify, "/var/lib/fim/baseline.db-wal", true),
            (rename("/var/lib/fim/baseline.db"), "/root/away", true),
            (rename("/root/mine"), "/var/lib/fim/baseline.db", true),
            (rename("/root/mine"), "/root/yours", false),
        ] {
            let text = noted(kind.clone(), path);
            assert_eq!(text.is_some(), told, "{kind:?} of {path}: {text:?}");
        }
        let mut failed = operation(OperationKind::Delete, Path::new("/var/lib/fim/lock"), 7);
        failed.failure = Some(crate::operation::Failure { errno: 13, folded: 0, summary: false });
        let mut own = own();
        own.note(&failed);
        assert!(own.found.is_empty(), "an attempt changes nothing");
    }

    #[test]
    fn who_reads_the_baseline_changes_nothing() {
        let closed = |path: &str, executable: &str| {
            let kind = OperationKind::CloseWrite { writers: Some(1), modified: Modified::Yes };
            let mut closed = operation(kind, Path::new(path), 7);
            let process = crate::event::actor::Process {
                executable: Some(executable.to_owned()),
                ..crate::event::actor::Process::default()
            };
            closed.actor = Arc::new(Actor { process: Some(process.into()), ..Actor::default() });
            let mut own = own();
            own.note(&closed);
            !own.found.is_empty()
        };
        assert!(!closed("/var/lib/fim/baseline.db-wal", "/usr/bin/fim"), "fim check");
        assert!(closed("/var/lib/fim/baseline.db-wal", "/usr/bin/sqlite3"));
        assert!(closed("/var/lib/fim/baseline.db", "/usr/bin/fim"));
    }

    #[test]
    fn one_process_is_one_event_and_a_hundred_paths_are_a_number() {
        let mut own = own();
        for number in 0..100 {
            let path = format!("/var/lib/fim/contents/{number:03}");
            own.note(&operation(OperationKind::Delete, Path::new(&path), 7));
        }
        own.note(&operation(OperationKind::Modify, Path::new("/usr/bin/fim"), 8));
        assert_eq!(own.found.len(), 2);
        let text = own.found[0].message();
        assert!(text.contains("contents/007") && text.ends_with("and 92 more"), "{text}");
        assert!(own.found[1].only_program && !own.found[0].only_program);
        for pid in 100..300 {
            own.note(&operation(OperationKind::Delete, Path::new("/var/lib/fim/x"), pid));
        }
        assert_eq!(own.found.len(), ACTORS);
    }
}
