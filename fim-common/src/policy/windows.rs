//! Windows paths in a policy, on whatever system it is read.
//!
//! `C:\\Windows\\*.exe`, `\\\\server\\share`, `HKLM\\SOFTWARE`: upper and lower case are the same, `/` and
//! `\\` both separate components, and there is no character that takes the meaning from a wildcard.
//! A path is matched by its key: `/c:/windows/x.exe`. Shares lie below `/UNC/`, which no folded path
//! can begin with.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::pattern::trimmed;

/// What a path is matched by: on Linux itself, on Windows its key. The two cannot be taken for one
/// another: a canonical path of Linux begins with a slash, and none of Windows does.
pub(crate) fn subject(path: &Path) -> Cow<'_, [u8]> {
    match trimmed(path) {
        plain @ [b'/', ..] => Cow::Borrowed(plain),
        _ => Cow::Owned(key(&path.to_string_lossy()).into_bytes()),
    }
}

/// Where on the disk the base of a pattern lies; `None`: nowhere (a registry key, a device,
/// anything at all).
pub(super) fn place(base: &Path) -> Option<PathBuf> {
    let base = base.to_str()?;
    if let Some(share) = base.strip_prefix("/UNC/") {
        return Some(PathBuf::from(format!(r"\\{}", share.replace('/', r"\"))));
    }
    let rest = base.strip_prefix('/')?;
    let (letter, below) = (rest.chars().next()?, rest.get(2..)?);
    if !letter.is_ascii_alphabetic() || rest.get(1..2) != Some(":") {
        return None;
    }
    let below = if below.is_empty() { "/" } else { below };
    Some(PathBuf::from(format!("{}:{}", letter.to_ascii_uppercase(), below.replace('/', r"\"))))
}

/// The key of a path or, wildcards and all, of a pattern.
pub(super) fn key(path: &str) -> String {
    let share = path.strip_prefix("\\\\").or_else(|| path.strip_prefix("//"));
    // `\\?\C:\x` is how a program says that a path is to be taken as it is.
    let verbatim =
        share.and_then(|rest| rest.strip_prefix("?\\").or_else(|| rest.strip_prefix("?/")));
    let (begin, rest) = match (verbatim, share) {
        (Some(rest), _) => ("/", rest),
        (None, Some(rest)) => ("/UNC/", rest),
        (None, None) => ("/", path.trim_start_matches(['\\', '/'])),
    };
    let mut key = String::with_capacity(begin.len() + rest.len());
    key.push_str(begin);
    for c in rest.trim_end_matches(['\\', '/']).chars() {
        match c {
            '\\' => key.push('/'),
            c if c.is_ascii() => key.push(c.to_ascii_lowercase()),
            c => key.extend(c.to_lowercase()),
        }
    }
    key
}

/// Whether a pattern says where it begins: at a drive, a share or a device, at a root key, or
/// anywhere (`**`). What does not would be watched nowhere.
pub(crate) fn is_absolute(pattern: &str) -> bool {
    let first = pattern.split(['\\', '/']).next().unwrap_or_default();
    // `{C:,D:}` is a drive too.
    (first.is_empty() && !pattern.is_empty())
        || first == "**"
        || first.ends_with([':', '}'])
        || super::registry::is_hive(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Action;
    use crate::policy::{Pattern, Policy, Rule};

    #[test]
    fn keys() {
        for (path, want) in [
            ("C:\\Windows\\X.exe", "/c:/windows/x.exe"),
            ("C:/Windows\\", "/c:/windows"),
            ("\\\\Server\\share\\x", "/UNC/server/share/x"),
            ("\\\\?\\C:\\x", "/c:/x"),
            ("\\Device\\HarddiskVolume3\\x", "/device/harddiskvolume3/x"),
            ("HKLM\\SOFTWARE", "/hklm/software"),
            ("C:\\ÄÖ", "/c:/äö"),
        ] {
            assert_eq!(key(path), want, "{path}");
        }
    }

    #[test]
    fn what_begins_nowhere_is_not_absolute() {
        for path in [
            r"C:\x",
            "c:",
            "?:/x",
            r"{C:,D:}\x",
            r"\\srv\share",
            r"\Device\x",
            "/**/x",
            r"**\x",
            r"hklm\SOFTWARE",
            r"HKEY_USERS\x",
        ] {
            assert!(is_absolute(path), "{path}");
        }
        for path in ["", "none", r"x\y", "*.tmp", "C:x"] {
            assert!(!is_absolute(path), "{path}");
        }
    }

    #[test]
    fn places() {
        for (path, want) in [
            (r"C:\Windows\X", Some(r"C:\windows\x")),
            ("c:", Some(r"C:\")),
            (r"\\Srv\Share\a", Some(r"\\srv\share\a")),
            (r"HKLM\SOFTWARE", None),
            (r"\Device\x", None),
        ] {
            let base = key(path);
            assert_eq!(place(Path::new(&base)), want.map(PathBuf::from), "{path}");
        }
        assert_eq!(place(Path::new("/")), None);
        assert_eq!(*subject(Path::new("/etc/x/")), *b"/etc/x");
        assert_eq!(*subject(Path::new(r"C:\X")), *b"/c:/x");
    }

    #[test]
    fn rules_match_whatever_the_case_and_the_separator() {
        let rule = |text: &str| Rule::new(text, Pattern::parse_windows(text).unwrap());
        let policy = Policy::for_windows(vec![
            rule("C:\\Windows\\System32\\drivers"),
            rule("c:/users/*/ntuser.dat"),
            rule("\\\\srv\\share\\**"),
            rule("HKLM\\SOFTWARE\\*\\Run"),
        ]);
        let rule = |path: &str| {
            policy.verdict(Path::new(path), Action::Created).map(|found| &*found.rule.name)
        };
        let drivers = Some("C:\\Windows\\System32\\drivers");
        assert_eq!(rule("C:\\WINDOWS\\system32\\drivers\\etc\\hosts"), drivers);
        assert_eq!(rule("C:\\Windows\\System32\\drivers"), drivers);
        assert_eq!(rule("C:\\Windows\\System32\\driversx"), None);
        assert_eq!(rule("C:\\Users\\Ann\\NTUSER.DAT"), Some("c:/users/*/ntuser.dat"));
        assert_eq!(rule("C:\\Users\\Ann\\x\\NTUSER.DAT"), None);
        assert_eq!(rule("\\\\SRV\\share\\a"), Some("\\\\srv\\share\\**"));
        assert_eq!(rule("HKLM\\Software\\x\\run"), Some("HKLM\\SOFTWARE\\*\\Run"));
        let everything = Policy::for_windows(vec![Rule::new("all", vec![Pattern::everything()])]);
        for path in ["C:\\x", "\\\\s\\x", "Software\\X", ""] {
            assert!(everything.covers(Path::new(path)).is_some(), "{path}");
        }
    }
}
