//! Our own packing rule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use orchestra_core::kind::accelerator::{DeviceSet, WHOLE_MILLI};
use smol_str::SmolStr;

use super::bins::{PARTS, worth};
use super::prices::{Buyer, Seller, payments};
use super::strand::Takings;
use super::workload::{Class, Workload};
use super::{Packing, best};
use crate::place::plugin::{SCORE_MAX, Score};
use crate::snapshot::{Devices, NodeFacts};

/// The score of a placement that loses no more than the pod loses anywhere.
const EVEN: i64 = 50;
/// Losses beyond that which count as equal, in thousandths of a device: among equals the first node in
/// order wins, which keeps few nodes open.
const EQUAL_MILLI: i64 = 60;
/// The same for pods that want no device.
const EQUAL_CPU_MILLI: i64 = 20;
/// Gains that count as equal, in thousandths of a device.
const EQUAL_GAIN_MILLI: i64 = 10;
/// The same where pods name models.
const EQUAL_GAIN_NAMED_MILLI: i64 = 20;
/// How many steps of CPU and memory the commonest kind of node has, and how many of devices a node
/// of eight.
const CPU_STEPS: i64 = 96;
const MEMORY_STEPS: i64 = 48;
const DEVICE_STEPS: i64 = 20;
/// Steps of which the tables have no more; who has more is taken to have these.
const CPU_STEPS_MAX: i64 = 128;
const MEMORY_STEPS_MAX: i64 = 96;
const TABLE_DEVICES_MAX: i64 = 8;
/// How many kinds of pod that the workload does not have are remembered.
const OTHERS_MAX: usize = 4_096;

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
///   A dynamic programme says for every rest of CPU, memory and devices how much it takes in on average
///   when pods of the workload come, each paying what its devices are worth and passing a node by the
///   sooner the more it would cost there.
/// * **Models.** Where pods name models, each pays what it would in a market of all kinds of node with a
///   price for the devices and the CPU of each: those who name a model that is short pay more, so that its
///   nodes lose more by others.
///
/// The score falls with what is lost so, beyond what a pod of that kind loses on the empty node that
/// suits it best: a share of 810 leaves a gap wherever it goes. Small losses are left equal, so that
/// the order of the nodes decides and few nodes are open at a time. Gains are told apart more finely: a
/// node with little CPU for its devices is better off with a pod that needs little of it, and such pods
/// are not spent where any pod would do.
///
/// Whole numbers throughout: the same on every machine. The tables take some megabytes for each set
/// of models that kinds of pod tell apart. To a workload that wants no devices any node is as good as another.
/// Where pods of other kinds come than the workload has, [`Learning`](super::Learning) says what to do.
pub fn orchestra<'a>(
    workload: &Workload,
    nodes: impl IntoIterator<Item = &'a NodeFacts>,
) -> Packing {
    let plan = Plan::new(workload, nodes);
    Packing::new("Orchestra", move |cycle, rows, i| {
        let facts = cycle.snapshot().node(rows.node(i)).facts();
        let Some(takings) = plan.models.get(&facts.model) else {
            return (EVEN as Score, DeviceSet::NONE);
        };
        let (cpu, memory) = (rows.cpu_free[i], rows.memory_free[i]);
        let demand = &*cycle.pod.demand;
        let class = Class::of(demand);
        let before = plan.takings(takings, cpu, memory, &rows.devices[i]);
        let even = before - used(&class) - plan.unavoidable(&class);
        let (cpu, memory) = (cpu - class.cpu_milli, memory - class.memory);
        best(cycle, rows, i, |devices| {
            let loss = even - plan.takings(takings, cpu, memory, devices);
            plan.score(loss, demand.accelerators.is_some())
        })
    })
}

/// What a pod has of devices, in [`PARTS`] of a thousandth of one.
fn used(class: &Class) -> i64 {
    i64::from(class.count) * i64::from(class.milli) * PARTS
}

struct Plan {
    /// By free thousandths of a device.
    worth: Vec<i64>,
    cpu_step: i64,
    memory_step: i64,
    device_step: i64,
    /// By model.
    models: BTreeMap<SmolStr, Arc<Takings>>,
    /// Gains that count as equal, in thousandths of a device.
    equal_gain: i64,
    kinds: Vec<NodeKind>,
    /// What a pod of each kind of the workload loses at least on an empty node, in [`PARTS`] of a
    /// thousandth of a device.
    unavoidable: BTreeMap<Class, i64>,
    /// The same for other kinds, as they are asked for.
    others: Mutex<BTreeMap<Class, i64>>,
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
        let node_kinds = kinds(&nodes);
        let mut plan = Plan {
            worth: worth(&merged(&shares)),
            cpu_step: common.map_or(1, |node| steps(node.allocatable.cpu_milli, CPU_STEPS)),
            memory_step: common.map_or(1, |node| steps(node.allocatable.memory, MEMORY_STEPS)),
            device_step: i64::from(WHOLE_MILLI) * PARTS / DEVICE_STEPS,
            models: BTreeMap::new(),
            equal_gain: EQUAL_GAIN_MILLI,
            kinds: node_kinds.keys().cloned().collect(),
            unavoidable: BTreeMap::new(),
            others: Mutex::default(),
        };
        if shares.is_empty() {
            return plan;
        }
        let pays = plan.payments(workload, &node_kinds);
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
            let kinds = workload.classes().zip(&pays).zip(takes);
            let kinds = kinds
                .filter(|(_, takes)| *takes)
                .map(|(((class, pods), pays), _)| {
                    let devices = plan.worth(class);
                    (
                        up(class.cpu_milli, plan.cpu_step),
                        up(class.memory, plan.memory_step),
                        nearest(devices, plan.device_step),
                        *pays,
                        pods,
                    )
                });
            let most = (most.0 as usize, most.1 as usize, most.2 as usize);
            let takings = Arc::new(Takings::new(most, kinds));
            for model in alike {
                plan.models.insert(model.clone(), Arc::clone(&takings));
            }
        }
        plan.unavoidable = workload
            .classes()
            .map(|(class, _)| (class.clone(), plan.least_loss(class)))
            .collect();
        plan
    }

    /// What the devices that a kind of pod asks for are worth.
    fn worth(&self, class: &Class) -> i64 {
        i64::from(class.count) * self.worth[usize::from(class.milli)]
    }

    /// What pods of each kind pay, in [`PARTS`] of a thousandth of a device: what their devices are worth
    /// where none names a model.
    fn payments(&mut self, workload: &Workload, kinds: &BTreeMap<NodeKind, i64>) -> Vec<i64> {
        if workload.classes().all(|(class, _)| class.models.is_empty()) {
            return workload
                .classes()
                .map(|(class, _)| self.worth(class))
                .collect();
        }
        self.equal_gain = EQUAL_GAIN_NAMED_MILLI;
        let buyers: Vec<Buyer> = workload
            .classes()
            .map(|(class, pods)| Buyer {
                cpu: class.cpu_milli.max(0),
                worth: self.worth(class),
                pods,
                takes: kinds.keys().map(|kind| kind.takes(class)).collect(),
            })
            .collect();
        let sellers: Vec<Seller> = kinds
            .iter()
            .map(|(kind, &nodes)| Seller {
                cpu: kind.cpu.max(0).saturating_mul(nodes),
                devices: kind.devices as i64 * nodes,
            })
            .collect();
        payments(&buyers, &sellers)
    }

    /// What a pod loses on the empty node that suits it best; 0 if that is nothing.
    fn least_loss(&self, class: &Class) -> i64 {
        let losses = self.kinds.iter().filter_map(|kind| {
            let takings = self.models.get(&kind.model).filter(|_| kind.takes(class))?;
            let mut devices = Devices::new(kind.devices);
            let before = self.takings(takings, kind.cpu, kind.memory, &devices);
            devices.charge((0..class.count as usize).collect(), class.milli);
            let (cpu, memory) = (kind.cpu - class.cpu_milli, kind.memory - class.memory);
            let after = self.takings(takings, cpu, memory, &devices);
            Some(before - after - used(class))
        });
        losses.min().unwrap_or(0).max(0)
    }

    fn unavoidable(&self, class: &Class) -> i64 {
        if let Some(loss) = self.unavoidable.get(class) {
            return *loss;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loss) = others.get(class) {
            return *loss;
        }
        let loss = self.least_loss(class);
        if others.len() < OTHERS_MAX {
            others.insert(class.clone(), loss);
        }
        loss
    }

    /// What a node with so much free takes in, in [`PARTS`] of a thousandth of a device.
    fn takings(&self, takings: &Takings, cpu: i64, memory: i64, devices: &Devices) -> i64 {
        let free = devices.free().iter();
        let worth: i64 = free
            .map(|free| self.worth[(*free).clamp(0, WHOLE_MILLI.into()) as usize])
            .sum();
        let down = |amount: i64, step: i64| (amount.max(0) / step) as usize;
        takings.of(
            down(cpu, self.cpu_step),
            down(memory, self.memory_step),
            down(worth, self.device_step),
        )
    }

    /// What a loss, in [`PARTS`] of a thousandth of a device, scores for a pod with devices or without.
    fn score(&self, loss: i64, devices: bool) -> Score {
        let equal = match (loss < 0, devices) {
            (true, _) => self.equal_gain,
            (false, true) => EQUAL_MILLI,
            (false, false) => EQUAL_CPU_MILLI,
        };
        (EVEN - loss.div_euclid(equal * PARTS)).clamp(0, SCORE_MAX.into()) as Score
    }
}

/// Nodes with devices that are alike.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
struct NodeKind {
    cpu: i64,
    memory: i64,
    devices: usize,
    model: SmolStr,
}

impl NodeKind {
    /// Whether a pod could run on such a node when it is empty.
    fn takes(&self, class: &Class) -> bool {
        self.cpu >= class.cpu_milli
            && self.memory >= class.memory
            && self.devices >= class.count as usize
            && (class.count == 0 || class.takes(&self.model))
    }
}

/// The kinds of node, each with how many of it there are.
fn kinds(nodes: &[&NodeFacts]) -> BTreeMap<NodeKind, i64> {
    let mut kinds = BTreeMap::new();
    for node in nodes {
        let kind = NodeKind {
            cpu: node.allocatable.cpu_milli,
            memory: node.allocatable.memory,
            devices: node.devices,
            model: node.model.clone(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
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
