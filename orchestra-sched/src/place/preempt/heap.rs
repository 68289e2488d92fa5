//! The cheapest row of many, when one row at a time changes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Cost;
use crate::snapshot::NodeIx;

/// What a row costs, and which it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bid {
    pub(super) cost: Cost,
    /// How far its name comes among all.
    pub(super) rank: u32,
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
            .then_with(|| self.rank.cmp(&other.rank))
            .then_with(|| self.node.cmp(&other.node))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bids by row.
#[derive(Clone, Debug)]
pub(super) struct Bids {
    now: Vec<Option<Cost>>,
    standing: usize,
    /// Whether the best were asked for before.
    asked: bool,
    /// Once they are asked for again. A bid that was replaced stays until it comes to the top.
    heap: Option<BinaryHeap<Reverse<Bid>>>,
}

impl Bids {
    /// The first bids; row `i` makes `costs[i]`.
    pub(super) fn new(costs: Vec<Option<Cost>>) -> Self {
        Self {
            standing: costs.iter().flatten().count(),
            now: costs,
            asked: false,
            heap: None,
        }
    }

    /// How many rows bid.
    pub(super) fn len(&self) -> usize {
        self.standing
    }

    /// Replaces a row's bid.
    pub(super) fn set(&mut self, node: NodeIx, cost: Option<Cost>, rank: u32) {
        let slot = &mut self.now[node.row()];
        if *slot == cost {
            return;
        }
        self.standing += usize::from(cost.is_some());
        self.standing -= usize::from(slot.is_some());
        *slot = cost;
        if let (Some(cost), Some(heap)) = (cost, &mut self.heap) {
            heap.push(Reverse(Bid { cost, rank, node }));
        }
    }

    /// Throws out what was replaced, once it is most.
    pub(super) fn tidy(&mut self) {
        if let Some(heap) = &mut self.heap
            && heap.len() > 64 + 2 * self.standing
        {
            let now = &self.now;
            heap.retain(|Reverse(bid)| now[bid.node.row()] == Some(bid.cost));
        }
    }

    /// The cheapest, and the one after it. `ranks` are the rows' places by name.
    pub(super) fn best(&mut self, ranks: &[u32]) -> [Option<Bid>; 2] {
        let bid = |(node, cost): (NodeIx, Cost)| Bid {
            cost,
            rank: ranks[node.row()],
            node,
        };
        // A look at all is quicker than bringing them in order, and mostly all there is.
        if !std::mem::replace(&mut self.asked, true) {
            return two_least(each(&self.now).map(bid));
        }
        let (now, standing) = (&self.now, self.standing);
        let heap = self.heap.get_or_insert_with(|| {
            let mut bids = Vec::with_capacity(standing);
            bids.extend(each(now).map(|one| Reverse(bid(one))));
            BinaryHeap::from(bids)
        });
        let first = take(heap, now);
        let second = loop {
            match take(heap, now) {
                // A row that bid the same before is there twice.
                Some(bid) if Some(bid) == first => {}
                other => break other,
            }
        };
        let both = [first, second];
        heap.extend(both.into_iter().flatten().map(Reverse));
        both
    }
}

/// The least of all, and the one after it.
pub(super) fn two_least(bids: impl Iterator<Item = Bid>) -> [Option<Bid>; 2] {
    bids.fold([None, None], |mut best, bid| {
        enter(&mut best, bid);
        best
    })
}

/// Takes in one more.
#[inline]
pub(super) fn enter(best: &mut [Option<Bid>; 2], bid: Bid) {
    let beats = |other: &Option<Bid>| other.is_none_or(|other| bid < other);
    if beats(&best[0]) {
        best[1] = best[0].replace(bid);
    } else if beats(&best[1]) {
        best[1] = Some(bid);
    }
}

fn each(now: &[Option<Cost>]) -> impl Iterator<Item = (NodeIx, Cost)> {
    let rows = now.iter().enumerate();
    rows.filter_map(|(row, cost)| Some((NodeIx::from_row(row), (*cost)?)))
}

/// The top of those that hold.
fn take(heap: &mut BinaryHeap<Reverse<Bid>>, now: &[Option<Cost>]) -> Option<Bid> {
    loop {
        let Reverse(bid) = heap.pop()?;
        if now[bid.node.row()] == Some(bid.cost) {
            return Some(bid);
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

    fn plain(costs: &[Option<u32>]) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..costs.len()).filter(|&r| costs[r].is_some()).collect();
        rows.sort_by_key(|&row| (costs[row], row));
        rows.truncate(2);
        rows
    }

    proptest! {
        #[test]
        fn the_two_cheapest_are_known_after_every_change(
            mut costs in proptest::collection::vec(proptest::option::of(0u32..4), 0..12),
            changes in proptest::collection::vec((0usize..12, proptest::option::of(0u32..5)), 0..60),
        ) {
            let ranks: Vec<u32> = (0..12).collect();
            let mut bids = Bids::new(costs.iter().map(|c| c.map(cost)).collect());
            for (row, to) in changes {
                if row < costs.len() {
                    costs[row] = to;
                    bids.set(NodeIx::from_row(row), to.map(cost), row as u32);
                }
                let best = bids.best(&ranks).into_iter().flatten();
                let found: Vec<usize> = best.map(|bid| bid.node.row()).collect();
                prop_assert_eq!(found, plain(&costs));
                prop_assert_eq!(bids.len(), costs.iter().flatten().count());
            }
        }
    }
}
