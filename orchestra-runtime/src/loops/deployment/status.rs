//! What a deployment's status and events say of a step.

use std::time::Duration;

use orchestra_core::kind::{Deployment, DeploymentStatus};
use orchestra_core::meta::{Condition, ConditionStatus, condition, set_condition};
use orchestra_sched::rollout::guard::Budget;
use orchestra_sched::rollout::{Phase, Replica, RolloutStep};

use super::pass::{Pass, pace};
use crate::events::Recorder;
use crate::loops::unready;

impl Pass<'_> {
    /// The status after a step.
    pub(super) fn status(&self, step: &RolloutStep) -> DeploymentStatus {
        let spec = &self.deployment.spec;
        let wanted = spec.replicas.unwrap_or(1);
        let min_ready = Duration::from_secs(spec.min_ready_seconds.into());
        let count = |holds: &dyn Fn(&&Replica) -> bool| {
            let found = self
                .replicas
                .iter()
                .filter(|replica| replica.counts())
                .filter(holds);
            u32::try_from(found.count()).unwrap_or(u32::MAX)
        };
        let mut status = self.deployment.status.clone();
        status.observed_generation = self.deployment.metadata.generation;
        status.replicas = count(&|_| true);
        status.updated_replicas = count(&|replica| replica.generation == self.target.generation);
        status.ready_replicas = count(&|replica| replica.ready());
        status.available_replicas = count(&|replica| replica.available(min_ready, self.now));
        status.unavailable_replicas = wanted.saturating_sub(status.available_replicas);
        let ending = self
            .replicas
            .iter()
            .filter(|replica| replica.terminating)
            .count();
        status.terminating_replicas = Some(u32::try_from(ending).unwrap_or(u32::MAX));

        let budget = Budget::of(pace(self.deployment), wanted);
        let enough = status.available_replicas >= budget.min_available;
        let (reason, message) = if enough {
            (
                "MinimumReplicasAvailable",
                "enough pods are available".to_owned(),
            )
        } else {
            let few = self.because("too few pods are available");
            ("MinimumReplicasUnavailable", few)
        };
        let set =
            |status: &mut DeploymentStatus, kind: &str, holds, reason: &str, message: &str| {
                let before = condition(&status.conditions, kind).cloned();
                let mut new = Condition {
                    kind: kind.into(),
                    status: holds,
                    reason: reason.into(),
                    message: message.into(),
                    last_update_time: before.as_ref().and_then(|before| before.last_update_time),
                    ..Condition::default()
                };
                if before
                    .is_none_or(|before| before.status != new.status || before.reason != new.reason)
                {
                    new.last_update_time = Some(self.now);
                }
                set_condition(&mut status.conditions, new, self.now);
            };
        match &self.refused {
            Some(why) => {
                let failing = Deployment::REPLICA_FAILURE;
                set(
                    &mut status,
                    failing,
                    ConditionStatus::True,
                    "FailedCreate",
                    why,
                );
            }
            None => status
                .conditions
                .retain(|condition| condition.kind != Deployment::REPLICA_FAILURE),
        }
        let holds = ConditionStatus::from(enough);
        set(&mut status, Deployment::AVAILABLE, holds, reason, &message);
        let (holds, reason) = match step.phase {
            _ if spec.paused => (ConditionStatus::Unknown, "DeploymentPaused"),
            Phase::Done => (ConditionStatus::True, "NewReplicaSetAvailable"),
            Phase::Stalled => (ConditionStatus::False, "ProgressDeadlineExceeded"),
            _ => (ConditionStatus::True, "ReplicaSetUpdated"),
        };
        let note = match step.phase {
            Phase::Done => step.note.clone(),
            _ => self.because(&step.note),
        };
        set(&mut status, Deployment::PROGRESSING, holds, reason, &note);
        status
    }

    /// `what`, and why no more pods are started, or why the worst is not ready or was lost, if so.
    fn because(&self, what: &str) -> String {
        let worst = || unready::worst(self.pods).or_else(|| self.lost.clone());
        match self.refused.clone().or_else(worst) {
            Some(why) => format!("{what}; {why}"),
            None => what.to_owned(),
        }
    }

    pub(super) fn tell(&self, events: &Recorder, step: &RolloutStep) {
        if !step.actions.is_empty() {
            events.normal(self.deployment.as_ref(), "RolloutStep", &step.note);
        }
        if step.phase == Phase::Stalled && self.stall_is_news() {
            events.warning(
                self.deployment.as_ref(),
                "ProgressDeadlineExceeded",
                self.because(&step.note),
            );
        }
    }

    /// Whether a stall is news: the condition does not say so yet.
    pub(super) fn stall_is_news(&self) -> bool {
        condition(&self.deployment.status.conditions, Deployment::PROGRESSING)
            .is_none_or(|progressing| progressing.status != ConditionStatus::False)
    }
}
