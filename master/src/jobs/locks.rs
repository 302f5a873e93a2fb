//! What an operation needs for itself on its node.
//!
//! A manifest names locks, such as `pool:{pool}`. Of the operations that name the same lock one runs on a
//! node at a time, in the order in which they came; an operation gets all of its locks or none, so no two
//! wait for each other.
//!
//! Nothing of this is stored. A lock protects what runs on a node, and the node itself knows what runs: it
//! says so at the begin of each session. Until then nothing is sent to it, by this master or the next one.
//! A request that the node still runs although its job has its outcome (the node was silent for too long,
//! or the job is gone) is *astray*. Nobody knows any more what it locks, so no locks are given on its node
//! until it has ended; it has been told to.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use windlass_types::{JobId, NodeId, RequestId};

/// A part of a job.
type Place = (JobId, u32);

#[derive(Debug, Default)]
struct OnNode {
    held: HashMap<String, RequestId>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    astray: HashSet<RequestId>,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    names: BTreeSet<String>,
}

impl OnNode {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && self.astray.is_empty()
    }

    /// Why these can't be had by `place` now. What it has itself is not in its way: it is asked for again
    /// when a request has to be sent once more.
    fn in_the_way(&self, (place, request): (Place, RequestId), names: &[String]) -> Option<Holder> {
        if let Some(astray) = self.astray.iter().next() {
            return Some(Holder::Astray(*astray));
        }
        if let Some(holder) =
            names.iter().filter_map(|name| self.held.get(name)).find(|holder| **holder != request)
        {
            return Some(Holder::Request(*holder));
        }
        // Whoever came first and waits for one of them, even if it could not have all of its own yet.
        let before = self.waiting.iter().take_while(|waiting| waiting.place != place);
        let mut wanted = before.filter(|waiting| names.iter().any(|name| waiting.names.contains(name)));
        wanted.next().map(|waiting| Holder::Waiting(waiting.place))
    }
}

/// Who is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Request(RequestId),
    /// It waits itself, and was there before.
    Waiting(Place),
    /// A request whose job has its outcome, and which may still run.
    Astray(RequestId),
}

/// The locks of all nodes.
#[derive(Debug, Default)]
pub(super) struct Locks {
    nodes: HashMap<NodeId, OnNode>,
}

impl Locks {
    /// Take all of these, or wait in the order of coming.
    pub fn take(
        &mut self,
        node: NodeId,
        (place, request): (Place, RequestId),
        names: &[String],
    ) -> Result<(), Holder> {
        let here = self.nodes.entry(node).or_default();
        if let Some(holder) = here.in_the_way((place, request), names) {
            if !here.waiting.iter().any(|waiting| waiting.place == place) {
                here.waiting.push_back(Waiting { place, names: names.iter().cloned().collect() });
            }
            return Err(holder);
        }
        here.waiting.retain(|waiting| waiting.place != place);
        here.held.extend(names.iter().map(|name| (name.clone(), request)));
        Ok(())
    }

    /// The node says that this one has begun: whatever was known, it has them.
    pub fn has(&mut self, node: NodeId, (place, request): (Place, RequestId), names: &[String]) {
        let here = self.nodes.entry(node).or_default();
        here.waiting.retain(|waiting| waiting.place != place);
        here.held.extend(names.iter().map(|name| (name.clone(), request)));
    }

    /// It has ended, or does not wait any more.
    pub fn release(&mut self, node: NodeId, (place, request): (Place, RequestId)) {
        let Some(here) = self.nodes.get_mut(&node) else { return };
        here.held.retain(|_, holder| *holder != request);
        here.waiting.retain(|waiting| waiting.place != place);
    }

    /// Its job has an outcome for it, and it may still run.
    pub fn stray(&mut self, node: NodeId, request: RequestId) {
        self.nodes.entry(node).or_default().astray.insert(request);
    }

    /// Nothing is astray on this node but these.
    pub fn astray(&mut self, node: NodeId, requests: HashSet<RequestId>) {
        if !requests.is_empty() || self.nodes.contains_key(&node) {
            self.nodes.entry(node).or_default().astray = requests;
        }
    }

    /// The node has told what became of it.
    pub fn found(&mut self, node: NodeId, request: RequestId) -> bool {
        self.nodes.get_mut(&node).is_some_and(|here| here.astray.remove(&request))
    }

    /// Who waits on a node, in the order in which each should try again.
    pub fn waiting(&mut self, node: NodeId) -> Vec<Place> {
        let Some(here) = self.nodes.get(&node) else { return Vec::new() };
        if here.is_empty() {
            self.nodes.remove(&node);
            return Vec::new();
        }
        here.waiting.iter().map(|waiting| waiting.place).collect()
    }

    /// Who keeps a part that waits from its locks; none if it does not wait for any.
    pub fn holder(&self, node: NodeId, (place, request): (Place, RequestId)) -> Option<Holder> {
        let here = self.nodes.get(&node)?;
        let waiting = here.waiting.iter().find(|waiting| waiting.place == place)?;
        let names: Vec<String> = waiting.names.iter().cloned().collect();
        here.in_the_way((place, request), &names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_came_first_is_first_and_nobody_overtakes_who_needs_more() {
        let (mut locks, node, job) = (Locks::default(), NodeId::new(), JobId::new());
        let [a, b, c] = [0, 1, 2].map(|position| ((job, position), RequestId::new()));
        locks.take(node, a, &names(&["x"])).unwrap();
        locks.take(node, a, &names(&["x"])).expect("it has it already");
        assert_eq!(locks.take(node, b, &names(&["x", "y"])), Err(Holder::Request(a.1)));
        // `y` is free, but `b` was there before.
        assert_eq!(locks.take(node, c, &names(&["y"])), Err(Holder::Waiting(b.0)));
        assert_eq!(locks.take(NodeId::new(), c, &names(&["y"])), Ok(()), "another node has locks of its own");
        locks.release(node, a);
        assert_eq!(locks.waiting(node), [b.0, c.0]);
        locks.take(node, b, &names(&["x", "y"])).unwrap();
        assert_eq!(locks.take(node, c, &names(&["y"])), Err(Holder::Request(b.1)));
        locks.release(node, b);
        locks.take(node, c, &names(&["y"])).unwrap();
    }

    #[test]
    fn nothing_is_given_while_something_is_astray() {
        let (mut locks, node, job) = (Locks::default(), NodeId::new(), JobId::new());
        let (a, stray) = (((job, 0), RequestId::new()), RequestId::new());
        locks.stray(node, stray);
        assert_eq!(locks.take(node, a, &names(&["x"])), Err(Holder::Astray(stray)));
        assert_eq!(locks.holder(node, a), Some(Holder::Astray(stray)));
        assert!(locks.found(node, stray));
        assert_eq!(locks.waiting(node), [a.0]);
        locks.take(node, a, &names(&["x"])).unwrap();
        locks.release(node, a);
        assert_eq!(locks.waiting(node), []);
        assert!(locks.nodes.is_empty(), "nothing is left behind");
    }

    proptest! {
        #[test]
        fn no_lock_is_held_twice_and_everybody_gets_theirs(
            wants in proptest::collection::vec(proptest::collection::btree_set(0..4_u8, 1..4), 1..12),
            ends in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let (mut locks, node, job) = (Locks::default(), NodeId::new(), JobId::new());
            let parts: Vec<((JobId, u32), RequestId)> =
                (0..).zip(&wants).map(|(position, _)| ((job, position), RequestId::new())).collect();
            let wanted = |index: usize| wants[index].iter().map(u8::to_string).collect::<Vec<_>>();
            let mut running: Vec<usize> = Vec::new();
            let mut done = 0;
            let begin = |locks: &mut Locks, running: &mut Vec<usize>, index: usize| {
                if locks.take(node, parts[index], &wanted(index)).is_ok() {
                    for other in running.iter() {
                        assert!(wants[*other].is_disjoint(&wants[index]), "{other} and {index} run together");
                    }
                    running.push(index);
                }
            };
            for index in 0..parts.len() {
                begin(&mut locks, &mut running, index);
            }
            for pick in ends.iter().map(Some).chain(std::iter::repeat_n(None, parts.len())) {
                if running.is_empty() {
                    break;
                }
                let ended = running.remove(pick.map_or(0, |pick| pick.index(running.len())));
                locks.release(node, parts[ended]);
                done += 1;
                for place in locks.waiting(node) {
                    begin(&mut locks, &mut running, place.1 as usize);
                }
            }
            prop_assert_eq!(done, parts.len(), "somebody waits for ever");
        }
    }
}
