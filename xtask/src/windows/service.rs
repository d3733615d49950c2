//! The service's life under Wine, seen from outside of it: what is delivered is installed, started,
//! asked and removed as its users do it, with Wine's service manager; the files are changed and the
//! metrics are read by Linux.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::wine::Wine;
use crate::workspace::say;

/// Beyond this nothing comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a command: those that wait for the service give up themselves after 60 s in which it does not
/// get on, and say why.
const COMMAND: Duration = Duration::from_secs(100);
/// For all of it: it took 15 s on an idle machine.
const WHOLE: Duration = Duration::from_secs(360);
const NAME: &str = "fim-e2e";
const KEY: &str = r"HKLM\SOFTWARE\fim-e2e-service";

struct Place<'w> {
    wine: &'w Wine,
    program: PathBuf,
    directory: PathBuf,
    begun: Instant,
}

/// Runs it, with the unpacked zip in `unpacked`.
pub(super) fn test(wine: &Wine, unpacked: &Path) -> Result<()> {
    let directory = unpacked.with_file_name("service");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("Watched"))?;
    fs::create_dir_all(directory.join("Also"))?;
    let program = unpacked.join(super::zip::PROGRAM);
    let place = Place { wine, program, directory, begun: Instant::now() };
    let running = wine.up().context("bringing Wine up")?;
    let done = place.life();
    if done.is_err() {
        let log = fs::read_to_string(place.directory.join("state/fim.log")).unwrap_or_default();
        say(format!("the service's log:\n{log}"));
        // Else it would start whenever Wine comes up.
        let words = ["service", "uninstall", "--name", NAME].map(OsStr::new);
        let words = [place.program.as_os_str()].into_iter().chain(words);
        if let Err(error) = wine.output(words, COMMAND) {
            say(format!("the service is not removed: {error:#}"));
        }
    }
    drop(running);
    done
}

impl Place<'_> {
    fn life(&self) -> Result<()> {
        // What an interrupted run has left.
        self.fim(&["service", "uninstall", "--name", NAME])?;
        self.policy()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.configure(&["Watched"])?;
        let _ = self.reg(&["delete", KEY, "/f"])?;
        self.reg(&["add", KEY, "/f"])?;
        let (config, state) = (self.path("fim.toml"), self.path("state"));
        let metrics = format!("127.0.0.1:{port}");
        let install = [
            "service",
            "install",
            "--name",
            NAME,
            "--config",
            &config,
            "--state-dir",
            &state,
            "--metrics",
            &metrics,
        ];
        self.says(&install, 0, "installed")?;
        self.says(&install, 0, "updated")?;
        self.service("status", 1, "stopped")?;
        self.service("start", 0, "running")?;
        self.service("status", 0, "running (process ")?;

        self.event("agent_started", "")?;
        let file = self.directory.join("Watched/New.txt");
        fs::write(&file, "seen")?;
        let created = self.event("created", r"Watched\New.txt")?;
        ensure!(created["file"]["size"] == 4, "{created}");
        self.reg(&["add", KEY, "/v", "Run", "/d", "x.exe", "/f"])?;
        self.event("updated", r"fim-e2e-service\Run")?;
        let metrics = get(port, "/metrics")?;
        for name in ["fim_events_total{", "fim_build_info{", "process_cpu_seconds_total"] {
            ensure!(metrics.contains(name), "{name} in {metrics}");
        }
        ensure!(get(port, "/healthz")?.starts_with("HTTP/1.1 200"), "not healthy");
        self.reload()?;

        self.service("stop", 0, "stopped")?;
        let last = self.events()?.pop().context("there are no events")?;
        ensure!(last["event"]["action"] == "agent_stopped", "the last event is {last}");
        self.service("stop", 0, "stopped")?;
        // One that cannot start says so.
        fs::write(self.directory.join("fim.toml"), "nonsense = 1")?;
        self.service("start", 1, "exit code 64")?;
        ensure!(
            fs::read_to_string(self.directory.join("state/fim.log"))?.contains("nonsense"),
            "the log does not say why"
        );
        self.service("uninstall", 0, "removed")?;
        self.service("status", 69, "not installed")?;
        self.says(&["service", "run"], 64, "service manager")?;
        self.reg(&["delete", KEY, "/f"])?;
        say("windows: service: passed");
        Ok(())
    }

    /// The default policy is one, and that of the built-in set.
    fn policy(&self) -> Result<()> {
        let file = self.program.with_file_name("fim.toml");
        let file = windows(&file);
        self.says(&["policy", "check", "--config", &file], 0, "ok: 7 rules")?;
        let shown = self.json(&["policy", "show", "--config", &file, "--json"])?;
        let built_in = self.json(&["policy", "recommended", "--json"])?;
        let built_in = built_in.as_array().context("no list")?;
        let rules = shown["in_force"]["rule"].as_array().context("no rules")?;
        let items = |rule: &Value, key: &str| rule[key].as_array().map_or(0, Vec::len);
        let count: usize = rules.iter().map(|r| items(r, "paths") + items(r, "registry")).sum();
        ensure!(count == built_in.len(), "{count} items in place of {}", built_in.len());
        let keys = shown["registry"].as_array().context("no keys")?;
        ensure!(!keys.is_empty(), "no registry keys in {shown}");
        let here =
            |path: &str| built_in.iter().any(|item| item["path"] == path && item["exists"] == true);
        ensure!(here(r"C:\Windows\explorer.exe"), "Wine has an explorer: {built_in:?}");
        let run = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run";
        ensure!(here(run), "Wine has {run}: {built_in:?}");
        Ok(())
    }

    /// A changed file is taken over; a wrong one is not, and that is told; and so it is when asked.
    fn reload(&self) -> Result<()> {
        self.configure(&["Watched", "Also"])?;
        let changed = self.event("config_changed", "")?;
        let said = &changed["fim"]["configuration"];
        ensure!(said["trigger"] == "file_change", "{changed}");
        let new = self.directory.join("Also/Second.txt");
        fs::write(&new, "x")?;
        self.event("created", r"Also\Second.txt")?;
        self.service("reload", 0, "asked")?;
        self.wait("a reload by request", |event| {
            event["fim"]["configuration"]["trigger"] == "service_control"
        })?;
        fs::write(self.directory.join("fim.toml"), "nonsense = 1")?;
        self.wait("a refusal", |event| {
            event["event"]["action"] == "config_changed"
                && event["fim"]["configuration"]["errors"].is_array()
        })?;
        Ok(())
    }

    fn configure(&self, directories: &[&str]) -> Result<()> {
        let paths: Vec<String> =
            directories.iter().map(|name| format!("'{}'", self.path(name))).collect();
        let text = format!(
            "[[rule]]\nname = 'files'\npaths = [{}]\n[[rule]]\nname = 'keys'\nregistry = ['{KEY}']\n",
            paths.join(", ")
        );
        // As editors do it.
        let new = self.directory.join("fim.toml.new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.directory.join("fim.toml"))?)
    }

    /// As Wine sees it.
    fn path(&self, name: &str) -> String {
        windows(&self.directory.join(name))
    }

    fn fim(&self, words: &[&str]) -> Result<Output> {
        let words = words.iter().map(OsStr::new);
        let words = [self.program.as_os_str()].into_iter().chain(words);
        self.wine.output(words, self.patience(COMMAND)?)
    }

    fn reg(&self, words: &[&str]) -> Result<Output> {
        self.wine.output(["reg.exe"].iter().chain(words), self.patience(COMMAND)?)
    }

    /// How long something may take that is given so long, of what is left for all of it.
    fn patience(&self, step: Duration) -> Result<Duration> {
        let left = WHOLE.saturating_sub(self.begun.elapsed());
        ensure!(!left.is_zero(), "all of it has not ended in {} s", WHOLE.as_secs());
        Ok(step.min(left))
    }

    fn says(&self, words: &[&str], code: i32, text: &str) -> Result<()> {
        let Output { status, stdout, stderr } = self.fim(words)?;
        let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
        if status.code() != Some(code) || !said.contains(text) {
            bail!("{words:?}: {status} in place of {code} and {text:?}:\n{said}");
        }
        Ok(())
    }

    fn service(&self, word: &str, code: i32, text: &str) -> Result<()> {
        self.says(&["service", word, "--name", NAME], code, text)
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let output = self.fim(words)?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The journal.
    fn events(&self) -> Result<Vec<Value>> {
        let Ok(entries) = fs::read_dir(self.directory.join("state/journal")) else {
            return Ok(Vec::new());
        };
        let mut segments = Vec::new();
        for entry in entries {
            segments.push(entry?.path());
        }
        segments.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        segments.sort_unstable();
        let mut events = Vec::new();
        for segment in segments {
            let text = fs::read_to_string(segment)?;
            // The last line may be on its way.
            events.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        Ok(events)
    }

    fn event(&self, action: &str, path: &str) -> Result<Value> {
        self.wait(&format!("{action} {path}"), |event| {
            let told = [&event["file"]["path"], &event["registry"]["path"]];
            event["event"]["action"] == action
                && (path.is_empty()
                    || told
                        .iter()
                        .any(|told| told.as_str().is_some_and(|told| told.ends_with(path))))
        })
    }

    fn wait(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let (since, patience) = (Instant::now(), self.patience(PATIENCE)?);
        loop {
            let events = self.events()?;
            if let Some(event) = events.iter().find(|event| is_it(event)) {
                return Ok(event.clone());
            }
            if since.elapsed() >= patience {
                bail!("{what}: it did not come; there is {events:#?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Z: is the root directory.
fn windows(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', r"\"))
}

fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
