//! Waiting until an object is as one hopes.

use std::sync::Arc;

use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Lease, Namespace, Node, Pod, Resource, Service,
};
use orchestra_core::meta::{ConditionStatus, ObjectKey, condition};
use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

use super::Orchestra;
use crate::api::ApiError;
use crate::cache::Cache;
use crate::loops::Caches;

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

/// A kind whose objects come to rest.
pub trait Settles: Cached {
    /// Whether it is all that was asked of it. `Err` says why it will not be.
    fn settled(&self) -> Result<bool, String>;
}

impl Settles for Deployment {
    /// Rolled out: the newest generation was seen, all wanted pods are of it and available, and no
    /// others are left. Not any more once its progress deadline has passed.
    fn settled(&self) -> Result<bool, String> {
        let (wanted, status) = (self.spec.replicas.unwrap_or(1), &self.status);
        if status.observed_generation >= self.metadata.generation
            && let Some(stalled) = condition(&status.conditions, Self::PROGRESSING)
            && stalled.status == ConditionStatus::False
        {
            let told = &stalled.message;
            return Err(format!("it has exceeded its progress deadline: {told}"));
        }
        Ok(status.observed_generation >= self.metadata.generation
            && status.updated_replicas == wanted
            && status.available_replicas == wanted
            && status.replicas == wanted)
    }
}

impl Settles for Pod {
    /// Ready, or ended well.
    fn settled(&self) -> Result<bool, String> {
        match self.status.phase {
            PodPhase::Succeeded => Ok(true),
            PodPhase::Failed => Err(format!("{} {}", self.status.reason, self.status.message)),
            _ => Ok(self.is_ready()),
        }
    }
}

impl Settles for Node {
    /// Ready, and open to pods.
    fn settled(&self) -> Result<bool, String> {
        Ok(self.is_ready() && !self.spec.pod_cidr.is_empty())
    }
}

/// What was waited for will not come.
#[derive(Debug, thiserror::Error)]
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
    /// It could not be looked up.
    #[error("it could not be looked up")]
    Api(#[from] ApiError),
}

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
    /// a deployment is rolled out, a pod is ready. Waits as long as it takes; bound it with
    /// `tokio::time::timeout`. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if there is no such object, if it goes meanwhile, or if it fails for good.
    pub async fn ready<K: Settles>(&self, name: impl Into<SmolStr>) -> Result<Arc<K>, WaitError> {
        let key = match K::SCOPE {
            orchestra_core::kind::Scope::Namespaced => ObjectKey::namespaced("default", name),
            orchestra_core::kind::Scope::Cluster => ObjectKey::cluster(name),
        };
        self.ready_at(&key).await
    }

    /// Like [`ready`](Self::ready), for the object at `key`.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn ready_at<K: Settles>(&self, key: &ObjectKey) -> Result<Arc<K>, WaitError> {
        let fresh = self.client.api::<K>().find(key).await?;
        let Some(fresh) = fresh else {
            return Err(WaitError::gone::<K>(key.clone()));
        };
        let seen = fresh.metadata().resource_version;
        let rested = |now: Option<&K>| match now {
            // The cache may not have caught up with what was applied just now.
            Some(now) if now.metadata().resource_version < seen => false,
            Some(now) => now.settled() != Ok(false),
            None => K::cache(&self.caches).through() >= seen,
        };
        match self.wait_for::<K>(key, rested).await {
            None => Err(WaitError::gone::<K>(key.clone())),
            Some(now) => match now.settled() {
                Ok(_) => Ok(now),
                Err(why) => Err(WaitError::Failed {
                    plural: K::PLURAL,
                    key: key.clone(),
                    why,
                }),
            },
        }
    }
}
