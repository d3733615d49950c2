//! From the kernel's names to those that people use.
//!
//! `\Device\HarddiskVolume3\Windows` is `C:\Windows`, `\Device\Mup\server\share` is
//! `\\server\share`, `\REGISTRY\MACHINE\SOFTWARE` is `HKLM\SOFTWARE`. A name that nothing is known
//! of stays as it is. Nothing here asks the system: what it knows is handed in.

mod devices;
mod registry;

#[cfg(test)]
mod tests;

pub use devices::Devices;
pub use registry::{RegistryPath, registry_path};

/// Expands short names (`RUNNER~1`) to long ones. Only the system on which a file lies can.
pub trait LongNames {
    /// The path with long names in place of short ones; `None`: not known.
    fn expand(&self, path: &str) -> Option<String>;
}

/// Nobody can be asked, as for a recorded trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLongNames;

impl LongNames for NoLongNames {
    fn expand(&self, _: &str) -> Option<String> {
        None
    }
}

/// Whether a component may be a short name: `~` and a digit, within 8 and 3 characters.
pub fn may_be_short(path: &str) -> bool {
    path.split('\\').any(|component| {
        let (stem, extension) = component.split_once('.').unwrap_or((component, ""));
        let numbered = stem.split_once('~').is_some_and(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        numbered && stem.chars().count() <= 8 && extension.chars().count() <= 3
    })
}

/// What a path is compared by: names differ in case only for people. (NTFS folds by a table of its
/// own, which agrees with this for all but a few letters.)
pub fn fold(path: &str) -> String {
    let path = path.strip_suffix('\\').unwrap_or(path);
    match path.is_ascii() {
        true => path.to_ascii_lowercase(),
        false => path.to_lowercase(),
    }
}

/// The name of an alternate data stream, and the path of its file. `C:\a.txt:zone` has one; the
/// unnamed stream (`C:\a.txt::$DATA`) is the file itself.
pub fn split_stream(path: &str) -> (&str, Option<&str>) {
    let begin = path.rfind('\\').map_or(0, |at| at + 1);
    // `C:` is a drive.
    let name = &path[begin..];
    let Some((file, stream)) = name.split_once(':') else { return (path, None) };
    if file.is_empty() || (begin == 0 && file.len() == 1) {
        return (path, None);
    }
    let stream = stream.strip_suffix(":$DATA").unwrap_or(stream);
    let stream = stream.strip_suffix(":$data").unwrap_or(stream);
    (&path[..begin + file.len()], (!stream.is_empty()).then_some(stream))
}
