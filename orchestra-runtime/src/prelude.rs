//! What an application that embeds orchestration mostly needs.

pub use orchestra_core::kind::pod::{EnvVarSource, RestartPolicy, Volume};
pub use orchestra_core::kind::{
    ConfigMap, Container, Deployment, Event, EventType, Namespace, Node, Pod, PodTemplateSpec,
    Probe, Resource, Secret, Service,
};
#[cfg(feature = "manifest")]
pub use orchestra_core::manifest;
pub use orchestra_core::meta::ObjectKey;

pub use crate::api::{Api, ApiError, Client, DeleteParams, ListParams};
pub use crate::driver::task::{TaskContext, TaskError};
pub use crate::net::address::AddressPlan;
pub use crate::orchestra::{Builder, Orchestra, Standing};

/// Any error, as a `main` returns it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
