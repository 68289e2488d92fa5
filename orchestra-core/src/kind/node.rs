//! A node: a machine that runs pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smol_str::SmolStr;

use super::rules::{Path, label_key, resources};
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope, locality};
use crate::meta::{Condition, ObjectMeta, condition_holds};
use crate::quantity::{Quantity, ResourceList};
use crate::selector::label_value_problem;
use crate::time::Timestamp;

kind! {
    /// A machine that runs pods.
    pub struct Node {
        /// What is asked for.
        pub spec: NodeSpec,
        /// What is so.
        pub status: NodeStatus,
    }
}

part! {
    /// What is asked of a node.
    pub struct NodeSpec {
        /// What keeps pods away that do not tolerate it.
        pub taints: Vec<Taint>,
        /// Whether new pods are kept away.
        pub unschedulable: bool,
        /// The range of its pods' addresses.
        #[serde(rename = "podCIDR")]
        pub pod_cidr: SmolStr,
        /// The ranges, one per address family; the first is `pod_cidr`.
        #[serde(rename = "podCIDRs")]
        pub pod_cidrs: Vec<SmolStr>,
        /// What its provider calls it.
        #[serde(rename = "providerID")]
        pub provider_id: SmolStr,
    }

    /// Keeps pods away that do not tolerate it.
    pub struct Taint {
        /// What it is about.
        pub key: SmolStr,
        /// Its value; may be empty.
        pub value: SmolStr,
        /// What it does.
        pub effect: TaintEffect,
        /// When it was added; for `NoExecute`.
        pub time_added: Option<Timestamp>,
    }

    /// The state of a node.
    pub struct NodeStatus {
        /// All that it has.
        pub capacity: ResourceList,
        /// What of that pods may use.
        pub allocatable: ResourceList,
        /// How it is.
        pub conditions: Vec<Condition>,
        /// How to reach it.
        pub addresses: Vec<NodeAddress>,
        /// The ports of its agent.
        pub daemon_endpoints: Option<NodeDaemonEndpoints>,
        /// What it is.
        pub node_info: NodeSystemInfo,
        /// The images that are on it already.
        pub images: Vec<ContainerImage>,
        /// An older word for how it is.
        pub phase: SmolStr,
    }

    /// A way to reach a node.
    pub struct NodeAddress {
        /// Which way: `InternalIP`, `ExternalIP`, `Hostname` …
        #[serde(rename = "type")]
        pub kind: SmolStr,
        /// The address or name.
        pub address: SmolStr,
    }

    /// The ports of a node's agent.
    pub struct NodeDaemonEndpoints {
        /// The agent's.
        pub kubelet_endpoint: DaemonEndpoint,
    }

    /// The port of an agent.
    pub struct DaemonEndpoint {
        /// The number.
        #[serde(rename = "Port")]
        pub port: u16,
    }

    /// What a node is.
    pub struct NodeSystemInfo {
        /// The machine's id.
        #[serde(rename = "machineID")]
        pub machine_id: SmolStr,
        /// The hardware's id.
        #[serde(rename = "systemUUID")]
        pub system_uuid: SmolStr,
        /// Another with each boot.
        #[serde(rename = "bootID")]
        pub boot_id: SmolStr,
        /// The kernel's version.
        pub kernel_version: SmolStr,
        /// The operating system's name and version.
        pub os_image: SmolStr,
        /// What runs containers, and its version.
        pub container_runtime_version: SmolStr,
        /// The agent's version.
        pub kubelet_version: SmolStr,
        /// The operating system, for instance `linux`.
        pub operating_system: SmolStr,
        /// The architecture, for instance `amd64`.
        pub architecture: SmolStr,
    }

    /// An image on a node.
    pub struct ContainerImage {
        /// Its names.
        pub names: Vec<SmolStr>,
        /// Its size.
        pub size_bytes: i64,
    }
}

words! {
    /// What a taint does to pods that do not tolerate it.
    pub enum TaintEffect {
        /// New ones are not placed here.
        #[default]
        NoSchedule = "NoSchedule",
        /// New ones are placed elsewhere if possible.
        PreferNoSchedule = "PreferNoSchedule",
        /// New ones are not placed here, and those that run must go.
        NoExecute = "NoExecute",
    }
}

impl Taint {
    /// On a node that is not ready.
    pub const NOT_READY: &'static str = "node.kubernetes.io/not-ready";
    /// On a node that nobody has heard of.
    pub const UNREACHABLE: &'static str = "node.kubernetes.io/unreachable";
    /// On a node that is closed to new pods.
    pub const UNSCHEDULABLE: &'static str = "node.kubernetes.io/unschedulable";

    /// A taint without a value.
    pub fn new(key: impl Into<SmolStr>, effect: TaintEffect) -> Self {
        Self {
            key: key.into(),
            effect,
            ..Self::default()
        }
    }
}

impl Taint {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        label_key(invalid, path.field("key"), &self.key);
        if let Some(problem) = label_value_problem(&self.value) {
            let problem = format!("is no value of a taint: {problem}");
            let remedy = "write up to 63 letters, digits, '-', '_' and '.'";
            invalid.refuse(path.field("value"), &self.value, problem, remedy);
        }
    }
}

fn is_address_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let bits_max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
}

impl Node {
    /// The label that names a node's zone.
    pub const ZONE_LABEL: &'static str = "topology.kubernetes.io/zone";
    /// The label that names a node's region.
    pub const REGION_LABEL: &'static str = "topology.kubernetes.io/region";
    /// The label that names the node itself.
    pub const HOSTNAME_LABEL: &'static str = "kubernetes.io/hostname";
    /// The condition that says whether it is well.
    pub const READY: &'static str = "Ready";

    /// A node of that name, labelled with it.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        let name = name.into();
        let mut metadata = ObjectMeta::named(name.clone());
        metadata.labels.insert(Self::HOSTNAME_LABEL.into(), name);
        Self {
            metadata,
            ..Self::default()
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        self.metadata.labels.insert(key.into(), value.into());
        self
    }

    /// In that zone.
    #[must_use]
    pub fn zone(self, zone: impl Into<SmolStr>) -> Self {
        self.label(Self::ZONE_LABEL, zone)
    }

    /// In that region.
    #[must_use]
    pub fn region(self, region: impl Into<SmolStr>) -> Self {
        self.label(Self::REGION_LABEL, region)
    }

    /// Adds a taint.
    #[must_use]
    pub fn taint(mut self, taint: Taint) -> Self {
        self.spec.taints.push(taint);
        self
    }

    /// Sets what it has and what pods may use: thousandths of a core, MiB of memory, pods.
    #[must_use]
    pub fn capacity(self, cpu_milli: u32, memory_mib: u32, pods: u32) -> Self {
        self.resource("cpu", Quantity::from_milli(cpu_milli.into()))
            .resource("memory", Quantity::from_bytes(i64::from(memory_mib) << 20))
            .resource("pods", Quantity::from_int(pods.into()))
    }

    /// Sets how much of one resource it has, all of it for pods.
    #[must_use]
    pub fn resource(mut self, name: impl Into<SmolStr>, amount: Quantity) -> Self {
        let name = name.into();
        self.status.allocatable.insert(name.clone(), amount);
        self.status.capacity.insert(name, amount);
        self
    }

    /// Whether it said of late that it is well.
    pub fn is_ready(&self) -> bool {
        condition_holds(&self.status.conditions, Self::READY)
    }

    /// Its zone; empty if it has none.
    pub fn zone_name(&self) -> &str {
        self.metadata
            .labels
            .get(Self::ZONE_LABEL)
            .map_or("", SmolStr::as_str)
    }
}

impl Resource for Node {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const SCOPE: Scope = Scope::Cluster;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        if self.status.allocatable.is_empty() {
            self.status.allocatable.clone_from(&self.status.capacity);
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let path = Path::root("spec");
        let taints = path.field("taints");
        let mut taken = BTreeSet::new();
        for (index, taint) in self.spec.taints.iter().enumerate() {
            let at = taints.index(index);
            taint.check(&mut invalid, at);
            if !taken.insert((taint.key.as_str(), taint.effect)) {
                let problem = format!("is already there with {}", taint.effect);
                let remedy = "keep one taint for each key and effect";
                invalid.refuse(at.field("key"), &taint.key, problem, remedy);
            }
        }
        let one = std::iter::once(&self.spec.pod_cidr).filter(|range| !range.is_empty());
        for range in one
            .chain(&self.spec.pod_cidrs)
            .filter(|range| !is_address_range(range))
        {
            let remedy = "write one like 10.244.0.0/24";
            invalid.refuse(
                path.field("podCIDR"),
                range,
                "is no range of addresses",
                remedy,
            );
        }
        locality::check(&mut invalid, self);
        let status = Path::root("status");
        resources(
            &mut invalid,
            status.field("capacity"),
            &self.status.capacity,
        );
        resources(
            &mut invalid,
            status.field("allocatable"),
            &self.status.allocatable,
        );
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn same_but_for_status(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec
    }
}
