//! A registry on a bad day.

use std::sync::Arc;

use async_trait::async_trait;

use super::faults::{Fault, Faults};
use crate::port::registry::{
    Applied, EndpointWatch, Endpoints, RegistryError, RegistryErrorKind, ServiceName,
    ServiceRegistry,
};

/// A [`ServiceRegistry`] that is away now and then.
///
/// `apply`: unavailable; lost and ambiguous, both told as [`RegistryErrorKind::Ambiguous`], of
/// which the second has landed; duplicated: sent twice, answered by the first. `lookup`, `follow`
/// and a follower's `next`: unavailable, delayed. A follower goes on after that.
#[derive(Debug)]
pub struct ChaosRegistry {
    inner: Arc<dyn ServiceRegistry>,
    faults: Faults,
}

impl ChaosRegistry {
    /// Faults for `inner`.
    pub fn new(inner: Arc<dyn ServiceRegistry>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

fn injected(kind: RegistryErrorKind, op: &'static str, service: &ServiceName) -> RegistryError {
    RegistryError::new(kind, op)
        .about(service.to_string())
        .because("an injected fault")
}

async fn read(
    faults: &Faults,
    op: &'static str,
    service: &ServiceName,
) -> Result<(), RegistryError> {
    let possible = [
        Fault::Unavailable,
        Fault::Lost,
        Fault::Ambiguous,
        Fault::Broken,
        Fault::Delayed,
    ];
    match faults.strike(&possible).await {
        Fault::None | Fault::Delayed => Ok(()),
        _ => Err(injected(RegistryErrorKind::Unavailable, op, service)),
    }
}

#[async_trait]
impl ServiceRegistry for ChaosRegistry {
    async fn apply(
        &self,
        service: &ServiceName,
        endpoints: Endpoints,
    ) -> Result<Applied, RegistryError> {
        let possible = [
            Fault::Unavailable,
            Fault::Lost,
            Fault::Ambiguous,
            Fault::Duplicated,
            Fault::Delayed,
        ];
        match self.faults.strike(&possible).await {
            Fault::Unavailable => Err(injected(RegistryErrorKind::Unavailable, "apply", service)),
            Fault::Lost => Err(injected(RegistryErrorKind::Ambiguous, "apply", service)),
            Fault::Ambiguous => {
                let _ = self.inner.apply(service, endpoints).await;
                Err(injected(RegistryErrorKind::Ambiguous, "apply", service))
            }
            Fault::Duplicated => {
                let first = self.inner.apply(service, endpoints.clone()).await;
                let _ = self.inner.apply(service, endpoints).await;
                first
            }
            _ => self.inner.apply(service, endpoints).await,
        }
    }

    async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError> {
        read(&self.faults, "lookup", service).await?;
        self.inner.lookup(service).await
    }

    async fn follow(&self, service: &ServiceName) -> Result<Box<dyn EndpointWatch>, RegistryError> {
        read(&self.faults, "follow", service).await?;
        let inner = self.inner.follow(service).await?;
        Ok(Box::new(ChaosFollower {
            inner,
            service: service.clone(),
            faults: self.faults.clone(),
        }))
    }
}

struct ChaosFollower {
    inner: Box<dyn EndpointWatch>,
    service: ServiceName,
    faults: Faults,
}

#[async_trait]
impl EndpointWatch for ChaosFollower {
    async fn next(&mut self) -> Result<Endpoints, RegistryError> {
        // Before the wait and not after it: a set in hand would be lost with a dropped call.
        read(&self.faults, "follow", &self.service).await?;
        self.inner.next().await
    }
}
