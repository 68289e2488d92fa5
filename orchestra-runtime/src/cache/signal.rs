//! Waking whoever waits, in the order in which they began to wait.
//!
//! Not tokio's `watch`: that spreads its waiters over lists chosen at random, and then two runs
//! of one seed would wake them in different orders.

use std::sync::atomic::{AtomicU64, Ordering};

use orchestra_core::port::store::Revision;
use tokio::sync::Notify;

/// A count that only grows, to wait on.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: AtomicU64,
    raised: Notify,
}

impl Signal {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Counts one more and wakes all who wait.
    pub(crate) fn raise(&self) {
        self.raise_to(self.count() + 1);
    }

    /// Moves the count to `count`, never back, and wakes all who wait.
    fn raise_to(&self, count: u64) {
        self.count.fetch_max(count, Ordering::AcqRel);
        self.raised.notify_waiters();
    }

    /// Waits until the count is past `seen`, and returns it.
    pub(crate) async fn past(&self, seen: u64) -> u64 {
        loop {
            let raised = self.raised.notified();
            tokio::pin!(raised);
            // From here on a raise is not missed, and the count is read after that.
            raised.as_mut().enable();
            let count = self.count();
            if count > seen {
                return count;
            }
            raised.await;
        }
    }
}

/// How far a cache is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// One more than the revision, once the first listing is in; zero before.
    steps: Signal,
}

impl Progress {
    pub(super) fn through(&self) -> Revision {
        Revision(self.steps.count().saturating_sub(1))
    }

    pub(super) fn reach(&self, revision: Revision) {
        self.steps.raise_to(revision.0.saturating_add(1));
    }

    pub(super) async fn reached(&self, revision: Revision) {
        self.steps.past(revision.0).await;
    }

    pub(super) async fn synced(&self) {
        self.steps.past(0).await;
    }
}
