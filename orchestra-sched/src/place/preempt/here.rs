//! Who is on each node, and what each of them holds.

use std::cmp::Reverse;
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use orchestra_core::time::Timestamp;

use crate::snapshot::{Demand, Ledger, NodeIx, Running, Snapshot};

/// The pods on one node.
#[derive(Clone, Debug)]
pub(super) struct Here {
    /// Those that do not end, the most important first: the higher priority, then the earlier start.
    pub(super) pods: Vec<Arc<Running>>,
    /// What each of them is and holds, side by side: all that mostly has to be looked at.
    pub(super) held: Vec<Holding>,
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
    pub(super) fn free(ledger: &Ledger, node: NodeIx) -> Self {
        let row = ledger.row(node);
        Self {
            cpu: row.cpu_free[0],
            memory: row.memory_free[0],
            storage: row.storage_free[0],
            pods: row.pods_free[0],
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.wrapping_add(other.cpu);
        self.memory = self.memory.wrapping_add(other.memory);
        self.storage = self.storage.wrapping_add(other.storage);
        self.pods = self.pods.wrapping_add(other.pods);
    }

    pub(super) fn take(&mut self, other: &Self) {
        self.cpu = self.cpu.wrapping_sub(other.cpu);
        self.memory = self.memory.wrapping_sub(other.memory);
        self.storage = self.storage.wrapping_sub(other.storage);
        self.pods = self.pods.wrapping_sub(other.pods);
    }
}

impl Here {
    fn new(pods: &[Arc<Running>]) -> Self {
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
        Self {
            held: held.collect(),
            pods,
            ending,
        }
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
    /// The rows whose ending pods are off the ledger.
    ended: FixedBitSet,
}

impl Everywhere {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows: vec![None; rows],
            known: 0,
            ended: FixedBitSet::with_capacity(rows),
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
        }
    }

    /// Who is on `node`; takes off `ledger` who ends there.
    pub(super) fn look(&mut self, snapshot: &Snapshot, ledger: &mut Ledger, node: NodeIx) -> &Here {
        let here = self.rows[node.row()].get_or_insert_with(|| {
            let here = Here::new(snapshot.node(node).pods());
            self.known += here.pods.len();
            here
        });
        if !here.ending.is_empty() && !self.ended.put(node.row()) {
            here.ending.iter().for_each(|pod| ledger.evict(node, pod));
        }
        here
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
    }
}
