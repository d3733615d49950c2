//! The verdict on one change: a pure function of what was done, who did it, what the package
//! database says and what is on disk. `docs/verdicts.md` has the same for people.

use std::path::Path;

use super::verifier::Facts;
use crate::event::{self, Action, Event, Verdict};
use crate::packages::programs::{Program, Role, final_path};
use crate::state::ObjectKind;

/// The part that a package manager had in a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lineage {
    /// The process is the package manager itself, not something that it started.
    pub(super) direct: bool,
    /// The process runs this known program, and it is the one of its package.
    pub(super) program: Option<&'static Program>,
    /// Its run is over: the database says what there is to be.
    pub(super) ended: bool,
    /// The object's attributes are in the end what they were before the run.
    pub(super) restored: bool,
}

/// What is to be said of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Option<Verdict>,
    pub(super) reason: &'static str,
    pub(super) package: Option<event::Package>,
}

const fn judged(verdict: Verdict, reason: &'static str) -> Judged {
    Judged { verdict: Some(verdict), reason, package: None }
}

const NOTHING: Judged = Judged { verdict: None, reason: "", package: None };

/// Judges `event` about `path`; of a rename, `from` has what is known of the earlier name.
pub(super) fn judge(
    event: &Event,
    path: &Path,
    facts: &Facts,
    from: Option<&Facts>,
    lineage: Option<Lineage>,
) -> Judged {
    let owner = facts.owner.as_ref().or_else(|| from.and_then(|from| from.owner.as_ref()));
    let package = owner.map(|(package, _)| event::Package {
        name: package.name.clone(),
        version: package.version.clone(),
        manager: package.manager,
    });
    let judged = match lineage {
        _ if facts.unreadable => judged(Verdict::Unknown, "database_unreadable"),
        Some(lineage) => in_run(event, path, facts, from, lineage),
        None => by_hand(event, facts, from),
    };
    Judged { package, ..judged }
}

/// Nobody but a package manager is to change what packages have.
fn by_hand(event: &Event, facts: &Facts, from: Option<&Facts>) -> Judged {
    use Verdict::{Unexpected, Unknown};
    let is_directory = event.file.as_ref().and_then(|file| file.kind) == Some(ObjectKind::Dir);
    if is_directory {
        return NOTHING;
    }
    let action = event.event.action;
    let taken_away = match action {
        Action::Deleted => facts.owner.as_ref(),
        Action::Moved => {
            from.filter(|from| from.found.state.is_none()).and_then(|from| from.owner.as_ref())
        }
        _ => None,
    };
    if let Some((_, entry)) = taken_away {
        return match entry.configuration {
            true => judged(Unknown, "configuration"),
            false => judged(Unexpected, "package_file_removed"),
        };
    }
    let Some((_, entry)) = &facts.owner else { return NOTHING };
    match action {
        Action::Created | Action::Updated | Action::Moved => match facts.found.matches {
            _ if entry.configuration => judged(Unknown, "configuration"),
            Some(true) if is_of(event, facts) => judged(Unknown, "content_as_packaged"),
            // It has been replaced since by what is as it is to be.
            Some(true) => judged(Unexpected, "content_differs"),
            Some(false) => judged(Unexpected, "content_differs"),
            None if facts.found.state.is_none() => judged(Unknown, "gone"),
            None => judged(Unknown, "not_recorded"),
        },
        Action::AttributesModified => {
            let mode = facts.found.state.as_ref().and_then(|state| state.mode);
            match (entry.mode, mode) {
                (Some(expected), Some(mode)) if expected != mode => {
                    judged(Unexpected, "mode_differs")
                }
                _ => judged(Unknown, "attributes"),
            }
        }
        _ => NOTHING,
    }
}

/// Part of a run of a package manager that is the one of its package.
fn in_run(
    event: &Event,
    path: &Path,
    facts: &Facts,
    from: Option<&Facts>,
    lineage: Lineage,
) -> Judged {
    use Verdict::{Expected, Unexpected, Unknown};
    if let Some(program) = lineage.program {
        if program.generates(path) {
            return judged(Expected, "generated");
        }
        let target = event.file.as_ref().and_then(|file| file.target_path.as_deref());
        let alternatives = Path::new("/etc/alternatives/x");
        if matches!(program.role, Role::Generator(_))
            && program.generates(alternatives)
            && target.is_some_and(|target| target.starts_with("/etc/alternatives/"))
        {
            return judged(Expected, "generated");
        }
    }
    let Lineage { direct, ended, restored, .. } = lineage;
    let gone = facts.found.state.is_none();
    if direct && final_path(path).is_some() {
        return match gone {
            true => judged(Expected, "temporary"),
            false if ended => judged(Unknown, "left_behind"),
            false => judged(Unknown, "run_in_progress"),
        };
    }
    let action = event.event.action;
    let Some((_, entry)) = &facts.owner else {
        let takes_away = match action {
            Action::Deleted => true,
            Action::Moved => from.is_some_and(|from| from.owner.is_none()) && gone,
            // It was there for a moment.
            _ => gone,
        };
        return match (takes_away, direct) {
            (true, true) => judged(Expected, "removed"),
            _ if !direct => judged(Unknown, "maintainer_script"),
            _ if !ended => judged(Unknown, "run_in_progress"),
            _ => judged(Unknown, "not_in_a_package"),
        };
    };
    if gone {
        return match (entry.configuration, ended) {
            (true, _) => judged(Unknown, "configuration"),
            (false, false) => judged(Unknown, "run_in_progress"),
            (false, true) => judged(Unexpected, "package_file_removed"),
        };
    }
    let mode = facts.found.state.as_ref().and_then(|state| state.mode);
    match facts.found.matches {
        // Whoever did it has gained nothing by it.
        Some(true) | None if action == Action::AttributesModified && ended && restored => {
            judged(Expected, "restored")
        }
        Some(true) if action == Action::AttributesModified => match (entry.mode, mode) {
            _ if direct => judged(Expected, "as_packaged"),
            (Some(expected), Some(mode)) if expected == mode => judged(Expected, "as_packaged"),
            _ => judged(Unknown, "maintainer_script"),
        },
        // A script could have changed the database as well.
        Some(true) | None if !direct => judged(Unknown, "maintainer_script"),
        Some(true) if is_of(event, facts) => judged(Expected, "as_packaged"),
        Some(true) => judged(Unknown, "content_differed"),
        Some(false) if entry.configuration => judged(Unknown, "configuration"),
        Some(false) if !ended => judged(Unknown, "run_in_progress"),
        // What came after it is to blame, and says so.
        Some(false) if !is_of(event, facts) => judged(Unknown, "content_differed"),
        Some(false) => judged(Unexpected, "content_differs"),
        None => {
            let kind = facts.found.state.as_ref().and_then(|state| state.kind);
            match kind {
                // dpkg records no more of links and directories than that they are there.
                Some(ObjectKind::Dir | ObjectKind::Symlink) => judged(Expected, "in_the_package"),
                _ if !ended => judged(Unknown, "run_in_progress"),
                _ => judged(Unknown, "not_recorded"),
            }
        }
    }
}

/// Whether the content that the event tells of is the one that was compared, as far as it tells.
fn is_of(event: &Event, facts: &Facts) -> bool {
    let hash = event.file.as_ref().and_then(|file| file.hash.as_ref());
    match (hash, &facts.found.sha256) {
        (Some(told), Some(compared)) => told.sha256 == *compared,
        _ => true,
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
