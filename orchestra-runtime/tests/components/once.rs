//! A rollout's step happens once, whatever the store lets its controller see of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use async_trait::async_trait;
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::{
    Batch, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, Txn,
    Versioned, Watch, Write,
};
use orchestra_runtime::driver::sim::SimScript;
use orchestra_runtime::store::MemoryStore;
use serde_json::json;
use tokio::sync::watch;

use super::deployments::{deployment, rolled_out};
use super::world::{Host, seconds};

/// A store that falls silent once it has started pods: whether they landed is not told, no look-up
/// is answered, and nothing more is heard of pods, while all else goes on.
#[derive(Debug)]
struct Silent {
    inner: Arc<MemoryStore>,
    silent: Arc<watch::Sender<bool>>,
    struck: AtomicBool,
    /// Whether all calls fail.
    mute: Arc<AtomicBool>,
}

impl Silent {
    fn answer(&self, op: &'static str) -> Result<(), StoreError> {
        match self.mute.load(SeqCst) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, op)),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl StateStore for Silent {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.answer("get")?;
        self.inner.get(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.answer("list")?;
        self.inner.list(request).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.answer("commit")?;
        let of_web = |write: &Write| write.key().as_str().starts_with("pods/default/web-");
        let pods = txn.writes.iter().any(of_web);
        if !pods || self.struck.swap(true, SeqCst) {
            return self.inner.commit(txn).await;
        }
        self.silent.send_replace(true);
        self.inner.commit(txn).await?;
        self.mute.store(true, SeqCst);
        Err(StoreError::new(StoreErrorKind::Ambiguous, "commit"))
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let inner = self.inner.watch(prefix.clone(), from).await?;
        let held = prefix.as_str().starts_with("pods/");
        let silent = held.then(|| self.silent.subscribe());
        Ok(Box::new(Hushed {
            inner,
            silent,
            held: None,
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases()
    }
}

struct Hushed {
    inner: Box<dyn Watch>,
    silent: Option<watch::Receiver<bool>>,
    held: Option<Batch>,
}

#[async_trait]
impl Watch for Hushed {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        if self.held.is_none() {
            self.held = Some(self.inner.next().await?);
        }
        if let Some(silent) = &mut self.silent {
            let _ = silent.wait_for(|silent| !silent).await;
        }
        Ok(self.held.take().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_may_have_been_started_are_not_started_again() {
    let host = Host::new(&["n"], SimScript::new());
    let (silent, mute) = (Arc::new(watch::Sender::new(false)), Arc::default());
    let store = Silent {
        inner: host.store.clone(),
        silent: silent.clone(),
        struck: AtomicBool::new(false),
        mute: Arc::clone(&mute),
    };
    let orchestra = host.builder().store(Arc::new(store)).start().await.unwrap();
    let world = host.with(orchestra);
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(3, "v1", json!({})))
        .await
        .unwrap();
    seconds(20).await;
    assert!(mute.swap(false, SeqCst), "the store never fell silent");
    seconds(600).await;
    let stored = world.store.list(ListRequest::all("pods/")).await.unwrap();
    assert_eq!(stored.items.len(), 3);
    assert!(orchestra.caches().pods.is_empty());

    silent.send_replace(false);
    rolled_out(&world, "v1", 3).await;
    let stored = world.store.list(ListRequest::all("pods/")).await.unwrap();
    assert_eq!(stored.items.len(), 3);
    world.orchestra.stop().await;
}
