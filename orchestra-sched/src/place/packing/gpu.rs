//! Packing by devices alone.

use orchestra_core::kind::accelerator::{AcceleratorAsk, WHOLE_MILLI};

use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{Ledger, NodeIx, Rows};

/// Prefers devices that are in use, then free devices of nodes in use, then free nodes. Has nothing
/// to say on pods that want no device.
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
        let whole = i32::from(WHOLE_MILLI);
        for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
            let free = rows.devices[i].free();
            let in_use = free.iter().any(|&free| free < whole);
            let shared = ask.count == 1
                && free
                    .iter()
                    .any(|&free| free < whole && free >= ask.milli.into());
            *score = match (shared, in_use) {
                (true, _) => SCORE_MAX,
                (false, true) => SCORE_MAX / 2,
                (false, false) => 0,
            };
        }
    }
}

/// Prefers nodes that hold pods of the same device request, those with the least left among them;
/// then nodes that hold none. Has nothing to say on pods that want no device.
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
            let node = rows.node(i);
            let (same, any) = held(cycle.ledger, node, ask);
            *score = match (same, any) {
                (true, _) => SCORE_MAX,
                (false, false) => SCORE_MAX / 2,
                (false, true) => 0,
            };
        }
    }
}

/// Whether a node holds a pod of that device request, and whether it holds one of any.
fn held(ledger: &Ledger, node: NodeIx, ask: &AcceleratorAsk) -> (bool, bool) {
    let running = ledger.snapshot().node(node).pods().iter();
    let asks = running
        .map(|running| &*running.demand)
        .chain(ledger.devices_given(node).map(|(demand, _)| demand))
        .filter_map(|demand| demand.accelerators.as_ref());
    asks.fold((false, false), |(same, _), other| {
        let alike = (other.count, other.milli) == (ask.count, ask.milli);
        (same || alike, true)
    })
}
