//! Names by which a file says that it is of use for another one.

use std::path::Path;

/// What stands before the name of the file that is meant: `.x.swp`, `#x#`, `.#x`, `~x`.
fn bare(name: &[u8]) -> &[u8] {
    let from = name.iter().position(|byte| !b".#~_".contains(byte)).unwrap_or(name.len());
    &name[from..]
}

/// Bytes of a name without what stands before it.
const STEM: usize = 12;

/// As much of a name as tells most of the time that it does not stand for another one, without
/// either being looked at.
#[derive(Clone, Copy)]
pub(super) struct Stem {
    first: [u8; STEM],
    length: usize,
    is_probe: bool,
}

impl Stem {
    pub(super) fn of(path: &Path) -> Self {
        let bare = bare(path.file_name().unwrap_or_default().as_encoded_bytes());
        let mut first = [0; STEM];
        first.iter_mut().zip(bare).for_each(|(to, from)| *to = *from);
        Self { first, length: bare.len(), is_probe: is_probe(path) }
    }

    /// Whether what has this name may be of use for what has the other one: false only where
    /// neither [`stands_for`] nor [`is_probe`] says so.
    pub(super) fn may_stand_for(&self, name: &Self) -> bool {
        let known = name.length.min(STEM);
        self.is_probe
            || (self.length >= name.length && self.first.get(..known) == name.first.get(..known))
    }
}

/// Whether `temporary` is named after `name`: the same with something before that is no letter, or
/// with something behind that does not begin with one. And what vim makes beside its swap file to
/// learn how long names may be: `.x.swpx`.
pub(super) fn stands_for(temporary: &Path, name: &Path) -> bool {
    let (Some(temporary), Some(name)) = (temporary.file_name(), name.file_name()) else {
        return false;
    };
    let (temporary, name) = (temporary.as_encoded_bytes(), name.as_encoded_bytes());
    let (of, bare_name) = (bare(temporary), bare(name));
    if name.ends_with(b".swp") && temporary.strip_prefix(name) == Some(b"x") {
        return true;
    }
    !bare_name.is_empty()
        && temporary != name
        && of.strip_prefix(bare_name).is_some_and(|rest| {
            rest.first().is_none_or(|next| !next.is_ascii_alphanumeric() && next.is_ascii())
        })
}

/// The name of a file that vim makes to find out whether it may: 4913, or a larger number.
pub(super) fn is_probe(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_after_a_file() {
        let named = |temporary: &str, name: &str| stands_for(Path::new(temporary), Path::new(name));
        for temporary in
            ["x~", ".x.swp", ".x.swx", "#x#", ".#x", "x.tmp", "x;5f3", ".x.AbC123", "x-", "x.lock"]
        {
            assert!(named(temporary, "x"), "{temporary}");
        }
        assert!(named(".bashrc.swp", ".bashrc"));
        assert!(named(".x.swpx", ".x.swp"));
        for temporary in ["x", "xy", "yx", "y", "x2.tmp", "xé"] {
            assert!(!named(temporary, "x"), "{temporary}");
        }
        assert!(!named(".x.swpy", ".x.swp") && !named("y.swpx", "x.swp"));
        assert!(!named("evil", "sshd_config") && !named("passwd~", "passwd-"));
        assert!(is_probe(Path::new("/w/4913")) && !is_probe(Path::new("/w/4913a")));
    }

    #[test]
    fn a_stem_rules_out_nothing_that_stands_for_a_name() {
        let bare = ["a", "ab", "sshd_config", "sshd_config_1", "very_long_name.conf", "4913", ""];
        let around = |name: &str| {
            let before = ["", ".", "#", "~", ".#"];
            let behind = ["", "~", ".swp", ".swpx", ".swx", "#", ".tmp", "x", ".AbC123"];
            let all = before.iter().flat_map(move |before| behind.map(|behind| (*before, behind)));
            all.map(|(before, behind)| format!("/w/{before}{name}{behind}")).collect::<Vec<_>>()
        };
        let names: Vec<String> = bare.iter().flat_map(|name| around(name)).collect();
        let mut ruled_out = 0;
        for temporary in &names {
            for name in &names {
                let (temporary, name) = (Path::new(temporary), Path::new(name));
                let may = Stem::of(temporary).may_stand_for(&Stem::of(name));
                assert!(
                    may || !(stands_for(temporary, name) || is_probe(temporary)),
                    "{temporary:?} for {name:?}"
                );
                ruled_out += u32::from(!may);
            }
        }
        assert!(ruled_out as usize > names.len() * names.len() / 2, "{ruled_out}");
    }
}
