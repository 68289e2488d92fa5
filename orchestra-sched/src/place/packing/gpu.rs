//! Packing by devices alone.

use orchestra_core::kind::accelerator::{AcceleratorAsk, WHOLE_MILLI};

use super::Packing;
use crate::place::plugin::{SCORE_MAX, Score};
use crate::snapshot::{Devices, Ledger, NodeIx};

/// Prefers devices that are in use, those with least left first; then free devices of nodes in use,
/// fewest free first; then free nodes, fewest devices first. Has nothing to say on pods that want no
/// device.
pub fn gpu_packing() -> Packing {
    Packing::of_devices("GpuPacking", |_, rows, i, ask| {
        packed(&rows.devices[i], ask)
    })
}

/// Prefers nodes that hold pods of the same device request, and among equals what [`gpu_packing`]
/// does. Has nothing to say on pods that want no device.
pub fn gpu_clustering() -> Packing {
    Packing::of_devices("GpuClustering", |cycle, rows, i, ask| {
        let alike = match holds_alike(cycle.ledger, rows.node(i), ask) {
            true => SCORE_MAX / 2,
            false => 0,
        };
        alike + packed(&rows.devices[i], ask) / 2
    })
}

/// From 69 on for a device in use, from 50 to 66 for a node in use, below that for a free one.
fn packed(devices: &Devices, ask: &AcceleratorAsk) -> Score {
    let whole = i32::from(WHOLE_MILLI);
    let used = || devices.free().iter().filter(|&&free| free < whole);
    let shared = used().filter(|&&free| ask.count == 1 && free >= ask.milli.into());
    if let Some(&least) = shared.min() {
        return SCORE_MAX - least as Score / 33;
    }
    let free = (devices.len() - used().count()) as Score;
    if used().next().is_some() {
        66 - free
    } else {
        33 - free
    }
}

/// Whether a node holds a pod of that device request.
fn holds_alike(ledger: &Ledger, node: NodeIx, ask: &AcceleratorAsk) -> bool {
    let running = ledger.snapshot().node(node).pods().iter();
    running
        .map(|running| &*running.demand)
        .chain(ledger.devices_given(node).map(|(demand, _)| demand))
        .filter_map(|demand| demand.accelerators.as_ref())
        .any(|other| (other.count, other.milli) == (ask.count, ask.milli))
}
