//! The one predicate set: what proposes a placement, what commits it and what drains a node all
//! ask here.
//!
//! Each rule answers with the [`Obstacle`]s it sees; no obstacle means the pod can run there.

mod company;
mod spread;

use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::accelerator::WHOLE_MILLI;
use orchestra_core::kind::{Taint, TaintEffect};
use orchestra_core::meta::ObjectKey;
use smol_str::SmolStr;

pub(crate) use company::PodAffinity;
pub use company::pod_affinity;
pub(crate) use spread::TopologySpread;
pub use spread::topology_spread;

use crate::place::Changes;
use crate::snapshot::{Demand, HostPort, Ledger, NodeFacts, NodeIx, Snapshot, size_of};

/// What a rule says of a pod and a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// The pod can run there.
    Success,
    /// It cannot, but could if pods there were removed.
    Unschedulable,
    /// It cannot, whichever pods were removed.
    UnschedulableAndUnresolvable,
}

/// One thing that keeps a pod off a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The pod names another node.
    OtherNode {
        /// Which.
        wanted: SmolStr,
    },
    /// The node is closed to new pods.
    Closed,
    /// The node has a taint that the pod does not tolerate.
    Taint(Taint),
    /// The node lacks a label that the pod's node selector asks for.
    NodeSelector {
        /// Its key.
        key: SmolStr,
        /// The value asked for.
        value: SmolStr,
    },
    /// The node meets no term of the pod's node affinity.
    NodeAffinity,
    /// The node has too little of something.
    Lacks {
        /// Of what: `cpu` in thousandths of a core, `memory` and `ephemeral-storage` in bytes,
        /// `pods` and everything else in whole units.
        resource: SmolStr,
        /// How much the pod asks.
        asked: i64,
        /// How much is free; below zero where the node has shrunk under its pods.
        free: i64,
        /// How much the node has for all its pods.
        total: i64,
    },
    /// A host port is taken.
    Port(HostPort),
    /// The node's accelerators are of no model that the pod can use.
    AcceleratorModel {
        /// The node's; empty if it does not say, or has none.
        model: SmolStr,
    },
    /// Too few of the node's accelerators have enough free.
    Accelerators {
        /// How many the pod asks.
        asked: u32,
        /// How many thousandths of each.
        milli: u16,
        /// How many have as much free.
        free: u32,
        /// How many the node has.
        total: u32,
    },
    /// The storage that a claim got cannot be used from the node.
    Volume {
        /// The claim.
        claim: ObjectKey,
    },
    /// The node lacks data that the pod needs.
    Data {
        /// Which.
        name: SmolStr,
    },
    /// The node lacks the label whose values are the domains that the pod must spread over.
    NoDomain {
        /// Its key.
        key: SmolStr,
    },
    /// With the pod, its like would lie too unevenly over the domains of a topology key.
    Skew {
        /// The topology key.
        key: SmolStr,
        /// The node's domain.
        domain: SmolStr,
        /// How many pods that count are there.
        pods: i64,
        /// How many the emptiest domain counts as having.
        least: i64,
        /// How far a domain may be above that.
        max_skew: u32,
        /// Whether the pod itself counts.
        adds: bool,
    },
    /// The pod must be near pods of which none is in the node's domain, or the node is in none.
    NoCompany {
        /// The topology key whose equal values make nodes near.
        key: SmolStr,
        /// The node's domain, if it is in one.
        domain: Option<SmolStr>,
        /// Which pods, as a selector.
        pods: SmolStr,
    },
    /// A pod that this one must not be near is in the node's domain.
    Company {
        /// The topology key.
        key: SmolStr,
        /// The node's domain.
        domain: SmolStr,
        /// Which pods, as a selector.
        pods: SmolStr,
    },
    /// A pod that must not be near this one is in the node's domain.
    Unwelcome {
        /// The topology key.
        key: SmolStr,
        /// The node's domain.
        domain: SmolStr,
        /// Which pods it must not be near, as a selector: this one is meant.
        pods: SmolStr,
    },
    /// A rule that is not part of this crate says no.
    Other {
        /// The rule's name.
        rule: &'static str,
        /// What it says, for people.
        note: SmolStr,
        /// Whether pods leaving the node could change it.
        curable: bool,
        /// Which kinds of change could help.
        helped_by: Changes,
    },
}

impl Obstacle {
    /// The rule that sees it, as users know it.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::OtherNode { .. } => "NodeName",
            Self::Closed => "NodeUnschedulable",
            Self::Taint(_) => "TaintToleration",
            Self::NodeSelector { .. } | Self::NodeAffinity => "NodeAffinity",
            Self::Lacks { .. } => "NodeResourcesFit",
            Self::Port(_) => "NodePorts",
            Self::AcceleratorModel { .. } | Self::Accelerators { .. } => "Accelerators",
            Self::Volume { .. } => "VolumeBinding",
            Self::Data { .. } => "DataLocality",
            Self::NoDomain { .. } | Self::Skew { .. } => "PodTopologySpread",
            Self::NoCompany { .. } | Self::Company { .. } | Self::Unwelcome { .. } => {
                "InterPodAffinity"
            }
            Self::Other { rule, .. } => rule,
        }
    }

    /// Whether removing pods from the node could cure it.
    pub fn verdict(&self) -> Verdict {
        let curable = match self {
            Self::Lacks { asked, total, .. } => asked <= total,
            Self::Port(_) | Self::Skew { .. } | Self::Company { .. } | Self::Unwelcome { .. } => {
                true
            }
            Self::Accelerators { asked, total, .. } => asked <= total,
            Self::Other { curable, .. } => *curable,
            _ => false,
        };
        if curable {
            Verdict::Unschedulable
        } else {
            Verdict::UnschedulableAndUnresolvable
        }
    }

    /// Whether it stays, whichever pods come or go.
    pub fn lasts(&self) -> bool {
        match self {
            Self::NoCompany { domain, .. } => domain.is_none(),
            other => other.verdict() == Verdict::UnschedulableAndUnresolvable,
        }
    }

    /// Which kinds of change to the node could remove it. That another node or another pod could
    /// help goes without saying.
    pub fn helped_by(&self) -> Changes {
        match self {
            Self::OtherNode { .. } => Changes::NONE,
            Self::Closed => Changes::NODE_OPENED,
            Self::Taint(_) => Changes::NODE_TAINTS,
            Self::NodeSelector { .. } | Self::NodeAffinity => Changes::NODE_LABELS,
            Self::Lacks { asked, total, .. } if asked > total => Changes::NODE_GREW,
            Self::Lacks { .. } => Changes::NODE_GREW.with(Changes::POD_REMOVED),
            Self::Port(_) => Changes::POD_REMOVED,
            Self::AcceleratorModel { .. } => Changes::NODE_LABELS.with(Changes::NODE_GREW),
            Self::Accelerators { asked, total, .. } if asked > total => Changes::NODE_GREW,
            Self::Accelerators { .. } => Changes::NODE_GREW.with(Changes::POD_REMOVED),
            Self::Volume { .. } => Changes::NODE_LABELS.with(Changes::VOLUMES),
            Self::Data { .. } => Changes::NODE_GREW,
            Self::NoDomain { .. } => Changes::NODE_LABELS,
            // Domains come and go with nodes and what they are; the emptiest may fill up.
            Self::Skew { .. } => Changes::POD_REMOVED
                .with(Changes::POD_ADDED)
                .with(Changes::NODE_LABELS)
                .with(Changes::NODE_TAINTS)
                .with(Changes::NODE_REMOVED),
            Self::NoCompany { domain: None, .. } => Changes::NODE_LABELS,
            Self::NoCompany { .. } => Changes::POD_ADDED
                .with(Changes::POD_REMOVED)
                .with(Changes::NODE_LABELS)
                .with(Changes::NODE_REMOVED)
                .with(Changes::NAMESPACE_LABELS),
            Self::Company { .. } | Self::Unwelcome { .. } => Changes::POD_REMOVED
                .with(Changes::NODE_LABELS)
                .with(Changes::NODE_REMOVED)
                .with(Changes::NAMESPACE_LABELS),
            Self::Other { helped_by, .. } => *helped_by,
        }
    }

    /// How much is missing, for [`Lacks`](Self::Lacks) and, in devices, for
    /// [`Accelerators`](Self::Accelerators); how many pods too many there would be, for
    /// [`Skew`](Self::Skew).
    pub fn missing(&self) -> Option<i64> {
        match self {
            Self::Lacks { asked, free, .. } => Some(asked.saturating_sub(*free)),
            Self::Accelerators { asked, free, .. } => Some(asked.saturating_sub(*free).into()),
            Self::Skew {
                pods,
                least,
                max_skew,
                adds,
                ..
            } => Some(pods + i64::from(*adds) - least - i64::from(*max_skew)),
            _ => None,
        }
    }
}

/// The worst of what obstacles say.
pub fn verdict(obstacles: &[Obstacle]) -> Verdict {
    obstacles
        .iter()
        .map(Obstacle::verdict)
        .max()
        .unwrap_or(Verdict::Success)
}

/// A pod cannot run on a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Misfit {
    /// Which node.
    pub node: SmolStr,
    /// All that is in the way, in the order of the rules. Empty if there is no such node.
    pub obstacles: Vec<Obstacle>,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.obstacles.split_first() else {
            return write!(f, "there is no node {}; plan again", self.node);
        };
        write!(f, "{} does not fit: {first}", self.node)?;
        rest.iter()
            .try_for_each(|obstacle| write!(f, ", {obstacle}"))
    }
}

/// Whether `demand` can be met by the node of that name as `snapshot` shows it.
///
/// # Errors
///
/// All that is in the way.
pub fn fits(snapshot: &Snapshot, node: &str, demand: &Demand) -> Result<NodeIx, Misfit> {
    let misfit = |obstacles| Misfit {
        node: node.into(),
        obstacles,
    };
    let at = snapshot.find(node).ok_or_else(|| misfit(Vec::new()))?;
    match obstacles(&Ledger::open(snapshot), at, demand) {
        none if none.is_empty() => Ok(at),
        some => Err(misfit(some)),
    }
}

/// Takes what `demand` asks of the node of that name, if it can be met: for checking several
/// placements of one plan one after the other.
///
/// # Errors
///
/// All that is in the way; then nothing is taken.
pub fn claim(ledger: &mut Ledger, node: &str, demand: &Arc<Demand>) -> Result<NodeIx, Misfit> {
    let misfit = |obstacles| Misfit {
        node: node.into(),
        obstacles,
    };
    let at = ledger
        .snapshot()
        .find(node)
        .ok_or_else(|| misfit(Vec::new()))?;
    match obstacles(ledger, at, demand) {
        none if none.is_empty() => {
            ledger.charge(at, demand);
            Ok(at)
        }
        some => Err(misfit(some)),
    }
}

/// All that keeps `demand` off `node`, in the order of the rules.
pub fn obstacles(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Vec<Obstacle> {
    let facts = ledger.snapshot().node(node).facts();
    let mut found = Vec::new();
    found.extend(node_name(facts, demand));
    found.extend(unschedulable(facts, demand));
    found.extend(taints(facts, demand));
    found.extend(node_affinity(facts, demand));
    found.extend(resources(ledger, node, demand));
    found.extend(ports(ledger, node, demand));
    found.extend(accelerators(ledger, node, demand));
    found.extend(volumes(ledger.snapshot(), facts, demand));
    found.extend(data(facts, demand));
    found.extend(topology_spread(ledger, node, demand));
    found.extend(pod_affinity(ledger, node, demand));
    found
}

/// The pod names another node.
pub fn node_name(facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let wanted = demand.node_name.as_ref()?;
    (*wanted != facts.name).then(|| Obstacle::OtherNode {
        wanted: wanted.clone(),
    })
}

/// The node is closed to new pods, and the pod does not tolerate that.
pub fn unschedulable(facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let closed = facts.unschedulable && {
        let taint = Taint::new(Taint::UNSCHEDULABLE, TaintEffect::NoSchedule);
        !tolerated(&taint, demand)
    };
    closed.then_some(Obstacle::Closed)
}

/// The first taint that keeps the pod away.
pub fn taints(facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let keeps_away =
        |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule && !tolerated(taint, demand);
    facts
        .taints
        .iter()
        .find(keeps_away)
        .cloned()
        .map(Obstacle::Taint)
}

/// Whether the pod tolerates a taint.
pub fn tolerated(taint: &Taint, demand: &Demand) -> bool {
    demand
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(taint))
}

/// The node selector's first missing label, or else the node affinity.
pub fn node_affinity(facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let missing = demand
        .node_selector
        .iter()
        .find(|(key, value)| facts.labels.get(*key) != Some(*value));
    if let Some((key, value)) = missing {
        return Some(Obstacle::NodeSelector {
            key: key.clone(),
            value: value.clone(),
        });
    }
    let affinity = demand.node_affinity.as_ref()?;
    (!affinity.matches(&facts.name, &facts.labels)).then_some(Obstacle::NodeAffinity)
}

/// Whether `free` is too little. Who asks nothing always gets it, even where less than nothing is
/// left.
pub fn lacks(asked: i64, free: i64) -> bool {
    asked > 0 && asked > free
}

/// Everything the node has too little of: pods, cpu, memory, ephemeral storage, then the rest by
/// name.
pub fn resources(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Vec<Obstacle> {
    let row = ledger.row(node);
    let facts = ledger.snapshot().node(node).facts();
    let (asked, total) = (&demand.requests, &facts.allocatable);
    let columns = [
        ("pods", 1, row.pods_free[0], facts.pods),
        ("cpu", asked.cpu_milli, row.cpu_free[0], total.cpu_milli),
        ("memory", asked.memory, row.memory_free[0], total.memory),
        (
            "ephemeral-storage",
            asked.storage,
            row.storage_free[0],
            total.storage,
        ),
    ];
    let mut found: Vec<Obstacle> = columns
        .into_iter()
        .filter(|&(_, asked, free, _)| lacks(asked, free))
        .map(|(name, asked, free, total)| Obstacle::Lacks {
            resource: SmolStr::new_static(name),
            asked,
            free,
            total,
        })
        .collect();
    for (name, &amount) in &asked.extended {
        let free = ledger.extended_free(node, name);
        if lacks(amount, free) {
            let total = total.extended.get(name).copied().unwrap_or(0);
            found.push(Obstacle::Lacks {
                resource: name.clone(),
                asked: amount,
                free,
                total,
            });
        }
    }
    found
}

/// The first claim whose storage cannot be used from the node, as far as that is known.
pub fn volumes(snapshot: &Snapshot, facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let mut claims = demand.reads.as_deref()?.claims.iter();
    let out_of_reach = |claim: &&ObjectKey| {
        let nodes = snapshot.volume(claim);
        nodes.is_some_and(|nodes| !nodes.matches(&facts.name, &facts.labels))
    };
    let claim = claims.find(out_of_reach)?.clone();
    Some(Obstacle::Volume { claim })
}

/// The first data that the pod needs and the node lacks.
pub fn data(facts: &NodeFacts, demand: &Demand) -> Option<Obstacle> {
    let mut needs = demand.reads.as_deref()?.needs.iter();
    let name = needs.find(|name| size_of(&facts.data, name).is_none())?;
    Some(Obstacle::Data { name: name.clone() })
}

/// The first host port that is taken.
pub fn ports(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Option<Obstacle> {
    let taken = |wanted: &&HostPort| ledger.ports(node).any(|used| used.conflicts(wanted));
    demand
        .host_ports
        .iter()
        .find(taken)
        .cloned()
        .map(Obstacle::Port)
}

/// The node's accelerators are of another model, or too few have enough free. Devices that the pod
/// [holds](orchestra_core::kind::accelerator::AcceleratorAsk::held) already have to be free
/// themselves.
pub fn accelerators(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Option<Obstacle> {
    let ask = demand.accelerators.as_ref()?;
    let facts = ledger.snapshot().node(node).facts();
    let devices = &ledger.row(node).devices[0];
    if !ask.takes(&facts.model) {
        return Some(Obstacle::AcceleratorModel {
            model: facts.model.clone(),
        });
    }
    let free = if ask.held.is_empty() {
        devices.with_free(ask.milli)
    } else {
        let has = |device: &usize| devices.free().get(*device).copied().unwrap_or(0);
        ask.held
            .iter()
            .filter(|device| has(device) >= ask.milli.into())
            .count()
    };
    (free < ask.count as usize).then(|| Obstacle::Accelerators {
        asked: ask.count,
        milli: ask.milli,
        free: free as u32,
        total: devices.len() as u32,
    })
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNode { wanted } => write!(f, "the pod names {wanted}"),
            Self::Closed => f.write_str("closed to new pods"),
            Self::Taint(taint) => {
                f.write_str("untolerated taint ")?;
                write_taint(f, taint)
            }
            Self::NodeSelector { key, value } => write!(f, "no label {key}={value}"),
            Self::NodeAffinity => f.write_str("not what its node affinity asks"),
            Self::Lacks { resource, .. } => {
                write!(f, "misses ")?;
                write_amount(f, resource, self.missing().unwrap_or(0))?;
                write!(f, " {resource}")
            }
            Self::Port(port) => write!(f, "host port {port} is taken"),
            Self::AcceleratorModel { model } if model.is_empty() => {
                f.write_str("its accelerators are of no known model")
            }
            Self::AcceleratorModel { model } => write!(f, "its accelerators are {model}"),
            Self::Accelerators { milli, .. } => {
                write!(f, "misses {} ", self.missing().unwrap_or(0))?;
                write_share(f, *milli)
            }
            Self::Volume { claim } => write!(f, "out of reach of claim {claim}"),
            Self::Data { name } => write!(f, "no data {name}"),
            Self::NoDomain { key } => write!(f, "no label {key} to spread over"),
            Self::Skew {
                key,
                domain,
                pods,
                least,
                max_skew,
                ..
            } => write!(
                f,
                "{key} {domain} has {pods}, the least has {least}, maxSkew {max_skew}"
            ),
            Self::NoCompany {
                key, domain: None, ..
            } => write!(f, "no label {key} to be near pods by"),
            Self::NoCompany {
                key,
                domain: Some(domain),
                pods,
            } => write!(f, "no {pods} in {key} {domain} to be near"),
            Self::Company { key, domain, pods } => {
                write!(f, "{pods} in {key} {domain} is not to be near")
            }
            Self::Unwelcome { key, domain, pods } => {
                write!(f, "a pod in {key} {domain} wants no {pods} near")
            }
            Self::Other { rule, note, .. } => write!(f, "{rule}: {note}"),
        }
    }
}

pub(crate) fn write_taint(f: &mut fmt::Formatter<'_>, taint: &Taint) -> fmt::Result {
    f.write_str(&taint.key)?;
    if !taint.value.is_empty() {
        write!(f, "={}", taint.value)?;
    }
    Ok(())
}

/// The kind of device that a pod misses.
pub(crate) fn write_share(f: &mut fmt::Formatter<'_>, milli: u16) -> fmt::Result {
    match milli {
        WHOLE_MILLI => f.write_str("whole accelerators"),
        _ => write!(f, "accelerators with {milli}m free"),
    }
}

/// An amount of a resource in the unit people read it in.
pub(crate) fn write_amount(f: &mut fmt::Formatter<'_>, resource: &str, amount: i64) -> fmt::Result {
    const UNITS: [(i64, &str); 4] = [
        (1 << 40, "Ti"),
        (1 << 30, "Gi"),
        (1 << 20, "Mi"),
        (1 << 10, "Ki"),
    ];
    match resource {
        "cpu" if amount % 1_000 == 0 => write!(f, "{}", amount / 1_000),
        "cpu" => write!(f, "{amount}m"),
        "memory" | "ephemeral-storage" => {
            let exact = UNITS
                .into_iter()
                .find(|(unit, _)| amount >= *unit && amount % unit == 0);
            let close = || UNITS.into_iter().find(|(unit, _)| amount / 10 >= *unit);
            match exact
                .filter(|(unit, _)| amount / unit < 10_000)
                .or_else(close)
            {
                Some((unit, suffix)) => write!(
                    f,
                    "{}{suffix}",
                    amount.div_euclid(unit) + i64::from(amount % unit != 0)
                ),
                None => write!(f, "{amount}"),
            }
        }
        _ => write!(f, "{amount}"),
    }
}
