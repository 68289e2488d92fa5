//! Services: an address for each, and who answers there.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::int_or::IntOrString;
use orchestra_core::kind::{Node, Pod, Resource, Service, ServicePort, ServiceType};
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::port::registry::{
    Applied, Endpoint, Endpoints, ServiceName, ServiceRegistry, SetGeneration,
};
use orchestra_core::port::store::{Guard, Key, Write};
use smol_str::{SmolStr, ToSmolStr};

use super::caches::{BY_NODE, Caches};
use super::pace::Pace;
use crate::api::Client;
use crate::control::{Outcome, PassError, Queue, Reconcile};
use crate::net::address::{AddressPlan, AddressPool, LoopbackSpan};
use crate::net::ports;

/// Where it stands in the store which service has an address: one key an address.
const ADDRESS_PREFIX: &str = "serviceaddresses/";

/// A service with so many endpoints is large.
const LARGE_ENDPOINTS: usize = 100;

/// The least time from one publication of a large service's endpoints to the next, for each of
/// them: all are written anew whenever one changes.
const REST_PER_ENDPOINT: Duration = Duration::from_micros(500);

/// The longest rest between two publications.
const REST_MAX: Duration = Duration::from_millis(500);

/// Gives services their addresses, and publishes who answers for them.
#[derive(Debug)]
pub struct EndpointsLoop {
    client: Client,
    caches: Caches,
    registry: Arc<dyn ServiceRegistry>,
    addresses: AddressPlan,
    pace: Pace,
}

impl EndpointsLoop {
    /// A controller that reads from `caches` and publishes to `registry`. `addresses` are those
    /// that services get.
    pub fn new(
        client: Client,
        caches: Caches,
        registry: Arc<dyn ServiceRegistry>,
        addresses: AddressPlan,
    ) -> Self {
        Self {
            client,
            caches,
            registry,
            addresses,
            pace: Pace::new(LARGE_ENDPOINTS, REST_PER_ENDPOINT, REST_MAX),
        }
    }

    /// Adds to `queue` every service that a change of a service, a pod or a node may concern.
    pub fn feed(caches: &Caches, queue: &Queue<ObjectKey>) {
        crate::control::enqueue_changed(&caches.services, queue);
        let (services, adds) = (caches.services.clone(), queue.clone());
        caches.pods.on_change(move |event| {
            let unchanged = match (&event.old, &event.new) {
                (Some(old), Some(new)) => shows(old) == shows(new),
                _ => false,
            };
            if unchanged {
                return;
            }
            for service in services.in_namespace(&event.key.namespace) {
                let chosen = |pod: &Option<Arc<Pod>>| {
                    pod.as_ref()
                        .is_some_and(|pod| selects(&service, &pod.metadata.labels))
                };
                if chosen(&event.old) || chosen(&event.new) {
                    adds.add(service.key());
                }
            }
        });
        // Endpoints say in which zone they are, and a pod may be known before its node.
        let (services, pods) = (caches.services.clone(), caches.pods.downgrade());
        let adds = queue.clone();
        caches.nodes.on_change(move |event| {
            let zone = |node: &Option<Arc<Node>>| {
                let zone = node.as_ref().map(|node| SmolStr::from(node.zone_name()));
                zone.unwrap_or_default()
            };
            if zone(&event.old) == zone(&event.new) {
                return;
            }
            let Some(pods) = pods.upgrade() else { return };
            for pod in pods.by_index(BY_NODE, &event.key.name) {
                for service in services.in_namespace(&pod.metadata.namespace) {
                    if selects(&service, &pod.metadata.labels) {
                        adds.add(service.key());
                    }
                }
            }
        });
    }
}

/// What of a pod shows in an endpoint.
fn shows(pod: &Pod) -> impl PartialEq + '_ {
    (
        &pod.metadata.labels,
        pod.status.pod_ip,
        ports::assigned(pod),
        pod.is_ready(),
        pod.is_terminating(),
        pod.is_terminal(),
        &pod.spec.node_name,
    )
}

/// Whether pods with those labels answer for the service.
pub(crate) fn selects(service: &Service, labels: &Labels) -> bool {
    let selector = &service.spec.selector;
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

impl Reconcile for EndpointsLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        let name = ServiceName::new(key.namespace.clone(), key.name.clone());
        let Some(service) = self.caches.services.get(key) else {
            self.pace.forget(key);
            // Nobody answers for a service that is gone; its slices go with their owner.
            self.publish(&name, Vec::new()).await?;
            return Ok(Outcome::Settled);
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Settled);
        }
        if service.spec.cluster_ip.is_empty() && service.spec.exposure != ServiceType::ExternalName
        {
            self.give_address(&service).await?;
            return Ok(Outcome::Settled); // the change brings the service back
        }
        if service.spec.selector.is_empty() {
            return Ok(Outcome::Settled); // somebody else says who answers
        }
        let now = self.client.now();
        if let Some(due) = self.pace.rests_until(key, now) {
            return Ok(Outcome::ReviewAt(due));
        }
        let mut all: Vec<Endpoint> = self
            .caches
            .pods
            .in_namespace(&key.namespace)
            .iter()
            .filter(|pod| selects(&service, &pod.metadata.labels))
            .filter_map(|pod| self.endpoint(&service, pod))
            .collect();
        all.sort_by_key(|endpoint| endpoint.pod);
        self.pace.looks(key, all.len(), now);
        self.publish(&name, all).await?;
        Ok(Outcome::Settled)
    }
}

impl EndpointsLoop {
    /// One commit takes the lowest free address and gives it to the service, so that no two
    /// services ever have the same.
    async fn give_address(&self, service: &Arc<Service>) -> Result<(), PassError> {
        if self.addresses.span() == LoopbackSpan::Single {
            // All share the one address there is, each on its own ports. Where two want the same,
            // the proxy says so.
            let changed = with_address(service, Ipv4Addr::LOCALHOST);
            let landed = self.client.commit().replace(changed).send().await?;
            self.caches.services.wait_through(landed).await;
            return Ok(());
        }
        let mut pool = AddressPool::new(self.addresses.services());
        for other in self.caches.services.list() {
            if let Some(IpAddr::V4(taken)) = other.cluster_ip() {
                // One outside the range, or twice the same, is nothing to hand out either way.
                let _ = pool.claim(taken);
            }
        }
        loop {
            let address = pool
                .allocate()
                .map_err(|error| PassError::new(orchestra_core::error::Retry::Backoff, error))?;
            let key = Key::from(format!("{ADDRESS_PREFIX}{address}"));
            let guard = match self.client.store().get(&key).await? {
                None => Guard::Absent(key.clone()),
                // Left behind by a service that is gone.
                Some(stored) if !self.exists(&stored.value).await? => {
                    Guard::At(key.clone(), stored.modified)
                }
                Some(_) => continue,
            };
            let changed = with_address(service, address);
            let owner = super::owners::text(service.as_ref());
            let landed = self
                .client
                .commit()
                .replace(changed)
                .guard(guard)
                .write(Write::put(key, owner.as_bytes()))
                .send()
                .await?;
            self.caches.services.wait_through(landed).await;
            return Ok(());
        }
    }

    /// Whether the service that took an address still exists. The cache may not know it yet: the
    /// store decides.
    async fn exists(&self, owner: &[u8]) -> Result<bool, PassError> {
        Ok(super::owners::exists::<Service>(&self.client, owner).await?)
    }

    fn endpoint(&self, service: &Service, pod: &Pod) -> Option<Endpoint> {
        if !answers(service, pod) {
            return None;
        }
        let address = pod.status.pod_ip?;
        let ports: Arc<[(SmolStr, u16)]> = service
            .spec
            .ports
            .iter()
            .filter_map(|port| Some((port.name.clone(), target(port, pod)?)))
            .collect();
        let terminating = pod.is_terminating();
        let node = self
            .caches
            .nodes
            .get(&ObjectKey::cluster(pod.spec.node_name.clone()));
        Some(Endpoint {
            pod: pod.metadata.uid,
            pod_name: pod.metadata.name.clone(),
            address,
            ports,
            ready: (pod.is_ready() || service.spec.publish_not_ready_addresses) && !terminating,
            terminating,
            node: pod.spec.node_name.clone(),
            zone: node
                .map(|node: Arc<Node>| node.zone_name().into())
                .unwrap_or_default(),
        })
    }

    /// Publishes the set as newer than what is there, unless it is the same.
    async fn publish(&self, name: &ServiceName, all: Vec<Endpoint>) -> Result<(), PassError> {
        let mut current = self.registry.lookup(name).await?;
        while current.all[..] != all[..] {
            let generation = SetGeneration(current.generation.0 + 1);
            let set = Endpoints {
                generation,
                all: all.clone().into(),
            };
            match self.registry.apply(name, set).await? {
                Applied::Published => return Ok(()),
                Applied::Superseded(_) => current = self.registry.lookup(name).await?,
            }
        }
        Ok(())
    }
}

fn with_address(service: &Service, address: Ipv4Addr) -> Service {
    let mut changed = service.clone();
    changed.spec.cluster_ip = address.to_smolstr();
    changed.spec.cluster_ips = vec![changed.spec.cluster_ip.clone()];
    changed
}

/// Whether a pod has an address and a port for the service. One that lacks some of the named
/// ports still answers on its others.
pub(crate) fn answers(service: &Service, pod: &Pod) -> bool {
    let ports = &service.spec.ports;
    pod.status.pod_ip.is_some()
        && !pod.is_terminal()
        && (ports.is_empty() || ports.iter().any(|port| target(port, pod).is_some()))
}

/// Where the pod listens for a port of the service; `None` if the pod has no port of that name.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    Some(ports::listens(pod, named(port, pod)?))
}

/// The port of the pod's manifest that a port of the service means.
fn named(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let all = pod.spec.init_containers.iter();
    let sidecars = all.filter(|container| container.is_sidecar());
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => pod
            .spec
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| &container.ports)
            .find(|found| found.name == *name && found.protocol == port.protocol)
            .map(|found| found.container_port),
    }
}
