//! Registry keys and values in a rule. Pure text: it is the same on every host.
//!
//! Names are compared without regard to case, as Windows does. What 32-bit programs see below
//! `WOW6432Node` is another key, and is matched as written: a rule that means both names both.

use std::fmt;

/// A key, with everything below it or with some of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPattern {
    source: String,
    /// Folded; `*` within one stands for any characters.
    components: Vec<String>,
    /// Folded; `None`: the key itself, all its values and everything below it.
    values: Option<Vec<String>>,
}

/// What is wrong with a registry path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It begins with no root key.
    #[error(
        "a registry path begins with HKLM, HKCU, HKU, HKCR or HKCC (or the long name) and `\\`"
    )]
    NoHive,
    /// `\\` twice, or at the end.
    #[error("a name between backslashes is empty")]
    EmptyName,
    /// In a list of values.
    #[error("the list of values is empty; leave it out for all values")]
    NoValues,
}

/// Short and long names of the root keys.
const HIVES: [(&str, &str); 5] = [
    ("HKLM", "HKEY_LOCAL_MACHINE"),
    ("HKCU", "HKEY_CURRENT_USER"),
    ("HKU", "HKEY_USERS"),
    ("HKCR", "HKEY_CLASSES_ROOT"),
    ("HKCC", "HKEY_CURRENT_CONFIG"),
];

/// Whether a name is that of a root key, short or long.
pub(super) fn is_hive(name: &str) -> bool {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    HIVES.iter().any(|(short, long)| is(short) || is(long))
}

impl RegistryPattern {
    /// Parses `HKLM\SOFTWARE\...`, in which `*` stands for any characters within a name. A last
    /// name of `*` means what lies below the key, not the key. With `values`, only those values of
    /// the key itself are meant.
    ///
    /// # Errors
    /// When the text is no such path.
    pub fn parse(text: &str, values: Option<&[String]>) -> Result<Self, RegistryError> {
        if values.is_some_and(<[String]>::is_empty) {
            return Err(RegistryError::NoValues);
        }
        let mut components: Vec<String> = text.split('\\').map(folded).collect();
        let first = components.first_mut().ok_or(RegistryError::NoHive)?;
        let hive = HIVES
            .iter()
            .find(|(short, long)| *first == folded(short) || *first == folded(long))
            .ok_or(RegistryError::NoHive)?;
        *first = folded(hive.0);
        if components.iter().any(String::is_empty) {
            return Err(RegistryError::EmptyName);
        }
        let values = values.map(|values| values.iter().map(|value| folded(value)).collect());
        Ok(Self { source: text.to_owned(), components, values })
    }

    /// The path as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names of the values that are meant, in lower case; `None`: all, and all below the key.
    pub fn values(&self) -> Option<&[String]> {
        self.values.as_deref()
    }

    /// The key at and below which everything that matches lies, with a short root key, and whether
    /// what is below it matters.
    pub fn place(&self) -> (String, bool) {
        let mut names = self.source.split('\\');
        let hive = names.next().map(folded);
        let hive = HIVES.iter().find(|(short, long)| {
            hive.as_ref().is_some_and(|hive| *hive == folded(short) || *hive == folded(long))
        });
        let mut place = hive.map_or_else(String::new, |(short, _)| (*short).to_owned());
        let mut below = self.values.is_none();
        for name in names {
            if name.contains('*') {
                below = true;
                break;
            }
            place.push('\\');
            place.push_str(name);
        }
        (place, below)
    }

    /// Whether something at `key` (with its root key, short or long) matches: the value `value`,
    /// or, with `None`, the key itself.
    pub fn matches(&self, key: &str, value: Option<&str>) -> bool {
        let mut names = key.split('\\');
        let Some(hive) = names.next().and_then(short_hive) else { return false };
        let names: Vec<String> = std::iter::once(folded(hive)).chain(names.map(folded)).collect();
        let fits = |names: &[String]| {
            self.components.iter().zip(names).all(|(pattern, name)| star(pattern, name))
        };
        match &self.values {
            None => names.len() >= self.components.len() && fits(&names),
            Some(values) => {
                let named = value.map(folded).is_some_and(|value| values.contains(&value));
                names.len() == self.components.len() && named && fits(&names)
            }
        }
    }

    /// Whether something at `key` or below it can match.
    pub fn leads_to(&self, key: &str) -> bool {
        let mut names = key.split('\\');
        let Some(hive) = names.next().and_then(short_hive) else { return false };
        let names: Vec<String> = std::iter::once(folded(hive)).chain(names.map(folded)).collect();
        // With values it is about this key alone.
        let is_below = self.values.is_none() || names.len() <= self.components.len();
        is_below && self.components.iter().zip(&names).all(|(pattern, name)| star(pattern, name))
    }

    /// Literal names at the beginning: the more, the more specific. One that names values comes
    /// before one that does not.
    pub fn specificity(&self) -> usize {
        let literal = self.components.iter().take_while(|name| !name.contains('*'));
        2 * literal.map(|name| name.len() + 1).sum::<usize>() + usize::from(self.values.is_some())
    }
}

impl fmt::Display for RegistryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match &self.values {
            Some(values) => write!(f, " ({})", values.join(", ")),
            None => Ok(()),
        }
    }
}

/// The short name of a root key.
fn short_hive(name: &str) -> Option<&'static str> {
    let name = folded(name);
    let found = HIVES.iter().find(|(short, long)| name == folded(short) || name == folded(long));
    found.map(|(short, _)| *short)
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// Whether `name` matches `pattern`, in which `*` is any characters.
fn star(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str, values: &[&str]) -> RegistryPattern {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        RegistryPattern::parse(text, (!values.is_empty()).then_some(values.as_slice())).unwrap()
    }

    #[test]
    fn keys_match_without_regard_to_case_and_by_either_name_of_their_root() {
        let run = pattern(r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", &[]);
        for (key, value, want) in [
            (r"HKLM\Software\microsoft\windows\currentversion\RUN", None, true),
            (r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", Some("x"), true),
            (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run\Below", Some("x"), true),
            (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce", None, false),
            (r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Run", None, false),
            (r"HKCU\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", None, false),
            (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion", None, false),
            (r"NONSENSE", None, false),
        ] {
            assert_eq!(run.matches(key, value), want, "{key}");
        }
    }

    #[test]
    fn values_are_those_of_the_key_itself() {
        let key = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows";
        let values = pattern(key, &["loadappinit_dlls", "AppInit_DLLs"]);
        assert!(values.matches(key, Some("LoadAppInit_DLLs")));
        assert!(values.matches(key, Some("appinit_dlls")));
        assert!(!values.matches(key, Some("Spooler")) && !values.matches(key, None));
        assert!(!values.matches(&format!(r"{key}\Below"), Some("appinit_dlls")));
        assert!(values.specificity() > pattern(key, &[]).specificity());
    }

    #[test]
    fn places() {
        let place = |key: &str, values: &[&str]| pattern(key, values).place();
        assert_eq!(place(r"HKEY_LOCAL_MACHINE\A\b", &[]), (r"HKLM\A\b".to_owned(), true));
        assert_eq!(place(r"HKLM\A\b", &["v"]), (r"HKLM\A\b".to_owned(), false));
        assert_eq!(place(r"HKLM\A\b*\c", &["v"]), (r"HKLM\A".to_owned(), true));
        assert_eq!(place("HKU", &[]), ("HKU".to_owned(), true));
    }

    #[test]
    fn where_a_pattern_can_lead() {
        let run = pattern(r"HKU\*\Software\Run", &[]);
        for (key, want) in [
            ("HKU", true),
            (r"HKEY_USERS\S-1-5-21-1", true),
            (r"HKU\S-1-5-21-1\SOFTWARE", true),
            (r"HKU\S-1-5-21-1\Software\run\below", true),
            (r"HKU\S-1-5-21-1\Network", false),
            (r"HKU\S-1-5-21-1\Software\Microsoft", false),
            ("HKLM", false),
        ] {
            assert_eq!(run.leads_to(key), want, "{key}");
        }
        let value = pattern(r"HKLM\a*\b", &["v"]);
        assert!(value.leads_to(r"HKLM\ax") && value.leads_to(r"HKLM\ax\b"));
        assert!(!value.leads_to(r"HKLM\ax\b\c"));
    }

    #[test]
    fn stars_stand_within_a_name() {
        let oid = pattern(r"HKLM\SOFTWARE\Microsoft\Cryptography\OID\*", &[]);
        assert!(oid.matches(r"HKLM\SOFTWARE\Microsoft\Cryptography\OID\EncodingType 0", None));
        assert!(oid.matches(r"HKLM\SOFTWARE\Microsoft\Cryptography\OID\a\b", Some("Dll")));
        assert!(!oid.matches(r"HKLM\SOFTWARE\Microsoft\Cryptography\OID", None));
        let set = pattern(r"HKLM\SYSTEM\ControlSet*\Services", &[]);
        assert!(set.matches(r"HKLM\SYSTEM\ControlSet001\Services\x", Some("ImagePath")));
        assert!(!set.matches(r"HKLM\SYSTEM\CurrentControlSet\Services\x", None));
        for (pattern, name, want) in [
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "x", false),
        ] {
            assert_eq!(star(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_registry_path_is_refused() {
        for (text, want) in [
            (r"SOFTWARE\Microsoft", RegistryError::NoHive),
            ("", RegistryError::NoHive),
            (r"HKLM\SOFTWARE\\Microsoft", RegistryError::EmptyName),
            (r"HKLM\SOFTWARE\", RegistryError::EmptyName),
        ] {
            assert_eq!(RegistryPattern::parse(text, None), Err(want), "{text}");
        }
        assert_eq!(RegistryPattern::parse("HKLM\\a", Some(&[])), Err(RegistryError::NoValues));
    }
}
