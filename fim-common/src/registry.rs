//! What is known of registry keys, and what differs between two looks at them: pure.

use std::collections::BTreeMap;

use crate::event::RegistryData;
use crate::operation::RegistryAction;

/// A value of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryValue {
    /// Type and, where it is short, content.
    pub data: RegistryData,
    /// Bytes of the content.
    pub size: u64,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryKey {
    /// Owner, group and DACL in SDDL; `None`: not known.
    pub security: Option<String>,
    /// By name; the default value's is empty.
    pub values: BTreeMap<String, RegistryValue>,
}

/// Keys by their path (`HKLM\SOFTWARE\…`).
pub type RegistryKeys = BTreeMap<String, RegistryKey>;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryDifference {
    /// The key.
    pub key: String,
    /// The value; `None`: the key itself.
    pub value: Option<String>,
    /// What must have been done.
    pub action: RegistryAction,
    /// The value before.
    pub before: Option<RegistryValue>,
    /// The value now.
    pub after: Option<RegistryValue>,
    /// Of a key whose security differs: before and now.
    pub security: Option<(String, String)>,
}

impl RegistryDifference {
    fn new(key: &str, value: Option<&str>, action: RegistryAction) -> Self {
        Self {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            action,
            before: None,
            after: None,
            security: None,
        }
    }
}

/// What was done between two looks at the same keys: in the order of the keys, a new key before its
/// values, and of a key that is gone the key alone.
pub fn differences(before: &RegistryKeys, after: &RegistryKeys) -> Vec<RegistryDifference> {
    let mut found = Vec::new();
    let nothing = RegistryKey::default();
    for (path, now) in after {
        let was = before.get(path);
        if was.is_none() {
            found.push(RegistryDifference::new(path, None, RegistryAction::CreateKey));
        }
        let was = was.unwrap_or(&nothing);
        if let (Some(old), Some(new)) = (&was.security, &now.security)
            && old != new
        {
            found.push(RegistryDifference {
                security: Some((old.clone(), new.clone())),
                ..RegistryDifference::new(path, None, RegistryAction::SetSecurity)
            });
        }
        for (name, new) in &now.values {
            let old = was.values.get(name);
            if old != Some(new) {
                found.push(RegistryDifference {
                    before: old.cloned(),
                    after: Some(new.clone()),
                    ..RegistryDifference::new(path, Some(name), RegistryAction::SetValue)
                });
            }
        }
        for (name, old) in was.values.iter().filter(|(name, _)| !now.values.contains_key(*name)) {
            found.push(RegistryDifference {
                before: Some(old.clone()),
                ..RegistryDifference::new(path, Some(name), RegistryAction::DeleteValue)
            });
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        found.push(RegistryDifference::new(path, None, RegistryAction::DeleteKey));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(sha256: &str) -> RegistryValue {
        RegistryValue { sha256: sha256.to_owned(), size: 1, ..RegistryValue::default() }
    }

    fn key(security: &str, values: &[(&str, &str)]) -> RegistryKey {
        RegistryKey {
            security: Some(security.to_owned()),
            values: values.iter().map(|(n, v)| ((*n).to_owned(), value(v))).collect(),
        }
    }

    #[test]
    fn each_difference_once() {
        let before = RegistryKeys::from([
            ("HKLM\\a".to_owned(), key("D:x", &[("", "1"), ("same", "2"), ("gone", "3")])),
            ("HKLM\\b".to_owned(), key("D:x", &[("v", "1")])),
        ]);
        let after = RegistryKeys::from([
            ("HKLM\\a".to_owned(), key("D:y", &[("", "9"), ("same", "2")])),
            ("HKLM\\c".to_owned(), key("D:x", &[("new", "1")])),
        ]);
        let found = differences(&before, &after);
        let short: Vec<_> = found
            .iter()
            .map(|found| (&*found.key, found.value.as_deref(), found.action.name()))
            .collect();
        assert_eq!(
            short,
            [
                ("HKLM\\a", None, "set_key_security"),
                ("HKLM\\a", Some(""), "set_value"),
                ("HKLM\\a", Some("gone"), "delete_value"),
                ("HKLM\\c", None, "create_key"),
                ("HKLM\\c", Some("new"), "set_value"),
                ("HKLM\\b", None, "delete_key"),
            ]
        );
        assert_eq!(found[0].security, Some(("D:x".to_owned(), "D:y".to_owned())));
        assert_eq!(found[1].before, Some(value("1")));
        assert!(differences(&after, &after).is_empty());
        // A security that could not be read is not known to have changed.
        let unread = RegistryKeys::from([(
            "HKLM\\c".to_owned(),
            RegistryKey { security: None, ..after["HKLM\\c"].clone() },
        )]);
        assert!(
            differences(
                &RegistryKeys::from([("HKLM\\c".to_owned(), after["HKLM\\c"].clone())]),
                &unread
            )
            .is_empty()
        );
    }
}
