//! Nodes that merely have too little of something. Where pods find no node those are mostly nearly
//! all, so they are counted from the columns, and only those that may be named are looked at closely.

use super::{Account, NEAREST_MAX, Outlook};
use crate::fits::Obstacle;
use crate::place::Changes;
use crate::snapshot::{Demand, Rows, Snapshot};

/// What has a column, in the order in which [`fits::resources`] names it.
const NAMES: [&str; THINGS] = ["pods", "cpu", "memory", "ephemeral-storage"];
const THINGS: usize = 4;
const RULE: &str = "NodeResourcesFit";

/// The bits of a mask that say what is lacking, one for each of [`NAMES`]. The others say of which a node
/// has less than is asked, whoever leaves.
const LACKS: u8 = (1 << THINGS) - 1;

/// Of each node what it lacks, if it is turned down for nothing else.
#[derive(Debug)]
pub(crate) struct Lacking<'a> {
    asked: [i64; THINGS],
    free: [&'a [i64]; THINGS],
    total: [&'a [i64]; THINGS],
    /// By row: how many names come before its own.
    ranks: &'a [u32],
    /// By row: what it lacks; 0 if it has enough, or is looked at closely.
    masks: Vec<u8>,
}

impl<'a> Lacking<'a> {
    /// What the nodes lack for `demand`, if `passed` by all that asks for something else.
    pub(crate) fn of(
        demand: &Demand,
        snapshot: &'a Snapshot,
        rows: Rows<'a>,
        passed: impl Iterator<Item = bool>,
    ) -> Self {
        let requests = &demand.requests;
        let (pods, storage) = snapshot.uncolumned();
        let mut lacking = Self {
            asked: [1, requests.cpu_milli, requests.memory, requests.storage],
            free: [
                rows.pods_free,
                rows.cpu_free,
                rows.memory_free,
                rows.storage_free,
            ],
            total: [pods, rows.cpu_total, rows.memory_total, storage],
            ranks: snapshot.name_ranks(),
            masks: vec![0; rows.len()],
        };
        let n = lacking.masks.len();
        let [a, b, c, d] = lacking.free.map(|column| &column[..n]);
        // Who asks nothing always gets it.
        let [of_a, of_b, of_c, of_d] = lacking
            .asked
            .map(|asked| if asked > 0 { asked } else { i64::MIN });
        for (row, mask) in lacking.masks.iter_mut().enumerate() {
            *mask = u8::from(of_a > a[row])
                | u8::from(of_b > b[row]) << 1
                | u8::from(of_c > c[row]) << 2;
        }
        // Mostly nobody asks, and then the column stays out of the cache.
        if of_d > i64::MIN {
            for (row, mask) in lacking.masks.iter_mut().enumerate() {
                *mask |= u8::from(of_d > d[row]) << 3;
            }
        }
        for at in each(lacking.any()) {
            let (asked, total) = (lacking.asked[at], lacking.total[at]);
            if total
                .iter()
                .fold(false, |any, &total| any | (asked > total))
            {
                for (mask, &total) in lacking.masks.iter_mut().zip(total) {
                    *mask |= (*mask >> at & u8::from(asked > total)) << (at + THINGS);
                }
            }
        }
        for (mask, passed) in lacking.masks.iter_mut().zip(passed) {
            *mask *= u8::from(passed);
        }
        lacking
    }

    /// The rows, those to be looked at closely first: in order all of which the `account` does not know
    /// yet how to count them, and then those that it may have to name. The rest is counted in the end.
    pub(crate) fn account(
        mut self,
        account: &mut Account,
        mut look: impl FnMut(&mut Account, usize),
    ) {
        // By what they lack: whether they can be counted.
        let mut known = [false; 1 << THINGS];
        for (row, mask) in self.masks.iter_mut().enumerate() {
            let lacks = *mask & LACKS;
            if !known[usize::from(lacks)] {
                known[usize::from(lacks)] = lacks != 0 && account.places(lacks).is_some();
            }
            if !known[usize::from(lacks)] {
                look(account, row);
                *mask = 0;
            }
        }
        for row in self.remarkable() {
            look(account, row);
            self.masks[row] = 0;
        }
        let mut nodes = [0; 1 << (2 * THINGS)];
        self.masks
            .iter()
            .for_each(|&mask| nodes[usize::from(mask)] += 1);
        for (mask, &nodes) in nodes.iter().enumerate().skip(1) {
            if nodes > 0 {
                account.lacking(mask as u8, nodes);
            }
        }
    }

    /// Of those that miss least of something the [`NEAREST_MAX`] nearest, and for each combination of
    /// things the one with the least missing: none of the others is named.
    fn remarkable(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = each(self.any()).flat_map(|at| self.nearest(at)).collect();
        rows.extend(self.least());
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// What is lacking somewhere.
    fn any(&self) -> u8 {
        self.masks.iter().fold(0, |all, &mask| all | mask) & LACKS
    }

    /// The rows that miss least of one thing, equals by name.
    fn nearest(&self, at: usize) -> impl Iterator<Item = usize> {
        let (asked, free) = (self.asked[at], self.free[at]);
        let mut best = [(i64::MAX, u32::MAX, usize::MAX); NEAREST_MAX];
        for (row, (&mask, &free)) in self.masks.iter().zip(free).enumerate() {
            if mask >> at & 1 == 0 {
                continue;
            }
            let missing = asked.saturating_sub(free);
            let (worst, rank, _) = best[NEAREST_MAX - 1];
            if missing > worst || missing == worst && self.ranks[row] > rank {
                continue;
            }
            best[NEAREST_MAX - 1] = (missing, self.ranks[row], row);
            best.sort_unstable();
        }
        let rows = self.masks.len();
        best.into_iter()
            .map(|(_, _, row)| row)
            .filter(move |&row| row < rows)
    }

    /// For each combination of things lacking the row with the least missing, in thousandths of what it
    /// has, equals by name.
    fn least(&self) -> impl Iterator<Item = usize> {
        let mut best: [Option<Least>; 1 << THINGS] = [None; 1 << THINGS];
        for (row, &mask) in self.masks.iter().enumerate() {
            let lacks = mask & LACKS;
            if lacks == 0 {
                continue;
            }
            let rank = self.ranks[row];
            let best = &mut best[usize::from(lacks)];
            if let Some(least) = best {
                let at = lacks.trailing_zeros() as usize;
                // Most miss more, and need no division.
                if self.total[at][row] == least.total
                    && self.missing(row, at) >= least.limits[usize::from(rank < least.rank)]
                {
                    continue;
                }
            }
            let thousandths = self.thousandths(row, lacks);
            if best.is_none_or(|best| (thousandths, rank) < (best.thousandths, best.rank)) {
                *best = Some(self.least_of(row, lacks, thousandths));
            }
        }
        best.into_iter().flatten().map(|least| least.row)
    }

    fn least_of(&self, row: usize, lacks: u8, thousandths: i64) -> Least {
        let total = self.total[lacks.trailing_zeros() as usize][row];
        // Rounded up.
        let limit = |thousandths: i128| {
            let missing = (thousandths * i128::from(total.max(1)) + 999) / 1_000;
            i64::try_from(missing).unwrap_or(i64::MAX)
        };
        let as_many = i128::from(thousandths);
        Least {
            thousandths,
            rank: self.ranks[row],
            row,
            total,
            limits: match lacks.is_power_of_two() {
                true => [limit(as_many), limit(as_many + 1)],
                false => [i64::MAX; 2],
            },
        }
    }

    /// What is missing, in thousandths of what the node has.
    fn thousandths(&self, row: usize, lacks: u8) -> i64 {
        let share = |at: usize| {
            let (missing, total) = (self.missing(row, at), self.total[at][row].max(1));
            missing.checked_mul(1_000).map_or_else(
                || {
                    let share = i128::from(missing) * 1_000 / i128::from(total);
                    i64::try_from(share).unwrap_or(i64::MAX)
                },
                |thousandfold| thousandfold / total,
            )
        };
        each(lacks).map(share).fold(0, i64::saturating_add)
    }

    #[inline]
    fn missing(&self, row: usize, at: usize) -> i64 {
        self.asked[at].saturating_sub(self.free[at][row])
    }
}

/// The row with the least missing of those that lack the same.
#[derive(Clone, Copy)]
struct Least {
    thousandths: i64,
    rank: u32,
    row: usize,
    /// Of the first thing that it lacks.
    total: i64,
    /// From how much on, if that is the one thing that a node with that total lacks, it misses as many
    /// thousandths, and more.
    limits: [i64; 2],
}

fn each(mask: u8) -> impl Iterator<Item = usize> {
    (0..THINGS).filter(move |at| mask >> at & 1 == 1)
}

/// Where the rule stands under which nodes count that lack the same, and where the reasons by thing.
pub(super) type Places = (usize, [usize; THINGS]);

impl Account {
    /// Counts nodes that lack what `mask` says and are not named.
    fn lacking(&mut self, mask: u8, nodes: usize) {
        let (lacks, lasts) = (mask & LACKS, mask >> THINGS);
        let Some((rule, reasons)) = self.places(lacks) else {
            return;
        };
        let whole = &mut self.explanation;
        whole.nodes += nodes;
        if lasts == 0 {
            whole.outlook = Outlook::NotNow;
        }
        let rule = &mut whole.rules[rule];
        rule.nodes += nodes;
        rule.alone += nodes;
        rule.lasting += if lasts == 0 { 0 } else { nodes };
        for at in each(lacks) {
            whole.reasons[reasons[at]].nodes += nodes;
            whole.helped_by = whole.helped_by.with(Changes::NODE_GREW);
            if lasts >> at & 1 == 0 {
                whole.helped_by = whole.helped_by.with(Changes::POD_REMOVED);
            }
        }
    }

    /// Where the rule and the reasons stand under which such nodes count, if they all do.
    fn places(&mut self, lacks: u8) -> Option<Places> {
        if let Some(known) = self.places[usize::from(lacks)] {
            return Some(known);
        }
        let whole = &self.explanation;
        let rule = whole.rules.iter().position(|known| known.rule == RULE)?;
        let mut places = [0; THINGS];
        for at in each(lacks) {
            let is_it = |obstacle: &Obstacle| match obstacle {
                Obstacle::Lacks { resource, .. } => resource == NAMES[at],
                _ => false,
            };
            let mut reasons = whole.reasons.iter();
            places[at] = reasons.position(|reason| is_it(&reason.obstacle))?;
        }
        self.places[usize::from(lacks)] = Some((rule, places));
        Some((rule, places))
    }
}
