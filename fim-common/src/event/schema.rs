//! The JSON Schema of the event, generated from the types.

use super::Event;

/// The text of `docs/event.schema.json`.
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Event);
    let mut text = serde_json::to_string_pretty(&schema)
        .unwrap_or_else(|error| format!("{{\"$comment\":\"{error}\"}}"));
    text.push('\n');
    text
}
