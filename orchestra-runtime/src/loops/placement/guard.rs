//! A second look at every placement before it is written: whoever planned it.

use std::sync::Arc;

use orchestra_core::error::report;
use orchestra_core::time::Timestamp;
use orchestra_sched::fits;
use orchestra_sched::place::{Pending, Plan};
use orchestra_sched::snapshot::{Ledger, PodId, Snapshot};

use super::PlacementLoop;

impl PlacementLoop {
    /// Takes out of `plan` what does not fit in the snapshot that it was made for, one placement after
    /// the other in its order, and says so. Those pods are planned for again later, and when is
    /// returned. What changed since the snapshot is seen when the rest is written.
    pub(super) fn guard(
        &self,
        plan: &mut Plan,
        snapshot: &Snapshot,
        pods: &[Pending],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut ledger = Ledger::open(snapshot);
        let mut broken: Vec<PodId> = Vec::new();
        plan.placed.retain(|placement| {
            let asked = pods.get(placement.pending);
            let Some(asked) = asked.filter(|asked| asked.id == placement.pod) else {
                tracing::warn!(pod = %placement.pod, "the scheduler placed a pod that was not asked for");
                return false;
            };
            let mut demand = Arc::clone(&asked.demand);
            if !placement.devices.is_empty()
                && let Some(ask) = &mut Arc::make_mut(&mut demand).accelerators
            {
                ask.held = placement.devices;
            }
            let Err(misfit) = fits::claim(&mut ledger, &placement.node, &demand) else {
                return true;
            };
            let why = format!("the scheduler chose what does not fit: {}", report(&misfit));
            tracing::warn!(pod = %placement.pod, node = %placement.node, "{why}");
            if let Some(pod) = self.state().pods.get(&placement.pod) {
                self.events.warning(pod.as_ref(), "FailedScheduling", &why);
            }
            broken.push(placement.pod.clone());
            false
        });
        match broken.is_empty() {
            true => None,
            false => self.state().queue.failed(&broken, now),
        }
    }
}
