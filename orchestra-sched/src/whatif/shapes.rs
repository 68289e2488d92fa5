//! Which pods ask the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::{Demand, name_hash};

/// What pods ask, each once, numbered in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Vec<Arc<Demand>>,
    /// Numbers by what is cheap to compare.
    by_hash: BTreeMap<u64, Vec<usize>>,
}

impl Shapes {
    /// The number of what a pod asks, and the one that all who ask it share.
    pub(super) fn find(&mut self, demand: &Arc<Demand>) -> (usize, Arc<Demand>) {
        let candidates = self.by_hash.entry(hash(demand)).or_default();
        let same = |&&at: &&usize| {
            let other = &self.all[at];
            Arc::ptr_eq(other, demand) || other == demand
        };
        let at = candidates.iter().find(same).copied();
        let at = at.unwrap_or_else(|| {
            candidates.push(self.all.len());
            self.all.push(Arc::clone(demand));
            self.all.len() - 1
        });
        (at, Arc::clone(&self.all[at]))
    }
}

fn hash(demand: &Demand) -> u64 {
    let labels = demand.labels.iter();
    let words = labels.fold(name_hash(&demand.namespace), |hash, (key, value)| {
        hash.rotate_left(7) ^ name_hash(key).rotate_left(23) ^ name_hash(value)
    });
    let numbers = [demand.requests.cpu_milli, demand.requests.memory];
    numbers.iter().fold(words, |hash, &number| {
        (hash ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
