//! The proxy's listeners: one on each port of each service that has an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::{Protocol, Service};
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
        for error in &failed {
            let text = report(error).to_string();
            tracing::warn!(error = %text, "a service does not listen");
            let culprit = services.iter().find(|service| {
                service
                    .cluster_ip()
                    .is_some_and(|ip| text.contains(&ip.to_string()))
            });
            if let Some(service) = culprit {
                events.warning(service.as_ref(), "FailedListen", text);
            }
        }
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
