//! A small trace made up on the spot.

use std::sync::Arc;

use rand::Rng as _;

use super::openb::demand;
use super::{Trace, TracePod};
use crate::place::packing::Workload;
use crate::rng::PlanRng;
use crate::snapshot::{AMOUNT_MAX, Amounts, NodeFacts};

/// Nodes of each kind: how many, thousandths of a core, MiB of memory, devices, model.
const NODES: [(usize, i64, i64, usize, &str); 3] = [
    (12, 96_000, 393_216, 8, "G2"),
    (10, 104_000, 524_288, 2, "T4"),
    (6, 16_000, 122_880, 2, "P100"),
];

/// Pods of each kind: how many of 100, thousandths of a core, MiB of memory, devices, thousandths of
/// each, models.
const PODS: [(u64, i64, i64, i64, i64, &str); 12] = [
    (12, 12_500, 57_344, 0, 0, ""),
    (14, 11_400, 48_128, 1, 1_000, ""),
    (12, 8_000, 32_768, 1, 1_000, ""),
    (4, 18_700, 64_512, 1, 1_000, ""),
    (6, 3_100, 5_600, 1, 1_000, "T4|P100"),
    (16, 3_100, 5_600, 1, 810, ""),
    (12, 8_000, 30_720, 1, 470, ""),
    (8, 11_900, 47_104, 1, 650, ""),
    (8, 4_000, 15_258, 1, 320, ""),
    (4, 4_000, 22_888, 1, 160, ""),
    (3, 16_200, 64_000, 2, 1_000, ""),
    (1, 64_000, 262_144, 8, 1_000, ""),
];

impl Trace {
    /// A small cluster, and pods of kinds such as clusters with accelerators see, drawn from the
    /// seed until they ask for 130 % of the devices. The workload is the mix they are drawn from.
    pub fn generated(seed: u64) -> Self {
        let nodes: Vec<NodeFacts> = NODES
            .iter()
            .flat_map(|&(nodes, cpu, memory, devices, model)| {
                (0..nodes).map(move |nth| NodeFacts {
                    name: format!("{}-{nth:02}", model.to_lowercase()).into(),
                    allocatable: Amounts {
                        cpu_milli: cpu,
                        memory: memory << 20,
                        ..Amounts::default()
                    },
                    pods: AMOUNT_MAX,
                    devices,
                    model: model.into(),
                    ..NodeFacts::default()
                })
            })
            .collect();
        let demands = PODS.map(|(weight, cpu, memory, count, milli, models)| {
            (
                weight,
                Arc::new(demand((cpu, memory, count, milli, models))),
            )
        });
        let sample = demands
            .iter()
            .flat_map(|(weight, demand)| (0..*weight).map(move |_| &**demand));
        let mut trace = Self {
            workload: Workload::of(sample),
            nodes,
            ..Self::default()
        };
        let mut rng = PlanRng::new(seed).stream("generated-trace");
        let enough = trace.device_milli() * 13 / 10;
        let mut asked = 0;
        while asked < enough {
            let mut at = rng.next_u64() % 100;
            let drawn = demands.iter().find(|(weight, _)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let Some((_, demand)) = drawn else { continue };
            let ask = demand.accelerators.as_ref();
            asked += ask.map_or(0, |ask| i64::from(ask.count) * i64::from(ask.milli));
            trace.pods.push(TracePod {
                name: format!("pod-{:04}", trace.pods.len()).into(),
                demand: Arc::clone(demand),
            });
        }
        trace
    }
}
