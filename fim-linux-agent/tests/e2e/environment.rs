//! Where the tests run, and what can be tested there.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// A source of events, as in `--backend` and `event.provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Bpf,
    Fanotify,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Fanotify => "fanotify",
        }
    }
}

/// The backend under test.
pub(crate) fn backend() -> Backend {
    match std::env::var("FIM_BACKEND").as_deref() {
        Ok("bpf") => Backend::Bpf,
        Ok("fanotify") | Err(_) => Backend::Fanotify,
        Ok(other) => panic!("FIM_BACKEND={other}: these tests know bpf and fanotify"),
    }
}

/// The agent under test.
pub(crate) fn fim() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_fim").map(PathBuf::from);
    let fim = std::env::var_os("FIM_BIN").map(PathBuf::from).or(built).expect("FIM_BIN is not set");
    fim.canonicalize().unwrap_or_else(|error| panic!("FIM_BIN={}: {error}", fim.display()))
}

/// Whether each instruction is emulated, some twenty times slower: loads are reduced there, and
/// nothing can be said about times.
pub(crate) fn is_emulated() -> bool {
    static EMULATED: LazyLock<bool> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG"))
    });
    *EMULATED
}

/// After this long something is taken for missing. It is only waited for in full by a test that
/// fails.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(if is_emulated() { 120 } else { 60 })
}

/// As [`patience`], for the start of an agent: the kernel's verifier takes half a minute of emulated
/// instructions for the BPF programs, and longer when something else runs beside it.
pub(crate) fn patience_with_start() -> Duration {
    Duration::from_secs(if is_emulated() { 400 } else { 60 })
}

/// How a process ends, if it does within the limit. Polls, since there is no waitpid(2) with one.
pub(crate) fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            status => return status,
        }
    }
}

/// Whether the tests can be run at all; if not, says why.
pub(crate) fn is_ready(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "only root may watch a file system");
        return false;
    }
    true
}

/// Says why something is not tested. Not with `println!`: libtest would swallow it.
pub(crate) fn skip(test: &str, reason: &str) {
    say(&format!("skipped: {test}: {reason}"));
}

/// A line that is seen whether or not the test fails.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

static LOAD: RwLock<()> = RwLock::new(());

/// For a test that others may run beside.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    LOAD.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that loads the machine, or that measures a time.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    LOAD.write().unwrap_or_else(PoisonError::into_inner)
}

/// Someone of `/etc/passwd`.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `/etc/passwd`; read once, since it is asked for every event.
static ACCOUNTS: LazyLock<Vec<Account>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let accounts = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid })
    });
    accounts.collect()
});

/// `/etc/group`: names and numbers.
static GROUPS: LazyLock<Vec<(String, u32)>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let groups = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    });
    groups.collect()
});

/// The name of a user, where it has one.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    ACCOUNTS.iter().find(|account| account.uid == uid).map(|account| account.name.clone())
}

/// The name of a group, where it has one.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    GROUPS.iter().find(|group| group.1 == gid).map(|group| group.0.clone())
}

/// A user with a name and without privileges: a person where there is one, else `nobody`.
pub(crate) fn ordinary_user() -> Account {
    let person = ACCOUNTS.iter().find(|account| (1000..60_000).contains(&account.uid));
    let nobody = || ACCOUNTS.iter().find(|account| account.uid == 65_534);
    person.or_else(nobody).expect("neither a person nor nobody in /etc/passwd").clone()
}
