//! Taints that pods had better avoid.

use orchestra_core::kind::TaintEffect;

use crate::fits::tolerated;
use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::Rows;

/// Prefers nodes with fewer taints `PreferNoSchedule` that the pod does not tolerate.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintToleration;

impl Scorer for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn depends(&self) -> PodFields {
        PodFields::TOLERATIONS
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if cycle.snapshot().softly_tainted() > 0 {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn scale(&self) -> Scale {
        Scale::ByMaxReversed
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let candidates = out.iter_mut().zip(fits).zip(rows.nodes());
        for ((score, _), node) in candidates.filter(|((_, fits), _)| **fits) {
            let taints = &cycle.snapshot().node(node).facts().taints;
            let avoided = taints.iter().filter(|taint| {
                taint.effect == TaintEffect::PreferNoSchedule
                    && !tolerated(taint, &cycle.pod.demand)
            });
            *score = avoided.count() as Score;
        }
    }
}
