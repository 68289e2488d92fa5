//! What pods are told apart by: field by field, a pod becomes as another is.

use std::sync::Arc;

use orchestra_core::kind::pod::{ContainerPort, Toleration, TopologySpreadConstraint};
use orchestra_core::kind::{Container, Node, Pod, accelerator, forecast, locality};
use orchestra_core::meta::Uid;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;

use crate::place::Pending;
use crate::place::plugin::PodFields;
use crate::snapshot::{Demand, Snapshot};

/// A field that a plugin may declare.
pub(super) struct Field {
    pub(super) field: PodFields,
    pub(super) name: &'static str,
    /// The fields that include it.
    covered_by: &'static [PodFields],
    take: fn(&mut Pending, &Pending),
}

impl Field {
    pub(super) fn is_among(&self, declared: PodFields) -> bool {
        let wider = self.covered_by.iter();
        declared.has(self.field) || wider.copied().any(|wider| declared.has(wider))
    }

    /// `pod` with this field as `other` has it; `None` if it has it so.
    pub(super) fn taken(&self, pod: &Pending, other: &Pending) -> Option<Pending> {
        let mut changed = pod.clone();
        (self.take)(&mut changed, other);
        let same = changed.demand == pod.demand
            && (changed.priority, changed.arrived) == (pod.priority, pod.arrived)
            && changed.id == pod.id;
        (!same).then_some(changed)
    }
}

/// Whose fields to take: of all pods of a cluster one of each kind, one that asks for nothing, and one that
/// asks for what hardly anybody does.
pub(super) fn others(snapshot: &Snapshot, pending: &[Pending]) -> Vec<Pending> {
    let mut others = vec![bare(), odd()];
    let running = snapshot.nodes().flat_map(|(_, row)| row.pods());
    let running = running.map(|running| Pending {
        id: running.id.clone(),
        priority: running.priority,
        demand: Arc::clone(&running.demand),
        ..Pending::default()
    });
    for pod in pending.iter().cloned().chain(running) {
        let is_like =
            |other: &Pending| other.demand == pod.demand && other.priority == pod.priority;
        if !others.iter().any(is_like) {
            others.push(pod);
        }
    }
    others
}

fn bare() -> Pending {
    let mut bare = Pending::of(&Pod::builder("bare"), Timestamp::EPOCH);
    bare.id.uid = Uid(998);
    bare
}

fn odd() -> Pending {
    let one = Quantity::from_int(1);
    let mut container = Container::new("c", "another:2")
        .cpu_milli(700)
        .memory_mib(300)
        .request(accelerator::RESOURCE, one);
    container.ports.push(ContainerPort {
        container_port: 80,
        host_port: 81,
        ..ContainerPort::default()
    });
    let mut pod = Pod::builder("another")
        .namespace("elsewhere")
        .label("app", "c")
        .priority(5)
        .on_node("n1")
        .node_selector("disk", "hdd")
        .container(container);
    pod.metadata.uid = Uid(999);
    pod.metadata.creation_timestamp = Some(Timestamp::from_secs(99));
    let annotations = &mut pod.metadata.annotations;
    annotations.insert(locality::NEEDS_ANNOTATION.into(), "elsewhere".into());
    let day = ["500m"; forecast::HOURS].join(",");
    annotations.insert(forecast::CPU_ANNOTATION.into(), day.into());
    pod.spec.tolerations.push(Toleration::exists(""));
    let spread = TopologySpreadConstraint {
        max_skew: 1,
        topology_key: Node::HOSTNAME_LABEL.into(),
        ..TopologySpreadConstraint::default()
    };
    pod.spec.topology_spread_constraints.push(spread);
    Pending::of(&pod, Timestamp::EPOCH)
}

macro_rules! field {
    ($field:ident, $name:literal, [$($wider:ident),*], $($of:ident),+) => {
        Field {
            field: PodFields::$field,
            name: $name,
            covered_by: &[$(PodFields::$wider),*],
            take: |pod, other| {
                let (demand, other): (&mut Demand, &Demand) =
                    (Arc::make_mut(&mut pod.demand), &other.demand);
                $(demand.$of = other.$of.clone();)+
            },
        }
    };
}

/// Every field of a pod.
pub(super) const FIELDS: &[Field] = &[
    field!(REQUESTS, "request", [], requests, scored),
    field!(NODE_NAME, "node name", [], node_name),
    field!(
        NODE_AFFINITY,
        "node selector or affinity",
        [SPREAD],
        node_selector,
        node_affinity,
        preferred_nodes
    ),
    field!(TOLERATIONS, "toleration", [SPREAD], tolerations),
    field!(HOST_PORTS, "host port", [], host_ports),
    field!(NAMESPACE, "namespace", [SPREAD, POD_AFFINITY], namespace),
    field!(LABELS, "label", [SPREAD, POD_AFFINITY], labels),
    // One field to those who tell pods apart.
    field!(
        SPREAD,
        "spread or affinity to pods",
        [POD_AFFINITY],
        relations
    ),
    field!(IMAGES, "image", [], images),
    field!(DATA, "need of data", [], reads),
    field!(ACCELERATORS, "accelerator", [], accelerators),
    field!(FORECAST, "forecast", [], forecast),
    Field {
        field: PodFields::PRIORITY,
        name: "priority",
        covered_by: &[],
        take: |pod, other| pod.priority = other.priority,
    },
    Field {
        field: PodFields::IDENTITY,
        name: "identity",
        covered_by: &[],
        take: |pod, other| {
            pod.id = other.id.clone();
            pod.arrived = other.arrived;
        },
    },
];
