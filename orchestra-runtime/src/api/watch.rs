//! Following the changes of one kind.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::{Batch, Change, Revision, Watch};

use super::client::Client;
use super::error::ApiError;
use super::list::ListParams;
use super::object::{decode, object_key, store_prefix};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<K> {
    /// The object is new or changed, and stands like this now.
    Applied(Arc<K>),
    /// The object is gone, or is no longer selected. An object that was never selected since the
    /// watch began may be named so once.
    Deleted {
        /// The object.
        key: ObjectKey,
        /// The commit that did it.
        revision: Revision,
    },
    /// Everything up to this revision was told: a later watch may begin here.
    Bookmark(Revision),
}

/// A live stream of the changes of one kind.
pub struct ApiWatch<K> {
    client: Client,
    params: ListParams,
    inner: Box<dyn Watch>,
    pending: VecDeque<Result<WatchEvent<K>, ApiError>>,
    /// Objects that are there but not selected, and were told so.
    hidden: BTreeSet<ObjectKey>,
}

impl<K: Resource> ApiWatch<K> {
    pub(super) async fn open(
        client: Client,
        params: ListParams,
        from: Revision,
    ) -> Result<Self, ApiError> {
        let prefix = store_prefix::<K>(params.namespace.as_deref());
        let inner = client
            .store()
            .watch(prefix, from)
            .await
            .map_err(|error| ApiError::store(error, "watch", K::PLURAL))?;
        Ok(Self {
            client,
            params,
            inner,
            pending: VecDeque::new(),
            hidden: BTreeSet::new(),
        })
    }

    /// Waits for what happens next, in the order of commits. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Gone`](super::ApiErrorKind::Gone) if the watch fell behind: list again.
    /// [`Corrupt`](super::ApiErrorKind::Corrupt) for one object that cannot be read: the watch
    /// goes on. After any other error every further call fails too.
    pub async fn next(&mut self) -> Result<WatchEvent<K>, ApiError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            let batch = self.inner.next().await;
            self.take_in(batch.map_err(|error| ApiError::store(error, "watch", K::PLURAL))?);
        }
    }

    fn take_in(&mut self, batch: Batch) {
        for change in batch.changes {
            let Some(key) = object_key::<K>(change.key()) else {
                continue;
            };
            let event = match change {
                Change::Put(stored) => match decode::<K>(self.client.shelf(), &stored, "watch") {
                    Ok(object) if self.params.selects(&object.metadata().labels) => {
                        self.hidden.remove(&key);
                        Ok(WatchEvent::Applied(object))
                    }
                    Ok(_) => {
                        if !self.hidden.insert(key.clone()) {
                            continue;
                        }
                        Ok(WatchEvent::Deleted {
                            key,
                            revision: stored.modified,
                        })
                    }
                    Err(error) => Err(error),
                },
                Change::Delete { at, .. } => {
                    if self.hidden.remove(&key) {
                        continue;
                    }
                    Ok(WatchEvent::Deleted { key, revision: at })
                }
            };
            self.pending.push_back(event);
        }
        self.pending
            .push_back(Ok(WatchEvent::Bookmark(batch.through)));
    }
}

impl<K: Resource> fmt::Debug for ApiWatch<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiWatch")
            .field("kind", &K::KIND)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
