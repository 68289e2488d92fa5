//! The cluster at one instant: immutable, in columns, built by change.

mod build;
mod columns;
mod demand;
mod devices;
mod facts;
mod future;
mod history;
mod layer;
mod ledger;
mod line;
mod names;
mod pages;
pub(crate) mod relations;
mod shapes;

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::meta::{Labels, ObjectKey, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::selector::NodeSelector;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

pub use build::SnapshotBuilder;
pub use columns::{Rows, inverse, percent};
use demand::hold;
pub use demand::{AMOUNT_MAX, Amounts, Demand, HostPort, Reads, Scored};
pub use devices::Devices;
pub(crate) use facts::size_of;
pub use facts::{Holdings, NodeFacts};
pub(crate) use future::Future;
pub use ledger::Ledger;
pub use orchestra_core::kind::usage::Usage;
pub use relations::{HARD_POD_AFFINITY_WEIGHT, PodTerm, Relations, SpreadRule};

use crate::budget::Budget;
use columns::{Capacity, Load};
pub(crate) use history::{History, Mark};
pub(crate) use pages::Pages;

/// A node's row in one snapshot. Means nothing in another, and is never stored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeIx(pub(crate) u32);

impl NodeIx {
    pub(crate) fn from_row(row: usize) -> Self {
        Self(row as u32)
    }

    /// Its position in whole columns.
    pub fn row(self) -> usize {
        self.0 as usize
    }
}

/// Names one life of one pod. Ordered by uid, then by key.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodId {
    /// Which life.
    pub uid: Uid,
    /// Its namespace and name.
    pub key: ObjectKey,
}

impl PodId {
    /// A pod's.
    pub fn of(pod: &Pod) -> Self {
        Self {
            uid: pod.metadata.uid,
            key: pod.metadata.key(),
        }
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key.fmt(f)
    }
}

/// A pod that counts against a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// Which.
    pub id: PodId,
    /// What it takes.
    pub demand: Arc<Demand>,
    /// Its priority.
    pub priority: i32,
    /// When it started, if it has.
    pub started: Option<Timestamp>,
    /// Whether it has been told to end. It counts until it has.
    pub terminating: bool,
}

/// One node in a snapshot: what it is and what runs there.
#[derive(Clone, Debug, Default)]
pub struct NodeRow {
    facts: Arc<NodeFacts>,
    extended_used: BTreeMap<SmolStr, i64>,
    ports: Vec<HostPort>,
    pods: Vec<Arc<Running>>,
    usage: Option<Usage>,
}

impl NodeRow {
    /// What it is.
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// Its name.
    pub fn name(&self) -> &SmolStr {
        &self.facts.name
    }

    /// What runs there, in no order that means anything.
    pub fn pods(&self) -> &[Arc<Running>] {
        &self.pods
    }

    /// Which accelerators each of its pods holds, of those that ask for any: what they say they
    /// hold, and for the others, by their id, the [tightest](Devices::tightest) that are left.
    pub fn devices_held(&self) -> Vec<(&Running, DeviceSet)> {
        self.devices().1
    }

    fn devices(&self) -> (Devices, Vec<(&Running, DeviceSet)>) {
        let pods = self.pods.iter().map(|running| &**running);
        devices::held(Devices::new(self.facts.devices), pods)
    }

    /// What it was last seen to use, if it was.
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// The host ports that its pods hold.
    pub fn ports(&self) -> &[HostPort] {
        &self.ports
    }

    /// How much of an extended resource its pods requested.
    pub fn extended_used(&self, resource: &str) -> i64 {
        self.extended_used.get(resource).copied().unwrap_or(0)
    }
}

/// The cluster at one instant.
///
/// Immutable and cheap to clone: a handful of reference counts. Made by a [`SnapshotBuilder`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    base: Revision,
    capacity: Arc<Capacity>,
    load: Arc<Load>,
    rows: Pages<Arc<NodeRow>>,
    names: Index,
    budgets: Arc<Vec<Budget>>,
    lowest_priority: Option<i32>,
    gangs: Arc<BTreeMap<(SmolStr, SmolStr), usize>>,
    /// On how many nodes each image is.
    images: Arc<BTreeMap<SmolStr, u32>>,
    /// Where claims of storage can be used, by namespace and name.
    volumes: Arc<BTreeMap<ObjectKey, NodeSelector>>,
    /// The labels of namespaces.
    namespaces: Arc<BTreeMap<SmolStr, Labels>>,
    /// How many pods have terms that mean others.
    reaching: usize,
    history: History,
}

impl Snapshot {
    /// The revision of the store that it shows.
    pub fn base(&self) -> Revision {
        self.base
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// The row of the node of that name.
    pub fn find(&self, name: &str) -> Option<NodeIx> {
        self.names.get(name)
    }

    /// A node.
    ///
    /// # Panics
    ///
    /// If `node` comes from another snapshot that had more rows.
    pub fn node(&self, node: NodeIx) -> &NodeRow {
        self.rows
            .get(node.row())
            .expect("a row number is used in the snapshot it came from")
    }

    /// All nodes, in the order of their rows.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIx, &NodeRow)> {
        self.rows
            .iter()
            .enumerate()
            .map(|(row, node)| (NodeIx::from_row(row), &**node))
    }

    /// The nodes on which pods run, in the order of their rows.
    pub(crate) fn peopled(&self) -> impl Iterator<Item = (NodeIx, &NodeRow)> {
        let (total, free) = (&self.capacity.pods, &self.load.columns.pods_free);
        let counts = total.iter().zip(free).enumerate();
        counts
            .filter(|(_, (total, free))| total != free)
            .map(|(row, _)| NodeIx::from_row(row))
            .map(|node| (node, self.node(node)))
    }

    /// What there is and what is free, by column.
    pub fn rows(&self) -> Rows<'_> {
        Rows::all(&self.capacity, &self.load.columns, &self.load.devices)
    }

    /// How many nodes carry a taint that only scores.
    pub fn softly_tainted(&self) -> usize {
        self.capacity.softly_tainted
    }

    /// How many nodes carry a taint that keeps pods away, or are closed to new pods.
    pub fn hard_tainted(&self) -> usize {
        self.capacity.hard_tainted
    }

    /// The lowest priority among the pods that run; `None` if none do.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.lowest_priority
    }

    /// How many pods of a gang run, those left out that have been told to end.
    pub fn gang_size(&self, namespace: &SmolStr, name: &SmolStr) -> usize {
        let gang = (namespace.clone(), name.clone());
        self.gangs.get(&gang).copied().unwrap_or(0)
    }

    /// The disruption budgets, by namespace and name.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    pub(crate) fn shared_budgets(&self) -> &Arc<Vec<Budget>> {
        &self.budgets
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, image: &str) -> u32 {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// Which nodes the storage that a claim got can be used from, as far as that is known and not
    /// all of them.
    pub fn volume(&self, claim: &ObjectKey) -> Option<&NodeSelector> {
        self.volumes.get(claim)
    }

    /// Whether anything is known of where claims of storage can be used.
    pub(crate) fn knows_volumes(&self) -> bool {
        !self.volumes.is_empty()
    }

    /// The labels of a namespace; none if it is not known.
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        static NONE: Labels = Labels::new();
        self.namespaces.get(namespace).unwrap_or(&NONE)
    }

    /// The domains of a topology key. The first call looks at every node.
    pub(crate) fn domains(&self, key: &SmolStr) -> Arc<relations::Domains> {
        self.capacity.topology.domains(self, key)
    }

    /// The rows, divided by the domains of `keys`. The first call looks at every node.
    pub(crate) fn division(&self, keys: &[Arc<relations::Domains>]) -> Arc<relations::Division> {
        self.capacity.topology.division(self.len(), keys)
    }

    /// How many pods that run have affinity or anti-affinity to others.
    pub(crate) fn reaching(&self) -> usize {
        self.reaching
    }

    /// What is and runs on each node, without the columns.
    pub(crate) fn node_rows(&self) -> &Pages<Arc<NodeRow>> {
        &self.rows
    }

    /// Which rows changed when.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The name of a node, without a look at the node.
    pub(crate) fn name(&self, node: NodeIx) -> &SmolStr {
        &self.capacity.names[node.row()]
    }

    /// By row: how many pods a node may run, and the ephemeral storage that it has.
    pub(crate) fn uncolumned(&self) -> (&[i64], &[i64]) {
        (&self.capacity.pods, &self.capacity.storage)
    }

    /// By row: how many nodes' names come before its own.
    pub(crate) fn name_ranks(&self) -> &[u32] {
        self.capacity.name_ranks()
    }

    pub(crate) fn name_hash(&self, row: usize) -> u64 {
        self.capacity.name_hash[row]
    }

    /// By row: what settles ties between nodes of equal score.
    pub(crate) fn name_hashes(&self) -> &[u64] {
        &self.capacity.name_hash
    }
}

/// Rows by name, in shards so that a change under a living clone copies one of them.
#[derive(Clone, Debug)]
struct Index {
    shards: Arc<Vec<Arc<BTreeMap<SmolStr, u32>>>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); Self::SHARDS]),
        }
    }
}

impl Index {
    const SHARDS: usize = 256;

    fn shard(name: &str) -> usize {
        name_hash(name) as usize % Self::SHARDS
    }

    fn get(&self, name: &str) -> Option<NodeIx> {
        self.shards[Self::shard(name)]
            .get(name)
            .copied()
            .map(NodeIx)
    }

    fn set(&mut self, name: &SmolStr, node: NodeIx) {
        let shard = &mut Arc::make_mut(&mut self.shards)[Self::shard(name)];
        Arc::make_mut(shard).insert(name.clone(), node.0);
    }

    fn unset(&mut self, name: &str) {
        let shard = &mut Arc::make_mut(&mut self.shards)[Self::shard(name)];
        Arc::make_mut(shard).remove(name);
    }
}

/// FNV-1a, 64 bits: fixed for ever, as std's hashers are not.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
