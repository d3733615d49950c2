//! What an event does to the chains: one function for each action.

use std::time::Instant;

use super::{Chain, Role, State, Step, Steps};

impl Steps {
    /// Something came to be.
    pub(super) fn made(&mut self, step: Step, now: Instant) -> Option<Step> {
        if let Some(id) = self.at(&step.path)
            && let Some(chain) = self.chains.get_mut(&id)
        {
            let goes_on = chain.name == step.path && chain.is_of(&step);
            match chain.state {
                State::Away if goes_on => {
                    chain.state = State::Replaced;
                    self.push(id, step);
                    self.advance(id, now);
                    return None;
                }
                State::Spent if goes_on => {
                    chain.state = State::Made;
                    self.push(id, step);
                    return None;
                }
                // The first one has another name by now, and the event that says so waits for its hash.
                _ if chain.made_another(&step) => {}
                // Of something beside a change there was one before, which is part of that already.
                _ if chain.has_aside(&step) => {}
                _ => self.release(id),
            }
        }
        let id = self.put(Chain::new(State::Made, step, now, self.window));
        self.advance(id, now);
        None
    }

    /// An object got another name.
    pub(super) fn moved(&mut self, step: Step, now: Instant) -> Option<Step> {
        if let Some(from) = &step.from
            && let Some(id) = self.maker(from, &step)
            && let Some(chain) = self.chains.get(&id)
        {
            if chain.state == State::Made && chain.name == *from && chain.is_of_kin(&step) {
                if chain.has_object(&step) {
                    return self.named(id, step, now);
                }
                if chain.is_of(&step) {
                    return self.moved_late(id, step, now);
                }
            }
            self.release(id);
        }
        if let Some(id) = self.at(&step.path)
            && let Some(chain) = self.chains.get_mut(&id)
        {
            if chain.state == State::Away
                && chain.name == step.path
                && chain.is_of(&step)
                && !step.from_covered
            {
                chain.state = State::Replaced;
                self.push(id, step);
                self.advance(id, now);
                return None;
            }
            self.release(id);
        }
        if let (true, Some(from)) = (step.from_covered, step.from.clone()) {
            let (before, backup) = (step.before(), step.path.clone());
            let mut chain = Chain::new(State::Away, step, now, self.window);
            (chain.name, chain.before, chain.backup) = (from, before, Some(backup.clone()));
            let id = self.put(chain);
            self.index(id, &backup);
            return None;
        }
        if let Some(replaced) = step.event.fim.replaced.clone() {
            // From where nobody looks, over what was here.
            let mut chain = Chain::new(State::Replaced, step, now, self.window);
            chain.before = Some(replaced);
            let id = self.put(chain);
            self.advance(id, now);
            return None;
        }
        Some(step)
    }

    /// What was made gets the name that it is to have, or another one on the way there.
    fn named(&mut self, id: u64, step: Step, now: Instant) -> Option<Step> {
        let to = step.path.clone();
        let mut earlier = None;
        if let Some(at) = self.at(&to).filter(|at| *at != id)
            && let Some(chain) = self.chains.get(&at)
        {
            if chain.state == State::Away && chain.name == to && chain.is_of(&step) {
                earlier = self.remove(at);
            } else {
                self.release(at);
            }
        }
        let Some(chain) = self.chains.get_mut(&id) else { return Some(step) };
        let was = std::mem::replace(&mut chain.name, to.clone());
        let place = chain.place;
        chain.renamed = true;
        if let Some(replaced) = step.event.fim.replaced.clone() {
            (chain.state, chain.before) = (State::Replaced, Some(replaced));
        }
        if let Some(earlier) = &earlier {
            chain.state = State::Replaced;
            (chain.before, chain.backup) = (earlier.before.clone(), earlier.backup.clone());
        }
        self.leave(place, &was);
        self.enter(id, &to);
        self.index(id, &to);
        if let Some(earlier) = earlier {
            self.join(id, earlier, Role::Main);
        }
        self.push(id, step);
        self.advance(id, now);
        None
    }

    /// The object that was here before the one that the chain made was renamed, and only now its event
    /// is complete: the hash of the new one was known earlier.
    fn moved_late(&mut self, id: u64, step: Step, now: Instant) -> Option<Step> {
        let to = step.path.clone();
        self.release_path(&to);
        let Some(chain) = self.chains.get_mut(&id) else { return Some(step) };
        chain.state = State::Replaced;
        (chain.before, chain.backup) = (step.before(), Some(to.clone()));
        // It was done before the new object got the name.
        let placed = chain.steps.iter().find(|known| known.path == chain.name);
        let number = placed.map_or(step.number, |known| known.number - 1);
        self.index(id, &to);
        self.push(id, Step { number, ..step });
        self.advance(id, now);
        None
    }

    pub(super) fn deleted(&mut self, step: Step, now: Instant) -> Option<Step> {
        if let Some(id) = self.at(&step.path)
            && let Some(chain) = self.chains.get_mut(&id)
        {
            let is_of = chain.is_of(&step);
            if chain.state == State::Made
                && chain.name == step.path
                && is_of
                && chain.has_object(&step)
            {
                chain.state = State::Spent;
                let name = chain.name.clone();
                let of = self.used_by(&name, &step);
                self.push(id, step);
                self.spent(id, &of, now);
                return None;
            }
            if is_of && chain.backup.as_ref() == Some(&step.path) {
                chain.backup = None;
                self.push(id, step);
                self.advance(id, now);
                return None;
            }
            self.release(id);
        }
        let before = step.before();
        let mut chain = Chain::new(State::Away, step, now, self.window);
        chain.before = before;
        self.put(chain);
        None
    }

    /// What a chain made is gone: if it was of use for a change, it belongs to that.
    fn spent(&mut self, id: u64, used_by: &[u64], now: Instant) {
        let Some(chain) = self.chains.get(&id) else { return };
        let change = used_by.iter().copied().find(|other| {
            self.chains.get(other).is_some_and(|change| {
                let is_change =
                    matches!(change.state, State::Replaced | State::InPlace | State::Made);
                *other != id && is_change && chain.is_aside_of(&change.name)
            })
        });
        if let Some(change) = change {
            self.absorb(change, id);
            self.advance(change, now);
        }
    }

    pub(super) fn updated(&mut self, step: Step, now: Instant) -> Option<Step> {
        if let Some(id) = self.at(&step.path)
            && let Some(chain) = self.chains.get(&id)
        {
            if chain.state == State::Made && chain.name == step.path && chain.is_of_kin(&step) {
                self.push(id, step);
                return None;
            }
            self.release(id);
        }
        let asides = self.asides(&step.path, &step);
        let has_asides = asides
            .iter()
            .filter_map(|id| self.chains.get(id))
            .any(|chain| matches!(chain.state, State::Made | State::Spent));
        if !has_asides {
            return Some(step);
        }
        let before = step.before();
        let mut chain = Chain::new(State::InPlace, step, now, self.window);
        chain.before = before;
        let id = self.put(chain);
        self.advance(id, now);
        None
    }

    pub(super) fn attributes(&mut self, step: Step, now: Instant) -> Option<Step> {
        let Some(id) = self.at(&step.path) else { return Some(step) };
        let Some(chain) = self.chains.get(&id) else { return Some(step) };
        let here = chain.name == step.path;
        match chain.state {
            State::Made if here && chain.is_of_kin(&step) => {
                self.push(id, step);
                None
            }
            State::Replaced | State::InPlace if here && chain.is_of(&step) => {
                self.push(id, step);
                self.advance(id, now);
                None
            }
            _ => {
                self.release(id);
                Some(step)
            }
        }
    }
}
