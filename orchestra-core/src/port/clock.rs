//! Telling the time.

use std::fmt;

use crate::time::Timestamp;

/// Tells the time. Held by whatever waits; pure code takes a [`Timestamp`] argument instead.
///
/// # Contract
///
/// * `now` never goes backwards within one process.
/// * `now` neither blocks nor fails.
///
/// The suite `conformance::clock` tests an implementation against this.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

const _: Option<&dyn Clock> = None;
