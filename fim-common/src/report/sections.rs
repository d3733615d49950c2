//! The sections of the page.

use maud::{Markup, html};

use super::Options;
use super::chart::{self, Stretch};
use super::facts::{ALERTS, ATTEMPTS, Facts, Severity, Tallies};
use super::packages;
use super::page::{at, duration, labels, number, place, text};
use super::standards::REQUIREMENTS;
use crate::event::pretty;
use crate::event::{Event, Host, Side};

/// Each section's anchor and title.
pub(super) const TITLES: [(&str, &str); 8] = [
    ("coverage", "Coverage"),
    ("changes", "Changes"),
    ("alerts", "Alerts in full"),
    ("packages", "Package managers"),
    ("attempts", "Denied and failed attempts"),
    ("policy", "Policy and standards"),
    ("integrity", "Integrity of the journal"),
    ("host", "Host and agent"),
];

/// Characters shown of a command line.
const COMMAND_LINE: usize = 300;
/// Rows of a table of names.
const TOP: usize = 10;

pub(super) fn coverage(facts: &Facts) -> Markup {
    let up = facts.up();
    let mut stretches: Vec<Stretch> = up
        .iter()
        .map(|(from, to)| Stretch { from: place(facts, *from), to: place(facts, *to), class: "up" })
        .collect();
    stretches.extend(facts.losses.iter().map(|loss| Stretch {
        from: place(facts, loss.gap.from),
        to: place(facts, loss.gap.to),
        class: if loss.closed.is_some() { "lost" } else { "open" },
    }));
    let total: i128 = up.iter().map(|(from, to)| to.since(*from)).sum();
    let description = format!(
        "The agent ran for {} of {}, in {}; {}.",
        duration(total),
        duration(facts.until.since(facts.since)),
        counted(up.len(), "stretch", "stretches"),
        counted(facts.losses.len(), "gap", "gaps"),
    );
    html! {
        section #coverage {
            h2 { "Coverage" }
            p.note { (description) " A stretch ends with the last event of an agent; a heartbeat comes "
                "once a minute by default. What was changed while no agent ran is found by comparison at "
                "the next start, and told without a process." }
            (chart::strip(&stretches, &labels(facts), &description))
            ul.legend {
                li { i.up {} "agent ran" }
                li { i.down {} "no agent" }
                li { i.lost {} "operations lost, compared with the disk afterwards" }
                li { i.open {} "operations lost, not compared yet" }
            }
            h3 { "Starts of the agent" }
            @if facts.starts_left_out > 0 { p.note { "The first " (facts.starts_left_out) " are left out." } }
            div.scroll { table {
                thead { tr { th { "From" } th { "To" } th.n { "For" } th { "Ended" } th { "Version" } th { "Said" } } }
                tbody { @for (start, later) in facts.starts.iter().zip(1..) { tr {
                    td.t { (at(start.from)) }
                    td.t { (at(start.to)) }
                    td.n { (duration(start.to.since(start.from))) }
                    td { @if start.is_stopped { "in order" }
                        @else if later < facts.starts.len() { "no end is told: it was killed" }
                        @else { "no end is told: it runs, or was killed" } }
                    td { (text(&start.version)) }
                    td { (text(&start.message)) }
                } } }
            } }
            (losses(facts))
            @if facts.said.is_empty() {
                p { "No hook of the agent stopped silently (canary), and it said nothing else about itself." }
            } @else {
                h3 { "What the agent said of itself" }
                @if facts.said_left_out > 0 { p.note { "The last " (number(facts.said_left_out)) " are left out." } }
                div.scroll { table {
                    thead { tr { th { "Time" } th { "Event" } th { "Said" } } }
                    tbody { @for said in &facts.said { tr {
                        td.t { (at(said.at)) } td.t { code { (said.action.as_str()) } } td { (text(&said.text)) }
                    } } }
                } }
            }
        }
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn losses(facts: &Facts) -> Markup {
    html! {
        h3 { "Gaps" }
        @if facts.losses.is_empty() {
            p { span.verdict.ok { "None" } " No operation is known to be lost." }
        } @else {
            p { (number(facts.operations_lost)) " operations are known to be lost. What a gap covers is \
                compared with the disk afterwards: then what was changed is known, and by whom is not." }
            @if facts.losses_left_out > 0 { p.note { "The last " (number(facts.losses_left_out)) " gaps are left out." } }
            div.scroll { table {
                thead { tr { th { "From" } th { "To" } th.n { "Lost" } th { "Where" } th { "Compared" } } }
                tbody { @for loss in &facts.losses { tr {
                    td.t { (at(loss.gap.from)) } td.t { (at(loss.gap.to)) }
                    td.n { (loss.gap.count.map_or("not known".to_owned(), number)) }
                    td { (text(&loss.gap.hooks.join(", ")))
                        @if !loss.gap.scope.is_empty() { " below " span.path { (text(&loss.gap.scope.join(", "))) } } }
                    td.t { @match loss.closed {
                        Some(time) => (at(time)),
                        None => span.verdict.bad { "not yet" },
                    } }
                } } }
            } }
        }
    }
}

pub(super) fn changes(facts: &Facts) -> Markup {
    let counted = |severity: Severity| facts.severities.get(severity as usize).map_or(0, |s| s.0);
    let description = format!(
        "Changes over time by severity: {}.",
        Severity::ALL
            .iter()
            .rev()
            .map(|s| format!("{} {}", counted(*s), s.name()))
            .collect::<Vec<_>>()
            .join(", ")
    );
    html! {
        section #changes {
            h2 { "Changes" }
            p.note { (number(facts.changes)) " changes"
                @if facts.scanned > 0 { ", " (number(facts.scanned)) " of them found by comparison, so that nobody is named" }
                "." }
            (chart::timeline(&facts.severities, &labels(facts), &description))
            ul.legend {
                @for severity in Severity::ALL.iter().rev() {
                    li { i class={ "s-" (severity.name()) } {} (severity.name()) " (" (severity.range()) "): "
                        strong { (number(counted(*severity))) } }
                }
            }
            div.cols {
                div { h3 { "By directory" } (tallies("Directory", &facts.directories, true)) }
                div { h3 { "By process" } (tallies("Process", &facts.processes, false)) }
                div { h3 { "By user" } (tallies("User", &facts.users, false)) }
                div { h3 { "By rule" } (tallies("Rule", &facts.rules, false)) }
                div {
                    h3 { "By action" }
                    table { thead { tr { th { "Action" } th.n { "Changes" } } }
                        tbody { @for (action, count) in &facts.actions {
                            tr { td { code { (action) } } td.n { (number(*count)) } }
                        } } }
                }
            }
        }
    }
}

fn tallies(title: &str, tallies: &Tallies, is_path: bool) -> Markup {
    let top = tallies.top(TOP);
    html! {
        table {
            thead { tr { th { (title) } th.n { "Events" } th.n { "Alerts" } th { "Over the period" } } }
            tbody { @for (name, tally) in &top { tr {
                td { @if is_path { span.path { (text(name)) } } @else { (text(name)) } }
                td.n { (number(tally.count)) } td.n { (number(tally.alerts)) }
                td { (chart::spark(&tally.parts)) }
            } } }
        }
        @if tallies.len() > top.len() || tallies.others > 0 {
            p.note { "The most frequent " (top.len()) " of " (number(tallies.len() as u64))
                @if tallies.others > 0 { "; " (number(tallies.others)) " events of further names are not broken down" }
                "." }
        }
    }
}

pub(super) fn alerts(facts: &Facts) -> Markup {
    html! {
        section #alerts {
            h2 { "Alerts in full" }
            @if facts.worst.is_empty() {
                p { span.verdict.ok { "None" } " No change was an alert." }
            } @else if facts.worst.len() < ALERTS {
                p.note { "Every change whose rule makes it an alert, in the order of time." }
            } @else {
                p.note { "The " (ALERTS) " most severe, and of these the latest; "
                    code { "fim events --alerts" } " has all of them." }
            }
            @for event in &facts.worst { (alert(event)) }
        }
    }
}

fn alert(event: &Event) -> Markup {
    let severity = Severity::of(event.event.severity);
    let path = event.file.as_ref().map(|file| file.path.as_str()).unwrap_or_default();
    html! {
        article {
            header {
                span class={ "badge " (severity.name()) } {
                    (severity.name()) @if let Some(number) = event.event.severity { " " (number) }
                }
                span.path { (text(path)) }
                span { code { (event.event.action.as_str()) } }
                span.sub { (at(event.timestamp)) }
            }
            p { (who(event)) }
            (packages::verdict(event))
            (difference(event))
            (lines(event))
            p.note {
                @if let Some(rule) = &event.rule { "rule " (text(&rule.name)) " · " }
                @if let Some(threat) = &event.threat { "ATT&CK " (text(&threat.technique.id.join(", "))) " · " }
                "event " code { (text(&event.event.id)) }
            }
        }
    }
}

/// Who did it.
pub(super) fn who(event: &Event) -> Markup {
    let process = event.process.as_ref();
    let name = process.and_then(|process| process.name.as_deref());
    let command = process.and_then(|process| process.command_line.as_deref());
    html! {
        @match name {
            Some(name) => {
                "by " strong { (text(name)) }
                @if let Some(process) = process { " (process " (process.pid) ")" }
            }
            None => { "by whom is not known" @if event.event.provider == Some(crate::event::Provider::Scan) { ": found by comparison" } }
        }
        @if let (None, Some(window)) = (name, &event.fim.window) {
            @match window.from {
                Some(from) => { ", done between " (at(from)) " and " (at(window.to)) }
                None => { ", done before " (at(window.to)) }
            }
        }
        @if let Some(user) = event.user.as_ref().and_then(|user| pretty::users(user)) { " as " strong { (user) } }
        @if let Some(container) = &event.container { " in container " code { (text(&container.id)) } }
        @if let Some(command) = command {
            " · " code { (pretty::shortened(command, COMMAND_LINE)) }
        }
        @if let Some(parent) = process.and_then(|process| process.parent.as_ref()?.name.as_deref()) {
            " · started by " (text(parent))
        }
    }
}

/// Before and after, of what differs and is known.
fn difference(event: &Event) -> Markup {
    let nothing = Side::default();
    let before = event.fim.before.as_deref().unwrap_or(&nothing);
    let mut after = event.fim.after.clone().unwrap_or_default();
    if before.path.is_some() && after.path.is_none() {
        after.path = event.file.as_ref().map(|file| file.path.clone());
    }
    let after = &after;
    let rows: Vec<_> = rows(before)
        .into_iter()
        .zip(rows(after))
        // None, and not known, look the same.
        .filter(|((_, before), (_, after))| {
            before.as_deref().unwrap_or_default() != after.as_deref().unwrap_or_default()
        })
        .map(|((name, before), (_, after))| (name, before, after))
        .collect();
    html! {
        @if !rows.is_empty() {
            div.scroll { table.diff {
                thead { tr { th {} th { "Before" } th { "After" } } }
                tbody { @for (name, before, after) in rows { tr {
                    th scope="row" { (name) }
                    td.old.mono { (before.as_deref().map_or("—".to_owned(), text)) }
                    td.new.mono { (after.as_deref().map_or("—".to_owned(), text)) }
                } } }
            } }
        }
    }
}

/// What lines of text differ, where that is known.
fn lines(event: &Event) -> Markup {
    let Some(diff) = &event.fim.diff else { return html! {} };
    let count = |count: Option<u64>| count.map_or("?".to_owned(), number);
    html! {
        @match &diff.unified {
            Some(unified) => pre.lines {
                @for line in unified.lines() {
                    @let class = match line.as_bytes().first() {
                        Some(b'-') => "old",
                        Some(b'+') => "new",
                        _ => "",
                    };
                    span class=(class) { (text(line)) } "\n"
                }
            },
            None if diff.lines_added.is_some() => p {
                (count(diff.lines_added)) " lines added, " (count(diff.lines_removed))
                " removed; what they say is not kept"
            },
            None => {}
        }
    }
}

/// The properties of a side that people compare.
fn rows(side: &Side) -> [(&'static str, Option<String>); 12] {
    let list = |list: &Option<Vec<String>>| list.as_ref().map(|list| list.join(", "));
    let names = side.xattrs.as_ref().map(|xattrs| {
        xattrs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    });
    [
        ("path", side.path.clone()),
        ("SHA-256", side.sha256.clone()),
        ("size", side.size.map(|size| size.to_string())),
        ("mode", side.mode.as_ref().map(|mode| mode.to_string())),
        ("owner id", side.uid.as_ref().map(|id| id.to_string())),
        ("group id", side.gid.as_ref().map(|id| id.to_string())),
        ("modified", side.mtime.map(at)),
        ("ACL", list(&side.acl)),
        ("attributes", list(&side.attributes)),
        ("capabilities", side.capabilities.clone()),
        ("xattrs", names),
        ("link target", side.target_path.clone()),
    ]
}

pub(super) fn attempts(facts: &Facts) -> Markup {
    html! {
        section #attempts {
            h2 { "Denied and failed attempts" }
            @if facts.attempts == 0 {
                p { "None was told. The fanotify backend sees no attempts that fail." }
            } @else {
                p.note {
                    (number(facts.attempts)) " attempts: "
                    (text(&facts.errors.iter().map(|(errno, count)| format!("{} {errno}", number(*count))).collect::<Vec<_>>().join(", ")))
                    @if facts.attempts > ATTEMPTS as u64 { ". Shown are the " (ATTEMPTS) " on the most severe rules, and of these the latest" }
                    "."
                }
                div.scroll { table {
                    thead { tr { th { "Time" } th { "Error" } th { "What" } th { "Path" } th { "Who" } } }
                    tbody { @for event in &facts.denied { tr {
                        td.t { (at(event.timestamp)) }
                        td { code { (text(event.fim.errno.as_deref().unwrap_or("?"))) } }
                        td { code { (event.event.action.as_str()) } }
                        td { span.path { (text(event.file.as_ref().map(|file| file.path.as_str()).unwrap_or_default())) } }
                        td { (who(event)) }
                    } } }
                } }
            }
        }
    }
}

pub(super) fn policy(options: &Options, facts: &Facts) -> Markup {
    let rules = &options.config.rules;
    let named = |list: &[String]| text(&list.join(", "));
    let sources = |patterns: &[crate::policy::Pattern]| {
        let mut sources: Vec<&str> = patterns.iter().map(|pattern| pattern.source()).collect();
        sources.dedup();
        text(&sources.join("  "))
    };
    html! {
        section #policy {
            h2 { "Policy and standards" }
            p.note {
                "In force when this report was made: "
                @match &options.config.file {
                    Some(file) => { code { (text(&file.to_string_lossy())) } }
                    None => { "the recommended policy (there is no configuration file)" }
                }
                ". A change from severity " (options.config.events.alert_severity) " on is an alert. "
                "Changes of the configuration during the period are under "
                a href="#coverage" { "Coverage" } "."
            }
            h3 { "What standards ask, and where it is shown" }
            div.scroll { table {
                thead { tr { th { "Requirement" } th { "Asks" } th { "Shown in" } th { "Rules with its tag" } th.n { "Events" } } }
                tbody { @for requirement in REQUIREMENTS {
                    @let tagged: Vec<&str> = rules.iter().filter(|rule| rule.tags.iter().any(|tag| requirement.is_named_by(tag))).map(|rule| rule.name.as_str()).collect();
                    @let events: u64 = facts.tags.iter().filter(|(tag, _)| requirement.is_named_by(tag)).map(|(_, count)| *count).sum();
                    tr {
                        td { strong { (requirement.number) } br; span.sub { (requirement.standard) } }
                        td { (requirement.asks) }
                        td { @for (index, (anchor, title)) in requirement.shown.iter().enumerate() {
                            @if index > 0 { ", " } a href={ "#" (anchor) } { (title) }
                        } }
                        td { @if tagged.is_empty() { span.sub { "no rule names it" } } @else { (text(&tagged.join(", "))) } }
                        td.n { (number(events)) }
                    }
                } }
            } }
            h3 { "Rules" }
            div.scroll { table {
                thead { tr { th { "Rule" } th.n { "Severity" } th { "Watches" } th { "Tags" } th { "ATT&CK" } th.n { "Events" } } }
                tbody { @for rule in rules { tr {
                    td { (text(&rule.name)) @if let Some(category) = &rule.category { br; span.sub { (text(category)) } } }
                    td.n { (rule.severity) }
                    td { span.path { (sources(&rule.paths)) }
                        @if !rule.exclude.is_empty() { br; span.sub { "without " } span.path { (sources(&rule.exclude)) } } }
                    td { (named(&rule.tags)) }
                    td { (named(&rule.techniques)) }
                    td.n { (number(facts.rules.get(&rule.name))) }
                } } }
            } }
        }
    }
}

pub(super) fn integrity(options: &Options) -> Markup {
    let found = &options.verification;
    html! {
        section #integrity {
            h2 { "Integrity of the journal" }
            p {
                @if found.is_sound() { span.verdict.ok { "Whole and unaltered" } }
                @else { span.verdict.bad { "Not sound" } }
                " " (number(found.entries)) " entries in " (number(found.segments))
                " segments were checked; " (number(found.sealed)) " segments are closed and signed."
            }
            @if !found.faults.is_empty() {
                div.scroll { table {
                    thead { tr { th { "Finding" } th.n { "Segment" } th.n { "Line" } th { "What" } } }
                    tbody { @for fault in found.faults.iter().take(super::facts::LISTED) { tr {
                        td { span.verdict.bad { (fault.kind.as_str()) } }
                        td.n { (fault.segment) }
                        td.n { @if let Some(line) = fault.line { (line) } }
                        td { (text(&fault.message)) }
                    } } }
                } }
            }
            dl {
                @if let Some(head) = &found.head { dt { "Last chain" } dd { code { (text(head)) } } }
                @if let Some(key) = &found.public_key { dt { "Public key (Ed25519)" } dd { code { (text(key)) } } }
            }
            p.note { "Each entry has the hash of itself and all before it, and segments are signed. Compare \
                the chain and the key with those that heartbeats carried to another host: whoever was root \
                here could have written both anew." }
            @for note in &found.notes { p.note { "Note: " (text(note)) "." } }
        }
    }
}

pub(super) fn host(options: &Options, facts: &Facts, host: &Host) -> Markup {
    let optional = |name: &str, value: Option<&str>| {
        html! { @if let Some(value) = value { dt { (name) } dd { (text(value)) } } }
    };
    let os = [host.os.name.as_deref(), host.os.version.as_deref()];
    let os: Vec<&str> = os.into_iter().flatten().collect();
    html! {
        section #host {
            h2 { "Host and agent" }
            dl {
                dt { "Host" } dd { (text(host.name.as_deref().unwrap_or("-"))) }
                (optional("Machine id", host.id.as_deref()))
                (optional("Boot id", host.boot.as_ref().map(|boot| boot.id.as_str())))
                dt { "Operating system" } dd { (text(&os.join(" "))) }
                (optional("Kernel", host.os.kernel.as_deref()))
                (optional("Architecture", host.architecture.as_deref()))
                @if let Some(agent) = &facts.agent {
                    dt { "Agent" } dd { "fim " (text(&agent.version)) }
                    (optional("Agent id", agent.id.as_deref()))
                }
                dt { "Heartbeats" } dd { (number(facts.heartbeats)) }
                dt { "Events in the period" } dd { (number(facts.events)) }
                @if facts.unreadable > 0 {
                    dt { "Unreadable lines" } dd { span.verdict.bad { (number(facts.unreadable)) } }
                }
                dt { "Report made by" } dd { "fim " (text(&options.agent_version)) " on " (text(options.host.name.as_deref().unwrap_or("-"))) }
            }
        }
    }
}
