//! How much of a node's devices a workload could not use.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::workload::{Class, Workload};
use crate::snapshot::Devices;

/// How much of a workload counts, in percent of its pods: the commonest kinds up to here.
pub const TARGET_SHARE_PERCENT: u64 = 95;

/// The commonest kinds of a workload, by which fragments are measured.
///
/// As published for FGD (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
/// with Fragmentation Gradient Descent", USENIX ATC 2023): kinds are told apart by CPU, devices,
/// share and models, not by memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    kinds: Vec<(Class, i64)>,
    pods: i64,
}

impl Target {
    /// The commonest kinds of `workload`, up to [`TARGET_SHARE_PERCENT`] of its pods.
    pub fn of(workload: &Workload) -> Self {
        let mut counts: BTreeMap<(i64, u16, u32, String), (Class, u64)> = BTreeMap::new();
        for (class, pods) in workload.classes() {
            let models: Vec<&str> = class.models.iter().map(SmolStr::as_str).collect();
            let key = (class.cpu_milli, class.milli, class.count, models.join("|"));
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
        let mut target = Self::default();
        for (_, (kind, pods)) in order {
            if target.pods as u64 * 100 >= TARGET_SHARE_PERCENT * total {
                break;
            }
            target.pods += pods as i64;
            target.kinds.push((kind, pods as i64));
        }
        target
    }

    /// How many pods the kinds stand for.
    pub fn pods(&self) -> i64 {
        self.pods
    }

    /// The thousandths of devices that a pod drawn from the target could not use on a node with so
    /// much CPU and such devices free, times [`pods`](Self::pods).
    ///
    /// For a kind that cannot run there, and for one that wants no device, that is all that is free;
    /// for the others what is free of devices with too little left.
    pub fn fragment(&self, cpu_free: i64, devices: &Devices, model: &str) -> i64 {
        let idle = devices.free_milli();
        if idle == 0 {
            return 0;
        }
        let unusable = |kind: &Class| {
            let runs = kind.count > 0
                && cpu_free >= kind.cpu_milli
                && kind.takes(model)
                && devices.with_free(kind.milli) >= kind.count as usize;
            if !runs {
                return idle;
            }
            let little = devices
                .free()
                .iter()
                .filter(|&&free| free < kind.milli.into());
            little.map(|&free| i64::from(free.max(0))).sum()
        };
        self.kinds
            .iter()
            .map(|(kind, pods)| pods * unusable(kind))
            .sum()
    }
}
