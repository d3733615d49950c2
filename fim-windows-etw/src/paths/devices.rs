//! Devices and the drives, mount points and shares that they are known by.

use super::fold;

/// Mappings that are kept at most: a machine has some tens of volumes.
const MAPPINGS_MAX: usize = 4096;

/// Which device is which drive, or is mounted where.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Folded device path, and what stands for it; the longest device first.
    mappings: Vec<(String, String)>,
}

impl Devices {
    /// Says that `device` (`\Device\HarddiskVolume3`) is `path` (`C:`, or `D:\mnt`). A later word
    /// replaces an earlier one. False: there are too many.
    pub fn map(&mut self, device: &str, path: &str) -> bool {
        let (device, path) = (fold(device), path.strip_suffix('\\').unwrap_or(path).to_owned());
        if let Some(known) = self.mappings.iter_mut().find(|(known, _)| *known == device) {
            known.1 = path;
            return true;
        }
        if self.mappings.len() >= MAPPINGS_MAX {
            return false;
        }
        self.mappings.push((device, path));
        self.mappings.sort_by_key(|(device, _)| std::cmp::Reverse(device.len()));
        true
    }

    /// The path that people use for the kernel's `name`; `None`: it stays as it is.
    pub fn resolve(&self, name: &str) -> Option<String> {
        for prefix in ["\\??\\", "\\DosDevices\\", "\\\\?\\", "\\GLOBAL??\\"] {
            if let Some(rest) = strip(name, prefix) {
                return Some(match strip(rest, "UNC\\") {
                    Some(share) => format!("\\\\{share}"),
                    None if rest.as_bytes().get(1) == Some(&b':') => rest.to_owned(),
                    // A volume by its GUID: this is how user space writes it.
                    None => format!("\\\\?\\{rest}"),
                });
            }
        }
        for (device, path) in &self.mappings {
            if let Some(rest) = below(name, device) {
                let root = rest.is_empty() && path.ends_with(':');
                return Some(if root { format!("{path}\\") } else { format!("{path}{rest}") });
            }
        }
        share(name).map(|share| format!("\\\\{share}"))
    }
}

/// What follows on `prefix`, whatever its case.
fn strip<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let begin = name.get(..prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}

/// What of `name` lies at or below the folded `device`, which ends where a component ends:
/// `\Device\HarddiskVolume1` is not the beginning of `\Device\HarddiskVolume10`.
fn below<'n>(name: &'n str, device: &str) -> Option<&'n str> {
    let rest = strip(name, device)?;
    (rest.is_empty() || rest.starts_with('\\')).then_some(rest)
}

/// `server\share\…` of a name behind the multiple UNC provider or a redirector:
/// `\Device\Mup\server\share`, `\Device\Mup\DfsClient\;Z:0000000000012345\server\share`,
/// `\Device\Mup\;LanmanRedirector\;Z:0000000000012345\server\share`.
fn share(name: &str) -> Option<&str> {
    let device = ["\\Device\\Mup", "\\Device\\LanmanRedirector", "\\Device\\DfsClient"]
        .into_iter()
        .find_map(|device| below(name, device))?;
    let mut rest = device.strip_prefix('\\')?;
    loop {
        let (first, more) = rest.split_once('\\')?;
        // A redirector's own name stands before the drive for which the connection was made.
        let redirector = more.starts_with(';') && !first.starts_with(';');
        if !first.starts_with(';') && !redirector {
            return (!first.is_empty()).then_some(rest);
        }
        rest = more;
    }
}
