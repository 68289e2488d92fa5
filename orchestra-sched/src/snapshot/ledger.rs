//! What one plan has used: a snapshot and what was placed on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::columns::{Load, Rows};
use super::demand::{Demand, HostPort};
use super::{NodeIx, Snapshot};

/// A snapshot with placements on top that nobody else sees.
///
/// Opening one costs a few reference counts; the first charge copies the columns that pods change.
#[derive(Clone, Debug)]
pub struct Ledger {
    snapshot: Snapshot,
    load: Arc<Load>,
    /// What has no column: extended resources and host ports of what was placed here.
    placed: BTreeMap<NodeIx, Vec<Arc<Demand>>>,
}

impl Ledger {
    /// The snapshot with nothing on top.
    pub fn open(snapshot: &Snapshot) -> Self {
        Self {
            snapshot: snapshot.clone(),
            load: Arc::clone(&snapshot.load),
            placed: BTreeMap::new(),
        }
    }

    /// What lies beneath.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What there is and what is free, by column.
    pub fn rows(&self) -> Rows<'_> {
        Rows::all(&self.snapshot.capacity, &self.load)
    }

    /// One node's row.
    pub fn row(&self, node: NodeIx) -> Rows<'_> {
        Rows::one(&self.snapshot.capacity, &self.load, node)
    }

    /// Takes what `demand` asks from `node`. Checks nothing: see [`fits`](crate::fits).
    pub fn charge(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        Arc::make_mut(&mut self.load).charge(node.row(), demand);
        if demand.has_no_column() {
            self.placed
                .entry(node)
                .or_default()
                .push(Arc::clone(demand));
        }
    }

    /// Gives back what an equal [`charge`](Self::charge) took.
    pub fn refund(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        Arc::make_mut(&mut self.load).refund(node.row(), demand);
        if demand.has_no_column()
            && let Some(placed) = self.placed.get_mut(&node)
            && let Some(at) = placed.iter().position(|other| other == demand)
        {
            placed.swap_remove(at);
        }
    }

    /// How much of an extended resource is free on `node`; below zero where it has shrunk.
    pub fn extended_free(&self, node: NodeIx, resource: &str) -> i64 {
        let row = self.snapshot.node(node);
        let total = row
            .facts()
            .allocatable
            .extended
            .get(resource)
            .copied()
            .unwrap_or(0);
        let placed: i64 = self
            .placed_on(node)
            .filter_map(|demand| demand.requests.extended.get(resource))
            .fold(0, |sum, &amount| sum.saturating_add(amount));
        total
            .saturating_sub(row.extended_used(resource))
            .saturating_sub(placed)
    }

    /// The host ports in use on `node`.
    pub fn ports(&self, node: NodeIx) -> impl Iterator<Item = &HostPort> {
        let placed = self.placed_on(node).flat_map(|demand| &demand.host_ports);
        self.snapshot.node(node).ports().iter().chain(placed)
    }

    fn placed_on(&self, node: NodeIx) -> impl Iterator<Item = &Demand> {
        self.placed
            .get(&node)
            .into_iter()
            .flatten()
            .map(|demand| &**demand)
    }
}
