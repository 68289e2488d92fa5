//! What there is and what is free, one column a quantity, one row a node.

use std::slice::from_ref;
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::demand::Demand;
use super::devices::Devices;
use super::line::{Cells, Line};
use super::names::NameOrder;
use super::relations::Topology;
use super::{NodeFacts, NodeIx, name_hash};

/// What nodes have and no pod changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capacity {
    pub(crate) cpu: Vec<i64>,
    pub(crate) cpu_inverse: Vec<u64>,
    pub(crate) memory: Vec<i64>,
    pub(crate) memory_inverse: Vec<u64>,
    pub(crate) storage: Vec<i64>,
    pub(crate) pods: Vec<i64>,
    pub(crate) names: Vec<SmolStr>,
    /// Settles ties between nodes of equal score: a hash of the name.
    pub(crate) name_hash: Vec<u64>,
    /// Once it was asked for.
    name_order: OnceLock<NameOrder>,
    /// Which nodes are near each other.
    pub(crate) topology: Topology,
    /// How many nodes carry a taint that only scores.
    pub(crate) softly_tainted: usize,
    /// How many carry a taint that keeps pods away, or are closed to new pods.
    pub(crate) hard_tainted: usize,
}

impl Capacity {
    pub(crate) fn push(&mut self, facts: &NodeFacts) {
        self.cpu.push(0);
        self.cpu_inverse.push(0);
        self.memory.push(0);
        self.memory_inverse.push(0);
        self.storage.push(0);
        self.pods.push(0);
        self.topology = Topology::default();
        self.names.push(facts.name.clone());
        self.name_hash.push(name_hash(&facts.name));
        if let Some(order) = self.name_order.get_mut() {
            order.push(&self.names);
        }
        self.set(self.cpu.len() - 1, &NodeFacts::default(), facts);
    }

    /// Makes row `at` show `new` instead of `old`.
    pub(crate) fn set(&mut self, at: usize, old: &NodeFacts, new: &NodeFacts) {
        if old.labels != new.labels {
            self.topology = Topology::default();
        }
        self.cpu[at] = new.allocatable.cpu_milli;
        self.cpu_inverse[at] = inverse(self.cpu[at]);
        self.memory[at] = new.allocatable.memory;
        self.memory_inverse[at] = inverse(self.memory[at]);
        self.storage[at] = new.allocatable.storage;
        self.pods[at] = new.pods;
        self.softly_tainted += usize::from(new.is_softly_tainted());
        self.softly_tainted -= usize::from(old.is_softly_tainted());
        self.hard_tainted += usize::from(new.is_hard_tainted());
        self.hard_tainted -= usize::from(old.is_hard_tainted());
    }

    pub(crate) fn swap_remove(&mut self, at: usize, old: &NodeFacts) {
        self.set(at, old, &NodeFacts::default());
        self.topology = Topology::default();
        self.cpu.swap_remove(at);
        self.cpu_inverse.swap_remove(at);
        self.memory.swap_remove(at);
        self.memory_inverse.swap_remove(at);
        self.storage.swap_remove(at);
        self.pods.swap_remove(at);
        self.names.swap_remove(at);
        self.name_hash.swap_remove(at);
        if let Some(order) = self.name_order.get_mut() {
            order.swap_remove(at);
        }
    }

    /// By row: how many names come before its own. The first call puts the names in order.
    pub(crate) fn name_ranks(&self) -> &[u32] {
        let order = self.name_order.get_or_init(|| NameOrder::of(&self.names));
        order.ranks()
    }
}

/// What pods leave of it, one column a quantity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) cpu_free: Vec<i64>,
    pub(crate) memory_free: Vec<i64>,
    pub(crate) storage_free: Vec<i64>,
    pub(crate) pods_free: Vec<i64>,
    pub(crate) cpu_scored: Vec<i64>,
    pub(crate) memory_scored: Vec<i64>,
}

impl Columns {
    fn all(&mut self) -> [&mut Vec<i64>; 6] {
        [
            &mut self.cpu_free,
            &mut self.memory_free,
            &mut self.storage_free,
            &mut self.pods_free,
            &mut self.cpu_scored,
            &mut self.memory_scored,
        ]
    }

    /// Makes row `at` show what `line` has left.
    pub(crate) fn set(&mut self, at: usize, line: &Line) {
        for (column, left) in self.all().into_iter().zip(line.left()) {
            column[at] = left;
        }
    }

    /// What is free of row `at`: CPU, memory, storage, pods.
    #[inline]
    pub(crate) fn free(&self, at: usize) -> [i64; 4] {
        [
            self.cpu_free[at],
            self.memory_free[at],
            self.storage_free[at],
            self.pods_free[at],
        ]
    }

    /// Takes what `demand` asks from row `at`.
    pub(crate) fn charge(&mut self, at: usize, demand: &Demand) {
        self.cells(at).charge(demand);
    }

    /// Gives back what `demand` took from row `at`.
    pub(crate) fn refund(&mut self, at: usize, demand: &Demand) {
        self.cells(at).refund(demand);
    }

    fn cells(&mut self, at: usize) -> Cells<'_> {
        Cells {
            cpu_free: &mut self.cpu_free[at],
            memory_free: &mut self.memory_free[at],
            storage_free: &mut self.storage_free[at],
            pods_free: &mut self.pods_free[at],
            cpu_scored: &mut self.cpu_scored[at],
            memory_scored: &mut self.memory_scored[at],
        }
    }

    fn push(&mut self, line: &Line) {
        for (column, left) in self.all().into_iter().zip(line.left()) {
            column.push(left);
        }
    }

    fn swap_remove(&mut self, at: usize) {
        for column in self.all() {
            column.swap_remove(at);
        }
    }
}

/// What pods leave of it: by row, for who looks at few nodes, and in columns for who looks at many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// What there is, too.
    pub(crate) lines: Vec<Line>,
    /// What the lines say.
    pub(crate) columns: Columns,
    /// Behind a count of its own, as most changes leave it alone.
    pub(crate) devices: Arc<Vec<Devices>>,
}

impl Load {
    pub(crate) fn push(&mut self, facts: &NodeFacts) {
        let line = Line::new(facts);
        self.columns.push(&line);
        self.lines.push(line);
        Arc::make_mut(&mut self.devices).push(Devices::new(facts.devices));
    }

    /// Makes the rows of `changed` what they are in `other`, which has as many; whether there were
    /// at most `max` of them.
    pub(crate) fn follow(
        &mut self,
        other: &Self,
        changed: impl Iterator<Item = NodeIx>,
        max: usize,
    ) -> bool {
        let mut left = max;
        for node in changed {
            if left == 0 {
                return false;
            }
            left -= 1;
            self.change(node.row(), |line| *line = other.lines[node.row()]);
        }
        self.devices = Arc::clone(&other.devices);
        true
    }

    /// What is free moves with what there is.
    pub(crate) fn resize(&mut self, at: usize, old: &NodeFacts, new: &NodeFacts) {
        self.change(at, |line| line.resize(old, new));
    }

    pub(crate) fn swap_remove(&mut self, at: usize) {
        self.lines.swap_remove(at);
        self.columns.swap_remove(at);
        Arc::make_mut(&mut self.devices).swap_remove(at);
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Takes what `demand` asks from row `at`.
    pub(crate) fn charge(&mut self, at: usize, demand: &Demand) {
        self.lines[at].charge(demand);
        self.columns.charge(at, demand);
    }

    /// Gives back what `demand` took from row `at`.
    pub(crate) fn refund(&mut self, at: usize, demand: &Demand) {
        self.lines[at].refund(demand);
        self.columns.refund(at, demand);
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Line)) {
        let line = &mut self.lines[at];
        change(line);
        self.columns.set(at, line);
    }
}

/// A run of consecutive nodes, by column: the whole cluster, one thread's share of it, or one
/// node. All columns are of one length.
///
/// What is free is what is allocatable less what pods request, and is below zero where a node
/// has shrunk under its pods. What is *scored* is what pods are taken to use when nodes are ranked: as
/// requested, and a guess for containers that say nothing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rows<'a> {
    first: u32,
    /// Allocatable thousandths of a core.
    pub cpu_total: &'a [i64],
    /// 2^64 divided by `cpu_total`, so that a share is a multiplication: see [`percent`].
    pub cpu_inverse: &'a [u64],
    /// Free thousandths of a core.
    pub cpu_free: &'a [i64],
    /// Scored thousandths of a core.
    pub cpu_scored: &'a [i64],
    /// Allocatable bytes of memory.
    pub memory_total: &'a [i64],
    /// 2^64 divided by `memory_total`.
    pub memory_inverse: &'a [u64],
    /// Free bytes of memory.
    pub memory_free: &'a [i64],
    /// Scored bytes of memory.
    pub memory_scored: &'a [i64],
    /// Free bytes of ephemeral storage.
    pub storage_free: &'a [i64],
    /// How many more pods may run.
    pub pods_free: &'a [i64],
    /// What is free of each accelerator.
    pub devices: &'a [Devices],
}

impl<'a> Rows<'a> {
    pub(crate) fn all(capacity: &'a Capacity, load: &'a Columns, devices: &'a [Devices]) -> Self {
        Self {
            first: 0,
            cpu_total: &capacity.cpu,
            cpu_inverse: &capacity.cpu_inverse,
            cpu_free: &load.cpu_free,
            cpu_scored: &load.cpu_scored,
            memory_total: &capacity.memory,
            memory_inverse: &capacity.memory_inverse,
            memory_free: &load.memory_free,
            memory_scored: &load.memory_scored,
            storage_free: &load.storage_free,
            pods_free: &load.pods_free,
            devices,
        }
    }

    /// Row `node` alone.
    #[inline]
    pub(crate) fn one(
        capacity: &'a Capacity,
        load: &'a Columns,
        devices: &'a [Devices],
        node: NodeIx,
    ) -> Self {
        let at = node.row();
        Self {
            first: node.0,
            cpu_total: from_ref(&capacity.cpu[at]),
            cpu_inverse: from_ref(&capacity.cpu_inverse[at]),
            cpu_free: from_ref(&load.cpu_free[at]),
            cpu_scored: from_ref(&load.cpu_scored[at]),
            memory_total: from_ref(&capacity.memory[at]),
            memory_inverse: from_ref(&capacity.memory_inverse[at]),
            memory_free: from_ref(&load.memory_free[at]),
            memory_scored: from_ref(&load.memory_scored[at]),
            storage_free: from_ref(&load.storage_free[at]),
            pods_free: from_ref(&load.pods_free[at]),
            devices: from_ref(&devices[at]),
        }
    }

    /// Row `node` alone, which `line` is.
    #[inline]
    pub(crate) fn of_line(line: &'a Line, devices: &'a [Devices], node: NodeIx) -> Self {
        Self {
            first: node.0,
            cpu_total: from_ref(&line.cpu_total),
            cpu_inverse: from_ref(&line.cpu_inverse),
            cpu_free: from_ref(&line.cpu_free),
            cpu_scored: from_ref(&line.cpu_scored),
            memory_total: from_ref(&line.memory_total),
            memory_inverse: from_ref(&line.memory_inverse),
            memory_free: from_ref(&line.memory_free),
            memory_scored: from_ref(&line.memory_scored),
            storage_free: from_ref(&line.storage_free),
            pods_free: from_ref(&line.pods_free),
            devices: from_ref(&devices[node.row()]),
        }
    }

    /// The same rows, in columns that the compiler can see to be of one length.
    #[inline(always)]
    pub(crate) fn even(self) -> Self {
        let n = self.cpu_total.len();
        Self {
            first: self.first,
            cpu_total: &self.cpu_total[..n],
            cpu_inverse: &self.cpu_inverse[..n],
            cpu_free: &self.cpu_free[..n],
            cpu_scored: &self.cpu_scored[..n],
            memory_total: &self.memory_total[..n],
            memory_inverse: &self.memory_inverse[..n],
            memory_free: &self.memory_free[..n],
            memory_scored: &self.memory_scored[..n],
            storage_free: &self.storage_free[..n],
            pods_free: &self.pods_free[..n],
            devices: &self.devices[..n],
        }
    }

    /// Whether two rows have the same and have the same left, of all that has a column.
    pub(crate) fn are_alike(&self, i: usize, j: usize) -> bool {
        let columns = [
            self.cpu_free,
            self.cpu_scored,
            self.memory_free,
            self.memory_scored,
            self.pods_free,
            self.cpu_total,
            self.memory_total,
            self.storage_free,
        ];
        columns.iter().all(|column| column[i] == column[j])
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.cpu_total.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cpu_total.is_empty()
    }

    /// The node of row `i` of this run.
    pub fn node(&self, i: usize) -> NodeIx {
        NodeIx(self.first + i as u32)
    }

    /// The nodes of this run, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIx> + use<> {
        (self.first..self.first + self.len() as u32).map(NodeIx)
    }
}

/// 2^64 divided by `total`, for [`percent`]; 0 where there is nothing to divide by.
pub fn inverse(total: i64) -> u64 {
    u64::try_from(total)
        .ok()
        .filter(|&total| total > 0)
        .map_or(0, |total| u64::MAX / total)
}

/// `100 * part / total`, rounded down, exactly, without a division. `inverse` is
/// [`inverse`]`(total)`. Parts below zero and empty totals give 0, parts past the total 100.
#[inline]
pub fn percent(part: i64, total: i64, inverse: u64) -> u32 {
    if part <= 0 || total <= 0 {
        return 0;
    }
    if part >= total {
        return 100;
    }
    let (part, total) = (part as u64, total as u64);
    let Some(hundredfold) = part.checked_mul(100) else {
        return (u128::from(part) * 100 / u128::from(total)) as u32;
    };
    // Too small by at most one: the inverse is short of 2^64 / total by less than 1 in 2^64.
    let short = ((u128::from(hundredfold) * u128::from(inverse)) >> 64) as u64;
    (short + u64::from(hundredfold - short * total >= total)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentage_is_the_division_it_replaces(
            total in prop_oneof![1i64..200, 1..=i64::MAX, (0u32..63).prop_map(|n| 1i64 << n)],
            part in prop_oneof![-2i64..200, 0..=i64::MAX],
        ) {
            let plain = if part <= 0 { 0 } else { (part as i128 * 100 / total as i128).min(100) };
            prop_assert_eq!(i128::from(percent(part, total, inverse(total))), plain);
            let part = part % total;
            let plain = if part <= 0 { 0 } else { part as i128 * 100 / total as i128 };
            prop_assert_eq!(i128::from(percent(part, total, inverse(total))), plain);
        }
    }

    #[test]
    fn nothing_is_a_share_of_nothing() {
        assert_eq!(percent(5, 0, inverse(0)), 0);
        assert_eq!(percent(5, -1, inverse(-1)), 0);
    }
}
