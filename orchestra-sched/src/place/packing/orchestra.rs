//! Our own packing rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::accelerator::{DeviceSet, WHOLE_MILLI};
use smol_str::SmolStr;

use super::bins::{PARTS, worth};
use super::strand::Losses;
use super::workload::Workload;
use super::{Packing, best};
use crate::place::plugin::{SCORE_MAX, Score};
use crate::snapshot::{Devices, NodeFacts};

/// The score of a placement that loses nothing.
const EVEN: i64 = 50;
/// Losses that count as equal, in thousandths of a device: among equals the first node in order
/// wins, which keeps few nodes open.
const EQUAL_MILLI: i64 = 60;
/// How much a gap in a device counts beside what is stranded, in percent.
const GAPS_PERCENT: i64 = 60;
/// What a device of a model is worth over others, in thousandths of a device, where pods that can use
/// no other ask for all of that model there is.
const SCARCE_MILLI: i64 = 20;
/// How many steps of CPU and memory the commonest kind of node has, and how many of devices a node
/// of eight.
const CPU_STEPS: i64 = 96;
const MEMORY_STEPS: i64 = 48;
const DEVICE_STEPS: i64 = 20;
/// Steps of which the tables have no more; who has more is taken to have these.
const CPU_STEPS_MAX: i64 = 128;
const MEMORY_STEPS_MAX: i64 = 96;
const TABLE_DEVICES_MAX: i64 = 8;

/// Prefers the node, and on it the devices, that lose least of what they could still hold, for pods
/// such as those of `workload` on `nodes`.
///
/// It knows the workload (what kinds of pod are to be expected, and how often), not what comes next,
/// and puts a price on what a placement takes from those to come:
///
/// * **Gaps.** What the free part of a device is worth is the most that shares which fit into it are
///   worth, and a share is worth its dual value in the linear programme that packs the workload's
///   shares into the fewest devices. A share of 470 beside one of 470 costs nothing, one of 320 beside
///   it leaves a gap that is worth nothing to anybody.
/// * **Stranding.** What the devices of a node are worth is lost where CPU or memory runs out first.
///   A dynamic programme says for every rest of CPU, memory and devices how much is lost on average
///   when pods of the workload come, each passing a node by the sooner the more it would cost there.
/// * **Models.** Devices of a model that some pods cannot do without are worth a little more, in
///   proportion to how much of the model such pods ask for.
///
/// The score falls with what is lost so. Equal losses are left equal, so that the order of the nodes
/// decides and few nodes are open at a time.
///
/// Whole numbers throughout: the same on every machine. The tables take some megabytes for each set
/// of models that kinds of pod tell apart.
pub fn orchestra<'a>(
    workload: &Workload,
    nodes: impl IntoIterator<Item = &'a NodeFacts>,
) -> Packing {
    let plan = Plan::new(workload, nodes);
    Packing::new("Orchestra", move |cycle, rows, i| {
        let facts = cycle.snapshot().node(rows.node(i)).facts();
        let Some(model) = plan.models.get(&facts.model) else {
            return (EVEN as Score, DeviceSet::NONE);
        };
        let (cpu, memory) = (rows.cpu_free[i], rows.memory_free[i]);
        let before = plan.lost(model, cpu, memory, &rows.devices[i]);
        let asked = &cycle.pod.demand.requests;
        let (cpu, memory) = (cpu - asked.cpu_milli, memory - asked.memory);
        best(cycle, rows, i, |devices| {
            let loss = plan.lost(model, cpu, memory, devices) - before;
            (EVEN - loss.div_euclid(EQUAL_MILLI * PARTS)).clamp(0, SCORE_MAX.into()) as Score
        })
    })
}

struct Plan {
    /// By free thousandths of a device.
    worth: Vec<i64>,
    cpu_step: i64,
    memory_step: i64,
    device_step: i64,
    /// By model.
    models: BTreeMap<SmolStr, Model>,
}

struct Model {
    losses: Arc<Losses>,
    /// What a device is worth over those of other models, in [`PARTS`] of a thousandth.
    scarce: i64,
}

impl Plan {
    fn new<'a>(workload: &Workload, nodes: impl IntoIterator<Item = &'a NodeFacts>) -> Self {
        let nodes: Vec<&NodeFacts> = nodes.into_iter().filter(|node| node.devices > 0).collect();
        let shares: Vec<(u16, u64)> = workload
            .classes()
            .filter(|(class, _)| class.count > 0)
            .map(|(class, pods)| (class.milli, pods * u64::from(class.count)))
            .collect();
        let common = commonest(&nodes);
        let mut plan = Plan {
            worth: worth(&merged(&shares)),
            cpu_step: common.map_or(1, |node| steps(node.allocatable.cpu_milli, CPU_STEPS)),
            memory_step: common.map_or(1, |node| steps(node.allocatable.memory, MEMORY_STEPS)),
            device_step: i64::from(WHOLE_MILLI) * PARTS / DEVICE_STEPS,
            models: BTreeMap::new(),
        };
        let scarce = scarcity(workload, &nodes);
        let mut models: BTreeMap<&SmolStr, (i64, i64, i64)> = BTreeMap::new();
        for node in &nodes {
            let most = models.entry(&node.model).or_default();
            *most = (
                most.0
                    .max(node.allocatable.cpu_milli / plan.cpu_step)
                    .min(CPU_STEPS_MAX),
                most.1
                    .max(node.allocatable.memory / plan.memory_step)
                    .min(MEMORY_STEPS_MAX),
                most.2
                    .max((node.devices as i64).min(TABLE_DEVICES_MAX) * DEVICE_STEPS),
            );
        }
        // Models that the workload does not tell apart share a table as large as the largest needs.
        let mut tables: BTreeMap<Vec<bool>, Vec<&SmolStr>> = BTreeMap::new();
        for model in models.keys() {
            let takes = workload.classes().map(|(class, _)| class.takes(model));
            tables.entry(takes.collect()).or_default().push(model);
        }
        for (takes, alike) in tables {
            let most = alike.iter().fold((0, 0, 0), |most, model| {
                let other = models[*model];
                (
                    most.0.max(other.0),
                    most.1.max(other.1),
                    most.2.max(other.2),
                )
            });
            let kinds = workload.classes().zip(takes).filter(|(_, takes)| *takes);
            let kinds = kinds.map(|((class, pods), _)| {
                let devices = i64::from(class.count) * plan.worth[usize::from(class.milli)];
                (
                    up(class.cpu_milli, plan.cpu_step),
                    up(class.memory, plan.memory_step),
                    nearest(devices, plan.device_step),
                    pods,
                )
            });
            let most = (most.0 as usize, most.1 as usize, most.2 as usize);
            let losses = Arc::new(Losses::new(most, plan.device_step, kinds));
            for model in alike {
                let losses = Arc::clone(&losses);
                let scarce = scarce.get(model).copied().unwrap_or(0);
                plan.models.insert(model.clone(), Model { losses, scarce });
            }
        }
        plan
    }

    /// What is lost of a node with so much free, in [`PARTS`] of a thousandth of a device.
    fn lost(&self, model: &Model, cpu: i64, memory: i64, devices: &Devices) -> i64 {
        let (mut gaps, mut worth) = (0, 0);
        for &free in devices.free() {
            let here = self.worth[free.clamp(0, WHOLE_MILLI.into()) as usize];
            worth += here;
            gaps += i64::from(free.max(0)) * PARTS - here;
        }
        let down = |amount: i64, step: i64| (amount.max(0) / step) as usize;
        let stranded = model.losses.of(
            down(cpu, self.cpu_step),
            down(memory, self.memory_step),
            down(worth, self.device_step),
        );
        let scarce = worth * model.scarce / (i64::from(WHOLE_MILLI) * PARTS);
        gaps * GAPS_PERCENT / 100 + stranded - scarce
    }
}

/// What devices of each model are worth over others, in [`PARTS`] of a thousandth: pods that name
/// models ask for them in proportion to how many there are, at a load of all devices.
fn scarcity<'a>(workload: &Workload, nodes: &[&'a NodeFacts]) -> BTreeMap<&'a SmolStr, i64> {
    /// So that many small amounts are not rounded away.
    const FINE: u128 = 1_000_000;
    let mut devices: BTreeMap<&SmolStr, u128> = BTreeMap::new();
    for node in nodes {
        *devices.entry(&node.model).or_default() += node.devices as u128;
    }
    let all: u128 = devices.values().sum();
    let asks = workload.classes().map(|(class, pods)| {
        let milli = u128::from(class.count) * u128::from(class.milli);
        (class, milli * u128::from(pods))
    });
    let asked: u128 = asks.clone().map(|(_, milli)| milli).sum();
    let named: Vec<_> = asks.filter(|(class, _)| !class.models.is_empty()).collect();
    let most = (SCARCE_MILLI * PARTS) as u128;
    let of = |model: &SmolStr| {
        // What each class asks of a device of the model.
        let parts = named
            .iter()
            .filter(|(class, _)| class.takes(model))
            .map(|(class, milli)| {
                let takes = devices.iter().filter(|(model, _)| class.takes(model));
                let usable: u128 = takes.map(|(_, devices)| devices).sum();
                FINE * most * milli * all / (asked * usable).max(1)
            });
        (parts.sum::<u128>() / FINE).min(most) as i64
    };
    devices.keys().map(|&model| (model, of(model))).collect()
}

/// A node of the kind that has most devices in all.
fn commonest<'a>(nodes: &[&'a NodeFacts]) -> Option<&'a NodeFacts> {
    let mut kinds: BTreeMap<(i64, i64, usize), (usize, &NodeFacts)> = BTreeMap::new();
    for node in nodes {
        let kind = (
            node.allocatable.cpu_milli,
            node.allocatable.memory,
            node.devices,
        );
        kinds.entry(kind).or_insert((0, node)).0 += node.devices;
    }
    let most = kinds
        .into_iter()
        .max_by_key(|(kind, (devices, _))| (*devices, *kind));
    most.map(|(_, (_, node))| node)
}

/// Shares of one size together.
fn merged(shares: &[(u16, u64)]) -> Vec<(u16, u64)> {
    let mut all: BTreeMap<u16, u64> = BTreeMap::new();
    for (milli, pods) in shares {
        *all.entry(*milli).or_default() += pods;
    }
    all.into_iter().collect()
}

/// The size of one of so many steps.
fn steps(amount: i64, steps: i64) -> i64 {
    (amount / steps).max(1)
}

fn up(amount: i64, step: i64) -> usize {
    (amount.max(0) as u64).div_ceil(step as u64) as usize
}

fn nearest(amount: i64, step: i64) -> usize {
    ((amount.max(0) + step / 2) / step) as usize
}
