//! CPU and memory filled evenly.

use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::Rows;

/// One, in the fixed-point numbers of this file.
const WHOLE: u64 = 1 << 40;

/// Prefers nodes whose CPU and memory would be in use to like fractions: 100 less the standard
/// deviation of the two fractions in percent, rounded down.
#[derive(Clone, Copy, Debug, Default)]
pub struct BalancedAllocation;

impl Scorer for BalancedAllocation {
    fn name(&self) -> &'static str {
        "BalancedAllocation"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, _: &[bool], out: &mut [Score]) {
        let asked = &cycle.pod.demand.requests;
        let fraction = |total: i64, free: i64, asked: i64, inverse: u64| {
            used_fraction(
                total.saturating_sub(free).saturating_add(asked),
                total,
                inverse,
            )
        };
        for (i, score) in out.iter_mut().enumerate() {
            let (cpu, memory) = (rows.cpu_total[i], rows.memory_total[i]);
            *score = if cpu > 0 && memory > 0 {
                let cpu = fraction(cpu, rows.cpu_free[i], asked.cpu_milli, rows.cpu_inverse[i]);
                let memory = fraction(
                    memory,
                    rows.memory_free[i],
                    asked.memory,
                    rows.memory_inverse[i],
                );
                SCORE_MAX - deviation(cpu, memory)
            } else {
                SCORE_MAX
            };
        }
    }
}

/// The standard deviation of two fractions, half their distance, in percent and rounded up.
fn deviation(one: u64, other: u64) -> Score {
    // Fractions are rounded down by less than 2^-24; what is that close to a whole percent is one.
    let slack = WHOLE >> 20;
    (one.abs_diff(other) * 50)
        .saturating_sub(slack)
        .div_ceil(WHOLE) as Score
}

/// How much of `total` is in use, at most all of it.
fn used_fraction(used: i64, total: i64, inverse: u64) -> u64 {
    if used <= 0 {
        0
    } else if used >= total {
        WHOLE
    } else {
        ((u128::from(used as u64) * u128::from(inverse)) >> 24) as u64
    }
}
