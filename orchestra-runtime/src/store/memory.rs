//! A store in this process's memory: fast, ordered, gone when the process is.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::port::lease::{KeptAlive, LeaseId, LeaseStore};
use orchestra_core::port::store::{
    Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, Txn, Versioned, Watch,
};
use tokio::time::Instant;

mod history;
mod leases;
mod state;
mod topics;
mod watch;

use state::State;

/// Changes kept for watches and for later pages of a listing, unless the builder says otherwise.
pub const HISTORY_ENTRIES_MAX: usize = 131_072;

/// Bytes of keys and values kept in the history, unless the builder says otherwise. Values that
/// are still current count too, although they are shared.
pub const HISTORY_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// A [`StateStore`] and [`LeaseStore`] in memory. Cloning shares the data.
///
/// * Commits, reads and watches are linear in what they touch; a commit wakes only the watches
///   whose prefix it wrote under.
/// * History is bounded by entries and by bytes, and compacts itself from its old end; the
///   newest commit is always kept. A watch that history has overtaken ends with
///   [`StoreErrorKind::Compacted`].
/// * Leases end by tokio's clock, so paused time works. No task runs in the background: every
///   call, and every waiting watch, ends what is due.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

/// How much a [`MemoryStore`] holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryStats {
    /// The newest commit.
    pub revision: Revision,
    /// The oldest revision that can still be listed at or watched from.
    pub oldest: Revision,
    /// Keys that exist.
    pub keys: usize,
    /// Changes in the history.
    pub history_entries: usize,
    /// Bytes the history counts towards its bound.
    pub history_bytes: usize,
    /// Leases that live.
    pub leases: usize,
    /// Watches that exist.
    pub watches: usize,
}

/// Sets the bounds of a [`MemoryStore`].
#[derive(Clone, Copy, Debug)]
pub struct MemoryStoreBuilder {
    history_entries: usize,
    history_bytes: usize,
}

impl MemoryStoreBuilder {
    /// Keeps at most `max` changes (default [`HISTORY_ENTRIES_MAX`]), and the newest commit.
    #[must_use]
    pub fn history_entries(mut self, max: usize) -> Self {
        self.history_entries = max;
        self
    }

    /// Keeps at most `max` bytes of changes (default [`HISTORY_BYTES_MAX`]), and the newest
    /// commit.
    #[must_use]
    pub fn history_bytes(mut self, max: usize) -> Self {
        self.history_bytes = max;
        self
    }

    /// An empty store.
    pub fn build(self) -> MemoryStore {
        let state = State::new(self.history_entries, self.history_bytes);
        MemoryStore {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
            }),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with the default bounds.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with other bounds.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            history_entries: HISTORY_ENTRIES_MAX,
            history_bytes: HISTORY_BYTES_MAX,
        }
    }

    /// Forgets every change up to and including `through` (at most the newest): older listings
    /// and watches that still need them end with [`StoreErrorKind::Compacted`].
    pub fn compact(&self, through: Revision) {
        self.shared.with(|state| state.compact(through));
    }

    /// How much it holds now.
    pub fn stats(&self) -> MemoryStats {
        self.shared.with(|state| state.stats())
    }

    /// When the next lease ends unless it is kept alive: for whoever drives an idle store.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.shared.with(|state| state.leases.earliest())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryStore")
            .field(&self.shared.lock().stats())
            .finish()
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        Ok(self.shared.with(|state| state.history.get(key)))
    }

    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.shared.with(|state| state.list(&request))
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        txn.check()?;
        self.shared.with(|state| state.commit(txn))
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(watch::MemoryWatch::new(
            Arc::clone(&self.shared),
            prefix,
            from,
        )?))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        Some(self)
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        Ok(self.shared.with(|state| state.grant(ttl, Instant::now())))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeptAlive, StoreError> {
        Ok(self
            .shared
            .with(|state| state.leases.keep_alive(lease, Instant::now())))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.with(|state| state.end_lease(lease));
        Ok(())
    }
}

/// The data, and the one lock around it. Held for one call's work, never across an await.
struct Shared {
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from an allocation; each step leaves the data
        // whole, so that others may go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the leases that are due, does `work`, and wakes whom either concerns, after the lock
    /// is free again.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let (done, woken) = {
            let mut state = self.lock();
            state.end_due_leases();
            let done = work(&mut state);
            (done, state.topics.take_woken())
        };
        for waker in woken {
            waker.wake();
        }
        done
    }
}

/// The revision asked for is out of reach: too old, or of another store's life.
fn out_of_reach(
    op: &'static str,
    asked: Revision,
    oldest: Revision,
    newest: Revision,
) -> StoreError {
    let error = StoreError::new(StoreErrorKind::Compacted { oldest }, op)
        .about(format!("revision {asked}"));
    if asked > newest {
        return error.because(format!(
            "it lies ahead of the newest ({newest}): of another store?"
        ));
    }
    error
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
