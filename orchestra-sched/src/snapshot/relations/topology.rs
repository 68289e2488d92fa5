//! Which nodes are near each other, found out once for many plans.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;

use super::{Division, Domains};
use crate::snapshot::Snapshot;

/// How many keys are known, and how many divisions; the oldest is found out again.
const KNOWN_MAX: usize = 64;

/// What the labels of a cluster's nodes say of which are near each other, as far as somebody asked. Void
/// when a node comes, goes or gets other labels.
#[derive(Debug, Default)]
pub(crate) struct Topology(Mutex<Known>);

#[derive(Clone, Debug, Default)]
struct Known {
    domains: Vec<Arc<Domains>>,
    divisions: Vec<Arc<Division>>,
}

impl Clone for Topology {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.known().clone()))
    }
}

impl Topology {
    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known is whole at any instant.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The domains of a key.
    pub(crate) fn domains(&self, snapshot: &Snapshot, key: &SmolStr) -> Arc<Domains> {
        let known = &mut self.known().domains;
        if let Some(domains) = known.iter().find(|domains| domains.key == *key) {
            return Arc::clone(domains);
        }
        keep(known, Domains::new(snapshot, key))
    }

    /// The cells that `rows` rows are divided into by `keys`.
    pub(crate) fn division(&self, rows: usize, keys: &[Arc<Domains>]) -> Arc<Division> {
        let known = &mut self.known().divisions;
        if let Some(division) = known.iter().find(|division| division.is_by(keys)) {
            return Arc::clone(division);
        }
        keep(known, Division::new(rows, keys))
    }
}

fn keep<T>(known: &mut Vec<Arc<T>>, fresh: T) -> Arc<T> {
    if known.len() == KNOWN_MAX {
        known.remove(0);
    }
    let fresh = Arc::new(fresh);
    known.push(Arc::clone(&fresh));
    fresh
}
