//! The list of security modules that a guest is booted with.

use std::fs;

use anyhow::{Context as _, Result};

use crate::kernels::Installed;

/// Whether BPF LSM programs are called in the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lsm {
    /// What the kernel was built with.
    #[default]
    Default,
    /// The kernel's list, with `bpf`.
    WithBpf,
    /// The kernel's list, without `bpf`.
    WithoutBpf,
}

/// The value of `lsm=`, where the default will not do.
pub(crate) fn list(lsm: Lsm, kernel: &Installed) -> Result<Option<String>> {
    if lsm == Lsm::Default {
        return Ok(None);
    }
    let config = fs::read_to_string(&kernel.config)
        .with_context(|| format!("reading {}", kernel.config.display()))?;
    let default = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_LSM="))
        .with_context(|| format!("no CONFIG_LSM in {}", kernel.config.display()))?;
    Ok(Some(adapt(default.trim_matches('"'), lsm)))
}

fn adapt(default: &str, lsm: Lsm) -> String {
    let mut names: Vec<&str> = default.split(',').filter(|name| *name != "bpf").collect();
    if lsm == Lsm::WithBpf {
        names.push("bpf");
    }
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_is_added_once_and_removed() {
        assert_eq!(adapt("lockdown,apparmor", Lsm::WithBpf), "lockdown,apparmor,bpf");
        assert_eq!(adapt("lockdown,bpf,ipe", Lsm::WithBpf), "lockdown,ipe,bpf");
        assert_eq!(adapt("lockdown,bpf,ipe", Lsm::WithoutBpf), "lockdown,ipe");
    }
}
