//! Spread or pack, by how much of a node would be in use.

use crate::place::kernel::{Asked, Kernel, Rule};
use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::Rows;

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

macro_rules! scorer {
    ($name:ident, $doc:literal, $rule:path) => {
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
                let (rule, asked) = ($rule(self.weights), Asked::of(&cycle.pod.demand));
                for (i, score) in out.iter_mut().enumerate() {
                    *score = rule.score(&asked, &rows, i) as Score;
                }
            }

            fn kernel(&self) -> Option<Kernel> {
                Some(Kernel($rule(self.weights)))
            }
        }
    };
}

scorer!(
    LeastAllocated,
    "Prefers nodes of which most stays free: the mean percentage free of CPU and memory with the \
     pod on them.",
    Rule::Least
);

scorer!(
    MostAllocated,
    "Prefers nodes of which most is in use: the mean percentage used of CPU and memory with the \
     pod on them.",
    Rule::Most
);
