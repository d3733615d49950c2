//! Every command in the pages of this repository is run, as its readers do it: in a place where
//! `fim` is in the path, `/var/lib/fim`, `/etc/fim` and what else the pages name are the test's own,
//! the network too, and an agent runs that has something to tell. A block that is not run says why, in
//! the page.
//!
//! Configurations in the pages are checked by `fim policy check`. What `cargo xtask` is asked to do is
//! read by its own command line and no more: these tasks are what runs here.

mod blocks;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};

use self::blocks::{Block, Fate};
use super::{
    agent::{Running, event, journal, wait_for},
    directory,
};
use crate::{
    cli, dist, vm,
    workspace::{Workspace, output, say},
};

/// Commands that go on until somebody ends them, and what they have printed by then.
const GO_ON: &[(&str, &str)] =
    &[("fim run --watch /tmp/w", "\"agent_started\""), ("fim events --alerts -f", "/tmp/w/first")];

/// What a page leaves to its reader, or would take long; and what stands for it here.
const INSTEAD: &[(&str, &str)] = &[
    // The delivered program, in place of one that would be built for this.
    ("cargo xtask run -- --watch", "fim run --watch"),
    ("--learn 10m", "--learn 1s"),
];

/// How long the commands of a block may take together, in seconds. The longest takes some three on a
/// machine with other work.
const LIMIT: u32 = 60;

/// Whether timeout(1) had to end something; where SIGTERM does not do, SIGKILL takes it along.
fn was_too_long(status: ExitStatus) -> bool {
    status.code() == Some(124) || status.signal() == Some(9)
}

/// An entry of the journal, which a page cannot know.
const HEAD: &str = "5f1c0e…";

/// Pages with commands in them.
fn pages(ws: &Workspace) -> Result<Vec<Block>> {
    let mut pages = vec!["README.md".to_string(), "CONTRIBUTING.md".to_string()];
    for entry in fs::read_dir(ws.root.join("docs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    let mut blocks = Vec::new();
    for page in pages {
        let text = fs::read_to_string(ws.root.join(&page))?;
        blocks.extend(blocks::of(&page, &text)?);
    }
    Ok(blocks)
}

pub(super) fn test(ws: &Workspace) -> Result<()> {
    let mut counts = [0; 4];
    let mut to_run = Vec::new();
    let place = Place::make(ws)?;
    for block in pages(ws)? {
        match (block.language.as_str(), &block.fate) {
            ("toml", Fate::Run) => {
                place.check_configuration(&block)?;
                counts[0] += 1;
            }
            ("sh", Fate::Run) => to_run.push(block),
            (_, Fate::Elsewhere(file, text)) => {
                let found = fs::read_to_string(ws.root.join(file));
                let found = found.with_context(|| format!("{} names {file}", block.place()))?;
                ensure!(found.contains(text), "{}: {file} has no {text:?}", block.place());
                counts[1] += 1;
            }
            (_, Fate::Not(why)) => {
                say(format!("{}: not run: {why}", block.place()));
                counts[2] += 1;
            }
            _ => {}
        }
    }
    // What looks into the files of the agent does so behind its end.
    let (later, now): (Vec<_>, Vec<_>) = to_run
        .into_iter()
        .partition(|block| ["docs/journal.md", "docs/report.md"].contains(&block.page.as_str()));
    let mut agent = place.agent()?;
    for block in &now {
        counts[3] += place.run(block)?;
    }
    event(&place.path("lib"), "created", Path::new("/tmp/w/a")).context("README.md")?;
    agent.stop()?;
    place.copy_journal()?;
    for block in &later {
        counts[3] += place.run(block)?;
    }
    let [configurations, elsewhere, not, commands] = counts;
    say(format!(
        "docs: {commands} commands run, {configurations} configurations checked, {elsewhere} \
         blocks run by other tests, {not} not run"
    ));
    Ok(())
}

/// Where commands are run: a mount namespace with directories of the test's own, and a network of its
/// own, in which nobody else has the agent's port.
struct Place {
    base: PathBuf,
    /// Holds the namespaces.
    holder: Running,
}

/// Directories of the host that are others there, and in which directory of the test they are.
const OWN: &[(&str, &str)] = &[
    ("/var/lib/fim", "lib"),
    ("/etc/fim", "etc"),
    ("/tmp/w", "w"),
    ("/mnt", "mnt"),
    ("/media", "media"),
    ("/usr/local/sbin", "sbin"),
];

impl Place {
    fn make(ws: &Workspace) -> Result<Self> {
        let base = directory(ws).join("docs");
        let _ = fs::remove_dir_all(&base);
        for directory in ["lib", "etc", "w", "mnt/copy", "media/audit", "sbin", "bin", "here"] {
            fs::create_dir_all(base.join(directory))?;
        }
        fs::set_permissions(base.join("lib"), fs::Permissions::from_mode(0o700))?;
        symlink(dist::directory(ws).join("fim"), base.join("bin/fim"))?;
        for name in ["deploy", "target"] {
            symlink(ws.root.join(name), base.join("here").join(name))?;
        }
        // Whatever ships events on takes some.
        let ship = base.join("bin/ship-it");
        fs::write(&ship, "#!/bin/sh\nexec head -n1\n")?;
        fs::set_permissions(&ship, fs::Permissions::from_mode(0o755))?;
        let busybox = vm::busybox().context("busybox is missing")?;
        let mut before = format!("'{}' ip link set lo up\n", busybox.display());
        for (at, from) in OWN {
            fs::create_dir_all(at)?;
            before.push_str(&format!("mount --bind '{}' {at}\n", base.join(from).display()));
        }
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--net", "sh", "-ec"])
            .arg(format!("{before}echo ready\nexec sleep infinity"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting unshare")?;
        let mut holder = Running(holder);
        let mut ready = [0; 6];
        let out = holder.0.stdout.as_mut().context("no output")?;
        out.read_exact(&mut ready).context("directories of the test's own cannot be mounted")?;
        Ok(Self { base, holder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// A script in the place, in a directory of its own.
    fn shell(&self, script: &str) -> Command {
        self.enter(Command::new("nsenter"), script)
    }

    /// The same with a limit to its time, after which it and what it has started are ended.
    fn limited(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &LIMIT.to_string(), "nsenter"]);
        self.enter(command, script)
    }

    fn enter(&self, mut command: Command, script: &str) -> Command {
        command
            .args(["--mount", "--net", "--target", &self.holder.0.id().to_string()])
            .arg(format!("--wd={}", self.path("here").display()))
            .args(["sh", "-ec", script]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env_remove("FIM_HOST_ROOT").stdin(Stdio::null());
        command
    }

    /// The agent whose journal the commands look into: with something to tell, alerts, and a sink
    /// that refuses some of it.
    fn agent(&self) -> Result<Running> {
        let refusing = refuse(self.holder.0.id())?;
        fs::write(
            self.path("etc/fim.toml"),
            format!(
                "recommended = false\n[[rule]]\nname = \"system-configuration\"\n\
                 paths = [\"/tmp/w\"]\nseverity = 80\n\
                 [[sink]]\nname = \"siem\"\ntype = \"http\"\nurl = \"http://{refusing}\"\n"
            ),
        )?;
        let log = fs::File::create(self.path("log"))?;
        let child = self
            .shell("exec fim run --output none")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting the agent")?;
        let agent = Running(child);
        let lib = self.path("lib");
        wait_for("the agent", || {
            Ok(journal(&lib)?.into_iter().find(|event| event["event"]["action"] == "agent_started"))
        })?;
        fs::write(self.path("w/first"), "x\n")?;
        wait_for("an event that the sink refused", || {
            Ok(fs::metadata(lib.join("sinks/siem.parked.jsonl"))?.len().checked_sub(1))
        })?;
        Ok(agent)
    }

    /// What an auditor has: a copy of the journal, and the key.
    fn copy_journal(&self) -> Result<()> {
        let script = "cp -a /var/lib/fim/journal /mnt/copy/\n\
                      for place in . /media/audit; do\n\
                      cp /var/lib/fim/journal-key.pub.pem $place/journal-key.pub.pem\ndone";
        output(&mut self.shell(script)).map(drop)
    }

    fn check_configuration(&self, block: &Block) -> Result<()> {
        let file = self.path("here/block.toml");
        fs::write(&file, &block.text)?;
        let checked = output(&mut self.shell("exec fim policy check --config block.toml"));
        checked.map(drop).with_context(|| block.place())
    }

    /// Runs the commands of a block, in one shell as far as they end; gives their number.
    fn run(&self, block: &Block) -> Result<usize> {
        let mut script = String::new();
        let commands = block.commands()?;
        for command in &commands {
            let mut command = command.clone();
            for (from, to) in INSTEAD {
                command = command.replace(from, to);
            }
            if command.contains(HEAD) {
                command = command.replace(HEAD, &self.head()?);
            }
            if command.contains("cargo xtask") {
                cli::parses(&command).with_context(|| block.place())?;
                continue;
            }
            match GO_ON.iter().find(|(name, _)| *name == command) {
                Some((_, until)) => {
                    self.finish(&mut script, block)?;
                    self.run_until(&command, until).with_context(|| block.place())?;
                }
                None => script.extend([command.as_str(), "\n"]),
            }
        }
        self.finish(&mut script, block)?;
        Ok(commands.len())
    }

    fn finish(&self, script: &mut String, block: &Block) -> Result<()> {
        if !script.is_empty() {
            // The variables of a page's explanation.
            let given = "previous=0 line='{\"chain\":\"\"}}'\n";
            // Each command is named on standard error before it is run: the last one is at fault.
            let done = self.limited(&format!("{given}set -x\n{script}")).output()?;
            let said = String::from_utf8_lossy(&done.stderr);
            let place = block.place();
            ensure!(!was_too_long(done.status), "{place}: not ended within {LIMIT} s: {said}");
            ensure!(done.status.success(), "{place}: failed ({}): {said}", done.status);
            script.clear();
        }
        Ok(())
    }

    /// Ends it when it has printed `until`.
    fn run_until(&self, command: &str, until: &str) -> Result<()> {
        let state = self.path("other").display().to_string();
        // Beside the agent that runs already.
        let own = if command.starts_with("fim run") {
            format!("{command} --state-dir {state} --metrics 127.0.0.1:9978")
        } else {
            command.to_string()
        };
        let mut child = self.limited(&format!("exec {own}"));
        let child = child.stdout(Stdio::piped()).spawn()?;
        let mut running = Running(child);
        let out = running.0.stdout.take().context("no output")?;
        for line in BufReader::new(out).lines() {
            if line?.contains(until) {
                return running.stop();
            }
        }
        bail!("`{command}` did not print {until} until it ended, or was ended after {LIMIT} s")
    }

    /// An entry that is in the journal.
    fn head(&self) -> Result<String> {
        let events = journal(&self.path("lib"))?;
        let first = events.first().context("an empty journal")?;
        Ok(first["fim"]["chain"].as_str().context("an event without chain")?.to_string())
    }
}

/// A receiver that takes no event, in the network of a process.
fn refuse(of: u32) -> Result<SocketAddr> {
    let network = fs::File::open(format!("/proc/{of}/ns/net"))?;
    // A thread has a network of its own, and a socket stays in the one in which it was made.
    let listening = thread::spawn(move || -> Result<TcpListener> {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        Ok(TcpListener::bind("127.0.0.1:0")?)
    });
    let listening = listening.join().map_err(|_| anyhow!("the receiver's thread has ended"))?;
    let listener = listening.context("a receiver in another network")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Ok(copy) = stream.try_clone() else { continue };
            let (mut reader, mut length) = (BufReader::new(copy), 0);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line.trim().is_empty() {
                    let mut body = vec![0; length];
                    let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                    if reader.read_exact(&mut body).and_then(|()| stream.write_all(answer)).is_err()
                    {
                        break;
                    }
                    length = 0;
                } else if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without root and without an agent: what is said of blocks is true, and tasks exist.
    #[test]
    fn each_block_is_run_or_says_why_not() {
        let ws = Workspace::find().unwrap();
        let blocks = pages(&ws).unwrap();
        assert!(blocks.len() > 20);
        for block in &blocks {
            match &block.fate {
                Fate::Elsewhere(file, text) => {
                    let found = fs::read_to_string(ws.root.join(file)).unwrap();
                    assert!(found.contains(text), "{}: {file} has no {text:?}", block.place());
                }
                Fate::Not(why) => assert!(why.len() > 10, "{}: why?", block.place()),
                Fate::Run if block.language == "sh" => {
                    for command in block.commands().unwrap() {
                        if command.contains("cargo xtask") {
                            cli::parses(&command).unwrap();
                        }
                    }
                }
                Fate::Run => {}
            }
        }
    }
}
