//! Snapshots, kept up to date change by change.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::{Namespace, Node, Pod, PodDisruptionBudget};
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::port::store::Revision;
use orchestra_core::selector::NodeSelector;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::columns::Load;
use super::facts::difference;
use super::history::Mark;
use super::shapes::Shapes;
use super::{Demand, NodeFacts, NodeIx, NodeRow, PodId, Running, Snapshot, Usage};
use crate::budget::Budget;
use crate::place::{Changes, Pending};

/// Follows nodes and pods, and hands out what the cluster looks like.
///
/// A change costs what it changes: one row, and its node's list of pods. Where snapshots are
/// dropped before the next change nothing is copied, and where one at a time is held across changes
/// two sets of columns take turns, each brought up to date row by row. Only where several are held
/// at once the first change after each copies the columns (48 bytes a node for a pod, and some 70
/// for a node). Pods that ask the same share what they ask.
///
/// Nodes and pods may come in any order: pods of a node that is not known count from when it is.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    current: Snapshot,
    /// Columns that an older snapshot had, and when they were right: once it is gone, they are
    /// brought up to date instead of copying those that a newer one has.
    spare: Option<(Arc<Load>, Mark)>,
    /// What pods ask, each once.
    shapes: Shapes,
    /// Every pod that counts, and the node it counts against.
    pods: BTreeMap<PodId, (SmolStr, Arc<Running>)>,
    /// Pods of nodes that are not known.
    waiting: BTreeMap<SmolStr, Vec<Arc<Running>>>,
    /// How many pods of each priority count.
    priorities: BTreeMap<i32, usize>,
}

impl Clone for SnapshotBuilder {
    /// One that knows the same and goes its own way from here.
    fn clone(&self) -> Self {
        let mut current = self.current.clone();
        current.history.part();
        Self {
            current,
            spare: None,
            shapes: self.shapes.clone(),
            pods: self.pods.clone(),
            waiting: self.waiting.clone(),
            priorities: self.priorities.clone(),
        }
    }
}

impl SnapshotBuilder {
    /// No nodes, no pods.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster as it is now. `base` is the revision of the store up to which changes were
    /// applied.
    pub fn snapshot(&self, base: Revision) -> Snapshot {
        Snapshot {
            base,
            lowest_priority: self.priorities.keys().next().copied(),
            ..self.current.clone()
        }
    }

    /// Goes on from a snapshot. Knows its pods by their nodes only, not by their ids.
    pub(super) fn onto(snapshot: &Snapshot) -> Self {
        let mut current = snapshot.clone();
        current.history.part();
        Self {
            current,
            ..Self::default()
        }
    }

    pub(super) fn current(&self) -> &Snapshot {
        &self.current
    }

    /// The pods of a node that is not known, which do not wait for it any more.
    pub(super) fn forget(&mut self, node: &str) -> Vec<Arc<Running>> {
        self.waiting.remove(node).unwrap_or_default()
    }

    /// Adds a node, or makes it what it is now, with [what it says that it
    /// uses](orchestra_core::kind::usage). Says what changed; nothing if it is what it was.
    pub fn apply_node(&mut self, node: &Node) -> Changes {
        let changes = self.set_node(NodeFacts::of(node));
        let seen = Usage::of(node);
        let at = self.current.find(&node.metadata.name);
        if seen.is_some() && seen.as_ref() != at.and_then(|at| self.current.node(at).usage()) {
            self.set_usage(&node.metadata.name, seen);
        }
        changes
    }

    /// Adds a node by its facts, or makes it what they say. Amounts are held between 0 and
    /// [`AMOUNT_MAX`](super::AMOUNT_MAX).
    pub fn set_node(&mut self, mut facts: NodeFacts) -> Changes {
        facts.hold();
        self.share_names(&mut facts);
        let Some(at) = self.current.find(&facts.name) else {
            self.add_node(facts);
            return Changes::NODE_ADDED;
        };
        let old = Arc::clone(&self.current.node(at).facts);
        let changes = difference(&old, &facts);
        if *old == facts {
            return Changes::NONE;
        }
        self.count_images(&old.images, &facts.images);
        let current = &mut self.current;
        current.history.note_facts(at);
        Arc::make_mut(&mut current.capacity).set(at.row(), &old, &facts);
        if old.allocatable != facts.allocatable || old.pods != facts.pods {
            load_mut(current, &mut self.spare).resize(at.row(), &old, &facts);
        }
        let devices = old.devices != facts.devices;
        if let Some(row) = current.rows.get_mut(at.row()) {
            Arc::make_mut(row).facts = Arc::new(facts);
        }
        if devices {
            self.recount_devices(at);
        }
        changes
    }

    /// Takes a node out. Its pods count again if it comes back.
    pub fn remove_node(&mut self, name: &str) -> Changes {
        let current = &mut self.current;
        let Some(at) = current.find(name) else {
            return Changes::NONE;
        };
        current.names.unset(name);
        current.history.note_facts(at);
        let Some(gone) = current.rows.swap_remove(at.row()) else {
            return Changes::NONE;
        };
        Arc::make_mut(&mut current.capacity).swap_remove(at.row(), &gone.facts);
        load_mut(current, &mut self.spare).swap_remove(at.row());
        if let Some(moved) = current.rows.get(at.row()) {
            current.names.set(&moved.facts.name, at);
        }
        let reaching = gone.pods.iter().filter(|pod| pod.demand.reaches_others());
        current.reaching -= reaching.count();
        if !gone.pods.is_empty() {
            self.waiting
                .insert(gone.facts.name.clone(), gone.pods.clone());
        }
        self.count_images(&gone.facts.images, &[]);
        Changes::NODE_REMOVED
    }

    /// Makes a pod count for what it is now: against its node if it has one and has not ended,
    /// and for nothing otherwise.
    pub fn apply_pod(&mut self, pod: &Pod) -> Changes {
        let id = PodId::of(pod);
        if pod.spec.node_name.is_empty() || pod.is_terminal() {
            return self.remove_pod(&id);
        }
        let running = Running {
            id,
            demand: self.shapes.of(pod),
            priority: pod.spec.priority.unwrap_or(0),
            started: pod.status.start_time,
            terminating: pod.is_terminating(),
        };
        self.set_pod(&pod.spec.node_name, running)
    }

    /// A pod that wants a node, as [`Pending::of`] says: what it asks is shared with those that ask the
    /// same.
    pub fn pending(&mut self, pod: &Pod, now: Timestamp) -> Pending {
        match pod.node_name() {
            None => Pending::asking(pod, self.shapes.of(pod), now),
            Some(_) => Pending::of(pod, now),
        }
    }

    /// Makes a pod count against the node of that name, and no other.
    pub fn set_pod(&mut self, node: &str, mut running: Running) -> Changes {
        let mut changes = Changes::POD_ADDED;
        if gang_of(&running).is_some() {
            changes = changes.with(Changes::GANG_GREW);
        }
        if let Some((old_node, old)) = self.pods.get(&running.id) {
            let same_demand =
                Arc::ptr_eq(&old.demand, &running.demand) || old.demand == running.demand;
            if old_node == node && same_demand && old.terminating == running.terminating {
                running.demand = Arc::clone(&old.demand);
                if old.priority == running.priority {
                    if old.started != running.started {
                        self.renew(node, running);
                    }
                    return Changes::NONE;
                }
                changes = Changes::NONE;
            } else {
                changes = changes.with(Changes::POD_REMOVED);
            }
            let id = running.id.clone();
            self.remove_pod(&id);
        }
        running.demand = self.shapes.share(running.demand);
        let running = Arc::new(running);
        *self.priorities.entry(running.priority).or_default() += 1;
        self.count_in_gang(&running, 1);
        self.pods
            .insert(running.id.clone(), (node.into(), Arc::clone(&running)));
        match self.current.find(node) {
            Some(at) => self.count(at, running),
            None => self.waiting.entry(node.into()).or_default().push(running),
        }
        changes
    }

    /// Puts a pod in the place of the one of its id on `node`, which takes as much.
    fn renew(&mut self, node: &str, running: Running) {
        let running = Arc::new(running);
        if let Some((_, known)) = self.pods.get_mut(&running.id) {
            *known = Arc::clone(&running);
        }
        let current = &mut self.current;
        let pods = match current.find(node) {
            Some(at) => {
                current.history.note(at);
                let row = current.rows.get_mut(at.row());
                row.map(|row| &mut Arc::make_mut(row).pods)
            }
            None => self.waiting.get_mut(node),
        };
        let mut pods = pods.into_iter().flatten();
        if let Some(known) = pods.find(|known| known.id == running.id) {
            *known = running;
        }
    }

    /// Makes a pod count for nothing. Harmless if it did not count.
    pub fn remove_pod(&mut self, id: &PodId) -> Changes {
        let Some((node, running)) = self.pods.remove(id) else {
            return Changes::NONE;
        };
        self.count_in_gang(&running, -1);
        if let Some(count) = self.priorities.get_mut(&running.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&running.priority);
            }
        }
        if let Some(at) = self.current.find(&node) {
            self.discount(at, &running);
        } else if let Some(waiting) = self.waiting.get_mut(&node) {
            waiting.retain(|other| other.id != *id);
            if waiting.is_empty() {
                self.waiting.remove(&node);
            }
        }
        Changes::POD_REMOVED
    }

    fn count_in_gang(&mut self, running: &Running, by: isize) {
        let Some(gang) = gang_of(running) else {
            return;
        };
        let gangs = Arc::make_mut(&mut self.current.gangs);
        let gang = (running.demand.namespace.clone(), gang.clone());
        let size = gangs.get(&gang).copied().unwrap_or(0);
        match size.saturating_add_signed(by) {
            0 => gangs.remove(&gang),
            size => gangs.insert(gang, size),
        };
    }

    /// Makes a disruption budget what it is now.
    pub fn apply_budget(&mut self, budget: &PodDisruptionBudget) {
        self.set_budget(Budget::of(budget));
    }

    /// Adds a disruption budget, or replaces the one of that name.
    pub fn set_budget(&mut self, budget: Budget) {
        let budgets = Arc::make_mut(&mut self.current.budgets);
        match budgets.binary_search_by(|other| other.key.cmp(&budget.key)) {
            Ok(at) => budgets[at] = budget,
            Err(at) => budgets.insert(at, budget),
        }
    }

    /// Takes a disruption budget out. Harmless if there is none of that name.
    pub fn remove_budget(&mut self, key: &ObjectKey) {
        if self.current.budgets.iter().any(|budget| budget.key == *key) {
            Arc::make_mut(&mut self.current.budgets).retain(|budget| budget.key != *key);
        }
    }

    /// Notes what a node was seen to use; `None` forgets it. Nothing if there is no such node.
    pub fn set_usage(&mut self, node: &str, usage: Option<Usage>) {
        if let Some(at) = self.current.find(node)
            && let Some(row) = self.current.rows.get_mut(at.row())
        {
            Arc::make_mut(row).usage = usage;
            self.current.history.note(at);
        }
    }

    /// Notes which nodes the storage that a claim got can be used from.
    pub fn set_volume(&mut self, claim: ObjectKey, nodes: NodeSelector) -> Changes {
        if self.current.volumes.get(&claim) == Some(&nodes) {
            return Changes::NONE;
        }
        Arc::make_mut(&mut self.current.volumes).insert(claim, nodes);
        self.current.history.part();
        Changes::VOLUMES
    }

    /// Forgets where a claim can be used: anywhere, then.
    pub fn remove_volume(&mut self, claim: &ObjectKey) -> Changes {
        if !self.current.volumes.contains_key(claim) {
            return Changes::NONE;
        }
        Arc::make_mut(&mut self.current.volumes).remove(claim);
        self.current.history.part();
        Changes::VOLUMES
    }

    /// Makes a namespace have the labels it has: affinity terms select namespaces by them.
    pub fn apply_namespace(&mut self, namespace: &Namespace) -> Changes {
        let (name, labels) = (&namespace.metadata.name, &namespace.metadata.labels);
        self.set_namespace(name, labels.clone())
    }

    /// Makes a namespace have these labels.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) -> Changes {
        if self.current.namespaces.get(name) == Some(&labels) {
            return Changes::NONE;
        }
        self.current.history.note_world();
        Arc::make_mut(&mut self.current.namespaces).insert(name.into(), labels);
        Changes::NAMESPACE_LABELS
    }

    /// Forgets a namespace's labels.
    pub fn remove_namespace(&mut self, name: &str) -> Changes {
        if !self.current.namespaces.contains_key(name) {
            return Changes::NONE;
        }
        self.current.history.note_world();
        Arc::make_mut(&mut self.current.namespaces).remove(name);
        Changes::NAMESPACE_LABELS
    }

    /// The node a pod counts against.
    pub fn node_of(&self, id: &PodId) -> Option<&SmolStr> {
        self.pods.get(id).map(|(node, _)| node)
    }

    /// Makes the names of images those that other nodes' facts hold: thousands of nodes have the
    /// same.
    fn share_names(&self, facts: &mut NodeFacts) {
        let known = &self.current.images;
        if facts.images.is_empty() || known.is_empty() {
            return;
        }
        let shared = |(name, size): &(SmolStr, i64)| {
            let name = known.get_key_value(name).map_or(name, |(name, _)| name);
            (name.clone(), *size)
        };
        facts.images = facts.images.iter().map(shared).collect();
    }

    /// Counts a node whose images were `old` and are `new`.
    fn count_images(&mut self, old: &[(SmolStr, i64)], new: &[(SmolStr, i64)]) {
        if old == new {
            return;
        }
        let current = &mut self.current;
        let images = Arc::make_mut(&mut current.images);
        for (name, _) in new {
            *images.entry(name.clone()).or_default() += 1;
        }
        for (name, _) in old {
            if let Some(nodes) = images.get_mut(name) {
                *nodes -= 1;
                if *nodes == 0 {
                    images.remove(name);
                }
            }
        }
    }

    fn add_node(&mut self, facts: NodeFacts) {
        self.count_images(&[], &facts.images);
        let current = &mut self.current;
        let at = NodeIx::from_row(current.rows.len());
        let pods = self.waiting.remove(&facts.name).unwrap_or_default();
        Arc::make_mut(&mut current.capacity).push(&facts);
        load_mut(current, &mut self.spare).push(&facts);
        current.history.note_facts(at);
        current.names.set(&facts.name, at);
        current.rows.push(Arc::new(NodeRow {
            facts: Arc::new(facts),
            ..NodeRow::default()
        }));
        for running in pods {
            self.count(at, running);
        }
    }

    pub(super) fn count(&mut self, at: NodeIx, running: Arc<Running>) {
        self.current.history.note(at);
        load_mut(&mut self.current, &mut self.spare).charge(at.row(), &running.demand);
        self.current.reaching += usize::from(running.demand.reaches_others());
        if let Some(row) = self.current.rows.get_mut(at.row()) {
            let devices = running.demand.accelerators.is_some();
            Arc::make_mut(row).add(running);
            if devices {
                self.recount_devices(at);
            }
        }
    }

    /// Makes the row of devices show what the node's pods hold.
    fn recount_devices(&mut self, at: NodeIx) {
        if let Some(row) = self.current.rows.get(at.row()) {
            let (devices, _) = row.devices();
            let load = load_mut(&mut self.current, &mut self.spare);
            Arc::make_mut(&mut load.devices)[at.row()] = devices;
        }
    }

    pub(super) fn discount(&mut self, at: NodeIx, running: &Running) {
        self.current.history.note(at);
        load_mut(&mut self.current, &mut self.spare).refund(at.row(), &running.demand);
        self.current.reaching -= usize::from(running.demand.reaches_others());
        if let Some(row) = self.current.rows.get_mut(at.row()) {
            Arc::make_mut(row).take(&running.id);
            if running.demand.accelerators.is_some() {
                self.recount_devices(at);
            }
        }
    }
}

/// The columns that pods change, to be changed right after the change was noted. If a snapshot
/// holds them, others are: the spare ones, if nobody holds those and they are nearly right.
fn load_mut<'a>(current: &'a mut Snapshot, spare: &mut Option<(Arc<Load>, Mark)>) -> &'a mut Load {
    if Arc::get_mut(&mut current.load).is_none() {
        let history = &current.history;
        let now = history.mark_before_last();
        let ready = spare.take().and_then(|(mut load, mark)| {
            let spare = Arc::get_mut(&mut load)?;
            let changed = history.since(&mark)?;
            let max = 16 + current.rows.len() / 4;
            (history.same_nodes(&mark)
                && spare.len() == current.load.len()
                && spare.follow(&current.load, changed, max))
            .then_some(load)
        });
        let fresh = ready.unwrap_or_else(|| Arc::new(Load::clone(&current.load)));
        *spare = Some((std::mem::replace(&mut current.load, fresh), now));
    }
    Arc::make_mut(&mut current.load)
}

impl NodeRow {
    fn add(&mut self, running: Arc<Running>) {
        self.count(&running.demand);
        self.pods.push(running);
    }

    fn take(&mut self, id: &PodId) {
        let Some(at) = self.pods.iter().position(|running| running.id == *id) else {
            return;
        };
        let gone = self.pods.swap_remove(at);
        if gone.demand.has_no_column() {
            self.extended_used.clear();
            self.ports.clear();
            for running in std::mem::take(&mut self.pods) {
                self.add(running);
            }
        }
    }

    fn count(&mut self, demand: &Demand) {
        for (name, amount) in &demand.requests.extended {
            let used = self.extended_used.entry(name.clone()).or_default();
            *used = used.saturating_add(*amount);
        }
        self.ports.extend_from_slice(&demand.host_ports);
    }
}
/// The gang in which a pod counts.
fn gang_of(running: &Running) -> Option<&SmolStr> {
    let labels = &running.demand.labels;
    let gang = labels.get(orchestra_core::kind::gang::LABEL);
    gang.filter(|_| !running.terminating)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_has_a_pod_as_it_was_last_set(
            changes in prop::collection::vec((0..6_u128, 0..3_usize, 0..3_i64, 0..8_u8), 0..60),
        ) {
            let mut builder = SnapshotBuilder::new();
            for name in ["a", "b"] {
                builder.set_node(NodeFacts { name: name.into(), ..NodeFacts::default() });
            }
            for (uid, node, asks, state) in changes {
                let id = PodId::of(&{
                    let mut pod = Pod::builder(format!("pod-{uid}"));
                    pod.metadata.uid = orchestra_core::meta::Uid(uid);
                    pod
                });
                let mut demand = Demand::default();
                demand.requests.cpu_milli = asks;
                if asks == 2 {
                    demand.requests.extended.insert("gpu".into(), 1);
                }
                let running = Running {
                    id: id.clone(),
                    demand: Arc::new(demand),
                    terminating: state == 1,
                    started: (state == 2).then_some(Timestamp::EPOCH),
                    ..Running::default()
                };
                match state {
                    0 => builder.remove_pod(&id),
                    _ => builder.set_pod(["a", "b", "unknown"][node], running.clone()),
                };
                let snapshot = builder.snapshot(Revision(0));
                for name in ["a", "b"] {
                    let row = snapshot.node(snapshot.find(name).expect("it is there"));
                    if state != 0 && ["a", "b", "unknown"][node] == name {
                        let known = row.pods().iter().find(|pod| pod.id == id);
                        prop_assert_eq!(known.map(|known| &**known), Some(&running));
                    }
                }
            }
        }
    }
}
