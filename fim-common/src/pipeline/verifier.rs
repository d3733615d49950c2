//! The thread that reads package databases and compares files with them, so that the pipeline does
//! not wait for the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::event::{Manager, PackageChange};
use crate::packages::programs::Program;
use crate::packages::{self, Content, Databases, Entry, Found, Index, Package};

/// How often the databases are looked at when nothing is asked.
const IDLE: Duration = Duration::from_secs(5);

/// What is asked.
pub(super) enum Job {
    /// What is known of these paths, and which of the programs are those of their packages.
    Check { batch: u64, paths: HashSet<PathBuf>, programs: Vec<&'static Program> },
    /// Whether a program is the one of its package.
    Program { run: String, program: &'static Program },
    /// What a run that began at these seconds of the epoch has installed.
    Installed { run: String, since: i64 },
}

/// And answered, in order.
pub(super) enum Answer {
    Check {
        batch: u64,
        facts: HashMap<PathBuf, Facts>,
        programs: Vec<&'static Program>,
    },
    Program {
        run: String,
        genuine: bool,
    },
    Installed {
        run: String,
        packages: Vec<PackageChange>,
    },
    /// A database cannot be read; told when that begins.
    Unreadable(String),
}

/// What is known of one path.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The package that has it, and what it is to be.
    pub(super) owner: Option<(Package, Entry)>,
    /// What is there.
    pub(super) found: Found,
    /// A database could not be read: the absence of an owner says nothing.
    pub(super) unreadable: bool,
}

/// The thread, from outside.
pub(super) struct Verifier {
    jobs: Option<std_mpsc::Sender<Job>>,
    answers: mpsc::UnboundedReceiver<Answer>,
    index: Shared,
    thread: Option<JoinHandle<()>>,
}

/// `None` until the databases have been read for the first time.
type Shared = Arc<RwLock<Option<Arc<Index>>>>;

impl Verifier {
    /// Starts it. Files with more than `limit` bytes are not compared; `freed` is called when what
    /// reading the databases took of memory is free.
    pub(super) fn start(databases: Databases, limit: u64, freed: fn()) -> std::io::Result<Self> {
        let (jobs, inbox) = std_mpsc::channel();
        let (sender, answers) = mpsc::unbounded_channel();
        let index: Shared = Arc::default();
        let mut worker = Worker {
            databases,
            limit,
            freed,
            sender,
            index: Arc::clone(&index),
            fingerprint: None,
            installed: BTreeMap::new(),
            problem: None,
        };
        let thread = std::thread::Builder::new()
            .name("packages".to_owned())
            .spawn(move || worker.work(&inbox))?;
        Ok(Self { jobs: Some(jobs), answers, index, thread: Some(thread) })
    }

    pub(super) fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It only ends when this does.
            let _ = jobs.send(job);
        }
    }

    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Which package has which path, as it was read last; `None`: it is being read for the first time.
    pub(super) fn index(&self) -> Option<Arc<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.jobs = None;
        // It may be in the middle of a file; nobody waits for that.
        drop(self.thread.take());
    }
}

struct Worker {
    databases: Databases,
    limit: u64,
    freed: fn(),
    sender: mpsc::UnboundedSender<Answer>,
    index: Shared,
    /// Of what the index was made of.
    fingerprint: Option<Vec<(PathBuf, u64, u64, u64)>>,
    /// As of the end of the last run.
    installed: BTreeMap<(Manager, String), String>,
    /// Why a database cannot be read.
    problem: Option<String>,
}

impl Worker {
    fn work(&mut self, inbox: &std_mpsc::Receiver<Job>) {
        self.refresh();
        // One that cannot be read has nothing, for now.
        self.index.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
        self.installed = self.databases.packages().unwrap_or_default();
        loop {
            let answer = match inbox.recv_timeout(IDLE) {
                Ok(Job::Check { batch, paths, programs }) => {
                    self.refresh();
                    let facts = self.facts(paths);
                    let programs =
                        programs.into_iter().filter(|program| self.is_genuine(program)).collect();
                    Answer::Check { batch, facts, programs }
                }
                Ok(Job::Program { run, program }) => {
                    self.refresh();
                    Answer::Program { run, genuine: self.is_genuine(program) }
                }
                Ok(Job::Installed { run, since }) => {
                    self.refresh();
                    Answer::Installed { run, packages: self.installed(since) }
                }
                Err(std_mpsc::RecvTimeoutError::Timeout) => {
                    self.refresh();
                    continue;
                }
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if self.sender.send(answer).is_err() {
                return;
            }
        }
    }

    /// Reads the databases again if they have changed.
    fn refresh(&mut self) {
        let fingerprint = self.databases.fingerprint();
        if self.problem.is_none() && self.fingerprint.as_ref() == Some(&fingerprint) {
            return;
        }
        match Index::read(&self.databases) {
            Ok(index) => {
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(index));
                // If it was written to meanwhile, the next look will differ.
                self.fingerprint = Some(fingerprint);
                self.problem = None;
                (self.freed)();
            }
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn failed(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            self.problem = Some(problem.clone());
            // Nobody is left to be told at the end.
            let _ = self.sender.send(Answer::Unreadable(problem));
        }
    }

    fn facts(&mut self, paths: HashSet<PathBuf>) -> HashMap<PathBuf, Facts> {
        let index =
            self.index.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let mut by_package: Vec<(&Package, HashSet<PathBuf>)> = Vec::new();
        let mut place: HashMap<&Package, usize> = HashMap::new();
        for path in &paths {
            // Directories are shared by thousands, and nothing is recorded of them.
            for package in index.owners(path).take(8) {
                let at = *place.entry(package).or_insert_with(|| {
                    by_package.push((package, HashSet::new()));
                    by_package.len() - 1
                });
                if let Some((_, wanted)) = by_package.get_mut(at) {
                    wanted.insert(path.clone());
                }
            }
        }
        let mut owners: HashMap<PathBuf, (Package, Entry)> = HashMap::new();
        let mut problem = self.problem.clone();
        for (package, wanted) in by_package {
            match self.databases.entries(package, &wanted) {
                Ok(entries) => {
                    for (path, entry) in entries {
                        let known = owners.get(&path);
                        // Of several owners, one that says what there is to be.
                        let says = entry.content != Content::Unrecorded;
                        if known.is_none() || says {
                            owners.insert(path, (package.clone(), entry));
                        }
                    }
                }
                Err(error) => problem = Some(error.to_string()),
            }
        }
        if let Some(problem) = &problem {
            self.failed(problem.clone());
        }
        paths
            .into_iter()
            .map(|path| {
                let owner = owners.remove(&path);
                let found =
                    packages::look(&path, owner.as_ref().map(|(_, entry)| entry), self.limit);
                let unreadable = owner.is_none() && problem.is_some();
                (path, Facts { owner, found, unreadable })
            })
            .collect()
    }

    /// Whether the file of a program is as its package has it.
    fn is_genuine(&mut self, program: &'static Program) -> bool {
        let path = PathBuf::from(program.path);
        // `dnf` is a link to `dnf-3`.
        let target = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let mut facts = self.facts(HashSet::from([path.clone(), target.clone()]));
        let Some(file) = facts.remove(&target) else { return false };
        if file.found.matches != Some(true) || path == target {
            return file.found.matches == Some(true);
        }
        // dpkg does not record where a link leads: then it has to be to a file of the same package.
        let Some(link) = facts.remove(&path) else { return false };
        match (&link.owner, &file.owner) {
            (Some((of_link, _)), Some((of_file, _))) => {
                link.found.matches == Some(true)
                    || (of_link.manager, &of_link.name) == (of_file.manager, &of_file.name)
            }
            _ => false,
        }
    }

    /// What has been installed, replaced or removed since the end of the last run.
    fn installed(&mut self, since: i64) -> Vec<PackageChange> {
        let now = match self.databases.packages() {
            Ok(now) => now,
            Err(error) => {
                self.failed(error.to_string());
                return Vec::new();
            }
        };
        let again: HashSet<(Manager, String)> =
            self.databases.installed_since(since).into_iter().collect();
        let names: HashSet<&(Manager, String)> = now.keys().chain(self.installed.keys()).collect();
        let mut changes: Vec<PackageChange> = names
            .into_iter()
            .filter_map(|key| {
                let (before, after) = (self.installed.get(key).cloned(), now.get(key).cloned());
                let changed = before != after || again.contains(key);
                let (manager, name) = (key.0, key.1.clone());
                changed.then_some(PackageChange { name, manager, before, after })
            })
            .collect();
        changes.sort_by(|a, b| (a.manager, &a.name).cmp(&(b.manager, &b.name)));
        self.installed = now;
        changes
    }
}
