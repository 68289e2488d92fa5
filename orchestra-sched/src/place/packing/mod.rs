//! Rules that pack accelerators tightly: the published ones, and one of our own.
//!
//! Each is a function that gives a [`Packing`], a [`Scorer`] for any [`Profile`](super::Profile); those
//! that care which device of a node a pod gets are a [`DeviceChoice`] too. How well they do is measured
//! by playing [traces](crate::trace).
//!
//! | rule | what it prefers | source |
//! |---|---|---|
//! | [`best_fit`] | nodes of which least would be left | classic |
//! | [`dot_product`] | nodes whose free vector is least aligned with the request, as published | Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM 2014 |
//! | [`gpu_packing`] | devices in use, then nodes in use | Weng et al., "MLaaS in the Wild", NSDI 2022 |
//! | [`gpu_clustering`] | nodes that hold pods of the same device request | Xiao et al., "Gandiva", OSDI 2018 |
//! | [`fgd`] | the least growth of what is fragmented for the workload | Weng et al., "Beware of Fragmentation", USENIX ATC 2023 |
//! | [`orchestra`] | the least loss of what the node could still hold | ours, see there |
//!
//! [`Learning`] is ours where what comes may be other than what is expected.

mod bins;
mod blend;
mod classic;
mod differ;
mod fgd;
mod fragment;
mod gpu;
mod learn;
mod orchestra;
mod prices;
mod strand;
mod workload;

pub use classic::{Largest, best_fit, dot_product};
pub use fgd::fgd;
pub use fragment::{TARGET_SHARE_PERCENT, Target};
pub use gpu::{gpu_clustering, gpu_packing};
pub use learn::Learning;
pub use orchestra::orchestra;
pub use workload::{Class, Workload};

use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::accelerator::{AcceleratorAsk, DeviceSet, WHOLE_MILLI};

use super::plugin::{Cycle, DeviceChoice, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Devices, NodeIx, Rows};

/// How much a row suits a pod, and the devices it should get there; none to leave them to the usual rule.
type Choice = (Score, DeviceSet);
type Rule = dyn Fn(&Cycle<'_>, &Rows<'_>, usize) -> Choice + Send + Sync;

/// A packing rule. Cheap to copy: a profile wants it as its scorer and as its choice of devices.
#[derive(Clone)]
pub struct Packing {
    name: &'static str,
    /// Whether it has something to say on pods that want no device.
    all_pods: bool,
    rule: Arc<Rule>,
}

impl Packing {
    /// For every pod.
    fn new(
        name: &'static str,
        rule: impl Fn(&Cycle<'_>, &Rows<'_>, usize) -> Choice + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            all_pods: true,
            rule: Arc::new(rule),
        }
    }

    /// For pods that want devices.
    fn of_devices(
        name: &'static str,
        rule: impl Fn(&Cycle<'_>, &Rows<'_>, usize, &AcceleratorAsk) -> Score + Send + Sync + 'static,
    ) -> Self {
        let rule = move |cycle: &Cycle<'_>, rows: &Rows<'_>, i| {
            let ask = cycle.pod.demand.accelerators.as_ref();
            let score = ask.map_or(0, |ask| rule(cycle, rows, i, ask));
            (score, DeviceSet::NONE)
        };
        Self {
            all_pods: false,
            ..Self::new(name, rule)
        }
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packing").field(&self.name).finish()
    }
}

impl Scorer for Packing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS.with(PodFields::ACCELERATORS)
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        match self.all_pods || cycle.pod.demand.accelerators.is_some() {
            true => Reach::Node,
            false => Reach::Nothing,
        }
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
            *score = (self.rule)(cycle, &rows, i).0;
        }
    }
}

impl DeviceChoice for Packing {
    fn choose(&self, cycle: &Cycle<'_>, node: NodeIx) -> Option<DeviceSet> {
        cycle.pod.demand.accelerators.as_ref()?;
        let set = (self.rule)(cycle, &cycle.ledger.row(node), 0).1;
        (!set.is_empty()).then_some(set)
    }
}

/// The best of the choices of devices there are on row `i`, by what `score` says of the devices that
/// are then left; the lowest numbers among equals. A pod that wants no device leaves them all.
fn best(cycle: &Cycle<'_>, rows: &Rows<'_>, i: usize, score: impl Fn(&Devices) -> Score) -> Choice {
    let devices = &rows.devices[i];
    let Some(ask) = &cycle.pod.demand.accelerators else {
        return (score(devices), DeviceSet::NONE);
    };
    let mut best: Option<Choice> = None;
    for set in choices(devices, ask) {
        let mut left = *devices;
        left.charge(set, ask.milli);
        let score = score(&left);
        if best.is_none_or(|(other, _)| score > other) {
            best = Some((score, set));
        }
    }
    best.unwrap_or_default()
}

/// The different choices of devices that lead to different nodes: for a pod that shares one device,
/// one device for each amount that is free; for others the tightest alone.
fn choices(devices: &Devices, ask: &AcceleratorAsk) -> impl Iterator<Item = DeviceSet> {
    let shares = ask.count == 1 && ask.milli < WHOLE_MILLI;
    let whole = if shares { None } else { devices.tightest(ask) };
    let free = if shares { devices.free() } else { &[] };
    let milli = i32::from(ask.milli);
    let ones = free
        .iter()
        .enumerate()
        .filter(move |(at, has)| **has >= milli && !free[..*at].contains(has))
        .map(|(at, _)| DeviceSet::NONE.with(at));
    ones.chain(whole)
}
