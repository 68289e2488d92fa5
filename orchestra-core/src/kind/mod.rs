//! The kinds: what there is, in the JSON shape of their Kubernetes namesakes. One kind a file.
//!
//! Every kind is a plain struct with public fields. Chained methods build the common cases, and
//! [`Resource`] gives each its name in the API, its defaults and its rules.

pub mod accelerator;
mod config_map;
mod controller_revision;
mod deployment;
mod disruption_budget;
mod endpoint_slice;
mod event;
pub mod forecast;
pub mod gang;
mod lease;
pub mod locality;
mod namespace;
mod node;
mod object_rules;
pub mod pod;
mod priority_class;
mod resource;
mod resource_quota;
mod rules;
mod secret;
mod service;
mod type_meta;
pub mod usage;
mod wire;

pub use config_map::{Bytes, ConfigMap};
pub use controller_revision::ControllerRevision;
pub use deployment::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdate, StrategyType,
};
pub use disruption_budget::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
    UnhealthyPodEvictionPolicy,
};
pub use endpoint_slice::{
    AddressType, Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForName,
};
pub use event::{Event, EventSource, EventType, ObjectReference};
pub use lease::{Lease, LeaseSpec};
pub use namespace::{Namespace, NamespacePhase, NamespaceSpec, NamespaceStatus};
pub use node::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo, Taint, TaintEffect,
};
pub use object_rules::validate_object;
pub use pod::{Container, Pod, PodSpec, PodStatus, PodTemplateSpec, Probe, Toleration};
pub use priority_class::PriorityClass;
pub use resource::{FieldError, Invalid, Resource, Scope};
pub use resource_quota::{
    QuotaError, QuotaScope, QuotaScopeOperator, QuotaScopeRequirement, QuotaScopeSelector,
    ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus,
};
pub use rules::{ANNOTATION_LAST_APPLIED, ANNOTATIONS_BYTES_MAX, DATA_BYTES_MAX, LABELS_MAX};
pub use secret::Secret;
pub use service::{
    ClientIpConfig, LoadBalancerIngress, LoadBalancerStatus, Protocol, Service, ServicePort,
    ServiceSpec, ServiceStatus, ServiceType, SessionAffinity, SessionAffinityConfig, TrafficPolicy,
};
pub use type_meta::{ApiVersion, KindName};

#[cfg(test)]
mod manifests_test;
#[cfg(test)]
mod rules_test;
