//! What a cluster has and what is free, all nodes together.

use std::collections::BTreeMap;
use std::fmt;

use smol_str::SmolStr;

use crate::fits::write_amount;
use crate::snapshot::Snapshot;

/// Of one resource.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Total {
    /// What there is.
    pub total: i128,
    /// What no pod requested. A node that has shrunk under its pods counts as none free.
    pub free: i128,
}

/// Of every resource that some node has: `cpu` in thousandths of a core, `memory` and
/// `ephemeral-storage` in bytes, `pods` and everything else in whole units. Nodes that are closed to
/// new pods count as having nothing free.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// By name.
    pub by_resource: BTreeMap<SmolStr, Total>,
}

impl Totals {
    /// Of a snapshot. Looks at every node.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut totals = Self::default();
        let rows = snapshot.rows();
        let [mut cpu, mut memory, mut storage, mut pods] = [Total::default(); 4];
        for (node, row) in snapshot.nodes() {
            let (at, facts) = (node.row(), row.facts());
            let add = |sum: &mut Total, total: i64, free: i64| {
                sum.total += i128::from(total);
                if !facts.unschedulable {
                    sum.free += i128::from(free.max(0));
                }
            };
            let all = &facts.allocatable;
            add(&mut cpu, all.cpu_milli, rows.cpu_free[at]);
            add(&mut memory, all.memory, rows.memory_free[at]);
            add(&mut storage, all.storage, rows.storage_free[at]);
            add(&mut pods, facts.pods, rows.pods_free[at]);
            for (name, &amount) in &all.extended {
                let sum = totals.by_resource.entry(name.clone()).or_default();
                add(sum, amount, amount.saturating_sub(row.extended_used(name)));
            }
        }
        for (name, sum) in [
            ("cpu", cpu),
            ("memory", memory),
            ("ephemeral-storage", storage),
            ("pods", pods),
        ] {
            if sum.total > 0 {
                totals.by_resource.insert(SmolStr::new_static(name), sum);
            }
        }
        totals
    }
}

/// An amount as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a>(pub(super) &'a str, pub(super) i128);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_amount(f, self.0, i64::try_from(self.1).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.free, self.total)
    }
}
