use super::*;

/// The end-to-end tests hold every kind of event against the published schema; these what a schema
/// does not say.
fn event(more: &str) -> Event {
    let text = format!(
        r#"{{"@timestamp":"2026-11-22T19:50:01.393327336Z","event":{{"id":"x","sequence":7,
        "kind":"event","category":["file"],"type":["change"],"action":"updated","outcome":"success"}},
        "host":{{"name":"h","os":{{"type":"linux"}}}},
        "agent":{{"type":"fim","version":"1","ephemeral_id":"e"}}{more}}}"#
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_text_is_cut_where_the_schema_ends_it_and_kept_beside() {
    let long = "é".repeat(TEXT_MAX + 1);
    assert_eq!(text(&long).chars().count(), TEXT_MAX);
    assert_eq!(text("é"), "é");
    let diff = |unified: &str| {
        object(&event(&format!(
            r#","file":{{"path":"/a"}},"fim":{{"diff":{{"state":"complete","to":"0","unified":"{unified}"}}}}"#
        )))
    };
    let object = diff(&long);
    assert_eq!(object["unmapped"]["fim"]["diff"]["unified"], long);
    assert_eq!(object["file_diff"].as_str().unwrap().chars().count(), TEXT_MAX);
    assert_eq!(diff("+a")["unmapped"]["fim"]["diff"]["unified"], Value::Null, "it is in file_diff");
}

#[test]
fn what_was_not_seen_is_not_made_up() {
    let object = object(&event(r#","file":{"path":"/a/b"},"fim":{}"#));
    assert_eq!(
        object["actor"],
        json!({"user": {"name": "Unknown", "type_id": 0, "type": "Unknown"}})
    );
    assert_eq!(object["file"], json!({"path": "/a/b", "name": "b", "type_id": 0}));
    assert_eq!(object["severity"], "Informational");
}

#[test]
fn before_and_after_are_told_apart() {
    let before = r#""before":{"path":"/old","sha256":"00","mode":"0600"}"#;
    let object = object(&event(&format!(
        r#","file":{{"path":"/new","size":3,"hash":{{"sha256":"11"}}}},"fim":{{{before}}}"#
    )));
    assert_eq!(object["file"]["path"], "/old");
    assert_eq!(object["file"]["hashes"][0]["value"], "00");
    assert_eq!(object["file"]["size"], Value::Null, "that of after is not that of before");
    assert_eq!(object["file_result"]["hashes"][0]["value"], "11");
    assert_eq!(object["unmapped"]["fim"]["before"]["mode"], "0600");
}
