//! Quotas: what the pods of a namespace use, counted again whenever one comes, ends or goes.

use std::time::Duration;

use orchestra_core::kind::{Pod, ResourceQuota, ResourceQuotaStatus};
use orchestra_core::meta::ObjectKey;

use super::caches::Caches;
use crate::api::{Client, ListParams};
use crate::control::{Outcome, PassError, Queue, Reconcile};

/// How long the pods may take to be seen as of the quota's version; then they are read from the
/// store, which need not say that a commit wrote none.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Keeps the status of quotas right.
#[derive(Debug)]
pub struct QuotaLoop {
    client: Client,
    caches: Caches,
}

impl QuotaLoop {
    /// A controller that reads from `caches` and writes through `client`.
    pub fn new(client: Client, caches: Caches) -> Self {
        Self { client, caches }
    }

    /// Adds to `queue` every quota that a change of a quota or a pod may concern.
    pub fn feed(caches: &Caches, queue: &Queue<ObjectKey>) {
        crate::control::enqueue_changed(&caches.quotas, queue);
        let (quotas, adds) = (caches.quotas.clone(), queue.clone());
        caches.pods.on_change(move |event| {
            let same = match (&event.old, &event.new) {
                (Some(old), Some(new)) => {
                    old.is_terminal() == new.is_terminal() && old.spec == new.spec
                }
                _ => false,
            };
            if !same {
                for quota in quotas.in_namespace(&event.key.namespace) {
                    adds.add(quota.metadata.key());
                }
            }
        });
    }
}

impl Reconcile for QuotaLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "quota"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        let Some(quota) = self.caches.quotas.get(key) else {
            return Ok(Outcome::Settled);
        };
        // A pod and what it uses land in one commit. With the pods seen up to the quota's version,
        // and the quota still at it when this is written, none is missed and none counted twice.
        let seen = quota.metadata.resource_version;
        let caught_up = self.caches.pods.wait_through(seen);
        let pods = match tokio::time::timeout(BEHIND_MAX, caught_up).await {
            Ok(()) => self.caches.pods.in_namespace(&key.namespace),
            Err(_) => {
                let pods = self.client.api::<Pod>();
                let all = ListParams::namespace(key.namespace.clone());
                pods.list(all).await?.items
            }
        };
        let status = ResourceQuotaStatus {
            hard: quota.spec.hard.clone(),
            used: quota.usage(pods.iter().map(AsRef::as_ref)),
        };
        if status == quota.status {
            return Ok(Outcome::Settled);
        }
        let mut counted = ResourceQuota::clone(&quota);
        counted.status = status;
        let landed = self.client.commit().replace_status(counted).send().await?;
        self.caches.quotas.wait_through(landed).await;
        Ok(Outcome::Settled)
    }
}
