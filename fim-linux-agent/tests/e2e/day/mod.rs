//! A day of a host: a package is installed and upgraded, a person edits a file, somebody tampers, the
//! agent is stopped, somebody tampers again, the agent is started. What is told, in events and in the
//! report, is what a person would write down: these lines, and no others.

mod report;
mod repository;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::agent::{Agent, Setup, dump};
use crate::environment::{Account, beside_others, fim, is_ready, ordinary_user, skip};
use crate::event::{Event, path_text};
use crate::journal::good;
use crate::operator::launch::{Launch, login_is_possible};
use crate::scratch::Scratch;
use repository::{FILES, Repository};

const TEST: &str = "day";

#[test]
fn what_is_told_is_what_a_person_would_write_down() {
    if !is_ready(TEST) {
        return;
    }
    for program in ["apt-get", "vim"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(TEST, &format!("this machine has no {program}"));
        }
    }
    let _guard = beside_others();
    let scratch = Scratch::new(TEST);
    let mut day = Day::new(&scratch);

    // In the morning: the agent, and a package that nobody had before.
    let agent = day.start();
    day.repository.publish("1.0");
    day.repository.apt(&["install", &day.repository.name]);
    // 40 files and the program, 3 directories; the configuration and its directory. Its script gives
    // the program another group's rights, which nobody had told fim of before.
    let files = u64::from(FILES) + 6;
    day.told("event attributes_modified opt/bin/tool (unknown maintainer_script) by chmod as root");
    day.told(&format!(
        "event package_run: - -> 1.0, {} as expected, unknown [opt/bin/tool], unexpected []",
        files - 1
    ));
    day.wait(&agent);
    day.repository.publish("1.1");
    day.repository.apt(&["upgrade"]);
    // The same script once more: now that is how it was.
    day.told(&format!(
        "event package_run: 1.0 -> 1.1, {} as expected, unknown [], unexpected []",
        u64::from(FILES) + 1
    ));
    day.wait(&agent);

    // A person who has logged in edits the configuration as root.
    let login = day.login();
    day.by(None, login, &vim("s/PermitRootLogin no/PermitRootLogin yes/", &day.configuration()));
    let who = day.who("root", login);
    let (editor, interpreter) = (name_of("vim"), name_of("sh"));
    day.told(&format!(
        "alert updated etc/service.conf (unknown configuration) by {editor} as {who}"
    ));
    day.wait(&agent);

    // An ordinary user: what is theirs, and what is not.
    let user = day.user.clone();
    let keys = day.home.join(".ssh/authorized_keys");
    day.by(Some(&user), None, &shell(&format!("echo 'ssh-rsa AAAA x' >> {}", keys.display())));
    day.told(&format!("alert updated home/.ssh/authorized_keys by {interpreter} as {}", user.name));
    day.wait(&agent);
    let data = |number: u32| day.repository.tree().join(format!("lib/data-{number:02}"));
    let [first, second, third, fourth] = [7, 8, 9, 10].map(data);
    let refused = shell(&format!("echo evil > {} || exit 0; exit 1", first.display()));
    day.by(Some(&user), None, &refused);

    // Root, by hand: another content, other rights, and what is gone.
    let is_the_package = format!("({} 1.1)", day.repository.name);
    day.by(None, None, &shell(&format!("echo evil > {}", first.display())));
    day.told(&format!(
        "alert updated opt/lib/data-07 (unexpected content_differs) by {interpreter} as root"
    ));
    day.wait(&agent);
    let tool = day.repository.tree().join("bin/tool");
    day.by(None, None, &command("chmod", &[Path::new("4755"), &tool]));
    day.told("alert attributes_modified opt/bin/tool (unknown attributes) by chmod as root");
    day.wait(&agent);
    day.by(None, None, &command("rm", &[&second]));
    day.told("alert deleted opt/lib/data-08 (unexpected package_file_removed) by rm as root");
    day.wait(&agent);
    day.ends(&agent);

    // Nobody watches.
    day.by(None, None, &shell(&format!("echo evil > {}", third.display())));
    day.by(None, None, &command("rm", &[&fourth]));
    let evil = day.repository.tree().join("lib/evil.so");
    day.by(None, None, &shell(&format!("echo evil > {}", evil.display())));
    day.by(None, None, &shell(&format!("sed -i s/22/2222/ {}", day.configuration().display())));

    // The next start finds it, and says when it was done, if not by whom.
    let agent = day.start();
    day.told("alert created opt/lib/evil.so");
    day.told("alert deleted opt/lib/data-10 (unexpected package_file_removed)");
    day.told("alert updated etc/service.conf (unknown configuration)");
    day.told("alert updated opt/lib/data-09 (unexpected content_differs)");
    day.wait(&agent);
    day.ends(&agent);
    day.check_details(&is_the_package);
    day.check_commands();
    day.check_report();
}

/// What a program is called once links are followed, as Debian's `vim` and `sh` are.
fn name_of(program: &str) -> String {
    let file = fs::canonicalize(Path::new("/usr/bin").join(program)).unwrap();
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// What there is, and what has been written down so far.
struct Day<'a> {
    scratch: &'a Scratch,
    repository: Repository,
    home: PathBuf,
    user: Account,
    setup: Setup,
    /// Since the agent was started last.
    written: Vec<String>,
    /// All events, and what was written down of them.
    events: Vec<Event>,
    all: Vec<String>,
}

impl<'a> Day<'a> {
    fn new(scratch: &'a Scratch) -> Self {
        let repository = Repository::new(&scratch.directory("apt"));
        let user = ordinary_user();
        let home = scratch.directory("home");
        let keys = home.join(".ssh");
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("authorized_keys"), "").unwrap();
        for path in [&home, &keys, &keys.join("authorized_keys")] {
            chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
        let config = scratch.path().join("fim.toml");
        let rules = format!(
            "recommended = false\n[packages]\nhold = 3600\n\
             [[rule]]\nname = \"programs\"\npaths = [{:?}]\nseverity = \"high\"\n\
             [[rule]]\nname = \"configuration\"\npaths = [{:?}]\nseverity = \"high\"\n\
             content_diff = true\n\
             [[rule]]\nname = \"keys\"\npaths = [{:?}]\nseverity = \"critical\"\n",
            repository.tree(),
            repository.configuration(),
            home.join(".ssh/authorized_keys"),
        );
        fs::write(&config, rules).unwrap();
        let setup = Setup { config: Some(config), ..Setup::new(scratch.path(), &[]) };
        Self {
            scratch,
            repository,
            home,
            user,
            setup,
            written: Vec::new(),
            events: Vec::new(),
            all: Vec::new(),
        }
    }

    fn configuration(&self) -> PathBuf {
        self.repository.configuration().join("service.conf")
    }

    fn start(&mut self) -> Agent {
        self.written.clear();
        Agent::start(self.setup.clone())
    }

    /// Who may be named as logged in, where that is possible here.
    fn login(&self) -> Option<u32> {
        match login_is_possible(self.user.uid) {
            Ok(()) => Some(self.user.uid),
            Err(error) => {
                skip(&format!("{TEST}: who logged in"), &error);
                None
            }
        }
    }

    fn who(&self, user: &str, login: Option<u32>) -> String {
        match login {
            Some(_) => format!("{user}, logged in as {}", self.user.name),
            None => user.to_owned(),
        }
    }

    /// Somebody does it: root, if nobody else.
    fn by(&self, user: Option<&Account>, login: Option<u32>, command: &Command) {
        let mut launch = Launch::of(command);
        if let Some(login) = login {
            launch = launch.login(login);
        }
        if let Some(user) = user {
            launch = launch.user(user.uid, user.gid);
        }
        let mut command = launch.command();
        command.env("TERM", "vt100").stdin(Stdio::null()).stdout(Stdio::null());
        repository::run(&mut command);
    }

    /// A person writes down a line.
    fn told(&mut self, line: &str) {
        self.written.push(line.to_owned());
    }

    /// Waits until there are so many events.
    fn wait(&self, agent: &Agent) {
        let mut count = 0;
        let wanted = self.written.len();
        let found = agent.stream.wait(|line| {
            count += usize::from(!is_own(&line.action));
            (count == wanted).then_some(())
        });
        if let Err(error) = found {
            let lines = agent.stream.lines();
            panic!("{wanted} lines: {error}\n{}\n{}", dump(&lines), agent.log());
        }
    }

    /// The agent is stopped: what it told is what was written down.
    fn ends(&mut self, agent: &Agent) {
        agent.stop();
        let events: Vec<Event> =
            agent.events().into_iter().filter(|event| !is_own(event.action())).collect();
        let mut lines: Vec<String> = events.iter().map(|event| self.line(event)).collect();
        if events.iter().all(|event| event.text("event.provider") == Some("scan")) {
            // Directories are compared side by side.
            lines.sort();
        }
        let written = self.written.join("\n");
        assert_eq!(lines.join("\n"), written, "{}", dump(&agent.stream.lines()));
        self.events.extend(events);
        self.all.extend(self.written.clone());
    }

    /// A path as it is written down.
    fn short(&self, path: &str) -> String {
        let places = [
            (self.repository.tree(), "opt"),
            (self.repository.configuration(), "etc"),
            (self.home.clone(), "home"),
        ];
        let of = |(place, name): &(PathBuf, &str)| {
            Some(format!("{name}{}", path.strip_prefix(&*path_text(place))?))
        };
        places.iter().find_map(of).unwrap_or_else(|| path.to_owned())
    }

    /// An event as a person would write it down.
    fn line(&self, event: &Event) -> String {
        let kind = event.text("event.kind").unwrap_or("?");
        let action = event.action();
        if action == "package_run" {
            return format!("{kind} package_run: {}", self.summary(event));
        }
        let mut line = format!("{kind} {action} {}", self.short(event.path()));
        if let Some(verdict) = event.text("fim.verdict") {
            let reason = event.text("fim.verdict_reason").unwrap_or("?");
            line.push_str(&format!(" ({verdict} {reason})"));
        }
        if let Some(process) = event.text("process.name") {
            let user = event.text("user.name").unwrap_or("?");
            line.push_str(&format!(" by {process} as {user}"));
        }
        match event.text("user.audit.name") {
            Some(login) => format!("{line}, logged in as {login}"),
            None => line,
        }
    }

    fn summary(&self, event: &Event) -> String {
        let packages = event.at("fim.package_run.packages").as_array().cloned().unwrap_or_default();
        let own = packages.iter().find(|package| package["name"] == *self.repository.name);
        let version = |when: &str| {
            let version = own.and_then(|package| package[when].as_str());
            version.unwrap_or("-").to_owned()
        };
        let files = |place: &str| {
            let paths = event.list(&format!("fim.package_run.files.{place}"));
            paths.iter().map(|path| self.short(path)).collect::<Vec<_>>().join(", ")
        };
        format!(
            "{} -> {}, {} as expected, unknown [{}], unexpected [{}]",
            version("before"),
            version("after"),
            event.number("fim.package_run.files.expected").unwrap_or(0),
            files("unknown_paths"),
            files("unexpected_paths"),
        )
    }

    /// What a line does not say.
    fn check_details(&self, package: &str) {
        for event in &self.events {
            if event.has("fim.package") {
                let told = format!(
                    "({} {})",
                    event.text("fim.package.name").unwrap_or("?"),
                    event.text("fim.package.version").unwrap_or("?")
                );
                // The first one is of the first version.
                let is_first = event.text("fim.verdict_reason") == Some("maintainer_script");
                assert!(is_first || told == package, "{event}");
            }
            if event.text("event.provider") == Some("scan") {
                let window = [event.text("fim.window.from"), event.text("fim.window.to")];
                assert!(window.iter().all(Option::is_some), "when it was done: {event}");
                assert!(!event.has("process") && !event.has("user"), "{event}");
            }
            if event.action() == "package_run" {
                let line = event.text("process.command_line").unwrap_or_default();
                assert!(line.starts_with("apt-get "), "{event}");
                assert_eq!(event.text("user.id"), Some("0"), "{event}");
            }
        }
        let of_configuration = self.events.iter().filter(|event| {
            event.path() == path_text(&self.configuration()) && event.action() == "updated"
        });
        let diffs: Vec<&str> =
            of_configuration.map(|event| event.text("fim.diff.unified").unwrap_or("-")).collect();
        assert_eq!(
            diffs,
            [
                "@@ -1,2 +1,2 @@\n Port 22\n-PermitRootLogin no\n+PermitRootLogin yes\n",
                "@@ -1,2 +1,2 @@\n-Port 22\n+Port 2222\n PermitRootLogin yes\n",
            ]
        );
    }

    /// The commands that a person asks afterwards.
    fn check_commands(&self) {
        let state = &self.setup.state_dir;
        let alerts = good(state, &["events", "--json", "--alerts"]);
        let wanted = self.all.iter().filter(|line| line.starts_with("alert ")).count();
        assert_eq!(alerts.lines().count(), wanted, "{alerts}");
        let said = good(state, &["verify"]);
        assert!(said.contains("whole and unaltered"), "{said}");
        let mut check = Command::new(fim());
        check.arg("check").arg("--config").arg(self.setup.config.as_ref().unwrap());
        let checked = crate::bad_input::outcome({
            check.arg("--state-dir").arg(state);
            check
        });
        // What was told is what is known from then on.
        assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    }

    /// The report says the same.
    fn check_report(&self) {
        let path = self.scratch.path().join("day.html");
        let config = self.setup.config.as_ref().unwrap();
        let arguments =
            ["report", "--config", config.to_str().unwrap(), "--output", path.to_str().unwrap()];
        good(&self.setup.state_dir, &arguments);
        let page = match crate::browser::shown(self.scratch, &path) {
            Some(page) => page,
            None => fs::read_to_string(&path).unwrap(),
        };
        let alerts: Vec<String> =
            self.all.iter().filter(|line| line.starts_with("alert ")).cloned().collect();
        let shown = report::elements(report::section(&page, "alerts"), "article");
        let mut left: Vec<&Event> =
            self.events.iter().filter(|event| self.line(event).starts_with("alert ")).collect();
        assert_eq!(shown.len(), alerts.len(), "{shown:#?}");
        for article in &shown {
            let is_it = |event: &&Event| article.contains(event.id());
            let at = left.iter().position(is_it).unwrap_or_else(|| panic!("not told: {article}"));
            let event = left.remove(at);
            let mut needles = vec![event.path().to_owned(), event.action().to_owned()];
            if let Some(verdict) = event.text("fim.verdict") {
                let reason = event.text("fim.verdict_reason").unwrap_or("?").replace('_', " ");
                needles.push(format!("{verdict} {reason}"));
                needles.push(format!("of package {} 1.1", self.repository.name));
            }
            match event.text("process.name") {
                Some(name) => needles.push(format!("by {name}")),
                None => needles.push("found by comparison, done between".to_owned()),
            }
            let hashes = ["fim.before.sha256", "fim.after.sha256"].map(|place| event.text(place));
            if hashes[0] != hashes[1] {
                needles.extend(hashes.into_iter().flatten().map(str::to_owned));
            }
            let unified = event.text("fim.diff.unified").unwrap_or_default();
            needles.extend(unified.lines().map(|line| line.trim().to_owned()));
            for needle in needles {
                assert!(article.contains(&needle), "no {needle:?} in {article}");
            }
        }
        let runs = report::elements(report::section(&page, "packages"), "tr");
        let rows: Vec<&String> = runs.iter().filter(|row| row.contains('→')).collect();
        for (row, change) in rows.iter().zip(["— → 1.0", "1.0 → 1.1"]) {
            let wanted = format!("{} {change}", self.repository.name);
            assert!(row.contains(&wanted) && row.contains("apt-get"), "{wanted}: {row}");
        }
        assert_eq!(rows.len(), 2, "{runs:#?}");
        let coverage = report::elements(report::section(&page, "coverage"), "p").join("\n");
        assert!(coverage.contains("No operation is known to be lost"), "{coverage}");
        let starts = report::elements(report::section(&page, "coverage"), "tr");
        assert_eq!(starts.iter().filter(|row| row.contains("in order")).count(), 2, "{starts:#?}");
        assert!(page.contains("Whole and unaltered"), "the journal");
    }
}

/// What is no line of the day.
fn is_own(action: &str) -> bool {
    matches!(action, "agent_started" | "agent_stopped" | "heartbeat")
}

fn command(program: &str, arguments: &[&Path]) -> Command {
    let path = ["/usr/bin", "/bin"].iter().map(|place| Path::new(place).join(program));
    let path = path.into_iter().find(|path| path.exists()).unwrap();
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// A person in vim, as far as it can be had without one.
fn vim(substitution: &str, path: &Path) -> Command {
    let mut command = Command::new("/usr/bin/vim");
    command.args(["-Nu", "NONE", "-i", "NONE", "-es", "-c", "set writebackup backupskip="]);
    command.args(["-c", &format!("%{substitution}"), "-c", "wq"]).arg(path);
    command
}
