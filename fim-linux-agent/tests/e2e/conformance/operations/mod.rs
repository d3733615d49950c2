//! The operations, and what is to come of each.

mod attributes;
mod content;
mod create;
mod failures;
mod flags;
mod links;
mod mounts;
mod names;
mod ranges;
mod trees;

use super::trial::Case;

/// In the order of docs/conformance.md.
pub(super) const TABLES: &[&[Case]] = &[
    create::CASES,
    content::CASES,
    ranges::CASES,
    attributes::CASES,
    flags::CASES,
    names::CASES,
    links::CASES,
    trees::CASES,
    mounts::CASES,
    failures::CASES,
];

#[test]
fn every_operation_has_a_name_of_its_own() {
    let mut names: Vec<_> = TABLES.iter().copied().flatten().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
