//! Collecting through ETW.
//!
//! ```text
//! session `changes`   ── callback: copies ──► queue ─► thread `etw`: order, decode, correlate ─► pipeline
//! session `processes` ── callback: copies ──► queue ─► thread `processes`: looks at each ──┘
//! ```
//!
//! A callback copies its record into a queue of bytes and returns; what finds no room there is a
//! gap, as is what a session says it lost. The thread `etw` may wait for the pipeline. Threads
//! beside it: `etw sessions` ([`supervisor`]), `registry`, which looks at keys, and `accounts`.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use fim_common::baseline::{Baseline, BaselineError};
use fim_common::collector::{Collector, Fences, ObservationSender};
use fim_common::event::Provider;
use fim_common::loss::Losses;
use fim_common::pipeline::scope_of;
use fim_common::policy::Policy;
use fim_win32::etw::{self, Session, SessionOptions, StartError};
use fim_win32::{file, handles};

mod keys;
mod people;
mod processes;
mod scope;
mod sessions;
mod spelling;
mod supervisor;
mod worker;

pub use people::{ACCOUNTS_MAX, People};
pub use sessions::Sizes;
pub use spelling::SPELLINGS_MAX;
pub use worker::Counters;

use keys::Keys;
use processes::Nothing;
use scope::Wanted;
use spelling::Spelling;
use supervisor::{CHANGES, KEYS, PROCESSES, Watched};
use worker::{Look, Message, Unread, Worker};

use super::registry::Scope as RegistryScope;
use crate::correlate::{Correlator, Options as CorrelatorOptions};
use crate::paths::{Devices, LongNames};
use crate::stream::{Queue, Stream};

/// How often the registry is looked at whatever events say: keys can be replaced with their hive.
const REGISTRY: Duration = Duration::from_secs(300);
/// The names of open files are told within this time.
const NAMES: Duration = Duration::from_secs(5);
/// Bytes of the queue of processes.
const PROCESS_QUEUE: usize = 16 << 20;

/// What the collector is made of.
pub struct Options {
    /// What is watched.
    pub policy: Policy,
    /// What is known.
    pub baseline: Arc<Baseline>,
    /// Into the pipeline.
    pub sender: ObservationSender,
    /// Where losses are told.
    pub losses: Losses,
    /// Of sessions and queue.
    pub sizes: Sizes,
    /// What the names of the sessions begin with: there is one session of a name.
    pub prefix: String,
    /// Records that come within this time of each other are brought into order.
    pub hold: Duration,
}

/// What the names of an agent's sessions begin with.
pub const PREFIX: &str = "fim";
/// How long a record waits for others with an earlier time, which another processor's buffer holds.
pub const HOLD: Duration = Duration::from_millis(250);

/// Why there is no collecting through ETW.
#[derive(Debug, thiserror::Error)]
pub enum EtwError {
    /// No session.
    #[error("{0}")]
    Session(#[from] StartError),
    /// The registry cannot be compared.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The system refuses a thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl EtwError {
    /// Whether the system would let somebody else do it.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Session(StartError::NotPermitted(_)))
    }
}

struct LongNamesHere;

impl LongNames for LongNamesHere {
    fn expand(&self, path: &str) -> Option<String> {
        file::long_name(path).ok()
    }
}

/// The collector.
pub struct EtwCollector {
    queue: Arc<Queue<Message>>,
    process_queue: Arc<Queue<Nothing>>,
    /// Further sessions for the supervisor; it ends when there can be no more.
    more: Option<Sender<Watched>>,
    supervisor: Option<JoinHandle<io::Result<()>>>,
    follower: Option<JoinHandle<()>>,
    worker: Option<JoinHandle<()>>,
    looker: Option<JoinHandle<()>>,
    roots: Vec<PathBuf>,
    counters: Arc<Counters>,
    summary: String,
    changes: String,
    /// The session of registry events that was started later, for what the sessions are flushed by.
    keys: Arc<OnceLock<String>>,
    /// Registry events are recorded.
    registry: bool,
    prefix: String,
    sizes: Sizes,
}

impl EtwCollector {
    /// Starts the sessions. When it returns, each operation is seen.
    ///
    /// # Errors
    /// [`EtwError`]; then no session is left behind.
    pub fn start(options: Options) -> Result<Self, EtwError> {
        let Options { policy, baseline, sender, losses, sizes, prefix, hold } = options;
        let queue: Arc<Queue<Message>> = Arc::new(Queue::new(sizes.queue));
        let process_queue: Arc<Queue<Nothing>> = Arc::new(Queue::new(PROCESS_QUEUE));
        let registry = RegistryScope::of(&policy);
        let people = People::new(super::site::account)?;

        // Processes first: whoever does something is known by then.
        let process_options = sessions::processes(&prefix, &sizes);
        let process_sink = sessions::into_queue(&process_queue);
        let processes = Session::start(&process_options, &process_sink)?;
        let changes_options = sessions::changes(&prefix, &sizes, !registry.is_empty());
        let changes_sink = sessions::into_queue(&queue);
        let changes = Session::start(&changes_options, &changes_sink)?;
        let mut notes = Vec::new();
        if let Some(error) = changes.no_data() {
            notes.push(format!("without the data of registry values ({error})"));
        }

        // What is done from here on waits in the queue.
        let (keys, found) = Keys::begin(Arc::clone(&baseline), &registry)?;
        let (looks, asked) = channel();
        let roots: Vec<PathBuf> = scope_of(&policy).into_iter().map(|root| root.path).collect();
        let counters = Arc::new(Counters::default());
        let worker = Builder::new().name("etw".to_owned()).spawn({
            let (queue, counters, people) =
                (Arc::clone(&queue), Arc::clone(&counters), people.clone());
            let (scope, losses) = (registry.clone(), losses.clone());
            let bytes = sizes.queue;
            move || {
                let worker = Worker {
                    queue,
                    stream: Stream::new(correlator(policy, people), hold, bytes),
                    spelling: Spelling::new(baseline),
                    keys,
                    looks,
                    scope,
                    scopes: 0,
                    unread: Unread::new(),
                    sender,
                    losses,
                    counters,
                    fences: Vec::new(),
                    hold,
                    devices: Instant::now(),
                };
                worker.work(found);
            }
        })?;
        let mut this = Self {
            queue: Arc::clone(&queue),
            process_queue: Arc::clone(&process_queue),
            more: None,
            supervisor: None,
            follower: None,
            worker: Some(worker),
            looker: None,
            roots,
            counters,
            summary: String::new(),
            changes: changes_options.name.clone(),
            keys: Arc::default(),
            registry: !registry.is_empty(),
            prefix,
            sizes,
        };
        // From here on `this` ends the threads when something fails.
        notes.extend(this.take_down_what_is(&people));
        let follower = Builder::new().name("processes".to_owned()).spawn({
            let (from, to) = (process_queue, Arc::clone(&queue));
            let (losses, counters) = (losses.clone(), Arc::clone(&this.counters));
            move || processes::follow(&from, &people, &to, &losses, &counters)
        })?;
        this.follower = Some(follower);
        this.looker = Some(Builder::new().name("registry".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || look(registry, &asked, &queue)
        })?);
        let watched = vec![
            Watched::new(CHANGES, changes_options, changes_sink, changes),
            Watched::new(PROCESSES, process_options, process_sink, processes),
        ];
        let (more, others) = channel();
        this.supervisor = Some(Builder::new().name("etw sessions".to_owned()).spawn({
            let counters = Arc::clone(&this.counters);
            move || supervisor::supervise(watched, &queue, &losses, &counters, &others)
        })?);
        this.more = Some(more);
        this.summary = match notes.is_empty() {
            true => "files, registry and processes through ETW".to_owned(),
            false => format!("files, registry and processes through ETW; {}", notes.join("; ")),
        };
        Ok(this)
    }

    /// What runs and what is open already. Says what could not be found out.
    fn take_down_what_is(&self, people: &People) -> Vec<String> {
        let mut notes = Vec::new();
        // Others' processes are for whoever may debug them; as the service is.
        if let Err(error) = handles::allow_debugging() {
            tracing::info!(%error, "no right to look into the processes of others");
        }
        match processes::running(people) {
            Ok(running) => drop(self.queue.send(Message::Running(running))),
            Err(error) => notes.push(format!("running processes are not known ({error})")),
        }
        let names = sessions::names(&self.prefix, &self.sizes);
        let sink = sessions::into_queue(&self.queue);
        if let Err(error) = etw::file_names(&names, &sink, NAMES) {
            notes.push(format!("files that are open already have no names ({error})"));
        }
        if self.registry {
            notes.extend(self.name_open_keys());
        }
        notes
    }

    /// Says why not, where it cannot.
    fn name_open_keys(&self) -> Option<String> {
        match handles::open_keys() {
            Ok(found) => {
                tracing::info!(
                    named = found.keys.len(),
                    nameless = found.nameless,
                    "registry keys that are open already"
                );
                let keys = found.keys.into_iter().map(|key| (key.object, key.name));
                self.queue.send(Message::OpenKeys(keys.collect()));
                None
            }
            Err(error) => Some(format!("keys that are open already have no names ({error})")),
        }
    }

    /// Has registry events recorded from now on.
    fn record_keys(&mut self) -> Result<(), StartError> {
        let options = sessions::keys(&self.prefix, &self.sizes);
        let sink = sessions::into_queue(&self.queue);
        let session = Session::start(&options, &sink)?;
        let mut notes = Vec::new();
        if let Some(error) = session.no_data() {
            notes.push(format!("without the data of registry values ({error})"));
        }
        notes.extend(self.name_open_keys());
        for note in notes {
            tracing::warn!("registry keys: {note}");
        }
        let name = options.name.clone();
        if let Some(more) = &self.more {
            // Fails when the thread has panicked, which stopping tells.
            let _ = more.send(Watched::new(KEYS, options, sink, session));
        }
        let _ = self.keys.set(name);
        self.registry = true;
        Ok(())
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn end(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // The sessions first: what they hold is handed over.
        drop(self.more.take());
        let stopped = match self.supervisor.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(stopped)) => stopped.map_err(Into::into),
            Some(Err(_)) => Err("the thread of the sessions has panicked".into()),
        };
        self.process_queue.close();
        let mut clean = self.follower.take().is_none_or(|thread| thread.join().is_ok());
        self.queue.close();
        clean &= self.worker.take().is_none_or(|thread| thread.join().is_ok());
        // It ends when the worker has: nobody asks any more.
        clean &= self.looker.take().is_none_or(|thread| thread.join().is_ok());
        if clean { stopped } else { Err("a thread of the collector has panicked".into()) }
    }
}

fn correlator(policy: Policy, people: People) -> Correlator {
    let mut devices = Devices::default();
    for (place, device) in file::devices() {
        devices.map(&device, &place);
    }
    Correlator::new(CorrelatorOptions {
        devices,
        long_names: Box::new(LongNamesHere),
        accounts: Box::new(people),
        scope: Box::new(Wanted::new(policy)),
        outcomes: true,
    })
}

/// Looks at the registry when it is asked to, and now and then.
fn look(mut scope: RegistryScope, asked: &Receiver<Look>, queue: &Queue<Message>) {
    let mut number = 0;
    loop {
        match asked.recv_timeout(REGISTRY) {
            Ok(Look { scope: wanted, number: wanted_number, later }) => {
                (scope, number) = (wanted, wanted_number);
                match asked.recv_timeout(later) {
                    Ok(newer) => (scope, number) = (newer.scope, newer.number),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if scope.is_empty() {
            continue;
        }
        let (found, left_out) = scope.look();
        if left_out > 0 {
            tracing::warn!(left_out, "there are more registry keys than are compared");
        }
        if !queue.send(Message::Looked(found, number)) {
            return;
        }
    }
}

impl Collector for EtwCollector {
    fn provider(&self) -> Provider {
        Provider::Etw
    }

    fn roots(&self) -> Vec<PathBuf> {
        self.roots.clone()
    }

    fn rescope(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if !self.registry && !RegistryScope::of(policy).is_empty() {
            self.record_keys().map_err(|error| format!("registry keys: {error}"))?;
        }
        let (done, answered) = sync_channel(1);
        self.roots = scope_of(policy).into_iter().map(|root| root.path).collect();
        self.queue.post(Message::Rescope(Box::new(policy.clone()), done));
        answered.recv().map_err(|_| "the collector has ended".into())
    }

    fn summary(&self) -> String {
        self.summary.clone()
    }

    fn fences(&self) -> Fences {
        let (queue, name) = (Arc::clone(&self.queue), self.changes.clone());
        let keys = Arc::clone(&self.keys);
        Arc::new(move |number| {
            for name in [Some(&name), keys.get()].into_iter().flatten() {
                // Fails when the session has ended; then a gap tells so.
                let _ = etw::flush(name);
            }
            // Whoever asks must not wait for us: we may be waiting for them.
            queue.post(Message::Fence(number));
        })
    }

    fn stop(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.end()
    }
}

impl Drop for EtwCollector {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Whether a session can be started here: one of the agent's size, which is stopped at once.
///
/// # Errors
/// Why not.
pub fn probe(sizes: &Sizes) -> Result<(), StartError> {
    let SessionOptions { providers, .. } = sessions::processes(PREFIX, sizes);
    let options = SessionOptions {
        name: format!("{PREFIX}-doctor-{}", std::process::id()),
        buffer_kib: sizes.buffer_kib,
        buffers: sizes.buffers,
        providers,
    };
    let session = Session::start(&options, &(Arc::new(|_: &etw::RawRecord<'_>| {}) as etw::Sink))?;
    session.stop(supervisor::PATIENCE).map_err(StartError::Io)
}
