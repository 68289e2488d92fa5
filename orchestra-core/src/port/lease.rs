//! Keys that vanish when their owner does.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::store::StoreError;

/// Names a lease of one store. Never given twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {:x}", self.0)
    }
}

/// Whether the lease outlived the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum KeptAlive {
    /// It lives for at least this long more, by the store's clock.
    For(Duration),
    /// It had already ended; its keys are gone or about to go, and it cannot come back.
    Ended,
}

/// The lease side of a store.
///
/// # Contract
///
/// * The store, not the caller, measures time. A lease that is not kept alive ends after its
///   time to live, never before, and soon after; all its keys are then deleted in one commit,
///   which watchers see as ordinary deletions.
/// * A key belongs to the lease of its last put; a put without a lease takes it out of any.
/// * An ended lease stays ended: [`keep_alive`](Self::keep_alive) answers
///   [`KeptAlive::Ended`], and a put that names it fails with
///   [`LeaseEnded`](super::store::StoreErrorKind::LeaseEnded).
///
/// The suite `conformance::lease` tests an implementation against this.
#[async_trait]
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// Opens a lease that lives for `ttl` unless kept alive. A store may lengthen `ttl` to its
    /// own least unit (whole seconds, say). Retry-safe: an unused lease just ends.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Extends a lease to its full time to live from now. An unknown lease has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<KeptAlive, StoreError>;

    /// Ends a lease now and deletes its keys in one commit. Idempotent: an unknown lease has
    /// already ended.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

const _: Option<&dyn LeaseStore> = None;
