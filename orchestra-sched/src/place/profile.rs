//! Which plugins decide.

use orchestra_core::kind::accelerator::DeviceSet;

use super::ask::{Faults, contain};
use super::plugin::{Cycle, DeviceChoice, Filter, ReserveFactory, Scorer};
use super::{filter, score};
use crate::snapshot::{Demand, NodeIx};

/// The largest weight of a scorer.
pub const WEIGHT_MAX: u32 = 100;

/// A plugin was named that a profile does not have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no plugin {name:?} in this profile; it has {known}")]
pub struct UnknownPlugin {
    /// The name.
    pub name: String,
    /// Those there are, with commas between them.
    pub known: String,
}

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

    /// Takes out the filters and scorers of that name, for instance to put others in their place: of
    /// `PodTopologySpread`, which is both, what must be spread and what had better be.
    ///
    /// ```
    /// use orchestra_sched::place::{Profile, score};
    ///
    /// // The usual rules, but packed rather than spread.
    /// let profile = Profile::default()
    ///     .without("LeastAllocated")?
    ///     .scorer(score::MostAllocated::default(), 1);
    /// # drop(profile);
    /// # Ok::<(), orchestra_sched::place::UnknownPlugin>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub fn without(mut self, name: &str) -> Result<Self, UnknownPlugin> {
        let before = self.names().count();
        let known: Vec<&str> = self.names().collect();
        let known = known.join(", ");
        self.filters.retain(|filter| filter.name() != name);
        self.scorers.retain(|(scorer, _)| scorer.name() != name);
        if self.names().count() == before {
            let name = name.to_owned();
            return Err(UnknownPlugin { name, known });
        }
        Ok(self)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let filters = self.filters.iter().map(|filter| filter.name());
        filters.chain(self.scorers.iter().map(|(scorer, _)| scorer.name()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_is_asked_no_more_and_a_wrong_name_is_told() {
        let both = Profile::default().without("TaintToleration").unwrap();
        assert!(both.names().all(|name| name != "TaintToleration"));
        let usual = Profile::default();
        assert_eq!(both.names().count() + 2, usual.names().count());
        let error = Profile::empty()
            .filter(filter::NodeName)
            .scorer(score::ImageLocality, 1)
            .without("Nodename")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no plugin \"Nodename\" in this profile; it has NodeName, ImageLocality"
        );
    }
}
