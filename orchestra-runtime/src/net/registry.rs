//! Endpoint sets kept in memory: the registry of one process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orchestra_core::port::registry::{
    Applied, EndpointWatch, Endpoints, RegistryError, RegistryErrorKind, ServiceName,
    ServiceRegistry, SetGeneration,
};
use tokio::sync::watch;

/// The most endpoints that one set may hold.
pub const ENDPOINTS_MAX: usize = 16_384;

/// A registry in the memory of this process.
///
/// It keeps the newest set of each service that was ever published or followed. A service that is
/// gone is published as an empty set: forgetting it would let a late caller bring the old set
/// back.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    services: Mutex<BTreeMap<ServiceName, watch::Sender<Endpoints>>>,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<ServiceName, watch::Sender<Endpoints>>> {
        // Every change of the map is one call, so a panic elsewhere leaves it whole.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ServiceRegistry for MemoryRegistry {
    async fn apply(
        &self,
        service: &ServiceName,
        endpoints: Endpoints,
    ) -> Result<Applied, RegistryError> {
        check(service, &endpoints)?;
        let mut services = self.services();
        let sender = services
            .entry(service.clone())
            .or_insert_with(|| watch::Sender::new(Endpoints::default()));
        let mut applied = Applied::Published;
        sender.send_if_modified(|current| {
            if endpoints.generation <= current.generation {
                applied = Applied::Superseded(current.generation);
                return false;
            }
            *current = endpoints;
            true
        });
        Ok(applied)
    }

    async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError> {
        Ok(self
            .services()
            .get(service)
            .map(|set| set.borrow().clone())
            .unwrap_or_default())
    }

    async fn follow(&self, service: &ServiceName) -> Result<Box<dyn EndpointWatch>, RegistryError> {
        let mut services = self.services();
        let sender = services
            .entry(service.clone())
            .or_insert_with(|| watch::Sender::new(Endpoints::default()));
        let mut receiver = sender.subscribe();
        receiver.mark_changed();
        Ok(Box::new(MemoryWatch {
            service: service.clone(),
            receiver,
        }))
    }
}

/// Refuses what no registry may publish.
fn check(service: &ServiceName, endpoints: &Endpoints) -> Result<(), RegistryError> {
    let refuse = |why: String| {
        Err(RegistryError::new(RegistryErrorKind::Invalid, "apply")
            .about(service.to_string())
            .because(why))
    };
    if endpoints.generation == SetGeneration(0) {
        return refuse("generation 0 means that nothing was published; start at 1".into());
    }
    if endpoints.all.len() > ENDPOINTS_MAX {
        let count = endpoints.all.len();
        return refuse(format!(
            "{count} endpoints, at most {ENDPOINTS_MAX}; split the service"
        ));
    }
    match endpoints
        .all
        .windows(2)
        .find(|pair| pair[0].pod >= pair[1].pod)
    {
        Some(pair) => {
            let (first, second) = (&pair[0].pod_name, &pair[1].pod_name);
            refuse(format!(
                "{second} comes after {first}, out of order or twice; order the set by pod uid"
            ))
        }
        None => Ok(()),
    }
}

#[derive(Debug)]
struct MemoryWatch {
    service: ServiceName,
    receiver: watch::Receiver<Endpoints>,
}

#[async_trait]
impl EndpointWatch for MemoryWatch {
    async fn next(&mut self) -> Result<Endpoints, RegistryError> {
        self.receiver.changed().await.map_err(|_| {
            RegistryError::new(RegistryErrorKind::Unavailable, "follow")
                .about(self.service.to_string())
                .because("the registry was dropped")
        })?;
        Ok(self.receiver.borrow_and_update().clone())
    }
}
