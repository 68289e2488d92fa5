//! Rules that pack accelerators tightly: the published ones, and one of our own.
//!
//! Each is a [`Scorer`](super::plugin::Scorer), so that it can stand in any
//! [`Profile`](super::Profile); those that care which device of a node a pod gets are a
//! [`DeviceChoice`](super::plugin::DeviceChoice) too. How well they do is measured by playing
//! [traces](crate::trace).
//!
//! | rule | what it prefers | source |
//! |---|---|---|
//! | [`BestFit`] | nodes of which least would be left | classic |
//! | [`DotProduct`] | nodes whose free vector is least aligned with the request, as published | Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM 2014 |
//! | [`GpuPacking`] | devices in use, then nodes in use | Weng et al., "MLaaS in the Wild", NSDI 2022 |
//! | [`GpuClustering`] | nodes that hold pods of the same device request | Xiao et al., "Gandiva", OSDI 2018 |
//! | [`Orchestra`] | the least loss of what the node could still hold | ours, see there |
//! | [`Fgd`] | the least growth of what is fragmented for the workload | Weng et al., "Beware of Fragmentation", USENIX ATC 2023 |

mod bins;
mod classic;
mod fgd;
mod fragment;
mod gpu;
mod orchestra;
mod strand;
mod workload;

pub use classic::{BestFit, DotProduct, Largest};
pub use fgd::Fgd;
pub use fragment::{TARGET_SHARE_PERCENT, Target};
pub use gpu::{GpuClustering, GpuPacking};
pub use orchestra::Orchestra;
pub use workload::{Class, Workload};

use orchestra_core::kind::accelerator::{AcceleratorAsk, DeviceSet};

use crate::snapshot::Devices;

/// The different choices of devices that lead to different nodes: for a pod that shares one device,
/// one device for each amount that is free; for others the tightest alone.
fn choices(devices: &Devices, ask: &AcceleratorAsk) -> impl Iterator<Item = DeviceSet> {
    let shares = ask.count == 1 && ask.milli < orchestra_core::kind::accelerator::WHOLE_MILLI;
    let whole = if shares { None } else { devices.tightest(ask) };
    let free = if shares { devices.free() } else { &[] };
    let milli = i32::from(ask.milli);
    let ones = free
        .iter()
        .enumerate()
        .filter(move |(at, has)| **has >= milli && !free[..*at].contains(has))
        .map(|(at, _)| DeviceSet::NONE.with(at));
    let ones: Vec<DeviceSet> = ones.collect();
    ones.into_iter().chain(whole)
}
