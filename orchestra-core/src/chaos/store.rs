//! A store on a bad day.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::faults::{Fault, Faults};
use crate::port::lease::{KeptAlive, LeaseId, LeaseStore};
use crate::port::store::{
    Batch, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, Txn,
    Versioned, Watch,
};

/// A [`StateStore`] that fails as a far one does.
///
/// * Reads and `watch`: unavailable (a lost request or answer is that too, for a read), delayed.
/// * `commit`: unavailable before it landed; lost and ambiguous, both told as
///   [`StoreErrorKind::Ambiguous`], of which the first has not landed and the second has;
///   duplicated: sent twice, and told as ambiguous if both landed; delayed.
/// * A watch: delayed, or broken with [`StoreErrorKind::Lagged`], after which it stays broken.
///   It never loses a change in silence.
/// * Leases: as commits. A duplicated grant leaves an unused lease that ends by itself.
#[derive(Debug)]
pub struct ChaosStore {
    inner: Arc<dyn StateStore>,
    faults: Faults,
}

impl ChaosStore {
    /// Faults for `inner`.
    pub fn new(inner: Arc<dyn StateStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn read(&self, op: &'static str, about: &str) -> Result<(), StoreError> {
        let possible = [
            Fault::Unavailable,
            Fault::Lost,
            Fault::Ambiguous,
            Fault::Delayed,
        ];
        match self.faults.strike(&possible).await {
            Fault::None | Fault::Delayed => Ok(()),
            _ => Err(injected(StoreErrorKind::Unavailable, op, about)),
        }
    }

    async fn write(&self) -> Fault {
        self.faults
            .strike(&[
                Fault::Unavailable,
                Fault::Lost,
                Fault::Ambiguous,
                Fault::Duplicated,
                Fault::Delayed,
            ])
            .await
    }

    fn inner_leases(&self, op: &'static str) -> Result<&dyn LeaseStore, StoreError> {
        self.inner.leases().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Invalid, op).because("the store has no leases")
        })
    }
}

fn injected(kind: StoreErrorKind, op: &'static str, about: &str) -> StoreError {
    StoreError::new(kind, op)
        .about(about)
        .because("an injected fault")
}

#[async_trait]
impl StateStore for ChaosStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.read("get", key.as_str()).await?;
        self.inner.get(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.read("list", request.prefix.as_str()).await?;
        self.inner.list(request).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        let about = txn.writes.first().map(|write| write.key().clone());
        let about = about.as_ref().map_or("transaction", Key::as_str);
        let ambiguous = || injected(StoreErrorKind::Ambiguous, "commit", about);
        match self.write().await {
            Fault::Unavailable => Err(injected(StoreErrorKind::Unavailable, "commit", about)),
            Fault::Lost => Err(ambiguous()),
            Fault::Ambiguous => {
                // Whatever the answer was, it is lost.
                let _ = self.inner.commit(txn).await;
                Err(ambiguous())
            }
            Fault::Duplicated => {
                let first = self.inner.commit(txn.clone()).await;
                let second = self.inner.commit(txn).await;
                match (&first, second) {
                    // Two revisions for one call: only "unknown" is true of that.
                    (_, Ok(_)) => Err(ambiguous()),
                    (_, Err(_)) => first,
                }
            }
            _ => self.inner.commit(txn).await,
        }
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.read("watch", prefix.as_str()).await?;
        let inner = self.inner.watch(prefix.clone(), from).await?;
        Ok(Box::new(ChaosWatch {
            inner: Some(inner),
            prefix,
            faults: self.faults.clone(),
            held: None,
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases().map(|_| self as &dyn LeaseStore)
    }
}

struct ChaosWatch {
    /// Nothing once it is broken.
    inner: Option<Box<dyn Watch>>,
    prefix: Key,
    faults: Faults,
    /// A batch that waits out its delay: kept here, so that dropping `next` does not lose it.
    held: Option<Batch>,
}

#[async_trait]
impl Watch for ChaosWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let broken = || injected(StoreErrorKind::Lagged, "watch", self.prefix.as_str());
        if self.held.is_none() {
            let Some(inner) = &mut self.inner else {
                return Err(broken());
            };
            self.held = Some(inner.next().await?);
            let fault = self.faults.strike(&[Fault::Broken, Fault::Delayed]).await;
            if fault == Fault::Broken {
                (self.inner, self.held) = (None, None);
                return Err(injected(
                    StoreErrorKind::Lagged,
                    "watch",
                    self.prefix.as_str(),
                ));
            }
        }
        Ok(self.held.take().unwrap_or_default())
    }
}

#[async_trait]
impl LeaseStore for ChaosStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let leases = self.inner_leases("grant")?;
        match self.write().await {
            Fault::Unavailable => Err(injected(StoreErrorKind::Unavailable, "grant", "lease")),
            Fault::Lost => Err(injected(StoreErrorKind::Ambiguous, "grant", "lease")),
            Fault::Ambiguous => {
                let _ = leases.grant(ttl).await;
                Err(injected(StoreErrorKind::Ambiguous, "grant", "lease"))
            }
            Fault::Duplicated => {
                let _ = leases.grant(ttl).await;
                leases.grant(ttl).await
            }
            _ => leases.grant(ttl).await,
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeptAlive, StoreError> {
        let leases = self.inner_leases("keep_alive")?;
        let about = lease.to_string();
        match self.write().await {
            Fault::Unavailable => Err(injected(StoreErrorKind::Unavailable, "keep_alive", &about)),
            Fault::Lost => Err(injected(StoreErrorKind::Ambiguous, "keep_alive", &about)),
            Fault::Ambiguous => {
                let _ = leases.keep_alive(lease).await;
                Err(injected(StoreErrorKind::Ambiguous, "keep_alive", &about))
            }
            Fault::Duplicated => {
                let _ = leases.keep_alive(lease).await;
                leases.keep_alive(lease).await
            }
            _ => leases.keep_alive(lease).await,
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let leases = self.inner_leases("revoke")?;
        let about = lease.to_string();
        match self.write().await {
            Fault::Unavailable => Err(injected(StoreErrorKind::Unavailable, "revoke", &about)),
            Fault::Lost => Err(injected(StoreErrorKind::Ambiguous, "revoke", &about)),
            Fault::Ambiguous => {
                let _ = leases.revoke(lease).await;
                Err(injected(StoreErrorKind::Ambiguous, "revoke", &about))
            }
            Fault::Duplicated => {
                let _ = leases.revoke(lease).await;
                leases.revoke(lease).await
            }
            _ => leases.revoke(lease).await,
        }
    }
}
