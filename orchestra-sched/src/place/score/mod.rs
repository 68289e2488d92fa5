//! Rules that rank nodes. One a file, named as users know it.

mod allocated;
mod balanced;
mod node_affinity;
mod pod_affinity;
mod taints;
mod topology_spread;

pub use allocated::{LeastAllocated, MostAllocated, Weights};
pub use balanced::BalancedAllocation;
pub use node_affinity::NodeAffinity;
pub use pod_affinity::InterPodAffinity;
pub use taints::TaintToleration;
pub use topology_spread::PodTopologySpread;
