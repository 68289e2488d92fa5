//! Taking a pod out of traffic, in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::kind::EndpointSlice;
use orchestra_core::meta::Uid;
use smol_str::ToSmolStr;
use tokio::time::Instant;

use super::l4::L4Handle;
use crate::cache::Cache;
use crate::loops::BY_READY_POD;

/// Whoever sends traffic to pods.
#[async_trait]
pub trait Traffic: fmt::Debug + Send + Sync + 'static {
    /// Waits until nobody sends new connections to the pod and the ones it has are done, for
    /// `patience` at the most. Cancel-safe.
    ///
    /// Call it once the pod is marked as terminating: that is what takes it out of its services.
    async fn drained(&self, pod: Uid, patience: Duration);
}

const _: Option<&dyn Traffic> = None;

/// Nobody sends any.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTraffic;

#[async_trait]
impl Traffic for NoTraffic {
    async fn drained(&self, _pod: Uid, _patience: Duration) {}
}

/// The traffic of services: their endpoint slices, and the proxy in front of them.
#[derive(Clone, Debug)]
pub struct ServiceTraffic {
    slices: Cache<EndpointSlice>,
    proxy: Option<L4Handle>,
}

impl ServiceTraffic {
    /// Watches the slices of `slices` (indexed by [`BY_READY_POD`]), and the connections of
    /// `proxy` if there is one.
    pub fn new(slices: Cache<EndpointSlice>, proxy: Option<L4Handle>) -> Arc<Self> {
        Arc::new(Self { slices, proxy })
    }
}

#[async_trait]
impl Traffic for ServiceTraffic {
    async fn drained(&self, pod: Uid, patience: Duration) {
        let until = Instant::now() + patience;
        let name = pod.to_smolstr();
        let mut changes = self.slices.watch_index(BY_READY_POD, name.clone());
        let listed = async {
            while !self.slices.by_index(BY_READY_POD, &name).is_empty() {
                changes.changed().await;
            }
        };
        if tokio::time::timeout_at(until, listed).await.is_err() {
            tracing::warn!(%pod, "still in an endpoint set when its patience ran out");
            return;
        }
        if let Some(proxy) = &self.proxy
            && let Err(left) = proxy
                .drained(pod, until.saturating_duration_since(Instant::now()))
                .await
        {
            tracing::debug!(%pod, %left, "stopped with connections");
        }
    }
}
