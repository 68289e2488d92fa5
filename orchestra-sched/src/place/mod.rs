//! Where pods go.
//!
//! ```
//! use std::sync::Arc;
//!
//! use orchestra_core::kind::{Node, Pod, pod::Container};
//! use orchestra_core::port::store::Revision;
//! use orchestra_core::quantity::Quantity;
//! use orchestra_core::time::Timestamp;
//! use orchestra_sched::fits;
//! use orchestra_sched::place::{Framework, Pending, PlanInputs, Scheduler};
//! use orchestra_sched::rng::PlanRng;
//! use orchestra_sched::snapshot::{Ledger, SnapshotBuilder};
//!
//! // From caches of nodes and pods, change by change.
//! let mut builder = SnapshotBuilder::new();
//! builder.apply_node(&Node::new("node-1").capacity(2_000, 4_096, 110));
//!
//! // Pods without a node are pending; the others count against theirs.
//! let mut web = Container::new("web", "web:1");
//! web.resources.requests.insert("cpu".into(), Quantity::from_milli(1_500));
//! let pods = ["web-1", "web-2"].map(|name| Pod::builder(name).container(web.clone()));
//! for pod in &pods {
//!     builder.apply_pod(pod);
//! }
//! let now = Timestamp::from_secs(0);
//! let pending: Vec<Pending> = pods.iter().map(|pod| Pending::of(pod, now)).collect();
//!
//! let snapshot = builder.snapshot(Revision(7));
//! let inputs = PlanInputs { now, rng: PlanRng::new(1) };
//! let plan = Framework::default().plan(&snapshot, &pending, inputs);
//!
//! // Before a placement is written, the same rules are asked of what is known by then.
//! let mut ledger = Ledger::open(&builder.snapshot(Revision(8)));
//! for placement in &plan.placed {
//!     let demand = &pending[placement.pending].demand;
//!     let node = fits::claim(&mut ledger, &placement.node, demand)?;
//!     assert_eq!(ledger.snapshot().node(node).name(), "node-1");
//! }
//!
//! // Who found no node waits for a change that could help.
//! let why = &plan.unplaced[0].why;
//! assert_eq!(why.to_string(), "0/1 nodes fit: 1 lacks cpu (nearest node-1 misses 1)");
//! let change = builder.apply_node(&Node::new("node-1").capacity(3_000, 4_096, 110));
//! assert!(why.is_helped_by(change));
//! # Ok::<(), fits::Misfit>(())
//! ```

mod alone;
pub(crate) mod ask;
mod changes;
mod counts;
pub(crate) mod domains;
mod each_node;
pub mod filter;
mod framework;
pub mod gate;
mod hold;
mod kernel;
mod key;
mod memory;
pub mod packing;
pub mod plugin;
pub mod preempt;
mod profile;
pub mod queue;
pub mod score;
mod shadow;
mod share;
mod sketch;
mod sweep;
mod switch;
mod why;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::kind::gang::Gang;
use orchestra_core::kind::pod::PreemptionPolicy;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

pub use alone::{scores, scores_among, verdicts};
pub(crate) use ask::contain;
pub use changes::Changes;
pub use framework::{Framework, GANG_DOMAINS_MAX, SWEEPS_KEPT_MAX};
pub use hold::Held;
pub use preempt::{Preemption, Victim};
pub use profile::{Profile, UnknownPlugin, WEIGHT_MAX};
pub(crate) use share::Words;

pub use shadow::{Ballot, Shadow, Vote};
pub use switch::Switch;

use crate::explain::{Explanation, Ranking};
use crate::rng::PlanRng;
use crate::snapshot::{Demand, PodId, Snapshot};

/// A pod that wants a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pending {
    /// Which.
    pub id: PodId,
    /// Higher goes first.
    pub priority: i32,
    /// When it began to want one: among equal priorities, earlier goes first.
    pub arrived: Timestamp,
    /// What it asks.
    pub demand: Arc<Demand>,
    /// Whether pods of lower priority may be evicted for it.
    pub preempts: bool,
    /// The node on which room is being made or kept for it, if that is so.
    pub nominated: Option<SmolStr>,
    /// Whether it has been passed so often that a plan that cannot place it keeps the room of a node
    /// for it. See [`queue`].
    pub overdue: bool,
    /// With whom it is placed together or not at all.
    pub gang: Option<Gang>,
}

impl Pending {
    /// A pod, arrived when it was created, or at `now` if it does not say when that was.
    pub fn of(pod: &Pod, now: Timestamp) -> Self {
        Self::asking(pod, Arc::new(Demand::of(pod)), now)
    }

    /// The same, of a pod of which it is known what it asks.
    pub(crate) fn asking(pod: &Pod, demand: Arc<Demand>, now: Timestamp) -> Self {
        Self {
            id: PodId::of(pod),
            priority: pod.spec.priority.unwrap_or(0),
            arrived: pod.metadata.creation_timestamp.unwrap_or(now),
            demand,
            preempts: pod.spec.preemption_policy != Some(PreemptionPolicy::Never),
            nominated: Some(pod.status.nominated_node_name.clone()).filter(|node| !node.is_empty()),
            overdue: false,
            gang: Gang::of(pod),
        }
    }
}

impl Pending {
    /// The order in which pods are considered: the higher priority, then those for whom room is
    /// being made, then the earlier arrival, then by uid and name.
    pub fn before(&self, other: &Self) -> Ordering {
        (other.priority.cmp(&self.priority))
            .then_with(|| other.nominated.is_some().cmp(&self.nominated.is_some()))
            .then_with(|| self.arrived.cmp(&other.arrived))
            .then_with(|| self.id.cmp(&other.id))
    }
}

/// Inputs of a plan that are not cluster state.
#[derive(Clone, Copy, Debug)]
pub struct PlanInputs {
    /// When planning began.
    pub now: Timestamp,
    /// The only source of chance. Equal seeds settle ties alike.
    pub rng: PlanRng,
}

/// Decides where pods go. A pure function: same inputs, same plan, on any machine.
pub trait Scheduler: fmt::Debug + Send + Sync {
    /// Plans for every pending pod at once. Each of them is in the plan exactly once.
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], inputs: PlanInputs) -> Plan;

    /// How it ranks the nodes for `pod`, for people who ask why here; of one that runs there as if it did
    /// not. `None` if it does not rank nodes, as a scheduler of one's own does not unless it says how.
    fn ranking(&self, snapshot: &Snapshot, pod: &Pending, now: Timestamp) -> Option<Ranking> {
        let _ = (snapshot, pod, now);
        None
    }
}

const _: Option<&dyn Scheduler> = None;

/// A proposal. Nothing has happened yet; whoever commits it asks [`fits`](crate::fits) again.
#[must_use = "a plan nobody reads helps nobody"]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The revision it was computed from.
    pub base: Revision,
    /// Pods that found a node, in the order in which they were considered.
    pub placed: Vec<Placement>,
    /// Pods that did not, in the order in which they were considered.
    pub unplaced: Vec<Unplaced>,
    /// For some of the unplaced: the node where room can be made, and who has to leave it. In the
    /// order in which they were considered.
    pub preemptions: Vec<Preemption>,
    /// For some of the unplaced: the node whose room is kept for them, because others are leaving it
    /// for them already, or because they were passed too often.
    pub held: Vec<Held>,
    /// Plugins that panicked while it was made, once for each thing they said, in the order it
    /// happened. What they said is not in the plan: such a filter turned the nodes down, such a
    /// scorer gave them 0.
    pub faults: Vec<Fault>,
}

/// A plugin that panicked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Its name.
    pub plugin: &'static str,
    /// The first pod on whose behalf it was asked.
    pub pod: PodId,
    /// What it said.
    pub note: SmolStr,
}

impl Plan {
    /// The node on which room is made or kept for a pod that was not placed.
    pub fn room_for(&self, pod: &PodId) -> Option<&SmolStr> {
        let made = self.preemptions.iter().find(|made| made.pod == *pod);
        let held = || self.held.iter().find(|held| held.pod == *pod);
        made.map(|made| &made.node)
            .or_else(|| held().map(|held| &held.node))
    }
}

/// A pod and its node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// The pod, by its position among the pending.
    pub pending: usize,
    /// The pod.
    pub pod: PodId,
    /// The node's name.
    pub node: SmolStr,
    /// The accelerators of the node that it gets.
    pub devices: DeviceSet,
    /// The node's score for it: the sum over the scorers, each from 0 to 100 times its weight.
    /// Comparable within one plan.
    pub score: u32,
}

/// A pod that found no node.
#[derive(Clone, Debug, PartialEq)]
pub struct Unplaced {
    /// The pod, by its position among the pending.
    pub pending: usize,
    /// The pod.
    pub pod: PodId,
    /// Why, with the whole plan carried out. Like pods share it.
    pub why: Arc<Explanation>,
}
