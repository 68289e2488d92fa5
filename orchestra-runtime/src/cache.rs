//! A live, indexed copy of one kind: list, then watch.
//!
//! One [`Cache`] serves all controllers and agents of a process, so that each change is decoded
//! once, or not at all if this very process wrote it.

mod feed;
mod signal;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

use crate::api::Client;
use signal::Progress;
pub(crate) use signal::Signal;
use state::{IndexBy, State};

/// A live copy of all objects of one kind, ordered by key, with indexes. Cheap to clone; clones
/// share it.
///
/// It is filled by [`run`](Self::run), which somebody has to poll. Reads never wait for the
/// store; they hold a lock for as long as it takes to copy the references they return.
pub struct Cache<K>(Arc<Inner<K>>);

struct Inner<K> {
    client: Client,
    state: RwLock<State<K>>,
    handlers: RwLock<Vec<Arc<Handler<K>>>>,
    progress: Progress,
}

type Handler<K> = dyn Fn(&CacheEvent<K>) + Send + Sync;

/// A [`Cache`] without a share in it: what a handler holds that looks into the very cache which
/// calls it, or into one whose handlers look into this one. Such a ring would never be freed.
pub struct WeakCache<K>(std::sync::Weak<Inner<K>>);

impl<K> WeakCache<K> {
    /// The cache, if anybody still has it.
    pub fn upgrade(&self) -> Option<Cache<K>> {
        self.0.upgrade().map(Cache)
    }
}

impl<K> Clone for WeakCache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for WeakCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakCache")
    }
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheEvent<K> {
    /// The object.
    pub key: ObjectKey,
    /// How it stood before; `None` if it is new here.
    pub old: Option<Arc<K>>,
    /// How it stands now; `None` if it is gone. After a gap in the watch, what happened in
    /// between is one event.
    pub new: Option<Arc<K>>,
    /// The commit that changed it, or for a loss noticed after a gap, a later one.
    pub revision: Revision,
}

/// Builds a [`Cache`]: indexes are part of it from the start.
#[must_use]
pub struct CacheBuilder<K> {
    client: Client,
    indexes: Vec<(&'static str, IndexBy<K>)>,
}

impl<K: Resource> CacheBuilder<K> {
    /// Finds objects by the value that `by` gives, if it gives one.
    pub fn index(
        self,
        name: &'static str,
        by: impl Fn(&K) -> Option<SmolStr> + Send + Sync + 'static,
    ) -> Self {
        self.index_many(name, move |object, found| {
            if let Some(value) = by(object) {
                found(value);
            }
        })
    }

    /// Finds objects by each of the values that `by` passes on.
    pub fn index_many(
        mut self,
        name: &'static str,
        by: impl Fn(&K, &mut dyn FnMut(SmolStr)) + Send + Sync + 'static,
    ) -> Self {
        self.indexes.push((name, Box::new(by)));
        self
    }

    /// The cache, empty until it runs.
    pub fn build(self) -> Cache<K> {
        Cache(Arc::new(Inner {
            client: self.client,
            state: RwLock::new(State::new(self.indexes)),
            handlers: RwLock::default(),
            progress: Progress::default(),
        }))
    }
}

impl<K: Resource> Cache<K> {
    /// A cache of all objects of the kind, without indexes.
    pub fn new(client: &Client) -> Self {
        Self::builder(client).build()
    }

    /// A cache of all objects of the kind, with indexes to come.
    pub fn builder(client: &Client) -> CacheBuilder<K> {
        CacheBuilder {
            client: client.clone(),
            indexes: Vec::new(),
        }
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.state().get(key).cloned()
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state().all().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.state().in_namespace(namespace).cloned().collect()
    }

    /// The objects for which the index `index` gave `value`, ordered by key.
    ///
    /// # Panics
    ///
    /// If the cache was built without that index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.state().by_index(index, value).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision up to which all changes are in here, and were shown to the handlers. Zero
    /// before the first listing.
    pub fn through(&self) -> Revision {
        self.0.progress.through()
    }

    /// Waits until the first listing is in here and was shown to the handlers. Cancel-safe.
    pub async fn synced(&self) {
        self.0.progress.synced().await;
    }

    /// Waits until the changes of commit `revision` are in here and were shown to the handlers.
    /// Cancel-safe.
    ///
    /// Wait only for commits that wrote an object of this kind: stores may keep silent about
    /// others.
    pub async fn wait_through(&self, revision: Revision) {
        self.0.progress.reached(revision).await;
    }

    /// Calls `handler` for every change from now on, in order, from the cache's own task, once the
    /// change is in here. Handlers must be quick and not wait. For a change already in here, look
    /// it up after registering.
    ///
    /// A handler lives as long as the cache: one that looks into the cache which calls it holds a
    /// [`WeakCache`], or neither is ever freed.
    pub fn on_change(&self, handler: impl Fn(&CacheEvent<K>) + Send + Sync + 'static) {
        let mut handlers = self
            .0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.push(Arc::new(handler));
    }

    /// The cache without a share in it, for handlers.
    pub fn downgrade(&self) -> WeakCache<K> {
        WeakCache(Arc::downgrade(&self.0))
    }

    /// Wakes its holder when an object changes for which the index `index` gives `value`, or gave
    /// it before the change. Costs nothing for changes of other objects: a thousand agents can
    /// each follow the pods of their node.
    ///
    /// # Panics
    ///
    /// If the cache was built without that index.
    pub fn watch_index(&self, index: &str, value: impl Into<SmolStr>) -> IndexWatch<K> {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let signal = state.signal(index, value.into());
        IndexWatch {
            seen: signal.count(),
            signal,
            _cache: self.clone(),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State<K>> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Resource> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("kind", &K::KIND)
            .field("len", &self.len())
            .field("through", &self.through())
            .finish_non_exhaustive()
    }
}

impl<K: Resource> fmt::Debug for CacheBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indexes: Vec<_> = self.indexes.iter().map(|(name, _)| name).collect();
        f.debug_struct("CacheBuilder")
            .field("kind", &K::KIND)
            .field("indexes", &indexes)
            .finish()
    }
}

/// Follows the objects of one index value. See [`Cache::watch_index`].
pub struct IndexWatch<K> {
    signal: Arc<Signal>,
    seen: u64,
    _cache: Cache<K>,
}

impl<K> IndexWatch<K> {
    /// Waits until something changed since the watch was made or last returned from here. Many
    /// changes may be one return. Cancel-safe.
    pub async fn changed(&mut self) {
        self.seen = self.signal.past(self.seen).await;
    }
}

impl<K> fmt::Debug for IndexWatch<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexWatch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
