//! Rules that rank nodes. One a file, named as users know it.

mod actual_use;
mod allocated;
mod balanced;
mod data_locality;
mod expected_use;
mod image_locality;
mod node_affinity;
pub(super) mod pod_affinity;
mod ratio;
mod taints;
pub(super) mod topology_spread;

pub use actual_use::ActualUse;
pub use allocated::{LeastAllocated, MostAllocated, Weights};
pub use balanced::BalancedAllocation;
pub use data_locality::DataLocality;
pub use expected_use::ExpectedUse;
pub use image_locality::ImageLocality;
pub use node_affinity::NodeAffinity;
pub use pod_affinity::InterPodAffinity;
pub use ratio::{Point, RequestedToCapacityRatio, Shape, ShapeError};
pub use taints::TaintToleration;
pub use topology_spread::PodTopologySpread;
