//! What must hold after each commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orchestra_core::int_or::{IntOrPercent, Rounding};
use orchestra_core::kind::{Deployment, Node, Pod, Resource, StrategyType, TaintEffect, gang};
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;

use super::gangs::has_begun;
use super::mirror::{Changed, Delta, Mirror, Objects, takes_room};
use super::{Checker, STALE_MAX, State};

/// How many pods a deployment may have at most, and how many must be available at least.
pub(super) struct Bounds {
    pub(super) most: u32,
    pub(super) available: u32,
}

/// The bounds of a deployment, worked out anew from its words.
pub(super) fn bounds(deployment: &Deployment) -> Bounds {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let strategy = &deployment.spec.strategy;
    if strategy.kind == StrategyType::Recreate {
        return Bounds {
            most: wanted,
            available: 0,
        };
    }
    let rolling = strategy.rolling_update.clone().unwrap_or_default();
    let quarter = IntOrPercent::Percent(25);
    let surge = rolling
        .max_surge
        .unwrap_or(quarter)
        .resolve(wanted, Rounding::Up);
    let mut missing = rolling
        .max_unavailable
        .unwrap_or(quarter)
        .resolve(wanted, Rounding::Down);
    if surge == 0 && missing == 0 {
        missing = 1;
    }
    Bounds {
        most: wanted.saturating_add(surge),
        available: wanted.saturating_sub(missing),
    }
}

impl Checker {
    pub(super) fn step(
        &self,
        state: &mut State,
        nodes: Option<&Objects<Node>>,
        all: &[Changed],
        revision: Revision,
        now: Timestamp,
    ) {
        let by_user = self.acks.by_user(revision);
        let mut looked: BTreeMap<Uid, Look> = BTreeMap::new();
        let mut rolled: BTreeSet<Uid> = BTreeSet::new();
        for changed in all {
            match changed {
                Changed::Pod(delta) => {
                    self.pod(&state.mirror, nodes.unwrap_or(&state.mirror.nodes), delta);
                    let pod = delta.new.as_ref().or(delta.old.as_ref());
                    let Some(owner) = pod.and_then(|pod| pod.metadata.controller()) else {
                        continue;
                    };
                    if owner.kind == Deployment::KIND {
                        let name = owner.name.clone();
                        let key = ObjectKey {
                            namespace: delta.key.namespace.clone(),
                            name,
                        };
                        let look = looked.entry(owner.uid).or_insert_with(|| Look::at(key));
                        look.grew |= delta.old.is_none();
                        if let Some(old) = lost(delta) {
                            look.lost.push(old.clone());
                        }
                    }
                }
                Changed::Deployment(delta) => {
                    if let Some(deployment) = delta.new.as_ref().or(delta.old.as_ref()) {
                        let look = || Look::at(deployment.key());
                        looked.entry(deployment.metadata.uid).or_insert_with(look);
                    }
                    self.kept(delta, by_user, |a, b| a.spec == b.spec);
                }
                Changed::Service(delta) => self.kept(delta, by_user, |a, b| {
                    let mut given = b.spec.clone();
                    if a.spec.cluster_ip.is_empty() {
                        given.cluster_ip.clone_from(&a.spec.cluster_ip);
                        given.cluster_ips.clone_from(&a.spec.cluster_ips);
                    }
                    a.spec == given
                }),
                Changed::Revision(delta) => {
                    let revision = delta.new.as_ref().or(delta.old.as_ref());
                    if let Some(owner) = revision.and_then(|r| r.metadata.controller()) {
                        rolled.insert(owner.uid);
                    }
                }
                Changed::Node(_) | Changed::Slice | Changed::Other => {}
            }
        }
        let pods = all.iter().filter_map(|changed| match changed {
            Changed::Pod(delta) => Some(delta),
            _ => None,
        });
        for what in state.gangs.take(&pods.collect::<Vec<_>>(), now) {
            self.complain("gang", what);
        }
        for (uid, look) in looked {
            let found = state.mirror.deployments.get(&look.key);
            let Some(deployment) = found.filter(|d| d.metadata.uid == uid).cloned() else {
                state.steady.remove(&uid);
                state.losses.remove(&uid);
                if look.grew {
                    let what =
                        format!("a pod was made for deployments {}, which is gone", look.key);
                    self.complain("no-orphans", what);
                }
                continue;
            };
            // A step of the controller writes its newest revision. Whatever else takes pods away
            // is not its doing, and what follows from it neither.
            let own = rolled.contains(&uid);
            if !own && !look.lost.is_empty() {
                state.steady.remove(&uid);
                state.losses.insert(uid, now);
            }
            self.deployment(state, &deployment, &look, own, now);
        }
    }

    fn pod(&self, mirror: &Mirror, nodes: &Objects<Node>, delta: &Delta<Pod>) {
        let key = &delta.key;
        let Some(new) = delta.new.as_deref() else {
            if let Some(old) = &delta.old {
                self.forget_pod(old.metadata.uid, &key.to_string());
            }
            return;
        };
        let old = delta
            .old
            .as_deref()
            .filter(|old| old.metadata.uid == new.metadata.uid);
        if delta
            .old
            .as_ref()
            .is_some_and(|old| old.metadata.uid != new.metadata.uid)
        {
            let what = format!("pods {key} became another pod without an end of the first");
            self.complain("one-identity", what);
        }
        if let Some(old) = old {
            if old.is_terminal() && old.status.phase != new.status.phase {
                let (from, to) = (old.status.phase, new.status.phase);
                self.complain(
                    "ended-stays-ended",
                    format!("pods {key} went from {from:?} to {to:?}"),
                );
            }
            if old.is_terminating() && !new.is_terminating() {
                self.complain(
                    "ended-stays-ended",
                    format!("the deletion of pods {key} was undone"),
                );
            }
            // Who only waits for its gang may lose its node again.
            let gave_back =
                gang::gate(old).is_some() && new.node_name().is_none() && !has_begun(new);
            if let Some(from) = old.node_name()
                && new.node_name() != Some(from)
                && !gave_back
            {
                let to = new.node_name();
                self.complain(
                    "bound-once",
                    format!("pods {key} moved from {from} to {to:?}"),
                );
            }
        }
        let placed = old.is_some_and(|old| old.node_name().is_none()) && new.node_name().is_some();
        if placed {
            self.placement(nodes, new);
        }
        let took = !delta.old.as_deref().is_some_and(takes_room) && takes_room(new);
        if took {
            self.capacity(mirror, new);
        }
    }

    /// The node must have been there, open and without a taint that keeps the pod away.
    fn placement(&self, nodes: &Objects<Node>, pod: &Pod) {
        let (key, name) = (pod.key(), &pod.spec.node_name);
        let Some(node) = nodes.get(&ObjectKey::cluster(name.clone())) else {
            let what = format!("pods {key} was placed on {name}, which does not exist");
            return self.complain("placement", what);
        };
        if node.spec.unschedulable {
            let what = format!("pods {key} was placed on {name}, which is unschedulable");
            self.complain("placement", what);
        }
        let refused = node.spec.taints.iter().find(|taint| {
            matches!(
                taint.effect,
                TaintEffect::NoSchedule | TaintEffect::NoExecute
            ) && !pod
                .spec
                .tolerations
                .iter()
                .any(|toleration| toleration.tolerates(taint))
        });
        if let Some(taint) = refused {
            let what = format!(
                "pods {key} was placed on {name}, whose taint {}:{:?} it does not tolerate",
                taint.key, taint.effect
            );
            self.complain("placement", what);
        }
        let lacks = pod
            .spec
            .node_selector
            .iter()
            .find(|(label, value)| node.metadata.labels.get(*label) != Some(value));
        if let Some((label, value)) = lacks {
            let what = format!("pods {key} wants {label}={value} and was placed on {name}");
            self.complain("placement", what);
        }
    }

    /// What the pods of a node ask for fits in what it has.
    fn capacity(&self, mirror: &Mirror, pod: &Pod) {
        let name = &pod.spec.node_name;
        let Some(node) = mirror.nodes.get(&ObjectKey::cluster(name.clone())) else {
            return; // placed by its own manifest
        };
        let Some(used) = mirror.used.get(name) else {
            return;
        };
        let has = |resource: &str| {
            node.status
                .allocatable
                .get(resource)
                .copied()
                .unwrap_or(Quantity::ZERO)
        };
        let asked = pod.requests();
        for (resource, sum) in &used.requests {
            let wants = asked.get(resource).is_some_and(|asked| !asked.is_zero());
            if wants && *sum > has(resource) {
                let what = format!(
                    "{name} has {} of {resource}, and its pods ask for {sum} with pods {}",
                    has(resource),
                    pod.key()
                );
                self.complain("capacity", what);
            }
        }
        if Quantity::from_int(used.pods) > has("pods") {
            let what = format!("{name} takes {} pods, and has {}", has("pods"), used.pods);
            self.complain("capacity", what);
        }
    }

    /// Nobody but a user changes what an object asks for.
    fn kept<K: Resource>(&self, delta: &Delta<K>, by_user: bool, same: impl Fn(&K, &K) -> bool) {
        let (Some(old), Some(new)) = (&delta.old, &delta.new) else {
            return;
        };
        if by_user || old.metadata().uid != new.metadata().uid {
            return;
        }
        if !same(old, new) {
            let what = format!("{} {}: what a user wrote was changed", K::PLURAL, delta.key);
            self.complain("no-write-lost", what);
        }
    }

    fn deployment(
        &self,
        state: &mut State,
        deployment: &Arc<Deployment>,
        look: &Look,
        own: bool,
        now: Timestamp,
    ) {
        let key = deployment.key();
        let (uid, wanted) = (
            deployment.metadata.uid,
            deployment.spec.replicas.unwrap_or(1),
        );
        let bounds = bounds(deployment);
        // Counted only where it is asked for: most commits change one pod of many.
        let mirror = &state.mirror;
        let active = || {
            let pods = mirror.pods_of(uid);
            pods.filter(|pod| !pod.is_terminating() && !pod.is_terminal())
        };
        let min_ready = deployment.spec.min_ready_seconds;
        let available = || {
            let available = active().filter(|pod| pod.is_available(min_ready, now));
            u32::try_from(available.count()).unwrap_or(u32::MAX)
        };
        if look.grew {
            let active = u32::try_from(active().count()).unwrap_or(u32::MAX);
            if active > bounds.most {
                let what = format!(
                    "deployments {key} was given pod number {active}, and may have {} at most",
                    bounds.most
                );
                self.complain("surge", what);
            }
        }
        match state.steady.get(&uid) {
            Some(steady) if *steady == wanted => {
                let took = look.lost.iter().any(|pod| pod.is_available(min_ready, now));
                if own && took {
                    let available = available();
                    if available < bounds.available {
                        let what = format!(
                            "a step of deployments {key} left {available} available, and must \
                             leave {} of {wanted}",
                            bounds.available
                        );
                        self.complain("availability", what);
                    }
                }
            }
            _ => {
                let past = |at: Option<&Timestamp>| at.is_none_or(|at| now >= *at + STALE_MAX);
                let calm = past(state.losses.get(&uid)) && past(state.fault.as_ref());
                if calm && available() >= wanted {
                    state.steady.insert(uid, wanted);
                } else {
                    state.steady.remove(&uid);
                }
            }
        }
    }
}

/// What a commit did to one deployment.
struct Look {
    key: ObjectKey,
    /// Whether it got a new pod.
    grew: bool,
    /// Its pods that were of use before, as they were.
    lost: Vec<Arc<Pod>>,
}

impl Look {
    fn at(key: ObjectKey) -> Self {
        Self {
            key,
            grew: false,
            lost: Vec::new(),
        }
    }
}

/// The pod as it was, if it was of use and is not any more.
fn lost(delta: &Delta<Pod>) -> Option<&Arc<Pod>> {
    let useful = |pod: &Pod| pod.is_ready() && !pod.is_terminating() && !pod.is_terminal();
    let old = delta.old.as_ref().filter(|old| useful(old))?;
    (!delta.new.as_ref().is_some_and(|new| useful(new))).then_some(old)
}
