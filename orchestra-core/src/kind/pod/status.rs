//! The state of a pod and of its containers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::container::ResourceRequirements;
use crate::kind::wire::{Field, part, words};
use crate::meta::Condition;
use crate::quantity::ResourceList;
use crate::time::Timestamp;

part! {
    /// The state of a pod.
    pub struct PodStatus {
        /// Where it is in its life.
        pub phase: PodPhase,
        /// `PodScheduled`, `Initialized`, `ContainersReady`, `Ready` and those of readiness gates.
        pub conditions: Vec<Condition>,
        /// Why it is so, in a word for machines.
        pub reason: SmolStr,
        /// Why it is so, for people.
        pub message: String,
        /// The generation of the spec that this speaks of.
        pub observed_generation: u64,
        /// The address of its node.
        #[serde(rename = "hostIP")]
        pub host_ip: Option<IpAddr>,
        /// The addresses of its node, one per address family.
        #[serde(rename = "hostIPs")]
        pub host_ips: Vec<IpEntry>,
        /// Its own address.
        #[serde(rename = "podIP")]
        pub pod_ip: Option<IpAddr>,
        /// Its own addresses, one per address family; the first is `pod_ip`.
        #[serde(rename = "podIPs")]
        pub pod_ips: Vec<IpEntry>,
        /// When its node took it on.
        pub start_time: Option<Timestamp>,
        /// Where room is being made for it.
        pub nominated_node_name: SmolStr,
        /// Its init containers.
        pub init_container_statuses: Vec<ContainerStatus>,
        /// Its containers.
        pub container_statuses: Vec<ContainerStatus>,
        /// Its containers for debugging.
        pub ephemeral_container_statuses: Vec<ContainerStatus>,
        /// How it is treated when its node runs out.
        pub qos_class: Option<QosClass>,
    }

    /// An address.
    pub struct IpEntry {
        /// It.
        pub ip: Option<IpAddr>,
    }

    /// The state of a container.
    pub struct ContainerStatus {
        /// Its name.
        pub name: SmolStr,
        /// What it is doing.
        pub state: ContainerState,
        /// How it ended last, if it was started again; else nothing.
        pub last_state: ContainerState,
        /// Whether it wants requests.
        pub ready: bool,
        /// Whether its startup probe has passed.
        pub started: Option<bool>,
        /// How often it was started again.
        pub restart_count: u32,
        /// What it runs.
        pub image: SmolStr,
        /// Exactly what it runs.
        #[serde(rename = "imageID")]
        pub image_id: SmolStr,
        /// What its driver calls it.
        #[serde(rename = "containerID")]
        pub container_id: SmolStr,
        /// What it was given.
        pub allocated_resources: ResourceList,
        /// What is in force.
        pub resources: Option<ResourceRequirements>,
    }

    /// It does not run yet, or not again yet.
    pub struct ContainerStateWaiting {
        /// Why, in a word for machines: `ContainerCreating`, `CrashLoopBackOff` …
        pub reason: SmolStr,
        /// Why, for people.
        pub message: String,
    }

    /// It runs.
    pub struct ContainerStateRunning {
        /// Since when.
        pub started_at: Option<Timestamp>,
    }

    /// It has ended.
    pub struct ContainerStateTerminated {
        /// Its exit code; 0 is success.
        pub exit_code: i32,
        /// The signal that ended it; zero for none.
        pub signal: i32,
        /// Why, in a word for machines: `Completed`, `Error`, `OOMKilled` …
        pub reason: SmolStr,
        /// Why, for people.
        pub message: String,
        /// When it began.
        pub started_at: Option<Timestamp>,
        /// When it ended.
        pub finished_at: Option<Timestamp>,
        /// What its driver called it.
        #[serde(rename = "containerID")]
        pub container_id: SmolStr,
    }
}

words! {
    /// Where a pod is in its life.
    pub enum PodPhase {
        /// Not all of its containers have been started once.
        #[default]
        Pending = "Pending",
        /// All have been started, and not all have ended for good.
        Running = "Running",
        /// All have ended well.
        Succeeded = "Succeeded",
        /// All have ended, and not all of them well.
        Failed = "Failed",
        /// Its node cannot be asked.
        Unknown = "Unknown",
    }

    /// How a pod is treated when its node runs out of something.
    pub enum QosClass {
        /// Some of its needs are stated.
        #[default]
        Burstable = "Burstable",
        /// Needs and limits of CPU and memory are stated and equal for all containers.
        Guaranteed = "Guaranteed",
        /// None are stated: it goes first.
        BestEffort = "BestEffort",
    }
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WireState", rename_all = "camelCase")]
pub enum ContainerState {
    /// Nothing to tell: `{}` in JSON, or left out.
    #[default]
    #[serde(skip)]
    Unset,
    /// It does not run yet, or not again yet.
    Waiting(ContainerStateWaiting),
    /// It runs.
    Running(ContainerStateRunning),
    /// It has ended.
    Terminated(ContainerStateTerminated),
}

/// A container's state in JSON: at most one is set.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WireState {
    waiting: Option<ContainerStateWaiting>,
    running: Option<ContainerStateRunning>,
    terminated: Option<ContainerStateTerminated>,
}

impl From<WireState> for ContainerState {
    fn from(wire: WireState) -> Self {
        match (wire.terminated, wire.running, wire.waiting) {
            (Some(terminated), _, _) => Self::Terminated(terminated),
            (None, Some(running), _) => Self::Running(running),
            (None, None, Some(waiting)) => Self::Waiting(waiting),
            (None, None, None) => Self::Unset,
        }
    }
}

impl Field for ContainerState {
    fn is_blank(&self) -> bool {
        *self == Self::Unset
    }
}

impl ContainerState {
    /// Why it waits, if it does.
    pub fn waiting(&self) -> Option<&ContainerStateWaiting> {
        if let Self::Waiting(waiting) = self {
            Some(waiting)
        } else {
            None
        }
    }

    /// Since when it runs, if it does.
    pub fn running(&self) -> Option<&ContainerStateRunning> {
        if let Self::Running(running) = self {
            Some(running)
        } else {
            None
        }
    }

    /// How it ended, if it did.
    pub fn terminated(&self) -> Option<&ContainerStateTerminated> {
        if let Self::Terminated(terminated) = self {
            Some(terminated)
        } else {
            None
        }
    }
}
