//! Gangs: nothing of one runs unless enough of it were bound.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_core::kind::gang::Gang;
use orchestra_core::kind::pod::{ContainerState, ContainerStatus};
use orchestra_core::kind::{Pod, Resource};
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::time::Timestamp;

use super::STALE_MAX;
use super::mirror::{Delta, takes_room};

/// The gangs as the log of commits tells them.
#[derive(Debug, Default)]
pub(super) struct Gangs {
    bound: BTreeMap<ObjectKey, Bound>,
    /// The members of whose gang enough were bound at some commit since they were themselves; or had
    /// been so shortly before that who bound them may not have known that one went.
    met: BTreeSet<Uid>,
}

#[derive(Debug, Default)]
struct Bound {
    /// The members that have a node and neither end nor have ended, and how many each says have to.
    members: BTreeMap<Uid, usize>,
    /// How many there were of late, and until when.
    lately: Vec<(Timestamp, usize)>,
}

impl Gangs {
    /// Takes over what one commit did to pods. Says who runs that should not.
    pub(super) fn take(&mut self, deltas: &[&Delta<Pod>], now: Timestamp) -> Vec<String> {
        let mut touched = BTreeSet::new();
        for delta in deltas {
            let old = delta.old.as_deref().and_then(|pod| Some((pod, key(pod)?)));
            let new = delta.new.as_deref().and_then(|pod| Some((pod, key(pod)?)));
            if let Some((pod, gang)) = old {
                let uid = pod.metadata.uid;
                if let Some(bound) = self.bound.get_mut(&gang) {
                    bound.members.remove(&uid);
                    touched.insert(gang);
                }
                let stays = new.as_ref().is_some_and(|(new, _)| {
                    new.metadata.uid == uid && new.node_name() == pod.node_name()
                });
                if !stays {
                    self.met.remove(&uid);
                }
            }
            if let Some((pod, gang)) = new.filter(|(pod, _)| counts(pod)) {
                let min = Gang::of(pod).map_or(1, |said| said.min as usize);
                let bound = self.bound.entry(gang.clone()).or_default();
                bound.members.insert(pod.metadata.uid, min);
                let was = delta.old.as_deref().is_some_and(counts);
                let mut lately = bound.lately.iter();
                if !was && lately.any(|(at, count)| now <= *at + STALE_MAX && *count >= min) {
                    self.met.insert(pod.metadata.uid);
                }
                touched.insert(gang);
            }
        }
        for gang in touched {
            let Some(bound) = self.bound.get_mut(&gang) else {
                continue;
            };
            let count = bound.members.len();
            // What was so was so until now.
            if let Some((until, _)) = bound.lately.last_mut() {
                *until = now;
            }
            bound.lately.retain(|(at, _)| now <= *at + STALE_MAX);
            bound.lately.push((now, count));
            let enough = bound.members.iter().filter(|(_, min)| **min <= count);
            self.met.extend(enough.map(|(uid, _)| *uid));
        }
        let mut wrong = Vec::new();
        for pod in deltas.iter().filter_map(|delta| delta.new.as_deref()) {
            let Some(gang) = key(pod) else { continue };
            if has_begun(pod) && self.met.insert(pod.metadata.uid) {
                let bound = self.bound.get(&gang).map_or(0, |bound| bound.members.len());
                let what = format!(
                    "pods {} runs, of whose gang {gang} {bound} are bound, too few ever since it was",
                    pod.key()
                );
                wrong.push(what);
            }
        }
        wrong
    }
}

fn key(pod: &Pod) -> Option<ObjectKey> {
    let gang = Gang::of(pod)?;
    Some(ObjectKey::namespaced(
        pod.metadata.namespace.clone(),
        gang.name,
    ))
}

fn counts(pod: &Pod) -> bool {
    takes_room(pod) && !pod.is_terminating()
}

/// Whether any of its containers was ever started.
pub(super) fn has_begun(pod: &Pod) -> bool {
    let status = &pod.status;
    let mut all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    all.any(|one: &ContainerStatus| {
        let began = matches!(
            one.state,
            ContainerState::Running(_) | ContainerState::Terminated(_)
        );
        began || one.restart_count > 0
    })
}
