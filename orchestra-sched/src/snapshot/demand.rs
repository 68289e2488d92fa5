//! What a pod asks of a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::accelerator::{self, AcceleratorAsk};
use orchestra_core::kind::forecast::Forecast;
use orchestra_core::kind::locality;
use orchestra_core::kind::pod::{Container, PodSpec, Toleration, Volume};
use orchestra_core::kind::{Pod, Protocol};
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::quantity::{Quantity, ResourceList};
use orchestra_core::selector::{NodeSelector, PreferredSchedulingTerm};
use smol_str::{SmolStr, format_smolstr};

use super::relations::Relations;

/// The largest amount of anything, in its unit: 2^53. What is above is held there.
pub const AMOUNT_MAX: i64 = 1 << 53;

/// What a container that requests no CPU is taken to use when nodes are ranked.
const UNSAID_CPU_MILLI: i64 = 100;
/// What a container that requests no memory is taken to use when nodes are ranked, in bytes.
const UNSAID_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of every resource, from 0 to [`AMOUNT_MAX`].
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of ephemeral storage.
    pub storage: i64,
    /// Whole units of everything else that is not 0, by name.
    pub extended: BTreeMap<SmolStr, i64>,
}

impl Amounts {
    /// What a list of resources says. `pods` and accelerators are not among them; amounts below zero
    /// count as 0.
    pub fn of(list: &ResourceList) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list {
            let whole = hold(quantity.as_int());
            match name.as_str() {
                "cpu" => amounts.cpu_milli = hold(quantity.as_milli()),
                "memory" => amounts.memory = whole,
                "ephemeral-storage" => amounts.storage = whole,
                "pods" | accelerator::RESOURCE => {}
                _ if whole == 0 => {}
                _ => {
                    amounts.extended.insert(name.clone(), whole);
                }
            }
        }
        amounts
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.cpu_milli = hold(self.cpu_milli + other.cpu_milli);
        self.memory = hold(self.memory + other.memory);
        self.storage = hold(self.storage + other.storage);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = hold(*sum + amount);
        }
        self
    }

    /// The larger of each.
    #[must_use]
    pub fn max(mut self, other: &Self) -> Self {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory = self.memory.max(other.memory);
        self.storage = self.storage.max(other.storage);
        for (name, amount) in &other.extended {
            let most = self.extended.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
        self
    }
}

/// What a pod is taken to use when nodes are ranked.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Scored {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
}

/// A port of the node itself that a pod takes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostPort {
    /// What runs over it.
    pub protocol: Protocol,
    /// The address it listens on; `0.0.0.0` is all of them.
    pub host_ip: SmolStr,
    /// The number, from 1.
    pub port: u16,
}

impl HostPort {
    const ANY: &'static str = "0.0.0.0";

    /// A port; an empty address is `0.0.0.0`.
    pub fn new(protocol: Protocol, host_ip: &str, port: u16) -> Self {
        let host_ip = if host_ip.is_empty() {
            Self::ANY
        } else {
            host_ip
        };
        Self {
            protocol,
            host_ip: host_ip.into(),
            port,
        }
    }

    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.host_ip == other.host_ip
                || self.host_ip == Self::ANY
                || other.host_ip == Self::ANY)
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.host_ip, self.port, self.protocol)
    }
}

/// What a pod asks of a node: everything about it that a plan needs but its identity.
///
/// Like pods may share one behind an `Arc`; that they are alike is found either way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// Its namespace.
    pub namespace: SmolStr,
    /// Its labels.
    pub labels: Labels,
    /// What it requests.
    pub requests: Amounts,
    /// What it is taken to use when nodes are ranked.
    pub scored: Scored,
    /// The one node it names, if it does.
    pub node_name: Option<SmolStr>,
    /// Labels its node must have.
    pub node_selector: Labels,
    /// Further, what its node must be.
    pub node_affinity: Option<NodeSelector>,
    /// What its node had better be.
    pub preferred_nodes: Vec<PreferredSchedulingTerm>,
    /// What it tolerates.
    pub tolerations: Vec<Toleration>,
    /// The ports of the node that it takes.
    pub host_ports: Vec<HostPort>,
    /// The devices that it wants, or holds.
    pub accelerators: Option<AcceleratorAsk>,
    /// What it asks of the pods around it, if it does.
    pub relations: Option<Arc<Relations>>,
    /// The images of its containers, init containers included, as nodes report them: with a tag.
    pub images: Vec<SmolStr>,
    /// What has to be where it runs, if anything has.
    pub reads: Option<Arc<Reads>>,
    /// What it is expected to use hour by hour, if that is said.
    pub forecast: Option<Arc<Forecast>>,
}

/// What a pod reads that is not everywhere.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Reads {
    /// The claims of storage that it mounts, sorted.
    pub claims: Vec<ObjectKey>,
    /// The data that its node must have, by name, sorted.
    pub needs: Vec<SmolStr>,
    /// The data that its node had better have, by name, sorted.
    pub wants: Vec<SmolStr>,
}

impl Reads {
    /// What a pod reads; `None` if that is nothing.
    pub fn of(pod: &Pod) -> Option<Self> {
        let claim = |volume: &Volume| -> Option<SmolStr> {
            if volume.ephemeral.is_some() {
                // Its claim is named after the pod and the volume.
                return Some(format_smolstr!("{}-{}", pod.metadata.name, volume.name));
            }
            Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())
        };
        let names = pod.spec.volumes.iter().filter_map(claim);
        let namespace = &pod.metadata.namespace;
        let mut claims: Vec<ObjectKey> = names
            .map(|name| ObjectKey::namespaced(namespace.clone(), name))
            .collect();
        claims.sort_unstable();
        claims.dedup();
        let reads = Self {
            claims,
            needs: locality::names(pod, locality::NEEDS_ANNOTATION),
            wants: locality::names(pod, locality::WANTS_ANNOTATION),
        };
        (reads != Self::default()).then_some(reads)
    }
}

impl Demand {
    /// Whether it asks for what the columns do not show: extended resources or host ports.
    pub(super) fn has_no_column(&self) -> bool {
        self.forecast.is_some() || !self.host_ports.is_empty() || !self.requests.extended.is_empty()
    }

    /// Whether where it runs matters to others, beyond their counting it.
    pub(crate) fn reaches_others(&self) -> bool {
        (self.relations.as_deref()).is_some_and(Relations::reaches_others)
    }

    /// What a pod asks. A node it is bound to already is not among it: see
    /// [`node_name`](Self::node_name).
    pub fn of(pod: &Pod) -> Self {
        let spec = &pod.spec;
        let images = spec.init_containers.iter().chain(&spec.containers);
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone());
        let (node_affinity, preferred_nodes) = affinity.map_or((None, Vec::new()), |affinity| {
            (affinity.required, affinity.preferred)
        });
        Self {
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            requests: Amounts::of(&spec.requests()),
            scored: Scored::of(spec),
            node_name: pod.node_name().cloned(),
            node_selector: spec.node_selector.clone(),
            node_affinity,
            preferred_nodes,
            tolerations: spec.tolerations.clone(),
            host_ports: host_ports(spec),
            accelerators: AcceleratorAsk::of(pod),
            relations: Relations::of(pod).map(Arc::new),
            images: images
                .map(|container| normalized(&container.image))
                .collect(),
            reads: Reads::of(pod).map(Arc::new),
            forecast: Forecast::of(pod).map(Arc::new),
        }
    }
}

impl Scored {
    /// What a pod requests, and 100m CPU and 200 MB (MiB) of memory for each container that does
    /// not say. What is said to be 0 is 0.
    pub fn of(spec: &PodSpec) -> Self {
        let said = |container: &Container| {
            let mut requests = container.resources.requests.clone();
            requests
                .entry("cpu".into())
                .or_insert(Quantity::from_milli(UNSAID_CPU_MILLI));
            requests
                .entry("memory".into())
                .or_insert(Quantity::from_int(UNSAID_MEMORY));
            let mut whole = Container {
                restart_policy: container.restart_policy,
                ..Container::default()
            };
            whole.resources.requests = requests;
            whole
        };
        let filled = PodSpec {
            containers: spec.containers.iter().map(said).collect(),
            init_containers: spec.init_containers.iter().map(said).collect(),
            overhead: spec.overhead.clone(),
            resources: spec.resources.clone(),
            ..PodSpec::default()
        };
        let amounts = Amounts::of(&filled.requests());
        Self {
            cpu_milli: amounts.cpu_milli,
            memory: amounts.memory,
        }
    }
}

/// The ports of the node that a pod's containers take, sidecars included.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .filter(|container| container.is_sidecar());
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| &container.ports);
    ports
        .filter(|port| port.host_port > 0)
        .map(|port| HostPort::new(port.protocol, &port.host_ip, port.host_port))
        .collect()
}

pub(super) fn hold(amount: i64) -> i64 {
    amount.clamp(0, AMOUNT_MAX)
}

/// An image's name as nodes report it: with the tag `latest` where it has none.
fn normalized(image: &str) -> SmolStr {
    if image.rfind(':') <= image.rfind('/') {
        format_smolstr!("{image}:latest")
    } else {
        image.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_tag_mean_the_latest() {
        for (written, meant) in [
            ("root", "root:latest"),
            ("root:tag", "root:tag"),
            ("gcr.io:5000/root", "gcr.io:5000/root:latest"),
            ("root@sha256:ab", "root@sha256:ab"),
        ] {
            assert_eq!(normalized(written), meant);
        }
    }
}
