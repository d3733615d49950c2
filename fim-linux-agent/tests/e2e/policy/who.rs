//! Rules that tell programs, users and times apart.

use std::collections::BTreeSet;

use super::{by, event, own, program, rule, start};
use crate::environment::{beside_others, is_ready};
use crate::event::path_text;
use crate::scratch::Scratch;

#[test]
fn the_configuration_manager_may_write_and_nobody_else() {
    if !is_ready("policy::who") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("who");
    let watched = scratch.directory("watched");
    let (manager, other) = (program(&scratch, "manager"), program(&scratch, "other"));
    let entry = format!(
        "severity = 90\n[[rule.allow]]\nexecutable = [{manager:?}]\nuser = [\"root\"]\n\
         reason = \"the manager\"\n[[rule.allow]]\nexecutable = [{other:?}]\nuser = [\"nobody\"]"
    );
    let (agent, _) = start(&scratch, &rule("who", &watched, &entry));
    by(&manager, &watched.join("a"));
    by(&other, &watched.join("b"));
    let allowed = event(&agent, &watched.join("a"), "created");
    assert_eq!(allowed.text("event.kind"), Some("event"), "{allowed}");
    assert_eq!(allowed.text("fim.expectation.allowed"), Some("the manager"), "{allowed}");
    assert_eq!(allowed.number("event.severity"), Some(90));
    let alert = event(&agent, &watched.join("b"), "created");
    assert_eq!(alert.text("event.kind"), Some("alert"), "{alert}");
    assert!(!alert.has("fim.expectation"), "{alert}");
    agent.stop();
}

#[test]
fn what_is_suppressed_is_counted() {
    if !is_ready("policy::who") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("suppress");
    let watched = scratch.directory("watched");
    let (manager, other) = (program(&scratch, "manager"), program(&scratch, "other"));
    let entry = format!("[[rule.suppress]]\nexecutable = [{manager:?}]\nreason = \"known\"");
    let (agent, _) = start(&scratch, &rule("noisy", &watched, &entry));
    let names: BTreeSet<String> = (0..40).map(|number| format!("by manager {number}")).collect();
    for name in &names {
        by(&manager, &watched.join(name));
    }
    by(&other, &watched.join("by other"));
    event(&agent, &watched.join("by other"), "created");
    // The interval is an hour: the stop sums up.
    agent.stop();
    let told: Vec<String> =
        agent.stream.lines_below(&watched).iter().map(|line| line.path().to_owned()).collect();
    assert_eq!(told, [path_text(&watched.join("by other"))], "{}", agent.log());
    let summaries = own(&agent, "suppressed", 1);
    let entry = &summaries[0].at("fim.suppressed")[0];
    assert_eq!(entry["rule"], "noisy", "{}", summaries[0]);
    assert_eq!(entry["count"], 40);
    assert_eq!(entry["reason"], "known");
    let paths = entry["paths"].as_array().unwrap();
    assert_eq!((paths.len(), &entry["elsewhere"]), (32, &8.into()));
    assert_eq!(entry["processes"][0]["executable"], path_text(&manager));
    assert_eq!(entry["processes"][0]["count"], 40);
}

#[test]
fn changes_are_expected_in_a_maintenance_window_only() {
    if !is_ready("policy::who") {
        return;
    }
    let _guard = beside_others();
    let scratch = Scratch::new("maintenance");
    let (now, past, never) =
        (scratch.directory("now"), scratch.directory("past"), scratch.directory("never"));
    let config = [
        "[[maintenance]]\nname = \"always\"\ndays = [\"daily\"]\nstart = \"00:00\"\n\
         duration = \"24h\"\ntimezone = \"UTC\"\n[[maintenance]]\nname = \"long ago\"\n\
         from = \"2020-01-01T00:00:00Z\"\nuntil = \"2020-01-02T00:00:00Z\"\n"
            .to_owned(),
        rule("now", &now, "severity = 90\nexpect = \"maintenance\""),
        rule("past", &past, "severity = 1\nexpect = \"maintenance\"\nmaintenance = [\"long ago\"]"),
        rule("never", &never, "severity = 1\nexpect = \"never\""),
    ];
    let (agent, _) = start(&scratch, &config.concat());
    let program = program(&scratch, "program");
    for (directory, kind, met, window) in [
        (&now, "event", true, Some("always")),
        (&past, "alert", false, None),
        (&never, "alert", false, None),
    ] {
        by(&program, &directory.join("a"));
        let event = event(&agent, &directory.join("a"), "created");
        assert_eq!(event.text("event.kind"), Some(kind), "{event}");
        assert_eq!(event.at("fim.expectation.met"), met, "{event}");
        assert_eq!(event.text("fim.expectation.window"), window, "{event}");
    }
    agent.stop();
}
