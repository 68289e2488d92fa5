//! Spread or pack, by how much of a node would be in use.

use smol_str::SmolStr;

use crate::place::kernel::{Asked, Kernel, Rule};
use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Rows, inverse, percent};

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

/// Calls `of(weight, what would be in use, what there is)` for each resource that counts and of
/// which the node of row `i` has some. Extended resources count for pods that request them.
pub(super) fn each_resource(
    weights: Weights,
    extended: &[(SmolStr, u32)],
    (cycle, rows, i): (&Cycle<'_>, &Rows<'_>, usize),
    mut of: impl FnMut(u64, i64, i64),
) {
    let scored = cycle.pod.demand.scored;
    if rows.cpu_total[i] > 0 {
        let used = rows.cpu_scored[i].saturating_add(scored.cpu_milli);
        of(weights.cpu.into(), used, rows.cpu_total[i]);
    }
    if rows.memory_total[i] > 0 {
        let used = rows.memory_scored[i].saturating_add(scored.memory);
        of(weights.memory.into(), used, rows.memory_total[i]);
    }
    let node = rows.node(i);
    for (name, weight) in extended {
        let asked = cycle.pod.demand.requests.extended.get(name);
        let facts = cycle.snapshot().node(node).facts();
        let total = facts.allocatable.extended.get(name).copied().unwrap_or(0);
        if let Some(&asked) = asked.filter(|&&asked| asked > 0)
            && total > 0
        {
            let used = total.saturating_sub(cycle.ledger.extended_free(node, name));
            of(u64::from(*weight), used.saturating_add(asked), total);
        }
    }
}

macro_rules! scorer {
    ($name:ident, $doc:literal, $rule:path, $part:expr) => {
        #[doc = $doc]
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            /// How much CPU and memory count.
            pub weights: Weights,
            /// How much extended resources count, by name, for pods that request them.
            pub extended: Vec<(SmolStr, u32)>,
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
                if !self.extended.is_empty() {
                    for (i, score) in out.iter_mut().enumerate() {
                        let (mut sum, mut all) = (0, 0);
                        let at = (cycle, &rows, i);
                        each_resource(self.weights, &self.extended, at, |weight, used, total| {
                            let part: i64 = $part(used, total);
                            sum += weight * u64::from(percent(part, total, inverse(total)));
                            all += weight;
                        });
                        *score = u64::checked_div(sum, all).unwrap_or(0) as Score;
                    }
                    return;
                }
                let (rule, asked) = ($rule(self.weights), Asked::of(&cycle.pod.demand));
                for (i, score) in out.iter_mut().enumerate() {
                    *score = rule.score(&asked, &rows, i) as Score;
                }
            }

            fn kernel(&self) -> Option<Kernel> {
                (self.extended.is_empty()).then_some(Kernel($rule(self.weights)))
            }
        }
    };
}

scorer!(
    LeastAllocated,
    "Prefers nodes of which most stays free: the mean percentage free of CPU and memory with the \
     pod on them.",
    Rule::Least,
    |used: i64, total: i64| total.saturating_sub(used)
);

scorer!(
    MostAllocated,
    "Prefers nodes of which most is in use: the mean percentage used of CPU and memory with the \
     pod on them.",
    Rule::Most,
    |used: i64, total: i64| if used > total { 0 } else { used }
);
