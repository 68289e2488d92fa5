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
        let count = |holds: &dyn Fn(&Replica) -> bool| {
            let found = self.replicas.iter().filter(|replica| holds(replica));
            u32::try_from(found.count()).unwrap_or(u32::MAX)
        };
        let counts = |replica: &Replica| replica.counts();
        let new = |replica: &Replica| replica.generation == self.target.generation;
        let available = |replica: &Replica| replica.available(min_ready, self.now);
        let mut status = self.deployment.status.clone();
        status.observed_generation = self.deployment.metadata.generation;
        status.replicas = count(&counts);
        status.updated_replicas = count(&|one| counts(one) && new(one));
        status.ready_replicas = count(&|one| counts(one) && one.ready());
        status.available_replicas = count(&|one| counts(one) && available(one));
        status.unavailable_replicas = wanted.saturating_sub(status.available_replicas);
        status.terminating_replicas = Some(count(&|one| one.terminating));

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
        let worst = || {
            let worst = self.worst.as_deref().and_then(unready::told);
            worst.or_else(|| self.lost.clone())
        };
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
