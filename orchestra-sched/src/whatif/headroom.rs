//! How many more of a pod there is room for.

use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::Pod;

use super::QuestionError;
use super::admit::admitted;
use crate::explain::Explanation;
use crate::place::{Pending, PlanInputs, Scheduler};
use crate::snapshot::Snapshot;

/// The most that [`headroom`] counts up to.
pub const HEADROOM_MAX: usize = 10_000_000;

/// How many are tried at first.
const FIRST_BATCH: usize = 64;

/// How many more of a pod find a node, as the scheduler places them.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// How many.
    pub fit: usize,
    /// Why no more, in the words of the first that finds no node. `None` if as many fit as were
    /// asked for.
    pub why: Option<Arc<Explanation>>,
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{} more fit; then {why}", self.fit),
            None => write!(f, "at least {} more fit", self.fit),
        }
    }
}

/// How many more pods like this find a node, counted up to `most`, and at the most up to
/// [`HEADROOM_MAX`]. The pod's node, if it has one, does not matter.
///
/// # Errors
///
/// If the API would refuse the pod.
pub fn headroom(
    snapshot: &Snapshot,
    scheduler: &dyn Scheduler,
    pod: &Pod,
    most: usize,
    inputs: PlanInputs,
) -> Result<Headroom, QuestionError> {
    let pod = admitted(pod.clone())?;
    let most = most.min(HEADROOM_MAX);
    let mut one = Pending::of(&pod, inputs.now);
    one.demand = one.demand.leaving(&pod.spec.node_name);
    one.preempts = false;
    one.nominated = None;
    let mut count = FIRST_BATCH.min(most);
    loop {
        let pending: Vec<Pending> = (0..count)
            .map(|nth| {
                let mut pending = one.clone();
                pending.id.uid = super::uid(nth);
                pending
            })
            .collect();
        let plan = scheduler.plan(snapshot, &pending, inputs);
        let fit = plan.placed.len();
        let why = plan.unplaced.into_iter().next().map(|first| first.why);
        if why.is_some() || count == most {
            return Ok(Headroom { fit, why });
        }
        count = (count * 8).min(most);
    }
}
