//! What other programs are told to do with the same tree: SHA-256, and as many of the properties that
//! fim keeps as they know.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result};

use super::What;
use crate::workspace::which;

/// AIDE, with a worker for each core.
pub(super) fn aide(base: &Path, tree: &Path, what: What) -> Result<Command> {
    let path = base.join("aide.conf");
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = format!(
        "database_in=file:{base}/aide.db\ndatabase_out=file:{base}/aide.new\ngzip_dbout=no\n\
         report_url=stdout\nnum_workers={cores}\n\
         {tree} ftype+l+p+u+g+s+m+c+i+n+acl+xattrs+caps+e2fsattrs+sha256\n",
        base = base.display(),
        tree = tree.display(),
    );
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let mut command = Command::new(which("aide").context("aide is not installed")?);
    command.arg("--config").arg(path);
    match what {
        What::First => command.arg("--init"),
        _ => {
            // As its manual says: what was written becomes what is read.
            fs::rename(base.join("aide.new"), base.join("aide.db")).context("aide's database")?;
            command.arg("--check")
        }
    };
    Ok(command)
}

/// Samhain, which reads its configuration and keeps its database at fixed places only: others are
/// mounted there, in a namespace of its own. What else it would check (ports, processes, mounts) is
/// switched off.
pub(super) fn samhain(base: &Path, tree: &Path, what: What) -> Result<Command> {
    let (configuration, state) = (base.join("samhainrc"), base.join("samhain"));
    let text = format!(
        "[ReadOnly]\ndir = 99{tree}\n\
         [Log]\nLogSeverity=none\nPrintSeverity=none\nMailSeverity=none\nSyslogSeverity=none\n\
         [PortCheck]\nPortCheckActive=no\n[ProcessCheck]\nProcessCheckActive=no\n\
         [SuidCheck]\nSuidCheckActive=no\n[Mounts]\nMountCheckActive=no\n\
         [Utmp]\nLoginCheckActive=no\n\
         [Misc]\nDaemon=no\nChecksumTest=check\nDigestAlgo=SHA256\n[EOF]\n",
        tree = tree.display(),
    );
    fs::write(&configuration, text)
        .with_context(|| format!("writing {}", configuration.display()))?;
    let which_run = match what {
        What::First => {
            // It adds to a database that is there.
            fs::remove_dir_all(&state).ok();
            fs::create_dir_all(&state).context("samhain's directory")?;
            "init"
        }
        _ => "check",
    };
    let program: PathBuf = which("samhain").context("samhain is not installed")?;
    let script = "mount --bind \"$1\" /etc/samhain/samhainrc && \
                  mount --bind \"$2\" /var/lib/samhain && mount --bind \"$2\" /var/log/samhain && \
                  exec \"$3\" -t \"$4\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(configuration).arg(state).arg(program).arg(which_run);
    Ok(command)
}
