//! Nodes closed to new pods.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes that are closed to new pods, unless the pod tolerates that.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn depends(&self) -> PodFields {
        PodFields::TOLERATIONS
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if cycle.snapshot().hard_tainted() > 0 {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        super::by_facts(cycle, rows, fits, |facts| {
            fits::unschedulable(facts, &cycle.pod.demand)
        });
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let facts = cycle.snapshot().node(node).facts();
        fits::unschedulable(facts, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
