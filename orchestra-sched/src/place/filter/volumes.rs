//! Storage that can be used from some nodes only.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes from which the storage of a claim that the pod mounts cannot be used, as far as
/// [that is known](crate::snapshot::SnapshotBuilder::set_volume).
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeBinding;

impl Filter for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn depends(&self) -> PodFields {
        PodFields::DATA
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let reads = cycle.pod.demand.reads.as_deref();
        let claims = reads.is_some_and(|reads| !reads.claims.is_empty());
        if claims && cycle.snapshot().knows_volumes() {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        let snapshot = cycle.snapshot();
        super::by_facts(cycle, rows, fits, |facts| {
            fits::volumes(snapshot, facts, &cycle.pod.demand)
        });
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let facts = cycle.snapshot().node(node).facts();
        fits::volumes(cycle.snapshot(), facts, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
