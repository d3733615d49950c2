//! What was open for writing before anybody watched it: the programs have not seen the opening, and
//! look at its end only where there may be such a thing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// Whether some process has a file open for writing, or has mapped one so that it is shared, for
/// which `is_watched` holds. A process that ends meanwhile has nothing any more. The agent does not
/// count, which always has its own state open: it is not told of.
pub(super) fn any(is_watched: &dyn Fn(&Path) -> bool) -> bool {
    let own = fs::read_link("/proc/self").ok();
    any_but(own.as_deref(), is_watched)
}

fn any_but(own: Option<&Path>, is_watched: &dyn Fn(&Path) -> bool) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    processes.flatten().any(|process| {
        let number = process.file_name();
        number.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && own.is_none_or(|own| own != Path::new(&number))
            && (has_open(&process.path(), is_watched) || has_mapped(&process.path(), is_watched))
    })
}

fn has_open(process: &Path, is_watched: &dyn Fn(&Path) -> bool) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| is_watched(&target))
            && fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
                .is_ok_and(|text| writes(&text))
    })
}

/// proc_pid_fdinfo(5): the flags of open(2), octal.
fn writes(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & libc::O_ACCMODE.cast_unsigned() != 0)
}

fn has_mapped(process: &Path, is_watched: &dyn Fn(&Path) -> bool) -> bool {
    let Ok(maps) = fs::File::open(process.join("maps")) else { return false };
    let lines = BufReader::new(maps).split(b'\n').map_while(Result::ok);
    lines.into_iter().any(|line| shared(&line).is_some_and(is_watched))
}

/// proc_pid_maps(5): the file that is mapped, if changes go there. That it may only be read now says
/// nothing: mprotect(2) changes that.
fn shared(line: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt as _;
    let permissions = line.split(|&byte| byte == b' ').nth(1)?;
    let path = line.iter().position(|&byte| byte == b'/')?;
    permissions.ends_with(b"s").then(|| Path::new(std::ffi::OsStr::from_bytes(&line[path..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_for_writing_or_mapped_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("a file");
        fs::write(&path, "x").unwrap();
        let is_it = |found: &Path| found == path;
        let reader = fs::File::open(&path).unwrap();
        assert!(!any_but(None, &is_it), "open for reading");
        let writer = fs::File::options().write(true).open(&path).unwrap();
        assert!(any_but(None, &is_it));
        assert!(!any_but(None, &|found| found.starts_with(path.join("below"))));
        assert!(!any(&is_it), "by this process alone");
        drop((reader, writer));
        assert!(!any_but(None, &is_it));
    }

    #[test]
    fn a_shared_mapping_counts_and_a_private_one_does_not() {
        let path = Some(Path::new("/srv/a b"));
        let line = |permissions: &str| {
            format!("7f0000000000-7f0000001000 {permissions} 00000000 fe:00 42      /srv/a b")
        };
        assert_eq!(shared(line("rw-s").as_bytes()), path);
        assert_eq!(shared(line("r--s").as_bytes()), path);
        assert_eq!(shared(line("rw-p").as_bytes()), None);
        assert_eq!(shared(b"7ff-800 rw-p 00000000 00:00 0      [stack]"), None);
        assert_eq!(shared(b""), None);
    }

    #[test]
    fn the_flags_of_a_descriptor() {
        assert!(writes("pos:\t0\nflags:\t0100001\nmnt_id:\t28\n"));
        assert!(writes("pos:\t0\nflags:\t0100002\n"));
        assert!(!writes("pos:\t0\nflags:\t0100000\nmnt_id:\t28\n"));
        assert!(writes("of another kernel"), "not known");
    }
}
