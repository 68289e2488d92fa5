//! The budget that every step of every strategy keeps.
//!
//! Policy proposes, the guard disposes: a strategy with a fault in it may be slow, but it cannot
//! take a service down or flood a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use orchestra_core::meta::Uid;

use super::arithmetic::Pace;
use super::sets::count;
use super::{Phase, RolloutAction, RolloutStep, RolloutStrategy, RolloutView};

/// How few and how many pods a deployment may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    /// The most pods in all sets together. Pods that are ending do not count.
    pub max_total: u32,
    /// How many available pods a step must leave. What fails by itself is not the step's fault.
    pub min_available: u32,
}

impl Budget {
    /// The budget of a deployment of `wanted` replicas: for a rolling update wanted + surge and
    /// wanted − max unavailable; for recreate the wanted number and none.
    pub fn of(pace: Pace, wanted: u32) -> Self {
        let min_available = match pace {
            Pace::Rolling { .. } => wanted - pace.max_unavailable(wanted),
            Pace::Recreate => 0,
        };
        Self {
            max_total: pace.max_total(wanted),
            min_available,
        }
    }
}

/// The strategy's step, held within the budget.
pub fn guarded(
    strategy: &dyn RolloutStrategy,
    view: RolloutView<'_>,
    budget: Budget,
) -> RolloutStep {
    check(view, budget, strategy.step(view))
}

/// Holds a step within the budget; what it takes out is named in the note.
///
/// * Stops of available pods, in the order of the step, only while at least
///   [`min_available`](Budget::min_available) stay. Stopping another pod costs nothing.
/// * Starts, in the order of the step, only up to [`max_total`](Budget::max_total). What the
///   same step stops is not credited: it may fail.
/// * Stops of pods that are unknown, ending already or named twice are dropped silently.
///
/// A step within its budget passes unchanged.
pub fn check(view: RolloutView<'_>, budget: Budget, mut step: RolloutStep) -> RolloutStep {
    if step.actions.is_empty() {
        return step;
    }
    let is_available =
        |replica: &&super::Replica| replica.counts() && replica.available(view.min_ready, view.now);
    let stops = |action: &RolloutAction| matches!(action, RolloutAction::Stop(_));
    let by_uid: BTreeMap<Uid, &super::Replica> = match step.actions.iter().any(stops) {
        true => { view.replicas.iter().rev() }
            .map(|one| (one.pod, one))
            .collect(),
        false => BTreeMap::new(),
    };
    let available = count(view.replicas.iter().filter(is_available).count());
    let total = count(
        view.replicas
            .iter()
            .filter(|replica| replica.counts())
            .count(),
    );
    let mut spare = available.saturating_sub(budget.min_available);
    let mut room = budget.max_total.saturating_sub(total);
    let (mut kept_back, mut not_started) = (0_u32, 0_u32);
    let mut stopped = BTreeSet::new();
    step.actions.retain_mut(|action| match action {
        RolloutAction::Stop(pod) => {
            let Some(replica) = by_uid.get(pod) else {
                return false;
            };
            if replica.terminating || !stopped.insert(*pod) {
                return false;
            }
            if !is_available(replica) {
                return true;
            }
            let spared = spare > 0;
            spare = spare.saturating_sub(1);
            kept_back += u32::from(!spared);
            spared
        }
        RolloutAction::Start { count, .. } => {
            let held = (*count).min(room);
            not_started = not_started.saturating_add(*count - held);
            room -= held;
            *count = held;
            held > 0
        }
        RolloutAction::Shift { .. } => true,
    });
    // Writing to a String cannot fail.
    if kept_back > 0 {
        let _ = write!(
            step.note,
            "; held back {kept_back} stops: {available} pods are available and {} must stay so",
            budget.min_available
        );
    }
    if not_started > 0 {
        let _ = write!(
            step.note,
            "; held back {not_started} starts: there are {total} pods and may be {}",
            budget.max_total
        );
    }
    if kept_back + not_started > 0 && step.phase == Phase::Done {
        step.phase = Phase::Holding;
    }
    step
}
