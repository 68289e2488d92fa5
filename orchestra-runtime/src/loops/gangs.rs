//! Gangs that are given their nodes in several commits: nothing of them starts before enough are bound.
//!
//! The placement loop binds what it cannot bind at once with a [gate](gang::gate), which agents heed. This
//! loop opens the gates, or takes the pods off their nodes again: for all schedulers, and for what one
//! left behind that crashed. What is to be done is decided by [`gate`](orchestra_sched::place::gate). Each
//! write depends on the pod as it was seen, so that one that was let start never loses its node, and one
//! that lost it never starts there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::kind::{Node, Pod, accelerator, gang};
use orchestra_core::meta::{Condition, ConditionStatus, ObjectKey, condition, set_condition};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::place::gate::{GivesBack, Standing};
use smol_str::{SmolStr, ToSmolStr};

use super::caches::{BY_GANG, Caches, gang_of};
use crate::api::{ApiError, Client};
use crate::control::{Outcome, PassError, Queue, Reconcile};
use crate::events::Recorder;

/// Why a pod has no node that had one and gave it back together with its gang.
const GAVE_BACK: &str = "GangGaveBack";

/// Lets gangs start, or give back their nodes.
#[derive(Debug)]
pub struct GangsLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
    pods_per_commit_max: usize,
    waiting: Arc<Mutex<Waiting>>,
}

/// The gangs of which some wait on nodes: which, and where.
type Waiting = BTreeMap<ObjectKey, BTreeMap<ObjectKey, SmolStr>>;

impl GangsLoop {
    /// A controller that writes so many pods at most in one commit. Register it with
    /// [`feed`](Self::feed) before the caches run.
    pub fn new(
        client: Client,
        caches: Caches,
        events: Recorder,
        pods_per_commit_max: usize,
    ) -> Self {
        Self {
            client,
            caches,
            events,
            pods_per_commit_max: pods_per_commit_max.max(1),
            waiting: Arc::default(),
        }
    }

    /// Adds to `queue` every gang of which some wait and that a change may concern. The caches must not
    /// run yet: who waits is followed change by change.
    pub fn feed(&self, queue: &Queue<ObjectKey>) {
        let (waiting, adds) = (self.waiting.clone(), queue.clone());
        self.caches.pods.on_change(move |event| {
            let (old, new) = (event.old.as_deref(), event.new.as_deref());
            let gangs = (old.and_then(gang_of), new.and_then(gang_of));
            if gangs == (None, None) {
                return;
            }
            let mut waiting = lock(&waiting);
            let moved = gangs.0 != gangs.1;
            let gated = new.filter(|pod| gang::gate(pod).is_some());
            if let (Some(pod), Some(gang)) = (gated, &gangs.1) {
                if !waiting.contains_key(gang) {
                    // Who was the first to wait may be no more.
                    waiting.keys().for_each(|other| adds.add(other.clone()));
                }
                let members = waiting.entry(gang.clone()).or_default();
                members.insert(event.key.clone(), pod.spec.node_name.clone());
            }
            for (gang, is_left) in [
                (gangs.0, moved || gated.is_none()),
                (gangs.1, gated.is_none()),
            ] {
                let Some(gang) = gang else { continue };
                let Some(members) = waiting.get_mut(&gang) else {
                    continue;
                };
                if is_left {
                    members.remove(&event.key);
                    if members.is_empty() {
                        waiting.remove(&gang);
                    }
                }
                adds.add(gang);
            }
        });
        let (waiting, adds) = (self.waiting.clone(), queue.clone());
        self.caches.nodes.on_change(move |event| {
            let well = |node: &Option<Arc<Node>>| node.as_ref().is_some_and(|node| node.is_ready());
            if well(&event.old) == well(&event.new) {
                return;
            }
            for (gang, members) in lock(&waiting).iter() {
                if members.values().any(|node| *node == event.key.name) {
                    adds.add(gang.clone());
                }
            }
        });
    }

    fn members(&self, gang: &ObjectKey) -> (Vec<Arc<Pod>>, Standing) {
        let pods = self.caches.pods.by_index(BY_GANG, &gang.to_smolstr());
        let is_well = |node: &str| {
            let node = self.caches.nodes.get(&ObjectKey::cluster(node));
            node.is_some_and(|node| node.is_ready())
        };
        let standing = Standing::of(gang.clone(), &pods, is_well);
        (pods, standing)
    }

    /// Whether no gang that comes before waits without being whole.
    fn is_first(&self, standing: &Standing) -> bool {
        let others: Vec<ObjectKey> = lock(&self.waiting).keys().cloned().collect();
        !others.iter().any(|other| {
            let (_, other) = self.members(other);
            other.waits() && !other.is_whole() && other.rank < standing.rank
        })
    }

    /// Writes each of `pods` as `change` makes it. Returns the last commit.
    async fn write<'a>(
        &self,
        pods: impl IntoIterator<Item = &'a Arc<Pod>>,
        change: impl Fn(&mut Pod),
    ) -> Result<Revision, ApiError> {
        let pods: Vec<&Arc<Pod>> = pods.into_iter().collect();
        let mut landed = Revision(0);
        for some in pods.chunks(self.pods_per_commit_max) {
            let mut commit = self.client.commit();
            for pod in some {
                let mut changed = Pod::clone(pod);
                change(&mut changed);
                commit = commit.replace_whole(changed);
            }
            landed = landed.max(commit.send().await?);
        }
        Ok(landed)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconcile for GangsLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "gangs"
    }

    async fn reconcile(&self, gang: &ObjectKey) -> Result<Outcome, PassError> {
        let (pods, standing) = self.members(gang);
        if !standing.waits() {
            return Ok(Outcome::Settled);
        }
        let now = self.client.now();
        let step = standing.step(self.is_first(&standing), now);

        let open = step.open.iter().map(|at| &pods[*at]);
        let started = step.started.unwrap_or(now);
        let opened = self.write(open, |pod| close(pod, ConditionStatus::True, "", started));
        let mut landed = opened.await?;
        for why in [GivesBack::NodeLost, GivesBack::TooLate, GivesBack::Yields] {
            let some = step.give_back.iter().filter(|(_, its)| *its == why);
            let some: Vec<&Arc<Pod>> = some.map(|(at, _)| &pods[*at]).collect();
            let Some(first) = some.first().copied() else {
                continue;
            };
            let count = some.len();
            let given = self.write(some, |pod| unbind(pod, why, now)).await?;
            landed = landed.max(given);
            let told = format!("gang {}: {why} ({count} pods)", gang.name);
            self.events.warning(first.as_ref(), GAVE_BACK, &told);
        }
        if step.tell {
            let told = standing.told(0);
            let news = pods.iter().filter(|pod| {
                let gate = gang::gate(pod).filter(|_| !pod.is_terminating());
                gate.is_some_and(|gate| gate.message != told)
            });
            let write = self.write(news, |pod| close(pod, ConditionStatus::False, &told, now));
            landed = landed.max(write.await?);
        }
        if landed > Revision(0) {
            self.caches.pods.wait_through(landed).await;
        }
        Ok(step.next.into())
    }
}

/// Has the containers of a pod wait for its gang, as `told`, or lets them start.
pub(super) fn close(pod: &mut Pod, bound: ConditionStatus, told: &str, now: Timestamp) {
    let reason = match bound {
        ConditionStatus::True => "GangIsWhole",
        _ => "WaitsForGang",
    };
    let bound = Condition {
        kind: gang::BOUND.into(),
        status: bound,
        reason: reason.into(),
        message: told.into(),
        ..Condition::default()
    };
    set_condition(&mut pod.status.conditions, bound, now);
}

/// Whether a pod had a node, and its gang gave it back.
pub(super) fn gave_back(old: &Pod, new: &Pod) -> bool {
    let told = condition(&new.status.conditions, Pod::SCHEDULED);
    old.node_name().is_some()
        && new.node_name().is_none()
        && told.is_some_and(|told| told.reason == GAVE_BACK)
}

/// Takes a pod off its node.
fn unbind(pod: &mut Pod, why: GivesBack, now: Timestamp) {
    pod.spec.node_name = SmolStr::default();
    pod.metadata
        .annotations
        .remove(accelerator::DEVICES_ANNOTATION);
    pod.status.conditions.retain(|old| old.kind != gang::BOUND);
    let reason = match why {
        GivesBack::NodeLost => "NodeLost",
        GivesBack::TooLate | GivesBack::Yields => GAVE_BACK,
    };
    let scheduled = Condition {
        kind: Pod::SCHEDULED.into(),
        status: ConditionStatus::False,
        reason: reason.into(),
        message: why.to_string(),
        ..Condition::default()
    };
    set_condition(&mut pod.status.conditions, scheduled, now);
}
