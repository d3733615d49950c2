use std::sync::Arc;

use super::*;
use crate::event::actor::{Ancestor, Container, Process, User, UserId};
use crate::policy::maintenance::When;
use crate::policy::{Operations, Pattern};

fn patterns(text: &str) -> Vec<Pattern> {
    Pattern::parse(text).unwrap()
}

fn actor(executable: &str, user: (&str, &str), login: Option<(&str, &str)>) -> Actor {
    let id = |(id, name): (&str, &str)| UserId { id: id.to_owned(), name: Some(name.to_owned()) };
    Actor {
        process: Some(
            Process {
                pid: 7,
                name: executable.rsplit('/').next().map(str::to_owned),
                executable: Some(executable.to_owned()),
                ..Process::default()
            }
            .into(),
        ),
        user: Some(
            User {
                id: Some("1".to_owned()),
                effective: Some(id(user)),
                audit: login.map(id),
                ..User::default()
            }
            .into(),
        ),
        ancestors: vec![
            Ancestor { executable: Some("/usr/bin/sh".to_owned()), ..Ancestor::default() },
            Ancestor { executable: Some("/usr/sbin/sshd".to_owned()), ..Ancestor::default() },
        ]
        .into(),
        ..Actor::default()
    }
}

fn window(name: &str, from: i64, until: i64) -> Window {
    let (from, until) = (Timestamp::from_unix(from, 0), Timestamp::from_unix(until, 0));
    Window { name: name.to_owned(), when: When::Once { from, until } }
}

fn policy(rule: Rule) -> Policy {
    Policy::new(vec![rule]).with_windows(vec![window("w", 100, 200), window("other", 300, 400)])
}

fn standing<'p>(policy: &'p Policy, actor: &Actor, at: Option<i64>) -> Standing<'p> {
    let time = at.map(|seconds| Timestamp::from_unix(seconds, 0));
    let circumstances = Circumstances { actor, others: &[], time };
    policy.standing(&policy.rules()[0], Path::new("/w/a"), Action::Updated, circumstances)
}

#[test]
fn each_part_of_a_condition_has_to_hold() {
    let puppet = actor("/opt/puppet/bin/agent", ("0", "root"), Some(("1000", "ann")));
    let none = Condition::default();
    for (condition, want) in [
        (Condition { executables: patterns("/opt/puppet"), ..none.clone() }, true),
        (Condition { executables: patterns("/opt/*/bin/agent"), ..none.clone() }, true),
        (Condition { executables: patterns("/opt/pup"), ..none.clone() }, false),
        (Condition { process_names: vec!["agent".to_owned()], ..none.clone() }, true),
        (Condition { process_names: vec!["agen".to_owned()], ..none.clone() }, false),
        (Condition { ancestors: patterns("/usr/sbin/sshd"), ..none.clone() }, true),
        (Condition { ancestors: patterns("/opt/puppet"), ..none.clone() }, false),
        (Condition { users: vec!["root".to_owned()], ..none.clone() }, true),
        (Condition { users: vec!["0".to_owned()], ..none.clone() }, true),
        (Condition { users: vec!["1".to_owned()], ..none.clone() }, false),
        (Condition { login_users: vec!["x".to_owned(), "ann".to_owned()], ..none.clone() }, true),
        (Condition { login_users: vec!["root".to_owned()], ..none.clone() }, false),
        (Condition { paths: patterns("/w/*"), ..none.clone() }, true),
        (Condition { paths: patterns("/v"), ..none.clone() }, false),
        (
            Condition {
                operations: Some(Operations::from_iter([Action::Updated])),
                ..none.clone()
            },
            true,
        ),
        (
            Condition {
                operations: Some(Operations::from_iter([Action::Deleted])),
                ..none.clone()
            },
            false,
        ),
        (
            Condition {
                executables: patterns("/opt/puppet"),
                users: vec!["ann".to_owned()],
                ..none.clone()
            },
            false,
        ),
    ] {
        assert!(!condition.is_empty());
        let found = condition.holds(Path::new("/w/a"), Action::Updated, &puppet);
        assert_eq!(found, want, "{}", condition.describe());
    }
}

#[test]
fn what_is_not_known_does_not_hold() {
    let nobody = Actor::unobserved();
    for condition in [
        Condition { executables: patterns("/**"), ..Condition::default() },
        Condition { ancestors: patterns("/**"), ..Condition::default() },
        Condition { users: vec!["0".to_owned()], ..Condition::default() },
        Condition { login_users: vec![String::new()], ..Condition::default() },
        Condition { process_names: vec![String::new()], ..Condition::default() },
    ] {
        assert!(!condition.holds(Path::new("/w"), Action::Updated, &nobody), "{condition:?}");
    }
}

#[test]
fn a_container_does_not_borrow_the_name_of_a_program_of_the_host() {
    let condition = Condition { executables: patterns("/opt/puppet"), ..Condition::default() };
    let mut actor = actor("/opt/puppet/agent", ("0", "root"), None);
    assert!(condition.holds(Path::new("/w"), Action::Updated, &actor));
    actor.container = Some(Container::default());
    assert!(!condition.holds(Path::new("/w"), Action::Updated, &actor));
}

/// The table of docs/policy.md.
#[test]
fn what_comes_of_each_combination() {
    let puppet = actor("/opt/puppet/agent", ("0", "root"), None);
    let vim = actor("/usr/bin/vim", ("0", "root"), None);
    let by_puppet = || Condition { executables: patterns("/opt/puppet"), ..Condition::default() };
    let (never, maintenance) = (Some(Expect::Never), Some(Expect::Maintenance));
    let (inside, outside) = (Some(150), Some(250));
    // expect, allow, suppress, who, when => alert at severity 50 and at 90, told at all
    for (expect, allow, suppress, who, when, alerts, told) in [
        (None, false, false, &vim, outside, (false, true), true),
        (None, true, false, &vim, outside, (false, true), true),
        (None, true, false, &puppet, outside, (false, false), true),
        (None, false, true, &puppet, outside, (false, false), false),
        (None, false, true, &vim, outside, (false, true), true),
        (never, false, false, &vim, inside, (true, true), true),
        (never, true, false, &puppet, outside, (false, false), true),
        (never, true, false, &vim, outside, (true, true), true),
        (maintenance, false, false, &vim, inside, (false, false), true),
        (maintenance, false, false, &vim, outside, (true, true), true),
        (maintenance, false, false, &vim, None, (true, true), true),
        (maintenance, true, false, &puppet, outside, (false, false), true),
        (maintenance, true, true, &puppet, outside, (false, false), false),
    ] {
        let conditions = |there: bool| if there { vec![by_puppet()] } else { Vec::new() };
        let policy = policy(Rule {
            expect,
            allow: conditions(allow),
            suppress: conditions(suppress),
            ..Rule::new("r", patterns("/w"))
        });
        let standing = standing(&policy, who, when);
        let found = (standing.is_alert(50, 70), standing.is_alert(90, 70));
        assert_eq!(found, alerts, "{expect:?} {allow} {suppress} {when:?}: {standing:?}");
        assert_eq!(!matches!(standing, Standing::Suppressed(_)), told, "{standing:?}");
    }
}

#[test]
fn a_rule_may_name_its_windows() {
    let vim = actor("/usr/bin/vim", ("0", "root"), None);
    let rule = Rule {
        expect: Some(Expect::Maintenance),
        maintenance: vec!["other".to_owned()],
        ..Rule::new("r", patterns("/w"))
    };
    let policy = policy(rule);
    assert_eq!(standing(&policy, &vim, Some(150)), Standing::Unexpected(Expect::Maintenance));
    let Standing::InMaintenance(window) = standing(&policy, &vim, Some(350)) else { panic!() };
    assert_eq!(window.name, "other");
}

#[test]
fn everybody_who_wrote_has_to_be_allowed() {
    let puppet = actor("/opt/puppet/agent", ("0", "root"), None);
    let by_puppet = Condition { executables: patterns("/opt/puppet"), ..Condition::default() };
    let rule = Rule { suppress: vec![by_puppet], ..Rule::new("r", patterns("/w")) };
    let policy = policy(rule);
    for (other, want) in [("/opt/puppet/agent", true), ("/usr/bin/vim", false)] {
        let others = [Arc::new(actor(other, ("0", "root"), None))];
        let circumstances = Circumstances { actor: &puppet, others: &others, time: None };
        let path = Path::new("/w/a");
        let standing = policy.standing(&policy.rules()[0], path, Action::Updated, circumstances);
        assert_eq!(matches!(standing, Standing::Suppressed(_)), want, "{other}");
    }
}

#[test]
fn only_makes_a_rule_about_somebody() {
    let web = Condition { users: vec!["www-data".to_owned()], ..Condition::default() };
    let policy = Policy::new(vec![
        Rule { severity: 95, only: vec![web], ..Rule::new("by the web server", patterns("/w")) },
        Rule::new("all", patterns("/w")),
    ]);
    for (user, want) in [("www-data", "by the web server"), ("root", "all")] {
        let actor = actor("/usr/bin/x", ("5", user), None);
        let verdict = policy.decide(Path::new("/w/a"), Action::Updated, &actor).unwrap();
        assert_eq!(verdict.rule.name, want);
    }
    // The baseline has what any rule may be about.
    let covering = policy.covers(Path::new("/w/a")).unwrap();
    assert_eq!(covering.name, "by the web server");
}
