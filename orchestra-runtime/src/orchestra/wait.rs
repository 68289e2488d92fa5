//! Waiting until an object is as one hopes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Lease, Namespace, Node, Pod, Resource, Scope,
    Service,
};
use orchestra_core::meta::{ConditionStatus, ObjectKey, Uid, condition};
use orchestra_core::port::registry::{Endpoints, RegistryError, ServiceName};
use orchestra_core::port::store::Revision;
use smol_str::{SmolStr, ToSmolStr};

use super::Orchestra;
use crate::api::ApiError;
use crate::cache::Cache;
use crate::loops::{BY_OWNER, Caches, answers, selects, unready};

/// How long is waited in silence.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked again who ought to answer for a service while nothing is said anew of who
/// does: pods that come and go between two publications change the one and not the other.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A kind of which this process has a live copy.
pub trait Cached: Resource {
    /// That copy.
    fn cache(caches: &Caches) -> &Cache<Self>;
}

macro_rules! cached {
    ($($kind:ty: $field:ident),* $(,)?) => {
        $(impl Cached for $kind {
            fn cache(caches: &Caches) -> &Cache<Self> {
                &caches.$field
            }
        })*
    };
}

cached! {
    Pod: pods,
    Node: nodes,
    Lease: leases,
    Deployment: deployments,
    ControllerRevision: revisions,
    Service: services,
    EndpointSlice: slices,
    Namespace: namespaces,
}

/// How far an object is from what was asked of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settlement {
    /// It is all that was asked.
    Settled,
    /// Not yet, and why, for people.
    NotYet(String),
    /// It will not be unless somebody does something, and why.
    Never(String),
}

/// A kind whose objects come to rest.
pub trait Settles: Cached {
    /// How far it is.
    fn settled(&self) -> Settlement;
}

impl Settles for Deployment {
    /// Rolled out: the newest generation was seen, all wanted pods are of it and available, and no
    /// others are left. Not any more once its progress deadline has passed.
    fn settled(&self) -> Settlement {
        let (wanted, status) = (self.spec.replicas.unwrap_or(1), &self.status);
        if status.observed_generation < self.metadata.generation {
            return Settlement::NotYet("its controller has not seen it yet".to_owned());
        }
        let progress = condition(&status.conditions, Self::PROGRESSING);
        let told = progress.map_or("", |progress| progress.message.as_str());
        if progress.is_some_and(|progress| progress.status == ConditionStatus::False) {
            let why = format!("it has exceeded its progress deadline: {told}");
            return Settlement::Never(why);
        }
        let available = status.available_replicas;
        if status.updated_replicas == wanted && available == wanted && status.replicas == wanted {
            return Settlement::Settled;
        }
        Settlement::NotYet(format!(
            "{available} of {wanted} pods are available: {told}"
        ))
    }
}

impl Settles for Pod {
    /// Ready, or ended well.
    fn settled(&self) -> Settlement {
        match unready::why(self) {
            None => Settlement::Settled,
            Some(why) if self.status.phase == PodPhase::Failed => Settlement::Never(why),
            Some(why) => Settlement::NotYet(why),
        }
    }
}

impl Settles for Node {
    /// Ready, and open to pods.
    fn settled(&self) -> Settlement {
        if self.spec.unschedulable {
            Settlement::NotYet("it is cordoned: spec.unschedulable is set".to_owned())
        } else if self.spec.pod_cidr.is_empty() {
            Settlement::NotYet("it has no range of addresses yet".to_owned())
        } else if self.is_ready() {
            Settlement::Settled
        } else {
            Settlement::NotYet("its agent has not been heard".to_owned())
        }
    }
}

/// What was waited for will not come.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is no such object.
    #[error("{plural} {key} does not exist; apply it first")]
    Gone {
        /// The plural of its kind.
        plural: &'static str,
        /// Its key.
        key: ObjectKey,
    },
    /// It came to another end.
    #[error("{plural} {key} will not be ready: {why}")]
    Failed {
        /// The plural of its kind.
        plural: &'static str,
        /// Its key.
        key: ObjectKey,
        /// Why.
        why: String,
    },
    /// It was not ready in time, and still may be one day.
    #[error("{plural} {key} is not ready after {waited:?}: {why}")]
    TimedOut {
        /// The plural of its kind.
        plural: &'static str,
        /// Its key.
        key: ObjectKey,
        /// How long was waited.
        waited: Duration,
        /// What it waits for itself.
        why: String,
    },
    /// Who answers for its services could not be looked up.
    #[error("it could not be looked up who answers for its services")]
    Registry(#[from] RegistryError),
    /// It could not be looked up.
    #[error("it could not be looked up")]
    Api(#[from] ApiError),
}

crate::debug_as_report!(WaitError);

impl WaitError {
    pub(super) fn gone<K: Resource>(key: ObjectKey) -> Self {
        Self::Gone {
            plural: K::PLURAL,
            key,
        }
    }
}

impl Orchestra {
    /// Waits until the object at `key` is as `hoped`, and returns it as it is then: `None` if
    /// `hoped` takes its absence. Waits as long as it takes; bound it with
    /// `tokio::time::timeout`. Cancel-safe.
    pub async fn wait_for<K: Cached>(
        &self,
        key: &ObjectKey,
        hoped: impl Fn(Option<&K>) -> bool,
    ) -> Option<Arc<K>> {
        let cache = K::cache(&self.caches);
        loop {
            // Read before the object, so that no change falls between the two.
            let through = cache.through();
            let now = cache.get(key);
            if hoped(now.as_deref()) {
                return now;
            }
            cache
                .wait_through(Revision(through.0.saturating_add(1)))
                .await;
        }
    }

    /// Waits until the object `name` of the default namespace (or cluster-wide) has come to rest:
    /// a deployment is rolled out and its services know who answers, a pod is ready. Waits as long
    /// as it takes, and says in the log (`tracing`) every ten seconds what for; bound it with
    /// [`ready_within`](Self::ready_within). Cancel-safe.
    ///
    /// A container without a readiness probe counts as ready as soon as it runs, also one that is about
    /// to fail: give it a probe, or its deployment some `minReadySeconds`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if there is no such object, if it goes meanwhile, or if it fails for good.
    pub async fn ready<K: Settles>(&self, name: impl Into<SmolStr>) -> Result<Arc<K>, WaitError> {
        self.ready_at(&default_key::<K>(name)).await
    }

    /// Like [`ready`](Self::ready), but waits no longer than `limit`. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready), and [`WaitError::TimedOut`], which says what it still waits for.
    pub async fn ready_within<K: Settles>(
        &self,
        name: impl Into<SmolStr>,
        limit: Duration,
    ) -> Result<Arc<K>, WaitError> {
        self.ready_at_within(&default_key::<K>(name), limit).await
    }

    /// Like [`ready`](Self::ready), for the object at `key`.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn ready_at<K: Settles>(&self, key: &ObjectKey) -> Result<Arc<K>, WaitError> {
        let settling = async {
            let settled = self.settled_at::<K>(key).await?;
            self.served(K::PLURAL, key).await?;
            Ok(settled)
        };
        tokio::pin!(settling);
        loop {
            match tokio::time::timeout(PATIENCE, &mut settling).await {
                Ok(settled) => return settled,
                Err(_) => {
                    let (kind, why) = (K::PLURAL, self.not_yet::<K>(key));
                    tracing::info!(%kind, %key, %why, "still waiting until it is ready");
                }
            }
        }
    }

    /// Like [`ready_at`](Self::ready_at), but waits no longer than `limit`. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`ready_within`](Self::ready_within).
    pub async fn ready_at_within<K: Settles>(
        &self,
        key: &ObjectKey,
        limit: Duration,
    ) -> Result<Arc<K>, WaitError> {
        match tokio::time::timeout(limit, self.ready_at::<K>(key)).await {
            Ok(ready) => ready,
            Err(_) => Err(WaitError::TimedOut {
                plural: K::PLURAL,
                key: key.clone(),
                waited: limit,
                why: self.not_yet::<K>(key),
            }),
        }
    }

    async fn settled_at<K: Settles>(&self, key: &ObjectKey) -> Result<Arc<K>, WaitError> {
        let fresh = self.client.api::<K>().find(key).await?;
        let Some(fresh) = fresh else {
            return Err(WaitError::gone::<K>(key.clone()));
        };
        let seen = fresh.metadata().resource_version;
        let rested = |now: Option<&K>| match now {
            // The cache may not have caught up with what was applied just now.
            Some(now) if now.metadata().resource_version < seen => false,
            Some(now) => !matches!(now.settled(), Settlement::NotYet(_)),
            None => K::cache(&self.caches).through() >= seen,
        };
        match self.wait_for::<K>(key, rested).await {
            None => Err(WaitError::gone::<K>(key.clone())),
            Some(now) => match now.settled() {
                Settlement::Never(why) => Err(WaitError::Failed {
                    plural: K::PLURAL,
                    key: key.clone(),
                    why,
                }),
                _ => Ok(now),
            },
        }
    }

    /// What the object at `key` waits for.
    fn not_yet<K: Settles>(&self, key: &ObjectKey) -> String {
        match K::cache(&self.caches).get(key).map(|now| now.settled()) {
            Some(Settlement::NotYet(why) | Settlement::Never(why)) => {
                match self.silent_node::<K>(key) {
                    Some(silent) => format!("{why}; {silent}"),
                    None => why,
                }
            }
            Some(Settlement::Settled) => "its services do not know yet who answers".to_owned(),
            None => "it is not there".to_owned(),
        }
    }

    /// Which node holds up the object at `key`, as nobody there is heard: the first by name of those
    /// that its pods are bound to.
    fn silent_node<K: Settles>(&self, key: &ObjectKey) -> Option<String> {
        let pods = match K::PLURAL {
            Pod::PLURAL => self.caches.pods.get(key).into_iter().collect(),
            Deployment::PLURAL => {
                let deployment = self.caches.deployments.get(key)?;
                let owner = deployment.metadata.uid.to_smolstr();
                self.caches.pods.by_index(BY_OWNER, &owner)
            }
            _ => Vec::new(),
        };
        let waiting = pods
            .iter()
            .filter(|pod| !pod.is_ready() && !pod.is_terminal());
        let nodes: BTreeSet<&SmolStr> = waiting.filter_map(|pod| pod.node_name()).collect();
        nodes.into_iter().find_map(|name| {
            let Some(node) = self.caches.nodes.get(&ObjectKey::cluster(name.clone())) else {
                return Some(format!("there is no node {name}"));
            };
            let ready = condition(&node.status.conditions, Node::READY);
            match ready.filter(|ready| ready.status != ConditionStatus::Unknown) {
                Some(_) => None,
                None => Some(match ready.and_then(|ready| ready.last_transition_time) {
                    Some(since) => {
                        format!("node {name} is silent since {since}: is there an agent?")
                    }
                    None => format!("node {name} was never heard: is there an agent?"),
                }),
            }
        })
    }

    /// Waits until the services of a deployment that has settled know its pods, and no others
    /// that are gone. Nobody answers for a service that ends. Other kinds have no services.
    async fn served(&self, plural: &str, key: &ObjectKey) -> Result<(), WaitError> {
        let deployment = match plural == Deployment::PLURAL {
            true => self.caches.deployments.get(key),
            false => None,
        };
        let Some(deployment) = deployment else {
            return Ok(());
        };
        let labels = &deployment.spec.template.metadata.labels;
        let serves = |service: &Arc<Service>| {
            selects(service, labels)
                && !service.spec.publish_not_ready_addresses
                && service.metadata.deletion_timestamp.is_none()
        };
        let services = &self.caches.services;
        for service in services.in_namespace(&key.namespace) {
            let name = ServiceName::new(key.namespace.clone(), service.metadata.name.clone());
            let mut followed = self.registry.follow(&name).await?;
            let mut known: Option<Endpoints> = None;
            // As it is now: it may be changed or deleted meanwhile.
            while let Some(service) = services.get(&service.key()).filter(serves) {
                if known
                    .as_ref()
                    .is_some_and(|known| self.agrees(&service, known))
                {
                    break;
                }
                match tokio::time::timeout(LOOK_AGAIN, followed.next()).await {
                    Ok(next) => known = Some(next?),
                    Err(_) => continue, // nothing new
                }
            }
        }
        Ok(())
    }

    /// Whether those who are said to answer for a service are the pods that are ready.
    fn agrees(&self, service: &Service, known: &Endpoints) -> bool {
        let pods = self.caches.pods.in_namespace(&service.metadata.namespace);
        let ready = |pod: &&Arc<Pod>| {
            pod.is_ready()
                && !pod.is_terminating()
                && selects(service, &pod.metadata.labels)
                && answers(service, pod)
        };
        let ready: BTreeSet<Uid> = pods.iter().filter(ready).map(|p| p.metadata.uid).collect();
        let said = known.all.iter().filter(|endpoint| endpoint.ready);
        ready == said.map(|endpoint| endpoint.pod).collect()
    }
}

fn default_key<K: Resource>(name: impl Into<SmolStr>) -> ObjectKey {
    match K::SCOPE {
        Scope::Namespaced => ObjectKey::namespaced("default", name),
        Scope::Cluster => ObjectKey::cluster(name),
    }
}
