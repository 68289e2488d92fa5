//! What must hold once nothing goes wrong any more and everybody had time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::gang::Gang;
use orchestra_core::kind::pod::ContainerState;
use orchestra_core::kind::{
    ControllerRevision, Deployment, Node, Pod, Resource, Service, ServiceType, TaintEffect,
};
use orchestra_core::meta::{ConditionStatus, ObjectKey, Uid, condition};
use orchestra_core::port::driver::{Observed, RunState};
use orchestra_core::quantity::{Quantity, ResourceList};
use orchestra_core::time::Timestamp;
use orchestra_sched::health::nodes::evict_at;
use smol_str::SmolStr;

use super::mirror::Mirror;
use crate::driver::sim::SimDriver;

/// Complaints listed at most.
const UNREST_MAX: usize = 12;

/// A machine as the checker sees it.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Machine {
    pub(in crate::sim) name: SmolStr,
    pub(in crate::sim) driver: Arc<SimDriver>,
    /// Its agent runs and reaches the store.
    pub(in crate::sim) well: bool,
}

/// All that is not at rest.
pub(super) fn unrest(mirror: &Mirror, machines: &[Machine], now: Timestamp) -> Vec<String> {
    let mut look = Look {
        mirror,
        machines: machines
            .iter()
            .map(|machine| (machine.name.clone(), machine))
            .collect(),
        by_uid: mirror
            .pods
            .values()
            .map(|pod| (pod.metadata.uid, pod))
            .collect(),
        now,
        found: Vec::new(),
    };
    look.nodes();
    look.drivers();
    look.pods();
    look.gangs();
    look.deployments();
    look.services();
    look.orphans();
    look.found
}

struct Look<'a> {
    mirror: &'a Mirror,
    machines: BTreeMap<SmolStr, &'a Machine>,
    by_uid: BTreeMap<Uid, &'a Arc<Pod>>,
    now: Timestamp,
    found: Vec<String>,
}

impl Look<'_> {
    fn say(&mut self, what: String) {
        if self.found.len() < UNREST_MAX {
            self.found.push(what);
        }
    }

    fn nodes(&mut self) {
        for machine in self.machines.clone().values() {
            let name = &machine.name;
            let Some(node) = self.mirror.nodes.get(&ObjectKey::cluster(name.clone())) else {
                if machine.well {
                    self.say(format!(
                        "nodes {name} is not registered, and its agent is well"
                    ));
                }
                continue;
            };
            if node.is_ready() != machine.well {
                let (ready, well) = (node.is_ready(), machine.well);
                self.say(format!(
                    "nodes {name}: ready is {ready}, and its agent's health {well}"
                ));
            }
            let lost = node.spec.taints.iter().find(|taint| is_lost(&taint.key));
            if let Some(taint) = lost.filter(|_| machine.well) {
                self.say(format!("nodes {name} still has the taint {}", taint.key));
            }
            if node.spec.pod_cidr.is_empty() {
                self.say(format!("nodes {name} has no range of addresses"));
            }
        }
    }

    /// Nothing runs, or is remembered, without a pod that is bound there.
    fn drivers(&mut self) {
        for machine in self.machines.clone().values() {
            if !machine.well {
                continue;
            }
            for seen in machine.driver.observe() {
                let pod = self.by_uid.get(&seen.id.pod);
                if pod.is_none_or(|pod| pod.spec.node_name != machine.name) {
                    let what = match seen.state {
                        RunState::Running { .. } => "runs",
                        RunState::Ended(_) => "is remembered",
                    };
                    let (id, name) = (&seen.id, &machine.name);
                    self.say(format!("{id} {what} on {name} without a pod"));
                }
            }
        }
    }

    fn pods(&mut self) {
        let mut addresses: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
        let mut observed: BTreeMap<&SmolStr, BTreeMap<Uid, Vec<Observed>>> = BTreeMap::new();
        for (name, machine) in &self.machines {
            let mut by_pod: BTreeMap<Uid, Vec<Observed>> = BTreeMap::new();
            for seen in machine.driver.observe() {
                by_pod.entry(seen.id.pod).or_default().push(seen);
            }
            observed.insert(name, by_pod);
        }
        let mut found = Vec::new();
        for (key, pod) in &self.mirror.pods {
            let Some(name) = pod.node_name() else {
                if pod.is_terminating() || pod.is_terminal() {
                    found.push(format!("pods {key} ends without a node"));
                } else if Gang::of(pod).is_none()
                    && let Some(node) = self.fit_on(&[pod])
                {
                    found.push(format!("pods {key} waits, and fits on {node}"));
                }
                continue;
            };
            if !pod.is_terminal()
                && let Some(ip) = pod.status.pod_ip
                && let Some(other) = addresses.insert(ip, key)
            {
                found.push(format!("pods {key} and {other} both have the address {ip}"));
            }
            let machine = self.machines.get(name);
            let node = self.mirror.nodes.get(&ObjectKey::cluster(name.clone()));
            let (Some(machine), Some(node)) = (machine, node) else {
                found.push(format!("pods {key} is on {name}, which is gone"));
                continue;
            };
            if !machine.well {
                let seen = pod.status.start_time.unwrap_or(self.now);
                let leaves = evict_at(&pod.spec.tolerations, &node.spec.taints, seen);
                if let Some(at) = leaves.filter(|_| !pod.is_terminating()) {
                    found.push(format!("pods {key} is told to leave {name} at {at}"));
                }
                continue;
            }
            if pod.is_terminating() {
                found.push(format!("pods {key} is still there, told to go"));
                continue;
            }
            let empty = Vec::new();
            let seen = observed
                .get(name)
                .and_then(|pods| pods.get(&pod.metadata.uid));
            if let Some(what) = differs(pod, seen.unwrap_or(&empty)) {
                found.push(format!("pods {key} on {name}: {what}"));
            }
        }
        for what in found {
            self.say(what);
        }
    }

    /// No gang waits of which enough are there and all that have no node fit together on one.
    fn gangs(&mut self) {
        let mut gangs: BTreeMap<(&SmolStr, SmolStr), Vec<&Pod>> = BTreeMap::new();
        for pod in self.mirror.pods.values() {
            if pod.is_terminating() || pod.is_terminal() {
                continue;
            }
            if let Some(gang) = Gang::of(pod) {
                let key = (&pod.metadata.namespace, gang.name);
                gangs.entry(key).or_default().push(pod);
            }
        }
        let mut found = Vec::new();
        for ((_, gang), members) in gangs {
            let mins = members.iter().filter_map(|pod| Gang::of(pod));
            let min = mins.map(|gang| gang.min as usize).max().unwrap_or(1);
            let waits = members.iter().filter(|pod| pod.node_name().is_none());
            let waits: Vec<&Pod> = waits.copied().collect();
            if members.len() >= min
                && !waits.is_empty()
                && let Some(node) = self.fit_on(&waits)
            {
                let waits = waits.len();
                found.push(format!("{waits} of gang {gang} wait, and fit on {node}"));
            }
        }
        for what in found {
            self.say(what);
        }
    }

    /// A node that could take all those pods, by the plain rules; `None` also for pods whose rules are
    /// not plain.
    fn fit_on(&self, pods: &[&Pod]) -> Option<&SmolStr> {
        let plain = |pod: &&Pod| {
            let spec = &pod.spec;
            let mut ports = spec
                .containers
                .iter()
                .flat_map(|container| &container.ports);
            spec.affinity.is_none()
                && spec.topology_spread_constraints.is_empty()
                && spec.scheduling_gates.is_empty()
                && ports.all(|port| port.host_port == 0)
        };
        if !pods.iter().all(plain) {
            return None;
        }
        let many = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        let mut asked = ResourceList::new();
        for (name, amount) in pods.iter().flat_map(|pod| pod.requests()) {
            let sum = asked.entry(name).or_insert(Quantity::ZERO);
            *sum = sum.checked_add(amount)?;
        }
        self.mirror
            .nodes
            .values()
            .map(|node| &**node)
            .find_map(|node: &Node| {
                let name = &node.metadata.name;
                let open = !node.spec.unschedulable
                    && node.is_ready()
                    && node.metadata.deletion_timestamp.is_none();
                let tolerated = |taint| {
                    pods.iter().all(|pod| {
                        let mut tolerations = pod.spec.tolerations.iter();
                        tolerations.any(|toleration| toleration.tolerates(taint))
                    })
                };
                let mut taints = node.spec.taints.iter();
                let tolerated = taints
                    .all(|taint| taint.effect == TaintEffect::PreferNoSchedule || tolerated(taint));
                let mut selected = pods.iter().flat_map(|pod| &pod.spec.node_selector);
                let labelled =
                    selected.all(|(key, value)| node.metadata.labels.get(key) == Some(value));
                let used = self.mirror.used.get(name);
                let has = |resource: &str| {
                    node.status
                        .allocatable
                        .get(resource)
                        .copied()
                        .unwrap_or(Quantity::ZERO)
                };
                let room =
                    asked
                        .iter()
                        .filter(|(_, amount)| !amount.is_zero())
                        .all(|(what, amount)| {
                            let taken = used.and_then(|used| used.requests.get(what)).copied();
                            let sum = taken.unwrap_or(Quantity::ZERO).checked_add(*amount);
                            sum.is_some_and(|sum| sum <= has(what))
                        });
                let count = used.map_or(0, |used| used.pods).saturating_add(many);
                let fits = room && Quantity::from_int(count) <= has("pods");
                (open && tolerated && labelled && fits).then_some(name)
            })
    }

    fn deployments(&mut self) {
        for (key, deployment) in &self.mirror.deployments {
            if let Some(what) = self.deployment(deployment) {
                self.say(format!("deployments {key}: {what}"));
            }
        }
    }

    fn deployment(&self, deployment: &Deployment) -> Option<String> {
        let meta = &deployment.metadata;
        if meta.deletion_timestamp.is_some() {
            return Some("it is still there, told to go".to_owned());
        }
        let status = &deployment.status;
        if status.observed_generation != meta.generation {
            return Some("its controller has not seen its newest form".to_owned());
        }
        let (mut active, mut ready, mut waits) = (0_u32, 0_u32, false);
        for pod in self.mirror.pods_of(meta.uid) {
            if pod.is_terminating() || pod.is_terminal() {
                continue;
            }
            active += 1;
            ready += u32::from(pod.is_ready());
            waits |= pod.node_name().is_none();
        }
        if (status.replicas, status.ready_replicas) != (active, ready) {
            return Some(format!(
                "its status says {} pods, {} ready; there are {active}, {ready} ready",
                status.replicas, status.ready_replicas
            ));
        }
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let complete = status.replicas == wanted
            && status.updated_replicas == wanted
            && status.available_replicas == wanted;
        // Where there is no room, there is nothing more to be done, once that has been told.
        let progressing = condition(&status.conditions, Deployment::PROGRESSING);
        let told = deployment
            .spec
            .progress_deadline_seconds
            .is_none_or(|seconds| {
                let deadline = Duration::from_secs(u64::from(seconds) + 60);
                progressing.is_some_and(|progressing| {
                    // One that was complete before does not count as a rollout that stalls.
                    progressing.status == ConditionStatus::False
                        || progressing
                            .last_update_time
                            .is_some_and(|at| at + deadline < self.now)
                })
            });
        let settled = complete || deployment.spec.paused || (waits && told);
        (!settled).then(|| {
            format!(
                "{wanted} wanted, {} there, {} updated, {} available",
                status.replicas, status.updated_replicas, status.available_replicas
            )
        })
    }

    fn services(&mut self) {
        let mut addresses: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
        for (key, service) in &self.mirror.services {
            if let Some(ip) = service.cluster_ip()
                && let Some(other) = addresses.insert(ip, key)
            {
                self.say(format!(
                    "services {key} and {other} both have the address {ip}"
                ));
            }
            if let Some(what) = self.service(key, service) {
                self.say(format!("services {key}: {what}"));
            }
        }
    }

    fn service(&self, key: &ObjectKey, service: &Service) -> Option<String> {
        if service.metadata.deletion_timestamp.is_some() {
            return Some("it is still there, told to go".to_owned());
        }
        if service.spec.exposure == ServiceType::ExternalName {
            return None;
        }
        if service.spec.cluster_ip.is_empty() {
            return Some("it has no address".to_owned());
        }
        let selector = &service.spec.selector;
        if selector.is_empty() || service.spec.publish_not_ready_addresses {
            return None;
        }
        let chosen: BTreeSet<Uid> = self
            .mirror
            .pods
            .values()
            .filter(|pod| {
                let labels = &pod.metadata.labels;
                pod.metadata.namespace == key.namespace
                    && selector
                        .iter()
                        .all(|(name, value)| labels.get(name) == Some(value))
                    && pod.is_ready()
                    && !pod.is_terminating()
                    && !pod.is_terminal()
            })
            .map(|pod| pod.metadata.uid)
            .collect();
        let slices = self.mirror.slices.values().filter(|slice| {
            slice.metadata.namespace == key.namespace && slice.service_name() == Some(&key.name)
        });
        let told: BTreeSet<Uid> = slices
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.conditions.is_ready())
            .filter_map(|endpoint| endpoint.target_ref.as_ref().map(|pod| pod.uid))
            .collect();
        (chosen != told).then(|| {
            let name = |uid: &Uid| match self.by_uid.get(uid) {
                Some(pod) => pod.metadata.name.to_string(),
                None => uid.to_string(),
            };
            let missing: Vec<_> = chosen.difference(&told).map(name).take(3).collect();
            let over: Vec<_> = told.difference(&chosen).map(name).take(3).collect();
            format!("endpoints lack ready pods {missing:?} and have {over:?}")
        })
    }

    /// Nothing is left of an owner that is gone.
    fn orphans(&mut self) {
        let mut owners: BTreeSet<Uid> = BTreeSet::new();
        owners.extend(
            self.mirror
                .deployments
                .values()
                .map(|owner| owner.metadata.uid),
        );
        owners.extend(
            self.mirror
                .services
                .values()
                .map(|owner| owner.metadata.uid),
        );
        owners.extend(self.mirror.nodes.values().map(|owner| owner.metadata.uid));
        owners.extend(self.mirror.pods.values().map(|owner| owner.metadata.uid));
        owners.extend(
            self.mirror
                .revisions
                .values()
                .map(|owner| owner.metadata.uid),
        );
        let mut found = Vec::new();
        orphans(&self.mirror.pods, &owners, &mut found);
        orphans(&self.mirror.revisions, &owners, &mut found);
        orphans(&self.mirror.slices, &owners, &mut found);
        for what in found {
            self.say(what);
        }
    }
}

fn orphans<K: Resource>(
    objects: &super::mirror::Objects<K>,
    owners: &BTreeSet<Uid>,
    found: &mut Vec<String>,
) {
    const KNOWN: [&str; 5] = [
        Deployment::KIND,
        Service::KIND,
        Node::KIND,
        Pod::KIND,
        ControllerRevision::KIND,
    ];
    for (key, object) in objects {
        let Some(owner) = object.metadata().controller() else {
            continue;
        };
        if KNOWN.contains(&owner.kind.as_str()) && !owners.contains(&owner.uid) {
            let (plural, kind, name) = (K::PLURAL, &owner.kind, &owner.name);
            found.push(format!(
                "{plural} {key} belongs to {kind} {name}, which is gone"
            ));
        }
    }
}

/// How the pod's status differs from what its driver does.
fn differs(pod: &Pod, seen: &[Observed]) -> Option<String> {
    let state = |name: &SmolStr| seen.iter().find(|seen| seen.id.container == *name);
    for container in &pod.spec.containers {
        let name = &container.name;
        let told = pod
            .status
            .container_statuses
            .iter()
            .find(|status| status.name == *name);
        let runs = state(name).filter(|seen| matches!(seen.state, RunState::Running { .. }));
        match (told.map(|told| &told.state), runs) {
            (Some(ContainerState::Running(_)), Some(runs)) => {
                let restarts = told.map_or(0, |told| told.restart_count);
                if restarts != runs.attempt {
                    let attempt = runs.attempt;
                    return Some(format!(
                        "{name} was restarted {attempt} times, told {restarts}"
                    ));
                }
            }
            (Some(ContainerState::Running(_)), None) => {
                return Some(format!("{name} is told to run, and does not"));
            }
            (_, Some(_)) => return Some(format!("{name} runs, and its status does not say so")),
            (_, None) if !pod.is_terminal() => {
                return Some(format!("{name} does not run"));
            }
            (_, None) => {}
        }
    }
    None
}

fn is_lost(key: &str) -> bool {
    [
        orchestra_core::kind::Taint::NOT_READY,
        orchestra_core::kind::Taint::UNREACHABLE,
    ]
    .contains(&key)
}
