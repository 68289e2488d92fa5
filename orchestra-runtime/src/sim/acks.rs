//! What the store said has landed, to be compared with what did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orchestra_core::port::store::{Key, Revision, Value, Write};

/// What one acknowledged commit wrote.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) revision: Revision,
    /// Each key with its value; `None` was deleted.
    pub(super) writes: Vec<(Key, Option<Value>)>,
}

/// Acknowledged commits that were not compared yet, and which of them were users'.
#[derive(Debug, Default)]
pub(super) struct Acks(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pending: BTreeMap<Revision, Ack>,
    by_users: BTreeSet<Revision>,
}

impl Acks {
    pub(super) fn landed(&self, revision: Revision, writes: Vec<Write>, user: bool) {
        let writes = writes
            .into_iter()
            .map(|write| match write {
                Write::Put { key, value, .. } => (key, Some(value)),
                other => (other.key().clone(), None),
            })
            .collect();
        let mut inner = self.lock();
        inner.pending.insert(revision, Ack { revision, writes });
        if user {
            inner.by_users.insert(revision);
        }
    }

    /// Takes those up to `through`, in their order.
    pub(super) fn take(&self, through: Revision) -> Vec<Ack> {
        let mut inner = self.lock();
        let later = inner
            .pending
            .split_off(&Revision(through.0.saturating_add(1)));
        std::mem::replace(&mut inner.pending, later)
            .into_values()
            .collect()
    }

    /// Whether a user wrote that commit. Asked in the order of revisions; forgets earlier ones.
    pub(super) fn by_user(&self, revision: Revision) -> bool {
        let mut inner = self.lock();
        inner.by_users = inner.by_users.split_off(&revision);
        inner.by_users.contains(&revision)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
