//! Packing by vectors of CPU and devices.

use orchestra_core::kind::accelerator::DeviceSet;

use super::Packing;
use crate::place::plugin::{Cycle, SCORE_MAX, Score};
use crate::snapshot::NodeFacts;

/// The most that any node has: what amounts are measured by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Largest {
    /// Thousandths of a core, at least 1.
    pub cpu_milli: i64,
    /// Thousandths of devices, at least 1.
    pub device_milli: i64,
}

impl Largest {
    /// Among those nodes.
    pub fn among<'a>(nodes: impl IntoIterator<Item = &'a NodeFacts>) -> Self {
        let least = Self {
            cpu_milli: 1,
            device_milli: 1,
        };
        nodes.into_iter().fold(least, |most, node| Self {
            cpu_milli: most.cpu_milli.max(node.allocatable.cpu_milli),
            device_milli: most.device_milli.max(node.devices as i64 * 1_000),
        })
    }
}

/// Prefers nodes of which least would be left: 100 times 1 less the mean of the CPU and the devices
/// left over, each as a share of `largest`.
pub fn best_fit(largest: Largest) -> Packing {
    by_vectors("BestFit", largest, |asked, free, most| {
        let left = (free.0 - asked.0, free.1 - asked.1);
        let part = 50 * (left.0 * most.1 + left.1 * most.0);
        short_of_hundred(part, most.0 * most.1)
    })
}

/// Prefers nodes whose free CPU and devices have the least product with what is asked: 100 times 1
/// less half the dot product, each amount as a share of `largest`.
pub fn dot_product(largest: Largest) -> Packing {
    by_vectors("DotProduct", largest, |asked, free, most| {
        let (cpu, devices) = (most.0 * most.0, most.1 * most.1);
        let part = 50 * (free.0 * asked.0 * devices + free.1 * asked.1 * cpu);
        short_of_hundred(part, cpu * devices)
    })
}

/// Thousandths of a core, and of devices.
type Vector = (i128, i128);

/// By what is asked, what is free and what the largest node has.
fn by_vectors(
    name: &'static str,
    largest: Largest,
    score: fn(Vector, Vector, Vector) -> Score,
) -> Packing {
    let most = (largest.cpu_milli.into(), largest.device_milli.into());
    Packing::new(name, move |cycle, rows, i| {
        let asked = (cycle.pod.demand.requests.cpu_milli, asked_milli(cycle));
        let free = (rows.cpu_free[i], rows.devices[i].free_milli());
        let wide = |(cpu, devices): (i64, i64)| (cpu.into(), devices.into());
        (score(wide(asked), wide(free), most), DeviceSet::NONE)
    })
}

/// Thousandths of devices that a pod asks for in all.
fn asked_milli(cycle: &Cycle<'_>) -> i64 {
    let ask = cycle.pod.demand.accelerators.as_ref();
    ask.map_or(0, |ask| i64::from(ask.count) * i64::from(ask.milli))
}

/// 100 - `part` / `whole`, rounded down and held between 0 and 100.
fn short_of_hundred(part: i128, whole: i128) -> Score {
    let score = (i128::from(SCORE_MAX) * whole - part).div_euclid(whole);
    score.clamp(0, i128::from(SCORE_MAX)) as Score
}
