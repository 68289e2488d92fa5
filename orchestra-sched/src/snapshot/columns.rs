//! What there is and what is free, one column a quantity, one row a node.

use std::slice::from_ref;
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::demand::Demand;
use super::devices::Devices;
use super::names::NameOrder;
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
        self.names.push(facts.name.clone());
        self.name_hash.push(name_hash(&facts.name));
        if let Some(order) = self.name_order.get_mut() {
            order.push(&self.names);
        }
        self.set(self.cpu.len() - 1, &NodeFacts::default(), facts);
    }

    /// Makes row `at` show `new` instead of `old`.
    pub(crate) fn set(&mut self, at: usize, old: &NodeFacts, new: &NodeFacts) {
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

/// What pods leave of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pub(crate) cpu_free: Vec<i64>,
    pub(crate) memory_free: Vec<i64>,
    pub(crate) storage_free: Vec<i64>,
    pub(crate) pods_free: Vec<i64>,
    pub(crate) cpu_scored: Vec<i64>,
    pub(crate) memory_scored: Vec<i64>,
    /// Behind a count of its own, as most changes leave it alone.
    pub(crate) devices: Arc<Vec<Devices>>,
}

impl Load {
    pub(crate) fn push(&mut self, facts: &NodeFacts) {
        let total = &facts.allocatable;
        self.cpu_free.push(total.cpu_milli);
        self.memory_free.push(total.memory);
        self.storage_free.push(total.storage);
        self.pods_free.push(facts.pods);
        self.cpu_scored.push(0);
        self.memory_scored.push(0);
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
            let at = node.row();
            for (mine, theirs) in [
                (&mut self.cpu_free, &other.cpu_free),
                (&mut self.memory_free, &other.memory_free),
                (&mut self.storage_free, &other.storage_free),
                (&mut self.pods_free, &other.pods_free),
                (&mut self.cpu_scored, &other.cpu_scored),
                (&mut self.memory_scored, &other.memory_scored),
            ] {
                mine[at] = theirs[at];
            }
        }
        self.devices = Arc::clone(&other.devices);
        true
    }

    /// What is free moves with what there is.
    pub(crate) fn resize(&mut self, at: usize, old: &NodeFacts, new: &NodeFacts) {
        let grow = |free: &mut i64, old: i64, new: i64| *free = free.wrapping_add(new - old);
        grow(
            &mut self.cpu_free[at],
            old.allocatable.cpu_milli,
            new.allocatable.cpu_milli,
        );
        grow(
            &mut self.memory_free[at],
            old.allocatable.memory,
            new.allocatable.memory,
        );
        grow(
            &mut self.storage_free[at],
            old.allocatable.storage,
            new.allocatable.storage,
        );
        grow(&mut self.pods_free[at], old.pods, new.pods);
    }

    pub(crate) fn swap_remove(&mut self, at: usize) {
        self.cpu_free.swap_remove(at);
        self.memory_free.swap_remove(at);
        self.storage_free.swap_remove(at);
        self.pods_free.swap_remove(at);
        self.cpu_scored.swap_remove(at);
        self.memory_scored.swap_remove(at);
        Arc::make_mut(&mut self.devices).swap_remove(at);
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.pods_free.len()
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

    /// Makes row `at` what `line` has left.
    pub(crate) fn set(&mut self, at: usize, line: &Line) {
        self.cpu_free[at] = line.cpu_free;
        self.memory_free[at] = line.memory_free;
        self.storage_free[at] = line.storage_free;
        self.pods_free[at] = line.pods_free;
        self.cpu_scored[at] = line.cpu_scored;
        self.memory_scored[at] = line.memory_scored;
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
}

/// What a node has, and what pods leave of it, side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    cpu_total: i64,
    cpu_inverse: u64,
    cpu_free: i64,
    cpu_scored: i64,
    memory_total: i64,
    memory_inverse: u64,
    memory_free: i64,
    memory_scored: i64,
    storage_free: i64,
    pods_free: i64,
}

impl Line {
    /// What is free: CPU, memory, storage, pods.
    #[inline]
    pub(crate) fn free(&self) -> [i64; 4] {
        [
            self.cpu_free,
            self.memory_free,
            self.storage_free,
            self.pods_free,
        ]
    }

    /// Row `at`.
    pub(crate) fn of(capacity: &Capacity, load: &Load, at: usize) -> Self {
        Self {
            cpu_total: capacity.cpu[at],
            cpu_inverse: capacity.cpu_inverse[at],
            cpu_free: load.cpu_free[at],
            cpu_scored: load.cpu_scored[at],
            memory_total: capacity.memory[at],
            memory_inverse: capacity.memory_inverse[at],
            memory_free: load.memory_free[at],
            memory_scored: load.memory_scored[at],
            storage_free: load.storage_free[at],
            pods_free: load.pods_free[at],
        }
    }

    /// Takes what `demand` asks.
    pub(crate) fn charge(&mut self, demand: &Demand) {
        self.cells().charge(demand);
    }

    /// Gives back what `demand` took.
    pub(crate) fn refund(&mut self, demand: &Demand) {
        self.cells().refund(demand);
    }

    fn cells(&mut self) -> Cells<'_> {
        Cells {
            cpu_free: &mut self.cpu_free,
            memory_free: &mut self.memory_free,
            storage_free: &mut self.storage_free,
            pods_free: &mut self.pods_free,
            cpu_scored: &mut self.cpu_scored,
            memory_scored: &mut self.memory_scored,
        }
    }
}

/// One row, wherever it is.
struct Cells<'a> {
    cpu_free: &'a mut i64,
    memory_free: &'a mut i64,
    storage_free: &'a mut i64,
    pods_free: &'a mut i64,
    cpu_scored: &'a mut i64,
    memory_scored: &'a mut i64,
}

impl Cells<'_> {
    fn charge(self, demand: &Demand) {
        self.shift(demand, i64::wrapping_sub, i64::wrapping_add);
    }

    fn refund(self, demand: &Demand) {
        self.shift(demand, i64::wrapping_add, i64::wrapping_sub);
    }

    /// Wraps, so that a refund undoes a charge exactly whatever was asked.
    #[inline(always)]
    fn shift(self, demand: &Demand, free: fn(i64, i64) -> i64, scored: fn(i64, i64) -> i64) {
        let asked = &demand.requests;
        *self.cpu_free = free(*self.cpu_free, asked.cpu_milli);
        *self.memory_free = free(*self.memory_free, asked.memory);
        if asked.storage != 0 {
            *self.storage_free = free(*self.storage_free, asked.storage);
        }
        *self.pods_free = free(*self.pods_free, 1);
        *self.cpu_scored = scored(*self.cpu_scored, demand.scored.cpu_milli);
        *self.memory_scored = scored(*self.memory_scored, demand.scored.memory);
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
    pub(crate) fn all(capacity: &'a Capacity, load: &'a Load, devices: &'a [Devices]) -> Self {
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
        load: &'a Load,
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
        #![proptest_config(ProptestConfig::with_cases(256))]
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
