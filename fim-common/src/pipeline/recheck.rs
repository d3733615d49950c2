//! After a loss, and where something appeared: what the scanner proposes is confirmed, told and
//! brought into the baseline.
//!
//! `loss -> gap -> scan -> fence -> confirm -> ... -> fence -> settle -> gap_closed`
//!
//! A scan reads the disk, which is ahead of the operations that the pipeline has seen. Each batch
//! that it proposes is followed by a fence: when that comes back, everything that was done before
//! the batch was read has been taken in. An object that is still as it was read, with which nothing
//! is under way, and that the baseline has otherwise, was changed by something that nobody saw. An
//! object that is not as it was read any more was changed by an operation that is under way, whose
//! event will say so, or that was lost, which begins the next scan; it is read again all the same.
//!
//! Invariant: `gap_closed` stands behind a scan that began after the last known loss, and behind
//! everything that it found.
//!
//! Invariant: there is one scan at a time, and one that waits for it, however often something is
//! lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pipeline;
use super::reload::Newly;
use super::rescan::{Found, Proposal, Request};
use crate::collector::Gap;
use crate::event::{Action, Property, Window};
use crate::ledger::Stage;
use crate::loss::joined;
use crate::operation::Operation;
use crate::scan::{Difference, Root, absent, significant};
use crate::state::{HashState, ObjectKind, ObjectState};
use crate::time::Timestamp;
use crate::{baseline::BaselineError, object};

/// A scan that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);

/// What is compared with the disk, and why.
#[derive(Default)]
pub(super) struct Rechecks {
    /// To be compared next; an empty list is everything.
    wanted: Option<Vec<PathBuf>>,
    /// Among that is what a loss affects.
    for_loss: bool,
    /// A scan is under way, up to its end.
    running: bool,
    /// What the one under way is for.
    purpose: Purpose,
    /// To be compared first, and since when nobody looked.
    start: Option<(Vec<Root>, Option<Timestamp>)>,
    /// Number of the last fence.
    fence: u64,
    /// A batch that waits for its fence.
    proposed: Option<(u64, Vec<Proposal>)>,
    end: End,
    /// Losses that are told and not closed, as one.
    open: Option<Gap>,
    /// From this fence on, everything before the last loss has been taken in.
    behind_loss: Option<u64>,
    retry: Option<Instant>,
    /// Renames that brought directories into scope, and places at which something was mounted or
    /// unmounted, of which the next scan or the one under way finds the rest.
    next: Arrivals,
    now: Arrivals,
    /// Places that are watched since a reload, of which the next scan or the one under way takes the
    /// baseline.
    newly_next: Vec<Newly>,
    newly_now: Vec<Newly>,
    /// No operation tells of what is made in these.
    finds_new: bool,
}

/// Why a scan is done.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Something was lost since then, or has appeared.
    #[default]
    Unseen,
    /// The agent was down since then.
    Start(Option<Timestamp>),
    /// It is a part of the regular comparison, of which the last one began then.
    Verify(Option<Timestamp>),
}

/// What is told of otherwise than as found by a scan.
#[derive(Default)]
struct Arrivals {
    moved: Vec<Arc<Operation>>,
    mounted: Vec<PathBuf>,
}

/// How far the end of a scan is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// Nothing is ending.
    #[default]
    Not,
    /// What was done before it ended is still to be taken in, up to this fence.
    Fence(u64),
    /// What was taken in may still be folded until then.
    Folding(Instant),
    /// Events with tickets before this one may still wait for their hashes.
    Hashing(u64),
}

impl Rechecks {
    /// When [`Pipeline::recheck_due`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.end {
            End::Folding(at) => Some(at),
            _ => self.retry,
        }
    }

    /// The rename that brought what a scan found at `path`.
    pub(super) fn arrival(&self, path: &Path) -> Option<Arc<Operation>> {
        let brought = |whole: &&Arc<Operation>| {
            whole.path.as_deref().is_some_and(|directory| path.starts_with(directory))
        };
        let moved = || self.now.moved.iter().chain(&self.next.moved);
        moved().find(brought).map(Arc::clone)
    }

    /// Whether what is at `path` itself has been told as mounted or unmounted.
    fn is_mount_point(&self, path: &Path) -> bool {
        self.now.mounted.iter().chain(&self.next.mounted).any(|point| point == path)
    }

    /// Has the next scan take the baseline of what is newly watched.
    pub(super) fn expect_new(&mut self, newly: Newly) {
        self.newly_next.push(newly);
    }

    /// Has what is made where a reload has it look told from when it was made.
    pub(super) fn find_new(&mut self) {
        self.finds_new = true;
    }

    /// Whether what a scan found was not watched before: that it is there is no news.
    fn is_new(&self, found: &Difference) -> bool {
        let mut newly = self.newly_now.iter().chain(&self.newly_next);
        found.before.is_none()
            && newly.any(|newly| {
                newly.is_new(&found.path) && !(self.finds_new && newly.was_made_since(&found.path))
            })
    }

    /// Whether what was not watched before, and was there, was changed once it was watched, where no
    /// operation tells of that.
    fn was_changed(&self, found: &Difference) -> bool {
        let mut newly = self.newly_now.iter().chain(&self.newly_next);
        self.finds_new
            && found.after.as_ref().is_some_and(|after| {
                newly.any(|newly| newly.is_new(&found.path) && newly.was_changed_since(after))
            })
    }

    /// When what the scan under way finds was done.
    pub(super) fn window(&self) -> Window {
        let from = match self.purpose {
            Purpose::Start(from) | Purpose::Verify(from) => from,
            Purpose::Unseen => self.open.as_ref().map(|gap| gap.from),
        };
        Window { from, to: Timestamp::now() }
    }

    /// Nothing is compared, and nothing waits to be.
    pub(super) fn is_idle(&self) -> bool {
        !self.running && self.wanted.is_none() && self.retry.is_none()
    }

    /// What is below a directory may be elsewhere by now than where a scan looked.
    pub(super) fn is_under_way(&self) -> bool {
        self.running
    }
}

impl Pipeline {
    /// Tells of losses that were reported.
    pub(super) fn take_losses(&mut self) {
        for (action, message) in self.losses.take_notices() {
            self.output.agent(action, message);
        }
        let Some(gap) = self.losses.take() else { return };
        // What was lost may have been somebody else's step in between.
        self.tell_steps();
        tracing::error!(count = ?gap.count, hooks = ?gap.hooks, "operations were lost");
        self.output.metrics().gap();
        self.output.gap(Action::Gap, &gap);
        let scope = gap.scope.clone();
        self.rechecks.behind_loss = Some(self.rechecks.fence + 1);
        self.output.metrics().set_gap_open(true);
        match &mut self.rechecks.open {
            Some(open) => open.merge(gap),
            None => self.rechecks.open = Some(gap),
        }
        self.recheck(scope, true);
    }

    /// Has `paths` (empty: everything) compared with the disk.
    pub(super) fn recheck(&mut self, paths: Vec<PathBuf>, for_loss: bool) {
        let rechecks = &mut self.rechecks;
        rechecks.for_loss |= for_loss;
        rechecks.wanted = Some(match rechecks.wanted.take() {
            Some(wanted) => joined(wanted, paths),
            None => paths,
        });
        self.start_scan();
    }

    /// Finds what lies in a directory that this rename brought into scope.
    pub(super) fn recheck_moved(&mut self, whole: Operation) {
        let Some(path) = whole.path.clone() else { return };
        self.rechecks.next.moved.push(Arc::new(whole));
        self.recheck(vec![path], false);
    }

    /// Finds what a mount or its end has put in place of what was there.
    pub(super) fn recheck_mounted(&mut self, point: PathBuf) {
        self.rechecks.next.mounted.push(point.clone());
        self.recheck(vec![point], false);
    }

    fn start_scan(&mut self) {
        if self.rechecks.running || self.rechecks.retry.is_some() {
            return;
        }
        if let Some((roots, from)) = self.rechecks.start.take() {
            return self.scan(Purpose::Start(from), Request { roots: Some(roots), deep: false });
        }
        if let Some(paths) = self.rechecks.wanted.take() {
            self.rechecks.now = std::mem::take(&mut self.rechecks.next);
            let newly = std::mem::take(&mut self.rechecks.newly_next);
            self.rechecks.newly_now.extend(newly);
            self.rechecks.for_loss = false;
            let roots = paths.into_iter().map(|path| Root { path, depth: None }).collect();
            let roots = Some(roots).filter(|roots: &Vec<Root>| !roots.is_empty());
            self.scan(Purpose::Unseen, Request { roots, deep: false });
        }
    }

    /// Has something compared now: nothing is being compared.
    pub(super) fn scan(&mut self, purpose: Purpose, request: Request) {
        self.rechecks.running = true;
        self.rechecks.purpose = purpose;
        self.scanner.request(request);
    }

    /// Has compared what may have changed since `from`, while nobody looked.
    pub(super) fn recheck_start(&mut self, roots: Vec<Root>, from: Option<Timestamp>) {
        if !roots.is_empty() {
            self.rechecks.start = Some((roots, from));
            self.start_scan();
        }
    }

    /// What a directory held has another path: a scan may have looked for it where it was.
    pub(super) fn tree_moved(&mut self, path: &Path) {
        if self.rechecks.is_under_way() {
            self.recheck(vec![path.to_owned()], true);
        }
    }

    pub(super) fn take_found(&mut self) {
        while let Ok(found) = self.found.try_recv() {
            match found {
                Found::Proposed(proposals) => {
                    let fence = self.request_fence();
                    self.rechecks.proposed = Some((fence, proposals));
                }
                Found::End { complete: true } => {
                    let fence = self.request_fence();
                    self.rechecks.end = End::Fence(fence);
                }
                Found::End { complete: false } => {
                    self.rechecks.running = false;
                    self.rechecks.retry = Some(Instant::now() + RETRY);
                    self.recheck(Vec::new(), true);
                }
            }
        }
    }

    pub(super) fn request_fence(&mut self) -> u64 {
        self.rechecks.fence += 1;
        (self.fences)(self.rechecks.fence);
        self.rechecks.fence
    }

    /// Everything before the fence has been taken in.
    pub(super) fn fence(&mut self, number: u64) {
        self.output.beat();
        // A later one stands for it.
        self.pulse.1.take_if(|fence| *fence <= number);
        self.take_losses();
        self.gone_behind(number);
        self.runs_fenced(number);
        if self.rechecks.behind_loss.take_if(|fence| *fence <= number).is_some() {
            self.sessions.doubt_open();
        }
        if let Some((_, proposals)) = self.rechecks.proposed.take_if(|(fence, _)| *fence <= number)
        {
            let again = proposals.into_iter().filter_map(|proposal| self.confirm(proposal));
            let again = again.collect();
            self.scanner.answer(again);
        }
        self.reload_behind(number);
        // A later fence stands for an earlier one, which it may have replaced.
        if matches!(self.rechecks.end, End::Fence(fence) if fence <= number) {
            self.rechecks.end = End::Folding(Instant::now() + self.fold);
        }
    }

    /// Goes on with what waits for a time.
    pub(super) fn recheck_due(&mut self, now: Instant) {
        if self.rechecks.retry.is_some_and(|at| at <= now) {
            self.rechecks.retry = None;
            self.start_scan();
        }
        if let End::Folding(at) = self.rechecks.end
            && at <= now
        {
            self.rechecks.end = End::Hashing(self.next_ticket);
        }
        if let End::Hashing(ticket) = self.rechecks.end
            && self.waiting.keys().all(|waiting| *waiting >= ticket)
        {
            self.scan_ended();
        }
    }

    fn scan_ended(&mut self) {
        self.rechecks.end = End::Not;
        self.rechecks.running = false;
        if matches!(self.rechecks.purpose, Purpose::Start(_)) {
            self.compared.notify_one();
        }
        self.rechecks.now = Arrivals::default();
        for newly in std::mem::take(&mut self.rechecks.newly_now) {
            newly.finish(&self.baseline);
        }
        self.take_losses();
        if !self.rechecks.for_loss
            && self.to_make_up_for() == 0
            && let Some(gap) = self.rechecks.open.take()
        {
            self.tell_steps();
            self.output.metrics().set_gap_open(false);
            // Who reads `gap_closed` and looks at the baseline is to find it there.
            self.commit();
            self.output.gap(Action::GapClosed, &gap);
        }
        self.start_scan();
    }

    /// Tells of what is proposed, if nothing else explains it. Returns its path if it has to be
    /// read again.
    fn confirm(&mut self, proposal: Proposal) -> Option<PathBuf> {
        let Proposal { difference, last } = proposal;
        if self.ignore.contains(&difference.path) {
            return None;
        }
        let path = difference.path.clone();
        let raced = difference.hash_state == Some(HashState::Raced);
        let busy = self.tickets.contains_key(&path) || self.sessions.is_busy(&path);
        if busy || ((raced || !is_still(&difference)) && !last) {
            // With the last reading, an event that is under way says what there is to say.
            return (!last).then_some(path);
        }
        if difference.after.is_none() && self.is_of_ended_container(&path) {
            return None;
        }
        match self.adopt(difference) {
            // The mount says it.
            Ok(Some(difference)) if self.rechecks.is_mount_point(&difference.path) => {}
            Ok(Some(difference)) if self.rechecks.is_new(&difference) => {
                if self.rechecks.was_changed(&difference) {
                    // What it was before, nobody knows.
                    let changes = vec![Property::Content];
                    self.difference(Difference { changes, ..difference });
                }
            }
            Ok(Some(difference)) => self.difference(difference),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the baseline cannot be brought up to date"),
        }
        None
    }

    /// Brings the baseline up to date; returns what there is to tell.
    fn adopt(&mut self, difference: Difference) -> Result<Option<Difference>, BaselineError> {
        let Difference { path, after, hash_state, .. } = difference;
        let before = self.baseline.get(&path)?;
        let mut after = after;
        let changes = match (&before, &mut after) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                self.baseline.remove(&path)?;
                vec![Property::Existence]
            }
            (None, Some(found)) => {
                self.baseline.put(&path, found)?;
                if matches!(self.rechecks.purpose, Purpose::Verify(_))
                    && found.kind == Some(ObjectKind::Dir)
                {
                    // What is in it is in no directory that is known.
                    self.recheck(vec![path.clone()], false);
                }
                vec![Property::Existence]
            }
            (Some(known), Some(found)) => {
                if self.sessions.is_open(&path) {
                    // Its content is being written, which its own events tell.
                    keep_content(found, known);
                }
                let changes = significant(known, found);
                if known != found {
                    self.baseline.put(&path, found)?;
                }
                changes
            }
        };
        if changes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Difference { path, before, after, changes, hash_state }))
    }

    /// Counts what waits in the pipeline, for the ledger.
    pub(super) fn note_pending(&mut self) {
        self.ledger.add(Stage::Quiet, self.sessions.take_quiet());
        // In this order: whoever reads that nothing is pending reads what is left of it.
        let rechecks = self.to_make_up_for() + usize::from(!self.rechecks.is_idle());
        self.output.metrics().set_queue_depth("recheck", rechecks);
        let waiting: u64 = self.waiting.values().map(super::change::Draft::count).sum();
        self.ledger.set(Stage::Pending, waiting + self.sessions.pending() + self.steps.pending());
    }
}

/// Size, times and hash of `state` as they are in `known`: what is known to be stale in the
/// baseline stays so, and is found by the next comparison.
pub(super) fn keep_content(state: &mut ObjectState, known: &ObjectState) {
    (state.size, state.mtime, state.ctime) = (known.size, known.mtime, known.ctime);
    state.sha256.clone_from(&known.sha256);
}

/// Whether an object is as it was read.
fn is_still(difference: &Difference) -> bool {
    let Some(found) = &difference.after else { return absent(&difference.path) };
    let Ok(now) = object::stat(&difference.path) else { return false };
    let of = |state: &ObjectState| {
        let directory = state.kind == Some(ObjectKind::Dir);
        // What happens in a directory changes its size and times.
        let content = (!directory).then_some((state.size, state.mtime, state.ctime));
        (state.kind, state.inode, state.mode, state.uid, state.gid, content)
    };
    of(&now) == of(found)
}
