//! Fences: keys by which several schedulers on one store notice each other's placements.
//!
//! What a plan did not know may break it, and whatever it did not know moved a fence:
//!
//! * One a node, moved with each pod that is given to it: its room. Schedulers meet there only if
//!   they place on the same node.
//! * [`ANYWHERE`], moved with every placement. Only a pod whose own rules look at other pods (spread,
//!   affinity, anti-affinity) depends on it.
//! * [`ACROSS`], moved with the placements of such pods. Every placement depends on it, for the pod
//!   that is there now may bear no other beside it.
//!
//! Plain pods of two schedulers on different nodes so never conflict.

use std::collections::BTreeSet;

use orchestra_core::kind::Pod;
use orchestra_core::kind::pod::{Affinity, WhenUnsatisfiable};
use orchestra_core::port::store::{Guard, Key, Revision, Write};
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::PlacementLoop;
use crate::api::{ApiError, ApiErrorKind, Client, Commit};

/// Moved with every placement.
const ANYWHERE: &str = "placing/anywhere";

/// Moved with the placements of pods whose rules look at other pods.
const ACROSS: &str = "placing/across";

/// The fences of one commit.
#[derive(Debug, Default)]
pub(super) struct Fences {
    nodes: BTreeSet<SmolStr>,
    /// Whether a pod is among its own whose rules look at others.
    across: bool,
}

impl Fences {
    /// Adds those that the placement of `pod` on `node` depends on and moves.
    pub(super) fn add(&mut self, pod: &Pod, node: &SmolStr) {
        if !self.nodes.contains(node) {
            self.nodes.insert(node.clone());
        }
        self.across |= looks_at_others(pod);
    }

    /// The keys of those that the commit depends on.
    fn guards(&self) -> impl Iterator<Item = Key> {
        let anywhere = self.across.then(|| ANYWHERE.into());
        let across = (!self.nodes.is_empty()).then(|| ACROSS.into());
        anywhere.into_iter().chain(across).chain(self.of_nodes())
    }

    /// The keys of those that the commit moves.
    pub(super) fn moves(&self) -> impl Iterator<Item = Key> {
        let across = self.across.then(|| ACROSS.into());
        let anywhere = (!self.nodes.is_empty()).then(|| ANYWHERE.into());
        across.into_iter().chain(anywhere).chain(self.of_nodes())
    }

    /// The keys of all of them.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let common = [ANYWHERE, ACROSS].map(Key::from);
        common.into_iter().chain(self.of_nodes())
    }

    fn of_nodes(&self) -> impl Iterator<Item = Key> {
        self.nodes.iter().map(|node| of_node(node))
    }
}

/// The fence of one node.
pub(super) fn of_node(node: &str) -> Key {
    ["placements/", node].concat().into()
}

/// Whether where other pods are decides where this one may be.
fn looks_at_others(pod: &Pod) -> bool {
    let looks = |affinity: &Affinity| {
        let both = [&affinity.pod_affinity, &affinity.pod_anti_affinity];
        both.into_iter()
            .flatten()
            .any(|terms| !terms.required.is_empty())
    };
    let spread = &pod.spec.topology_spread_constraints;
    pod.spec
        .affinity
        .as_ref()
        .is_some_and(|affinity| looks(affinity))
        || spread
            .iter()
            .any(|rule| rule.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule)
}

impl PlacementLoop {
    /// Makes `commit` depend on `fences` as they stood when the plan was made, which knew the pods as
    /// of commit `seen`, and move those it has to.
    pub(super) async fn fenced(
        &self,
        mut commit: Commit,
        fences: &Fences,
        seen: Revision,
        now: Timestamp,
    ) -> Result<Commit, ApiError> {
        for key in fences.guards() {
            commit = commit.guard(self.fence(&key, seen).await?);
        }
        let now = now.to_string();
        for key in fences.moves() {
            commit = commit.write(Write::put(key, now.as_bytes()));
        }
        Ok(commit)
    }

    async fn fence(&self, key: &Key, seen: Revision) -> Result<Guard, ApiError> {
        if let Some(fence) = self.state().fences.get(key) {
            return Ok(fence.clone());
        }
        let stored = self.client.store().get(key).await;
        let stored = stored.map_err(|error| ApiError::store(error, "place", key.as_str()))?;
        match stored {
            // Whoever moved it placed pods in the same commit, which the plan has to have counted.
            Some(stored) if stored.modified > seen => {
                let error = ApiError::new(ApiErrorKind::Conflict, "place", key.as_str());
                Err(error.because("another scheduler placed pods since the plan was made"))
            }
            Some(stored) => Ok(Guard::At(key.clone(), stored.modified)),
            None => Ok(Guard::Absent(key.clone())),
        }
    }
}

/// Takes away the fence of a node that is gone.
pub(in crate::loops) async fn forget_node(client: &Client, node: &str) -> Result<(), ApiError> {
    let key = of_node(node);
    let stored = client.store().get(&key).await;
    let stored = stored.map_err(|error| ApiError::store(error, "forget", key.as_str()))?;
    let Some(stored) = stored else {
        return Ok(());
    };
    let guard = Guard::At(key.clone(), stored.modified);
    let forgotten = client.commit().guard(guard).write(Write::Delete(key));
    forgotten.send().await.map(drop)
}
