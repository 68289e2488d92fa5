//! What a node says of itself, and what of that changed.

use std::sync::Arc;

use orchestra_core::kind::{ContainerImage, Node, Taint, TaintEffect, accelerator, locality};
use orchestra_core::meta::Labels;

use smol_str::SmolStr;

use super::{Amounts, hold};
use crate::place::Changes;

/// How many pods a node takes that does not say.
const PODS_PER_NODE: i64 = 110;

/// What a node is, and no pod changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub name: SmolStr,
    /// Its labels.
    pub labels: Labels,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
    /// Whether it is closed to new pods.
    pub unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Amounts,
    /// How many pods may run.
    pub pods: i64,
    /// The images that are there, and their sizes in bytes, sorted by name.
    pub images: Holdings,
    /// The data that is there, and how much of each in bytes, sorted by name.
    pub data: Holdings,
    /// How many accelerators it has.
    pub devices: usize,
    /// Of which model; empty if it does not say.
    pub model: SmolStr,
}

/// Named things that lie on a node, and their sizes in bytes, sorted by name.
pub type Holdings = Arc<[(SmolStr, i64)]>;

/// How large the thing of that name is.
pub(crate) fn size_of(holdings: &[(SmolStr, i64)], name: &str) -> Option<i64> {
    let at = holdings.binary_search_by(|(held, _)| held.as_str().cmp(name));
    at.ok().map(|at| holdings[at].1)
}

impl NodeFacts {
    pub(super) fn is_softly_tainted(&self) -> bool {
        self.taints
            .iter()
            .any(|taint| taint.effect == TaintEffect::PreferNoSchedule)
    }

    pub(super) fn is_hard_tainted(&self) -> bool {
        self.unschedulable
            || self
                .taints
                .iter()
                .any(|taint| taint.effect != TaintEffect::PreferNoSchedule)
    }

    /// Brings every amount between 0 and [`AMOUNT_MAX`](super::AMOUNT_MAX).
    pub(super) fn hold(&mut self) {
        let amounts = &mut self.allocatable;
        for amount in [
            &mut amounts.cpu_milli,
            &mut amounts.memory,
            &mut amounts.storage,
            &mut self.pods,
        ] {
            *amount = hold(*amount);
        }
        for amount in amounts.extended.values_mut() {
            *amount = hold(*amount);
        }
    }

    /// What a node says of itself. Without `allocatable` its whole capacity is; without `pods` it
    /// takes 110.
    pub fn of(node: &Node) -> Self {
        let status = &node.status;
        let list = if status.allocatable.is_empty() {
            &status.capacity
        } else {
            &status.allocatable
        };
        Self {
            name: node.metadata.name.clone(),
            labels: node.metadata.labels.clone(),
            taints: node.spec.taints.clone(),
            unschedulable: node.spec.unschedulable,
            allocatable: Amounts::of(list),
            pods: list
                .get("pods")
                .map_or(PODS_PER_NODE, |pods| hold(pods.as_int())),
            images: images(&status.images),
            data: locality::data_of(node).into(),
            devices: list.get(accelerator::RESOURCE).map_or(0, |count| {
                usize::try_from(count.as_int())
                    .unwrap_or(0)
                    .min(accelerator::DEVICES_MAX)
            }),
            model: node
                .metadata
                .labels
                .get(accelerator::MODEL_LABEL)
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// By every name that an image has.
fn images(images: &[ContainerImage]) -> Holdings {
    let mut all: Vec<(SmolStr, i64)> = images
        .iter()
        .flat_map(|image| {
            image
                .names
                .iter()
                .map(|name| (name.clone(), hold(image.size_bytes)))
        })
        .collect();
    all.sort_unstable();
    all.dedup_by(|later, first| later.0 == first.0);
    all.into()
}

/// What kinds of change lead from `old` to `new`.
pub(super) fn difference(old: &NodeFacts, new: &NodeFacts) -> Changes {
    let (was, is) = (&old.allocatable, &new.allocatable);
    let more = |old: &NodeFacts, new: &NodeFacts| {
        let (was, is) = (&old.allocatable, &new.allocatable);
        let extended = is
            .extended
            .iter()
            .any(|(name, amount)| *amount > was.extended.get(name).copied().unwrap_or(0));
        let had = |name: &SmolStr| super::size_of(&old.data, name).is_some();
        let data = new.data.iter().any(|(name, _)| !had(name));
        is.cpu_milli > was.cpu_milli
            || is.memory > was.memory
            || is.storage > was.storage
            || new.pods > old.pods
            || new.devices > old.devices
            || extended
            || data
    };
    let mut changes = Changes::NONE;
    let mut note = |changed: bool, change| {
        if changed {
            changes = changes.with(change);
        }
    };
    if was != is || old.pods != new.pods || old.devices != new.devices || old.data != new.data {
        note(more(old, new), Changes::NODE_GREW);
        note(more(new, old), Changes::NODE_SHRANK);
    }
    note(old.labels != new.labels, Changes::NODE_LABELS);
    note(old.taints != new.taints, Changes::NODE_TAINTS);
    note(
        old.unschedulable && !new.unschedulable,
        Changes::NODE_OPENED,
    );
    note(
        !old.unschedulable && new.unschedulable,
        Changes::NODE_CLOSED,
    );
    changes
}
