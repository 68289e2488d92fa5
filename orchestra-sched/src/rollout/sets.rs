//! The pods of a deployment by revision, and which of them go first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use orchestra_core::meta::Uid;

use super::arithmetic::{Counts, SetState};
use super::{Generation, Replica, RolloutAction, RolloutView};

/// The sets of a view. Pods that are ending or ended stand beside them.
#[derive(Debug)]
pub(super) struct Sets<'a> {
    view: RolloutView<'a>,
    by_generation: BTreeMap<Generation, Set<'a>>,
}

/// The pods of one revision, in the order in which they stand in the view, and how many of them are
/// what.
#[derive(Debug, Default)]
struct Set<'a> {
    pods: Vec<&'a Replica>,
    ready: u32,
    available: u32,
}

impl<'a> Sets<'a> {
    pub(super) fn of(view: RolloutView<'a>) -> Self {
        let mut by_generation: BTreeMap<Generation, Set<'a>> = BTreeMap::new();
        for replica in view.replicas.iter().filter(|replica| replica.counts()) {
            let set = by_generation.entry(replica.generation).or_default();
            set.pods.push(replica);
            set.ready += u32::from(replica.ready());
            set.available += u32::from(replica.available(view.min_ready, view.now));
        }
        Self {
            view,
            by_generation,
        }
    }

    pub(super) fn state(&self, generation: Generation) -> SetState {
        let set = self.by_generation.get(&generation);
        set.map_or(SetState::default(), |set| SetState {
            size: count(set.pods.len()),
            available: set.available,
        })
    }

    /// The old sets, oldest first.
    pub(super) fn old(&self) -> impl DoubleEndedIterator<Item = Generation> {
        let target = self.view.target;
        self.by_generation
            .keys()
            .copied()
            .filter(move |generation| *generation != target)
    }

    pub(super) fn sizes(&self) -> BTreeMap<Generation, u32> {
        self.by_generation
            .iter()
            .map(|(generation, set)| (*generation, count(set.pods.len())))
            .collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let sum = |of: fn(&Set<'_>) -> u32| self.by_generation.values().map(of).sum();
        Counts {
            current: sum(|set| count(set.pods.len())),
            updated: self.state(self.view.target).size,
            ready: sum(|set| set.ready),
            available: sum(|set| set.available),
        }
    }

    /// What brings the sets to these sizes, and clears away what has ended. A set that is not
    /// named stays as it is.
    pub(super) fn resize(&self, sizes: &BTreeMap<Generation, u32>) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        let ended = self
            .view
            .replicas
            .iter()
            .filter(|r| r.ended && !r.terminating);
        let mut ended: Vec<&Replica> = ended.collect();
        ended.sort_by(|a, b| (&a.name, a.pod).cmp(&(&b.name, b.pod)));
        actions.extend(
            ended
                .into_iter()
                .map(|replica| RolloutAction::Stop(replica.pod)),
        );
        let size_of = |set: &Set<'_>| count(set.pods.len());
        let shrinks = |(generation, set): (&Generation, &Set<'a>)| {
            sizes
                .get(generation)
                .is_some_and(|size| *size < size_of(set))
        };
        if self.by_generation.iter().any(shrinks) {
            let on_node = self.on_node();
            for (generation, &size) in sizes {
                if let Some(set) = self.by_generation.get(generation) {
                    let surplus = size_of(set).saturating_sub(size);
                    let first = self.first_to_stop(set, &on_node, surplus);
                    actions.extend(first.into_iter().map(RolloutAction::Stop));
                }
            }
        }
        for (&generation, &size) in sizes.iter().rev() {
            let count = size.saturating_sub(self.state(generation).size);
            if count > 0 {
                actions.push(RolloutAction::Start { generation, count });
            }
        }
        actions
    }

    /// How many pods of all sets are on each node.
    fn on_node(&self) -> BTreeMap<&str, u32> {
        let mut on_node = BTreeMap::<&str, u32>::new();
        for replica in self.by_generation.values().flat_map(|set| &set.pods) {
            *on_node.entry(&replica.node).or_default() += 1;
        }
        on_node
    }

    /// The first `surplus` pods of `set` in the order in which they are stopped.
    fn first_to_stop(
        &self,
        set: &Set<'_>,
        on_node: &BTreeMap<&str, u32>,
        surplus: u32,
    ) -> Vec<Uid> {
        if surplus == 0 {
            return Vec::new();
        }
        let mut pods = set.pods.clone();
        pods.sort_by_cached_key(|replica| rank(replica, &self.view, on_node[&*replica.node]));
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        pods.iter()
            .take(surplus)
            .map(|replica| replica.pod)
            .collect()
    }
}

/// Who is stopped first among the pods of one set: the least. Without a node before placed, not
/// running before running, not ready before ready, not yet available before available, cheap
/// before dear, with more of the deployment's pods on its node before fewer, ready for a short before a long time,
/// restarted often before seldom, young before old; the name breaks ties.
fn rank<'a>(
    replica: &'a Replica,
    view: &RolloutView<'_>,
    on_node: u32,
) -> (bool, bool, bool, bool, i32, impl Ord + use<>, &'a str, Uid) {
    (
        !replica.node.is_empty(),
        replica.running,
        replica.ready(),
        replica.available(view.min_ready, view.now),
        replica.deletion_cost,
        (
            Reverse(on_node),
            Reverse(replica.ready_since),
            Reverse(replica.restarts),
            Reverse(replica.created),
        ),
        &replica.name,
        replica.pod,
    )
}

pub(super) fn count(pods: usize) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}
