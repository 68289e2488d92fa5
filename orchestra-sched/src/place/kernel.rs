//! The arithmetic on columns that the shipped rules are made of, so that one loop asks them all.

use super::score::Weights;
use crate::snapshot::{AMOUNT_MAX, Demand, Rows};

/// One, in the fixed-point fractions of balanced allocation.
const WHOLE: u64 = 1 << 40;

/// A shipped rule as arithmetic on the columns of one row.
///
/// A plugin that is one of them says so, and the framework asks it together with the others in one
/// loop instead of by itself. That changes how long an answer takes, never the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel(pub(super) Rule);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Enough of all that has a column.
    Fit,
    Least(Weights),
    Most(Weights),
    Balanced,
}

/// The kernels of one profile for one pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Fused {
    fit: bool,
    scores: Vec<(Rule, u64)>,
    /// The weights, if they are the rules that nearly everybody uses.
    usual: Option<Usual>,
    asked: Asked,
}

/// The weights of even [`Rule::Least`] and of [`Rule::Balanced`], with [`Rule::Fit`].
#[derive(Clone, Copy, Debug)]
struct Usual {
    least: u64,
    balanced: u64,
}

impl Usual {
    #[inline(always)]
    fn score(self, asked: &Asked, rows: &Rows<'_>, i: usize) -> Option<u64> {
        if !fits(asked, rows, i) {
            return None;
        }
        // As the rules say; where a node has both, as mostly, without asking that twice.
        let (least, balanced) = if has_both(rows, i) {
            let (cpu, memory) = shares(asked, rows, i, free);
            ((cpu + memory) / 2, evenness_of_both(asked, rows, i))
        } else {
            let even = Weights { cpu: 1, memory: 1 };
            (even.mean(asked, rows, i, free), evenness(asked, rows, i))
        };
        Some(self.least * least + self.balanced * balanced)
    }
}

/// What a pod asks, of what has a column.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) storage: i64,
    pub(super) cpu_scored: i64,
    pub(super) memory_scored: i64,
}

/// The weights of rules of which bounds can be had cheaply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rough {
    pub(super) least: f32,
    pub(super) most: f32,
    pub(super) balanced: f32,
}

impl Asked {
    pub(super) fn of(demand: &Demand) -> Self {
        Self {
            cpu: hold(demand.requests.cpu_milli),
            memory: hold(demand.requests.memory),
            storage: hold(demand.requests.storage),
            cpu_scored: hold(demand.scored.cpu_milli),
            memory_scored: hold(demand.scored.memory),
        }
    }
}

impl Fused {
    /// No rule yet.
    pub(super) fn new(demand: &Demand) -> Self {
        Self {
            asked: Asked::of(demand),
            ..Self::default()
        }
    }

    /// Adds a rule; `weight` counts for those that score.
    pub(super) fn add(&mut self, kernel: Kernel, weight: u32) {
        match kernel.0 {
            Rule::Fit => self.fit = true,
            rule => self.scores.push((rule, u64::from(weight))),
        }
        self.usual = match (self.fit, &self.scores[..]) {
            (
                true,
                [
                    (Rule::Least(Weights { cpu: 1, memory: 1 }), least),
                    (Rule::Balanced, balanced),
                ],
            ) => Some(Usual {
                least: *least,
                balanced: *balanced,
            }),
            _ => None,
        };
    }

    /// What is asked.
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The rules' weights, if there are bounds for all of them.
    pub(super) fn rough(&self) -> Option<Rough> {
        let mut rough = Rough::default();
        for (rule, weight) in &self.scores {
            let even = Weights { cpu: 1, memory: 1 };
            let sum = match rule {
                Rule::Least(weights) if *weights == even => &mut rough.least,
                Rule::Most(weights) if *weights == even => &mut rough.most,
                Rule::Balanced => &mut rough.balanced,
                _ => return None,
            };
            *sum += *weight as f32;
        }
        self.fit.then_some(rough)
    }

    /// Clears the rows where something is lacking.
    pub(super) fn filter(&self, rows: Rows<'_>, fits: &mut [bool]) {
        if self.fit {
            fit(&self.asked, rows, fits);
        }
    }

    /// The weighted score of row `i`; `None` if something is lacking there.
    #[inline]
    pub(super) fn score(&self, rows: &Rows<'_>, i: usize) -> Option<u64> {
        if let Some(usual) = self.usual {
            return usual.score(&self.asked, rows, i);
        }
        if self.fit && !fits(&self.asked, rows, i) {
            return None;
        }
        let mut sum = 0;
        for &(rule, weight) in &self.scores {
            sum += weight * rule.score(&self.asked, rows, i);
        }
        Some(sum)
    }

    /// Calls `each` with every row that fits, and its weighted score.
    #[inline]
    pub(super) fn scan(&self, rows: &Rows<'_>, mut each: impl FnMut(usize, u64)) {
        let rows = rows.even();
        if let Some(usual) = self.usual {
            let asked = self.asked;
            let mut last = None;
            for i in 0..rows.len() {
                // Nodes of one kind stand side by side, and are alike until pods come. To see it takes a
                // fifth of the time that the score takes.
                if i == 0 || !asked.finds_alike(&rows, i - 1, i) {
                    last = usual.score(&asked, &rows, i);
                }
                if let Some(sum) = last {
                    each(i, sum);
                }
            }
            return;
        }
        for i in 0..rows.len() {
            if let Some(sum) = self.score(&rows, i) {
                each(i, sum);
            }
        }
    }
}

impl Rule {
    #[inline]
    pub(super) fn score(self, asked: &Asked, rows: &Rows<'_>, i: usize) -> u64 {
        match self {
            Self::Fit => 0,
            Self::Least(weights) => weights.mean(asked, rows, i, free),
            Self::Most(weights) => weights.mean(asked, rows, i, used),
            Self::Balanced => evenness(asked, rows, i),
        }
    }
}

fn hold(amount: i64) -> i64 {
    amount.clamp(0, AMOUNT_MAX)
}

/// Clears the rows where something that has a column is lacking.
pub(super) fn fit(asked: &Asked, rows: Rows<'_>, fits_row: &mut [bool]) {
    let rows = rows.even();
    for (i, fits_row) in fits_row.iter_mut().enumerate().take(rows.len()) {
        *fits_row &= fits(asked, &rows, i);
    }
}

/// Whether there is enough of all that has a column; who asks nothing always gets it.
#[inline(always)]
fn fits(asked: &Asked, rows: &Rows<'_>, i: usize) -> bool {
    let needed = |asked: i64| if asked == 0 { i64::MIN } else { asked };
    (rows.pods_free[i] >= 1)
        & (needed(asked.cpu) <= rows.cpu_free[i])
        & (needed(asked.memory) <= rows.memory_free[i])
        // Mostly nobody asks, and then the column stays out of the cache.
        && (asked.storage == 0 || asked.storage <= rows.storage_free[i])
}

impl Asked {
    /// Whether the rules say the same of two rows, as what they look at is the same.
    #[inline(always)]
    fn finds_alike(&self, rows: &Rows<'_>, i: usize, j: usize) -> bool {
        let differ = |column: &[i64]| column[i] ^ column[j];
        let differ = differ(rows.cpu_free)
            | differ(rows.cpu_scored)
            | differ(rows.cpu_total)
            | differ(rows.memory_free)
            | differ(rows.memory_scored)
            | differ(rows.memory_total)
            | differ(rows.pods_free);
        differ == 0 && (self.storage == 0 || rows.storage_free[i] == rows.storage_free[j])
    }

    /// As [`Rule::Fit`] says where so much is free.
    #[inline]
    pub(super) fn fit_in(&self, cpu: i64, memory: i64, storage: i64, pods: i64) -> bool {
        let enough = |asked: i64, free: i64| asked == 0 || asked <= free;
        pods >= 1
            && enough(self.cpu, cpu)
            && enough(self.memory, memory)
            && enough(self.storage, storage)
    }
}

/// In percent, rounded down, exactly, without a division or a branch: `part` is held between 0 and
/// `total`, and `total` is at most 2^53, so that nothing overflows. See [`percent`], which this is
/// where both hold already.
#[inline(always)]
fn share(part: i64, total: i64, inverse: u64) -> u64 {
    let part = part.min(total).max(0) as u64;
    let hundredfold = part.wrapping_mul(100);
    let short = ((u128::from(hundredfold) * u128::from(inverse)) >> 64) as u64;
    let rest = hundredfold.wrapping_sub(short.wrapping_mul(total as u64));
    short + u64::from(rest >= total as u64)
}

#[inline(always)]
fn free(used: i64, total: i64, inverse: u64) -> u64 {
    share(total.wrapping_sub(used), total, inverse)
}

#[inline(always)]
fn used(used: i64, total: i64, inverse: u64) -> u64 {
    if used > total {
        0
    } else {
        share(used, total, inverse)
    }
}

/// Whether a node has CPU and memory.
#[inline(always)]
fn has_both(rows: &Rows<'_>, i: usize) -> bool {
    (rows.cpu_total[i] > 0) & (rows.memory_total[i] > 0)
}

/// `of(what would be in use, what there is, its inverse)` for CPU and for memory.
#[inline(always)]
fn shares(
    asked: &Asked,
    rows: &Rows<'_>,
    i: usize,
    of: impl Fn(i64, i64, u64) -> u64,
) -> (u64, u64) {
    let cpu_used = rows.cpu_scored[i].wrapping_add(asked.cpu_scored);
    let memory_used = rows.memory_scored[i].wrapping_add(asked.memory_scored);
    (
        of(cpu_used, rows.cpu_total[i], rows.cpu_inverse[i]),
        of(memory_used, rows.memory_total[i], rows.memory_inverse[i]),
    )
}

impl Weights {
    /// The weighted mean of the [`shares`] over the resources that the node has, rounded down; one that
    /// would be in use beyond what there is counts as 0.
    #[inline(always)]
    fn mean(
        self,
        asked: &Asked,
        rows: &Rows<'_>,
        i: usize,
        of: impl Fn(i64, i64, u64) -> u64,
    ) -> u64 {
        let (cpu, memory) = (rows.cpu_total[i], rows.memory_total[i]);
        let (cpu_share, memory_share) = shares(asked, rows, i, of);
        if (cpu > 0) & (memory > 0) & (self.cpu == 1) & (self.memory == 1) {
            return (cpu_share + memory_share) / 2; // the usual case, without a division
        }
        let cpu_weight = if cpu > 0 { u64::from(self.cpu) } else { 0 };
        let memory_weight = if memory > 0 {
            u64::from(self.memory)
        } else {
            0
        };
        let sum = cpu_weight * cpu_share + memory_weight * memory_share;
        sum.checked_div(cpu_weight + memory_weight).unwrap_or(0)
    }
}

/// 100 less the standard deviation of the fractions of CPU and memory in use, in percent, rounded
/// down.
#[inline(always)]
fn evenness(asked: &Asked, rows: &Rows<'_>, i: usize) -> u64 {
    if has_both(rows, i) {
        evenness_of_both(asked, rows, i)
    } else {
        100
    }
}

/// The same where the node has both.
#[inline(always)]
fn evenness_of_both(asked: &Asked, rows: &Rows<'_>, i: usize) -> u64 {
    let (cpu, memory) = (rows.cpu_total[i], rows.memory_total[i]);
    let fraction = |total: i64, free: i64, asked: i64, inverse: u64| {
        used_fraction(total.wrapping_sub(free).wrapping_add(asked), total, inverse)
    };
    let cpu = fraction(cpu, rows.cpu_free[i], asked.cpu, rows.cpu_inverse[i]);
    let memory = fraction(
        memory,
        rows.memory_free[i],
        asked.memory,
        rows.memory_inverse[i],
    );
    100 - deviation(cpu, memory)
}

/// The standard deviation of two fractions, half their distance, in percent and rounded up.
#[inline(always)]
fn deviation(one: u64, other: u64) -> u64 {
    // Fractions are rounded down by less than 2^-24; what is that close to a whole percent is one.
    let slack = WHOLE >> 20;
    (one.abs_diff(other) * 50)
        .saturating_sub(slack)
        .div_ceil(WHOLE)
}

/// How much of `total`, which is above 0, is in use, at most all of it.
#[inline(always)]
fn used_fraction(used: i64, total: i64, inverse: u64) -> u64 {
    let part = ((u128::from(used.max(0) as u64) * u128::from(inverse)) >> 24) as u64;
    if used >= total { WHOLE } else { part }
}
