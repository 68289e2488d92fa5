//! What a pod requires its node to be.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes that lack a label of the pod's node selector, or meet no term of its required
/// node affinity.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn depends(&self) -> PodFields {
        PodFields::NODE_AFFINITY
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let demand = &cycle.pod.demand;
        let asks = !demand.node_selector.is_empty() || demand.node_affinity.is_some();
        if asks { Reach::Fixed } else { Reach::Nothing }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        super::by_facts(cycle, rows, fits, |facts| {
            fits::node_affinity(facts, &cycle.pod.demand)
        });
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let facts = cycle.snapshot().node(node).facts();
        fits::node_affinity(facts, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
