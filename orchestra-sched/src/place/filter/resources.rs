//! Enough of everything.

use crate::fits::{self, Obstacle};
use crate::place::kernel::{self, Asked, Kernel, Rule};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes with too little free CPU, memory, ephemeral storage or extended resources, and
/// those that run as many pods as they may.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        let asked = &cycle.pod.demand.requests;
        kernel::fit(&Asked::of(&cycle.pod.demand), rows, fits);
        for (name, &amount) in &asked.extended {
            for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
                *fits = *fits && !fits::lacks(amount, cycle.ledger.extended_free(node, name));
            }
        }
    }

    fn kernel(&self, cycle: &Cycle<'_>) -> Option<Kernel> {
        let in_columns = cycle.pod.demand.requests.extended.is_empty();
        in_columns.then_some(Kernel(Rule::Fit))
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        fits::resources(cycle.ledger, node, &cycle.pod.demand)
    }
}
