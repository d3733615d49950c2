//! Looks at the disk while the agent runs: after a loss, and where something appeared.
//!
//! What a scan finds may be the work of an operation that is still under way to the pipeline. So
//! the thread only proposes, a batch at a time, and waits until the pipeline, which knows when it
//! has seen everything before (see `recheck`), has confirmed or sent back each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use super::scan_rule;
use crate::baseline::Baseline;
use crate::platform;
use crate::policy::Policy;
use crate::scan::{self, Difference, Limits, Mode, Root, Scope};

/// Proposals in a batch, some 1 KiB each: enough that the wait for a fence (20 ms) is shared by
/// many, few enough that confirming them (30 µs each) does not keep the pipeline from its work.
const BATCH: usize = 1024;
/// How often an object that changes meanwhile is read.
const ATTEMPTS: u32 = 4;

/// What to look at.
pub(super) struct Request {
    /// Where; `None`: everything that is watched.
    pub(super) roots: Option<Vec<Root>>,
    /// Content too, where nothing says that it was touched.
    pub(super) deep: bool,
}

/// What a scan hands back.
pub(super) enum Found {
    /// Objects that the baseline does not have like this. The scan waits for [`Scanner::answer`].
    Proposed(Vec<Proposal>),
    /// The request is done.
    End {
        /// Everything was looked at.
        complete: bool,
    },
}

/// One object.
pub(super) struct Proposal {
    pub(super) difference: Difference,
    /// It has been read so often that it is not read again.
    pub(super) last: bool,
}

/// A thread that compares parts of the disk with the baseline, one request after the other.
pub struct Scanner {
    requests: Option<Sender<Request>>,
    answers: Option<Sender<Vec<PathBuf>>>,
    results: Option<Receiver<Found>>,
    wake: Arc<Notify>,
    cancel: Arc<AtomicBool>,
    policy: Arc<Mutex<Policy>>,
    thread: Option<JoinHandle<()>>,
}

/// What to scan for a policy: its watches.
pub fn scope_of(policy: &Policy) -> Vec<Root> {
    policy
        .places()
        .into_iter()
        .map(|(path, depth)| Root {
            path: platform::spelled(path),
            depth: depth.map(|depth| depth as usize),
        })
        .collect()
}

/// Whether anything watched can lie below a directory.
pub(super) fn may_hold(policy: &Policy, roots: &[Root], path: &Path) -> bool {
    policy.covers(path).is_some()
        || roots.iter().any(|root| path.starts_with(&root.path) || root.path.starts_with(path))
}

impl Scanner {
    /// Starts the thread, which sleeps until something is requested.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(baseline: Arc<Baseline>, policy: Policy, limits: Limits) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Request>();
        let (answers, answered) = channel();
        let (outbox, results) = channel();
        let wake = Arc::new(Notify::new());
        let cancel = Arc::new(AtomicBool::new(false));
        let policy = Arc::new(Mutex::new(policy));
        let thread = std::thread::Builder::new().name("rescan".to_owned()).spawn({
            let (wake, cancel) = (Arc::clone(&wake), Arc::clone(&cancel));
            let current = Arc::clone(&policy);
            move || {
                while let Ok(request) = inbox.recv() {
                    let policy = lock(&current).clone();
                    let mut talk = Talk {
                        policy: &policy,
                        outbox: &outbox,
                        wake: &wake,
                        answered: &answered,
                        cancel: &cancel,
                        batch: Vec::new(),
                    };
                    let complete = rescan(&baseline, &policy, request, limits, &mut talk);
                    let _ = outbox.send(Found::End { complete });
                    wake.notify_one();
                }
            }
        })?;
        Ok(Self {
            requests: Some(requests),
            answers: Some(answers),
            results: Some(results),
            wake,
            cancel,
            policy,
            thread: Some(thread),
        })
    }

    /// What is requested from now on is scanned by this policy.
    pub(super) fn set_policy(&self, policy: Policy) {
        *lock(&self.policy) = policy;
    }

    /// The receiving end, once.
    pub(super) fn take_results(&mut self) -> (Receiver<Found>, Arc<Notify>) {
        let results = self.results.take().unwrap_or_else(|| channel().1);
        (results, Arc::clone(&self.wake))
    }

    /// Compares with the baseline what is requested.
    pub(super) fn request(&self, request: Request) {
        if let Some(requests) = &self.requests {
            // An error means that the thread has ended, which it does on stop only.
            let _ = requests.send(request);
        }
    }

    /// The batch is dealt with, but for these, which have to be read again.
    pub(super) fn answer(&self, again: Vec<PathBuf>) {
        if let Some(answers) = &self.answers {
            let _ = answers.send(again);
        }
    }

    /// Ends the scan under way and the thread.
    pub(super) fn stop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.requests = None;
        self.answers = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the scanner has panicked");
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The policy is replaced as a whole: a panic elsewhere leaves it sound.
fn lock(policy: &Mutex<Policy>) -> MutexGuard<'_, Policy> {
    policy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's end of the talk with the pipeline.
struct Talk<'a> {
    policy: &'a Policy,
    outbox: &'a Sender<Found>,
    wake: &'a Notify,
    answered: &'a Receiver<Vec<PathBuf>>,
    cancel: &'a AtomicBool,
    /// Each with the number of times that it was read.
    batch: Vec<(Difference, u32)>,
}

impl Talk<'_> {
    fn propose(&mut self, difference: Difference) {
        self.batch.push((difference, 1));
        if self.batch.len() >= BATCH {
            self.submit();
        }
    }

    /// Hands the batch over, and waits. What has to be read again is the next batch.
    fn submit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let reads: HashMap<PathBuf, u32> =
            batch.iter().map(|(difference, reads)| (difference.path.clone(), *reads)).collect();
        let proposals = batch
            .into_iter()
            .map(|(difference, reads)| Proposal { difference, last: reads >= ATTEMPTS })
            .collect();
        let sent = self.outbox.send(Found::Proposed(proposals));
        self.wake.notify_one();
        let (Ok(()), Ok(again)) = (sent, self.answered.recv()) else {
            // The pipeline is stopping: what it does not confirm is found at the next start.
            return self.cancel.store(true, Ordering::Relaxed);
        };
        for path in again {
            let reads = reads.get(&path).copied().unwrap_or(ATTEMPTS);
            if reads < ATTEMPTS {
                let rule = scan_rule(self.policy, &path);
                let found = scan::read_again(path, rule);
                self.batch.extend(found.map(|difference| (difference, reads + 1)));
            }
        }
    }

    fn finish(&mut self) {
        while !self.batch.is_empty() && !self.cancel.load(Ordering::Relaxed) {
            self.submit();
        }
    }
}

/// Whether everything was looked at.
fn rescan(
    baseline: &Baseline,
    policy: &Policy,
    request: Request,
    limits: Limits,
    talk: &mut Talk<'_>,
) -> bool {
    let Request { roots, deep } = request;
    let all = scope_of(policy);
    let roots = roots.unwrap_or_else(|| all.clone());
    let cancel = talk.cancel;
    let rule = |path: &Path| scan_rule(policy, path);
    let descend = |path: &Path| may_hold(policy, &all, path);
    let scope = Scope { roots: &roots, rule: &rule, descend: &descend };
    let options = scan::Options { limits, deep, cancel, progress: &|_| {} };
    let result = scan::reconcile(baseline, scope, Mode::Propose, options, &mut |difference| {
        talk.propose(difference);
    });
    talk.finish();
    match result {
        Ok(summary) => {
            let (objects, proposed) = (summary.objects, summary.differences);
            let errors = summary.errors;
            // The regular comparison has thousands of parts.
            if deep && proposed == 0 {
                tracing::debug!(objects, errors, "a part of the baseline is verified");
            } else {
                tracing::info!(objects, proposed, errors, "compared with the baseline");
            }
            !summary.cancelled
        }
        Err(error) => {
            tracing::error!(%error, "the disk could not be compared with the baseline");
            false
        }
    }
}
