//! The live copies that controllers and agents of one process share.

use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Lease, Namespace, Node, Pod,
    PodDisruptionBudget, Resource, ResourceQuota, Service, gang,
};
use orchestra_core::meta::ObjectKey;
use smol_str::{SmolStr, ToSmolStr};
use tokio_util::sync::CancellationToken;

use crate::api::Client;
use crate::cache::Cache;

/// Index of pods by the node they are bound to; empty for those that wait for one.
pub const BY_NODE: &str = "node";

/// Index of pods by their [gang], as `namespace/name`.
pub const BY_GANG: &str = "gang";

/// Index of objects by the uid of their controlling owner.
pub const BY_OWNER: &str = "owner";

/// Index of endpoint slices by their service, as `namespace/name`.
pub const BY_SERVICE: &str = "service";

/// Index of endpoint slices by the uid of each pod that is ready in them.
pub const BY_READY_POD: &str = "ready-pod";

/// One live copy of each kind that the control plane and the agents read. Cheap to clone; clones
/// share them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caches {
    /// Pods, by [`BY_NODE`], [`BY_GANG`] and [`BY_OWNER`].
    pub pods: Cache<Pod>,
    /// Nodes.
    pub nodes: Cache<Node>,
    /// Leases: each node's heartbeat is one.
    pub leases: Cache<Lease>,
    /// Deployments.
    pub deployments: Cache<Deployment>,
    /// Controller revisions, by [`BY_OWNER`].
    pub revisions: Cache<ControllerRevision>,
    /// Services.
    pub services: Cache<Service>,
    /// Endpoint slices, by [`BY_SERVICE`], [`BY_OWNER`] and [`BY_READY_POD`].
    pub slices: Cache<EndpointSlice>,
    /// Namespaces.
    pub namespaces: Cache<Namespace>,
    /// Resource quotas.
    pub quotas: Cache<ResourceQuota>,
    /// Disruption budgets.
    pub budgets: Cache<PodDisruptionBudget>,
}

impl Caches {
    /// Empty copies, to be filled by [`run`](Self::run).
    pub fn new(client: &Client) -> Self {
        Self {
            pods: Cache::builder(client)
                .index(BY_NODE, |pod: &Pod| Some(pod.spec.node_name.clone()))
                .index(BY_GANG, |pod: &Pod| Some(gang_of(pod)?.to_smolstr()))
                .index(BY_OWNER, owner)
                .build(),
            nodes: Cache::new(client),
            leases: Cache::new(client),
            deployments: Cache::new(client),
            revisions: Cache::builder(client).index(BY_OWNER, owner).build(),
            services: Cache::new(client),
            slices: Cache::builder(client)
                .index(BY_OWNER, owner)
                .index(BY_SERVICE, |slice: &EndpointSlice| {
                    let name = slice.service_name()?;
                    Some(format!("{}/{name}", slice.metadata.namespace).into())
                })
                .index_many(BY_READY_POD, |slice: &EndpointSlice, found| {
                    for endpoint in &slice.endpoints {
                        if let Some(pod) = &endpoint.target_ref
                            && endpoint.conditions.is_ready()
                        {
                            found(pod.uid.to_smolstr());
                        }
                    }
                })
                .build(),
            namespaces: Cache::new(client),
            quotas: Cache::new(client),
            budgets: Cache::new(client),
        }
    }

    /// Keeps all of them up to date until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        tokio::join!(
            biased;
            self.pods.run(cancel.clone()),
            self.nodes.run(cancel.clone()),
            self.leases.run(cancel.clone()),
            self.deployments.run(cancel.clone()),
            self.revisions.run(cancel.clone()),
            self.services.run(cancel.clone()),
            self.slices.run(cancel.clone()),
            self.namespaces.run(cancel.clone()),
            self.quotas.run(cancel.clone()),
            self.budgets.run(cancel.clone()),
        );
    }

    /// Waits until each has its first listing. Cancel-safe.
    pub async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.deployments.synced().await;
        self.revisions.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
        self.quotas.synced().await;
        self.budgets.synced().await;
    }
}

/// The gang of a pod: its name in the pod's namespace.
pub(super) fn gang_of(pod: &Pod) -> Option<ObjectKey> {
    let name = pod.metadata.labels.get(gang::LABEL)?;
    Some(ObjectKey::namespaced(
        pod.metadata.namespace.clone(),
        name.clone(),
    ))
}

fn owner<K: Resource>(object: &K) -> Option<SmolStr> {
    object
        .metadata()
        .controller()
        .map(|owner| owner.uid.to_smolstr())
}
