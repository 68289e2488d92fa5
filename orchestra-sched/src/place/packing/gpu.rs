//! Packing by devices alone.

use orchestra_core::kind::accelerator::{AcceleratorAsk, WHOLE_MILLI};

use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{Devices, Ledger, NodeIx, Rows};

/// Prefers devices that are in use, those with least left first; then free devices of nodes in use,
/// fewest free first; then free nodes, fewest devices first. Has nothing to say on pods that want no
/// device.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuPacking;

impl Scorer for GpuPacking {
    fn name(&self) -> &'static str {
        "GpuPacking"
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

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let Some(ask) = &cycle.pod.demand.accelerators else {
            return;
        };
        for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
            *score = packed(&rows.devices[i], ask);
        }
    }
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

/// Prefers nodes that hold pods of the same device request, and among equals what [`GpuPacking`] does.
/// Has nothing to say on pods that want no device.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuClustering;

impl Scorer for GpuClustering {
    fn name(&self) -> &'static str {
        "GpuClustering"
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

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let Some(ask) = &cycle.pod.demand.accelerators else {
            return;
        };
        for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
            let alike = if holds_alike(cycle.ledger, rows.node(i), ask) {
                SCORE_MAX / 2
            } else {
                0
            };
            *score = alike + packed(&rows.devices[i], ask) / 2;
        }
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
