//! What keeps a cache up to date.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::{
    Change, ListRequest, Revision, StoreError, StoreErrorKind, Versioned,
};
use tokio_util::sync::CancellationToken;

use super::Cache;
use crate::api::{decode, object_key, store_prefix};

/// Objects that one page of a listing fetches.
const LIST_PAGE_OBJECTS: usize = 1_000;

/// The first wait before a listing is tried again.
const RELIST_WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a listing is tried again.
const RELIST_WAIT_MAX: Duration = Duration::from_secs(10);

/// One object as it shall stand in the cache.
type Update<K> = (ObjectKey, Option<Arc<K>>, Revision);

impl<K: Resource> Cache<K> {
    /// Keeps the cache up to date until `cancel`.
    ///
    /// Lists, then follows the changes; lists again, with back-off, whenever the store loses the
    /// thread. What went missing in a gap is then shown to the handlers as deleted. An object that
    /// cannot be read is reported, and the cache keeps its last good version.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut wait = Duration::ZERO;
        loop {
            let followed = async {
                tokio::time::sleep(wait).await;
                let before = self.through();
                let error = self.follow().await;
                (error, self.through() > before)
            };
            let (error, moved) = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                followed = followed => followed,
            };
            let lost = matches!(
                error.kind(),
                StoreErrorKind::Compacted { .. } | StoreErrorKind::Lagged
            );
            wait = match moved {
                true if lost => Duration::ZERO,
                true => RELIST_WAIT_MIN,
                false => (wait * 2).clamp(RELIST_WAIT_MIN, RELIST_WAIT_MAX),
            };
            tracing::warn!(
                kind = K::KIND,
                error = %report(&error),
                wait_ms = wait.as_millis() as u64,
                "listing again"
            );
        }
    }

    /// Lists, then follows until something fails.
    async fn follow(&self) -> StoreError {
        let from = match self.relist().await {
            Ok(revision) => revision,
            Err(error) => return error,
        };
        let store = self.0.client.store();
        let mut watch = match store.watch(store_prefix::<K>(None), from).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            let batch = match watch.next().await {
                Ok(batch) => batch,
                Err(error) => return error,
            };
            let mut updates = Vec::with_capacity(batch.changes.len());
            for change in batch.changes {
                match change {
                    Change::Put(stored) => updates.extend(self.read(&stored)),
                    Change::Delete { key, at } => {
                        self.0.client.shelf().remove(&key);
                        updates.extend(object_key::<K>(&key).map(|key| (key, None, at)));
                    }
                }
            }
            self.apply(updates, batch.through);
        }
    }

    /// Brings the cache to what the store holds now, and returns as of when.
    async fn relist(&self) -> Result<Revision, StoreError> {
        let prefix = store_prefix::<K>(None);
        let mut updates = Vec::new();
        let mut present = BTreeSet::new();
        let mut from = None;
        let revision = loop {
            let request = ListRequest {
                prefix: prefix.clone(),
                limit: LIST_PAGE_OBJECTS,
                from,
            };
            let page = self.0.client.store().list(request).await?;
            for stored in &page.items {
                let Some(key) = object_key::<K>(&stored.key) else {
                    continue;
                };
                let known = self
                    .get(&key)
                    .map(|known| known.metadata().resource_version);
                present.insert(key);
                if known != Some(stored.modified) {
                    updates.extend(self.read(stored));
                }
            }
            from = page.next;
            if from.is_none() {
                break page.revision;
            }
        };
        let gone: Vec<_> = self
            .state()
            .keys()
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        updates.extend(gone.into_iter().map(|key| (key, None, revision)));
        self.apply(updates, revision);
        Ok(revision)
    }

    fn read(&self, stored: &Versioned) -> Option<Update<K>> {
        let key = object_key::<K>(&stored.key)?;
        match decode::<K>(self.0.client.shelf(), stored, "watch") {
            Ok(object) => Some((key, Some(object), stored.modified)),
            Err(error) => {
                tracing::error!(error = %report(&error), "kept the last good version");
                None
            }
        }
    }

    /// Makes the updates visible, then shows them to the handlers, then wakes whoever waits.
    fn apply(&self, updates: Vec<Update<K>>, through: Revision) {
        if !updates.is_empty() {
            let mut raise = Vec::new();
            let mut events = Vec::with_capacity(updates.len());
            {
                let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
                for (key, new, revision) in updates {
                    events.extend(state.apply(key, new, revision, &mut raise));
                }
            }
            let handlers = self
                .0
                .handlers
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            for event in &events {
                for handler in &handlers {
                    handler(event);
                }
            }
            for signal in raise {
                signal.raise();
            }
        }
        self.0.progress.reach(through);
    }
}
