//! Policies by name.

use std::collections::BTreeMap;
use std::fmt;

use smol_str::SmolStr;

use super::Trace;
use crate::place::packing::{self, Largest, Learning, Packing, Target};
use crate::place::plugin::{DeviceChoice, Scorer};
use crate::snapshot::Demand;

/// What wins among nodes of equal score.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ties {
    /// The same order for every pod: the ranks of the trace, or else an order drawn from the seed.
    Ranked,
    /// Any of them, drawn from the seed for each pod.
    Drawn,
}

/// How a pod's node is chosen among those it fits on.
#[derive(Debug)]
pub struct Policy {
    /// What it is called.
    pub name: SmolStr,
    /// Ranks the nodes, the highest first; without it all are equal.
    pub scorer: Option<Box<dyn Scorer>>,
    /// Says which devices; without it, the tightest.
    pub devices: Option<Box<dyn DeviceChoice>>,
    /// What wins among equals.
    pub ties: Ties,
    /// Learns from what comes; without it the policy stays as it is.
    pub learner: Option<Box<dyn Learner>>,
}

/// Takes note of what comes, and changes a policy by it.
///
/// # Contract
///
/// What it answers depends on what it began with and on which pods have come, in their order, on nothing else.
pub trait Learner: fmt::Debug + Send + Sync {
    /// One that knows what this one does. Each game begins with one, and changes no other.
    fn fork(&self) -> Box<dyn Learner>;

    /// Takes note of a pod that comes. What it answers is the policy for this pod and those after it; `None` if
    /// it stays as it was. Only its scorer and its choice of devices count.
    fn arrive(&mut self, pod: &Demand) -> Option<Policy>;
}

impl Learner for Learning {
    fn fork(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn arrive(&mut self, pod: &Demand) -> Option<Policy> {
        Some(packed("orchestra", self.arrive(pod)?))
    }
}

fn packed(name: impl Into<SmolStr>, packing: Packing) -> Policy {
    Policy::scored(name, packing.clone()).devices(packing)
}

impl Policy {
    /// All nodes alike: the first in order that fits.
    pub fn first_fit(name: impl Into<SmolStr>) -> Self {
        Self {
            name: name.into(),
            scorer: None,
            devices: None,
            ties: Ties::Ranked,
            learner: None,
        }
    }

    /// The highest score wins.
    pub fn scored(name: impl Into<SmolStr>, scorer: impl Scorer + 'static) -> Self {
        Self {
            scorer: Some(Box::new(scorer)),
            ..Self::first_fit(name)
        }
    }

    /// With a choice of devices.
    #[must_use]
    pub fn devices(mut self, devices: impl DeviceChoice + 'static) -> Self {
        self.devices = Some(Box::new(devices));
        self
    }

    /// With a learner.
    #[must_use]
    pub fn learner(mut self, learner: impl Learner + 'static) -> Self {
        self.learner = Some(Box::new(learner));
        self
    }
}

type Make = Box<dyn Fn(&Trace) -> Policy + Send + Sync>;

/// The policies there are. A policy is made for a trace: it may learn from its nodes and workload.
pub struct Policies {
    by_name: BTreeMap<SmolStr, Make>,
}

/// There is no such policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no policy {name:?}; choose among {known}")]
pub struct UnknownPolicy {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: String,
}

impl Policies {
    /// Those that are shipped: `best-fit`, `dot-product`, `fgd`, `first-fit`, `gpu-clustering`,
    /// `gpu-packing`, `orchestra` and `random`. Where nothing is known of the workload, `fgd` is told the
    /// mix of the trace's pods all the same, as nothing is published on what it would do without;
    /// `orchestra` is not.
    pub fn known() -> Self {
        let none = Self {
            by_name: BTreeMap::new(),
        };
        none.packing("best-fit", |trace| {
            packing::best_fit(Largest::among(&trace.nodes))
        })
        .packing("dot-product", |trace| {
            packing::dot_product(Largest::among(&trace.nodes))
        })
        .packing("fgd", |trace| packing::fgd(Target::of(&trace.mix())))
        .packing("gpu-clustering", |_| packing::gpu_clustering())
        .packing("gpu-packing", |_| packing::gpu_packing())
        .with("orchestra", |trace| {
            let learning = Learning::new(trace.workload.clone(), &trace.nodes);
            packed("orchestra", learning.packing()).learner(learning)
        })
        .with("first-fit", |_| Policy::first_fit("first-fit"))
        .with("random", |_| Policy {
            ties: Ties::Drawn,
            ..Policy::first_fit("random")
        })
    }

    fn packing(self, name: &'static str, make: fn(&Trace) -> Packing) -> Self {
        self.with(name, move |trace| packed(name, make(trace)))
    }

    /// With one more, or with another of that name.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<SmolStr>,
        make: impl Fn(&Trace) -> Policy + Send + Sync + 'static,
    ) -> Self {
        self.by_name.insert(name.into(), Box::new(make));
        self
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(SmolStr::as_str)
    }

    /// The policy of that name, made for a trace.
    ///
    /// # Errors
    ///
    /// If there is none, with the names there are.
    pub fn make(&self, name: &str, trace: &Trace) -> Result<Policy, UnknownPolicy> {
        let make = self.by_name.get(name).ok_or_else(|| UnknownPolicy {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })?;
        Ok(make(trace))
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
