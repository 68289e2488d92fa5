//! Which leases live, until when, and which keys they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orchestra_core::port::lease::{KeptAlive, LeaseId};
use orchestra_core::port::store::Key;
use tokio::time::Instant;

/// A time to live longer than this is cut to it: what no instant can hold is not worth an error.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<Key>,
}

#[derive(Default)]
pub(super) struct Leases {
    last: u64,
    live: BTreeMap<LeaseId, Lease>,
    ends: BTreeSet<(Instant, LeaseId)>,
}

impl Leases {
    /// Opens a lease. Ids count up and are never given twice.
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last += 1;
        let id = LeaseId(self.last);
        let ttl = ttl.min(TTL_MAX);
        let ends = now + ttl;
        self.live.insert(
            id,
            Lease {
                ttl,
                ends,
                keys: BTreeSet::new(),
            },
        );
        self.ends.insert((ends, id));
        id
    }

    /// Extends a lease. What is due must have been ended before.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> KeptAlive {
        let Some(lease) = self.live.get_mut(&id) else {
            return KeptAlive::Ended;
        };
        self.ends.remove(&(lease.ends, id));
        lease.ends = now + lease.ttl;
        self.ends.insert((lease.ends, id));
        KeptAlive::For(lease.ttl)
    }

    /// Forgets a lease and gives the keys it held, ordered; `None` if it had ended.
    pub(super) fn end(&mut self, id: LeaseId) -> Option<BTreeSet<Key>> {
        let lease = self.live.remove(&id)?;
        self.ends.remove(&(lease.ends, id));
        Some(lease.keys)
    }

    /// The lease that is due first, if any is due by `now()`, which is only read if a lease
    /// lives.
    pub(super) fn due(&self, now: impl FnOnce() -> Instant) -> Option<LeaseId> {
        let (ends, id) = self.ends.first()?;
        (*ends <= now()).then_some(*id)
    }

    /// When the next one ends.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    pub(super) fn lives(&self, id: LeaseId) -> bool {
        self.live.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Moves a key from the lease that held it to the one that now does.
    pub(super) fn rebind(&mut self, key: &Key, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(lease) = from.and_then(|id| self.live.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.live.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }
}
