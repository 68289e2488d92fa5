//! What an agent sees of the cluster.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::kind::{Node, Pod, Service};
use orchestra_core::meta::ObjectKey;
use smol_str::SmolStr;

use crate::cache::IndexWatch;
use crate::loops::{BY_NODE, Caches};

/// What an agent sees of the cluster: its pods, its node, the services. It may lag behind; it
/// never goes back.
#[async_trait]
pub trait NodeView: fmt::Debug + Send + Sync + 'static {
    /// The pods bound to the node, ordered by key.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// The node itself, if it exists.
    fn node(&self) -> Option<Arc<Node>>;

    /// The services of a namespace, ordered by name.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;

    /// Waits until the node's pods may have changed since the last call. The first call returns
    /// once the view is complete. Cancel-safe. Called from one place only.
    async fn changed(&self);
}

const _: Option<&dyn NodeView> = None;

/// The view through this process's caches.
#[derive(Debug)]
pub struct CachedView {
    caches: Caches,
    name: SmolStr,
    watch: tokio::sync::Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    changes: IndexWatch<Pod>,
    synced: bool,
}

impl CachedView {
    /// What `caches` show of the node `name`.
    pub fn new(caches: Caches, name: impl Into<SmolStr>) -> Self {
        let name = name.into();
        let changes = caches.pods.watch_index(BY_NODE, name.clone());
        let watch = tokio::sync::Mutex::new(Watch {
            changes,
            synced: false,
        });
        Self {
            caches,
            name,
            watch,
        }
    }
}

#[async_trait]
impl NodeView for CachedView {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.caches.pods.by_index(BY_NODE, &self.name)
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.caches
            .nodes
            .get(&ObjectKey::cluster(self.name.clone()))
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.caches.services.in_namespace(namespace)
    }

    async fn changed(&self) {
        // A tokio mutex, which may be held while waiting; there is one caller.
        let mut watch = self.watch.lock().await;
        if !watch.synced {
            self.caches.synced().await;
            watch.synced = true;
            return;
        }
        watch.changes.changed().await;
    }
}
