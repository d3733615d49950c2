//! File capabilities: the kernel's xattr to the text that getcap(8) prints.
//!
//! Format: `struct vfs_cap_data` and `vfs_ns_cap_data` in include/uapi/linux/capability.h,
//! little-endian. Text: `cap_to_text` of libcap 2.66, which Debian 12 has.

/// The attribute.
pub(super) const NAME: &[u8] = b"security.capability";

const EFFECTIVE: usize = 1;
const PERMITTED: usize = 2;
const INHERITABLE: usize = 4;

/// By number, include/uapi/linux/capability.h as of Linux 6.18.
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// `cap_net_bind_service=ep`, with ` [rootid=N]` for a user namespace's; `None` for another
/// format.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let words: Vec<u32> = value
        .chunks_exact(4)
        .filter_map(|word| Some(u32::from_le_bytes(*word.first_chunk::<4>()?)))
        .collect();
    let &magic = words.first()?;
    let (length, pairs) = match magic >> 24 {
        1 => (12, 1),
        2 => (20, 2),
        3 => (24, 2),
        _ => return None,
    };
    if value.len() != length {
        return None;
    }
    let mut permitted = 0_u64;
    let mut inheritable = 0_u64;
    for pair in 0..pairs {
        permitted |= u64::from(*words.get(1 + 2 * pair)?) << (32 * pair);
        inheritable |= u64::from(*words.get(2 + 2 * pair)?) << (32 * pair);
    }
    let mut text = sets(permitted, inheritable, magic & 1 != 0);
    if length == 24 {
        text.push_str(&format!(" [rootid={}]", words.get(5)?));
    }
    Some(text)
}

/// The capabilities grouped by the sets they are in. The combination that most capabilities share
/// comes first and without names (`=` or `=ep`), the others say how they differ from it.
fn sets(permitted: u64, inheritable: u64, effective: bool) -> String {
    let combination = |number: usize| {
        let p = permitted >> number & 1 != 0;
        let i = inheritable >> number & 1 != 0;
        let e = effective && (p || i);
        usize::from(e) * EFFECTIVE + usize::from(p) * PERMITTED + usize::from(i) * INHERITABLE
    };
    let count = |wanted: usize| (0..NAMES.len()).filter(|&n| combination(n) == wanted).count();
    // The smallest of the most frequent ones, as libcap finds it.
    let base = (0..8).rev().max_by_key(|&combination| count(combination)).unwrap_or(0);

    let mut groups = Vec::new();
    if base != 0 {
        groups.push(format!("={}", letters(base)));
    }
    for wanted in (0..8).rev().filter(|&wanted| wanted != base) {
        // Numbers the kernel may define after this was written have no name yet.
        let names: Vec<String> = (0..64)
            .filter(|&number| combination(number) == wanted)
            .filter(|&number| number < NAMES.len() || wanted != 0)
            .map(|number| NAMES.get(number).map_or(number.to_string(), |name| (*name).to_owned()))
            .collect();
        if names.is_empty() {
            continue;
        }
        let mut group = names.join(",");
        if base == 0 {
            // `=` sets, and with nothing set before; further groups add.
            let sign = if groups.is_empty() { '=' } else { '+' };
            group.push_str(&format!("{sign}{}", letters(wanted)));
        } else {
            let (more, less) = (wanted & !base, base & !wanted);
            if more != 0 {
                group.push_str(&format!("+{}", letters(more)));
            }
            if less != 0 {
                group.push_str(&format!("-{}", letters(less)));
            }
        }
        groups.push(group);
    }
    if groups.is_empty() { "=".to_owned() } else { groups.join(" ") }
}

fn letters(combination: usize) -> String {
    [(EFFECTIVE, 'e'), (INHERITABLE, 'i'), (PERMITTED, 'p')]
        .into_iter()
        .filter(|(bit, _)| combination & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn as_getcap_prints_them() {
        let all = u32::MAX;
        let high = (1 << (41 - 32)) - 1;
        let cases: [(&[u32], &str); 9] = [
            (&[0x0200_0001, 1 << 10, 0, 0, 0], "cap_net_bind_service=ep"),
            (&[0x0200_0000, 1 << 13, 0, 0, 0], "cap_net_raw=p"),
            (&[0x0100_0001, 1 << 13, 0], "cap_net_raw=ep"),
            (&[0x0200_0001, 1 << 1 | 1 << 21, 0, 0, 0], "cap_dac_override,cap_sys_admin=ep"),
            (&[0x0200_0001, 0, 0, 1 << 7, 0], "cap_bpf=ep"),
            (&[0x0200_0000, 0, 1 << 5, 0, 0], "cap_kill=i"),
            (&[0x0200_0001, all, 0, high, 0], "=ep"),
            (&[0x0200_0000, 0, 0, 0, 0], "="),
            (&[0x0300_0001, 1 << 13, 0, 0, 0, 100_000], "cap_net_raw=ep [rootid=100000]"),
        ];
        for (words, expected) in cases {
            assert_eq!(text(&bytes(words)).as_deref(), Some(expected), "{words:x?}");
        }
    }

    #[test]
    fn groups_and_the_common_base() {
        assert_eq!(sets(0b11, 0b10, false), "cap_dac_override=ip cap_chown+p");
        let all = (1 << 41) - 1;
        assert_eq!(sets(all & !(1 << 21), 0, true), "=ep cap_sys_admin-ep");
        assert_eq!(sets(1 << 45, 0, true), "45=ep");
    }

    #[test]
    fn what_is_no_capability_is_not_guessed() {
        for words in [&[][..], &[0x0200_0001], &[0x0400_0000, 0, 0, 0, 0], &[0x0200_0000, 0, 0]] {
            assert_eq!(text(&bytes(words)), None, "{words:x?}");
        }
        assert_eq!(text(b"\x01"), None);
    }
}
