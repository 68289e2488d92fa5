//! A second look at every placement before it is written: whoever planned it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orchestra_core::error::report;
use orchestra_core::time::Timestamp;
use orchestra_sched::fits;
use orchestra_sched::place::{Pending, Plan};
use orchestra_sched::snapshot::{Ledger, PodId, Snapshot};

use super::{PlacementLoop, Refusal};

impl PlacementLoop {
    /// Takes out of `plan` what does not fit in the snapshot that it was made for, one placement after
    /// the other in its order, and says so; with one of a gang all of it. Those pods are planned for
    /// again later; when, and what they are told, is returned. What changed since the snapshot is seen when the rest is
    /// written.
    pub(super) fn guard(
        &self,
        plan: &mut Plan,
        snapshot: &Snapshot,
        pods: &[Pending],
        now: Timestamp,
    ) -> (Option<Timestamp>, Vec<Refusal>) {
        let mut ledger = Ledger::open(snapshot);
        let mut broken: BTreeMap<PodId, String> = BTreeMap::new();
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
            broken.insert(placement.pod.clone(), why);
            false
        });
        for mate in of_broken_gangs(plan, pods, &broken) {
            let why = "the scheduler chose what does not fit for another pod of its gang";
            broken.entry(mate).or_insert_with(|| why.to_owned());
        }
        if broken.is_empty() {
            return (None, Vec::new());
        }
        plan.placed
            .retain(|placement| !broken.contains_key(&placement.pod));
        let mut told = Vec::new();
        for (pod, why) in &broken {
            told.extend(self.broken([pod].into_iter(), why));
        }
        let broken: Vec<PodId> = broken.into_keys().collect();
        (self.state().queue.failed(&broken, now), told)
    }
}

/// The other members of the gangs of `broken`: they are placed together or not at all.
fn of_broken_gangs(plan: &Plan, pods: &[Pending], broken: &BTreeMap<PodId, String>) -> Vec<PodId> {
    let gang = |pod: &Pending| {
        let name = &pod.gang.as_ref()?.name;
        Some((pod.id.key.namespace.clone(), name.clone()))
    };
    let lost = pods.iter().filter(|pod| broken.contains_key(&pod.id));
    let gangs: BTreeSet<_> = lost.filter_map(gang).collect();
    if gangs.is_empty() {
        return Vec::new();
    }
    let placed = plan.placed.iter().filter_map(|one| pods.get(one.pending));
    let members = placed.filter(|pod| gang(pod).is_some_and(|gang| gangs.contains(&gang)));
    members.map(|pod| pod.id.clone()).collect()
}
