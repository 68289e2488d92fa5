//! The smallest changes that would let a pod run.

use std::cmp::Ordering;
use std::fmt;

use orchestra_core::kind::TaintEffect;
use smol_str::SmolStr;

use super::alike;
use crate::fits::{self, Obstacle, write_amount, write_share, write_taint};
use crate::snapshot::{Demand, Ledger, NodeIx};

/// How many remedies an explanation names.
pub const REMEDIES_MAX: usize = 3;

/// A node, and all that would have to change for the pod to run there.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// The node.
    pub node: SmolStr,
    /// What is in the way there: all of it would have to go. Its `Display` says how.
    pub obstacles: Vec<Obstacle>,
}

/// The best remedies, as nodes are looked at one after the other: those with the fewest things in the
/// way, then with the least missing in thousandths of what the node has, then by name. Of those that
/// differ in amounts only the best is kept.
#[derive(Debug, Default)]
pub(super) struct Remedies {
    best: Vec<(i64, Remedy)>,
}

impl Remedies {
    pub(super) fn node(
        &mut self,
        name: &SmolStr,
        found: &[Vec<Obstacle>],
        ledger: &Ledger,
        node: NodeIx,
        demand: &Demand,
    ) {
        let count = found.iter().map(Vec::len).sum::<usize>();
        if let [.., (missing, worst)] = &self.best[..]
            && self.best.len() == REMEDIES_MAX
            && (count, 0) > (worst.obstacles.len(), *missing)
        {
            return;
        }
        let missing = missing(found);
        let better = |other: &(i64, Remedy)| {
            let (other_missing, other) = other;
            (count, missing, name) < (other.obstacles.len(), *other_missing, &other.node)
        };
        // Most nodes are no better than one with the same in its way.
        let flat = || found.iter().flatten();
        let same = |other: &Remedy| {
            other.obstacles.len() == count
                && other.obstacles.iter().zip(flat()).all(|(a, b)| alike(a, b))
        };
        if let Some(known) = self.best.iter().find(|(_, other)| same(other))
            && !better(known)
        {
            return;
        }
        let obstacles = whole(found, ledger, node, demand);
        let same = |other: &Remedy| {
            other.obstacles.len() == obstacles.len()
                && other
                    .obstacles
                    .iter()
                    .zip(&obstacles)
                    .all(|(a, b)| alike(a, b))
        };
        let key = (obstacles.len(), missing, name.clone());
        let before = |(other_missing, other): &(i64, Remedy)| {
            (other.obstacles.len(), *other_missing, &other.node).cmp(&(key.0, key.1, &key.2))
                == Ordering::Less
        };
        if let Some(at) = self.best.iter().position(|(_, other)| same(other)) {
            if before(&self.best[at]) {
                return;
            }
            self.best.remove(at);
        }
        let at = self.best.partition_point(before);
        let node = name.clone();
        self.best.insert(at, (missing, Remedy { node, obstacles }));
        self.best.truncate(REMEDIES_MAX);
    }

    pub(super) fn close(self) -> Vec<Remedy> {
        self.best.into_iter().map(|(_, remedy)| remedy).collect()
    }
}

/// What is missing on a node, in thousandths of what it has.
fn missing(found: &[Vec<Obstacle>]) -> i64 {
    let share = |obstacle: &Obstacle| {
        let total = match obstacle {
            Obstacle::Lacks { total, .. } => (*total).max(1),
            Obstacle::Accelerators { total, .. } => i64::from(*total).max(1),
            _ => return 0,
        };
        let missing = i128::from(obstacle.missing().unwrap_or(0));
        i64::try_from(missing * 1_000 / i128::from(total)).unwrap_or(i64::MAX)
    };
    let shares = found.iter().flatten().map(share);
    shares.fold(0, i64::saturating_add)
}

/// All that is in the way on a node, where rules name the first of a kind only.
fn whole(found: &[Vec<Obstacle>], ledger: &Ledger, node: NodeIx, demand: &Demand) -> Vec<Obstacle> {
    let facts = ledger.snapshot().node(node).facts();
    let mut all = Vec::new();
    for obstacle in found.iter().flatten() {
        match obstacle {
            Obstacle::Taint(_) => {
                let taints = facts.taints.iter().filter(|taint| {
                    taint.effect != TaintEffect::PreferNoSchedule && !fits::tolerated(taint, demand)
                });
                all.extend(taints.cloned().map(Obstacle::Taint));
            }
            Obstacle::NodeSelector { .. } => {
                let lacking = demand
                    .node_selector
                    .iter()
                    .filter(|(key, value)| facts.labels.get(*key) != Some(*value));
                all.extend(lacking.map(|(key, value)| Obstacle::NodeSelector {
                    key: key.clone(),
                    value: value.clone(),
                }));
                // With those labels, that is.
                let mut labels = facts.labels.clone();
                labels.extend(demand.node_selector.clone());
                let affinity = demand.node_affinity.as_ref();
                if affinity.is_some_and(|wants| !wants.matches(&facts.name, &labels)) {
                    all.push(Obstacle::NodeAffinity);
                }
            }
            Obstacle::Port(_) => {
                let taken = demand
                    .host_ports
                    .iter()
                    .filter(|wanted| ledger.ports(node).any(|used| used.conflicts(wanted)));
                all.extend(taken.cloned().map(Obstacle::Port));
            }
            other => all.push(other.clone()),
        }
    }
    all
}

impl fmt::Display for Remedy {
    /// Such as `on node-2, with 500m more cpu and tolerating dedicated=gpu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}", self.node)?;
        let mut separator = ", ";
        for obstacle in &self.obstacles {
            f.write_str(separator)?;
            write_cure(f, obstacle)?;
            separator = " and ";
        }
        Ok(())
    }
}

/// What would do away with an obstacle.
fn write_cure(f: &mut fmt::Formatter<'_>, obstacle: &Obstacle) -> fmt::Result {
    let missing = obstacle.missing().unwrap_or(0);
    match obstacle {
        Obstacle::OtherNode { wanted } => write!(f, "named instead of {wanted}"),
        Obstacle::Closed => f.write_str("opened to new pods"),
        Obstacle::Taint(taint) => {
            f.write_str("tolerating ")?;
            write_taint(f, taint)
        }
        Obstacle::NodeSelector { key, value } => write!(f, "labelled {key}={value}"),
        Obstacle::NodeAffinity => f.write_str("allowed by its node affinity"),
        Obstacle::Lacks { resource, .. } if resource == "pods" => {
            write!(
                f,
                "with {missing} pods fewer, or allowed to run as many more"
            )
        }
        Obstacle::Lacks { resource, .. } => {
            f.write_str("with ")?;
            write_amount(f, resource, missing)?;
            write!(f, " more {resource}")
        }
        Obstacle::Port(port) => write!(f, "with host port {port} free"),
        Obstacle::AcceleratorModel { model } if model.is_empty() => {
            f.write_str("with accelerators of a model that it accepts")
        }
        Obstacle::AcceleratorModel { model } => write!(f, "accepting accelerators {model}"),
        Obstacle::Accelerators { milli, .. } => {
            write!(f, "with {missing} more ")?;
            write_share(f, *milli)
        }
        Obstacle::NoDomain { key } => write!(f, "labelled {key}"),
        Obstacle::Skew { key, max_skew, .. } => {
            let enough = i64::from(*max_skew).saturating_add(missing);
            write!(f, "with maxSkew {enough} over {key}")
        }
        Obstacle::NoCompany {
            key, domain: None, ..
        } => write!(f, "labelled {key}"),
        Obstacle::NoCompany {
            key,
            domain: Some(domain),
            pods,
        } => write!(f, "with {pods} in {key} {domain}"),
        Obstacle::Company { key, domain, pods } => {
            write!(f, "without {pods} in {key} {domain}")
        }
        Obstacle::Unwelcome { key, domain, pods } => {
            write!(
                f,
                "without the pod in {key} {domain} that wants no {pods} near"
            )
        }
        Obstacle::Volume { claim } => write!(f, "within reach of claim {claim}"),
        Obstacle::Data { name } => write!(f, "with data {name}"),
        Obstacle::Other { rule, .. } => write!(f, "once {rule} lets it"),
    }
}
