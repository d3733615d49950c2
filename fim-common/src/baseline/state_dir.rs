//! The state directory: one agent's, private to it, and safe to trust at the next start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::durable::replace;
use crate::platform;

/// Free bytes below which the agent does not start: it would run full while taking the baseline
/// of the recommended directories of a small system (some 2,000 objects).
pub const MINIMUM_FREE: u64 = 2 * 1024 * 1024;

/// The directory, and the lock on it: as long as this lives, no other agent uses it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    agent_id: String,
    _lock: Lock,
}

/// A lock on the lock file (flock(2), LockFileEx): it goes with the process, also with one that is
/// killed.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to close(2): a child between fork(2) and exec(2) has the descriptor too.
        let _ = self.0.unlock();
    }
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// There is something else at its path.
    #[error("the state directory {} is not a directory", path.display())]
    NotADirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Whoever owns it can change or remove what the agent keeps.
    #[error(
        "the state directory {} belongs to user {owner}, not to user {us}, as whom fim runs: \
         chown it, or choose another one with --state-dir",
        path.display()
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Our user id.
        us: u32,
    },
    /// Others could change or remove what the agent keeps.
    #[error(
        "the state directory {} can be written by its group or by everybody (mode {mode:04o}): \
         run `chmod 0700 {}`",
        path.display(),
        path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could change or remove what the agent keeps (Windows).
    #[error(
        "the state directory {} can be written by {who}: run `icacls {} /inheritance:r /grant \
         *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`",
        path.display(),
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// An account, or a SID that has none.
        who: String,
    },
    /// Nothing can be written to it.
    #[error(
        "the state directory {} is read-only ({source}): remount or unlock it, or choose another \
         one with --state-dir",
        path.display()
    )]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has less than [`MINIMUM_FREE`] left.
    #[error(
        "the state directory {} has {free} bytes free, and fim needs {MINIMUM_FREE} at least: \
         make room, or choose another one with --state-dir",
        path.display()
    )]
    Full {
        /// The directory.
        path: PathBuf,
        /// Free bytes.
        free: u64,
    },
    /// Another agent runs on it.
    #[error(
        "another fim{} uses the state directory {}: stop it, or choose another one with \
         --state-dir",
        pid.map_or(String::new(), |pid| format!(" (process {pid})")),
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, where it could be read.
        pid: Option<u32>,
    },
    /// The file with the agent's id holds something else. It was left as it is.
    #[error(
        "{} does not hold an agent id (a UUID); it was left untouched: restore it, or remove it \
         to have a new id",
        path.display()
    )]
    AgentId {
        /// The file.
        path: PathBuf,
    },
    /// Anything else, permission among it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDir {
    /// Takes the directory for this process: makes it (mode 0700) where it is missing, checks that
    /// nobody else can write it, locks it, and reads or makes the agent's id.
    ///
    /// # Errors
    /// Each variant of [`StateDirError`]; nothing in the directory was changed but the lock file.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let io = |source| sort(path, path, source);
        platform::own_directory(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StateDirError::NotADirectory { path: path.to_owned() },
            _ => io(error),
        })?;
        // Not through a later change of the name: what is checked is what is used.
        let path = path.canonicalize().map_err(io)?;
        Self::check(&path)?;
        let lock = lock(&path)?;
        // What is in it is nobody else's business; whoever made it may not have known.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
        }
        let free = platform::free_bytes(&path).map_err(|error| sort(&path, &path, error))?;
        if free < MINIMUM_FREE {
            return Err(StateDirError::Full { path, free });
        }
        let agent_id = match read_agent_id(&path)? {
            Some(id) => id,
            None => make_agent_id(&path)?,
        };
        Ok(Self { path, agent_id, _lock: lock })
    }

    /// Whether the directory may be trusted: a directory of ours that only we can write. For
    /// commands that read beside a running agent.
    ///
    /// # Errors
    /// [`StateDirError::NotADirectory`], [`StateDirError::ForeignOwner`],
    /// [`StateDirError::Writable`], or [`StateDirError::Io`] with `NotFound`.
    pub fn check(path: &Path) -> Result<(), StateDirError> {
        let metadata = std::fs::metadata(path).map_err(|source| sort(path, path, source))?;
        if !metadata.is_dir() {
            return Err(StateDirError::NotADirectory { path: path.to_owned() });
        }
        platform::trust(path, &metadata)
    }

    /// The directory, symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal's segments are.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// As the kernel names it in what it tells of it.
    pub fn canonical(&self) -> PathBuf {
        std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// `agent.id`: a UUID, made with the directory.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }
}

fn lock(directory: &Path) -> Result<Lock, StateDirError> {
    let path = directory.join("lock");
    let io = |source| sort(directory, &path, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = platform::own(&mut options, 0o600).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only to name it; a holder that has not written its id yet is not named.
            let _ = file.take(16).read_to_string(&mut holder);
            let pid = holder.trim().parse().ok();
            return Err(StateDirError::Locked { path: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let mut lock = Lock(file);
    lock.0.set_len(0).map_err(io)?;
    lock.0.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io)?;
    Ok(lock)
}

fn read_agent_id(directory: &Path) -> Result<Option<String>, StateDirError> {
    let path = directory.join("agent-id");
    match std::fs::read(&path) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| uuid::Uuid::try_parse(text.trim()).ok())
            .map(|id| Some(id.to_string()))
            .ok_or(StateDirError::AgentId { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(sort(directory, &path, source)),
    }
}

fn make_agent_id(directory: &Path) -> Result<String, StateDirError> {
    let path = directory.join("agent-id");
    let id = uuid::Uuid::now_v7().to_string();
    replace(&path, format!("{id}\n").as_bytes(), 0o600)
        .map_err(|source| sort(directory, &path, source))?;
    Ok(id)
}

fn sort(directory: &Path, path: &Path, source: io::Error) -> StateDirError {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            StateDirError::ReadOnly { path: directory.to_owned(), source }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StateDirError::Full { path: directory.to_owned(), free: 0 }
        }
        io::ErrorKind::NotADirectory => StateDirError::NotADirectory { path: directory.to_owned() },
        // EPERM for root: an immutable directory.
        io::ErrorKind::PermissionDenied if path != directory => {
            StateDirError::ReadOnly { path: directory.to_owned(), source }
        }
        _ => StateDirError::Io { path: path.to_owned(), source },
    }
}

#[cfg(test)]
#[path = "state_dir_tests.rs"]
mod tests;
