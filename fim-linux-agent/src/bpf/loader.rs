//! Loads the eBPF object; the programs and maps in it.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader, Pod};
use fim_common::record::maps::{Armed, Attempts, AttemptsKey, FilterKey, RootEntry, Settings};
use fim_common::record::{Counters, HOOKS, Hook, Object};
use thiserror::Error;

use super::attached::Attached;
use super::btf::Btf;
use super::kept::{self, Kept};
use super::layout::Layout;
use super::programs::{self, Attach};
use crate::memory;

/// The object that `cargo xtask build` made, embedded by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FIM_EBPF_OBJECT"));

/// Where the kernel has its type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why no program at all can be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Without CONFIG_DEBUG_INFO_BTF.
    #[error("this kernel has no type information at {KERNEL_BTF}: {0}")]
    NoBtf(std::io::Error),
    /// Damaged, or newer than this parser.
    #[error("the kernel's type information cannot be read: {0}")]
    BadBtf(#[from] super::btf::BtfError),
    /// Too old or too new a kernel.
    #[error("this kernel lacks fields that fim needs: {}", .0.join(", "))]
    Layout(Vec<String>),
    /// Needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN before 5.8.
    #[error("not allowed to load eBPF programs: {0}")]
    NotPermitted(String),
    /// Maps could not be made, or the object does not fit.
    #[error("the eBPF object cannot be loaded: {0}")]
    Object(String),
}

/// What became of one program.
#[derive(Clone, Debug)]
pub struct ProgramStatus {
    /// What it counts under.
    pub hook: Hook,
    /// How it is attached.
    pub attach: Attach,
    /// To which kernel function or tracepoint.
    pub target: String,
    /// `None`: it is armed. Else why not.
    pub failure: Option<String>,
    /// It was armed at the start.
    pub was_armed: bool,
    /// What is lost without it.
    pub loss: &'static str,
    /// Instructions that the verifier looked at (5.16 and newer), which is what loading costs.
    pub verified: Option<u32>,
}

/// Which programs to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Only the tracepoints that keep the process table.
    Processes,
}

// The orphan rule wants types of our own for a foreign trait.
macro_rules! pod {
    ($($wrapper:ident($inner:ty);)*) => {
        $(
            #[derive(Clone, Copy)]
            #[repr(transparent)]
            struct $wrapper($inner);
            // SAFETY: repr(C) without padding and only integers: every bit pattern is valid.
            unsafe impl Pod for $wrapper {}
        )*
    };
}

pod! {
    PodCounters(Counters);
    PodSettings(Settings);
    PodArmed(Armed);
    PodRootEntry(RootEntry);
    PodFilterKey(FilterKey);
    PodObject(Object);
    PodAttempts(Attempts);
    PodAttemptsKey(AttemptsKey);
}

/// The loaded programs. Dropping it detaches them.
pub struct Programs {
    // Held for its programs; `None` once detached.
    ebpf: Option<Ebpf>,
    attached: Vec<Attached>,
    status: Vec<ProgramStatus>,
    /// What some of the maps have to hold.
    kept: Kept,
    layout: Layout,
    counters: PerCpuArray<MapData, PodCounters>,
    settings: Array<MapData, PodSettings>,
    armed: Array<MapData, PodArmed>,
    roots: HashMap<MapData, u64, PodRootEntry>,
    filters: HashMap<MapData, PodFilterKey, u32>,
    linked: HashMap<MapData, PodObject, u32>,
    attempts: HashMap<MapData, PodAttemptsKey, PodAttempts>,
    untracked: Array<MapData, u64>,
    /// Descriptors of the programs, for what the kernel says of them in `/proc`.
    descriptors: Vec<RawFd>,
    /// What [`Self::missed`] said last.
    missed: AtomicU64,
}

impl Programs {
    /// Loads the object with a ring of `ring_bytes` and attaches the selected programs. The ring
    /// is returned apart, for the thread that reads it.
    ///
    /// # Errors
    /// When nothing can be loaded. A single program that fails is in [`Self::status`].
    pub fn load(
        selection: Selection,
        ring_bytes: u32,
    ) -> Result<(Self, RingBuf<MapData>), LoadError> {
        let data = std::fs::read(KERNEL_BTF).map_err(LoadError::NoBtf)?;
        let kernel = Btf::parse(data)?;
        let layout = Layout::resolve(&kernel).map_err(LoadError::Layout)?;
        let plans = programs::plan(&kernel);
        drop(kernel);
        let btf = aya::Btf::from_sys_fs().map_err(|error| LoadError::Object(describe(&error)))?;

        raise_memlock();
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf)).map_max_entries("EVENTS", ring_bytes);
        for (global, offset) in &layout.globals {
            loader.override_global(global, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| {
            let text = describe(&error);
            if text.contains("Operation not permitted") {
                LoadError::NotPermitted(text)
            } else {
                LoadError::Object(text)
            }
        })?;

        let (mut status, mut attached) = (Vec::with_capacity(plans.len()), Vec::new());
        for plan in plans {
            if selection == Selection::Processes && plan.attach != Attach::Tracepoint {
                continue;
            }
            let started = Instant::now();
            let result = match &plan.program {
                // For the test that a hook which is silently missing is found.
                Ok(_) if crate::canary::is_silenced(plan.hook.name()) => Ok(None),
                Ok(name) => Attached::new(&mut ebpf, status.len(), name, &plan.target, &btf).map(
                    |(program, verified)| {
                        attached.push(program);
                        verified
                    },
                ),
                Err(reason) => Err(reason.clone()),
            };
            let (verified, failure) = match result {
                Ok(verified) => (verified, None),
                Err(reason) => (None, Some(reason)),
            };
            tracing::debug!(
                target = plan.target,
                attach = ?plan.attach,
                failure = failure.as_deref(),
                verified,
                took = ?started.elapsed(),
                "eBPF program"
            );
            status.push(ProgramStatus {
                hook: plan.hook,
                attach: plan.attach,
                target: plan.target,
                was_armed: failure.is_none(),
                failure,
                loss: plan.loss,
                verified,
            });
        }

        // The kernel's type information took some 20 MiB, which the allocator would keep.
        drop(btf);
        memory::give_back();

        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?).map_err(unusable)?;
        let programs = Self {
            counters: PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?).map_err(unusable)?,
            settings: Array::try_from(take(&mut ebpf, "SETTINGS")?).map_err(unusable)?,
            armed: Array::try_from(take(&mut ebpf, "ARMED")?).map_err(unusable)?,
            roots: HashMap::try_from(take(&mut ebpf, "ROOTS")?).map_err(unusable)?,
            filters: HashMap::try_from(take(&mut ebpf, "FILTERS")?).map_err(unusable)?,
            linked: HashMap::try_from(take(&mut ebpf, "LINKED")?).map_err(unusable)?,
            attempts: HashMap::try_from(take(&mut ebpf, "ATTEMPTS")?).map_err(unusable)?,
            untracked: Array::try_from(take(&mut ebpf, "UNTRACKED")?).map_err(unusable)?,
            descriptors: descriptors(&ebpf),
            missed: AtomicU64::new(0),
            ebpf: Some(ebpf),
            attached,
            kept: Kept::default(),
            status,
            layout,
        };
        Ok((programs, ring))
    }

    /// Calls in which a program did not run because it was in the middle of another one on the
    /// same CPU (preempted, or interrupted): the kernel skips it, and nothing else tells. (From
    /// 5.12; before, nobody counts them.)
    pub fn missed(&self) -> u64 {
        let of = |descriptor: &RawFd| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        };
        // Not less than before: a descriptor that cannot be read once takes nothing back.
        let sum = self.descriptors.iter().filter_map(of).sum();
        self.missed.fetch_max(sum, Ordering::Relaxed).max(sum)
    }

    /// Detaches the programs. Their counters stay readable, and are final.
    pub fn detach(&mut self) {
        self.missed();
        self.descriptors.clear();
        // A descriptor that was taken from the agent is not closed: it may be anything by now.
        self.attached.retain_mut(Attached::holds);
        let Some(ebpf) = self.ebpf.take() else { return };
        let whole = self.attached.iter().all(|attached| attached.has_program(&ebpf));
        self.attached.clear();
        if whole {
            drop(ebpf);
        } else {
            std::mem::forget(ebpf);
        }
    }

    /// Attaches again what somebody has detached. Returns what was detached, by its place in
    /// [`Self::status`]; one that cannot be attached has its failure there, and is tried again
    /// without a word.
    pub fn attach_again(&mut self) -> Vec<usize> {
        let mut lost = Vec::new();
        let Some(ebpf) = &mut self.ebpf else { return lost };
        for attached in &mut self.attached {
            if attached.holds() {
                continue;
            }
            let again = attached.again(ebpf);
            let Some(status) = self.status.get_mut(attached.index) else { continue };
            if again.is_ok() || status.failure.is_none() {
                lost.push(attached.index);
            }
            status.failure = again.err();
        }
        if !lost.is_empty() {
            self.descriptors = descriptors(ebpf);
        }
        lost
    }

    /// Puts back what somebody else has written into the maps that only the agent writes. Returns
    /// the names of these maps.
    ///
    /// # Errors
    /// When the kernel refuses to read or write them.
    pub fn put_back(&mut self) -> Result<Vec<&'static str>, LoadError> {
        let mut changed = Vec::new();
        let roots = self.roots.iter().map(|entry| {
            entry.map(|(inode, PodRootEntry(entry))| (inode, entry)).map_err(unusable)
        });
        let roots = roots.collect::<Result<_, _>>()?;
        for (inode, entry) in kept::differences(&self.kept.roots, &roots) {
            match entry {
                Some(entry) => self.set_root(inode, entry)?,
                None => self.remove_root(inode),
            }
            changed.push("ROOTS");
        }
        let filters = self
            .filters
            .iter()
            .map(|entry| entry.map(|(PodFilterKey(key), depth)| (key, depth)).map_err(unusable));
        let filters = filters.collect::<Result<_, _>>()?;
        for (key, depth) in kept::differences(&self.kept.filters, &filters) {
            self.set_filter(key, depth.unwrap_or(0))?;
            changed.push("FILTERS");
        }
        changed.dedup();
        if let Some(settings) = self.kept.settings_instead(self.settings()?) {
            self.set_settings(settings)?;
            changed.push("SETTINGS");
        }
        if !changed.is_empty() {
            self.void_verdicts();
        }
        Ok(changed)
    }

    /// What became of each program, in the order of attachment.
    pub fn status(&self) -> &[ProgramStatus] {
        &self.status
    }

    /// Fields this kernel lacks.
    pub fn missing_fields(&self) -> &[String] {
        &self.layout.missing
    }

    /// Whether all programs of `hook` are armed.
    pub fn is_armed(&self, hook: Hook) -> bool {
        let mut of_hook = self.status.iter().filter(|status| status.hook == hook).peekable();
        of_hook.peek().is_some() && of_hook.all(|status| status.failure.is_none())
    }

    /// The counters of each hook, summed over all CPUs.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn counters(&self) -> Result<[Counters; HOOKS], LoadError> {
        let mut sums = [Counters::default(); HOOKS];
        for (index, sum) in sums.iter_mut().enumerate() {
            let values = self.counters.get(&(index as u32), 0).map_err(unusable)?;
            for PodCounters(value) in values.iter() {
                sum.seen += value.seen;
                sum.filtered += value.filtered;
                sum.submitted += value.submitted;
                sum.lost += value.lost;
                sum.error += value.error;
            }
        }
        Ok(sums)
    }

    /// The settings as they are now.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn settings(&self) -> Result<Settings, LoadError> {
        self.settings.get(&0, 0).map(|PodSettings(settings)| settings).map_err(unusable)
    }

    /// Replaces the settings. The epoch may run ahead in the kernel; a caller that changes the
    /// set of roots must make it a new one.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), LoadError> {
        self.settings.set(0, PodSettings(settings), 0).map_err(unusable)?;
        self.kept.settings = settings;
        Ok(())
    }

    /// What the armed open found.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn armed(&self) -> Result<Armed, LoadError> {
        self.armed.get(&0, 0).map(|PodArmed(armed)| armed).map_err(unusable)
    }

    /// Forgets what an armed open found.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn clear_armed(&mut self) -> Result<(), LoadError> {
        self.armed.set(0, PodArmed(Armed::default()), 0).map_err(unusable)
    }

    /// Makes the directory whose inode is at `inode` decide about scope.
    ///
    /// # Errors
    /// When the map is full (16,384 directories).
    pub fn set_root(&mut self, inode: u64, entry: RootEntry) -> Result<(), LoadError> {
        self.roots.insert(inode, PodRootEntry(entry), 0).map_err(unusable)?;
        self.kept.roots.insert(inode, entry);
        Ok(())
    }

    /// Sets the depth of a name filter; 0 removes it.
    ///
    /// # Errors
    /// When the map is full (16,384 filters).
    pub fn set_filter(&mut self, key: FilterKey, depth: u32) -> Result<(), LoadError> {
        if depth == 0 {
            self.kept.filters.remove(&key);
            // The only error is ENOENT.
            let _ = self.filters.remove(&PodFilterKey(key));
            return Ok(());
        }
        self.filters.insert(PodFilterKey(key), depth, 0).map_err(unusable)?;
        self.kept.filters.insert(key, depth);
        Ok(())
    }

    /// Makes a file be in scope by all its names.
    ///
    /// # Errors
    /// When the map is full (65,536 files).
    pub fn set_linked(&mut self, object: Object) -> Result<(), LoadError> {
        self.linked.insert(PodObject(object), 1, 0).map_err(unusable)
    }

    /// Whether it is.
    pub fn is_linked(&self, object: Object) -> bool {
        self.linked.get(&PodObject(object), 0).is_ok()
    }

    /// Takes that back.
    pub fn remove_linked(&mut self, object: Object) {
        // The only error is ENOENT.
        let _ = self.linked.remove(&PodObject(object));
    }

    /// Has the end of descriptions looked at that the programs have not seen being opened.
    ///
    /// # Errors
    /// When the kernel refuses the map operation.
    pub fn expect_untracked(&mut self) -> Result<(), LoadError> {
        self.untracked.set(0, 1, 0).map_err(unusable)
    }

    /// Takes the failed attempts of those who began their last second before `since` (nanoseconds
    /// since boot), with the number that was not told.
    pub fn take_attempts(&mut self, since: u64) -> Vec<(AttemptsKey, u32)> {
        let old: Vec<(AttemptsKey, u32)> = self
            .attempts
            .iter()
            .flatten()
            .filter(|(_, PodAttempts(attempts))| attempts.since < since)
            .map(|(PodAttemptsKey(key), PodAttempts(attempts))| (key, attempts.folded))
            .collect();
        for (key, _) in &old {
            let _ = self.attempts.remove(&PodAttemptsKey(*key));
        }
        old
    }

    /// Forgets a directory; one that is not known is no error.
    pub fn remove_root(&mut self, inode: u64) {
        self.kept.roots.remove(&inode);
        // The only error is ENOENT.
        let _ = self.roots.remove(&inode);
        self.void_verdicts();
    }

    /// Makes the programs forget what they know of directories.
    pub fn void_verdicts(&mut self) {
        let voided = self.settings().and_then(|mut settings| {
            // Far ahead, so that an increment of the kernel between read and write is not undone.
            settings.epoch += 1 << 20;
            self.set_settings(settings)
        });
        if let Err(error) = voided {
            tracing::error!(%error, "places that the kernel remembers may be old");
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Of the programs that are loaded. They are open as long as `ebpf` lives.
fn descriptors(ebpf: &Ebpf) -> Vec<RawFd> {
    let loaded = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
    loaded.map(|descriptor| descriptor.as_fd().as_raw_fd()).collect()
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Object(format!("it has no map {name}")))
}

fn unusable(error: aya::maps::MapError) -> LoadError {
    LoadError::Object(describe(&error))
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK. Where the limit may not be raised (no
/// CAP_SYS_RESOURCE) newer kernels do not need it, so failure is no reason to stop.
fn raise_memlock() {
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited) {
        tracing::debug!(%error, "RLIMIT_MEMLOCK could not be raised");
    }
}
