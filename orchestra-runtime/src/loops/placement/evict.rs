//! Room for pods by evicting others: what a plan proposes, carried out.
//!
//! One transaction nominates the pod for its node and marks its victims as disrupted; then they are
//! deleted like any other pod, with their grace. Until they are gone the nomination, which stands in the
//! pod's status, keeps others out of the room and the next plan from evicting again. Whoever is stopped
//! in between carries on from there: a nomination whose victims do not end is planned anew.

use std::sync::Arc;

use orchestra_core::error::report;
use orchestra_core::kind::Pod;
use orchestra_core::meta::{Condition, ConditionStatus, set_condition};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::place::{Plan, Preemption};

use super::{PlacementLoop, scheduled};
use crate::api::{ApiError, DeleteParams};

/// Victims in one commit.
const VICTIMS_PER_COMMIT_MAX: usize = 60;

impl PlacementLoop {
    /// Has those evicted who have to leave for others. What fails is planned anew, and when is
    /// returned.
    pub(super) async fn make_room(&self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        let mut landed = Revision(0);
        let mut retry = None;
        for preemption in &plan.preemptions {
            let unplaced = plan.unplaced.iter().find(|lost| lost.pod == preemption.pod);
            let why = unplaced.map_or_else(String::new, |lost| lost.why.to_string());
            match self.evict_for(preemption, &why, now).await {
                Ok(at) => landed = landed.max(at),
                Err(error) => {
                    tracing::debug!(%preemption, error = %report(&error), "nobody was evicted");
                    let pod = std::slice::from_ref(&preemption.pod);
                    retry = retry.or(self.state().queue.failed(pod, now));
                }
            }
        }
        // The next plan must know who ends.
        if landed > Revision(0) {
            self.caches.pods.wait_through(landed).await;
        }
        retry
    }

    async fn evict_for(
        &self,
        preemption: &Preemption,
        why: &str,
        now: Timestamp,
    ) -> Result<Revision, ApiError> {
        let Some(pod) = self.state().pods.get(&preemption.pod).cloned() else {
            return Ok(Revision(0)); // gone, or placed by hand
        };
        let by = format!(
            "preempted by {} on node {}",
            preemption.pod, preemption.node
        );
        let victims: Vec<Arc<Pod>> = preemption
            .victims
            .iter()
            .filter_map(|victim| self.caches.pods.get(&victim.pod.key))
            .filter(|pod| {
                preemption
                    .victims
                    .iter()
                    .any(|v| v.pod.uid == pod.metadata.uid)
            })
            .collect();
        let mut landed = Revision(0);
        let mut nominated = Pod::clone(&pod);
        nominated.status.nominated_node_name = preemption.node.clone();
        let refused = scheduled(ConditionStatus::False, "Unschedulable", why);
        set_condition(&mut nominated.status.conditions, refused, now);
        let mut nomination = Some(nominated);
        for some in marked(&victims) {
            let mut commit = self.client.commit();
            if let Some(pod) = nomination.take() {
                commit = commit.replace_status(pod);
            }
            for victim in some {
                let mut marked = Pod::clone(victim);
                set_condition(&mut marked.status.conditions, disrupted(&by), now);
                commit = commit.replace_status(marked);
            }
            landed = landed.max(commit.send().await?);
        }
        for some in victims.chunks(VICTIMS_PER_COMMIT_MAX) {
            let mut commit = self.client.commit();
            for victim in some {
                // Whatever its version: its status may change meanwhile.
                let params = DeleteParams::default().uid(victim.metadata.uid);
                commit = commit.delete_key::<Pod>(victim.metadata.key(), params);
            }
            landed = landed.max(commit.send().await?);
        }
        self.events.warning(pod.as_ref(), "FailedScheduling", why);
        self.events
            .normal(pod.as_ref(), "Preempting", preemption.to_string());
        for victim in &victims {
            self.events.warning(victim.as_ref(), "Preempted", &by);
        }
        Ok(landed)
    }
}

/// The victims by commit: one at least, for the nomination.
fn marked(victims: &[Arc<Pod>]) -> impl Iterator<Item = &[Arc<Pod>]> {
    let none: &[Arc<Pod>] = &[];
    let nobody = victims.is_empty().then_some(none);
    nobody
        .into_iter()
        .chain(victims.chunks(VICTIMS_PER_COMMIT_MAX))
}

fn disrupted(message: &str) -> Condition {
    Condition {
        kind: Pod::DISRUPTION_TARGET.into(),
        status: ConditionStatus::True,
        reason: "PreemptionByScheduler".into(),
        message: message.into(),
        ..Condition::default()
    }
}
