//! Files whose content must not be kept in a form that can be read.

use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes kept of the digest of a line: enough to tell the lines of one file apart.
const DIGEST: usize = 8;

/// A keyed digest of each line. The key comes first and has the size of half a block, so SHA-256's
/// length extension is of no use to anybody: digests are cut to 8 bytes.
pub(super) fn digests(key: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    let mut digests = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let digest = Sha256::new().chain_update(key).chain_update(line).finalize();
        digests.extend(digest.iter().take(DIGEST));
    }
    digests
}

/// The digests that [`digests`] wrote.
pub(super) fn parse(bytes: &[u8]) -> Vec<u64> {
    let (digests, _) = bytes.as_chunks::<DIGEST>();
    digests.iter().map(|digest| u64::from_le_bytes(*digest)).collect()
}

/// Whether a text has a private key in it (PEM, RFC 7468; OpenSSH's own), whatever its file is called.
pub(super) fn has_private_key(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"PRIVATE KEY-----").is_some()
}

/// Whether a file is secret although no rule says anything: password hashes, private keys,
/// credentials.
pub fn is_secret_by_default(path: &Path) -> bool {
    const NAMES: [&str; 18] = [
        "shadow",
        "shadow-",
        "gshadow",
        "gshadow-",
        "opasswd",
        // What passwd(1) and chpasswd(8) write, by PAM, before they rename it.
        "nshadow",
        "nopasswd",
        "master.passwd",
        "krb5.keytab",
        "sudo.key",
        ".netrc",
        ".pgpass",
        ".my.cnf",
        "credentials",
        "secrets.tdb",
        "sssd.ldb",
        ".htpasswd",
        ".git-credentials",
    ];
    const ENDINGS: [&str; 10] =
        [".key", ".pem", ".p12", ".pfx", ".jks", ".keytab", ".kdbx", ".ppk", ".psk", "_key"];
    const DIRECTORIES: [&str; 2] = ["/etc/ssl/private", "/etc/NetworkManager/system-connections"];
    if DIRECTORIES.iter().any(|directory| path.starts_with(directory)) {
        return true;
    }
    let Some(name) = path.file_name() else { return false };
    let name = name.to_string_lossy().to_ascii_lowercase();
    if name == ".env" || name.starts_with(".env.") {
        return true;
    }
    // What editors and tools leave beside: `shadow~`, `.shadow.swp`, `shadow.bak`, `shadow+`.
    let name = name.trim_start_matches('.').trim_end_matches(['~', '+']);
    let stem = [
        ".bak",
        ".old",
        ".orig",
        ".swp",
        ".swo",
        ".new",
        ".tmp",
        ".save",
        ".dpkg-old",
        ".dpkg-dist",
        ".dpkg-new",
        ".rpmsave",
        ".rpmnew",
    ]
    .iter()
    .find_map(|ending| name.strip_suffix(ending))
    .unwrap_or(name);
    // `id_ed25519`, `id_ed25519_work`, but not what is public of it.
    let is_ssh_key = ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"]
        .iter()
        .any(|known| stem.starts_with(known) && !stem.ends_with(".pub"));
    is_ssh_key
        || NAMES.iter().any(|known| known.trim_start_matches('.') == stem)
        || ENDINGS.iter().any(|ending| stem.ends_with(ending))
}
