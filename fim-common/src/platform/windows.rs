//! Windows.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{sddl, wtf8};
use crate::baseline::StateDirError;

pub(crate) use fim_win32::clock::{be_nice, thread_time};
pub(crate) use fim_win32::file::free_bytes;

/// What stands between the names of a path.
pub(crate) const SEPARATOR: u8 = b'\\';
/// Where the configuration is.
pub(crate) const CONFIGURATION: &str = r"C:\ProgramData\fim\fim.toml";
/// Where the agent keeps what it knows, unless it is told otherwise.
pub(crate) const STATE_DIR: &str = r"C:\ProgramData\fim";
/// What the program is called as.
pub(crate) const PROGRAM: &str = "fim-windows-etw";
/// As whom commands may look at the state.
pub(crate) const PRIVILEGED: &str = "an administrator";
/// `FILE_FLAG_OPEN_REPARSE_POINT`: the link itself, which is then found to be no file of ours.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
/// `FILE_FLAG_BACKUP_SEMANTICS`, without which directories cannot be opened.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// `READ_CONTROL`: the right to read the security descriptor.
const READ_CONTROL: u32 = 0x0002_0000;

/// All drives: below these everything lies but what is on shares.
pub(crate) fn roots() -> Vec<PathBuf> {
    ('A'..='Z').map(|letter| PathBuf::from(format!(r"{letter}:\"))).collect()
}

/// The name that these bytes are; the inverse of `OsStr::as_encoded_bytes`.
pub(crate) fn os_str(bytes: &[u8]) -> Cow<'_, OsStr> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(OsStr::new(text)),
        Err(_) => Cow::Owned(OsString::from_wide(&wtf8::units(bytes))),
    }
}

/// The path that these bytes are. A drive alone (`C:`) is its root, not where the process happens
/// to be on it.
pub(crate) fn path(mut bytes: Vec<u8>) -> PathBuf {
    if let [letter, b':'] = bytes.as_slice()
        && letter.is_ascii_alphabetic()
    {
        bytes.push(SEPARATOR);
    }
    match String::from_utf8(bytes) {
        Ok(text) => PathBuf::from(text),
        Err(error) => PathBuf::from(OsString::from_wide(&wtf8::units(error.as_bytes()))),
    }
}

/// Opens a file of the agent's own, and never through a link. What others may do with it, it
/// inherits from the state directory, which is closed to them.
pub(crate) fn own(options: &mut OpenOptions, _mode: u32) -> &mut OpenOptions {
    options.custom_flags(OPEN_REPARSE_POINT)
}

/// Volume and file number: what an open file is.
///
/// # Errors
/// What the system says.
pub(crate) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = fim_win32::file::information(file)?;
    Ok((found.volume, found.index))
}

/// The same of what is at `path`, a link among it.
///
/// # Errors
/// What the system says.
pub(crate) fn identity_at(path: &Path) -> io::Result<(u64, u64)> {
    /// `FILE_READ_ATTRIBUTES`.
    const READ_ATTRIBUTES: u32 = 0x80;
    let mut options = OpenOptions::new();
    options.access_mode(READ_ATTRIBUTES).custom_flags(OPEN_REPARSE_POINT | BACKUP_SEMANTICS);
    identity(&options.open(path)?)
}

/// Makes a directory that only administrators, the system and we can enter.
///
/// # Errors
/// What the system says.
pub(crate) fn own_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).create(path)?;
    close_directory(path)
}

/// Takes away what others may do with a directory that is there: the DACL is its own from now on,
/// and what is made in it inherits it.
///
/// # Errors
/// What the system says.
pub(crate) fn close_directory(path: &Path) -> io::Result<()> {
    let own = fim_win32::security::own_sid()?;
    let dacl = format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{own})");
    fim_win32::security::set_dacl(path, &dacl)
}

/// NTFS keeps names in its own log; there is nothing to ask for.
///
/// # Errors
/// None.
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Times of change, in ticks of 100 ns: of content, and the making of the file.
pub(crate) fn change_times(metadata: &Metadata) -> [u64; 2] {
    [metadata.last_write_time(), metadata.creation_time()]
}

/// Whether only administrators, the system and we can change what is in the state directory.
///
/// # Errors
/// [`StateDirError::Open`], [`StateDirError::Io`].
pub(crate) fn trust(path: &Path, _: &Metadata) -> Result<(), StateDirError> {
    let io = |source| StateDirError::Io { path: path.to_owned(), source };
    let directory = OpenOptions::new()
        .access_mode(READ_CONTROL)
        .custom_flags(BACKUP_SEMANTICS)
        .open(path)
        .map_err(io)?;
    match strangers(&directory).map_err(io)? {
        Some(who) => Err(StateDirError::Open { path: path.to_owned(), who }),
        None => Ok(()),
    }
}

/// Secrets lie in the state directory, whose DACL they inherit and which was checked.
pub(crate) fn exposed(_: &Metadata) -> Option<(u32, u32)> {
    None
}

/// Who else can write to the configuration, and what to do about it.
pub(crate) fn writable(file: &File) -> io::Result<Option<String>> {
    Ok(strangers(file)?.map(|who| {
        format!(
            "its DACL lets {who} write to it (icacls FILE /inheritance:r /grant *S-1-5-32-544:F)"
        )
    }))
}

/// Who else can put another configuration in its place. Not looked at.
pub(crate) fn replaceable(_: &Path) -> io::Result<Option<String>> {
    Ok(None)
}

/// Whom the DACL lets write, beside administrators, the system and us.
fn strangers(file: &File) -> io::Result<Option<String>> {
    let own = fim_win32::security::own_sid()?;
    let text = fim_win32::security::of_file(file)?;
    Ok(sddl::writers(&text).into_iter().find(|sid| *sid != own && !sddl::is_trusted(sid)).map(
        |sid| match fim_win32::security::account(&sid) {
            Ok(account) => format!(r"{}\{}", account.domain, account.name),
            Err(_) => sid,
        },
    ))
}

/// A path as the disk spells it, which keeps upper and lower case although it does not tell them
/// apart: of its longest part that exists, and the rest as it is.
pub(crate) fn spelled(path: PathBuf) -> PathBuf {
    let mut rest = Vec::new();
    let mut begin = path.as_path();
    loop {
        if let Ok(found) = fim_win32::file::spelled(begin) {
            return rest.into_iter().rev().fold(found, |path, name| path.join(name));
        }
        match (begin.parent(), begin.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                begin = parent;
            }
            _ => return path,
        }
    }
}

/// Whether it says that there is nothing of that name.
pub(crate) fn vanished(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reading at a place without moving anybody else's.
pub(crate) trait FileExt {
    /// As pread(2).
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads at most as much as fits.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.seek_read(buffer, offset)
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.seek_read(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    buffer = buffer.get_mut(length..).unwrap_or_default();
                    offset += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Fills `bytes` with the system's random numbers.
///
/// # Errors
/// When it has none.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}
