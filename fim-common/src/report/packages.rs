//! What package managers did, and what their databases say of a change.

use maud::{Markup, html};

use super::facts::Facts;
use super::page::{at, number, text};
use super::sections::who;
use crate::event::{Event, PackageRun, Verdict};

/// Packages of a run, and paths of it that are not as expected, that are named.
const NAMED: usize = 20;

/// The verdict on a change, and of which package the file is.
pub(super) fn verdict(event: &Event) -> Markup {
    let Some(verdict) = event.fim.verdict else { return html! {} };
    let (class, name) = match verdict {
        Verdict::Expected => ("ok", "expected"),
        Verdict::Unexpected => ("bad", "unexpected"),
        Verdict::Unknown => ("warn", "unknown"),
    };
    html! {
        p {
            span class={ "verdict " (class) } { (name) }
            @if let Some(reason) = &event.fim.verdict_reason {
                " " (text(&reason.replace('_', " ")))
            }
            @if let Some(package) = &event.fim.package {
                " · of package " strong { (text(&package.name)) " " (text(&package.version)) }
            }
            @if let Some(run) = &event.fim.package_run { " · in a run of " (text(&run.manager)) }
        }
    }
}

/// One row for each run.
pub(super) fn runs(facts: &Facts) -> Markup {
    html! {
        section #packages {
            h2 { "Package managers" }
            @if facts.runs.is_empty() {
                p { "No package manager changed anything that is watched." }
            } @else {
                p.note { "What a package manager changed is one event; paths that are not what its database "
                    "says have events of their own." }
                @if facts.runs_left_out > 0 {
                    p.note { "The last " (number(facts.runs_left_out)) " are left out." }
                }
                div.scroll { table {
                    thead { tr {
                        th { "Time" } th { "Packages" } th.n { "As expected" } th { "Unknown" }
                        th { "Unexpected" } th { "Who" }
                    } }
                    tbody { @for event in &facts.runs {
                        @if let Some(run) = &event.fim.package_run { (row(event, run)) }
                    } }
                } }
            }
        }
    }
}

fn row(event: &Event, run: &PackageRun) -> Markup {
    let files = run.files.clone().unwrap_or_default();
    let version = |version: &Option<String>| version.as_deref().map_or("—".to_owned(), text);
    let paths = |count: u64, paths: &[String]| {
        html! {
            (number(count))
            @for path in paths.iter().take(NAMED) { br; span.path { (text(path)) } }
            @if count > paths.len().min(NAMED) as u64 { br; "…" }
        }
    };
    html! {
        tr {
            td.t { (at(event.timestamp)) }
            td {
                @for package in run.packages.iter().take(NAMED) {
                    (text(&package.name)) " " (version(&package.before)) " → "
                    (version(&package.after)) br;
                }
                @if run.packages.len() > NAMED || run.packages_omitted.is_some() { "…" }
            }
            td.n { (number(files.expected)) }
            td { (paths(files.unknown, &files.unknown_paths)) }
            td { (paths(files.unexpected, &files.unexpected_paths)) }
            td { (who(event)) }
        }
    }
}
