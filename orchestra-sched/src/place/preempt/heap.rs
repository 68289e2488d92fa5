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
    pub(super) fn set(&mut self, node: NodeIx, cost: Option<Cost>, name: &SmolStr) {
        let slot = &mut self.now[node.row()];
        if *slot == cost {
            return;
        }
        self.standing += usize::from(cost.is_some());
        self.standing -= usize::from(slot.is_some());
        *slot = cost;
        if let (Some(cost), Some(heap)) = (cost, &mut self.heap) {
            let name = name.clone();
            heap.push(Reverse(Bid { cost, name, node }));
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

    /// The cheapest, and the one after it. `name` is the name of a row's node.
    pub(super) fn best<'n>(
        &mut self,
        name: impl Fn(NodeIx) -> &'n SmolStr,
    ) -> Option<(Bid, Option<Bid>)> {
        // A look at all is quicker than bringing them in order, and mostly all there is.
        if !std::mem::replace(&mut self.asked, true) {
            return self.look(name);
        }
        let (now, standing) = (&self.now, self.standing);
        let heap = self.heap.get_or_insert_with(|| {
            let mut bids = Vec::with_capacity(standing);
            bids.extend(each(now).map(|(node, cost)| {
                let name = name(node).clone();
                Reverse(Bid { cost, name, node })
            }));
            BinaryHeap::from(bids)
        });
        let first = take(heap, now)?;
        let second = loop {
            match take(heap, now) {
                // A row that bid the same before is there twice.
                Some(bid) if bid == first => {}
                other => break other,
            }
        };
        for bid in [Some(first.clone()), second.clone()].into_iter().flatten() {
            heap.push(Reverse(bid));
        }
        Some((first, second))
    }

    /// As [`best`](Self::best), by a look at all.
    fn look<'n>(&self, name: impl Fn(NodeIx) -> &'n SmolStr) -> Option<(Bid, Option<Bid>)> {
        let mut best: [Option<(Cost, &SmolStr, NodeIx)>; 2] = [None, None];
        for (node, cost) in each(&self.now) {
            let beats = |other: &Option<(Cost, &SmolStr, NodeIx)>| {
                other.is_none_or(|(least, other, row)| match cost.cmp(&least) {
                    Ordering::Equal => (name(node), node) < (other, row),
                    order => order == Ordering::Less,
                })
            };
            if !beats(&best[1]) {
                continue;
            }
            let bid = Some((cost, name(node), node));
            best = match beats(&best[0]) {
                true => [bid, best[0]],
                false => [best[0], bid],
            };
        }
        let bid = |(cost, name, node): (Cost, &SmolStr, NodeIx)| Bid {
            cost,
            name: name.clone(),
            node,
        };
        let [first, second] = best.map(|best| best.map(bid));
        Some((first?, second))
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
            let names: Vec<SmolStr> = (0..12).map(|row| name(NodeIx::from_row(row))).collect();
            let mut bids = Bids::new(costs.iter().map(|c| c.map(cost)).collect());
            for (row, to) in changes {
                if row < costs.len() {
                    costs[row] = to;
                    bids.set(NodeIx::from_row(row), to.map(cost), &name(NodeIx::from_row(row)));
                }
                let found: Vec<usize> = bids.best(|node| &names[node.row()]).map_or(Vec::new(), |(first, second)| {
                    let rows = [Some(first), second].into_iter().flatten();
                    rows.map(|bid| bid.node.row()).collect()
                });
                prop_assert_eq!(found, plain(&costs));
                prop_assert_eq!(bids.len(), costs.iter().flatten().count());
            }
        }
    }
}
