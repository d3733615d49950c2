//! Packages: what a package manager changes is one event, and what is done to its files otherwise
//! is an alert. With the machine's own dpkg and apt, on packages that are built here, whose files
//! lie in a directory of their own in `/opt`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::agent::{Agent, Setup, dump};
use crate::environment::{beside_others, is_ready, skip};
use crate::event::{Event, path_text};
use crate::scratch::Scratch;

/// Files of the package: those of an upgrade must not be so many events.
const FILES: u32 = 4000;

#[test]
fn what_a_package_manager_does_is_one_event() {
    if !is_ready("packages") {
        return;
    }
    if Command::new("apt-get").arg("--version").output().is_err() {
        return skip("packages", "this machine has no apt");
    }
    let _guard = beside_others();
    let scratch = Scratch::new("packages");
    let sample = Sample::new(scratch.path());
    let generated = sample.path("generated");
    sample.build("1.0", "");
    sample.build("1.1", &format!("echo 1.1 > {}", generated.display()));
    let evil = sample.path("file-0001");
    sample.build("1.2", &format!("echo evil > {}", evil.display()));
    sample.install("1.0", &[]);

    let config = scratch.path().join("fim.toml");
    let rule = format!(
        "recommended = false\n[packages]\nhold = 3600\n[[rule]]\nname = \"sample\"\npaths = [{:?}]\n",
        sample.tree
    );
    fs::write(&config, rule).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    let agent = Agent::start(setup);

    // An upgrade: one event, and one for what the maintainer script made.
    sample.install("1.1", &[]);
    let run = sample.summary(&agent, 1);
    assert_eq!(run.text("event.kind"), Some("event"), "{run}");
    sample.is_change(&run, Some("1.0"), Some("1.1"));
    assert!(run.number("fim.package_run.files.expected") > Some(FILES.into()), "{run}");
    assert_eq!(run.list("fim.package_run.files.unknown_paths"), [path_text(&generated)], "{run}");
    assert_eq!(run.number("fim.package_run.files.unexpected"), Some(0), "{run}");
    assert_eq!(run.text("process.executable"), Some("/usr/bin/apt-get"), "{run}");
    let line = run.text("process.command_line").unwrap_or_default();
    assert!(line.contains("install") && line.contains("1.1.deb"), "{run}");
    assert_eq!(run.text("user.id"), Some("0"), "{run}");
    let told = agent.stream.lines_below(&sample.tree);
    let others = told.iter().filter(|line| line.path() != path_text(&generated)).count();
    assert_eq!(others, 0, "events of their own\n{}", dump(&told));
    assert!(sample.alerts(&agent).is_empty(), "{}", dump(&told));

    // The same version again.
    sample.install("1.1", &["--reinstall"]);
    let run = sample.summary(&agent, 2);
    sample.is_change(&run, Some("1.1"), Some("1.1"));
    assert!(sample.alerts(&agent).is_empty());

    // By hand, and by somebody who calls himself dpkg.
    let touched = sample.path("file-0007");
    fs::write(&touched, "tampered\n").unwrap();
    sample.is_alert(&agent, 1, &touched, "content_differs");
    let touched = sample.path("file-0008");
    let script = format!("echo tampered > {}", touched.display());
    let mut shell = Command::new("/bin/bash");
    let status = shell.arg0("/usr/bin/dpkg").args(["-c", &script]).status().unwrap();
    assert!(status.success());
    sample.is_alert(&agent, 2, &touched, "content_differs");

    // A maintainer script that changes what its package has just installed.
    sample.install("1.2", &[]);
    let run = sample.summary(&agent, 3);
    sample.is_change(&run, Some("1.1"), Some("1.2"));
    assert_eq!(run.list("fim.package_run.files.unexpected_paths"), [path_text(&evil)], "{run}");
    let alert = sample.is_alert(&agent, 3, &evil, "content_differs");
    assert_eq!(alert.text("fim.package_run.id"), run.text("fim.package_run.id"), "{alert}");

    sample.purge();
    let run = sample.summary(&agent, 4);
    sample.is_change(&run, Some("1.2"), None);
    assert_eq!(sample.alerts(&agent).len(), 3);
    agent.stop();
}

/// An agent that is killed in the middle of a run has told nothing of it: the next one says so.
#[test]
fn killed_while_it_holds() {
    if !is_ready("packages") {
        return;
    }
    if Command::new("apt-get").arg("--version").output().is_err() {
        return skip("packages", "this machine has no apt");
    }
    let _guard = beside_others();
    let scratch = Scratch::new("packages-killed");
    let sample = Sample::new(scratch.path());
    // The run goes on until the agent is gone.
    let (reached, go) = (scratch.path().join("reached"), scratch.path().join("go"));
    let wait =
        format!("touch {}; while [ ! -e {} ]; do sleep 0.1; done", reached.display(), go.display());
    sample.build("1.0", "");
    sample.build("1.1", &wait);
    sample.install("1.0", &[]);
    let setup = Setup { loses: true, ..Setup::new(scratch.path(), &[&sample.tree]) };
    let agent = Agent::start(setup.clone());
    std::thread::scope(|scope| {
        let install = scope.spawn(|| sample.install("1.1", &[]));
        while !reached.exists() {
            assert!(!install.is_finished(), "apt-get has ended");
            std::thread::yield_now();
        }
        // What is not of a run is told at once, behind what is held.
        fs::write(sample.path("by hand"), "x").unwrap();
        agent.stream.wait_below(&sample.path("by hand"), |_| true).unwrap();
        assert!(sample.of_files(&agent).is_empty(), "nothing is told before the end");
        drop(agent);
        fs::write(&go, "").unwrap();
    });
    let agent = Agent::start(setup);
    let gap = agent.stream.wait(|line| (line.action == "gap").then(|| line.event()));
    let gap = gap.unwrap_or_else(|error| panic!("no gap: {error}\n{}", agent.log()));
    // (And `fold`, if the last of it was just done.)
    assert!(gap.list("fim.gap.hooks").contains(&"packages"), "{gap}");
    agent.stream.wait(|line| (line.action == "gap_closed").then_some(())).unwrap();
    agent.stop();
}

/// The package, in its versions.
struct Sample {
    name: String,
    /// Where its files are.
    tree: PathBuf,
    /// Where it is built.
    base: PathBuf,
}

impl Sample {
    fn new(base: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fim-e2e-{}-{count}", std::process::id());
        Self { tree: Path::new("/opt").join(&name), name, base: base.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    fn package(&self, version: &str) -> PathBuf {
        self.base.join(format!("{version}.deb"))
    }

    fn build(&self, version: &str, postinst: &str) {
        let root = self.base.join(version);
        let tree = root.join(self.tree.strip_prefix("/").unwrap());
        fs::create_dir_all(&tree).unwrap();
        for number in 0..FILES {
            fs::write(tree.join(format!("file-{number:04}")), format!("{version} {number}\n"))
                .unwrap();
        }
        fs::write(tree.join("sample.conf"), format!("setting {version}\n")).unwrap();
        let control = root.join("DEBIAN");
        fs::create_dir(&control).unwrap();
        let fields = format!(
            "Package: {}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: for a test\n",
            self.name
        );
        fs::write(control.join("control"), fields).unwrap();
        fs::write(control.join("conffiles"), format!("{}\n", self.path("sample.conf").display()))
            .unwrap();
        let sums = Command::new("sh")
            .args(["-c", "find opt -name 'file-*' -type f -exec md5sum {} + > DEBIAN/md5sums"])
            .current_dir(&root)
            .status();
        assert!(sums.unwrap().success());
        let script = control.join("postinst");
        fs::write(&script, format!("#!/bin/sh\nset -e\n{postinst}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut build = Command::new("dpkg-deb");
        build
            .args(["--root-owner-group", "-Znone", "--build"])
            .arg(&root)
            .arg(self.package(version));
        run(&mut build);
        fs::remove_dir_all(&root).unwrap();
    }

    fn apt(&self, arguments: &[&str]) {
        let mut apt = Command::new("apt-get");
        apt.args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"]);
        // 4,000 calls of fsync(2) test nothing of ours.
        apt.args(["-o", "DPkg::Options::=--force-unsafe-io"]).args(arguments);
        run(apt.env("DEBIAN_FRONTEND", "noninteractive"));
    }

    fn install(&self, version: &str, options: &[&str]) {
        let package = path_text(&self.package(version));
        self.apt(&[&["install"], options, &[&*package]].concat());
    }

    fn purge(&self) {
        self.apt(&["purge", &self.name]);
    }

    /// The summary number `number` of runs that changed this package.
    fn summary(&self, agent: &Agent, number: usize) -> Event {
        let mut seen = 0;
        let found = agent.stream.wait(|line| {
            let wanted = line.action == "package_run" && line.text.contains(&self.name);
            seen += usize::from(wanted);
            (wanted && seen == number).then(|| line.event())
        });
        found.unwrap_or_else(|error| {
            let told = dump(&agent.stream.lines_below(&self.tree));
            panic!("package_run {number}: {error}\n{told}\n{}", agent.log())
        })
    }

    /// The run changed the version so.
    fn is_change(&self, run: &Event, before: Option<&str>, after: Option<&str>) {
        let packages = run.at("fim.package_run.packages").as_array().cloned().unwrap_or_default();
        let own = packages.iter().find(|package| package["name"] == self.name.as_str());
        let own = own.unwrap_or_else(|| panic!("not in {run}"));
        assert_eq!((own["before"].as_str(), own["after"].as_str()), (before, after), "{run}");
        assert_eq!(own["manager"].as_str(), Some("dpkg"), "{run}");
    }

    /// What was told of files of the package.
    fn of_files(&self, agent: &Agent) -> Vec<String> {
        let lines = agent.stream.lines_below(&self.tree);
        let names = lines.iter().map(|line| line.path().to_owned());
        names.filter(|path| path.contains("/file-")).collect()
    }

    fn alerts(&self, agent: &Agent) -> Vec<Event> {
        let lines = agent.stream.lines();
        let alerts = lines.iter().filter(|line| line.text.contains("\"kind\":\"alert\""));
        alerts.map(|line| line.event()).collect()
    }

    /// The alert number `number` is about `path`, for this reason.
    fn is_alert(&self, agent: &Agent, number: usize, path: &Path, reason: &str) -> Event {
        let text = path_text(path);
        let event = agent.stream.wait_below(&self.tree, |event| {
            event.path() == text && event.text("event.kind") == Some("alert")
        });
        let event =
            event.unwrap_or_else(|error| panic!("alert of {text}: {error}\n{}", agent.log()));
        assert_eq!(event.text("fim.verdict"), Some("unexpected"), "{event}");
        assert_eq!(event.text("fim.verdict_reason"), Some(reason), "{event}");
        assert_eq!(event.text("fim.package.name"), Some(&*self.name), "{event}");
        assert_eq!(self.alerts(agent).len(), number, "one alert each");
        event
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // Of a test that failed; what is not there is no error.
        let _ = Command::new("dpkg").args(["--purge", &self.name]).output();
        let _ = fs::remove_dir_all(&self.tree);
    }
}

fn run(command: &mut Command) {
    let output = command.env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
}
