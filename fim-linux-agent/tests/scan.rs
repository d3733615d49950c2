//! `fim baseline` and `fim check` as processes: what they find, what they say, and what is left when
//! they are killed. They need no privileges, no backend and no agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A tree, a state directory, and `fim` for both.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        Self { directory }
    }

    /// With this many files, 100 to a directory.
    fn with_files(count: usize) -> Self {
        let bench = Self::new();
        for number in 0..count {
            if number % 100 == 0 {
                fs::create_dir(bench.directory_of(number)).unwrap();
            }
            fs::write(bench.file(number), format!("content of {number}\n")).unwrap();
        }
        bench
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("tree")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn directory_of(&self, number: usize) -> PathBuf {
        self.tree().join(format!("{:04}", number / 100))
    }

    fn file(&self, number: usize) -> PathBuf {
        self.directory_of(number).join(format!("{number:06}"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fim"));
        command.args(words).arg("--watch").arg(self.tree());
        command.arg("--state-dir").arg(self.state()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        Done(self.command(words).output().unwrap())
    }

    /// What `fim baseline list --json` says, line by line.
    fn list(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fim"));
        command.args(["baseline", "list", "--json", "--state-dir"]).arg(self.state());
        let done = Done(command.output().unwrap());
        done.ended_with(0);
        done.lines()
    }

    /// The journal's events of one action.
    fn journal(&self, action: &str) -> Vec<Value> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.state().join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
        let lines: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"]["action"] == action).collect()
    }
}

struct Done(Output);

impl Done {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn text(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}", text(&self.0.stdout), text(&self.0.stderr))
    }

    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.stdout.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "{}", self.text());
        self
    }

    #[track_caller]
    fn says(&self, needle: &str) -> &Self {
        assert!(self.text().contains(needle), "no {needle:?} in\n{}", self.text());
        self
    }
}

#[test]
fn from_create_to_accept() {
    let bench = Bench::with_files(250);
    bench.run(&["check"]).ended_with(66).says("fim baseline create");
    bench.run(&["baseline", "accept"]).ended_with(66).says("fim baseline create");
    // The tree, 3 directories, 250 files.
    bench.run(&["baseline", "create"]).ended_with(0).says("254 objects");
    bench.run(&["baseline", "create"]).ended_with(1).says("there is a baseline already");
    bench.run(&["check"]).ended_with(0).says("254 objects compared, 0 differ");

    let [changed, chmodded, gone, new] = [3, 101, 202, 90_000].map(|number| bench.file(number));
    fs::write(&changed, "other content\n").unwrap();
    fs::set_permissions(&chmodded, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::remove_file(&gone).unwrap();
    let new = bench.directory_of(3).join(new.file_name().unwrap());
    fs::write(&new, "new\n").unwrap();

    let check = bench.run(&["check", "--json"]);
    check.ended_with(1);
    let events = check.lines();
    let found: BTreeSet<(&str, &str)> = events
        .iter()
        .map(|event| {
            let text =
                |value: &'static str, field: &'static str| event[value][field].as_str().unwrap();
            assert_eq!(text("event", "provider"), "scan");
            (text("event", "action"), text("file", "path"))
        })
        .collect();
    let expected = [
        ("updated", &changed),
        ("attributes_modified", &chmodded),
        ("deleted", &gone),
        ("created", &new),
    ];
    let expected = expected.map(|(action, path)| (action, path.to_str().unwrap()));
    assert_eq!(found, BTreeSet::from(expected));
    let event = events.iter().find(|event| event["event"]["action"] == "updated").unwrap();
    assert_ne!(event["fim"]["before"]["sha256"], event["fim"]["after"]["sha256"]);
    assert_eq!(event["fim"]["hash_state"], "exact");

    // A part, then the rest.
    let done = bench.run(&["baseline", "accept", changed.to_str().unwrap()]);
    done.ended_with(0).says("1 accepted");
    assert_eq!(bench.run(&["check", "--json"]).ended_with(1).lines().len(), 3);
    bench.run(&["baseline", "accept"]).ended_with(0).says("3 accepted");
    bench.run(&["check", "--deep"]).ended_with(0).says("254 objects compared, 0 differ");
    bench.run(&["check", "/proc/nothing"]).ended_with(64).says("nothing is watched");

    let created = bench.journal("baseline_created");
    assert_eq!(created.len(), 1);
    assert_eq!(created[0]["fim"]["baseline"]["objects"], 254);
    let accepted = bench.journal("baseline_accepted");
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[0]["fim"]["baseline"]["updated"], 1);
    assert_eq!(accepted[0]["fim"]["baseline"]["paths"][0], changed.to_str().unwrap());
    let second = &accepted[1]["fim"]["baseline"];
    assert_eq!([&second["created"], &second["updated"], &second["deleted"]], [1, 1, 1]);
    for event in created.iter().chain(&accepted) {
        let uid = rustix::process::getuid().as_raw().to_string();
        assert_eq!(event["user"]["id"], uid, "{event}");
        assert_eq!(event["process"]["name"], "fim", "{event}");
    }
    // Who changed it last: nobody was seen, and the acceptance is what there is to refer to.
    let list = bench.list();
    let known = list.iter().find(|known| known["path"] == new.to_str().unwrap()).unwrap();
    assert_eq!(known["last_change"]["event.id"], accepted[1]["event"]["id"]);
}

/// What a check reads: nothing where metadata is as it was, everything with `--deep`.
#[test]
fn only_a_deep_check_sees_what_metadata_hide() {
    let bench = Bench::with_files(3);
    bench.run(&["baseline", "create"]).ended_with(0);
    // As if the content had changed and nothing else: the baseline has another hash.
    let database = rusqlite::Connection::open(bench.state().join("baseline.db")).unwrap();
    let statement = "UPDATE objects SET sha256 = zeroblob(32) WHERE name = CAST('000001' AS BLOB)";
    assert_eq!(database.execute(statement, []).unwrap(), 1);
    drop(database);
    bench.run(&["check"]).ended_with(0);
    let found = bench.run(&["check", "--deep", "--json"]).ended_with(1).lines();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["fim"]["changes"], serde_json::json!(["content"]));
}

/// Kills a command when its write-ahead log has reached a size, without waiting for any time.
fn kill_at(bench: &Bench, words: &[&str], bytes: u64) -> bool {
    let mut command = bench.command(words);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = bench.state().join("baseline.db-wal");
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() >= bytes) {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
    }
}

/// The log of a scan of this many files, until it is folded into the database for the first time
/// (SQLite does that at 1,000 pages), and beyond.
const POINTS: [u64; 8] = [0, 32, 4_096, 100_000, 500_000, 1_500_000, 3_000_000, 4_000_000];

#[test]
fn killed_while_the_baseline_is_taken() {
    const FILES: usize = 12_000;
    let bench = Bench::with_files(FILES);
    let mut killed = 0;
    for bytes in POINTS {
        fs::remove_dir_all(bench.state()).ok();
        killed += usize::from(kill_at(&bench, &["baseline", "create"], bytes));
        // What is not taken yet is no difference.
        let check = bench.run(&["check"]);
        let accept = bench.run(&["baseline", "accept"]);
        let create = bench.run(&["baseline", "create"]);
        match create.code() {
            0 => {
                let begun = bytes > 0;
                for done in [check, accept] {
                    done.ended_with(66);
                    assert!(!begun || done.text().contains("incomplete"), "{}", done.text());
                }
            }
            // It had just ended.
            _ => {
                create.says("there is a baseline already");
                check.ended_with(0);
                accept.ended_with(0);
            }
        }
        bench.run(&["check", "--deep"]).ended_with(0).says("0 differ");
        assert_eq!(bench.list().len(), FILES + FILES / 100 + 1, "at {bytes}");
    }
    assert!(killed >= 4, "{killed} of {} were killed before their end", POINTS.len());
}

#[test]
fn killed_while_differences_are_accepted() {
    const FILES: usize = 6_000;
    let bench = Bench::with_files(FILES);
    bench.run(&["baseline", "create"]).ended_with(0);
    let mut killed = 0;
    for (round, bytes) in POINTS.into_iter().enumerate() {
        for number in (0..FILES).step_by(2) {
            fs::write(bench.file(number), format!("round {round} of {number}\n")).unwrap();
        }
        killed += usize::from(kill_at(&bench, &["baseline", "accept"], bytes));
        let check = bench.run(&["check", "--json"]);
        assert!([0, 1].contains(&check.code()), "at {bytes}: {}", check.text());
        // What is left is what was changed, and nothing else.
        for event in check.lines() {
            assert_eq!(event["event"]["action"], "updated", "{event}");
            let name = event["file"]["name"].as_str().unwrap();
            assert!(name.parse::<usize>().unwrap() % 2 == 0, "{event}");
        }
        let left = check.lines().len();
        bench.run(&["baseline", "accept"]).ended_with(0).says(&format!("{left} accepted"));
        bench.run(&["check", "--deep"]).ended_with(0).says("0 differ");
    }
    assert!(killed >= 1, "{killed} of {} were killed before their end", POINTS.len());
}

#[test]
fn a_damaged_baseline_is_refused_and_kept() {
    let bench = Bench::with_files(2_000);
    bench.run(&["baseline", "create"]).ended_with(0);
    let path = bench.state().join("baseline.db");
    let good = fs::read(&path).unwrap();
    let page = 4096;
    let middle = good.len() / 2 / page * page;
    for (what, at, length) in
        [("header", 0, 64), ("first page", 100, page), ("middle", middle, page)]
    {
        let mut bad = good.clone();
        bad[at..at + length].fill(0x5a);
        fs::write(&path, &bad).unwrap();
        for words in [&["check"][..], &["baseline", "create"], &["baseline", "accept"]] {
            let done = bench.run(words);
            // 1 from `check` would say that something differs.
            let codes = if words[0] == "check" { &[65][..] } else { &[1, 65] };
            assert!(codes.contains(&done.code()), "{what} {words:?}: {}", done.text());
            done.says("untouched").says(path.to_str().unwrap());
            assert!(!done.text().contains("differ"), "{what} {words:?}: {}", done.text());
        }
        assert!(fs::read(&path).unwrap() == bad, "{what}: it was changed");
    }
    fs::write(&path, &good).unwrap();
    bench.run(&["check"]).ended_with(0);
}

/// The state directory is an agent's: a command that would write says so.
#[test]
fn beside_an_agent_nothing_is_accepted() {
    let bench = Bench::with_files(3);
    bench.run(&["baseline", "create"]).ended_with(0);
    let lock = fs::File::open(bench.state().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    bench.run(&["baseline", "accept"]).ended_with(1).says("an agent").says("stop it first");
    bench.run(&["check"]).ended_with(0);
    drop(lock);
    bench.run(&["baseline", "accept"]).ended_with(0).says("0 accepted");
}

#[test]
fn a_path_that_is_not_utf8_is_listed_and_compared() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new();
    let odd = bench.tree().join(Path::new(std::ffi::OsStr::from_bytes(b"odd \xff name")));
    fs::write(&odd, "odd\n").unwrap();
    bench.run(&["baseline", "create"]).ended_with(0);
    assert!(bench.list().iter().any(|known| known["path_b64"].is_string()));
    fs::write(&odd, "changed\n").unwrap();
    let found = bench.run(&["check", "--json"]).ended_with(1).lines();
    assert!(found[0]["fim"]["path_b64"].is_string(), "{found:?}");
}
