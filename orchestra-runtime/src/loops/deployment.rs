//! Deployments: so many pods of one template, and the way from one template to the next.
//!
//! A deployment owns its pods directly; a `ControllerRevision` records each template, and the
//! rollout's memo beside the newest. Every step is one commit that depends on the deployment as it
//! was read and counts up in the newest revision, so that no step can land twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::int_or::IntOrPercent;
use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{
    ControllerRevision, Deployment, DeploymentStatus, FieldError, Pod, PodTemplateSpec, Resource,
    StrategyType,
};
use orchestra_core::meta::{
    Condition, ConditionStatus, ObjectKey, ObjectMeta, Uid, condition, set_condition,
};
use orchestra_core::time::Timestamp;
use orchestra_sched::health::nodes::add_default_tolerations;
use orchestra_sched::rollout::arithmetic::{OldRevision, Pace, forgettable};
use orchestra_sched::rollout::guard::{Budget, guarded};
use orchestra_sched::rollout::{
    Generation, Memo, Phase, Recreate, Replica, RollingUpdate, RolloutAction, RolloutStep,
    RolloutStrategy, RolloutView,
};
use smol_str::{SmolStr, ToSmolStr};

use super::caches::{BY_OWNER, Caches};
use crate::api::{ApiError, Client};
use crate::control::{Outcome, PassError, Queue, Reconcile, enqueue_changed, enqueue_owners};
use crate::events::Recorder;

/// The label that says which template a pod or a revision is of.
pub const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// The annotation of a revision that holds the memo of the rollout to it.
pub const MEMO_ANNOTATION: &str = "orchestra.dev/rollout";

/// The annotation of a revision that counts the steps made towards it.
pub const STEPS_ANNOTATION: &str = "orchestra.dev/rollout-steps";

/// The annotation by which a pod tells what its loss would cost.
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Pods started and stopped in one commit, which holds the deployment and its revisions besides.
const PODS_PER_COMMIT_MAX: usize = 100;

/// Pods started and stopped in one pass; what is left comes in the next.
const PODS_PER_PASS_MAX: usize = 5_000;

/// The wait before pods that failed are replaced, from the second loss on; doubles up to
/// [`LOSS_REST_MAX`].
const LOSS_REST_BASE: Duration = Duration::from_secs(1);

/// The longest wait before pods that failed are replaced.
const LOSS_REST_MAX: Duration = Duration::from_secs(60);

/// Losses are forgotten after so long without another.
const LOSSES_FORGOTTEN: Duration = Duration::from_secs(600);

/// A deployment with so many pods is large.
const LARGE_PODS: usize = 500;

/// The least time from one pass over a large deployment to the next, for each of its pods.
const REST_PER_POD: Duration = Duration::from_micros(2);

/// Old revisions forgotten in one commit.
const FORGOTTEN_PER_STEP_MAX: usize = 10;

/// How many bytes of a pod's name are its deployment's. The hash and a suffix follow.
const NAME_PREFIX_BYTES_MAX: usize = 230;

/// Brings deployments closer to what they ask for.
#[derive(Debug)]
pub struct DeploymentLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
    /// The deployments whose pods came to a bad end of late.
    failing: Mutex<BTreeMap<ObjectKey, Losses>>,
    /// When each large deployment was last looked at.
    looked: Mutex<BTreeMap<ObjectKey, Timestamp>>,
}

impl DeploymentLoop {
    /// A controller that reads from `caches` and writes through `client`.
    pub fn new(client: Client, caches: Caches, events: Recorder) -> Self {
        Self {
            client,
            caches,
            events,
            failing: Mutex::default(),
            looked: Mutex::default(),
        }
    }
}

impl DeploymentLoop {
    /// Adds to `queue` every deployment that a change of a deployment, a revision or a pod
    /// concerns.
    pub fn feed(caches: &Caches, queue: &Queue<ObjectKey>) {
        enqueue_changed(&caches.deployments, queue);
        enqueue_owners::<_, Deployment>(&caches.revisions, queue);
        enqueue_owners::<_, Deployment>(&caches.pods, queue);
    }
}

impl Reconcile for DeploymentLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        let Some(deployment) = self.caches.deployments.get(key) else {
            return Ok(Outcome::Settled);
        };
        if deployment.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Settled);
        }
        let now = self.client.now();
        let uid = deployment.metadata.uid.to_smolstr();
        let pods = self.caches.pods.by_index(BY_OWNER, &uid);
        if let Some(due) = self.rest(key, pods.len(), now) {
            return Ok(Outcome::ReviewAt(due));
        }
        let revisions = self.caches.revisions.by_index(BY_OWNER, &uid);
        // The name of a revision may be taken by one that lost its owner.
        let name_taken = |name: SmolStr| {
            let name = ObjectKey::namespaced(key.namespace.clone(), name);
            self.caches.revisions.get(&name).is_some()
        };
        let pass = Pass::new(&deployment, &pods, &revisions, name_taken, now)?;
        let mut step = pass.step();
        if let Some(until) = self.failing(key, &pods, now) {
            // Pods that fail as soon as they start must not be replaced as fast as they fail.
            step.actions
                .retain(|action| !matches!(action, RolloutAction::Start { .. }));
            step.wake_at = Some(step.wake_at.map_or(until, |at| at.min(until)));
        }
        tracing::debug!(deployment = %key, phase = ?step.phase, note = %step.note, "rollout step");

        let more = self.carry_out(&pass, &step).await?;
        Ok(match step.wake_at {
            _ if more => Outcome::ReviewAt(now),
            Some(at) => Outcome::ReviewAt(at),
            None => Outcome::Settled,
        })
    }
}

impl DeploymentLoop {
    /// Until when no pod is started because others came to a bad end of late; `None` if pods may
    /// be started. The first loss is replaced at once.
    fn failing(&self, key: &ObjectKey, pods: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = pods
            .iter()
            .any(|pod| pod.status.phase == PodPhase::Failed && !pod.is_terminating());
        if failed {
            let losses = failing.entry(key.clone()).or_insert(Losses {
                count: 0,
                last: now,
            });
            if now.since(losses.last) > LOSSES_FORGOTTEN {
                losses.count = 0;
            }
            losses.count = losses.count.saturating_add(1);
            losses.last = now;
        }
        let losses = failing.get(key)?;
        let until = losses.last + losses.rest();
        if now.since(losses.last) > LOSSES_FORGOTTEN {
            failing.remove(key);
        }
        (until > now).then_some(until)
    }

    /// A large deployment is not looked at again for every pod that changes, but once in a while
    /// that grows with its size: when its next pass may be, if that is still ahead.
    fn rest(&self, key: &ObjectKey, pods: usize, now: Timestamp) -> Option<Timestamp> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if pods < LARGE_PODS {
            looked.remove(key);
            return None;
        }
        let pods = u32::try_from(pods).unwrap_or(u32::MAX);
        let due = looked
            .get(key)
            .map(|at| *at + REST_PER_POD.saturating_mul(pods));
        if let Some(due) = due.filter(|due| *due > now) {
            return Some(due);
        }
        looked.insert(key.clone(), now);
        None
    }

    /// Commits a step, a part of it at a time. Each part depends on the deployment as it was read
    /// and counts up in the newest revision, on which the next one depends; the last one brings
    /// the memo and the status. Returns whether there is more to do at once.
    async fn carry_out(&self, pass: &Pass<'_>, step: &RolloutStep) -> Result<bool, ApiError> {
        let (changes, more) = pass.changes(step)?;
        let mut parts: Vec<&[Change]> = changes.chunks(PODS_PER_COMMIT_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        // Among very many pods two random suffixes meet now and then.
        let mut names: BTreeSet<SmolStr> = match changes.first() {
            Some(_) => pass
                .pods
                .iter()
                .map(|pod| pod.metadata.name.clone())
                .collect(),
            None => BTreeSet::new(),
        };
        let mut revision = pass.target.stored.cloned();
        let (mut in_pods, mut in_revisions, mut in_deployment) = (None, None, None);
        for (n, part) in parts.iter().enumerate() {
            let last = n + 1 == parts.len();
            // A step that was cut short is computed anew: its memo does not hold yet.
            let memo = if last && !more {
                &step.memo
            } else {
                &pass.memo
            };
            let mut commit = self.client.commit();
            let next = pass.next_target(revision.as_ref(), memo, !part.is_empty())?;
            let fenced = next.is_some();
            let mut wrote_revisions = fenced;
            if let Some(next) = next {
                commit = match revision {
                    Some(_) => commit.replace(next),
                    None => commit.create(next),
                };
            }
            for change in *part {
                commit = match change {
                    Change::Start(template, hash) => {
                        commit.create(pass.pod(&self.client, template, hash, &mut names))
                    }
                    Change::Stop(pod) => commit.delete(pod.as_ref()),
                };
            }
            // Even where the status stays, the commit depends on the deployment as it was read.
            let mut deployment = Deployment::clone(pass.deployment);
            if last {
                deployment.status = pass.status(step);
                for old in pass.forgotten() {
                    commit = commit.delete(old.as_ref());
                    wrote_revisions = true;
                }
            }
            let wrote_deployment = deployment.status != pass.deployment.status;
            commit = commit.replace_status(deployment);
            if part.is_empty() && !wrote_revisions && !wrote_deployment {
                break;
            }
            let landed = commit.send_all().await?;
            if fenced {
                revision = landed
                    .object::<ControllerRevision>(0)
                    .map(Arc::unwrap_or_clone);
            }
            let at = Some(landed.revision);
            in_pods = if part.is_empty() { in_pods } else { at };
            in_revisions = if wrote_revisions { at } else { in_revisions };
            in_deployment = if wrote_deployment { at } else { in_deployment };
        }
        // The next pass must see what this one did. A commit shows only in the caches of the
        // kinds that it wrote.
        if let Some(landed) = in_revisions {
            self.caches.revisions.wait_through(landed).await;
        }
        if let Some(landed) = in_pods {
            self.caches.pods.wait_through(landed).await;
        }
        if let Some(landed) = in_deployment {
            self.caches.deployments.wait_through(landed).await;
        }
        pass.tell(&self.events, step);
        Ok(more)
    }
}

/// How often pods of a deployment came to a bad end of late, and when they last did.
#[derive(Debug)]
struct Losses {
    count: u32,
    last: Timestamp,
}

impl Losses {
    fn rest(&self) -> Duration {
        match self.count {
            0 | 1 => Duration::ZERO,
            n => LOSS_REST_BASE
                .saturating_mul(1 << (n - 2).min(16))
                .min(LOSS_REST_MAX),
        }
    }
}

/// One change of one pod.
enum Change {
    Start(Arc<PodTemplateSpec>, SmolStr),
    Stop(Arc<Pod>),
}

/// One look at a deployment.
struct Pass<'a> {
    deployment: &'a Arc<Deployment>,
    pods: &'a [Arc<Pod>],
    revisions: &'a [Arc<ControllerRevision>],
    /// The hash of each revision, and its number as this pass leaves it.
    generations: BTreeMap<SmolStr, Generation>,
    target: Target<'a>,
    replicas: Vec<Replica>,
    memo: Memo,
    now: Timestamp,
}

/// The revision to go to.
struct Target<'a> {
    hash: SmolStr,
    generation: Generation,
    /// `None` if it has to be made.
    stored: Option<&'a ControllerRevision>,
}

impl<'a> Pass<'a> {
    fn new(
        deployment: &'a Arc<Deployment>,
        pods: &'a [Arc<Pod>],
        revisions: &'a [Arc<ControllerRevision>],
        name_taken: impl Fn(SmolStr) -> bool,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let template = serde_json::to_value(&deployment.spec.template).map_err(|error| {
            invalid(
                deployment,
                "spec.template",
                &error.to_string(),
                "write a template of plain JSON",
            )
        })?;
        let newest = revisions
            .iter()
            .map(|revision| revision.revision)
            .max()
            .unwrap_or(0);
        let stored = revisions.iter().find(|revision| revision.data == template);
        let target = match stored {
            Some(stored) => Target {
                hash: hash_of(&stored.metadata),
                // Going back makes an old template the newest again.
                generation: number(if stored.revision < newest {
                    newest.saturating_add(1)
                } else {
                    newest
                }),
                stored: Some(stored),
            },
            None => Target {
                hash: free_hash(&template, |hash| {
                    name_taken(revision_name(&deployment.metadata.name, hash))
                        || revisions.iter().any(|old| hash_of(&old.metadata) == *hash)
                }),
                generation: number(newest.saturating_add(1)),
                stored: None,
            },
        };
        let mut generations: BTreeMap<SmolStr, Generation> = revisions
            .iter()
            .map(|revision| (hash_of(&revision.metadata), number(revision.revision)))
            .collect();
        generations.insert(target.hash.clone(), target.generation);
        // The memo is with the newest revision: the target once there was a step towards it.
        let memo = revisions
            .iter()
            .max_by_key(|revision| revision.revision)
            .and_then(|revision| revision.metadata.annotations.get(MEMO_ANNOTATION))
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let replicas = pods.iter().map(|pod| replica(pod, &generations)).collect();
        Ok(Self {
            deployment,
            pods,
            revisions,
            generations,
            target,
            replicas,
            memo,
            now,
        })
    }

    fn step(&self) -> RolloutStep {
        let spec = &self.deployment.spec;
        let wanted = spec.replicas.unwrap_or(1);
        let pace = pace(self.deployment);
        let rolling;
        let strategy: &dyn RolloutStrategy = match pace {
            Pace::Recreate => &Recreate,
            Pace::Rolling {
                max_surge,
                max_unavailable,
                partition,
            } => {
                rolling = RollingUpdate {
                    max_surge,
                    max_unavailable,
                    partition,
                };
                &rolling
            }
        };
        let view = RolloutView {
            target: self.target.generation,
            wanted,
            replicas: &self.replicas,
            memo: &self.memo,
            now: self.now,
            min_ready: Duration::from_secs(spec.min_ready_seconds.into()),
            deadline: spec
                .progress_deadline_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            paused: spec.paused,
        };
        guarded(strategy, view, Budget::of(pace, wanted))
    }

    /// The step pod by pod, and whether it was cut short.
    fn changes(&self, step: &RolloutStep) -> Result<(Vec<Change>, bool), ApiError> {
        let by_uid: BTreeMap<Uid, &Arc<Pod>> = self
            .pods
            .iter()
            .map(|pod| (pod.metadata.uid, pod))
            .collect();
        let mut changes = Vec::new();
        for action in &step.actions {
            let left = PODS_PER_PASS_MAX - changes.len();
            match action {
                RolloutAction::Start { generation, count } => {
                    let template = Arc::new(self.template(*generation)?);
                    let hash = self.hash(*generation);
                    let count = usize::try_from(*count).unwrap_or(usize::MAX).min(left);
                    changes
                        .extend((0..count).map(|_| Change::Start(template.clone(), hash.clone())));
                }
                RolloutAction::Stop(uid) if left > 0 => {
                    changes.extend(by_uid.get(uid).map(|pod| Change::Stop(Arc::clone(pod))));
                }
                // Sharing traffic between revisions takes routes that know of revisions.
                _ => {}
            }
        }
        let more = changes.len() == PODS_PER_PASS_MAX;
        Ok((changes, more))
    }

    /// The newest revision, which is `stored` now if it is, as the next commit leaves it; `None`
    /// if it stays as it is.
    fn next_target(
        &self,
        stored: Option<&ControllerRevision>,
        memo: &Memo,
        acted: bool,
    ) -> Result<Option<ControllerRevision>, ApiError> {
        let text: SmolStr = serde_json::to_string(memo)
            .map_err(|error| {
                invalid(
                    self.deployment,
                    "status",
                    &error.to_string(),
                    "report this as a fault",
                )
            })?
            .into();
        let mut revision = match stored {
            Some(stored) => stored.clone(),
            None => self.new_revision()?,
        };
        let annotations = &mut revision.metadata.annotations;
        let steps: u64 = annotations
            .get(STEPS_ANNOTATION)
            .and_then(|steps| steps.parse().ok())
            .unwrap_or(0);
        let number = i64::try_from(self.target.generation.0).unwrap_or(i64::MAX);
        let unchanged = !acted
            && stored.is_some()
            && annotations.get(MEMO_ANNOTATION) == Some(&text)
            && revision.revision == number;
        if unchanged {
            return Ok(None);
        }
        annotations.insert(MEMO_ANNOTATION.into(), text);
        annotations.insert(STEPS_ANNOTATION.into(), (steps + 1).to_smolstr());
        revision.revision = number;
        Ok(Some(revision))
    }

    fn new_revision(&self) -> Result<ControllerRevision, ApiError> {
        let data = serde_json::to_value(&self.deployment.spec.template).map_err(|error| {
            let remedy = "write a template of plain JSON";
            invalid(self.deployment, "spec.template", &error.to_string(), remedy)
        })?;
        let meta = &self.deployment.metadata;
        let mut metadata = ObjectMeta::named(revision_name(&meta.name, &self.target.hash));
        metadata.namespace = meta.namespace.clone();
        metadata.labels = self.deployment.spec.template.metadata.labels.clone();
        metadata
            .labels
            .insert(TEMPLATE_HASH_LABEL.into(), self.target.hash.clone());
        metadata.owner_references = vec![self.deployment.owner_reference()];
        Ok(ControllerRevision {
            metadata,
            data,
            ..ControllerRevision::default()
        })
    }

    fn template(&self, generation: Generation) -> Result<PodTemplateSpec, ApiError> {
        if generation == self.target.generation {
            return Ok(self.deployment.spec.template.clone());
        }
        let found = self
            .revisions
            .iter()
            .find(|revision| number(revision.revision) == generation);
        let data = found
            .map(|revision| revision.data.clone())
            .unwrap_or_default();
        serde_json::from_value(data).map_err(|error| {
            let path = format!("revision {generation}");
            invalid(
                self.deployment,
                &path,
                &error.to_string(),
                "delete that revision",
            )
        })
    }

    fn hash(&self, generation: Generation) -> SmolStr {
        let found = self
            .generations
            .iter()
            .find(|(_, number)| **number == generation);
        found.map(|(hash, _)| hash.clone()).unwrap_or_default()
    }

    /// A pod of that template, under a name that is not among `names`, and then is.
    fn pod(
        &self,
        client: &Client,
        template: &PodTemplateSpec,
        hash: &SmolStr,
        names: &mut BTreeSet<SmolStr>,
    ) -> Pod {
        let meta = &self.deployment.metadata;
        let mut pod = template.to_pod();
        let base = format!("{}-{hash}-", prefix(&meta.name));
        pod.metadata.name = client.ids().name(&base);
        while !names.insert(pod.metadata.name.clone()) {
            pod.metadata.name = client.ids().name(&base);
        }
        pod.metadata.namespace = meta.namespace.clone();
        pod.metadata
            .labels
            .insert(TEMPLATE_HASH_LABEL.into(), hash.clone());
        pod.metadata.owner_references = vec![self.deployment.owner_reference()];
        add_default_tolerations(&mut pod.spec.tolerations);
        pod
    }

    /// Old revisions that nothing needs any more.
    fn forgotten(&self) -> Vec<&Arc<ControllerRevision>> {
        let mut old: Vec<_> = self
            .revisions
            .iter()
            .filter(|revision| hash_of(&revision.metadata) != self.target.hash)
            .collect();
        old.sort_by_key(|revision| revision.revision);
        let states: Vec<OldRevision> = old
            .iter()
            .map(|revision| {
                let hash = hash_of(&revision.metadata);
                let pods = self
                    .pods
                    .iter()
                    .filter(|pod| hash_of(&pod.metadata) == hash)
                    .count();
                let generation = number(revision.revision);
                OldRevision {
                    wanted: self.memo.sizes.get(&generation).copied().unwrap_or(0),
                    current: u32::try_from(pods).unwrap_or(u32::MAX),
                    deleting: revision.metadata.deletion_timestamp.is_some(),
                }
            })
            .collect();
        forgettable(&states, self.deployment.spec.revision_history_limit)
            .into_iter()
            .take(FORGOTTEN_PER_STEP_MAX)
            .filter_map(|at| old.get(at).copied())
            .collect()
    }

    fn status(&self, step: &RolloutStep) -> DeploymentStatus {
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
            ("MinimumReplicasAvailable", "enough pods are available")
        } else {
            ("MinimumReplicasUnavailable", "too few pods are available")
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
        let holds = ConditionStatus::from(enough);
        set(&mut status, Deployment::AVAILABLE, holds, reason, message);
        let (holds, reason) = match step.phase {
            _ if spec.paused => (ConditionStatus::Unknown, "DeploymentPaused"),
            Phase::Done => (ConditionStatus::True, "NewReplicaSetAvailable"),
            Phase::Stalled => (ConditionStatus::False, "ProgressDeadlineExceeded"),
            _ => (ConditionStatus::True, "ReplicaSetUpdated"),
        };
        set(
            &mut status,
            Deployment::PROGRESSING,
            holds,
            reason,
            &step.note,
        );
        status
    }

    fn tell(&self, events: &Recorder, step: &RolloutStep) {
        if !step.actions.is_empty() {
            events.normal(self.deployment.as_ref(), "RolloutStep", &step.note);
        }
        if step.phase == Phase::Stalled && self.stall_is_news() {
            events.warning(
                self.deployment.as_ref(),
                "ProgressDeadlineExceeded",
                &step.note,
            );
        }
    }

    /// Whether a stall is news: the condition does not say so yet.
    fn stall_is_news(&self) -> bool {
        condition(&self.deployment.status.conditions, Deployment::PROGRESSING)
            .is_none_or(|progressing| progressing.status != ConditionStatus::False)
    }
}

fn pace(deployment: &Deployment) -> Pace {
    let strategy = &deployment.spec.strategy;
    match strategy.kind {
        StrategyType::Recreate => Pace::Recreate,
        StrategyType::RollingUpdate => {
            let bounds = strategy.rolling_update.clone().unwrap_or_default();
            let quarter = IntOrPercent::Percent(25);
            Pace::rolling(
                bounds.max_surge.unwrap_or(quarter),
                bounds.max_unavailable.unwrap_or(quarter),
            )
        }
    }
}

fn replica(pod: &Pod, generations: &BTreeMap<SmolStr, Generation>) -> Replica {
    let meta = &pod.metadata;
    let cost = meta.annotations.get(DELETION_COST_ANNOTATION);
    let statuses = pod.status.container_statuses.iter();
    Replica {
        pod: meta.uid,
        name: meta.name.clone(),
        generation: generations.get(&hash_of(meta)).copied().unwrap_or_default(),
        node: pod.spec.node_name.clone(),
        running: pod.status.phase == orchestra_core::kind::pod::PodPhase::Running,
        ready_since: pod.available_since(0),
        terminating: pod.is_terminating(),
        ended: pod.is_terminal(),
        created: meta.creation_timestamp.unwrap_or(Timestamp::EPOCH),
        restarts: statuses
            .map(|status| status.restart_count)
            .fold(0, u32::saturating_add),
        deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
    }
}

fn number(revision: i64) -> Generation {
    Generation(u64::try_from(revision).unwrap_or(0))
}

fn hash_of(meta: &ObjectMeta) -> SmolStr {
    meta.labels
        .get(TEMPLATE_HASH_LABEL)
        .cloned()
        .unwrap_or_default()
}

fn revision_name(deployment: &str, hash: &str) -> SmolStr {
    format!("{}-{hash}", prefix(deployment)).into()
}

/// A hash of the template that no other revision has.
fn free_hash(template: &serde_json::Value, taken: impl Fn(&SmolStr) -> bool) -> SmolStr {
    let text = template.to_string();
    (0_u64..)
        .map(|salt| {
            // FNV-1a, in letters and digits that make no words.
            let start = 0xcbf2_9ce4_8422_2325 ^ salt;
            let mut hash = text.bytes().fold(start, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let letters = b"bcdfghjklmnpqrstvwxz2456789";
            (0..10)
                .map(|_| {
                    let letter = letters[usize::try_from(hash % 27).unwrap_or(0)];
                    hash /= 27;
                    char::from(letter)
                })
                .collect::<SmolStr>()
        })
        .find(|hash| !taken(hash))
        .unwrap_or_default()
}

fn prefix(name: &str) -> &str {
    let mut end = name.len().min(NAME_PREFIX_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.'])
}

fn invalid(deployment: &Deployment, path: &str, problem: &str, remedy: &str) -> ApiError {
    let subject = format!("deployments {}", deployment.key());
    ApiError::invalid(
        "reconcile",
        subject,
        FieldError::new(path, "", problem, remedy),
    )
}
