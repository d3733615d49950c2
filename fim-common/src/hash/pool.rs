//! Threads that hash, behind a bounded queue.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{BUFFER, HashOutcome, Reading, handle_content, open, unsettled};
use crate::state::ObjectId;

/// What to hash; the parameters of [`super::content`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Where the object is.
    pub path: PathBuf,
    /// Which object is meant.
    pub expected: Option<ObjectId>,
    /// Bytes beyond which the content is not read.
    pub limit: u64,
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
    capacity: usize,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
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
}

struct Waiting {
    job: Job,
    reply: oneshot::Sender<HashOutcome>,
    /// Was put aside once already.
    settled: bool,
    _slot: OwnedSemaphorePermit,
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
            closed: AtomicBool::new(false),
            done: options.done,
        });
        // A pool whose second thread was refused still ends the first one: Drop does.
        let mut pool = Self {
            shared,
            slots: Arc::new(Semaphore::new(options.queue)),
            capacity: options.queue,
            threads: Vec::new(),
        };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("fim-hash-{number}"))
                .spawn(move || shared.work())?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Queues a job, waiting while the queue is full. The receiver yields the outcome, or an error
    /// when the pool is dropped before.
    pub async fn submit(&self, job: Job) -> oneshot::Receiver<HashOutcome> {
        let (reply, outcome) = oneshot::channel();
        // The semaphore is never closed; were it, the dropped sender says so.
        if let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
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
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| QueueFull)?;
        self.push(job, reply, slot);
        Ok(outcome)
    }

    /// Jobs that wait, for `fim_queue_depth`.
    pub fn depth(&self) -> usize {
        self.capacity.saturating_sub(self.slots.available_permits())
    }

    fn push(&self, job: Job, reply: oneshot::Sender<HashOutcome>, slot: OwnedSemaphorePermit) {
        let waiting = Waiting { job, reply, settled: false, _slot: slot };
        self.shared.lock().ready.push_back(waiting);
        self.shared.changed.notify_one();
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        *self.shared.lock() = Queues::default();
        self.shared.changed.notify_all();
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

    fn work(&self) {
        let mut buffer = vec![0_u8; BUFFER];
        while let Some(waiting) = self.next() {
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
            if self.closed.load(Ordering::Relaxed) {
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

    /// The outcome and whom to tell, or `None` when the job was put aside.
    fn hash(
        &self,
        mut waiting: Waiting,
        buffer: &mut [u8],
    ) -> Option<(HashOutcome, oneshot::Sender<HashOutcome>)> {
        let start = Instant::now();
        let mut outcome = match open(&waiting.job.path, waiting.job.expected) {
            Ok((handle, stat)) => {
                if !waiting.settled
                    && let Some(wait) = unsettled(&handle, &stat)
                {
                    waiting.settled = true;
                    self.lock().later.push_back((start + wait, waiting));
                    self.changed.notify_one();
                    return None;
                }
                handle_content(&handle, waiting.job.limit, buffer, Reading::until(&self.closed))
            }
            Err(outcome) => *outcome,
        };
        outcome.seconds = start.elapsed().as_secs_f64();
        Some((outcome, waiting.reply))
    }
}
