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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_schema_file_is_up_to_date() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/event.schema.json");
        if std::env::var_os("FIM_UPDATE_DOCS").is_some() {
            std::fs::write(&file, schema_json()).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == schema_json(),
            "docs/event.schema.json is not what the code says; write it anew with\n  \
             FIM_UPDATE_DOCS=1 cargo test -p fim-common event::schema"
        );
    }

    #[test]
    fn the_schema_is_one() {
        let schema = serde_json::from_str(&schema_json()).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        jsonschema::validator_for(&schema).unwrap();
    }
}
