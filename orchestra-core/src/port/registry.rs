//! Who answers for a service.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use smol_str::SmolStr;

use crate::error::{ErrorKind, PortError, Retry};
use crate::meta::Uid;

/// Names a service.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: SmolStr,
    /// Its name within it.
    pub name: SmolStr,
}

impl ServiceName {
    /// The service `name` in `namespace`.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The version of an endpoint set: of two sets, the one with the greater generation is newer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SetGeneration(pub u64);

/// One place where a service answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The pod behind it.
    pub pod: Uid,
    /// For people: the pod's name.
    pub pod_name: SmolStr,
    /// Its address.
    pub address: IpAddr,
    /// Its ports, by the name of the service's port (empty for a single unnamed one), in the
    /// order of the service.
    pub ports: Arc<[(SmolStr, u16)]>,
    /// It wants new connections.
    pub ready: bool,
    /// It is about to end: no new connections, but what runs may finish.
    pub terminating: bool,
    /// The node it runs on.
    pub node: SmolStr,
    /// The zone of that node; empty if unknown.
    pub zone: SmolStr,
}

/// Every endpoint of a service, at one generation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// The version of this set.
    pub generation: SetGeneration,
    /// The set, ordered by pod.
    pub all: Arc<[Endpoint]>,
}

/// What became of an `apply`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Applied {
    /// The set is published.
    Published,
    /// Something as new or newer was already there; nothing changed.
    Superseded(SetGeneration),
}

/// Follows one service.
#[async_trait]
pub trait EndpointWatch: Send {
    /// Waits for a set newer than the last one returned; the first call returns the current set
    /// at once. Sets between the last one returned and the newest may be skipped. Cancel-safe.
    async fn next(&mut self) -> Result<Endpoints, RegistryError>;
}

/// Publishes whole endpoint sets and hands them out.
///
/// # Contract
///
/// * Level-triggered: callers publish the set they want, not the difference, so that a lost or
///   repeated call heals itself, and a late one from a deposed controller is refused by its
///   generation.
/// * A set that was published is what later `lookup`s return, until a newer one is.
/// * Every follower comes to the newest set, and never goes back to an older one.
///
/// The suite `conformance::registry` tests an implementation against this.
#[async_trait]
pub trait ServiceRegistry: fmt::Debug + Send + Sync + 'static {
    /// Publishes `endpoints`, unless something as new or newer is there. Idempotent.
    ///
    /// Generations begin at 1: a set at zero is never newer than what is there. A registry may
    /// refuse such a set, and one that is out of order, with [`RegistryErrorKind::Invalid`].
    async fn apply(
        &self,
        service: &ServiceName,
        endpoints: Endpoints,
    ) -> Result<Applied, RegistryError>;

    /// The current set; empty at generation zero if nothing was ever published.
    async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError>;

    /// Follows one service, starting with its current set.
    async fn follow(&self, service: &ServiceName) -> Result<Box<dyn EndpointWatch>, RegistryError>;
}

const _: Option<&dyn ServiceRegistry> = None;
const _: Option<&dyn EndpointWatch> = None;

/// A registry call failed.
pub type RegistryError = PortError<RegistryErrorKind>;

/// Why a registry call failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// The set cannot be published as it is.
    #[error("the endpoint set breaks the registry's contract")]
    Invalid,
    /// The registry cannot be reached now.
    #[error("the registry cannot be reached now; try again with back-off")]
    Unavailable,
    /// The outcome is unknown.
    #[error("the outcome is unknown: it may have landed; apply again")]
    Ambiguous,
}

impl ErrorKind for RegistryErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::Ambiguous => Retry::Backoff,
            Self::Invalid => Retry::Never,
        }
    }
}
