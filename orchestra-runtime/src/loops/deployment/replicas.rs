//! What each pod of each deployment is, kept change by change.
//!
//! A pass over a deployment asks little of each of its pods, but of all of them. Who looked it up in
//! the pods would fetch each of them from memory every time, and of a large deployment hardly one
//! changed since the last pass. Here it lies side by side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::kind::Pod;
use orchestra_core::kind::pod::PodPhase;
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::rollout::{Generation, Replica};
use smol_str::SmolStr;

use super::pass::hash_of;
use crate::cache::{Cache, CacheEvent};
use crate::loops::unready::{self, Grade};

/// The annotation by which a pod tells what its loss would cost.
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The pods that have an owner, by its uid. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas(Arc<Mutex<HashMap<Uid, Owned>>>);

/// The pods of one owner. Their order means nothing, but is the same after the same changes.
#[derive(Debug, Default)]
struct Owned {
    known: Vec<Known>,
    /// Where each stands. Looked up, never walked.
    at: HashMap<Uid, usize>,
}

/// One pod.
#[derive(Debug)]
struct Known {
    /// All but its generation, which is a pass's to say.
    replica: Replica,
    hash: SmolStr,
    version: Revision,
    pod: Arc<Pod>,
    /// How badly it does, if it does and is not ending.
    grade: Option<Grade>,
    failed: bool,
}

/// The pods of one owner, at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What they are. Their generations are not known here.
    pub(super) replicas: Vec<Replica>,
    /// The hash of the template of each.
    pub(super) hashes: Vec<SmolStr>,
    /// The commit that last wrote each.
    pub(super) versions: Vec<Revision>,
    /// The worst of those that are not ready and not ending, the first by name among equals.
    pub(super) worst: Option<Arc<Pod>>,
    /// The first by name of those that failed and are not ending.
    pub(super) failed: Option<Arc<Pod>>,
}

impl Replicas {
    /// Follows `pods`. Whoever is woken by their changes has to ask for that after this.
    pub(super) fn follow(&self, pods: &Cache<Pod>) {
        let replicas = self.clone();
        pods.on_change(move |event| replicas.change(event));
        // Nothing is shown while this is held, and what is in the listing is no older than what was.
        let mut all = self.all();
        for pod in pods.list() {
            set(&mut all, &pod);
        }
    }

    fn change(&self, event: &CacheEvent<Pod>) {
        let (old, new) = (event.old.as_ref(), event.new.as_ref());
        let (was, is) = (old.and_then(place), new.and_then(place));
        if was.is_none() && is.is_none() {
            return;
        }
        let mut all = self.all();
        if let Some((owner, pod)) = was.filter(|_| was != is) {
            unset(&mut all, owner, pod);
        }
        if let Some(pod) = new {
            set(&mut all, pod);
        }
    }

    /// The pods of `owner`.
    pub(super) fn of(&self, owner: Uid) -> Look {
        let all = self.all();
        let Some(owned) = all.get(&owner) else {
            return Look::default();
        };
        let known = owned.known.iter();
        let worst = known.clone().filter(|known| known.grade.is_some());
        let failed = known.clone().filter(|known| known.failed);
        Look {
            replicas: known.clone().map(|known| known.replica.clone()).collect(),
            hashes: known.clone().map(|known| known.hash.clone()).collect(),
            versions: known.map(|known| known.version).collect(),
            worst: worst
                .min_by_key(|known| (known.grade, &known.replica.name))
                .map(|known| Arc::clone(&known.pod)),
            failed: failed
                .min_by_key(|known| &known.replica.name)
                .map(|known| Arc::clone(&known.pod)),
        }
    }

    /// Those `pods` of `owner`, as they are by now; who is gone is left out.
    pub(super) fn pods(&self, owner: Uid, pods: impl Iterator<Item = Uid>) -> Vec<Arc<Pod>> {
        let all = self.all();
        let Some(owned) = all.get(&owner) else {
            return Vec::new();
        };
        let known = pods.filter_map(|pod| owned.known.get(*owned.at.get(&pod)?));
        known.map(|known| Arc::clone(&known.pod)).collect()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uid, Owned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a pod stands: its owner's uid and its own.
fn place(pod: &Arc<Pod>) -> Option<(Uid, Uid)> {
    let owner = pod.metadata.controller()?;
    Some((owner.uid, pod.metadata.uid))
}

fn set(all: &mut HashMap<Uid, Owned>, pod: &Arc<Pod>) {
    let Some((owner, uid)) = place(pod) else {
        return;
    };
    let owned = all.entry(owner).or_default();
    let known = Known::of(pod);
    match owned.at.get(&uid).and_then(|at| owned.known.get_mut(*at)) {
        Some(there) => *there = known,
        None => {
            owned.at.insert(uid, owned.known.len());
            owned.known.push(known);
        }
    }
}

fn unset(all: &mut HashMap<Uid, Owned>, owner: Uid, pod: Uid) {
    let Some(owned) = all.get_mut(&owner) else {
        return;
    };
    let Some(at) = owned.at.remove(&pod) else {
        return;
    };
    owned.known.swap_remove(at);
    if let Some(moved) = owned.known.get(at) {
        owned.at.insert(moved.replica.pod, at);
    }
    if owned.known.is_empty() {
        all.remove(&owner);
    }
}

impl Known {
    fn of(pod: &Arc<Pod>) -> Self {
        let ending = pod.is_terminating();
        Self {
            replica: replica(pod),
            hash: hash_of(&pod.metadata),
            version: pod.metadata.resource_version,
            pod: Arc::clone(pod),
            grade: unready::grade(pod).filter(|_| !ending),
            failed: pod.status.phase == PodPhase::Failed && !ending,
        }
    }
}

/// A pod as a rollout sees it, but for its generation.
fn replica(pod: &Pod) -> Replica {
    let meta = &pod.metadata;
    let cost = meta.annotations.get(DELETION_COST_ANNOTATION);
    let statuses = pod.status.container_statuses.iter();
    Replica {
        pod: meta.uid,
        name: meta.name.clone(),
        generation: Generation::default(),
        node: pod.spec.node_name.clone(),
        running: pod.status.phase == PodPhase::Running,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use orchestra_core::kind::Container;
    use orchestra_core::meta::{Condition, ConditionStatus, OwnerReference};
    use proptest::prelude::*;

    use super::*;

    /// A pod of one of three owners, or of none, in one of a few states.
    fn pod(uid: u128, owner: u128, state: u8) -> Arc<Pod> {
        let container = Container::new("c", "c");
        let mut pod = Pod::builder(format!("pod-{uid}")).container(container);
        pod.metadata.uid = Uid(uid);
        pod.metadata.resource_version = Revision(state.into());
        pod.metadata.owner_references = vec![OwnerReference {
            uid: Uid(owner),
            controller: Some(owner > 0),
            ..OwnerReference::default()
        }];
        pod.metadata.deletion_timestamp = (state % 5 == 4).then_some(Timestamp::EPOCH);
        pod.status.phase = match state % 3 {
            0 => PodPhase::Pending,
            1 => PodPhase::Running,
            _ => PodPhase::Failed,
        };
        pod.status.conditions.push(Condition {
            kind: Pod::READY.into(),
            status: ConditionStatus::from(state % 3 == 1 && state % 2 == 1),
            ..Condition::default()
        });
        Arc::new(pod)
    }

    /// The same, looked up in the pods themselves.
    fn plain(pods: &BTreeMap<u128, Arc<Pod>>, owner: Uid) -> Look {
        let owned: Vec<_> = pods
            .values()
            .filter(|pod| place(pod).is_some_and(|(of, _)| of == owner))
            .collect();
        let by_name = |pod: &&&Arc<Pod>| pod.metadata.name.clone();
        let living = || owned.iter().filter(|pod| !pod.is_terminating());
        Look {
            replicas: owned.iter().map(|pod| replica(pod)).collect(),
            hashes: owned.iter().map(|pod| hash_of(&pod.metadata)).collect(),
            versions: owned
                .iter()
                .map(|pod| pod.metadata.resource_version)
                .collect(),
            worst: living()
                .filter(|pod| unready::why(pod).is_some())
                .min_by_key(|pod| (unready::grade(pod), by_name(pod)))
                .map(|pod| Arc::clone(pod)),
            failed: living()
                .filter(|pod| pod.status.phase == PodPhase::Failed)
                .min_by_key(by_name)
                .map(|pod| Arc::clone(pod)),
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_the_pods_say(
            changes in prop::collection::vec((1..8_u128, 0..4_u128, 0..31_u8), 0..60),
        ) {
            let replicas = Replicas::default();
            let mut pods = BTreeMap::new();
            for (uid, owner, state) in changes {
                let new = (state < 25).then(|| pod(uid, owner, state));
                let old = match &new {
                    Some(new) => pods.insert(uid, Arc::clone(new)),
                    None => pods.remove(&uid),
                };
                let Some(any) = new.as_ref().or(old.as_ref()) else {
                    continue;
                };
                replicas.change(&CacheEvent {
                    key: any.metadata.key(),
                    old: old.clone(),
                    new,
                    revision: Revision(1),
                });
                for owner in (1..4).map(Uid) {
                    let (mut found, wanted) = (replicas.of(owner), plain(&pods, owner));
                    let there = replicas.pods(owner, (0..8).map(Uid));
                    prop_assert_eq!(there.len(), wanted.replicas.len());
                    for pod in there {
                        prop_assert!(pods.values().any(|known| Arc::ptr_eq(known, &pod)));
                    }
                    let mut order: Vec<usize> = (0..found.replicas.len()).collect();
                    order.sort_by_key(|at| found.replicas[*at].pod);
                    found.versions = order.iter().map(|at| found.versions[*at]).collect();
                    found.hashes = order.iter().map(|at| found.hashes[*at].clone()).collect();
                    found.replicas = order.iter().map(|at| found.replicas[*at].clone()).collect();
                    prop_assert_eq!(found.replicas, wanted.replicas);
                    prop_assert_eq!(found.hashes, wanted.hashes);
                    prop_assert_eq!(found.versions, wanted.versions);
                    prop_assert_eq!(found.worst, wanted.worst);
                    prop_assert_eq!(found.failed, wanted.failed);
                }
            }
        }
    }
}
