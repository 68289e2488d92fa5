//! A row: what one node has, and what pods leave of it.

use super::columns::inverse;
use super::demand::Demand;
use super::facts::NodeFacts;

/// What a node has, and what pods leave of it, side by side: who looks at one node finds all of it in one
/// place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(super) cpu_total: i64,
    pub(super) cpu_inverse: u64,
    pub(super) cpu_free: i64,
    pub(super) cpu_scored: i64,
    pub(super) memory_total: i64,
    pub(super) memory_inverse: u64,
    pub(super) memory_free: i64,
    pub(super) memory_scored: i64,
    pub(super) storage_free: i64,
    pub(super) pods_free: i64,
}

impl Line {
    /// A node on which no pod runs.
    pub(crate) fn new(facts: &NodeFacts) -> Self {
        let total = &facts.allocatable;
        Self {
            cpu_total: total.cpu_milli,
            cpu_inverse: inverse(total.cpu_milli),
            cpu_free: total.cpu_milli,
            cpu_scored: 0,
            memory_total: total.memory,
            memory_inverse: inverse(total.memory),
            memory_free: total.memory,
            memory_scored: 0,
            storage_free: total.storage,
            pods_free: facts.pods,
        }
    }

    /// What is free: CPU, memory, storage, pods.
    #[inline]
    pub(crate) fn free(&self) -> [i64; 4] {
        let [cpu, memory, storage, pods, ..] = self.left();
        [cpu, memory, storage, pods]
    }

    /// What pods leave: CPU, memory, storage, pods; and what they are taken to use: CPU, memory.
    #[inline]
    pub(crate) fn left(&self) -> [i64; 6] {
        [
            self.cpu_free,
            self.memory_free,
            self.storage_free,
            self.pods_free,
            self.cpu_scored,
            self.memory_scored,
        ]
    }

    /// The node has other amounts now; what is free moves with them.
    pub(crate) fn resize(&mut self, old: &NodeFacts, new: &NodeFacts) {
        let (was, is) = (&old.allocatable, &new.allocatable);
        (self.cpu_total, self.cpu_inverse) = (is.cpu_milli, inverse(is.cpu_milli));
        (self.memory_total, self.memory_inverse) = (is.memory, inverse(is.memory));
        for (free, was, is) in [
            (&mut self.cpu_free, was.cpu_milli, is.cpu_milli),
            (&mut self.memory_free, was.memory, is.memory),
            (&mut self.storage_free, was.storage, is.storage),
            (&mut self.pods_free, old.pods, new.pods),
        ] {
            *free = free.wrapping_add(is - was);
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

/// What pods leave of one node, side by side or in columns.
pub(super) struct Cells<'a> {
    pub(super) cpu_free: &'a mut i64,
    pub(super) memory_free: &'a mut i64,
    pub(super) storage_free: &'a mut i64,
    pub(super) pods_free: &'a mut i64,
    pub(super) cpu_scored: &'a mut i64,
    pub(super) memory_scored: &'a mut i64,
}

impl Cells<'_> {
    pub(super) fn charge(self, demand: &Demand) {
        self.shift(demand, i64::wrapping_sub, i64::wrapping_add);
    }

    pub(super) fn refund(self, demand: &Demand) {
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
