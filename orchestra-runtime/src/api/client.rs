//! A process's hold on the API.

use std::sync::Arc;

use orchestra_core::kind::Resource;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::store::{Guard, StateStore};
use orchestra_core::time::Timestamp;

use super::admission::Admission;
use super::commit::Commit;
use super::shelf::Shelf;
use super::typed::Api;
use crate::ids::Ids;

/// A process's hold on the API: the store, the clock, and where identities come from. Cheap to
/// clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Client(Arc<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    shelf: Arc<Shelf>,
    admission: Vec<Arc<dyn Admission>>,
    fence: Vec<Guard>,
}

impl Client {
    /// A client of `store`, with no admission hooks.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        Self(Arc::new(Parts {
            store,
            clock,
            ids,
            shelf: Arc::new(Shelf::new()),
            admission: Vec::new(),
            fence: Vec::new(),
        }))
    }

    /// The same client with these admission hooks, in this order, instead of those it had.
    #[must_use]
    pub fn with_admission(&self, admission: Vec<Arc<dyn Admission>>) -> Self {
        Self(Arc::new(Parts {
            admission,
            ..Parts::clone(&self.0)
        }))
    }

    /// The same client with one more guard on every write: a leader's writes then fail with
    /// [`Fenced`](super::ApiErrorKind::Fenced) once another has taken over.
    #[must_use]
    pub fn fenced(&self, guard: Guard) -> Self {
        let mut parts = Parts::clone(&self.0);
        parts.fence.push(guard);
        Self(Arc::new(parts))
    }

    /// The same client over another way to the same store: what one of them has read, the other
    /// need not read again.
    #[cfg(feature = "sim")]
    pub(crate) fn through(&self, store: Arc<dyn StateStore>) -> Self {
        Self(Arc::new(Parts {
            store,
            ..Parts::clone(&self.0)
        }))
    }

    /// The objects of one kind, in all namespaces.
    pub fn api<K: Resource>(&self) -> Api<K> {
        Api::new(self.clone())
    }

    /// Several writes that land together or not at all.
    pub fn commit(&self) -> Commit {
        Commit::new(self.clone())
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.0.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Where identities come from.
    pub fn ids(&self) -> &Arc<Ids> {
        &self.0.ids
    }

    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.0.shelf
    }

    pub(crate) fn admission(&self) -> &[Arc<dyn Admission>] {
        &self.0.admission
    }

    pub(crate) fn fence(&self) -> &[Guard] {
        &self.0.fence
    }
}
