//! Packing by devices alone.

use orchestra_core::kind::accelerator::{AcceleratorAsk, WHOLE_MILLI};

use super::Packing;
use crate::place::plugin::{SCORE_MAX, Score};
use crate::snapshot::{Devices, Ledger, NodeIx};

/// Prefers devices that are in use, those with least left first; then nodes in use, those of which
/// fewest free devices are taken first; then free nodes, fewest devices first. As published: 100 less a
/// tenth of the percentage that is free of the devices taken, at least 50; where free ones are taken, 50
/// less their number, at least 33; on a free node 33 less its devices, or their number if that is more. Has
/// nothing to say on pods that want no device.
pub fn gpu_packing() -> Packing {
    Packing::of_devices("GpuPacking", |_, rows, i, ask| {
        packed(&rows.devices[i], ask)
    })
}

/// Prefers nodes that hold pods of the same device request and no others (75 points), then those that
/// hold others too (50), then free nodes (25), and nodes with least free among equals: up to 25 points, less
/// in proportion to how much of eight devices is free. All who share a device ask for the same. As published.
/// Has nothing to say on pods that want no device.
pub fn gpu_clustering() -> Packing {
    Packing::of_devices("GpuClustering", |cycle, rows, i, ask| {
        let company = company(cycle.ledger, rows.node(i), ask);
        let free = rows.devices[i].free_milli();
        let used = 25 * (EIGHT_DEVICES_MILLI - free).max(0) / EIGHT_DEVICES_MILLI;
        company + used as Score
    })
}

/// The devices of the largest node that was thought of when clustering was published.
const EIGHT_DEVICES_MILLI: i64 = 8 * WHOLE_MILLI as i64;

fn packed(devices: &Devices, ask: &AcceleratorAsk) -> Score {
    let whole = i32::from(WHOLE_MILLI);
    let all = devices.len() as Score;
    let is_free = |free: &&i32| **free == whole;
    if devices.free().iter().filter(is_free).count() == devices.len() {
        return (33 - all.min(33)).max(all);
    }
    let mut fit: Vec<i32> = devices.free().to_vec();
    fit.retain(|&free| free >= ask.milli.into());
    fit.sort_unstable();
    let taken = &fit[..fit.len().min(ask.count as usize)];
    match taken.iter().filter(is_free).count() as Score {
        0 => {
            let percent: i32 = taken.iter().map(|free| free * 100 / whole).sum();
            (SCORE_MAX - (percent as Score / 10).min(SCORE_MAX)).max(50)
        }
        free => (50 - free.min(50)).max(33),
    }
}

/// What the pods are worth that a node holds already.
fn company(ledger: &Ledger, node: NodeIx, ask: &AcceleratorAsk) -> Score {
    let class = |ask: &AcceleratorAsk| match ask.milli < WHOLE_MILLI {
        true => 0,
        false => ask.count,
    };
    let running = ledger.snapshot().node(node).pods().iter();
    let asks = running
        .map(|running| &*running.demand)
        .chain(ledger.devices_given(node).map(|(demand, _)| demand))
        .filter_map(|demand| demand.accelerators.as_ref());
    let (mut alike, mut others) = (false, false);
    for other in asks {
        match class(other) == class(ask) {
            true => alike = true,
            false => others = true,
        }
    }
    match (alike, others) {
        (true, false) => 75,
        (true, true) => 50,
        (false, false) => 25,
        (false, true) => 0,
    }
}
