//! Programs that have to come back.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How often it is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(10);

/// What a program says and how it ends; one that has not ended by then is killed, and that is an error
/// that says what it had said.
///
/// It writes into files (in `folder`) and not into pipes: what it starts and leaves running keeps
/// its end of a pipe, so that whoever reads the other end waits for that too.
pub(super) fn output(command: &mut Command, limit: Duration, folder: &Path) -> Result<Output> {
    let words = command.get_args().map(|word| word.display().to_string());
    let what = words.collect::<Vec<_>>().join(" ");
    let (mut stdout, mut stderr) = (unnamed(folder, "stdout")?, unnamed(folder, "stderr")?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting `{what}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(POLL);
    };
    let (stdout, stderr) = (read(&mut stdout)?, read(&mut stderr)?);
    let Some(status) = status else {
        let said = [&stdout, &stderr].map(|said| String::from_utf8_lossy(said).trim().to_owned());
        bail!(
            "`{what}` has not ended in {} s and was killed; it had said:\n{}",
            limit.as_secs_f32(),
            said.join("\n")
        );
    };
    Ok(Output { status, stdout, stderr })
}

/// A file that goes with the last who has it open.
fn unnamed(folder: &Path, name: &str) -> Result<File> {
    let path =
        folder.join(format!("{name}-{}-{:?}", std::process::id(), std::thread::current().id()));
    let open = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = open.with_context(|| format!("making {}", path.display()))?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn read(file: &mut File) -> Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> (Result<Output>, Duration) {
        let begun = Instant::now();
        let mut command = Command::new("sh");
        let done = output(command.args(["-c", script]), limit, &std::env::temp_dir());
        (done, begun.elapsed())
    }

    #[test]
    fn what_a_program_leaves_running_is_not_waited_for() {
        let (done, took) = sh("sleep 30 & echo $!; echo no >&2; exit 3", Duration::from_secs(20));
        let done = done.unwrap();
        let left = String::from_utf8(done.stdout).unwrap();
        let ended = Command::new("kill").arg(left.trim()).status().unwrap();
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert!(ended.success(), "it was to be left running");
        assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(3), b"no\n".as_slice()));
    }

    #[test]
    fn what_does_not_end_is_killed_and_said() {
        let (done, took) = sh("echo so far; exec sleep 30", Duration::from_millis(300));
        let error = format!("{:#}", done.unwrap_err());
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert!(error.contains("has not ended in 0.3 s") && error.contains("so far"), "{error}");
    }
}
