//! What can be in a pod's way: as data, and in words.

use std::fmt;

use orchestra_core::kind::Taint;
use orchestra_core::kind::accelerator::WHOLE_MILLI;
use orchestra_core::meta::ObjectKey;
use smol_str::SmolStr;

use crate::place::Changes;
use crate::snapshot::HostPort;

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
