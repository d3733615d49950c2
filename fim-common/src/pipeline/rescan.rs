//! Looks at the disk while the agent runs: after a loss, and where something appeared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use super::scan_rule;
use crate::baseline::Baseline;
use crate::operation::Operation;
use crate::policy::Policy;
use crate::scan::{self, Difference, Mode, Root, Scope};

/// What a scan hands back.
pub(super) enum Found {
    /// Something the baseline did not know.
    Difference {
        /// What.
        difference: Box<Difference>,
        /// The rename that brought the directory it lies in.
        moved: Option<Arc<Operation>>,
    },
    /// A request is done.
    End {
        /// It was for a gap.
        gap: bool,
    },
}

struct Request {
    paths: Vec<PathBuf>,
    gap: bool,
    moved: Option<Arc<Operation>>,
    /// Something was mounted or unmounted at the one path: that has been told, and only what is
    /// below is news.
    mounted: bool,
}

impl Request {
    /// Whether what is found has to be told in its own way.
    fn is_apart(&self) -> bool {
        self.moved.is_some() || self.mounted
    }
}

/// A thread that compares parts of the disk with the baseline, one request after the other.
pub struct Scanner {
    requests: Option<Sender<Request>>,
    results: Option<Receiver<Found>>,
    wake: Arc<Notify>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What to scan for a policy: its watches.
pub fn scope_of(policy: &Policy) -> Vec<Root> {
    policy
        .watches()
        .into_iter()
        .map(|watch| match watch.first {
            Some(first) => Root { path: watch.base.join(first), depth: Some(0) },
            None => Root { path: watch.base, depth: watch.depth.map(|depth| depth as usize) },
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
    pub fn new(baseline: Arc<Baseline>, policy: Policy) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Request>();
        let (outbox, results) = channel();
        let wake = Arc::new(Notify::new());
        let cancel = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("rescan".to_owned()).spawn({
            let (wake, cancel) = (Arc::clone(&wake), Arc::clone(&cancel));
            move || {
                let mut next = None;
                while let Some(first) = next.take().or_else(|| inbox.recv().ok()) {
                    // A scan begun now covers every request that is already here for the same.
                    let (request, ends, other) = gather(first, &inbox);
                    next = other;
                    rescan(&baseline, &policy, &request, &cancel, &mut |difference| {
                        if request.mounted && request.paths.contains(&difference.path) {
                            return;
                        }
                        let (difference, moved) = (Box::new(difference), request.moved.clone());
                        let _ = outbox.send(Found::Difference { difference, moved });
                        wake.notify_one();
                    });
                    for gap in ends {
                        let _ = outbox.send(Found::End { gap });
                    }
                    wake.notify_one();
                }
            }
        })?;
        Ok(Self {
            requests: Some(requests),
            results: Some(results),
            wake,
            cancel,
            thread: Some(thread),
        })
    }

    /// The receiving end, once.
    pub(super) fn take_results(&mut self) -> (Receiver<Found>, Arc<Notify>) {
        let results = self.results.take().unwrap_or_else(|| channel().1);
        (results, Arc::clone(&self.wake))
    }

    /// Compares what is at and below `paths` (empty: everything) with the baseline.
    pub(super) fn request(&self, paths: Vec<PathBuf>, gap: bool) {
        if let Some(requests) = &self.requests {
            // An error means that the thread has ended, which it does on stop only.
            let _ = requests.send(Request { paths, gap, moved: None, mounted: false });
        }
    }

    /// Finds what a mount or its end has put in place of what was there.
    pub(super) fn request_mounted(&self, point: PathBuf) {
        if let Some(requests) = &self.requests {
            let paths = vec![point];
            let _ = requests.send(Request { paths, gap: false, moved: None, mounted: true });
        }
    }

    /// Finds what lies in a directory that this rename brought into scope.
    pub(super) fn request_moved(&self, whole: Operation) {
        if let (Some(requests), Some(path)) = (&self.requests, whole.path.clone()) {
            let moved = Some(Arc::new(whole));
            let _ = requests.send(Request { paths: vec![path], gap: false, moved, mounted: false });
        }
    }

    /// Ends the scan under way and the thread.
    pub(super) fn stop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.requests = None;
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

/// One request for all that are waiting, what each of them was for, and the first that has to be
/// met by itself.
fn gather(first: Request, inbox: &Receiver<Request>) -> (Request, Vec<bool>, Option<Request>) {
    let mut ends = vec![first.gap];
    let mut all = first;
    if all.is_apart() {
        return (all, ends, None);
    }
    while let Ok(next) = inbox.try_recv() {
        if next.is_apart() {
            return (all, ends, Some(next));
        }
        ends.push(next.gap);
        all.gap |= next.gap;
        if all.paths.is_empty() || next.paths.is_empty() {
            all.paths.clear();
        } else {
            for path in next.paths {
                if !all.paths.iter().any(|known| path.starts_with(known)) {
                    all.paths.push(path);
                }
            }
        }
    }
    (all, ends, None)
}

fn rescan(
    baseline: &Baseline,
    policy: &Policy,
    request: &Request,
    cancel: &AtomicBool,
    found: &mut dyn FnMut(Difference),
) {
    let all = scope_of(policy);
    let roots: Vec<Root> = if request.paths.is_empty() {
        all.clone()
    } else {
        request.paths.iter().map(|path| Root { path: path.clone(), depth: None }).collect()
    };
    let rule = |path: &Path| scan_rule(policy, path);
    let descend = |path: &Path| may_hold(policy, &all, path);
    let scope = Scope { roots: &roots, rule: &rule, descend: &descend };
    let options = scan::Options { threads: 0, deep: false, cancel, progress: &|_| {} };
    match scan::reconcile(baseline, scope, Mode::Update, options, found) {
        Ok(summary) => tracing::info!(
            objects = summary.objects,
            differences = summary.differences,
            errors = summary.errors,
            "compared with the baseline"
        ),
        Err(error) => tracing::error!(%error, "the disk could not be compared with the baseline"),
    }
}
