//! Spread or pack, by how much of a node would be in use.

use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Rows, percent};

/// How much each resource counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Weights {
    /// For CPU.
    pub cpu: u32,
    /// For memory.
    pub memory: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { cpu: 1, memory: 1 }
    }
}

impl Weights {
    /// The weighted mean of `of(what would be in use, what there is, its inverse)` over the
    /// resources that the node has, rounded down; one that would be in use beyond what there is
    /// counts as 0.
    fn mean(
        self,
        cycle: &Cycle<'_>,
        rows: &Rows<'_>,
        out: &mut [Score],
        of: impl Fn(i64, i64, u64) -> Score,
    ) {
        let asked = cycle.pod.demand.scored;
        let share = |used: i64, total: i64, inverse: u64| {
            if used > total {
                0
            } else {
                u64::from(of(used, total, inverse))
            }
        };
        for (i, score) in out.iter_mut().enumerate() {
            let (cpu, memory) = (rows.cpu_total[i], rows.memory_total[i]);
            let cpu_used = rows.cpu_scored[i].saturating_add(asked.cpu_milli);
            let memory_used = rows.memory_scored[i].saturating_add(asked.memory);
            let cpu_weight = if cpu > 0 { u64::from(self.cpu) } else { 0 };
            let memory_weight = if memory > 0 {
                u64::from(self.memory)
            } else {
                0
            };
            let sum = cpu_weight * share(cpu_used, cpu, rows.cpu_inverse[i])
                + memory_weight * share(memory_used, memory, rows.memory_inverse[i]);
            *score = match cpu_weight + memory_weight {
                0 => 0,
                2 => sum / 2, // the usual case, without a division
                weights => sum / weights,
            } as Score;
        }
    }
}

macro_rules! scorer {
    ($name:ident, $doc:literal, $of:expr) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name {
            /// How much each resource counts.
            pub weights: Weights,
        }

        impl Scorer for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
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
                self.weights.mean(cycle, &rows, out, $of);
            }
        }
    };
}

scorer!(
    LeastAllocated,
    "Prefers nodes of which most stays free: the mean percentage free of CPU and memory with the \
     pod on them.",
    |used, total, inverse| percent(total - used, total, inverse)
);

scorer!(
    MostAllocated,
    "Prefers nodes of which most is in use: the mean percentage used of CPU and memory with the \
     pod on them.",
    percent
);
