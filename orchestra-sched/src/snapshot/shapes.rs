//! Like pods share what they ask.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use super::Demand;
use crate::place::Words;

/// Fewer demands than this are not looked through for those that nobody has any more.
const SWEPT_MIN: usize = 1_024;

/// Each demand that some pod has, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    by_hash: BTreeMap<u64, Vec<Arc<Demand>>>,
    len: usize,
    /// How many there were when those that nobody has were last dropped.
    swept: usize,
}

impl Shapes {
    /// The equal demand that is known already, or else this one from now on.
    pub(super) fn share(&mut self, demand: Arc<Demand>) -> Arc<Demand> {
        let mut hash = Words::default();
        (&demand.namespace, &demand.labels, &demand.requests).hash(&mut hash);
        (&demand.node_selector, &demand.relations, &demand.node_name).hash(&mut hash);
        let alike = self.by_hash.entry(hash.finish()).or_default();
        let mut known = alike.iter();
        if let Some(known) = known.find(|known| Arc::ptr_eq(known, &demand) || **known == demand) {
            return Arc::clone(known);
        }
        alike.push(Arc::clone(&demand));
        self.len += 1;
        if self.len >= SWEPT_MIN.max(2 * self.swept) {
            self.sweep();
        }
        demand
    }

    /// Drops the demands that nobody else has.
    fn sweep(&mut self) {
        self.by_hash.retain(|_, alike| {
            alike.retain(|demand| Arc::strong_count(demand) > 1);
            !alike.is_empty()
        });
        self.len = self.by_hash.values().map(Vec::len).sum();
        self.swept = self.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_demands_are_one_and_those_nobody_has_go() {
        let demand = |cpu_milli: i64| {
            let mut demand = Demand::default();
            demand.requests.cpu_milli = cpu_milli;
            Arc::new(demand)
        };
        let mut shapes = Shapes::default();
        let held = shapes.share(demand(7));
        assert!(Arc::ptr_eq(&held, &shapes.share(demand(7))));
        for cpu in 0..10 * SWEPT_MIN as i64 {
            shapes.share(demand(cpu));
            assert!(shapes.len <= 2 * SWEPT_MIN);
        }
        assert!(Arc::ptr_eq(&held, &shapes.share(demand(7))));
    }
}
