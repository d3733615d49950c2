//! POSIX ACLs: the kernel's xattr to getfacl(1)'s short text.
//!
//! Format: `struct posix_acl_xattr_header` and `_entry` in include/uapi/linux/posix_acl_xattr.h,
//! little-endian: u32 version (2), then entries of u16 tag, u16 permissions, u32 id.

/// Of the object itself.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Of a directory, for what is created in it.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// One text an entry, in the kernel's order, each with `prefix`; `None` for another format.
pub(super) fn text(value: &[u8], prefix: &str) -> Option<Vec<String>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || !entries.len().is_multiple_of(8) {
        return None;
    }
    entries.chunks_exact(8).map(|entry| one(entry, prefix)).collect()
}

fn one(entry: &[u8], prefix: &str) -> Option<String> {
    let (tag, rest) = entry.split_first_chunk::<2>()?;
    let (bits, id) = rest.split_first_chunk::<2>()?;
    let id = u32::from_le_bytes(*id.first_chunk::<4>()?);
    let qualified = |word: &str| format!("{word}:{id}");
    let who = match u16::from_le_bytes(*tag) {
        0x01 => "user:".to_owned(),
        0x02 => qualified("user"),
        0x04 => "group:".to_owned(),
        0x08 => qualified("group"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let bits = u16::from_le_bytes(*bits);
    let flag = |bit: u16, letter: char| if bits & bit == 0 { '-' } else { letter };
    Some(format!("{prefix}{who}:{}{}{}", flag(4, 'r'), flag(2, 'w'), flag(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn every_tag_and_permission() {
        let none = u32::MAX;
        let value = acl(&[
            (1, 6, none),
            (2, 4, 1000),
            (4, 5, none),
            (8, 0, 27),
            (0x10, 7, none),
            (0x20, 1, none),
        ]);
        let expected =
            ["user::rw-", "user:1000:r--", "group::r-x", "group:27:---", "mask::rwx", "other::--x"];
        assert_eq!(text(&value, "").unwrap(), expected);
        assert_eq!(text(&value, "default:").unwrap()[1], "default:user:1000:r--");
    }

    #[test]
    fn what_is_no_acl_is_not_guessed() {
        let cases: [&[u8]; 5] = [
            b"",
            b"\x02\0\0",
            b"\x01\0\0\0",
            b"\x02\0\0\0\x01\0\x06",
            b"\x02\0\0\0\x03\0\x06\0\0\0\0\0",
        ];
        for bytes in cases {
            assert_eq!(text(bytes, ""), None, "{bytes:?}");
        }
        assert_eq!(text(b"\x02\0\0\0", ""), Some(vec![]));
    }
}
