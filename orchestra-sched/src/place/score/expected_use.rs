//! What nodes are expected to use in the hours ahead.

use orchestra_core::kind::forecast::{Forecast, HOURS};
use orchestra_core::time::Timestamp;

use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Demand, Rows, percent};

/// Prefers nodes whose busiest hour ahead leaves most free with the pod on them, so that what peaks
/// together is kept apart: the mean percentage of CPU and memory that is free at the peak of each.
///
/// A pod counts in each hour of the day by its [`Forecast`], and by what it is taken to use where it
/// has none.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedUse {
    hours: usize,
}

impl ExpectedUse {
    /// Looks `hours` ahead, the current one included: held between 1 and 24.
    pub fn new(hours: usize) -> Self {
        Self {
            hours: hours.clamp(1, HOURS),
        }
    }
}

impl Default for ExpectedUse {
    /// A whole day.
    fn default() -> Self {
        Self::new(HOURS)
    }
}

/// Thousandths of a core and bytes, in each hour of the day.
#[derive(Clone, Copy, Debug, Default)]
struct Day {
    cpu: [i64; HOURS],
    memory: [i64; HOURS],
}

impl Day {
    /// The same all day.
    fn flat(cpu: i64, memory: i64) -> Self {
        Self {
            cpu: [cpu; HOURS],
            memory: [memory; HOURS],
        }
    }

    /// Adds how a forecast differs from what the pod is taken to use (`sign` 1), or takes it away.
    fn shift(&mut self, demand: &Demand, forecast: &Forecast, sign: i64) {
        let add = |sums: &mut [i64; HOURS], expected: &Option<[i64; HOURS]>, scored: i64| {
            for (sum, amount) in sums.iter_mut().zip(expected.iter().flatten()) {
                *sum = sum.saturating_add((amount - scored).saturating_mul(sign));
            }
        };
        let scored = demand.scored;
        add(&mut self.cpu, &forecast.cpu_milli, scored.cpu_milli);
        add(&mut self.memory, &forecast.memory, scored.memory);
    }
}

impl Scorer for ExpectedUse {
    fn name(&self) -> &'static str {
        "ExpectedUse"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS
            .with(PodFields::FORECAST)
            .with(PodFields::NOW)
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let asked = &cycle.pod.demand;
        let mut own = Day::flat(asked.scored.cpu_milli, asked.scored.memory);
        if let Some(forecast) = &asked.forecast {
            own.shift(asked, forecast, 1);
        }
        let first = hour_of(cycle.now);
        for (i, node) in rows.nodes().enumerate().filter(|(i, _)| fits[*i]) {
            let mut day = Day::flat(rows.cpu_scored[i], rows.memory_scored[i]);
            for (demand, sign) in cycle.ledger.forecasts(node) {
                if let Some(forecast) = &demand.forecast {
                    day.shift(demand, forecast, sign);
                }
            }
            let peak = |sums: &[i64; HOURS], own: &[i64; HOURS]| {
                let hours = (first..first + self.hours).map(|hour| hour % HOURS);
                let uses = hours.map(|hour| sums[hour].saturating_add(own[hour]));
                uses.max().unwrap_or(0)
            };
            let free = |total: i64, peak: i64, inverse: u64| {
                percent(total.saturating_sub(peak), total, inverse)
            };
            let cpu = free(
                rows.cpu_total[i],
                peak(&day.cpu, &own.cpu),
                rows.cpu_inverse[i],
            );
            let memory = free(
                rows.memory_total[i],
                peak(&day.memory, &own.memory),
                rows.memory_inverse[i],
            );
            out[i] = (cpu + memory) / 2;
        }
    }
}

/// The hour of the day, in UTC.
fn hour_of(now: Timestamp) -> usize {
    const HOUR_MICROS: i64 = 3_600_000_000;
    (now.as_micros().div_euclid(HOUR_MICROS)).rem_euclid(HOURS as i64) as usize
}
