//! Data that need not be fetched.

use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Rows, size_of};

/// Prefers nodes with more bytes of the data that the pod
/// [wants](orchestra_core::kind::locality::WANTS_ANNOTATION), in proportion to the most that a
/// node has.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataLocality;

impl Scorer for DataLocality {
    fn name(&self) -> &'static str {
        "DataLocality"
    }

    fn depends(&self) -> PodFields {
        PodFields::DATA
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let reads = cycle.pod.demand.reads.as_deref();
        if reads.is_some_and(|reads| !reads.wants.is_empty()) {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn scale(&self) -> Scale {
        Scale::ByMax
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let Some(reads) = cycle.pod.demand.reads.as_deref() else {
            return;
        };
        let candidates = out.iter_mut().zip(fits).zip(rows.nodes());
        for ((score, _), node) in candidates.filter(|((_, fits), _)| **fits) {
            let held = &cycle.snapshot().node(node).facts().data;
            let sizes = reads.wants.iter().filter_map(|name| size_of(held, name));
            let bytes = sizes.fold(0, i64::saturating_add);
            // In MiB, begun ones counting: what is there at all is better than nothing.
            *score = Score::try_from(bytes.max(0) as u64 / (1 << 20) + u64::from(bytes > 0))
                .unwrap_or(Score::MAX);
        }
    }
}
