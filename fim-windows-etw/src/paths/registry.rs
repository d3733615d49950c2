//! Registry paths.

/// A key, as people and ECS name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPath {
    /// `HKLM`, `HKU`; `None`: of an application's own hive, a container's, or not known.
    pub hive: Option<String>,
    /// The key below the hive, or the whole of it; may be empty for the hive itself.
    pub key: String,
}

impl RegistryPath {
    /// `HKLM\SOFTWARE\…`.
    pub fn path(&self) -> String {
        match &self.hive {
            Some(hive) if self.key.is_empty() => hive.clone(),
            Some(hive) => format!("{hive}\\{}", self.key),
            None => self.key.clone(),
        }
    }

    /// The other names of the same key, by which a rule may mean it: `CurrentControlSet` for
    /// `ControlSet001`, the key without `WOW6432Node` for a 32-bit program's view, and `HKCU` for a
    /// user's own part of `HKU`.
    ///
    /// Which control set is the current one is not recorded: it is the first, but for a machine
    /// that was started with its last known good configuration.
    pub fn aliases(&self) -> Vec<String> {
        let path = self.path();
        let mut aliases = Vec::new();
        if let Some(current) = control_set(&path) {
            aliases.push(current);
        }
        if let Some(own) = own(&path) {
            aliases.push(own);
        }
        let lower = path.to_ascii_lowercase();
        if let Some(at) = lower.find("\\wow6432node")
            && matches!(path.as_bytes().get(at + 12), None | Some(b'\\'))
        {
            aliases.push(format!("{}{}", &path[..at], &path[at + 12..]));
        }
        aliases
    }
}

/// `HKCU\…` of `HKU\<SID>\…`, for people (`S-1-5-21-…`), local or of a domain (Entra ID's are
/// `S-1-12-1-…`).
fn own(path: &str) -> Option<String> {
    let rest = path.strip_prefix("HKU\\")?;
    let (sid, below) = rest.split_once('\\').unwrap_or((rest, ""));
    let sid = sid.to_ascii_uppercase();
    if !sid.starts_with("S-1-5-21-") && !sid.starts_with("S-1-12-1-") {
        return None;
    }
    let root = match sid.ends_with("_CLASSES") {
        true => "HKCU\\Software\\Classes",
        false => "HKCU",
    };
    Some(if below.is_empty() { root.to_owned() } else { format!("{root}\\{below}") })
}

fn control_set(path: &str) -> Option<String> {
    let swap = |from: &str, to: &str| {
        let begin = path.get(..from.len())?;
        let rest = &path[from.len()..];
        let whole = rest.is_empty() || rest.starts_with('\\');
        (begin.eq_ignore_ascii_case(from) && whole).then(|| format!("{to}{rest}"))
    };
    let (numbered, current) = ("HKLM\\SYSTEM\\ControlSet001", "HKLM\\SYSTEM\\CurrentControlSet");
    swap(numbered, current).or_else(|| swap(current, numbered))
}

/// From the kernel's name of a key. `\REGISTRY\MACHINE\…` is HKLM, `\REGISTRY\USER\…` is HKU;
/// application hives (`\REGISTRY\A\…`) and those of containers (`\REGISTRY\WC\…`) have no other
/// name. A name that is not absolute lacks its beginning, and stays as it is.
pub fn registry_path(name: &str) -> RegistryPath {
    let name = name.strip_suffix('\\').unwrap_or(name);
    for (root, hive) in [("\\REGISTRY\\MACHINE", "HKLM"), ("\\REGISTRY\\USER", "HKU")] {
        let Some(begin) = name.get(..root.len()) else { continue };
        let rest = &name[root.len()..];
        if begin.eq_ignore_ascii_case(root) && (rest.is_empty() || rest.starts_with('\\')) {
            let key = rest.strip_prefix('\\').unwrap_or(rest).to_owned();
            return RegistryPath { hive: Some(hive.to_owned()), key };
        }
    }
    RegistryPath { hive: None, key: name.to_owned() }
}
