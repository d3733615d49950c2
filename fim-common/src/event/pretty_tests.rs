use super::super::actor::{Container, Kubernetes, Pod};
use super::super::{Agent, Category, Gap, Hash, Host, Meta, Rule, Type};
use super::*;

fn event(action: Action) -> Event {
    Event {
        // 2023-11-14T22:13:20.117Z
        timestamp: Timestamp::from_unix(1_700_000_000, 117_999_999),
        event: Meta {
            id: "i".into(),
            sequence: 1,
            kind: Kind::Event,
            category: vec![Category::File],
            types: vec![Type::Change],
            action,
            outcome: Outcome::Success,
            provider: None,
            severity: None,
        },
        rule: None,
        tags: vec![],
        threat: None,
        file: None,
        registry: None,
        process: None,
        user: None,
        container: None,
        kubernetes: None,
        host: Host::default().into(),
        agent: Agent::default().into(),
        fim: Fim::default(),
    }
}

fn file(path: &str) -> Option<Box<File>> {
    Some(Box::new(File { path: path.into(), ..File::default() }))
}

fn user(name: &str) -> Option<UserId> {
    Some(UserId { id: "1000".into(), name: Some(name.into()) })
}

fn utc(event: &Event) -> String {
    pretty_in(event, false, &TimeZone::UTC)
}

#[test]
fn a_change_of_content_with_everything() {
    let mut event = event(Action::Updated);
    event.file = file("/etc/ssh/sshd_config");
    event.fim.changes = vec![Property::Content, Property::Size, Property::Mode, Property::Mtime];
    event.fim.before = Some(Box::new(Side {
        size: Some(10),
        mode: Some("0644".into()),
        sha256: Some("0123456789abcdef".repeat(4)),
        ..Side::default()
    }));
    event.fim.after = Some(Box::new(Side {
        size: Some(12),
        mode: Some("0600".into()),
        sha256: Some("fedcba9876543210".repeat(4)),
        ..Side::default()
    }));
    event.process = Some(
        Process {
            pid: 812,
            name: Some("vim".into()),
            command_line: Some("vim /etc/ssh/sshd_config".into()),
            ..Process::default()
        }
        .into(),
    );
    event.user =
        Some(User { audit: user("ada"), effective: user("root"), ..User::default() }.into());
    event.rule = Some(Rule { name: "ssh".into(), category: None });
    assert_eq!(
        utc(&event),
        "22:13:20.117 updated    /etc/ssh/sshd_config  sha256 0123456789ab -> fedcba987654, \
         size 10 -> 12, mode 0644 -> 0600  by vim[812] (vim /etc/ssh/sshd_config) as ada -> root  \
         [ssh]"
    );
}

#[test]
fn objects_that_come_go_and_move() {
    let mut created = event(Action::Created);
    created.file = Some(Box::new(File {
        path: "/tmp/w/a".into(),
        size: Some(2),
        mode: Some("0644".into()),
        hash: Some(Hash { sha256: "ab".repeat(32) }),
        ..File::default()
    }));
    assert_eq!(
        utc(&created),
        "22:13:20.117 created    /tmp/w/a  mode 0644, 2 bytes, sha256 abababababab"
    );
    let mut deleted = event(Action::Deleted);
    deleted.file = file("/tmp/w/a");
    deleted.user = Some(User { id: Some("7".into()), ..User::default() }.into());
    deleted.process = Some(Process { pid: 9, ..Process::default() }.into());
    assert_eq!(utc(&deleted), "22:13:20.117 deleted    /tmp/w/a  by process 9 as 7");
    let mut moved = event(Action::Moved);
    moved.file = file("/b");
    moved.fim.before = Some(Box::new(Side { path: Some("/a".into()), ..Side::default() }));
    moved.fim.changes = vec![Property::Path];
    assert_eq!(utc(&moved), "22:13:20.117 moved      /a -> /b");
    let mut link = event(Action::Created);
    link.file = Some(Box::new(File { target_path: Some("x y".into()), ..*file("/l").unwrap() }));
    assert_eq!(utc(&link), "22:13:20.117 created    /l -> x y");
}

#[test]
fn attributes() {
    let mut event = event(Action::AttributesModified);
    event.file = file("/f");
    event.fim.changes = vec![
        Property::Uid,
        Property::Acl,
        Property::Xattrs,
        Property::Capabilities,
        Property::TargetPath,
    ];
    let xattrs = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    };
    event.fim.before = Some(Box::new(Side {
        uid: Some("0".into()),
        acl: Some(vec![]),
        xattrs: xattrs(&[("user.a", "1"), ("user.b", "1"), ("user.c", "1")]),
        capabilities: Some(String::new()),
        ..Side::default()
    }));
    event.fim.after = Some(Box::new(Side {
        uid: Some("7".into()),
        acl: Some(vec!["user::rw-".into(), "user:9:r--".into()]),
        xattrs: xattrs(&[("user.a", "1"), ("user.b", "2"), ("user.d", "1")]),
        capabilities: Some("cap_net_raw=ep".into()),
        ..Side::default()
    }));
    assert_eq!(
        utc(&event),
        "22:13:20.117 attributes /f  uid 0 -> 7, acl none -> user::rw-,user:9:r--, \
         xattrs ~user.b +user.d -user.c, capabilities none -> cap_net_raw=ep, target ? -> ?"
    );
    event.fim.changes = vec![Property::Mtime];
    assert_eq!(utc(&event), "22:13:20.117 attributes /f  mtime");
}

#[test]
fn hashes_that_are_not_there_say_why() {
    let mut event = event(Action::Updated);
    event.file = file("/f");
    event.fim.changes = vec![Property::Content];
    for (state, text) in [
        (Some(HashState::Raced), "sha256 ? -> (changed while read)"),
        (Some(HashState::TooLarge), "sha256 ? -> (too large to hash)"),
        (Some(HashState::Gone), "sha256 ? -> (gone before it was read)"),
        (Some(HashState::Denied), "sha256 ? -> (could not be read)"),
        (Some(HashState::Skipped), "sha256 ? -> ?"),
        (None, "sha256 ? -> ?"),
    ] {
        event.fim.hash_state = state;
        assert_eq!(utc(&event), format!("22:13:20.117 updated    /f  {text}"));
    }
}

#[test]
fn a_denied_attempt_and_a_container() {
    let mut event = event(Action::Deleted);
    event.event.kind = Kind::Alert;
    event.event.outcome = Outcome::Failure;
    event.fim.errno = Some("EACCES".into());
    event.file = file("/etc/shadow");
    event.container = Some(Container { id: "c0ffee".repeat(10), ..Container::default() });
    assert_eq!(
        utc(&event),
        "22:13:20.117 ! deleted    failed (EACCES) /etc/shadow in container c0ffeec0ffee"
    );
    event.container.as_mut().unwrap().name = Some("proxy".into());
    event.kubernetes = Some(Kubernetes {
        pod: Pod { uid: "1".into(), name: Some("web".into()) },
        namespace: Some("shop".into()),
    });
    assert!(utc(&event).ends_with(" in pod shop/web in container c0ffeec0ffee (proxy)"));
}

#[test]
fn the_agents_own() {
    let mut started = event(Action::AgentStarted);
    started.fim.message = Some("bpf: 23 of 24 hooks".into());
    assert_eq!(utc(&started), "22:13:20.117 agent_started bpf: 23 of 24 hooks");
    let mut gap = event(Action::Gap);
    gap.fim.gap = Some(Box::new(Gap {
        from: Timestamp::from_unix(1, 0),
        to: Timestamp::from_unix(1, 250_000_000),
        count: Some(12),
        hooks: vec!["vfs_unlink".into()],
        scope: vec!["/etc".into()],
    }));
    assert_eq!(
        utc(&gap),
        "22:13:20.117 gap        12 operations lost within 250 ms in vfs_unlink below /etc"
    );
}

#[test]
fn nothing_in_an_event_forges_a_line_or_commands_the_terminal() {
    let mut event = event(Action::Created);
    event.file = file("/tmp/a\n22:13:21 deleted /etc\x1b[2J\u{9b}31m\u{202e}x\u{2028}\t\r");
    event.process = Some(
        Process {
            pid: 1,
            name: Some("e\nvil".into()),
            command_line: Some(format!("sh\x07 {}", "é".repeat(500))),
            ..Process::default()
        }
        .into(),
    );
    event.user = Some(User { effective: user("ro\not"), ..User::default() }.into());
    event.rule = Some(Rule { name: "a\nb".into(), category: None });
    let line = utc(&event);
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{line}");
    assert!(line.contains(r"/tmp/a\n22:13:21 deleted /etc\x1b[2J\x9b31m\u{202e}x\u{2028}\t\r"));
    assert!(line.contains('…'), "the command line is shortened");
    assert!(line.chars().count() < 400);
}

#[test]
fn colours_only_when_asked_for() {
    let mut event = event(Action::Created);
    event.file = file("/f");
    assert!(!utc(&event).contains('\x1b'));
    let coloured = pretty_in(&event, true, &TimeZone::UTC);
    assert!(coloured.contains(GREEN) && coloured.contains(RESET));
    let plain = [RESET, DIM, BOLD, RED, GREEN, YELLOW, BLUE]
        .into_iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, utc(&event));
}

#[test]
fn local_time() {
    let event = event(Action::Heartbeat);
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    assert!(pretty_in(&event, false, &zone).starts_with("00:13:20.117 heartbeat"));
    assert!(!pretty(&event, false).is_empty());
}
