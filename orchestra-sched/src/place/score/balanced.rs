//! CPU and memory filled evenly.

use crate::place::kernel::{Asked, Kernel, Rule};
use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::Rows;

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
        let asked = Asked::of(&cycle.pod.demand);
        for (i, score) in out.iter_mut().enumerate() {
            *score = Rule::Balanced.score(&asked, &rows, i) as Score;
        }
    }

    fn kernel(&self) -> Option<Kernel> {
        Some(Kernel(Rule::Balanced))
    }
}
