//! What all pods of lower priority on a node hold together: enough to tell most nodes on which room
//! cannot be made, or only at a higher price than elsewhere.

use fixedbitset::FixedBitSet;
use orchestra_core::time::Timestamp;

use super::Cost;
use super::candidate::RAISE;
use super::here::{Amounts, Holding};
use crate::place::kernel::Asked;
use crate::snapshot::NodeIx;

/// The pods on one node that are of lower priority than some other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Below {
    pods: u32,
    /// The lowest priority among them.
    least: i32,
    /// When the last of those with that priority started, the one before it, and so on; `None` for one
    /// that has not. The earliest stands for all before it.
    latest: [Option<Timestamp>; LATEST],
    /// What they hold together.
    all: Amounts,
    /// The most that one of them holds, of each.
    most: Amounts,
}

/// How many starts are told apart.
const LATEST: usize = 4;

impl Below {
    /// The pods in `held`, the most important first.
    pub(super) fn of(held: &[Holding]) -> Self {
        let least = held.last().map_or(0, |pod| pod.priority);
        let equals = held.iter().rev().take_while(|pod| pod.priority == least);
        let mut latest = [None; LATEST];
        for (nth, pod) in equals.take(LATEST).enumerate() {
            latest[nth..].fill(pod.started);
        }
        let mut below = Self {
            pods: held.len() as u32,
            least,
            latest,
            all: Amounts::NONE,
            most: Amounts::NONE,
        };
        for pod in held {
            below.all.add(&pod.room);
            below.most.raise(&pod.room);
        }
        below
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.pods == 0
    }

    /// What is free once they are gone.
    pub(super) fn gone(&self, mut free: Amounts) -> Amounts {
        free.add(&self.all);
        free
    }

    /// No more than what room costs for who asks that, where so much is free and that is too little.
    #[inline]
    pub(super) fn bound(&self, asked: &Asked, free: &Amounts) -> Cost {
        let victims = [
            (asked.cpu, free.cpu, self.most.cpu),
            (asked.memory, free.memory, self.most.memory),
            (asked.storage, free.storage, self.most.storage),
            (1, free.pods, 1),
        ]
        .into_iter()
        .filter(|&(asked, free, most)| asked > 0 && asked > free && most > 0)
        .map(|(asked, free, most)| times(asked.saturating_sub(free), most))
        .fold(1, i64::max);
        Cost {
            violations: 0,
            highest: Some(self.least),
            sum: victims.saturating_mul(i64::from(self.least) + RAISE),
            victims: u32::try_from(victims).unwrap_or(u32::MAX),
            // If it is no more than that, so many of the lowest priority leave.
            started: self.latest[(victims as usize).min(LATEST) - 1],
        }
    }
}

/// How many of `most` make up `missing`; both are above 0.
fn times(missing: i64, most: i64) -> i64 {
    // Mostly few, and a division takes longer.
    let mut left = missing;
    for times in 1..=4 {
        if left <= most {
            return times;
        }
        left -= most;
    }
    4 + left / most + i64::from(left % most > 0)
}

/// By row: the pods that are of lower priority than that.
#[derive(Clone, Debug)]
pub(super) struct Belows {
    pub(super) priority: i32,
    rows: Vec<Below>,
    known: FixedBitSet,
}

impl Belows {
    /// Of that many rows nothing is known.
    pub(super) fn new(priority: i32, rows: usize) -> Self {
        Self {
            priority,
            rows: vec![Below::of(&[]); rows],
            known: FixedBitSet::with_capacity(rows),
        }
    }

    /// What is on a row may have changed.
    pub(super) fn forget(&mut self, node: NodeIx) {
        self.known.set(node.row(), false);
    }

    /// The rows of which nothing is known.
    pub(super) fn unknown(&self) -> Vec<NodeIx> {
        self.known.zeroes().map(NodeIx::from_row).collect()
    }

    pub(super) fn set(&mut self, node: NodeIx, below: Below) {
        self.rows[node.row()] = below;
        self.known.insert(node.row());
    }

    pub(super) fn rows(&self) -> &[Below] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn so_many_times_is_the_division_rounded_up(missing in 1i64..400, most in 1i64..60) {
            prop_assert_eq!(times(missing, most), (missing + most - 1) / most);
        }
    }
}
