//! The one node a pod names.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down every node but the one that the pod names, if it names one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn depends(&self) -> PodFields {
        PodFields::NODE_NAME
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if cycle.pod.demand.node_name.is_some() {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        super::by_facts(cycle, rows, fits, |facts| {
            fits::node_name(facts, &cycle.pod.demand)
        });
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let facts = cycle.snapshot().node(node).facts();
        fits::node_name(facts, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
