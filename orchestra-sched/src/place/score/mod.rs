//! Rules that rank nodes. One a file, named as users know it.

mod allocated;
mod balanced;
mod node_affinity;
mod taints;

pub use allocated::{LeastAllocated, MostAllocated, Weights};
pub use balanced::BalancedAllocation;
pub use node_affinity::NodeAffinity;
pub use taints::TaintToleration;
