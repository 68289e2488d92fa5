//! What the use of nodes costs: its square, resource by resource, so that even use costs least.

use smol_str::SmolStr;

use super::plan::Share;
use crate::snapshot::{Demand, NodeIx, Snapshot};

/// What a pod takes of the resources that are evened out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Use([i64; 2]);

impl Use {
    pub(super) fn of(demand: &Demand) -> Self {
        Self([demand.requests.cpu_milli, demand.requests.memory])
    }
}

#[derive(Clone, Debug)]
struct Node {
    name: SmolStr,
    total: [i64; 2],
    used: [i64; 2],
    cost: i64,
}

/// Every node's use, and what it costs: over cpu and memory, the square of the share that is used,
/// times the node's size over the mean size, in millionths.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    nodes: Vec<Node>,
    mean: [i128; 2],
}

/// Shares are counted in 2^-this.
const SHARE_BITS: u32 = 30;
/// A share beyond this counts as this: a node that has shrunk under its pods.
const SHARE_MAX: i128 = 16 << SHARE_BITS;

impl Costs {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let rows = snapshot.rows();
        let nodes: Vec<Node> = (snapshot.nodes())
            .map(|(node, row)| {
                let at = node.row();
                let total = [rows.cpu_total[at], rows.memory_total[at]];
                let free = [rows.cpu_free[at], rows.memory_free[at]];
                Node {
                    name: row.name().clone(),
                    total,
                    used: [0, 1].map(|r| total[r].saturating_sub(free[r]).max(0)),
                    cost: 0,
                }
            })
            .collect();
        let count = nodes.len().max(1) as i128;
        let mean = [0, 1].map(|r| {
            let sum: i128 = nodes.iter().map(|node| i128::from(node.total[r])).sum();
            (sum / count).max(1)
        });
        let mut costs = Self { nodes, mean };
        for at in 0..costs.nodes.len() {
            costs.nodes[at].cost = costs.cost(&costs.nodes[at], [0, 0]);
        }
        costs
    }

    pub(super) fn name(&self, node: NodeIx) -> &SmolStr {
        &self.nodes[node.row()].name
    }

    pub(super) fn total(&self) -> i64 {
        (self.nodes.iter()).fold(0, |sum, node| sum.saturating_add(node.cost))
    }

    pub(super) fn share(&self, node: NodeIx) -> Share {
        let Node { used, total, .. } = &self.nodes[node.row()];
        let [cpu, memory] = [0, 1].map(|r| (share(used[r], total[r]) * 100) >> SHARE_BITS);
        Share {
            cpu_percent: cpu as u32,
            memory_percent: memory as u32,
        }
    }

    pub(super) fn gain_of_leaving(&self, from: NodeIx, takes: Use) -> i64 {
        let node = &self.nodes[from.row()];
        node.cost - self.cost(node, takes.0.map(|amount| -amount))
    }

    pub(super) fn cost_of_adding(&self, to: NodeIx, takes: Use) -> i64 {
        let node = &self.nodes[to.row()];
        self.cost(node, takes.0) - node.cost
    }

    /// On any node that has so much.
    pub(super) fn least_to_add(&self, takes: Use) -> i64 {
        // What is not asked for may be short, as when a node has shrunk under its pods.
        let has = |node: &Node, r: usize| takes.0[r] <= node.total[r] - node.used[r];
        let fits = |node: &&Node| (0..2).all(|r| takes.0[r] == 0 || has(node, r));
        let nodes = self.nodes.iter().filter(fits);
        let adds = nodes.map(|node| self.cost(node, takes.0) - node.cost);
        adds.min().unwrap_or(i64::MAX / 4)
    }

    pub(super) fn shift(&mut self, from: NodeIx, to: NodeIx, takes: Use) {
        for (node, sign) in [(from, -1), (to, 1)] {
            let by = takes.0.map(|amount| sign * amount);
            let cost = self.cost(&self.nodes[node.row()], by);
            let node = &mut self.nodes[node.row()];
            node.cost = cost;
            node.used = [0, 1].map(|r| node.used[r] + by[r]);
        }
    }

    /// What a node costs with so much more in use.
    fn cost(&self, node: &Node, more: [i64; 2]) -> i64 {
        let of = |r: usize| {
            let share = share(node.used[r] + more[r], node.total[r]);
            let size = (i128::from(node.total[r]) << 20) / self.mean[r];
            let square = (share * share) >> SHARE_BITS;
            let sized = (square * size.min(1 << 40)) >> 20;
            (sized * 1_000_000) >> SHARE_BITS
        };
        (of(0) + of(1)).min(i128::from(i64::MAX >> 8)) as i64
    }
}

/// What share of `total` is used, in 2^-[`SHARE_BITS`].
fn share(used: i64, total: i64) -> i128 {
    match (used, total) {
        (..=0, _) => 0,
        (_, ..=0) => SHARE_MAX,
        _ => ((i128::from(used) << SHARE_BITS) / i128::from(total)).min(SHARE_MAX),
    }
}
