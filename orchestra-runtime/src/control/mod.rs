//! Control loops: a queue of keys, and passes over them.
//!
//! * [`Reconcile`]: what a controller does in one pass over one key.
//! * [`Queue`]: which keys are to be looked at, and when.
//! * [`Controller`]: runs passes with bounded concurrency, back-off and contained panics.
//! * [`enqueue_changed`], [`enqueue_owners`]: from a cache's changes to keys.

mod queue;
mod rules;
mod runner;
mod source;

use std::error::Error;
use std::fmt;
use std::hash::Hash;

use orchestra_core::error::{Cause, ErrorKind, PortError, Retry};
use orchestra_core::time::Timestamp;

pub use queue::Queue;
pub use runner::{Backoff, Controller};
pub use source::{enqueue_changed, enqueue_owners};

use crate::api::ApiError;

/// What to do with a key after a pass over it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Outcome {
    /// Nothing to do until something it depends on changes.
    Settled,
    /// Look again at this instant at the latest.
    ReviewAt(Timestamp),
}

impl Outcome {
    /// Look again at the earlier of two instants.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Settled, other) => other,
            (this, Self::Settled) => this,
            (Self::ReviewAt(a), Self::ReviewAt(b)) => Self::ReviewAt(a.min(b)),
        }
    }
}

impl From<Option<Timestamp>> for Outcome {
    fn from(review: Option<Timestamp>) -> Self {
        review.map_or(Self::Settled, Self::ReviewAt)
    }
}

/// Brings one object closer to what was asked.
///
/// Level-triggered: [`reconcile`](Self::reconcile) gets a key, not an event, reads all it needs
/// and must come to the same end however often and in whatever order it is called. The runtime
/// never runs the same key twice at once, and never more keys at once than the controller's
/// limit. A pass may be dropped at any await, and the next one carries on from what the store
/// says.
pub trait Reconcile: fmt::Debug + Send + Sync + 'static {
    /// What identifies an object.
    type Key: Clone + fmt::Debug + Eq + Hash + Ord + Send + Sync + 'static;

    /// For spans, numbers and reports: a name in lower case, for instance `deployment`.
    fn name(&self) -> &'static str;

    /// One pass. A failed one is repeated as its error advises.
    fn reconcile(&self, key: &Self::Key)
    -> impl Future<Output = Result<Outcome, PassError>> + Send;
}

/// A pass failed. Its text is that of its cause.
#[derive(Debug)]
pub struct PassError {
    retry: Retry,
    cause: Cause,
}

impl PassError {
    /// A failure that is retried as `retry` says.
    pub fn new(retry: Retry, cause: impl Into<Cause>) -> Self {
        Self {
            retry,
            cause: cause.into(),
        }
    }

    /// When the key is looked at again.
    pub fn retry(&self) -> Retry {
        self.retry
    }
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for PassError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

impl From<ApiError> for PassError {
    fn from(error: ApiError) -> Self {
        Self::new(error.retry(), error)
    }
}

impl<K: ErrorKind> From<PortError<K>> for PassError {
    fn from(error: PortError<K>) -> Self {
        Self::new(error.retry(), error)
    }
}
