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
    /// Some of these are wanted again.
    again: bool,
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
        Self {
            canary,
            post,
            ignored,
            state,
            agent_id,
            fresh: Vec::new(),
            leaving: None,
            again: false,
        }
    }

    /// Makes places on file systems that only this policy is about, before the collector is told.
    ///
    /// What the canary has not left yet is not made anew beneath it: see [`Canaries::wants_back`].
    pub(super) fn prepare(&mut self, policy: &Policy) {
        let leaving = self.leaving.as_ref().map_or(&[][..], |(places, _)| places);
        let lacking = self.canary.lacks(self.places(policy)).into_iter();
        let (later, mut fresh): (Vec<Place>, Vec<Place>) =
            lacking.partition(|place| leaving.contains(place));
        self.again = !later.is_empty();
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

    /// Whether places that were left are wanted again by the policy in force, which is to be prepared
    /// for once more.
    pub(super) fn wants_back(&self) -> bool {
        self.again
    }

    fn places(&self, policy: &Policy) -> Vec<Place> {
        canary::places(&policy.watches(), &self.state, &self.agent_id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use fim_common::loss::Losses;
    use fim_common::metrics::{Health, Metrics};
    use fim_common::policy::{Pattern, Rule};

    use super::*;

    /// A file system that is asked for again while the canary is still in a round there.
    #[tokio::test]
    async fn what_is_being_left_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().canonicalize().unwrap();
        let pattern = Pattern::literal(state.join("watched"));
        let policy = Policy::new(vec![Rule::new("r", vec![pattern])]);
        let nothing = Policy::new(Vec::new());

        let mut places = canary::places(&policy.watches(), &state, "id");
        canary::make(&mut places);
        let place = places[0].clone();
        let post = Arc::new(Post::new(vec![place.directory.clone()]));
        // A round waits for a word when it begins.
        let (words, inbox) = channel::<()>();
        let (begun, began) = channel();
        let inbox = Mutex::new(inbox);
        let exempt = move |does: bool| {
            if does {
                let _ = begun.send(());
                let _ = inbox.lock().unwrap().recv();
            }
        };
        let canary = Canary::start(canary::Options {
            interval: Duration::from_secs(3600),
            places,
            post: Arc::clone(&post),
            exempt: Arc::new(exempt),
            metrics: Arc::new(Metrics::new().unwrap()),
            health: Arc::new(Health::starting()),
            losses: Losses::default(),
        });
        let ignored = Ignored::default();
        let mut canaries =
            Canaries::new(canary.unwrap(), Arc::clone(&post), ignored, state.clone(), "id");
        began.recv().unwrap();
        // Goes before the canary does, which waits for it: also in a test that fails.
        let words = words;

        canaries.prepare(&nothing);
        canaries.go_on(&nothing);
        let mine = place.directory.join("mine");
        std::fs::write(&mine, "").unwrap();
        canaries.prepare(&policy);
        canaries.go_on(&policy);
        assert!(mine.exists(), "made anew beneath the canary");
        assert_eq!(post.directories(), std::slice::from_ref(&place.directory), "still watched");

        // The round has nothing to do any more, and so waits for nothing.
        std::fs::remove_dir_all(&place.directory).unwrap();
        drop(words);
        canaries.left().await;
        assert!(post.directories().is_empty());
        assert!(canaries.wants_back());
        canaries.prepare(&policy);
        assert!(!canaries.wants_back());
        assert!(place.directory.is_dir());
        assert_eq!(post.directories(), std::slice::from_ref(&place.directory));
        canaries.give_up();
    }
}
