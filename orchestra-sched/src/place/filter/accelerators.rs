//! Accelerators: of a model that will do, and free enough.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes whose accelerators are of a model that the pod cannot use, and those with too
/// few that have enough free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accelerators;

impl Filter for Accelerators {
    fn name(&self) -> &'static str {
        "Accelerators"
    }

    fn depends(&self) -> PodFields {
        PodFields::ACCELERATORS
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        match cycle.pod.demand.accelerators {
            None => Reach::Nothing,
            Some(_) => Reach::Node,
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
            *fits = *fits && fits::accelerators(cycle.ledger, node, &cycle.pod.demand).is_none();
        }
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        fits::accelerators(cycle.ledger, node, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
