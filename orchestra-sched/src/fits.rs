//! The one predicate set: what proposes a placement, what commits it and what drains a node all
//! ask here.
//!
//! Each rule answers with the [`Obstacle`]s it sees; no obstacle means the pod can run there.

mod company;
mod obstacle;
mod spread;

use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::{Taint, TaintEffect};
use orchestra_core::meta::ObjectKey;
use smol_str::SmolStr;

pub(crate) use company::PodAffinity;
pub use company::pod_affinity;
pub use obstacle::{Obstacle, Verdict, verdict};
pub(crate) use obstacle::{write_amount, write_share, write_taint};
pub(crate) use spread::TopologySpread;
pub use spread::topology_spread;

use crate::snapshot::{Demand, HostPort, Ledger, NodeFacts, NodeIx, Snapshot, size_of};

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
