//! Who is on each node, and what each of them holds.

use std::cmp::Reverse;
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use orchestra_core::time::Timestamp;

use super::below::{Below, Belows};
use crate::budget::Budget;
use crate::snapshot::{Demand, Ledger, NodeIx, Running, Snapshot};

/// The pods on one node.
#[derive(Clone, Debug)]
pub(super) struct Here {
    /// Those that do not end, the most important first: the higher priority, then the earlier start.
    pub(super) pods: Vec<Arc<Running>>,
    /// What each of them is and holds, side by side: all that mostly has to be looked at.
    pub(super) held: Vec<Holding>,
    /// The budgets that the going of each counts against, by their places.
    pub(super) counts: Vec<Vec<u32>>,
    ending: Vec<Arc<Running>>,
}

/// A pod, as far as it matters to one that wants its room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) priority: i32,
    pub(super) started: Option<Timestamp>,
    pub(super) room: Amounts,
}

/// Of what has a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) storage: i64,
    pub(super) pods: i64,
}

impl Amounts {
    pub(super) const NONE: Self = Self {
        cpu: 0,
        memory: 0,
        storage: 0,
        pods: 0,
    };

    fn of(demand: &Demand) -> Self {
        let asked = &demand.requests;
        Self {
            cpu: asked.cpu_milli,
            memory: asked.memory,
            storage: asked.storage,
            pods: 1,
        }
    }

    /// What is free on a node. Wraps, as the columns do.
    #[inline]
    pub(super) fn free(ledger: &Ledger, node: NodeIx) -> Self {
        let [cpu, memory, storage, pods] = ledger.free(node);
        Self {
            cpu,
            memory,
            storage,
            pods,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.wrapping_add(other.cpu);
        self.memory = self.memory.wrapping_add(other.memory);
        self.storage = self.storage.wrapping_add(other.storage);
        self.pods = self.pods.wrapping_add(other.pods);
    }

    /// Of each as much as `other` has, at least.
    pub(super) fn raise(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        self.storage = self.storage.max(other.storage);
        self.pods = self.pods.max(other.pods);
    }

    pub(super) fn take(&mut self, other: &Self) {
        self.cpu = self.cpu.wrapping_sub(other.cpu);
        self.memory = self.memory.wrapping_sub(other.memory);
        self.storage = self.storage.wrapping_sub(other.storage);
        self.pods = self.pods.wrapping_sub(other.pods);
    }
}

impl Here {
    fn new(pods: &[Arc<Running>], budgets: &[Budget]) -> Self {
        let ends = |pod: &&Arc<Running>| pod.terminating;
        let ending: Vec<_> = pods.iter().filter(ends).cloned().collect();
        let mut pods: Vec<_> = pods.iter().filter(|pod| !ends(pod)).cloned().collect();
        pods.sort_unstable_by(|a, b| {
            let key = |pod: &Running| (Reverse(pod.priority), pod.started.is_none(), pod.started);
            key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
        });
        let held = pods.iter().map(|pod| Holding {
            priority: pod.priority,
            started: pod.started,
            room: Amounts::of(&pod.demand),
        });
        let mut here = Self {
            held: held.collect(),
            counts: Vec::new(),
            pods,
            ending,
        };
        here.count(budgets);
        here
    }

    fn count(&mut self, budgets: &[Budget]) {
        let counts = self.pods.iter().map(|pod| {
            let all = budgets.iter().zip(0..);
            let counting = all.filter(|(budget, _)| budget.counts(pod));
            counting.map(|(_, at)| at).collect()
        });
        self.counts = counts.collect();
    }

    /// From which on they have a lower priority.
    pub(super) fn below(&self, priority: i32) -> usize {
        self.held.partition_point(|pod| pod.priority >= priority)
    }
}

/// Who is on each node, looked at when it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Everywhere {
    /// By row, once looked at: who is left of the snapshot's pods.
    rows: Vec<Option<Here>>,
    /// How many pods that are, as they were when looked at.
    known: usize,
    /// The rows where pods end, of those looked at.
    ending: FixedBitSet,
    /// The rows whose ending pods are off the ledger.
    ended: FixedBitSet,
    /// What is below some priorities, the one asked for last at the end.
    belows: Vec<Belows>,
}

/// For how many priorities it is kept what is below them. Each takes some 90 bytes a node.
const BELOWS_MAX: usize = 4;

impl Everywhere {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows: vec![None; rows],
            known: 0,
            ending: FixedBitSet::with_capacity(rows),
            ended: FixedBitSet::with_capacity(rows),
            belows: Vec::new(),
        }
    }

    /// For another ledger, off which nobody was taken yet.
    pub(super) fn begin(&mut self) {
        self.ended.clear();
    }

    /// How many pods are known, more or less.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// What is on a row may have changed.
    pub(super) fn forget(&mut self, node: NodeIx) {
        if let Some(here) = self.rows[node.row()].take() {
            self.known = self.known.saturating_sub(here.pods.len());
            self.ending.set(node.row(), false);
        }
        let belows = &mut self.belows;
        belows.iter_mut().for_each(|belows| belows.forget(node));
    }

    /// Who is on `node`; takes off `ledger` who ends there.
    pub(super) fn look(&mut self, snapshot: &Snapshot, ledger: &mut Ledger, node: NodeIx) -> &Here {
        let here = self.rows[node.row()].get_or_insert_with(|| {
            let here = Here::new(snapshot.node(node).pods(), snapshot.budgets());
            self.known += here.pods.len();
            self.ending.set(node.row(), !here.ending.is_empty());
            here
        });
        if !here.ending.is_empty() && !self.ended.put(node.row()) {
            here.ending.iter().for_each(|pod| ledger.evict(node, pod));
        }
        here
    }

    /// What is below `priority`, row by row. From then on all that ends is off `ledger`. To be given
    /// [back](Self::give_belows).
    pub(super) fn take_belows(
        &mut self,
        snapshot: &Snapshot,
        ledger: &mut Ledger,
        priority: i32,
    ) -> Belows {
        let mut kept = self.belows.iter();
        let mut belows = match kept.position(|kept| kept.priority == priority) {
            Some(at) => self.belows.remove(at),
            None => Belows::new(priority, self.rows.len()),
        };
        for node in belows.unknown() {
            let here = self.look(snapshot, ledger, node);
            belows.set(node, Below::of(&here.held[here.below(priority)..]));
        }
        let left: Vec<usize> = self.ending.difference(&self.ended).collect();
        for row in left {
            self.look(snapshot, ledger, NodeIx::from_row(row));
        }
        belows
    }

    pub(super) fn give_belows(&mut self, belows: Belows) {
        if self.belows.len() == BELOWS_MAX {
            self.belows.remove(0);
        }
        self.belows.push(belows);
    }

    /// The budgets are others: finds out anew whose going counts against which.
    pub(super) fn count(&mut self, budgets: &[Budget]) {
        let known = self.rows.iter_mut().flatten();
        known.for_each(|here| here.count(budgets));
    }

    /// The rows where more than `left` pods count against the `budget`-th budget. If no more are left, as
    /// many may go from the others without a word as if there were more.
    pub(super) fn strained(&self, budget: usize, left: u32) -> impl Iterator<Item = NodeIx> {
        let known = self.rows.iter().enumerate();
        let strained = known.filter(move |(_, here)| {
            here.as_ref().is_some_and(|here| {
                let counting = here.counts.iter().flatten();
                here.pods.len() > left as usize
                    && counting.filter(|&&at| at as usize == budget).count() > left as usize
            })
        });
        strained.map(|(row, _)| NodeIx::from_row(row))
    }

    /// Takes pods off `node` for good.
    pub(super) fn remove(&mut self, node: NodeIx, gone: &[Arc<Running>]) {
        let Some(here) = &mut self.rows[node.row()] else {
            return;
        };
        let stays: Vec<bool> = here
            .pods
            .iter()
            .map(|pod| gone.iter().all(|gone| gone.id != pod.id))
            .collect();
        let mut each = stays.iter();
        here.pods.retain(|_| each.next().copied().unwrap_or(true));
        let mut each = stays.iter();
        here.held.retain(|_| each.next().copied().unwrap_or(true));
        let mut each = stays.iter();
        here.counts.retain(|_| each.next().copied().unwrap_or(true));
        let belows = &mut self.belows;
        belows.iter_mut().for_each(|belows| belows.forget(node));
    }
}
