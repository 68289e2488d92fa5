//! Ports of the node itself.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes where a host port that the pod takes is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn depends(&self) -> PodFields {
        PodFields::HOST_PORTS
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if cycle.pod.demand.host_ports.is_empty() {
            Reach::Nothing
        } else {
            Reach::Node
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
            *fits = *fits && fits::ports(cycle.ledger, node, &cycle.pod.demand).is_none();
        }
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        fits::ports(cycle.ledger, node, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}
