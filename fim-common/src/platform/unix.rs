//! Linux.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
pub(crate) use std::os::unix::fs::FileExt;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::baseline::StateDirError;

/// What stands between the names of a path.
pub(crate) const SEPARATOR: u8 = b'/';
/// Where the configuration is.
pub(crate) const CONFIGURATION: &str = "/etc/fim/fim.toml";

/// Where the agent keeps what it knows, unless it is told otherwise.
pub(crate) const STATE_DIR: &str = "/var/lib/fim";
/// What the program is called as.
pub(crate) const PROGRAM: &str = "fim";
/// As whom commands may look at the state.
pub(crate) const PRIVILEGED: &str = "root";

/// Below which everything lies.
pub(crate) fn roots() -> Vec<PathBuf> {
    vec![PathBuf::from("/")]
}

/// The name that these bytes are; the inverse of `OsStr::as_encoded_bytes`.
pub(crate) fn os_str(bytes: &[u8]) -> Cow<'_, OsStr> {
    Cow::Borrowed(OsStr::from_bytes(bytes))
}

/// The path that these bytes are.
pub(crate) fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Opens a file of the agent's own: with these permission bits if it is made, and never through a
/// symbolic link, which somebody else may have put there.
pub(crate) fn own(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    // A pipe would have us wait for its reader.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.mode(mode).custom_flags(flags.bits().cast_signed())
}

/// Device and inode: what an open file is.
///
/// # Errors
/// fstat(2)'s.
pub(crate) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The same of what is at `path`, a link among it.
///
/// # Errors
/// lstat(2)'s.
pub(crate) fn identity_at(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes a directory that only we can enter, and those above it.
///
/// # Errors
/// mkdir(2)'s.
pub(crate) fn own_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes away what others may do with a directory that is there.
///
/// # Errors
/// chmod(2)'s.
pub(crate) fn close_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Has the disk keep what was made, renamed or removed in a directory.
///
/// # Errors
/// open(2)'s and fsync(2)'s.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Times of change in nanoseconds: of content, and of anything.
pub(crate) fn change_times(metadata: &Metadata) -> [u64; 2] {
    let nanos = |seconds: i64, nanos: i64| {
        seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned()
    };
    [nanos(metadata.mtime(), metadata.mtime_nsec()), nanos(metadata.ctime(), metadata.ctime_nsec())]
}

/// Bytes that are free on the volume of a directory.
///
/// # Errors
/// statvfs(3)'s.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Whether only we can change what is in the state directory.
///
/// # Errors
/// [`StateDirError::ForeignOwner`], [`StateDirError::Writable`].
pub(crate) fn trust(path: &Path, metadata: &Metadata) -> Result<(), StateDirError> {
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        let owner = metadata.uid();
        return Err(StateDirError::ForeignOwner { path: path.to_owned(), owner, us });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(StateDirError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Permission bits and owner of a secret that others can read or change.
pub(crate) fn exposed(metadata: &Metadata) -> Option<(u32, u32)> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let ours = owner == rustix::process::geteuid().as_raw();
    (mode & 0o077 != 0 || !ours).then_some((mode, owner))
}

/// Who else can write to the configuration, and what to do about it.
pub(crate) fn writable(file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & 0o022 != 0 {
        return Ok(Some(format!(
            "its mode {mode:04o} lets others than its owner write to it (chmod go-w)"
        )));
    }
    let owner = metadata.uid();
    Ok(is_foreign(owner).then(|| format!("it belongs to user {owner} (chown root)")))
}

/// Whoever may run fim may write to their own configuration.
fn is_foreign(owner: u32) -> bool {
    owner != 0 && owner != rustix::process::geteuid().as_raw()
}

/// Who else can put another configuration in its place, and what to do about it: whoever can write to
/// a directory above it, or to one above a link to it, can rename and replace what is in it.
pub(crate) fn replaceable(path: &Path) -> io::Result<Option<String>> {
    let named = std::path::absolute(path)?;
    let owner = std::fs::symlink_metadata(&named)?.uid();
    if is_foreign(owner) {
        return Ok(Some(format!("it is a link of user {owner} (chown -h root)")));
    }
    let real = named.canonicalize()?;
    for directory in named.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let metadata = std::fs::metadata(directory)?;
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        let shown = directory.display();
        let why = match () {
            () if is_foreign(owner) => format!("belongs to user {owner} (chown root)"),
            // In one like /tmp nobody renames what is somebody else's.
            () if mode & 0o022 != 0 && mode & 0o1000 == 0 => {
                format!("has the mode {mode:04o} (chmod go-w)")
            }
            () => continue,
        };
        // That of a ConfigMap is for everybody to write, and mounted so that nobody can.
        let volume = rustix::fs::statvfs(directory)?;
        if !volume.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Ok(Some(format!("others can put another file in its place: {shown} {why}")));
        }
    }
    Ok(None)
}

/// A path as the disk spells it: Linux knows one spelling only.
pub(crate) fn spelled(path: PathBuf) -> PathBuf {
    path
}

/// Whether it says that there is nothing of that name, or a link where something else was.
pub(crate) fn vanished(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

/// Processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    processor(ClockId::ThreadCPUTime)
}

/// User and system time of all threads, also of those that have ended.
pub(crate) fn process_time() -> Duration {
    processor(ClockId::ProcessCPUTime)
}

fn processor(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Makes the calling thread alone nicer: Linux keeps the value for each (setpriority(2), NOTES).
///
/// # Errors
/// setpriority(2)'s.
pub(crate) fn be_nice(nice: u8) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, i32::from(nice))?)
}

/// Fills `bytes` with the kernel's random numbers.
///
/// # Errors
/// When the kernel has none.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    // More than 256 bytes may be cut short by a signal (getrandom(2)).
    while let Some(rest @ [_, ..]) = bytes.get_mut(filled..) {
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(())
}
