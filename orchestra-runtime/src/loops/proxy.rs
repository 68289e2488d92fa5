//! The proxy's listeners: one on each port of each service that has an address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::{Protocol, Service};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::registry::ServiceName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::caches::Caches;
use crate::events::Recorder;
use crate::net::l4::{L4Proxy, L4Route};

/// How long a listener that could not be opened rests before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the listeners of `proxy` as the services ask, until cancelled; then lets connections
/// finish for `grace`.
pub(crate) async fn serve(
    mut proxy: L4Proxy,
    caches: Caches,
    events: Recorder,
    grace: Duration,
    listening: Listening,
    cancel: CancellationToken,
) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    caches.services.on_change(move |_| wake.notify_one());
    loop {
        let services = caches.services.list();
        let routes: Vec<L4Route> = services
            .iter()
            .flat_map(|service| routes(service))
            .collect();
        let failed = proxy.sync(&routes).await;
        let why: BTreeMap<&L4Route, String> = failed
            .iter()
            .map(|(route, error)| (*route, report(error).to_string()))
            .collect();
        let mut tried = BTreeMap::new();
        for route in &routes {
            let why = why.get(route).cloned();
            let place = (route.service.clone(), route.listen);
            if let Some(why) = &why
                && !listening.knows(&place, why)
            {
                tracing::warn!(error = %why, service = %route.service, "a service does not listen");
                let key = ObjectKey::namespaced(
                    route.service.namespace.clone(),
                    route.service.name.clone(),
                );
                if let Some(service) = caches.services.get(&key) {
                    events.warning(service.as_ref(), "FailedListen", why.as_str());
                }
            }
            tried.insert(place, why);
        }
        listening.set(tried);
        let retry = async {
            if failed.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = changed.notified() => {}
            () = retry => {}
        }
    }
    proxy.shutdown(grace).await;
}

/// A service, and where it listens.
type Place = (ServiceName, SocketAddr);

/// What became of the proxy's listeners, for those who wait for one. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listening(Arc<Tried>);

#[derive(Debug, Default)]
struct Tried {
    /// Each place that was tried, and why nothing listens there for that service, if nothing does.
    places: Mutex<BTreeMap<Place, Option<String>>>,
    changed: Notify,
}

impl Listening {
    /// Waits until it was tried to listen there for that service. `Err` says why it failed.
    pub(crate) async fn at(&self, place: &Place) -> Result<(), String> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(outcome) = self.places().get(place) {
                return outcome.clone().map_or(Ok(()), Err);
            }
            changed.await;
        }
    }

    fn knows(&self, place: &Place, why: &str) -> bool {
        let known = self.places();
        known
            .get(place)
            .is_some_and(|old| old.as_deref() == Some(why))
    }

    fn set(&self, tried: BTreeMap<Place, Option<String>>) {
        *self.places() = tried;
        self.0.changed.notify_waiters();
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Place, Option<String>>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn routes(service: &Service) -> Vec<L4Route> {
    let Some(address) = service.cluster_ip() else {
        return Vec::new();
    };
    let name = ServiceName::new(
        service.metadata.namespace.clone(),
        service.metadata.name.clone(),
    );
    let tcp = service
        .spec
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| L4Route {
        listen: SocketAddr::new(address, port.port),
        service: name.clone(),
        port: port.name.clone(),
    })
    .collect()
}
