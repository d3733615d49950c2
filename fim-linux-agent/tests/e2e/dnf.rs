//! A real dnf, with a repository of packages that are built here: one event for each run, and an alert
//! for what is done to the package's files otherwise. The machine's own dnf and rpm, at work on the
//! machine's own root directory; rpm's database is made where rpm keeps it, and removed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::{Agent, Setup, dump};
use crate::environment::{beside_others, is_ready, skip};
use crate::event::{Event, path_text};
use crate::scratch::Scratch;

/// Where rpm keeps its database.
const DATABASE: &str = "/var/lib/rpm";
/// Files of the package.
const FILES: usize = 50;

#[test]
fn each_run_of_dnf_is_one_event() {
    if !is_ready("dnf") {
        return;
    }
    for program in ["dnf", "rpmbuild", "createrepo_c"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip("dnf", &format!("this machine has no {program}"));
        }
    }
    if Path::new(DATABASE).join("rpmdb.sqlite").exists() {
        return skip("dnf", "this machine has packages of rpm: they are left alone");
    }
    let _guard = beside_others();
    let scratch = Scratch::new("dnf");
    let sample = Sample::new(scratch.path());
    let config = scratch.path().join("fim.toml");
    let rule = format!(
        "recommended = false\n[packages]\nhold = 3600\n[[rule]]\nname = \"sample\"\n\
         paths = [{:?}]\nseverity = \"high\"\n",
        sample.tree
    );
    fs::write(&config, rule).unwrap();
    let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
    let agent = Agent::start(setup);

    sample.publish("1.0");
    sample.dnf(&["install", &sample.name]);
    sample.is_change(&agent, 1, None, Some("1.0-1"));
    sample.publish("1.1");
    sample.dnf(&["upgrade"]);
    let run = sample.is_change(&agent, 2, Some("1.0-1"), Some("1.1-1"));
    let line = run.text("process.command_line").unwrap_or_default();
    assert!(line.contains("/usr/bin/dnf") && line.contains("upgrade"), "{run}");

    let touched = sample.tree.join("data-07");
    fs::write(&touched, "tampered\n").unwrap();
    let alert = sample.wait(&agent, &touched);
    assert_eq!(alert.text("event.kind"), Some("alert"), "{alert}");
    assert_eq!(alert.text("fim.verdict_reason"), Some("content_differs"), "{alert}");
    assert_eq!(alert.text("fim.package.manager"), Some("rpm"), "{alert}");

    sample.dnf(&["reinstall", &sample.name]);
    sample.is_change(&agent, 3, Some("1.1-1"), Some("1.1-1"));
    sample.dnf(&["remove", &sample.name]);
    sample.is_change(&agent, 4, Some("1.1-1"), None);
    agent.stop();
    let others: Vec<_> = agent
        .stream
        .lines()
        .into_iter()
        .filter(|line| !line.path().is_empty() && line.path() != path_text(&touched))
        .collect();
    assert!(others.is_empty(), "events of their own\n{}", dump(&others));
}

/// The package, its repository and what there was before.
struct Sample {
    name: String,
    tree: PathBuf,
    base: PathBuf,
    database: BTreeSet<OsString>,
}

impl Sample {
    fn new(base: &Path) -> Self {
        let name = format!("fim-e2e-dnf-{}", std::process::id());
        let sample = Self {
            tree: Path::new("/opt").join(&name),
            name,
            base: base.to_owned(),
            database: names(Path::new(DATABASE)),
        };
        for directory in ["home", "repository", "build"] {
            fs::create_dir(base.join(directory)).unwrap();
        }
        // Debian's rpm keeps the database of whoever calls it.
        fs::write(base.join("home/.rpmmacros"), format!("%_dbpath {DATABASE}\n")).unwrap();
        sample
    }

    fn publish(&self, version: &str) {
        let tree = self.tree.display();
        let spec = format!(
            "Name: {}\nVersion: {version}\nRelease: 1\nSummary: a\nLicense: MIT\n\
             BuildArch: noarch\nAutoReqProv: no\n%description\na\n%install\n\
             mkdir -p %{{buildroot}}{tree}\nfor n in $(seq -w 0 {}); do\n\
             echo {version} $n > %{{buildroot}}{tree}/data-$n; done\n\
             %files\n{tree}\n",
            self.name,
            FILES - 1
        );
        let path = self.base.join("sample.spec");
        fs::write(&path, spec).unwrap();
        let repository = self.base.join("repository");
        let mut build = Command::new("rpmbuild");
        build.args(["-bb", "--define"]).arg(format!("_topdir {}/build", self.base.display()));
        build.arg("--define").arg(format!("_rpmdir {}", repository.display()));
        build.arg("--define").arg(format!("_dbpath {}/none", self.base.display()));
        self.run(build.arg(path));
        self.run(Command::new("createrepo_c").arg("-q").arg(repository));
    }

    /// The machine's own dnf, which knows this repository only.
    fn dnf(&self, arguments: &[&str]) {
        let at = self.base.display();
        let mut dnf = Command::new("dnf");
        dnf.args(["-y", "--nogpgcheck", "--releasever=1", "--setopt=reposdir=/nowhere"]);
        dnf.arg(format!("--repofrompath=sample,file://{at}/repository"));
        for place in ["cachedir", "persistdir", "logdir"] {
            dnf.arg(format!("--setopt={place}={at}/{place}"));
        }
        dnf.args(["--setopt=metadata_expire=0"]).args(arguments);
        self.run(&mut dnf);
    }

    fn run(&self, command: &mut Command) {
        let output = command.env("LC_ALL", "C").env("HOME", self.base.join("home")).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {text}{errors}");
    }

    /// The run number `number` changed the version so, and did nothing that was not expected.
    fn is_change(
        &self,
        agent: &Agent,
        number: usize,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Event {
        let mut seen = 0;
        let found = agent.stream.wait(|line| {
            let wanted = line.action == "package_run" && line.text.contains(&self.name);
            seen += usize::from(wanted);
            (wanted && seen == number).then(|| line.event())
        });
        let run = found.unwrap_or_else(|error| {
            let told = dump(&agent.stream.lines());
            panic!("package_run {number}: {error}\n{told}\n{}", agent.log())
        });
        assert_eq!(run.text("event.kind"), Some("event"), "{run}");
        assert_eq!(run.text("fim.package_run.manager"), Some("dnf"), "{run}");
        let packages = run.at("fim.package_run.packages").as_array().cloned().unwrap_or_default();
        let own = packages.iter().find(|package| package["name"] == self.name.as_str());
        let own = own.unwrap_or_else(|| panic!("not in {run}"));
        assert_eq!((own["before"].as_str(), own["after"].as_str()), (before, after), "{run}");
        assert_eq!(own["manager"].as_str(), Some("rpm"), "{run}");
        let files = |place: &str| run.number(&format!("fim.package_run.files.{place}"));
        assert!(files("expected") >= Some(FILES as u64), "{run}");
        assert_eq!((files("unknown"), files("unexpected")), (Some(0), Some(0)), "{run}");
        run
    }

    fn wait(&self, agent: &Agent, path: &Path) -> Event {
        let text = path_text(path);
        let found = agent.stream.wait_below(&self.tree, |event| event.path() == text);
        found.unwrap_or_else(|error| panic!("{text}: {error}\n{}", agent.log()))
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.tree);
        // What was not there before; the database of a machine that had one is not touched.
        let database = Path::new(DATABASE);
        for name in names(database).difference(&self.database) {
            let _ = fs::remove_file(database.join(name));
        }
    }
}

fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}
