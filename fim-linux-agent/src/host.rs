//! `host.*` and `agent.*` of every event.

use std::fs;

use fim_common::event::{Boot, Host, Os};

use crate::host_root;

/// What this host is, as far as it says.
pub fn host() -> Host {
    let uname = rustix::system::uname();
    let read = |path: &str| {
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|s| !s.is_empty())
    };
    let release = read("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        release.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.trim_matches('"').to_owned())
        })
    };
    // A container has a name of its own, and the host's is in its file.
    let own = || Some(uname.nodename().to_string_lossy().into_owned());
    let name = match host_root::is_entered() {
        true => read("/etc/hostname").or_else(own),
        false => own(),
    };
    Host {
        name,
        id: read("/etc/machine-id"),
        boot: read("/proc/sys/kernel/random/boot_id").map(|id| Boot { id }),
        architecture: Some(uname.machine().to_string_lossy().into_owned()),
        os: Os {
            kind: "linux".to_owned(),
            name: field("NAME"),
            version: field("VERSION_ID"),
            kernel: Some(uname.release().to_string_lossy().into_owned()),
        },
    }
}

/// Whether the effective capabilities hold CAP_SYS_ADMIN (21) or, for the bpf backend, CAP_BPF
/// (39) with CAP_PERFMON (38): capabilities(7).
pub fn is_privileged() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return true };
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let has = |capability: u32| effective >> capability & 1 == 1;
    has(21) || (has(38) && has(39))
}
