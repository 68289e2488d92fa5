//! How much of a node's devices a workload could not use.

use std::collections::BTreeMap;

use super::workload::{Class, Workload};
use crate::snapshot::Devices;

/// How much of a workload counts, in percent of its pods: the commonest kinds up to here.
pub const TARGET_SHARE_PERCENT: u64 = 95;

/// The commonest kinds of a workload, by which fragments are measured.
///
/// As published for FGD (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
/// with Fragmentation Gradient Descent", USENIX ATC 2023): kinds are told apart by CPU, devices,
/// share and models as they are written, not by memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Each with its share of the pods that count.
    kinds: Vec<(Class, f64)>,
}

impl Target {
    /// The commonest kinds of `workload`, up to [`TARGET_SHARE_PERCENT`] of its pods.
    pub fn of(workload: &Workload) -> Self {
        let mut counts: BTreeMap<(i64, u16, u32, String), (Class, u64)> = BTreeMap::new();
        for (class, pods) in workload.classes() {
            let models = class.models.join("|");
            let key = (class.cpu_milli, class.milli, class.count, models);
            let kind = Class {
                memory: 0,
                ..class.clone()
            };
            counts.entry(key).or_insert((kind, 0)).1 += pods;
        }
        // By count and then by what they are, both from the largest.
        let mut order: Vec<_> = counts.into_iter().collect();
        order.sort_by(|(key, (_, pods)), (other_key, (_, other_pods))| {
            (other_pods, other_key).cmp(&(pods, key))
        });
        let total = workload.pods();
        let (mut counted, mut kinds) = (0, Vec::new());
        for (_, (kind, pods)) in order {
            if counted * 100 >= TARGET_SHARE_PERCENT * total {
                break;
            }
            counted += pods;
            kinds.push((kind, pods as f64 / total as f64));
        }
        for (_, share) in &mut kinds {
            *share /= counted as f64 / total as f64;
        }
        Self { kinds }
    }

    /// The thousandths of devices that a pod drawn from the target could not use on a node with so
    /// much CPU and such devices free.
    ///
    /// For a kind that cannot run there, and for one that wants no device, that is all that is free;
    /// for the others what is free of devices with too little left.
    ///
    /// In floating point, added up in the published order, first by what is in the way: where two
    /// fragments are equal but for rounding the published runs take one to be larger. Sums and products
    /// are the same on every machine.
    pub fn fragment(&self, cpu_free: i64, devices: &Devices, model: &str) -> f64 {
        let idle = devices.free_milli();
        if idle == 0 {
            return 0.0;
        }
        let mut unusable = [0.0; 6];
        for (kind, share) in &self.kinds {
            let short_of_cpu = cpu_free < kind.cpu_milli;
            let short_of_devices = devices.with_free(kind.milli) < kind.count as usize;
            let (way, milli) = match (kind.count, short_of_cpu, short_of_devices) {
                (0, false, _) => (3, idle),
                (0, true, _) => (4, idle),
                _ if !kind.takes(model) => (5, idle),
                (_, true, true) => (0, idle),
                (_, false, true) => (1, idle),
                (_, true, false) => (2, idle),
                (_, false, false) => (1, too_little(devices, kind.milli)),
            };
            unusable[way] += share * milli as f64;
        }
        unusable.iter().sum()
    }
}

/// What is free of devices with less than `milli` left.
fn too_little(devices: &Devices, milli: u16) -> i64 {
    let little = devices.free().iter().filter(|&&free| free < milli.into());
    little.map(|&free| i64::from(free.max(0))).sum()
}
