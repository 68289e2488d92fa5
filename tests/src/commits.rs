//! A store whose commits a test decides about; all else is passed on.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::{
    Key, ListRequest, Page, Revision, StateStore, StoreError, Txn, Versioned, Watch,
};

/// What becomes of a commit.
#[async_trait]
pub trait OnCommit: Debug + Send + Sync + 'static {
    /// Commits to `inner`, or does not, and says what whoever asked is told.
    ///
    /// # Errors
    ///
    /// As the test wants it.
    async fn commit(&self, inner: &dyn StateStore, txn: Txn) -> Result<Revision, StoreError>;
}

/// A store with [`OnCommit`] before it.
#[derive(Debug)]
pub struct Commits<C> {
    inner: Arc<dyn StateStore>,
    on_commit: C,
}

impl<C: OnCommit> Commits<C> {
    /// Puts `on_commit` before `inner`, as a simulation's `store_layer` wants it.
    pub fn layer(inner: Arc<dyn StateStore>, on_commit: C) -> Arc<dyn StateStore> {
        Arc::new(Self { inner, on_commit })
    }
}

#[async_trait]
impl<C: OnCommit> StateStore for Commits<C> {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.inner.list(request).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.on_commit.commit(&*self.inner, txn).await
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, from).await
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases()
    }
}
