//! Packing by vectors of CPU and devices.

use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{NodeFacts, Rows};

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

macro_rules! scorer {
    ($name:ident, $doc:literal, $of:expr) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            /// What amounts are measured by.
            pub largest: Largest,
        }

        impl Scorer for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn depends(&self) -> PodFields {
                PodFields::REQUESTS.with(PodFields::ACCELERATORS)
            }

            fn reach(&self, _: &Cycle<'_>) -> Reach {
                Reach::Node
            }

            fn scale(&self) -> Scale {
                Scale::AsIs
            }

            fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
                let asked = (cycle.pod.demand.requests.cpu_milli, asked_milli(cycle));
                let most = (
                    i128::from(self.largest.cpu_milli),
                    i128::from(self.largest.device_milli),
                );
                for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
                    let free = (rows.cpu_free[i], rows.devices[i].free_milli());
                    *score = $of(asked, free, most);
                }
            }
        }
    };
}

scorer!(
    BestFit,
    "Prefers nodes of which least would be left: 100 times 1 less the mean of the CPU and the devices \
     left over, each as a share of the largest node's.",
    |asked: (i64, i64), free: (i64, i64), most: (i128, i128)| {
        let left = (i128::from(free.0 - asked.0), i128::from(free.1 - asked.1));
        let part = 50 * (left.0 * most.1 + left.1 * most.0);
        short_of_hundred(part, most.0 * most.1)
    }
);

scorer!(
    DotProduct,
    "Prefers nodes whose free CPU and devices have the least product with what is asked: 100 times 1 \
     less half the dot product, each amount as a share of the largest node's.",
    |asked: (i64, i64), free: (i64, i64), most: (i128, i128)| {
        let product = |free: i64, asked: i64| i128::from(free) * i128::from(asked);
        let (cpu, devices) = (most.0 * most.0, most.1 * most.1);
        let part = 50 * (product(free.0, asked.0) * devices + product(free.1, asked.1) * cpu);
        short_of_hundred(part, cpu * devices)
    }
);
