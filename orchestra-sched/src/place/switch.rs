//! Exchanging a scheduler while it is in use.

use std::sync::{Arc, PoisonError, RwLock};

use orchestra_core::time::Timestamp;

use super::{Pending, Plan, PlanInputs, Scheduler};
use crate::explain::Ranking;
use crate::snapshot::Snapshot;

/// A scheduler that can be exchanged while it is in use: give it to the runtime, keep a clone of
/// its `Arc`, and [`swap`](Self::swap).
///
/// A plan is made whole by the one or by the other.
#[derive(Debug)]
pub struct Switch(RwLock<Arc<dyn Scheduler>>);

impl Switch {
    /// Asks `first` until told otherwise.
    pub fn new(first: Arc<dyn Scheduler>) -> Self {
        Self(RwLock::new(first))
    }

    /// Asks `next` from the next plan on, and returns whom it asked before. A plan that is being
    /// made is not waited for.
    pub fn swap(&self, next: Arc<dyn Scheduler>) -> Arc<dyn Scheduler> {
        // Nothing panics under the lock: what it guards is whole in any case.
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, next)
    }

    /// Whom it asks now.
    pub fn current(&self) -> Arc<dyn Scheduler> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Scheduler for Switch {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], inputs: PlanInputs) -> Plan {
        self.current().plan(snapshot, pending, inputs)
    }

    fn ranking(&self, snapshot: &Snapshot, pod: &Pending, now: Timestamp) -> Option<Ranking> {
        self.current().ranking(snapshot, pod, now)
    }
}
