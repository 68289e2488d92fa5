//! Deployments: so many pods of one template, and the way from one template to the next.
//!
//! A deployment owns its pods directly; a `ControllerRevision` records each template, and the
//! rollout's memo beside the newest. Every step is one commit that depends on the deployment as it
//! was read and counts up in the newest revision, so that no step can land twice. Revisions also
//! tell when pods were last started: whoever has not seen those pods yet waits, for it would start
//! them again.

mod pass;
mod replicas;
mod started;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::kind::{ControllerRevision, Deployment, Pod};
use orchestra_core::meta::{ObjectKey, condition};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::rollout::{RolloutAction, RolloutStep};
use smol_str::{SmolStr, ToSmolStr};

use super::caches::{BY_OWNER, Caches};
use super::pace::Pace;
use crate::api::{ApiError, Client, ListParams};
use crate::control::{Outcome, PassError, Queue, Reconcile, enqueue_changed, enqueue_owners};
use crate::events::Recorder;
use crate::loops::unready;
use pass::{Change, Pass};
use replicas::{Look, Replicas};

/// The annotation of a revision that holds the memo of the rollout to it.
pub const MEMO_ANNOTATION: &str = "orchestra.dev/rollout";

/// The annotation of a revision that counts the steps made towards it.
pub const STEPS_ANNOTATION: &str = "orchestra.dev/rollout-steps";

/// Pods started and stopped in one commit, which holds the deployment and its revisions besides.
const PODS_PER_COMMIT_MAX: usize = 100;

/// The wait before pods that failed are replaced, from the second loss on; doubles up to
/// [`LOSS_REST_MAX`].
const LOSS_REST_BASE: Duration = Duration::from_secs(1);

/// The longest wait before pods that failed are replaced.
const LOSS_REST_MAX: Duration = Duration::from_secs(60);

/// Losses are forgotten after so long without another.
const LOSSES_FORGOTTEN: Duration = Duration::from_secs(600);

/// How long the cache of pods may take to show what was started before the store itself is asked.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// A deployment with so many pods is large.
const LARGE_PODS: usize = 500;

/// The least time from one pass over a large deployment to the next, for each of its pods.
const REST_PER_POD: Duration = Duration::from_micros(5);

/// The longest rest between two passes over a large deployment.
const REST_MAX: Duration = Duration::from_secs(1);

/// Brings deployments closer to what they ask for.
#[derive(Debug)]
pub struct DeploymentLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
    replicas: Replicas,
    /// The deployments whose pods came to a bad end of late.
    failing: Mutex<BTreeMap<ObjectKey, Losses>>,
    pace: Pace,
}

impl DeploymentLoop {
    /// A controller that reads from `caches` and writes through `client`. It follows the pods from here
    /// on; [`feed`](Self::feed) it after that.
    pub fn new(client: Client, caches: Caches, events: Recorder) -> Self {
        let replicas = Replicas::default();
        replicas.follow(&caches.pods);
        Self {
            client,
            caches,
            events,
            replicas,
            failing: Mutex::default(),
            pace: Pace::new(LARGE_PODS, REST_PER_POD, REST_MAX),
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
        let (deployments, adds) = (caches.deployments.downgrade(), queue.clone());
        caches.quotas.on_change(move |event| {
            let Some(deployments) = deployments.upgrade() else {
                return;
            };
            // There may be room now for those who found none.
            for deployment in deployments.in_namespace(&event.key.namespace) {
                let refused = &deployment.status.conditions;
                if condition(refused, Deployment::REPLICA_FAILURE).is_some() {
                    adds.add(deployment.metadata.key());
                }
            }
        });
    }
}

impl Reconcile for DeploymentLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        let Some(deployment) = self.caches.deployments.get(key) else {
            self.pace.forget(key);
            return Ok(Outcome::Settled);
        };
        if deployment.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Settled);
        }
        let now = self.client.now();
        if let Some(due) = self.pace.rests_until(key, now) {
            return Ok(Outcome::ReviewAt(due));
        }
        let uid = deployment.metadata.uid.to_smolstr();
        let revisions = self.caches.revisions.by_index(BY_OWNER, &uid);
        // In this order: the pods may be newer than that, but not older.
        let through = self.caches.pods.through();
        let look = self.replicas.of(deployment.metadata.uid);
        let started = started::last(&revisions);
        if through < started && !self.has_all(&deployment, &look, started).await? {
            return Ok(Outcome::ReviewAt(now));
        }
        self.pace.looks(key, look.replicas.len(), now);
        let failed = look.failed.clone();
        // The name of a revision may be taken by one that lost its owner.
        let name_taken = |name: SmolStr| {
            let name = ObjectKey::namespaced(key.namespace.clone(), name);
            self.caches.revisions.get(&name).is_some()
        };
        let mut pass = Pass::new(&deployment, look, &revisions, name_taken, now)?;
        let mut step = pass.step();
        if let Some((until, why)) = self.failing(key, failed.as_deref(), now) {
            pass.lost = Some(why);
            // Pods that fail as soon as they start must not be replaced as fast as they fail.
            step.actions
                .retain(|action| !matches!(action, RolloutAction::Start { .. }));
            step.wake_at = Some(step.wake_at.map_or(until, |at| at.min(until)));
        }
        pass.refused = self.within_quotas(&pass, &mut step)?;
        tracing::debug!(deployment = %key, phase = ?step.phase, note = %step.note, "rollout step");

        let more = self.carry_out(&pass, &step).await?;
        if more {
            self.pace.forget(key);
        }
        Ok(match step.wake_at {
            _ if more => Outcome::ReviewAt(now),
            Some(at) => Outcome::ReviewAt(at),
            None => Outcome::Settled,
        })
    }
}

impl DeploymentLoop {
    /// Whether `look` shows all pods that the deployment has, though the cache was not seen to come to
    /// `started`, the commit that made the last of them. Gives the cache some time to get there:
    /// if this is false, look again.
    ///
    /// The caches of pods and of revisions fill independently, and who sees the newest revision and
    /// not its pods would make them again.
    async fn has_all(
        &self,
        deployment: &Deployment,
        look: &Look,
        started: Revision,
    ) -> Result<bool, ApiError> {
        let seen = self.caches.pods.wait_through(started);
        if tokio::time::timeout(BEHIND_MAX, seen).await.is_ok() {
            return Ok(false);
        }
        // Somebody may have written the revision after that and no pods: then there is nothing to
        // wait for.
        let meta = &deployment.metadata;
        let all = ListParams::namespace(meta.namespace.clone());
        let all = self.client.api::<Pod>().list(all).await?;
        let known: BTreeSet<_> = look.replicas.iter().map(|replica| replica.pod).collect();
        let mut owned = all.items.iter().filter(|pod| {
            let owner = pod.metadata.controller();
            owner.is_some_and(|owner| owner.uid == meta.uid)
        });
        Ok(owned.all(|pod| known.contains(&pod.metadata.uid)))
    }

    /// Until when no pod is started because others came to a bad end of late, `failed` among them, and
    /// why the last of them did; `None` if pods may be started. The first loss is replaced at once.
    fn failing(
        &self,
        key: &ObjectKey,
        failed: Option<&Pod>,
        now: Timestamp,
    ) -> Option<(Timestamp, String)> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = failed {
            let losses = failing.entry(key.clone()).or_insert(Losses {
                count: 0,
                last: now,
                why: String::new(),
            });
            let why = unready::why(failed).unwrap_or_default();
            losses.why = format!("pod {} {why}", failed.metadata.name);
            if now.since(losses.last) > LOSSES_FORGOTTEN {
                losses.count = 0;
            }
            losses.count = losses.count.saturating_add(1);
            losses.last = now;
        }
        let losses = failing.get(key)?;
        let (until, why) = (losses.last + losses.rest(), losses.why.clone());
        if now.since(losses.last) > LOSSES_FORGOTTEN {
            failing.remove(key);
        }
        (until > now).then_some((until, why))
    }

    /// Starts no more pods than the quotas of the namespace admit; says what they refuse, if they
    /// refuse any.
    fn within_quotas(
        &self,
        pass: &Pass<'_>,
        step: &mut RolloutStep,
    ) -> Result<Option<String>, ApiError> {
        let namespace = &pass.deployment.metadata.namespace;
        let mut quotas = self.caches.quotas.in_namespace(namespace);
        if quotas.is_empty() {
            return Ok(None);
        }
        for quota in quotas.iter_mut().filter(|quota| !quota.is_current()) {
            // It was not counted yet; admission counts by itself as well.
            let pods = self.caches.pods.in_namespace(namespace);
            let used = quota.usage(pods.iter().map(AsRef::as_ref));
            Arc::make_mut(quota).status.used = used;
        }
        let mut refused = None;
        for action in &mut step.actions {
            let RolloutAction::Start { generation, count } = action else {
                continue;
            };
            let pod = pass.template(*generation)?.to_pod();
            for quota in &quotas {
                // The most that it admits: fewer always fit where more do.
                let (mut admitted, mut too_many) = (0, count.saturating_add(1));
                while too_many - admitted > 1 {
                    let some = admitted + (too_many - admitted) / 2;
                    match quota.admit(&pod, some) {
                        Ok(_) => admitted = some,
                        Err(error) => {
                            refused = Some(error.to_string());
                            too_many = some;
                        }
                    }
                }
                *count = admitted;
            }
            for quota in &mut quotas {
                if let Ok(used) = quota.admit(&pod, *count) {
                    Arc::make_mut(quota).status.used = used;
                }
            }
        }
        Ok(refused)
    }

    /// Commits a step, a part of it at a time. Each part depends on the deployment as it was read
    /// and counts up in the newest revision, on which the next one depends; the last one brings
    /// the memo and the status. Returns whether there is more to do at once.
    async fn carry_out(&self, pass: &Pass<'_>, step: &RolloutStep) -> Result<bool, ApiError> {
        let (changes, more) = pass.changes(step, &self.replicas)?;
        let mut wrote = Wrote::default();
        let sent = self
            .send_parts(pass, step, &changes, more, &mut wrote)
            .await;
        // The next pass must see what this one did, even if it went only half the way.
        self.see(&wrote).await;
        sent?;
        pass.tell(&self.events, step);
        Ok(more)
    }

    async fn send_parts(
        &self,
        pass: &Pass<'_>,
        step: &RolloutStep,
        changes: &[Change],
        more: bool,
        wrote: &mut Wrote,
    ) -> Result<(), ApiError> {
        let mut parts: Vec<&[Change]> = changes.chunks(PODS_PER_COMMIT_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let mut drawn = BTreeSet::new();
        let taken = |name: &ObjectKey| self.caches.pods.get(name).is_some();
        let mut revision = pass.target.stored.cloned();
        for (n, part) in parts.iter().enumerate() {
            let last = n + 1 == parts.len();
            // A step that was cut short is computed anew: its memo does not hold yet.
            let memo = if last && !more {
                &step.memo
            } else {
                &pass.memo
            };
            let mut commit = self.client.commit();
            let next = pass.next_target(revision.as_ref(), memo, part)?;
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
                        commit.create(pass.pod(&self.client, template, hash, &mut drawn, taken))
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
            wrote.pods = if part.is_empty() { wrote.pods } else { at };
            wrote.revisions = if wrote_revisions { at } else { wrote.revisions };
            wrote.deployment = if wrote_deployment {
                at
            } else {
                wrote.deployment
            };
        }
        Ok(())
    }

    /// Waits until the caches show what landed. A commit shows only in the caches of the kinds that
    /// it wrote.
    async fn see(&self, wrote: &Wrote) {
        if let Some(landed) = wrote.revisions {
            self.caches.revisions.wait_through(landed).await;
        }
        if let Some(landed) = wrote.pods {
            self.caches.pods.wait_through(landed).await;
        }
        if let Some(landed) = wrote.deployment {
            self.caches.deployments.wait_through(landed).await;
        }
    }
}

/// What a step wrote, by the last commit of each kind.
#[derive(Debug, Default)]
struct Wrote {
    pods: Option<Revision>,
    revisions: Option<Revision>,
    deployment: Option<Revision>,
}

/// How often pods of a deployment came to a bad end of late, and when they last did.
#[derive(Debug)]
struct Losses {
    count: u32,
    last: Timestamp,
    /// Why the last of them was lost.
    why: String,
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
