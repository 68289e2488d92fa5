//! Nodes that merely have too little of something. Where pods find no node those are mostly nearly
//! all, so they are counted from the columns, and looked at closely only where they come near.

use std::cmp::Ordering;

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lacking {
    /// A bit for each of [`NAMES`].
    pub(super) mask: u8,
    /// A bit for each of which it has less than is asked, whoever leaves.
    lasts: u8,
    /// How much of each is missing, and how much it has; 0 of what is enough.
    missing: [i64; 4],
    total: [i64; 4],
}

impl Lacking {
    #[inline]
    fn of(asks: &Asks, snapshot: &Snapshot, rows: &Rows<'_>, row: usize) -> Self {
        let (pods, storage) = snapshot.uncolumned(row);
        let columns = [
            (rows.pods_free[row], pods),
            (rows.cpu_free[row], rows.cpu_total[row]),
            (rows.memory_free[row], rows.memory_total[row]),
            (rows.storage_free[row], storage),
        ];
        let mut found = Self {
            mask: 0,
            lasts: 0,
            missing: [0; 4],
            total: [0; 4],
        };
        for (at, (&asked, (free, total))) in asks.0.iter().zip(columns).enumerate() {
            if fits::lacks(asked, free) {
                found.mask |= 1 << at;
                found.lasts |= u8::from(asked > total) << at;
                found.missing[at] = asked.saturating_sub(free);
                found.total[at] = total;
            }
        }
        found
    }

    fn lasts(&self, at: usize) -> bool {
        self.lasts >> at & 1 == 1
    }

    /// Whether it lacks one thing, of which more than so many thousandths are missing: most do of
    /// what the best lacks, and need no division.
    pub(super) fn exceeds(self, thousandths: i64) -> bool {
        let at = self.mask.trailing_zeros() as usize;
        let (missing, total) = (self.missing[at], self.total[at].max(1));
        self.count() == 1
            && i128::from(missing) * 1_000 >= (i128::from(thousandths) + 1) * i128::from(total)
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

/// Nodes that lack the same, one after the other, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Run {
    found: Option<Lacking>,
    /// Those with a name up to this one are to be looked at closely.
    bar: SmolStr,
    /// How many are yet to be counted.
    nodes: usize,
    /// Where the rule and the reasons stand under which they count.
    places: (usize, [usize; 4]),
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
        if self.lacking.found != Some(found) {
            self.end_run();
            let Some(places) = self.places(found) else {
                return false;
            };
            let Some(bar) = self.bar(found, places.1) else {
                return false;
            };
            self.lacking = Run {
                found: Some(found),
                bar,
                nodes: 0,
                places,
            };
        }
        let known = *snapshot.name(node) > self.lacking.bar;
        self.lacking.nodes += usize::from(known);
        known
    }

    /// Counts the nodes of the run that ends. What is known of it holds no longer than the rest.
    pub(super) fn end_run(&mut self) {
        let Run {
            found,
            nodes,
            places: (rule, reasons),
            ..
        } = std::mem::take(&mut self.lacking);
        let Some(found) = found.filter(|_| nodes > 0) else {
            return;
        };
        let whole = &mut self.explanation;
        whole.nodes += nodes;
        let lasts = found.each().any(|at| found.lasts(at));
        if !lasts {
            whole.outlook = Outlook::NotNow;
        }
        let rule = &mut whole.rules[rule];
        rule.nodes += nodes;
        rule.alone += nodes;
        rule.lasting += if lasts { nodes } else { 0 };
        for at in found.each() {
            whole.reasons[reasons[at]].nodes += nodes;
            whole.helped_by = whole.helped_by.with(Changes::NODE_GREW);
            if !found.lasts(at) {
                whole.helped_by = whole.helped_by.with(Changes::POD_REMOVED);
            }
        }
    }

    /// The last name that makes such a node one of the nearest, or the best remedy; `None` if every
    /// name does.
    fn bar(&self, found: Lacking, reasons: [usize; 4]) -> Option<SmolStr> {
        let mut bar = self.remedies.bar(found)?;
        for at in found.each() {
            let worst = self.explanation.reasons[reasons[at]]
                .nearest
                .get(NEAREST_MAX - 1)?;
            match worst.missing.cmp(&found.missing[at]) {
                Ordering::Less => {}
                Ordering::Equal => bar = bar.max(worst.node.clone()),
                Ordering::Greater => return None,
            }
        }
        Some(bar)
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
