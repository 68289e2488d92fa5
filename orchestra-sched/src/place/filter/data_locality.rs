//! Data that a pod cannot do without.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes that lack data which the pod
/// [needs](orchestra_core::kind::locality::NEEDS_ANNOTATION).
#[derive(Clone, Copy, Debug, Default)]
pub struct DataLocality;

impl Filter for DataLocality {
    fn name(&self) -> &'static str {
        "DataLocality"
    }

    fn depends(&self) -> PodFields {
        PodFields::DATA
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let reads = cycle.pod.demand.reads.as_deref();
        if reads.is_some_and(|reads| !reads.needs.is_empty()) {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        super::by_facts(cycle, rows, fits, |facts| {
            fits::data(facts, &cycle.pod.demand)
        });
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let facts = cycle.snapshot().node(node).facts();
        fits::data(facts, &cycle.pod.demand).into_iter().collect()
    }
}
