//! Room kept for a pod that has been passed too often.
//!
//! The node is the one that misses least: the sum, over all that is lacking there, of what is missing
//! in thousandths of what the node has; then the first by name. Only nodes where nothing but other
//! pods is in the way come into question. Whoever is considered later finds that room taken, so that
//! it grows as pods end there until the pod fits.

use smol_str::SmolStr;

use super::Profile;
use super::ask::{contain, obstacles_contained};
use super::plugin::{Cycle, Reach};
use crate::fits::{Obstacle, Verdict, verdict};
use crate::snapshot::{NodeIx, PodId};

/// Of so many nodes one may have its room kept, and one in any case.
pub(super) const NODES_A_HOLD: usize = 10;

/// The node whose room a plan keeps for a pod that was refused: because others are leaving it already,
/// or because the pod is [overdue](super::Pending::overdue).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// The pod, by its position among the pending.
    pub pending: usize,
    /// The pod.
    pub pod: PodId,
    /// The node's name.
    pub node: SmolStr,
}

/// The node to keep room on for the pod of `cycle`: the one it is nominated for, if that is still in
/// question, or else the one that misses least.
pub(super) fn node(profile: &Profile, cycle: &Cycle<'_>) -> Option<NodeIx> {
    let snapshot = cycle.snapshot();
    let nominated = cycle.pod.nominated.as_deref();
    let kept = nominated.and_then(|name| snapshot.find(name));
    if let Some(kept) = kept.filter(|&node| missing(profile, cycle, node).is_some()) {
        return Some(kept);
    }
    let nodes = snapshot.nodes().filter_map(|(node, row)| {
        let missing = missing(profile, cycle, node)?;
        Some((missing, row.name(), node))
    });
    nodes.min().map(|(_, _, node)| node)
}

/// How much `node` lacks for the pod, in thousandths of what it has; `None` if other pods are not all
/// that is in the way.
fn missing(profile: &Profile, cycle: &Cycle<'_>, node: NodeIx) -> Option<i64> {
    let mut sum: i64 = 0;
    for filter in &profile.filters {
        if contain(|| filter.reach(cycle)) == Ok(Reach::Nothing) {
            continue;
        }
        let obstacles = obstacles_contained(&**filter, cycle, node, None);
        if verdict(&obstacles) == Verdict::UnschedulableAndUnresolvable {
            return None;
        }
        let thousandths = |obstacle: &Obstacle| match obstacle {
            Obstacle::Lacks { total, .. } => {
                let missing = i128::from(obstacle.missing().unwrap_or(0));
                let share = missing * 1_000 / i128::from((*total).max(1));
                i64::try_from(share).unwrap_or(i64::MAX)
            }
            _ => 1_000,
        };
        sum = obstacles
            .iter()
            .map(thousandths)
            .fold(sum, i64::saturating_add);
    }
    Some(sum)
}

/// How many pods a plan may keep room for on so many nodes.
pub(super) fn holds_max(nodes: usize) -> usize {
    (nodes / NODES_A_HOLD).max(1)
}
