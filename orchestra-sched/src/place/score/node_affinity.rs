//! What a pod would rather have its node be.

use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::Rows;

/// Prefers nodes that meet the pod's preferred node affinity: the sum of the weights of the terms
/// a node meets, in proportion to the largest sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAffinity;

impl Scorer for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn depends(&self) -> PodFields {
        PodFields::NODE_AFFINITY
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if cycle.pod.demand.preferred_nodes.is_empty() {
            Reach::Nothing
        } else {
            Reach::Fixed
        }
    }

    fn scale(&self) -> Scale {
        Scale::ByMax
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let preferred = &cycle.pod.demand.preferred_nodes;
        let candidates = out.iter_mut().zip(fits).zip(rows.nodes());
        for ((score, _), node) in candidates.filter(|((_, fits), _)| **fits) {
            let facts = cycle.snapshot().node(node).facts();
            *score = preferred
                .iter()
                .filter(|term| term.preference.matches(&facts.name, &facts.labels))
                .fold(0, |sum: Score, term| {
                    sum.saturating_add(Score::try_from(term.weight).unwrap_or(0))
                });
        }
    }
}
