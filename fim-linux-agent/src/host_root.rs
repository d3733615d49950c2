//! Where the agent runs in a container: the root of the host, which is mounted in there.
//!
//! The agent makes it its own root (chroot(2)) before it looks at anything. Then every path is the
//! host's: what is watched, the names of users, packages, `/proc`, control groups, and the state
//! directory. To read each of them below a prefix would be a second way for every path there is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Why the host's root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or may not be entered.
    #[error(
        "--host-root {}: {source}; mount the host's / there (-v /:/host:ro,rslave) and give the \
         container CAP_SYS_CHROOT",
        path.display()
    )]
    Enter {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory like any other.
    #[error(
        "--host-root {}: it has no /proc of this process: mount the host's / there with all that \
         is mounted below it (-v /:/host:ro,rslave; in Kubernetes a hostPath volume of / with \
         mountPropagation: HostToContainer)",
        path.display()
    )]
    NoProc {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel would name processes by other numbers than the host.
    #[error(
        "--host-root: this container has process ids of its own, by which no process of the host \
         can be named: start it with --pid=host (in Kubernetes: hostPID: true)"
    )]
    PidNamespace,
}

/// Whether the root is the host's because it was entered.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Makes `root` the root directory of this process. Before any thread is there, and before any
/// file is looked at.
///
/// # Errors
/// When it is not the root of this host; nothing has changed then.
pub fn enter(root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Enter { path: root.to_owned(), source };
    fs::metadata(root).map_err(failed)?;
    let status = fs::read_to_string(root.join("proc/self/status"))
        .map_err(|_| Error::NoProc { path: root.to_owned() })?;
    match pid_namespaces(&status) {
        Some(1) => {}
        _ => return Err(Error::PidNamespace),
    }
    rustix::process::chroot(root).map_err(|error| failed(error.into()))?;
    rustix::process::chdir("/").map_err(|error| failed(error.into()))?;
    ENTERED.store(true, Ordering::Relaxed);
    Ok(())
}

/// How many process namespaces there are from that of this procfs down to the process: proc(5),
/// `NSpid`. `None` where the kernel does not say.
fn pid_namespaces(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().count())
}

/// Whether [`enter`] was successful: names that belong to the container, and not to the host, are
/// to be looked for elsewhere.
pub fn is_entered() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_counted() {
        assert_eq!(pid_namespaces("Name:\tx\nNSpid:\t4711\nNSpgid:\t1\n"), Some(1));
        assert_eq!(pid_namespaces("NSpid:\t4711\t1\n"), Some(2));
        assert_eq!(pid_namespaces("Pid:\t1\n"), None);
    }

    #[test]
    fn a_root_that_is_not_the_host_s_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = enter(directory.path()).unwrap_err();
        assert!(matches!(error, Error::NoProc { .. }), "{error}");
        let error = enter(&directory.path().join("gone")).unwrap_err();
        assert!(matches!(error, Error::Enter { .. }), "{error}");
        assert!(!is_entered());
    }
}
