//! Room for a pod where pods of lower priority leave.
//!
//! On each node where a removal of pods could help, all pods of lower priority are taken off and
//! then put back while the pod still fits: first those whose eviction would violate a disruption
//! budget, then the others, each time the more important first (the higher priority, then the
//! earlier start). Who cannot be put back is a *victim*. No victim could be spared: each was found
//! to be in the way with no more pods back than there are in the end. (Spread and affinity are the
//! exception: there one that comes back may be the company that would have let another stay.)
//!
//! Of the nodes where that works the one is chosen where, in this order: the fewest budgets are
//! violated, the highest priority among the victims is lowest, the sum of their priorities is lowest
//! (each raised by 2^31, so that more victims never sum to less), they are fewest, and the earliest
//! start among those of the highest priority is latest; then the first by name. A node that needs no
//! victims wins. This is what Kubernetes does (`DefaultPreemption`, 1.36), but for its sampling: here
//! every node is looked at. Pods that end already count as gone.

mod below;
mod candidate;
mod explain;
mod heap;
mod here;
mod kept;
mod search;

use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

pub(super) use kept::Kept;
pub(super) use search::{Accepts, Search};

use super::plugin::PodFields;
use super::share::Likeness;
use super::{Pending, Profile};
use crate::snapshot::{Ledger, PodId, Snapshot};

/// Where room can be made for a pod that found no node, and who has to leave for it.
///
/// A proposal: once its victims are gone, the pod is placed like any other, there or elsewhere. Until
/// then a pod that is [nominated](Pending::nominated) for a node holds the room there against pods
/// that come after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// The pod, by its position among the pending.
    pub pending: usize,
    /// The pod.
    pub pod: PodId,
    /// Its priority.
    pub priority: i32,
    /// The node's name.
    pub node: SmolStr,
    /// Who has to leave, the most important first. Nobody, where pods that end already leave room
    /// enough.
    pub victims: Vec<Victim>,
    /// Why that node.
    pub why: Choice,
}

/// A pod that has to leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Victim {
    /// Which.
    pub pod: PodId,
    /// Its priority.
    pub priority: i32,
    /// When it started, if it has.
    pub started: Option<Timestamp>,
    /// The disruption budget that its eviction violates, if there is one.
    pub violates: Option<ObjectKey>,
}

/// Why a node was chosen for a [`Preemption`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// How many nodes there are.
    pub nodes: usize,
    /// On how many of them room could be made.
    pub candidates: usize,
    /// On how many the pod would not fit even if all pods of lower priority left.
    pub too_little: usize,
    /// On how many no pod is in the way, or none of lower priority.
    pub no_help: usize,
    /// What the chosen node asks for.
    pub cost: Cost,
    /// The node that would have been next, and what it would have asked for.
    pub next: Option<(SmolStr, Cost)>,
}

/// What room on a node costs; less is better, from the first field to the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost {
    /// How many victims' disruption budgets are violated.
    pub violations: u32,
    /// The highest priority among the victims, if there are any.
    pub highest: Option<i32>,
    /// The sum of the victims' priorities, each raised by 2^31.
    pub sum: i64,
    /// How many victims there are.
    pub victims: u32,
    /// The earliest start among the victims of the highest priority; later is better, and one that
    /// has not started is as late as can be.
    pub started: Option<Timestamp>,
}

/// What room costs that is there already.
const NO_VICTIMS: Cost = Cost {
    violations: 0,
    highest: None,
    sum: 0,
    victims: 0,
    started: None,
};

/// Where room can be made for `pod` in the cluster that `snapshot` shows, by the filters of
/// `profile`; `None` if nowhere. [`Preemption::pending`] is 0.
///
/// Asks only where: whether the pod fits somewhere as things are is not looked at first, and neither
/// is [`Pending::preempts`].
pub fn choose(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &Pending,
    now: Timestamp,
) -> Option<Preemption> {
    let likeness = Likeness::new(PodFields::ALL, true);
    let mut search = Search::open(&Ledger::open(snapshot), &[], now, likeness, None);
    let found = search.find(profile, 0, pod, 0, None);
    found.map(|(_, found)| found)
}
