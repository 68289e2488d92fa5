//! The cheapest row of many, when one row at a time changes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use smol_str::SmolStr;

use super::Cost;
use crate::snapshot::NodeIx;

/// What a row costs, and which it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Bid {
    pub(super) cost: Cost,
    pub(super) name: SmolStr,
    pub(super) node: NodeIx,
}

impl Ord for Cost {
    fn cmp(&self, other: &Self) -> Ordering {
        // None is lowest, as no victims are.
        (self.violations, self.highest, self.sum, self.victims)
            .cmp(&(other.violations, other.highest, other.sum, other.victims))
            .then_with(|| match (self.started, other.started) {
                (Some(one), Some(other)) => other.cmp(&one),
                (one, other) => one.is_some().cmp(&other.is_some()),
            })
    }
}

impl PartialOrd for Cost {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cost
            .cmp(&other.cost)
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.node.cmp(&other.node))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bids by row. A bid that was replaced stays in the heap until it comes to the top.
#[derive(Clone, Debug)]
pub(super) struct Bids {
    heap: BinaryHeap<Reverse<Bid>>,
    now: Vec<Option<Cost>>,
    standing: usize,
}

impl Bids {
    /// The first bids; row `i` makes `costs[i]`.
    pub(super) fn new(costs: Vec<Option<Cost>>, name: impl Fn(NodeIx) -> SmolStr) -> Self {
        let bids: Vec<Reverse<Bid>> = costs
            .iter()
            .enumerate()
            .filter_map(|(row, cost)| {
                let node = NodeIx::from_row(row);
                let cost = (*cost)?;
                let name = name(node);
                Some(Reverse(Bid { cost, name, node }))
            })
            .collect();
        Self {
            standing: bids.len(),
            heap: BinaryHeap::from(bids),
            now: costs,
        }
    }

    /// How many rows bid.
    pub(super) fn len(&self) -> usize {
        self.standing
    }

    /// Replaces a row's bid.
    pub(super) fn set(&mut self, node: NodeIx, cost: Option<Cost>, name: &SmolStr) {
        let slot = &mut self.now[node.row()];
        if *slot == cost {
            return;
        }
        self.standing += usize::from(cost.is_some());
        self.standing -= usize::from(slot.is_some());
        *slot = cost;
        if let Some(cost) = cost {
            let name = name.clone();
            self.heap.push(Reverse(Bid { cost, name, node }));
        }
    }

    /// Throws out what was replaced, once it is most.
    pub(super) fn tidy(&mut self) {
        if self.heap.len() > 64 + 2 * self.standing {
            let now = &self.now;
            self.heap
                .retain(|Reverse(bid)| now[bid.node.row()] == Some(bid.cost));
        }
    }

    /// The cheapest, and the one after it.
    pub(super) fn best(&mut self) -> Option<(Bid, Option<Bid>)> {
        let first = self.take()?;
        let second = loop {
            match self.take() {
                // A row that bid the same before is there twice.
                Some(bid) if bid == first => {}
                other => break other,
            }
        };
        for bid in [Some(first.clone()), second.clone()].into_iter().flatten() {
            self.heap.push(Reverse(bid));
        }
        Some((first, second))
    }

    fn take(&mut self) -> Option<Bid> {
        loop {
            let Reverse(bid) = self.heap.pop()?;
            if self.now[bid.node.row()] == Some(bid.cost) {
                return Some(bid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(victims: u32) -> Cost {
        Cost {
            violations: 0,
            highest: Some(0),
            sum: 0,
            victims,
            started: None,
        }
    }

    fn name(node: NodeIx) -> SmolStr {
        SmolStr::from(format!("n{:02}", node.row()))
    }

    fn plain(costs: &[Option<u32>]) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..costs.len()).filter(|&r| costs[r].is_some()).collect();
        rows.sort_by_key(|&row| (costs[row], row));
        rows.truncate(2);
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_two_cheapest_are_known_after_every_change(
            mut costs in proptest::collection::vec(proptest::option::of(0u32..4), 0..12),
            changes in proptest::collection::vec((0usize..12, proptest::option::of(0u32..5)), 0..60),
        ) {
            let mut bids = Bids::new(costs.iter().map(|c| c.map(cost)).collect(), name);
            for (row, to) in changes {
                if row < costs.len() {
                    costs[row] = to;
                    bids.set(NodeIx::from_row(row), to.map(cost), &name(NodeIx::from_row(row)));
                }
                let found: Vec<usize> = bids.best().map_or(Vec::new(), |(first, second)| {
                    let rows = [Some(first), second].into_iter().flatten();
                    rows.map(|bid| bid.node.row()).collect()
                });
                prop_assert_eq!(found, plain(&costs));
                prop_assert_eq!(bids.len(), costs.iter().flatten().count());
            }
        }
    }
}
