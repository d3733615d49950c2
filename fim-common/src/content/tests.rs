use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

struct Kept {
    dir: TempDir,
    contents: Contents,
}

impl Kept {
    fn new(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        let contents = Contents::open(dir.path(), limits).unwrap();
        Self { dir, contents }
    }

    fn change(&self, path: &str, before: &[u8], after: &[u8], keep: Keep) -> ContentDiff {
        let before = sha256(before);
        self.contents.changed(Path::new(path), Some(&before), &sha256(after), after, keep)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path().join(DIRECTORY))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != KEY)
            .collect();
        names.sort();
        names
    }
}

const OLD: &[u8] = b"Port 22\nPermitRootLogin no\nUsePAM yes\n";
const NEW: &[u8] = b"Port 22\nPermitRootLogin yes\nUsePAM yes\n";

#[test]
fn text_is_told_as_diff_writes_it() {
    let kept = Kept::new(Limits::default());
    kept.contents.keep(Path::new("/a"), &sha256(OLD), OLD, Keep::Text).unwrap();
    let diff = kept.change("/a", OLD, NEW, Keep::Text);
    assert_eq!(diff.state, DiffState::Complete);
    assert_eq!(diff.from, Some(sha256(OLD)));
    assert_eq!(diff.to, sha256(NEW));
    assert_eq!(
        diff.unified.as_deref(),
        Some("@@ -1,3 +1,3 @@\n Port 22\n-PermitRootLogin no\n+PermitRootLogin yes\n UsePAM yes\n")
    );
    assert_eq!((diff.lines_added, diff.lines_removed), (Some(1), Some(1)));
    // The new content is kept, the old one is not any more.
    assert_eq!(kept.files(), [format!("{}.text.gz", sha256(NEW))]);
    assert_eq!(kept.change("/a", NEW, OLD, Keep::Text).state, DiffState::Complete);
}

#[test]
fn the_end_without_a_newline_is_told() {
    let kept = Kept::new(Limits::default());
    kept.contents.keep(Path::new("/a"), &sha256(b"one"), b"one", Keep::Text).unwrap();
    let diff = kept.change("/a", b"one", b"two\n", Keep::Text);
    assert_eq!(
        diff.unified.as_deref(),
        Some("@@ -1 +1 @@\n-one\n\\ No newline at end of file\n+two\n")
    );
}

#[test]
fn nothing_of_a_secret_can_be_read() {
    let kept = Kept::new(Limits::default());
    let old = b"root:$y$j9T$secretsalt$hash:19000::::::\ndaemon:*:19000::::::\n";
    let new = b"root:$y$j9T$othersalt$hash:19000::::::\ndaemon:*:19000::::::\nx:!::::::\n";
    kept.contents.keep(Path::new("/s"), &sha256(old), old, Keep::Digests).unwrap();
    let diff = kept.change("/s", old, new, Keep::Digests);
    assert_eq!(diff.state, DiffState::Secret);
    assert_eq!((diff.lines_added, diff.lines_removed), (Some(2), Some(1)));
    assert_eq!(diff.unified, None);
    for name in kept.files() {
        let file = fs::File::open(kept.dir.path().join(DIRECTORY).join(name)).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        for word in [&b"root"[..], b"secretsalt", b"othersalt", b"daemon"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
        // A digest without the key would tell whoever guesses the line.
        let bare = Sha256::digest(b"daemon:*:19000::::::\n");
        assert!(!bytes.windows(8).any(|window| window == &bare[..8]));
    }
}

/// A rule about a directory cannot name each key in it.
#[test]
fn a_private_key_is_secret_whatever_its_file_is_called() {
    let kept = Kept::new(Limits::default());
    let key = |body: &str| {
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
    };
    let (one, two) = (key("b25lCg"), key("dHdvCg"));
    kept.contents.keep(Path::new("/a"), &sha256(b"text\n"), b"text\n", Keep::Text).unwrap();
    let diff = kept.change("/a", b"text\n", one.as_bytes(), Keep::Text);
    assert_eq!((diff.state, diff.unified), (DiffState::Secret, None));
    assert_eq!((diff.lines_added, diff.lines_removed), (Some(3), Some(1)));
    let diff = kept.change("/a", one.as_bytes(), two.as_bytes(), Keep::Text);
    assert_eq!((diff.state, diff.unified), (DiffState::Secret, None));
    assert!(!kept.contents.has(Path::new("/a"), &sha256(two.as_bytes()), Keep::Text));
}

#[test]
fn only_root_can_read_what_is_kept() {
    let kept = Kept::new(Limits::default());
    kept.contents.keep(Path::new("/a"), &sha256(OLD), OLD, Keep::Text).unwrap();
    let directory = kept.dir.path().join(DIRECTORY);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn binary_and_unknown_contents_say_so() {
    let kept = Kept::new(Limits::default());
    assert_eq!(kept.change("/a", OLD, NEW, Keep::Text).state, DiffState::NoPrevious);
    let diff = kept.change("/a", NEW, b"\x7fELF\0\0", Keep::Text);
    assert_eq!((diff.state, diff.unified), (DiffState::Binary, None));
    let diff = kept.change("/b", b"\x7fELF\0\0", b"\x7fELF\0\x01", Keep::Text);
    assert_eq!((diff.state, diff.unified), (DiffState::Binary, None), "neither was ever kept");
    assert_eq!(kept.files(), [""; 0], "binary contents are not kept");
}

#[test]
fn a_long_difference_is_cut_at_a_line() {
    let kept = Kept::new(Limits { diff: 300, ..Limits::default() });
    let new: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    kept.contents.keep(Path::new("/a"), &sha256(b""), b"", Keep::Text).unwrap();
    let diff = kept.change("/a", b"", new.as_bytes(), Keep::Text);
    assert_eq!(diff.state, DiffState::Truncated);
    let text = diff.unified.unwrap();
    assert!(text.len() <= 300 && text.len() > 250 && text.ends_with('\n'), "{}", text.len());
    assert_eq!((diff.lines_added, diff.lines_removed), (Some(1000), Some(0)));
}

#[test]
fn a_damaged_content_is_not_compared_with() {
    let kept = Kept::new(Limits::default());
    kept.contents.keep(Path::new("/a"), &sha256(OLD), OLD, Keep::Text).unwrap();
    let file = kept.dir.path().join(DIRECTORY).join(format!("{}.text.gz", sha256(OLD)));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, b"PermitRootLogin yes\n").unwrap();
    fs::write(&file, encoder.finish().unwrap()).unwrap();
    assert_eq!(kept.change("/a", OLD, NEW, Keep::Text).state, DiffState::NoPrevious);

    fs::write(&file, b"no gzip").unwrap();
    assert_eq!(kept.change("/b", OLD, NEW, Keep::Text).state, DiffState::NoPrevious);
}

#[test]
fn contents_that_nobody_has_are_removed() {
    let kept = Kept::new(Limits::default());
    let [a, b] = ["/a", "/b"].map(Path::new);
    // Two files of one content share it; it goes with the second.
    kept.contents.keep(a, &sha256(OLD), OLD, Keep::Text).unwrap();
    kept.contents.keep(b, &sha256(OLD), OLD, Keep::Text).unwrap();
    kept.change("/a", OLD, NEW, Keep::Text);
    assert_eq!(kept.files().len(), 2);
    kept.change("/b", OLD, NEW, Keep::Text);
    assert_eq!(kept.files(), [format!("{}.text.gz", sha256(NEW))]);

    // After a start, what is not claimed is removed; and what a killed agent left unfinished.
    fs::write(kept.dir.path().join(DIRECTORY).join("7.tmp"), b"half").unwrap();
    let again = Contents::open(kept.dir.path(), Limits::default()).unwrap();
    assert_eq!(kept.files().len(), 1);
    assert_eq!(again.sweep().unwrap(), 1);
    assert_eq!(kept.files(), [""; 0]);
}

#[test]
fn the_total_is_bounded() {
    let kept = Kept::new(Limits { total: 200, ..Limits::default() });
    let mut refused = 0;
    for n in 0..20 {
        let text = format!("content number {n}\n");
        let path = format!("/{n}");
        let result = kept.contents.keep(
            Path::new(&path),
            &sha256(text.as_bytes()),
            text.as_bytes(),
            Keep::Text,
        );
        refused += usize::from(result.is_err());
    }
    assert!(refused > 10 && refused < 20, "{refused}");
    let bytes: u64 = fs::read_dir(kept.dir.path().join(DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 200 + 32, "{bytes}");
}

#[test]
fn well_known_secrets_are_secret() {
    let secret = [
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/.shadow.swp",
        "/etc/shadow~",
        "/etc/security/opasswd",
        "/etc/ssh/ssh_host_ed25519_key",
        "/root/.ssh/id_rsa",
        "/etc/ssl/private/x",
        "/etc/pki/tls/server.KEY",
        "/root/.netrc",
        "/etc/krb5.keytab",
        "/etc/shadow.dpkg-old",
        "/root/.aws/credentials",
        "/etc/nshadow",
        "/root/.ssh/id_ed25519_work",
        "/srv/www/.htpasswd",
        "/srv/app/.env.production",
    ];
    for path in secret {
        assert!(is_secret_by_default(Path::new(path)), "{path}");
    }
    for path in [
        "/etc/passwd",
        "/etc/ssh/sshd_config",
        "/root/.ssh/authorized_keys",
        "/etc/keys",
        "/root/.ssh/id_rsa.pub",
        "/usr/bin/env",
        "/",
    ] {
        assert!(!is_secret_by_default(Path::new(path)), "{path}");
    }
}

/// The oracle: what patch(1) would make of it.
fn apply(old: &[u8], unified: &str) -> Vec<u8> {
    let old: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    let mut new = Vec::new();
    let mut at = 0;
    for line in unified.lines() {
        if let Some(header) = line.strip_prefix("@@ -") {
            let (start, _) = header.split_once(' ').unwrap();
            let (start, count) = start.split_once(',').unwrap_or((start, "1"));
            let start: usize = start.parse().unwrap();
            let start = if count == "0" { start } else { start - 1 };
            old[at..start].iter().for_each(|line| new.extend_from_slice(line));
            at = start;
        } else if line.starts_with('\\') {
            assert_eq!(new.pop(), Some(b'\n'));
        } else {
            let (sign, text) = line.split_at(1);
            if sign != "+" {
                at += 1;
            }
            if sign != "-" {
                new.extend_from_slice(text.as_bytes());
                new.push(b'\n');
            }
        }
    }
    old[at..].iter().for_each(|line| new.extend_from_slice(line));
    new
}

proptest! {
    #[test]
    fn a_difference_leads_from_one_to_the_other(
        old in "([ab]{0,2}\n){0,12}",
        new in "([ab]{0,2}\n){0,12}",
    ) {
        let diff = compare::unified(old.as_bytes(), new.as_bytes(), usize::MAX);
        prop_assert_eq!(apply(old.as_bytes(), &diff.unified), new.as_bytes());
    }
}
