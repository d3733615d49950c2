//! The table of docs/verdicts.md.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::event::{Hash, Manager};
use crate::packages::programs::program;
use crate::packages::{Databases, Entry, Found, Index};
use crate::state::ObjectState;

const PATH: &str = "/usr/bin/sample";

/// An event as the schema has it, with what a verdict looks at.
fn event(action: Action, kind: ObjectKind, sha256: Option<&str>) -> Event {
    let mut event: Event = serde_json::from_value(serde_json::json!({
        "@timestamp": "2026-01-02T03:04:05.000000000Z",
        "event": {
            "id": "x", "sequence": 1, "kind": "event", "category": ["file"], "type": ["change"],
            "action": "updated", "outcome": "success",
        },
        "file": {"path": PATH},
        "host": {"name": "h", "os": {"type": "linux"}},
        "agent": {"type": "fim", "version": "0", "ephemeral_id": "x"},
        "fim": {},
    }))
    .unwrap();
    event.event.action = action;
    let file = event.file.as_mut().unwrap();
    file.kind = Some(kind);
    file.hash = sha256.map(|sha256| Hash { sha256: sha256.to_owned() });
    event
}

/// A package, from a database of apk, which takes nothing to make.
fn entry() -> (crate::packages::Package, Entry) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lib/apk/db");
    std::fs::create_dir_all(&path).unwrap();
    let sum = "Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let text = format!("P:sample\nV:1-r0\nF:usr/bin\nR:sample\na:0:0:755\nZ:{sum}\n\n");
    std::fs::write(path.join("installed"), text).unwrap();
    let databases = Databases::new(root.path());
    let index = Index::read(&databases).unwrap();
    let path = PathBuf::from(PATH);
    let package = index.owners(&path).next().unwrap().clone();
    let mut entries = databases.entries(&package, &HashSet::from([path.clone()])).unwrap();
    (package, entries.remove(&path).unwrap())
}

fn facts(owned: bool, kind: Option<ObjectKind>, matches: Option<bool>) -> Facts {
    let state = kind.map(|kind| ObjectState {
        kind: Some(kind),
        mode: Some(0o755),
        ..ObjectState::default()
    });
    let found = Found { state, matches, sha256: matches.map(|_| "current".to_owned()) };
    Facts { owner: owned.then(entry), found, unreadable: false }
}

fn by(direct: bool, ended: bool) -> Option<Lineage> {
    Some(Lineage { direct, program: None, ended, restored: false })
}

fn verdict(
    event: &Event,
    facts: &Facts,
    lineage: Option<Lineage>,
) -> (Option<Verdict>, &'static str) {
    let judged = judge(event, Path::new(PATH), facts, None, lineage);
    assert_eq!(judged.package.is_some(), facts.owner.is_some());
    if let Some(package) = judged.package {
        assert_eq!((package.name.as_str(), package.manager), ("sample", Manager::Apk));
    }
    (judged.verdict, judged.reason)
}

const FILE: ObjectKind = ObjectKind::File;
const EXPECTED: Option<Verdict> = Some(Verdict::Expected);
const UNEXPECTED: Option<Verdict> = Some(Verdict::Unexpected);
const UNKNOWN: Option<Verdict> = Some(Verdict::Unknown);

#[test]
fn only_the_package_manager_and_the_right_content_are_expected() {
    let updated = event(Action::Updated, FILE, Some("current"));
    let right = facts(true, Some(FILE), Some(true));
    let wrong = facts(true, Some(FILE), Some(false));
    assert_eq!(verdict(&updated, &right, by(true, true)), (EXPECTED, "as_packaged"));
    assert_eq!(verdict(&updated, &right, by(false, true)), (UNKNOWN, "maintainer_script"));
    assert_eq!(verdict(&updated, &right, None), (UNKNOWN, "content_as_packaged"));
    for lineage in [by(true, true), by(false, true), None] {
        assert_eq!(verdict(&updated, &wrong, lineage), (UNEXPECTED, "content_differs"));
    }
    // The database may not be up to date yet.
    assert_eq!(verdict(&updated, &wrong, by(true, false)), (UNKNOWN, "run_in_progress"));
    // Right now, but not what this event tells of.
    let other = event(Action::Updated, FILE, Some("other"));
    assert_eq!(verdict(&other, &right, by(true, true)), (UNKNOWN, "content_differed"));
    // Wrong now, by what came after this.
    assert_eq!(verdict(&other, &wrong, by(true, true)), (UNKNOWN, "content_differed"));
    assert_eq!(verdict(&other, &right, None), (UNEXPECTED, "content_differs"));
}

#[test]
fn configuration_is_for_people() {
    let updated = event(Action::Updated, FILE, Some("current"));
    let mut wrong = facts(true, Some(FILE), Some(false));
    if let Some((_, entry)) = &mut wrong.owner {
        entry.configuration = true;
    }
    for lineage in [by(true, true), by(false, true), None] {
        assert_eq!(verdict(&updated, &wrong, lineage), (UNKNOWN, "configuration"));
    }
}

#[test]
fn what_is_taken_away_has_to_be_nobody_s() {
    let deleted = event(Action::Deleted, FILE, None);
    let (owned, free) = (facts(true, None, None), facts(false, None, None));
    assert_eq!(verdict(&deleted, &free, by(true, true)), (EXPECTED, "removed"));
    assert_eq!(verdict(&deleted, &free, by(false, true)), (UNKNOWN, "maintainer_script"));
    assert_eq!(verdict(&deleted, &free, None), (None, ""));
    assert_eq!(verdict(&deleted, &owned, by(true, true)), (UNEXPECTED, "package_file_removed"));
    assert_eq!(verdict(&deleted, &owned, None), (UNEXPECTED, "package_file_removed"));
}

#[test]
fn what_no_package_has_is_not_expected() {
    let created = event(Action::Created, FILE, Some("current"));
    let free = facts(false, Some(FILE), None);
    assert_eq!(verdict(&created, &free, by(true, true)), (UNKNOWN, "not_in_a_package"));
    assert_eq!(verdict(&created, &free, by(false, true)), (UNKNOWN, "maintainer_script"));
    assert_eq!(verdict(&created, &free, None), (None, ""));
}

#[test]
fn known_programs_make_what_is_their_own() {
    let made = event(Action::Updated, FILE, Some("current"));
    let free = facts(false, Some(FILE), None);
    let program = program(Path::new("/usr/sbin/ldconfig"), &[""; 0]);
    let lineage = Some(Lineage { direct: false, program, ended: true, restored: false });
    let judged = |path: &str| judge(&made, Path::new(path), &free, None, lineage).verdict;
    assert_eq!(judged("/etc/ld.so.cache"), EXPECTED);
    assert_eq!(judged("/etc/ld.so.preload"), UNKNOWN);
    // Outside of a run it is nobody's business.
    assert_eq!(judge(&made, Path::new("/etc/ld.so.cache"), &free, None, None).verdict, None);
}

#[test]
fn attributes_are_compared_where_they_are_recorded() {
    let changed = event(Action::AttributesModified, FILE, None);
    let mut right = facts(true, Some(FILE), Some(true));
    assert_eq!(verdict(&changed, &right, None), (UNKNOWN, "attributes"));
    assert_eq!(verdict(&changed, &right, by(false, true)), (EXPECTED, "as_packaged"));
    right.found.state.as_mut().unwrap().mode = Some(0o4755);
    assert_eq!(verdict(&changed, &right, None), (UNEXPECTED, "mode_differs"));
    assert_eq!(verdict(&changed, &right, by(false, true)), (UNKNOWN, "maintainer_script"));
}

#[test]
fn a_database_that_cannot_be_read_says_nothing() {
    let updated = event(Action::Updated, FILE, Some("current"));
    let facts = Facts { unreadable: true, ..facts(false, Some(FILE), None) };
    for lineage in [by(true, true), by(false, true), None] {
        assert_eq!(verdict(&updated, &facts, lineage), (UNKNOWN, "database_unreadable"));
    }
}

#[test]
fn a_script_may_put_attributes_back() {
    let chmod = event(Action::AttributesModified, FILE, None);
    let mut right = facts(true, Some(FILE), Some(true));
    if let Some((_, entry)) = &mut right.owner {
        // As dpkg, which knows none.
        entry.mode = None;
    }
    let back = |ended| Some(Lineage { direct: false, program: None, ended, restored: true });
    assert_eq!(verdict(&chmod, &right, back(true)), (EXPECTED, "restored"));
    assert_eq!(verdict(&chmod, &right, back(false)), (UNKNOWN, "maintainer_script"));
    assert_eq!(verdict(&chmod, &right, by(false, true)), (UNKNOWN, "maintainer_script"));
    // Not by whom the run does not know, nor of other content, nor of what no package has.
    assert_eq!(verdict(&chmod, &right, None), (UNKNOWN, "attributes"));
    let wrong = facts(true, Some(FILE), Some(false));
    assert_eq!(verdict(&chmod, &wrong, back(true)), (UNEXPECTED, "content_differs"));
    let updated = event(Action::Updated, FILE, Some("current"));
    assert_eq!(verdict(&updated, &right, back(true)), (UNKNOWN, "maintainer_script"));
    let free = facts(false, Some(FILE), None);
    assert_eq!(verdict(&chmod, &free, back(true)), (UNKNOWN, "maintainer_script"));
}
