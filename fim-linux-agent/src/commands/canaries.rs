//! The canary's way to the file systems that another policy is about.
//!
//! `make the new places -> the collector watches both -> the policy is in force -> the canary moves ->
//! the places that it left are watched no more`

use std::path::PathBuf;
use std::sync::Arc;

use fim_common::ignored::Ignored;
use fim_common::policy::Policy;
use tokio::sync::oneshot;

use crate::canary::{self, Canary, Place, Post};

/// Of a running agent.
pub(super) struct Canaries {
    canary: Canary,
    post: Arc<Post>,
    ignored: Ignored,
    /// As the kernel names it.
    state: PathBuf,
    agent_id: String,
    /// Made for a policy that is on its way.
    fresh: Vec<Place>,
    /// The places that are being left, each with what is told when it is done.
    leaving: Option<(Vec<Place>, oneshot::Receiver<()>)>,
}

impl Canaries {
    /// `ignored` is what everybody else has a clone of.
    pub(super) fn new(
        canary: Canary,
        post: Arc<Post>,
        ignored: Ignored,
        state: PathBuf,
        agent_id: &str,
    ) -> Self {
        let agent_id = agent_id.to_owned();
        Self { canary, post, ignored, state, agent_id, fresh: Vec::new(), leaving: None }
    }

    /// Makes places on file systems that only this policy is about, before the collector is told.
    pub(super) fn prepare(&mut self, policy: &Policy) {
        let mut fresh = self.canary.lacks(self.places(policy));
        canary::make(&mut fresh);
        let directories: Vec<PathBuf> = fresh.iter().map(|place| place.directory.clone()).collect();
        self.ignored.add(&directories);
        self.post.add(&fresh);
        self.fresh = fresh;
    }

    /// The policy is refused.
    pub(super) fn give_up(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.post.remove(&fresh);
        fresh.iter().for_each(Place::tear_down);
    }

    /// The policy is in force.
    pub(super) fn go_on(&mut self, policy: &Policy) {
        let fresh = std::mem::take(&mut self.fresh);
        let (mut places, lacking) = (self.places(policy), self.canary.lacks(self.places(policy)));
        // Not where there could be none.
        places.retain(|place| fresh.contains(place) || !lacking.contains(place));
        let (mut from, done) = self.canary.move_to(places, fresh);
        if let Some((before, _)) = self.leaving.take() {
            // The canary takes one after the other.
            from.extend(before);
        }
        self.leaving = Some((from, done));
    }

    /// Returns when places have been left, which nobody has to watch any more.
    pub(super) async fn left(&mut self) {
        let Some((_, done)) = &mut self.leaving else { return std::future::pending().await };
        // Closed without a word: the agent stops.
        let is_done = done.await.is_ok();
        let places = self.leaving.take().map(|(places, _)| places).unwrap_or_default();
        if !is_done || places.is_empty() {
            return std::future::pending().await;
        }
        self.post.remove(&places);
    }

    fn places(&self, policy: &Policy) -> Vec<Place> {
        canary::places(&policy.watches(), &self.state, &self.agent_id)
    }
}
