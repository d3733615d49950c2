//! Threads that hash, behind a bounded queue.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{BUFFER, HashOutcome, Kept, Reading, handle_content_kept, open, unsettled};
use crate::content::{Contents, Keep};
use crate::event::{ContentDiff, DiffState};
use crate::state::{HashState, ObjectId};

/// What to hash; the parameters of [`super::content`].
#[derive(Clone, Debug)]
pub struct Job {
    /// Where the object is.
    pub path: PathBuf,
    /// Which object is meant.
    pub expected: Option<ObjectId>,
    /// Bytes beyond which the content is not read.
    pub limit: u64,
    /// The content is compared with what is kept of an earlier one, and kept.
    pub compare: Option<Compare>,
    /// It is large: it is hashed on a thread aside, those of the highest rank first.
    pub aside: Option<u8>,
}

/// A content to compare with.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Where contents are kept.
    pub contents: Arc<Contents>,
    /// In which form.
    pub keep: Keep,
    /// The hash of the earlier content, where it is known.
    pub before: Option<String>,
}

impl Compare {
    /// What changed, when the content whose hash is `sha256` is `kept`.
    fn diff(&self, path: &Path, sha256: &str, kept: Kept) -> ContentDiff {
        let before = self.before.as_deref();
        match kept.bytes {
            Some(bytes) => self.contents.changed(path, before, sha256, &bytes, self.keep),
            None => ContentDiff {
                from: self.before.clone(),
                ..ContentDiff::new(sha256, DiffState::TooLarge)
            },
        }
    }
}

/// Called after each job.
pub type Done = Box<dyn Fn(&HashOutcome) + Send + Sync>;

/// How a pool is set up.
pub struct PoolOptions {
    /// Threads; 0: one for each core.
    pub threads: usize,
    /// Jobs that may wait; one more makes [`HashPool::submit`] wait.
    pub queue: usize,
    /// Called by the hashing thread after each job, for metrics. It should not block.
    pub done: Option<Done>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { threads: 0, queue: 4_096, done: None }
    }
}

/// The queue holds as many jobs as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash queue is full")]
pub struct QueueFull;

/// Threads that hash. Dropping it discards what waits (its receivers get an error), gives up what
/// is being read, and ends the threads.
pub struct HashPool {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    /// Of their own: large files that wait must not keep small ones from waiting.
    aside_slots: Arc<Semaphore>,
    capacity: usize,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
    /// For the thread aside.
    large: Condvar,
    closed: AtomicBool,
    done: Option<Done>,
}

#[derive(Default)]
struct Queues {
    ready: VecDeque<Waiting>,
    /// Files changed within the current clock tick (see `clock`), by the time from which they can
    /// be read. Put aside so that a thread never sleeps while others could be hashed: a storm of
    /// fresh files would otherwise be hashed at one a tick.
    later: VecDeque<(Instant, Waiting)>,
    /// Large files, for the thread aside.
    aside: BinaryHeap<Ranked>,
    /// Of the next one in `aside`.
    number: u64,
}

/// A job for the thread aside: the highest rank first, then the oldest.
struct Ranked {
    rank: (u8, Reverse<u64>),
    waiting: Waiting,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

struct Waiting {
    job: Job,
    reply: oneshot::Sender<HashOutcome>,
    /// Was put aside once already.
    settled: bool,
    _slot: OwnedSemaphorePermit,
}

/// Which jobs a thread takes.
#[derive(Clone, Copy)]
enum Queue {
    Usual,
    Aside,
}

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(options: PoolOptions) -> std::io::Result<Self> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            changed: Condvar::new(),
            large: Condvar::new(),
            closed: AtomicBool::new(false),
            done: options.done,
        });
        // A pool whose second thread was refused still ends the first one: Drop does.
        let mut pool = Self {
            shared,
            slots: Arc::new(Semaphore::new(options.queue)),
            aside_slots: Arc::new(Semaphore::new(options.queue)),
            capacity: options.queue,
            threads: Vec::new(),
        };
        for number in 0..threads {
            pool.spawn(format!("fim-hash-{number}"), Queue::Usual)?;
        }
        // A thread of its own: a file of many gigabytes must not keep small ones waiting.
        pool.spawn("fim-hash-aside".to_owned(), Queue::Aside)?;
        Ok(pool)
    }

    fn spawn(&mut self, name: String, queue: Queue) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || shared.work(queue))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Queues a job, waiting while the queue is full. The receiver yields the outcome, or an error
    /// when the pool is dropped before.
    pub async fn submit(&self, job: Job) -> oneshot::Receiver<HashOutcome> {
        let (reply, outcome) = oneshot::channel();
        // The semaphore is never closed; were it, the dropped sender says so.
        if let Ok(slot) = Arc::clone(self.slots_for(&job)).acquire_owned().await {
            self.push(job, reply, slot);
        }
        outcome
    }

    /// Queues a job if there is room for it now.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn try_submit(&self, job: Job) -> Result<oneshot::Receiver<HashOutcome>, QueueFull> {
        let (reply, outcome) = oneshot::channel();
        let slot = Arc::clone(self.slots_for(&job)).try_acquire_owned().map_err(|_| QueueFull)?;
        self.push(job, reply, slot);
        Ok(outcome)
    }

    /// Jobs that wait or are worked on, for `fim_queue_depth`.
    pub fn depth(&self) -> usize {
        let free = self.slots.available_permits() + self.aside_slots.available_permits();
        (2 * self.capacity).saturating_sub(free)
    }

    fn slots_for(&self, job: &Job) -> &Arc<Semaphore> {
        if job.aside.is_some() { &self.aside_slots } else { &self.slots }
    }

    fn push(&self, job: Job, reply: oneshot::Sender<HashOutcome>, slot: OwnedSemaphorePermit) {
        let aside = job.aside;
        let waiting = Waiting { job, reply, settled: false, _slot: slot };
        let mut queues = self.shared.lock();
        match aside {
            Some(rank) => {
                queues.number += 1;
                let rank = (rank, Reverse(queues.number));
                queues.aside.push(Ranked { rank, waiting });
            }
            None => queues.ready.push_back(waiting),
        }
        drop(queues);
        match aside {
            Some(_) => self.shared.large.notify_one(),
            None => self.shared.changed.notify_one(),
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.closed.store(true, Relaxed);
        *self.shared.lock() = Queues::default();
        self.shared.changed.notify_all();
        self.shared.large.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has taken its receiver's sender with it: reported there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The queues are consistent at every moment, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, queue: Queue) {
        let mut buffer = vec![0_u8; BUFFER];
        loop {
            let next = match queue {
                Queue::Usual => self.next(),
                Queue::Aside => self.next_aside(),
            };
            let Some(waiting) = next else { return };
            let Some((outcome, reply)) = self.hash(waiting, &mut buffer) else { continue };
            if let Some(done) = &self.done {
                done(&outcome);
            }
            // Nobody waits for it any more: fine.
            let _ = reply.send(outcome);
        }
    }

    /// The next job, waiting for one; `None` when the pool is closed.
    fn next(&self) -> Option<Waiting> {
        let mut queues = self.lock();
        loop {
            if self.closed.load(Relaxed) {
                return None;
            }
            let now = Instant::now();
            if queues.later.front().is_some_and(|(due, _)| *due <= now) {
                return queues.later.pop_front().map(|(_, waiting)| waiting);
            }
            if let Some(waiting) = queues.ready.pop_front() {
                return Some(waiting);
            }
            let due = queues.later.front().map(|(due, _)| due.saturating_duration_since(now));
            queues = match due {
                Some(wait) => {
                    let wait = wait.max(Duration::from_micros(50));
                    let result = self.changed.wait_timeout(queues, wait);
                    result.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The next job for the thread aside; `None` when the pool is closed.
    fn next_aside(&self) -> Option<Waiting> {
        let mut queues = self.lock();
        loop {
            if self.closed.load(Relaxed) {
                return None;
            }
            if let Some(next) = queues.aside.pop() {
                return Some(next.waiting);
            }
            queues = self.large.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The outcome and whom to tell, or `None` when the job was put off.
    fn hash(
        &self,
        mut waiting: Waiting,
        buffer: &mut [u8],
    ) -> Option<(HashOutcome, oneshot::Sender<HashOutcome>)> {
        let start = Instant::now();
        let mut outcome = match open(&waiting.job.path, waiting.job.expected) {
            Ok((handle, stat)) => {
                if !waiting.settled
                    && waiting.job.aside.is_none()
                    && let Some(wait) = unsettled(&handle, &stat)
                {
                    waiting.settled = true;
                    self.lock().later.push_back((start + wait, waiting));
                    self.changed.notify_one();
                    return None;
                }
                let mut kept = waiting
                    .job
                    .compare
                    .as_ref()
                    .map(|compare| Kept { limit: compare.contents.max_file(), bytes: None });
                let limit = waiting.job.limit;
                let mut outcome = handle_content_kept(
                    &handle,
                    limit,
                    buffer,
                    Reading::until(&self.closed),
                    kept.as_mut(),
                );
                if let (Some(compare), Some(kept)) = (&waiting.job.compare, kept)
                    && outcome.state == HashState::Exact
                    && let Some(sha256) = &outcome.sha256
                {
                    outcome.diff = Some(compare.diff(&waiting.job.path, sha256, kept));
                }
                outcome
            }
            Err(outcome) => *outcome,
        };
        outcome.seconds = start.elapsed().as_secs_f64();
        Some((outcome, waiting.reply))
    }
}
