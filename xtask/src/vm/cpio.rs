//! A writer of the archive format that the kernel unpacks as its initramfs ("newc"; see the
//! kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Who an entry belongs to: uid and gid.
pub(crate) type Owner = (u32, u32);

/// The superuser.
pub(crate) const ROOT: Owner = (0, 0);

/// Writes entries one after the other; [`Archive::finish`] ends the archive.
pub(crate) struct Archive<W: Write> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// A directory. Parents come first.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: Owner) -> io::Result<()> {
        self.entry(path, DIRECTORY | mode, owner, (0, 0), &[])
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | mode, ROOT, (0, 0), bytes)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, ROOT, (0, 0), target.as_bytes())
    }

    pub(crate) fn device(&mut self, path: &str, mode: u32, number: (u32, u32)) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | mode, ROOT, number, &[])
    }

    /// Writes the end marker and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, ROOT, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (uid, gid): Owner,
        (major, minor): (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let size = u32::try_from(bytes.len())
            .map_err(|_| io::Error::other(format!("{path} does not fit: 4 GiB or more")))?;
        // Files of one inode number and several links are hard links of each other.
        self.inode += 1;
        let (inode, links, name_size) = (self.inode, 1, path.len() + 1);
        let header = format!(
            "070701{inode:08x}{mode:08x}{uid:08x}{gid:08x}{links:08x}{mtime:08x}{size:08x}\
             {zero:08x}{zero:08x}{major:08x}{minor:08x}{name_size:08x}{zero:08x}",
            mtime = 0,
            zero = 0,
        );
        self.write(header.as_bytes())?;
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(bytes)?;
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = (4 - self.written % 4) % 4;
        self.write(&[0; 3][..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_are_padded_to_four_bytes() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("etc", 0o755, ROOT).unwrap();
        archive.file("/etc/a", 0o644, b"hello").unwrap();
        archive.symlink("etc/b", "a").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // Each entry: a 110-byte header, then the name with its NUL, both padded together.
        let file = bytes.windows(6).skip(1).position(|w| w == b"070701").unwrap() + 1;
        assert_eq!(file, 116);
        assert_eq!(&bytes[file + 110..file + 116], b"etc/a\0");
        assert_eq!(&bytes[file + 116..file + 121], b"hello");
        assert_eq!(&bytes[file + 124..file + 130], b"070701");
        assert_eq!(&bytes[file + 54..file + 62], b"00000005");
        assert_eq!(&bytes[file + 14..file + 22], b"000081a4");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
