//! Our own packing rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orchestra_core::kind::accelerator::{DeviceSet, WHOLE_MILLI};
use smol_str::SmolStr;

use super::bins::{PARTS, worth};
use super::strand::Losses;
use super::workload::{Class, Workload};
use super::{Packing, best};
use crate::place::plugin::{SCORE_MAX, Score};
use crate::snapshot::{Demand, Devices, NodeFacts};

/// The score of a placement that loses no more than the pod loses anywhere.
const EVEN: i64 = 50;
/// Losses beyond that which count as equal, in thousandths of a device: among equals the first node in
/// order wins, which keeps few nodes open.
const EQUAL_MILLI: i64 = 60;
/// The same for pods that want no device.
const EQUAL_CPU_MILLI: i64 = 20;
/// Gains that count as equal, in thousandths of a device.
const EQUAL_GAIN_MILLI: i64 = 10;
/// What a device of a model is worth over others, in thousandths of a device, where pods that can use
/// no other ask for all of that model there is.
const SCARCE_MILLI: i64 = 20;
/// What it is worth besides then, growing from nothing where they ask for so much of the model, in
/// percent.
const RUNS_OUT_MILLI: i64 = 80;
const RUNS_OUT_PERCENT: i64 = 80;
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
///   proportion to how much of the model such pods ask for, and more than a little where they ask for
///   nearly all there is and its nodes have the CPU for them.
///
/// The score falls with what is lost so, beyond what a pod of that kind loses on the empty node that
/// suits it best: a share of 810 leaves a gap wherever it goes. Small losses are left equal, so that
/// the order of the nodes decides and few nodes are open at a time. Gains are told apart more finely: a
/// node with little CPU for its devices is better off with a pod that needs little of it, and such pods
/// are not spent where any pod would do.
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
        let demand = &*cycle.pod.demand;
        let even = plan.lost(model, cpu, memory, &rows.devices[i]) + plan.unavoidable(demand);
        let asked = &demand.requests;
        let (cpu, memory) = (cpu - asked.cpu_milli, memory - asked.memory);
        best(cycle, rows, i, |devices| {
            let loss = plan.lost(model, cpu, memory, devices) - even;
            score(loss, demand.accelerators.is_some())
        })
    })
}

/// What a loss, in [`PARTS`] of a thousandth of a device, scores for a pod with devices or without.
fn score(loss: i64, devices: bool) -> Score {
    let equal = match (loss < 0, devices) {
        (true, _) => EQUAL_GAIN_MILLI,
        (false, true) => EQUAL_MILLI,
        (false, false) => EQUAL_CPU_MILLI,
    };
    (EVEN - loss.div_euclid(equal * PARTS)).clamp(0, SCORE_MAX.into()) as Score
}

struct Plan {
    /// By free thousandths of a device.
    worth: Vec<i64>,
    cpu_step: i64,
    memory_step: i64,
    device_step: i64,
    /// By model.
    models: BTreeMap<SmolStr, Model>,
    /// What a pod of each kind of the workload loses at least on an empty node, in [`PARTS`] of a
    /// thousandth of a device, where it is more than nothing.
    unavoidable: BTreeMap<Class, i64>,
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
            unavoidable: BTreeMap::new(),
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
        plan.unavoidable = plan.least_losses(workload, &nodes);
        plan
    }

    /// What pods of each kind lose on the empty node that suits them best, where it is more than
    /// nothing.
    fn least_losses(&self, workload: &Workload, nodes: &[&NodeFacts]) -> BTreeMap<Class, i64> {
        let kind = |node: &NodeFacts| {
            let allocatable = &node.allocatable;
            (allocatable.cpu_milli, allocatable.memory, node.devices)
        };
        let kinds: BTreeSet<_> = nodes.iter().map(|node| (kind(node), &node.model)).collect();
        let least = |class: &Class| {
            let losses = kinds.iter().filter_map(|&((cpu, memory, count), model)| {
                let fits = cpu >= class.cpu_milli
                    && memory >= class.memory
                    && count >= class.count as usize
                    && (class.count == 0 || class.takes(model));
                let model = self.models.get(model).filter(|_| fits)?;
                let mut devices = Devices::new(count);
                let before = self.lost(model, cpu, memory, &devices);
                devices.charge((0..class.count as usize).collect(), class.milli);
                let (cpu, memory) = (cpu - class.cpu_milli, memory - class.memory);
                Some(self.lost(model, cpu, memory, &devices) - before)
            });
            losses.min().unwrap_or(0)
        };
        let losses = workload
            .classes()
            .map(|(class, _)| (class.clone(), least(class)));
        losses.filter(|(_, loss)| *loss > 0).collect()
    }

    fn unavoidable(&self, demand: &Demand) -> i64 {
        let loss = self.unavoidable.get(&Class::of(demand));
        loss.copied().unwrap_or(0)
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
        gaps + stranded - scarce
    }
}

/// What devices of each model are worth over others, in [`PARTS`] of a thousandth: by how much of the
/// model pods that name models ask for, in proportion to how many there are of those that they name,
/// at a load of all devices.
fn scarcity<'a>(workload: &Workload, nodes: &[&'a NodeFacts]) -> BTreeMap<&'a SmolStr, i64> {
    const ALL: u128 = MILLIONTHS as u128;
    // CPU and devices of each model.
    let mut models: BTreeMap<&SmolStr, (u128, u128)> = BTreeMap::new();
    for node in nodes {
        let (cpu, devices) = models.entry(&node.model).or_default();
        *cpu += node.allocatable.cpu_milli.max(0) as u128;
        *devices += node.devices as u128;
    }
    let all: u128 = models.values().map(|(_, devices)| devices).sum();
    let asks = workload.classes().map(|(class, pods)| {
        let milli = u128::from(class.count) * u128::from(class.milli);
        (class, milli * u128::from(pods))
    });
    let asked: u128 = asks.clone().map(|(_, milli)| milli).sum();
    let asked_cpu = workload
        .classes()
        .map(|(class, pods)| class.cpu_milli.max(0) as u128 * u128::from(pods))
        .sum::<u128>();
    let named: Vec<_> = asks.filter(|(class, _)| !class.models.is_empty()).collect();
    let of = |model: &SmolStr, (cpu, devices): (u128, u128)| {
        // What each class asks of a device of the model.
        let parts = named
            .iter()
            .filter(|(class, _)| class.takes(model))
            .map(|(class, milli)| {
                let takes = models.iter().filter(|(model, _)| class.takes(model));
                let usable: u128 = takes.map(|(_, (_, devices))| devices).sum();
                ALL * milli * all / (asked * usable).max(1)
            });
        let cpu = ALL * cpu * asked / (1_000 * devices * asked_cpu).max(1);
        let part = |of: u128| of.min(ALL) as i64;
        scarce(part(parts.sum()), part(cpu))
    };
    models
        .iter()
        .map(|(&model, &there)| (model, of(model, there)))
        .collect()
}

/// Parts of a whole.
const MILLIONTHS: i64 = 1_000_000;

/// What a device is worth over others where so much of its model is asked for by those who name it,
/// and its nodes have so much of the CPU for each device that pods ask for each of theirs. Where they
/// have less, those who name the model leave devices without CPU, and the less is kept for them.
fn scarce(asked: i64, cpu: i64) -> i64 {
    let plenty = MILLIONTHS / 100 * RUNS_OUT_PERCENT;
    let runs_out = PARTS * RUNS_OUT_MILLI * (asked - plenty).max(0) / (MILLIONTHS - plenty);
    let kept = runs_out * cpu / MILLIONTHS * cpu / MILLIONTHS;
    PARTS * SCARCE_MILLI * asked / MILLIONTHS + kept
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
