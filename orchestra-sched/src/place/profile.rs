//! Which plugins decide.

use orchestra_core::kind::accelerator::DeviceSet;

use super::ask::{Faults, contain};
use super::plugin::{Cycle, DeviceChoice, Filter, ReserveFactory, Scorer};
use super::{filter, score};
use crate::snapshot::{Demand, NodeIx};

/// The largest weight of a scorer.
pub const WEIGHT_MAX: u32 = 100;

/// Which plugins decide, and how much each counts.
#[derive(Debug)]
pub struct Profile {
    pub(super) filters: Vec<Box<dyn Filter>>,
    pub(super) scorers: Vec<(Box<dyn Scorer>, u32)>,
    pub(super) reserves: Vec<Box<dyn ReserveFactory>>,
    pub(super) devices: Option<Box<dyn DeviceChoice>>,
    pub(super) preempts: bool,
}

impl Profile {
    /// No rules: every pod goes anywhere.
    pub fn empty() -> Self {
        Self {
            filters: Vec::new(),
            scorers: Vec::new(),
            reserves: Vec::new(),
            devices: None,
            preempts: true,
        }
    }

    /// Never has pods evicted to make room for others.
    #[must_use]
    pub fn without_preemption(mut self) -> Self {
        self.preempts = false;
        self
    }

    /// Adds a filter behind those there are. A node counts as turned down by the first that does,
    /// so what no placement changes comes first.
    #[must_use]
    pub fn filter(mut self, filter: impl Filter + 'static) -> Self {
        self.filters.push(Box::new(filter));
        self
    }

    /// Adds a scorer. `weight` is held between 0 and [`WEIGHT_MAX`].
    #[must_use]
    pub fn scorer(mut self, scorer: impl Scorer + 'static, weight: u32) -> Self {
        self.scorers
            .push((Box::new(scorer), weight.min(WEIGHT_MAX)));
        self
    }

    /// Adds a keeper of accounts, asked once a node is chosen.
    #[must_use]
    pub fn reserve(mut self, factory: impl ReserveFactory + 'static) -> Self {
        self.reserves.push(Box::new(factory));
        self
    }

    /// Lets `choice` say which accelerators of its node a pod gets; without one it is the
    /// [tightest](crate::snapshot::Devices::tightest), and so it is where what it says cannot be had.
    #[must_use]
    pub fn devices(mut self, choice: impl DeviceChoice + 'static) -> Self {
        self.devices = Some(Box::new(choice));
        self
    }

    /// Which accelerators of `node` the pod gets; `demand` is what it asks.
    pub(super) fn choose_devices(
        &self,
        cycle: &Cycle<'_>,
        demand: &Demand,
        faults: &Faults,
        node: NodeIx,
    ) -> DeviceSet {
        let usual = || cycle.ledger.devices_for(node, demand);
        match (&self.devices, &demand.accelerators) {
            (Some(choice), Some(wanted)) if wanted.held.is_empty() => {
                let devices = &cycle.ledger.row(node).devices[0];
                contain(|| choice.choose(cycle, node))
                    .unwrap_or_else(|panic| {
                        faults.add("DeviceChoice", cycle.pod, panic);
                        None
                    })
                    .filter(|set| devices.can_on(wanted, *set))
                    .unwrap_or_else(usual)
            }
            _ => usual(),
        }
    }
}

impl Profile {
    /// Its filters, in the order in which they are asked.
    pub fn filters(&self) -> impl Iterator<Item = &dyn Filter> {
        self.filters.iter().map(|filter| &**filter)
    }

    /// Its scorers and their weights, in the order in which they were added.
    pub fn scorers(&self) -> impl Iterator<Item = (&dyn Scorer, u32)> {
        self.scorers
            .iter()
            .map(|(scorer, weight)| (&**scorer, *weight))
    }
}

impl Default for Profile {
    /// The rules and weights that Kubernetes' users know.
    fn default() -> Self {
        Self::empty()
            .filter(filter::NodeUnschedulable)
            .filter(filter::NodeName)
            .filter(filter::TaintToleration)
            .filter(filter::NodeAffinity)
            .filter(filter::NodePorts)
            .filter(filter::NodeResourcesFit)
            .filter(filter::Accelerators)
            .filter(filter::VolumeBinding)
            .filter(filter::DataLocality)
            .filter(filter::PodTopologySpread)
            .filter(filter::InterPodAffinity)
            .scorer(score::TaintToleration, 3)
            .scorer(score::NodeAffinity, 2)
            .scorer(score::PodTopologySpread, 2)
            .scorer(score::InterPodAffinity, 2)
            .scorer(score::LeastAllocated::default(), 1)
            .scorer(score::BalancedAllocation, 1)
            .scorer(score::ImageLocality, 1)
            .scorer(score::DataLocality, 1)
    }
}
