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
    // Each in the order in which its pods would be stopped.
    by_generation: BTreeMap<Generation, Vec<&'a Replica>>,
}

impl<'a> Sets<'a> {
    pub(super) fn of(view: RolloutView<'a>) -> Self {
        let mut by_generation: BTreeMap<Generation, Vec<&Replica>> = BTreeMap::new();
        for replica in view.replicas.iter().filter(|replica| replica.counts()) {
            by_generation
                .entry(replica.generation)
                .or_default()
                .push(replica);
        }
        let mut on_node = BTreeMap::<&str, u32>::new();
        for replica in by_generation.values().flatten() {
            *on_node.entry(&replica.node).or_default() += 1;
        }
        for set in by_generation.values_mut() {
            set.sort_by_cached_key(|replica| rank(replica, &view, on_node[&*replica.node]));
        }
        Self {
            view,
            by_generation,
        }
    }

    pub(super) fn state(&self, generation: Generation) -> SetState {
        let set = self
            .by_generation
            .get(&generation)
            .map_or(&[][..], Vec::as_slice);
        SetState {
            size: count(set.len()),
            available: self.available(set),
        }
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
            .map(|(generation, set)| (*generation, count(set.len())))
            .collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let all = || self.by_generation.values().flatten();
        Counts {
            current: count(all().count()),
            updated: self.state(self.view.target).size,
            ready: count(all().filter(|replica| replica.ready()).count()),
            available: self
                .by_generation
                .values()
                .map(|set| self.available(set))
                .sum(),
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
        for (&generation, &size) in sizes {
            let set = self
                .by_generation
                .get(&generation)
                .map_or(&[][..], Vec::as_slice);
            let surplus = set
                .len()
                .saturating_sub(usize::try_from(size).unwrap_or(usize::MAX));
            actions.extend(
                set[..surplus]
                    .iter()
                    .map(|replica| RolloutAction::Stop(replica.pod)),
            );
        }
        for (&generation, &size) in sizes.iter().rev() {
            let count = size.saturating_sub(self.state(generation).size);
            if count > 0 {
                actions.push(RolloutAction::Start { generation, count });
            }
        }
        actions
    }

    fn available(&self, set: &[&Replica]) -> u32 {
        let view = &self.view;
        count(
            set.iter()
                .filter(|replica| replica.available(view.min_ready, view.now))
                .count(),
        )
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
