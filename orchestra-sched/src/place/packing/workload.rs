//! What kinds of pod are to be expected, and how often.

use std::collections::BTreeMap;

use orchestra_core::kind::accelerator::WHOLE_MILLI;
use smol_str::SmolStr;

use crate::snapshot::{Demand, NodeFacts};

/// A kind of pod, as far as packing can tell.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Class {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// How many devices.
    pub count: u32,
    /// Thousandths of each; 0 if there are none.
    pub milli: u16,
    /// The models that will do; empty if any will.
    pub models: Vec<SmolStr>,
}

impl Class {
    /// A pod's.
    pub fn of(demand: &Demand) -> Self {
        let ask = demand.accelerators.as_ref();
        Self {
            cpu_milli: demand.requests.cpu_milli,
            memory: demand.requests.memory,
            count: ask.map_or(0, |ask| ask.count),
            milli: ask.map_or(0, |ask| ask.milli),
            models: ask.map_or_else(Vec::new, |ask| ask.models.clone()),
        }
    }

    /// Whether devices of that model will do.
    pub fn takes(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|wanted| wanted == model)
    }
}

/// How many pods of each kind there were, in a sample of what is to be expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    classes: BTreeMap<Class, u64>,
}

impl Workload {
    /// A sample's.
    pub fn of<'a>(sample: impl IntoIterator<Item = &'a Demand>) -> Self {
        let mut workload = Self::default();
        for demand in sample {
            workload.count(Class::of(demand), 1);
        }
        workload
    }

    /// One pod for each device, which wants that device and what CPU and memory its node has for each.
    pub(super) fn shaped(nodes: &[NodeFacts]) -> Self {
        let mut workload = Self::default();
        for node in nodes.iter().filter(|node| node.devices > 0) {
            let devices = node.devices as i64;
            let class = Class {
                cpu_milli: node.allocatable.cpu_milli / devices,
                memory: node.allocatable.memory / devices,
                count: 1,
                milli: WHOLE_MILLI,
                models: Vec::new(),
            };
            workload.count(class, node.devices as u64);
        }
        workload
    }

    /// Counts so many more pods of a kind.
    pub(super) fn count(&mut self, class: Class, pods: u64) {
        *self.classes.entry(class).or_default() += pods;
    }

    /// How many pods of a kind there were.
    #[cfg(test)]
    pub(super) fn pods_of(&self, class: &Class) -> u64 {
        self.classes.get(class).copied().unwrap_or(0)
    }

    /// The kinds in order, each with how many pods of it there were.
    pub fn classes(&self) -> impl Iterator<Item = (&Class, u64)> + Clone {
        self.classes.iter().map(|(class, &pods)| (class, pods))
    }

    /// How many pods there were.
    pub fn pods(&self) -> u64 {
        self.classes.values().sum()
    }
}
