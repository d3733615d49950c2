//! The header of RFC 5424.

use std::fmt::Write as _;

use fim_common::event::Action;

use crate::item::Brief;

/// `sequenceId` begins anew at 1 behind this (RFC 5424, section 7.3.1).
const SEQUENCE_MAX: u64 = 2_147_483_647;

/// All before the message itself: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD `.
pub(crate) fn header(brief: &Brief, facility: u8, app_name: &str) -> String {
    let priority = u16::from(facility) * 8 + u16::from(severity(brief));
    let sequence = (brief.event.sequence.max(1) - 1) % SEQUENCE_MAX + 1;
    let mut out = String::with_capacity(128);
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<{priority}>1 {} {} {app_name} {} {} [meta sequenceId=\"{sequence}\"] ",
        microseconds(&brief.timestamp.to_string()),
        host(brief.host.name.as_deref().unwrap_or_default()),
        std::process::id(),
        brief.event.action.as_str(),
    );
    out
}

/// The severity of syslog, 0 (emergency) to 7 (debug). An event never asks for more than 2
/// (critical): 0 and 1 page people and write to every terminal.
fn severity(brief: &Brief) -> u8 {
    match brief.event.severity {
        Some(90..) => 2,
        Some(70..) => 3,
        Some(50..) => 4,
        Some(25..) => 5,
        Some(_) => 6,
        // The agent's own.
        None => match brief.event.action {
            Action::CanaryMissed | Action::AgentTampered | Action::JournalTruncated => 2,
            Action::Gap | Action::JournalFull | Action::JournalDropped => 4,
            Action::Heartbeat => 6,
            _ => 5,
        },
    }
}

/// RFC 5424 allows six digits of a second, the event has nine.
fn microseconds(time: &str) -> String {
    match (time.find('.'), time.strip_suffix('Z')) {
        (Some(dot), Some(digits)) if digits.len() > dot + 7 => format!("{}Z", &digits[..dot + 7]),
        _ => time.to_owned(),
    }
}

/// 1 to 255 visible characters of ASCII, or `-` for none.
fn host(name: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    match name.is_empty() {
        true => "-".to_owned(),
        false => name.chars().map(visible).take(255).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(severity: &str, action: &str, host: &str) -> Brief {
        let text = format!(
            r#"{{"@timestamp":"2026-11-22T19:50:01.393327336Z","event":{{"id":"x","sequence":7,"kind":"event",
            "action":"{action}"{severity}}},"host":{{"name":"{host}"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_header_is_that_of_the_rfc() {
        let pid = std::process::id();
        assert_eq!(
            header(&brief(r#","severity":75"#, "updated", "web-1.example.org"), 16, "fim"),
            format!(
                "<131>1 2026-11-22T19:50:01.393327Z web-1.example.org fim {pid} updated \
                 [meta sequenceId=\"7\"] "
            )
        );
        assert!(header(&brief("", "gap", "a b\\u00e9"), 10, "x").starts_with("<84>1 2026-11-22T"));
        assert!(header(&brief("", "gap", "a b\\u00e9"), 10, "x").contains("Z a_b_ x "));
        assert!(header(&brief("", "heartbeat", ""), 16, "fim").contains("Z - fim "));
    }

    #[test]
    fn times_without_a_fraction_stay() {
        assert_eq!(microseconds("2026-11-22T19:50:01Z"), "2026-11-22T19:50:01Z");
        assert_eq!(microseconds("2026-11-22T19:50:01.5Z"), "2026-11-22T19:50:01.5Z");
        assert_eq!(microseconds("2026-11-22T19:50:01.123456Z"), "2026-11-22T19:50:01.123456Z");
        assert_eq!(microseconds("2026-11-22T19:50:01.1234567Z"), "2026-11-22T19:50:01.123456Z");
    }
}
