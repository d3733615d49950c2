//! The page: its head, its summary and the order of its sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Options;
use super::facts::Facts;
use super::packages;
use super::sections;
use crate::event::pretty::escaped;
use crate::time::{Timestamp, local};

const STYLE: &str = include_str!("style.css");

/// Text of an event, of the configuration or of the system: nothing in it is markup (maud sees to
/// that), ends a line, or turns round what follows it.
pub(super) fn text(text: &str) -> String {
    escaped(text)
}

/// A time for people, in the page's time zone.
pub(super) fn at(time: Timestamp) -> String {
    local(time, "%Y-%m-%d %H:%M:%S")
}

/// `12 345`, with thin spaces.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// How long, in the two largest units.
pub(super) fn duration(nanoseconds: i128) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{} ms", nanoseconds.max(0) / 1_000_000),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Where a time is in the period: 0 to 1.
pub(super) fn place(facts: &Facts, time: Timestamp) -> f64 {
    let whole = facts.until.since(facts.since).max(1) as f64;
    (time.since(facts.since) as f64 / whole).clamp(0.0, 1.0)
}

/// Five times for an axis.
pub(super) fn labels(facts: &Facts) -> Vec<(f64, String)> {
    let whole = facts.until.since(facts.since).max(1);
    let format = match whole / 1_000_000_000 {
        0..=599 => "%H:%M:%S",
        600..=86_400 => "%H:%M",
        86_401..=604_800 => "%a %d %b %H:%M",
        _ => "%Y-%m-%d",
    };
    let label = |n: i128| {
        let time = Timestamp::from_nanos(facts.since.as_nanos() + whole * n / 4);
        (n as f64 / 4.0, local(time, format))
    };
    (0..=4).map(label).collect()
}

pub(super) fn page(options: &Options, facts: &Facts, now: Timestamp) -> String {
    let host = facts.host.as_ref().unwrap_or(&options.host);
    let name = text(host.name.as_deref().unwrap_or("-"));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing may be fetched, whatever a name in an event manages to be.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { "File integrity report: " (name) ", " (at(facts.since)) " to " (at(facts.until)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header.top {
                    h1 { "File integrity report" }
                    p.sub {
                        strong { (name) } " · " (at(facts.since)) " to " (at(facts.until))
                        " (" (duration(facts.until.since(facts.since))) ") · times are "
                        (local(now, "%Z (UTC%:z)"))
                    }
                    (tiles(options, facts))
                    nav aria-label="Contents" {
                        ol {
                            @for (anchor, title) in sections::TITLES {
                                li { a href={ "#" (anchor) } { (title) } }
                            }
                        }
                    }
                }
                main {
                    (sections::coverage(facts))
                    (sections::changes(facts))
                    (sections::alerts(facts))
                    (packages::runs(facts))
                    (sections::attempts(facts))
                    (sections::policy(options, facts))
                    (sections::integrity(options))
                    (sections::host(options, facts, host))
                }
                footer {
                    "Made by fim " (text(&options.agent_version)) " on " (at(now))
                    " from the journal in " (text(&options.journal.to_string_lossy()))
                    ". This page is self-contained: it has no script and fetches nothing."
                }
            }
        }
    }
    .into_string()
}

fn tiles(options: &Options, facts: &Facts) -> Markup {
    let sound = options.verification.is_sound();
    let open = facts.losses.iter().filter(|loss| loss.closed.is_none()).count();
    let up: i128 = facts.up().iter().map(|(from, to)| to.since(*from)).sum();
    let whole = facts.until.since(facts.since).max(1);
    // Never 100 unless it is.
    let per_mille = up.min(whole) * 1000 / whole;
    let class = |is_bad: bool, other: &'static str| if is_bad { "bad" } else { other };
    let tile = |class: &str, value: Markup, about: Markup| {
        html! { div class={ "tile " (class) } { b { (value) } span { (about) } } }
    };
    let lost = if open > 0 {
        "bad"
    } else if facts.operations_lost > 0 {
        "warn"
    } else {
        "ok"
    };
    html! {
        div.tiles {
            (tile("", html! { (number(facts.changes)) }, html! { "changes" }))
            (tile(class(facts.alerts > 0, "ok"), html! { (number(facts.alerts)) }, html! { "alerts" }))
            (tile("", html! { (number(facts.attempts)) }, html! { "denied or failed attempts" }))
            (tile(
                if per_mille >= 990 { "ok" } else { "warn" },
                html! { (per_mille / 10) "." (per_mille % 10) " %" },
                html! { "of the period monitored" },
            ))
            (tile(lost, html! { (number(facts.operations_lost)) }, html! {
                "operations lost"
                @if open > 0 { ", " (open) " gaps open" }
                @else if !facts.losses.is_empty() { ", all gaps closed" }
            }))
            (tile(
                class(!sound, "ok"),
                html! { (if sound { "whole" } else { "not sound" }) },
                html! { "the journal" },
            ))
        }
    }
}
