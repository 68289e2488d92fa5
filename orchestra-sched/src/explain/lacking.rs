//! Nodes that merely have too little of something. Where pods find no node those are mostly nearly
//! all, so they are counted from the columns, and looked at closely only where they come near.

use smol_str::SmolStr;

use super::{Account, NEAREST_MAX, Outlook};
use crate::fits::{self, Obstacle};
use crate::place::Changes;
use crate::snapshot::{Demand, NodeIx, Rows, Snapshot};

/// What has a column, in the order in which [`fits::resources`] names it.
const NAMES: [&str; 4] = ["pods", "cpu", "memory", "ephemeral-storage"];
const RULE: &str = "NodeResourcesFit";

/// What a pod asks of what has a column.
#[derive(Debug)]
pub(crate) struct Asks([i64; 4]);

impl Asks {
    pub(crate) fn of(demand: &Demand) -> Self {
        let asked = &demand.requests;
        Self([1, asked.cpu_milli, asked.memory, asked.storage])
    }
}

/// What a node has too little of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking {
    /// A bit for each of [`NAMES`].
    pub(super) mask: u8,
    /// How much of each.
    missing: [i64; 4],
    total: [i64; 4],
    lasts: [bool; 4],
}

impl Lacking {
    fn of(asks: &Asks, snapshot: &Snapshot, rows: &Rows<'_>, row: usize) -> Self {
        let (pods, storage) = snapshot.uncolumned(row);
        let total = [pods, rows.cpu_total[row], rows.memory_total[row], storage];
        let free = [
            rows.pods_free[row],
            rows.cpu_free[row],
            rows.memory_free[row],
            rows.storage_free[row],
        ];
        let mut found = Self {
            mask: 0,
            missing: [0; 4],
            total,
            lasts: [false; 4],
        };
        for at in 0..NAMES.len() {
            let asked = asks.0[at];
            found.mask |= u8::from(fits::lacks(asked, free[at])) << at;
            found.missing[at] = asked.saturating_sub(free[at]);
            found.lasts[at] = asked > total[at];
        }
        found
    }

    fn each(self) -> impl Iterator<Item = usize> {
        (0..NAMES.len()).filter(move |at| self.mask >> at & 1 == 1)
    }

    /// How many things it lacks.
    pub(super) fn count(self) -> usize {
        self.mask.count_ones() as usize
    }

    /// What is missing, in thousandths of what the node has.
    pub(super) fn shares(self) -> i64 {
        let share = |at: usize| {
            let (missing, total) = (self.missing[at], self.total[at].max(1));
            missing.checked_mul(1_000).map_or_else(
                || {
                    let share = i128::from(missing) * 1_000 / i128::from(total);
                    i64::try_from(share).unwrap_or(i64::MAX)
                },
                |thousandfold| thousandfold / total,
            )
        };
        self.each().map(share).fold(0, i64::saturating_add)
    }
}

/// The [`Lacking::mask`] of obstacles that are nothing else; 0 if they are.
pub(super) fn mask(obstacles: &[Obstacle]) -> u8 {
    let mut mask = 0;
    for obstacle in obstacles {
        let place = |resource: &SmolStr| NAMES.iter().position(|name| resource == name);
        match obstacle {
            Obstacle::Lacks { resource, .. } => match place(resource) {
                Some(at) => mask |= 1 << at,
                None => return 0,
            },
            _ => return 0,
        }
    }
    mask
}

impl Account {
    /// Takes in a node that no rule turns down but for too little of something, if that tells
    /// nothing but one more of its kind; whether it did. Else it is to be looked at closely.
    pub(crate) fn lacking(
        &mut self,
        asks: &Asks,
        snapshot: &Snapshot,
        rows: &Rows<'_>,
        node: NodeIx,
    ) -> bool {
        let found = Lacking::of(asks, snapshot, rows, node.row());
        let name = snapshot.name(node);
        let Some((rule, reasons)) = self.places(found) else {
            return false;
        };
        let whole = &mut self.explanation;
        for at in found.each() {
            let reason = &whole.reasons[reasons[at]];
            let beaten = reason
                .nearest
                .get(NEAREST_MAX - 1)
                .is_some_and(|worst| (worst.missing, &worst.node) < (found.missing[at], name));
            if !beaten {
                return false;
            }
        }
        if !self.remedies.beat(found, name) {
            return false;
        }
        whole.nodes += 1;
        let lasts = found.each().any(|at| found.lasts[at]);
        if !lasts {
            whole.outlook = Outlook::NotNow;
        }
        let rule = &mut whole.rules[rule];
        rule.nodes += 1;
        rule.alone += 1;
        rule.lasting += usize::from(lasts);
        for at in found.each() {
            whole.reasons[reasons[at]].nodes += 1;
            whole.helped_by = whole.helped_by.with(Changes::NODE_GREW);
            if !found.lasts[at] {
                whole.helped_by = whole.helped_by.with(Changes::POD_REMOVED);
            }
        }
        true
    }

    /// Where the rule and the reasons stand that such a node counts under, if they all do.
    fn places(&mut self, found: Lacking) -> Option<(usize, [usize; 4])> {
        if let Some(known) = self.places[usize::from(found.mask)] {
            return Some(known);
        }
        let whole = &self.explanation;
        let rule = whole.rules.iter().position(|known| known.rule == RULE)?;
        let mut places = [0; 4];
        for at in found.each() {
            let is_it = |obstacle: &Obstacle| match obstacle {
                Obstacle::Lacks { resource, .. } => resource == NAMES[at],
                _ => false,
            };
            let mut reasons = whole.reasons.iter();
            places[at] = reasons.position(|reason| is_it(&reason.obstacle))?;
        }
        let known = (found.mask != 0).then_some((rule, places));
        self.places[usize::from(found.mask)] = known;
        known
    }
}
