//! The page without a browser: what is in it, and what cannot get out of it.

use super::*;
use crate::event::actor::{Process, User};
use crate::event::{
    Action, Agent, Category, ContentDiff, DiffState, Event, File, Fim, Gap, Host, Kind, Manager,
    Meta, Outcome, Package, PackageChange, PackageRun, Rule, RunFiles, Side, Type, Verdict,
};
use crate::journal::verify::{self, Request};
use crate::journal::{Journal, JournalOptions};

/// What a file may be called to be more than a name.
const HOSTILE: &str = "/etc/</code><script>alert(1)</script><img src=http://evil/x onerror=alert(2)>\u{202e}fdp.exe\u{2066}\x1b[31m\n\"'&amp;";

fn event(sequence: u64, action: Action) -> Event {
    Event {
        timestamp: Timestamp::from_unix(1_700_000_000 + sequence as i64 * 60, 0),
        event: Meta {
            id: format!("id-{sequence}"),
            sequence,
            kind: Kind::Event,
            category: vec![Category::File],
            types: vec![Type::Change],
            action,
            outcome: Outcome::Success,
            provider: None,
            severity: Some(50),
        },
        rule: Some(Rule { name: "rule".to_owned().into(), category: None }),
        tags: vec!["pci_dss_11.5.2".to_owned()],
        threat: None,
        registry: None,
        file: Some(Box::new(File { path: HOSTILE.to_owned(), ..File::default() })),
        process: Some(
            Process {
                pid: 7,
                name: Some("<b>vim</b>".to_owned()),
                command_line: Some("vim <script>".to_owned()),
                ..Process::default()
            }
            .into(),
        ),
        user: Some(User { name: Some("<i>ann</i>".to_owned()), ..User::default() }.into()),
        container: None,
        kubernetes: None,
        host: (Host { name: Some("web<1>".to_owned()), ..Host::default() }).into(),
        agent: (Agent { ephemeral_id: "start".to_owned(), ..Agent::default() }).into(),
        fim: Fim::default(),
    }
}

fn own(sequence: u64, action: Action, fim: Fim) -> Event {
    let mut event = event(sequence, action);
    (event.rule, event.file, event.process, event.user) = (None, None, None, None);
    event.event.kind = Kind::State;
    event.fim = fim;
    event
}

fn made(events: &[Event], since: Option<Timestamp>) -> Report {
    let directory = crate::baseline::test_volume::tempdir();
    let mut journal = Journal::open(directory.path(), JournalOptions::default()).unwrap();
    for event in events {
        journal.append(event).unwrap();
    }
    drop(journal);
    let options = Options {
        journal: directory.path().to_owned(),
        since,
        until: Some(Timestamp::from_unix(1_700_000_000 + 6000, 0)),
        config: Config::default(),
        verification: verify::verify(directory.path(), &Request::default()).unwrap(),
        host: Host::default(),
        agent_version: "0".to_owned(),
    };
    report(&options).unwrap()
}

fn sample() -> Vec<Event> {
    let started = Fim { message: Some("watching <everything>".to_owned()), ..Fim::default() };
    let mut alert = event(10, Action::Updated);
    alert.event.kind = Kind::Alert;
    alert.event.severity = Some(90);
    alert.fim.before =
        Some(Box::new(Side { mode: Some("0600".to_owned().into()), ..Side::default() }));
    alert.fim.after =
        Some(Box::new(Side { mode: Some("0666".to_owned().into()), ..Side::default() }));
    alert.fim.verdict = Some(Verdict::Unexpected);
    alert.fim.verdict_reason = Some("content_differs".to_owned());
    alert.fim.package = Some(Package {
        name: "<u>tool".to_owned(),
        version: "2".to_owned(),
        manager: Manager::Dpkg,
    });
    alert.fim.diff = Some(Box::new(ContentDiff {
        unified: Some("@@ -1 +1 @@\n-<s>no\n+yes\n".to_owned()),
        ..ContentDiff::new("x", DiffState::Complete)
    }));
    let packages = vec![PackageChange {
        name: "tool".to_owned(),
        manager: Manager::Dpkg,
        before: Some("1".to_owned()),
        after: Some("2".to_owned()),
    }];
    let files = RunFiles {
        expected: 4711,
        unknown: 1,
        unknown_paths: vec!["/opt/<s>odd".to_owned()],
        ..RunFiles::default()
    };
    let run = PackageRun {
        id: "r".to_owned(),
        manager: "apt".to_owned(),
        packages,
        files: Some(files),
        ..PackageRun::default()
    };
    let run =
        own(9, Action::PackageRun, Fim { package_run: Some(Box::new(run)), ..Fim::default() });
    let mut denied = event(11, Action::Deleted);
    denied.event.outcome = Outcome::Failure;
    denied.fim.errno = Some("EACCES".to_owned());
    let time = |minute: i64| Timestamp::from_unix(1_700_000_000 + minute * 60, 0);
    let gap = Gap {
        from: time(12),
        to: time(13),
        count: Some(41),
        hooks: vec!["ring".to_owned()],
        scope: vec![],
    };
    vec![
        own(1, Action::AgentStarted, started),
        event(2, Action::Created),
        run,
        alert,
        denied,
        own(13, Action::Gap, Fim { gap: Some(Box::new(gap.clone())), ..Fim::default() }),
        own(14, Action::GapClosed, Fim { gap: Some(Box::new(gap)), ..Fim::default() }),
        own(15, Action::AgentStopped, Fim::default()),
    ]
}

#[test]
fn everything_is_told() {
    let report = made(&sample(), None);
    assert_eq!((report.changes, report.alerts), (2, 1));
    for needle in [
        "0600",
        "0666",
        "EACCES",
        "41",
        "11.5.2",
        "10.3.4",
        "A.8.9",
        "A.8.16",
        "SI-7",
        "system-programs",
        "Whole and unaltered",
        "id-10",
        "all gaps closed",
        "in order",
        "content differs",
        "tool 1 → 2",
        "4\u{202f}711",
        "/opt/&lt;s&gt;odd",
        "<span class=\"old\">-&lt;s&gt;no</span>",
    ] {
        assert!(report.html.contains(needle), "{needle} is missing");
    }
    for (anchor, _) in sections::TITLES {
        assert!(report.html.contains(&format!("id=\"{anchor}\"")), "{anchor}");
    }
}

#[test]
fn nothing_in_an_event_is_markup_or_turns_text_round() {
    let html = made(&sample(), None).html;
    for bad in [
        "<script", "<img", "<u>tool", "<s>", "<b>vim", "<i>ann", "\u{202e}", "\u{2066}", "\x1b",
        "web<1>",
    ] {
        assert!(!html.contains(bad), "{bad:?} is in the page");
    }
    assert!(html.contains("&lt;script&gt;alert(1)"), "the name is there, as a text");
    for fetched in ["src=\"", "href=\"http", "url(http", "@import", "<link", "<script"] {
        assert!(!html.contains(fetched), "{fetched}");
    }
}

#[test]
fn a_move_shows_both_names_and_nothing_that_is_not_there() {
    let mut moved = event(3, Action::Moved);
    moved.event.kind = Kind::Alert;
    moved.fim.before = Some(Box::new(Side { path: Some("/etc/x+".to_owned()), ..Side::default() }));
    moved.fim.after = Some(Box::new(Side {
        acl: Some(Vec::new()),
        capabilities: Some(String::new()),
        ..Side::default()
    }));
    moved.file = Some(Box::new(File { path: "/etc/x".to_owned(), ..File::default() }));
    let html = made(&[moved], None).html;
    assert!(html.contains("<td class=\"new mono\">/etc/x</td>"), "{html}");
    assert!(!html.contains(">ACL</th>") && !html.contains(">capabilities</th>"));
}

/// A command that accepts what differs writes an event beside no agent.
#[test]
fn a_command_is_no_start_of_the_agent() {
    let mut accepted = own(2, Action::BaselineAccepted, Fim::default());
    accepted.agent = (Agent { ephemeral_id: "command".to_owned(), ..Agent::default() }).into();
    let mut again = own(3, Action::AgentStarted, Fim::default());
    again.agent = (Agent { ephemeral_id: "again".to_owned(), ..Agent::default() }).into();
    let html = made(&[own(1, Action::AgentStarted, Fim::default()), accepted, again], None).html;
    let ends = html.matches("no end is told").count();
    assert_eq!((ends, html.matches("it was killed").count()), (2, 1));
}

#[test]
fn only_the_period_counts() {
    let since = Some(Timestamp::from_unix(1_700_000_000 + 9 * 60, 0));
    let report = made(&sample(), since);
    assert_eq!(report.changes, 1);
    assert!(
        report.html.contains("watching &lt;everything&gt;"),
        "the start before reaches into it"
    );
}

#[test]
fn the_page_has_a_bound() {
    let mut events = Vec::new();
    for number in 0..3000_u64 {
        let mut event = event(number + 1, Action::Updated);
        event.timestamp = Timestamp::from_unix(1_700_000_000 + number as i64, 0);
        event.event.kind = Kind::Alert;
        event.file = Some(Box::new(File { path: format!("/srv/{number}/x"), ..File::default() }));
        events.push(event);
    }
    let report = made(&events, None);
    assert_eq!(report.alerts, 3000);
    assert!(report.html.contains("fim events --alerts"), "it says that some are left out");
    assert!(report.html.len() < 400_000, "{}", report.html.len());
}
