//! Rules that turn nodes down. One a file, named as users know it.

mod accelerators;
mod data_locality;
mod node_affinity;
mod node_name;
mod pod_affinity;
mod ports;
mod resources;
mod taints;
mod topology_spread;
mod unschedulable;
mod volumes;

pub use accelerators::Accelerators;
pub use data_locality::DataLocality;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use pod_affinity::InterPodAffinity;
pub use ports::NodePorts;
pub use resources::NodeResourcesFit;
pub use taints::TaintToleration;
pub use topology_spread::PodTopologySpread;
pub use unschedulable::NodeUnschedulable;
pub use volumes::VolumeBinding;

use super::plugin::Cycle;
use crate::fits::Obstacle;
use crate::snapshot::{NodeFacts, Rows};

/// Clears the rows whose node's own facts are in the way.
fn by_facts(
    cycle: &Cycle<'_>,
    rows: Rows<'_>,
    fits: &mut [bool],
    rule: impl Fn(&NodeFacts) -> Option<Obstacle>,
) {
    for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
        *fits = *fits && rule(cycle.snapshot().node(node).facts()).is_none();
    }
}
