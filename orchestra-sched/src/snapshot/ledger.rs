//! What one plan has used: a snapshot and what was placed on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::accelerator::DeviceSet;

use super::columns::Rows;
use super::demand::{Demand, HostPort};
use super::layer::Layer;
use super::relations::{Book, Company, Counts, Others, PodTerm, Spreading};
use super::{NodeIx, Running, Snapshot};

/// A snapshot with placements on top, and pods taken off, that nobody else sees.
///
/// Opening one costs a few reference counts; a charge notes what its node has left. Only who asks for
/// whole columns after that has them copied.
#[derive(Clone, Debug)]
pub struct Ledger {
    snapshot: Snapshot,
    layer: Layer,
    /// What has no column: extended resources and host ports of what was placed here.
    placed: BTreeMap<NodeIx, Vec<Arc<Demand>>>,
    /// Which devices what was placed here got.
    devices_taken: BTreeMap<NodeIx, Vec<(Arc<Demand>, DeviceSet)>>,
    /// Which devices what was taken off the snapshot's nodes gave back.
    devices_returned: BTreeMap<NodeIx, Vec<(Arc<Demand>, DeviceSet)>>,
    /// Pods of the snapshot that were taken off their node here.
    evicted: BTreeMap<NodeIx, Vec<Arc<Running>>>,
    /// What has been counted for rules about the company of pods.
    book: Book,
}

impl Ledger {
    /// The snapshot with nothing on top.
    pub fn open(snapshot: &Snapshot) -> Self {
        Self {
            snapshot: snapshot.clone(),
            layer: Layer::on(&snapshot.capacity, &snapshot.load),
            placed: BTreeMap::new(),
            devices_taken: BTreeMap::new(),
            devices_returned: BTreeMap::new(),
            evicted: BTreeMap::new(),
            book: Book::default(),
        }
    }

    /// As [`open`](Self::open), with room for so many placements.
    pub(crate) fn open_for(snapshot: &Snapshot, placements: usize) -> Self {
        let mut ledger = Self::open(snapshot);
        ledger.layer.expect(placements);
        ledger.book.reserve(placements);
        ledger
    }

    /// What lies beneath.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What there is and what is free, by column.
    pub fn rows(&self) -> Rows<'_> {
        self.layer.rows()
    }

    /// One node's row.
    pub fn row(&self, node: NodeIx) -> Rows<'_> {
        self.layer.row(node)
    }

    /// What is free on `node`: thousandths of a core, bytes of memory and of ephemeral storage, and how
    /// many more pods may run.
    #[inline]
    pub(crate) fn free(&self, node: NodeIx) -> [i64; 4] {
        self.layer.free(node)
    }

    /// Whether a charge of `node` finds its row at hand.
    pub(crate) fn is_at_hand(&self, node: NodeIx) -> bool {
        self.layer.is_at_hand(node)
    }

    /// Lays the rows of nodes at hand that will be charged soon.
    pub(crate) fn fetch(&mut self, nodes: impl Iterator<Item = NodeIx>) {
        self.layer.fetch(nodes);
    }

    /// Takes what `demand` asks from `node`, and of its accelerators those that
    /// [`devices_for`](Self::devices_for) names. Checks nothing: see [`fits`](crate::fits).
    pub fn charge(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        let devices = self.devices_for(node, demand);
        self.charge_devices(node, demand, devices);
    }

    /// The accelerators of `node` that a pod gets where nobody says otherwise: those that it says
    /// it holds, or else the [tightest](super::Devices::tightest). None if it asks for none, or
    /// cannot have them.
    pub fn devices_for(&self, node: NodeIx, demand: &Demand) -> DeviceSet {
        match &demand.accelerators {
            None => DeviceSet::NONE,
            Some(ask) if !ask.held.is_empty() => ask.held,
            Some(ask) => self.layer.devices()[node.row()]
                .tightest(ask)
                .unwrap_or_default(),
        }
    }

    /// As [`charge`](Self::charge), with the accelerators named.
    pub fn charge_devices(&mut self, node: NodeIx, demand: &Arc<Demand>, devices: DeviceSet) {
        if let Some(ask) = &demand.accelerators {
            self.layer.devices_mut(node).charge(devices, ask.milli);
            let returned = self.devices_returned.get_mut(&node);
            let undone = returned.is_some_and(|returned| {
                let same = (demand, devices);
                let at = returned
                    .iter()
                    .position(|(demand, set)| (demand, *set) == same);
                at.map(|at| returned.swap_remove(at)).is_some()
            });
            if !undone {
                let taken = self.devices_taken.entry(node).or_default();
                taken.push((Arc::clone(demand), devices));
            }
        }
        self.layer.charge(node, demand);
        self.book.shift(&self.snapshot, node, demand, 1, true);
        if demand.has_no_column() {
            self.placed
                .entry(node)
                .or_default()
                .push(Arc::clone(demand));
        }
    }

    /// Gives back what an equal [`charge`](Self::charge) took.
    ///
    /// It may also be a pod that runs on `node` in the snapshot.
    pub fn refund(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        if let Some(ask) = &demand.accelerators {
            let devices = self.devices_of(node, demand);
            self.layer.devices_mut(node).refund(devices, ask.milli);
        }
        self.layer.refund(node, demand);
        self.book.shift(&self.snapshot, node, demand, -1, true);
        if demand.has_no_column()
            && let Some(placed) = self.placed.get_mut(&node)
            && let Some(at) = placed.iter().position(|other| other == demand)
        {
            placed.swap_remove(at);
        }
    }

    /// Strikes out one pod of that demand: which devices it has here.
    fn devices_of(&mut self, node: NodeIx, demand: &Arc<Demand>) -> DeviceSet {
        if let Some(taken) = self.devices_taken.get_mut(&node)
            && let Some(at) = taken.iter().rposition(|(other, _)| other == demand)
        {
            return taken.swap_remove(at).1;
        }
        let returned = self.devices_returned.entry(node).or_default();
        let gone = returned.iter().filter(|(other, _)| other == demand).count();
        let held = self.snapshot.node(node).devices_held();
        let alike = held.iter().filter(|(running, _)| running.demand == *demand);
        let devices = alike.map(|(_, set)| *set).nth(gone).unwrap_or_default();
        returned.push((Arc::clone(demand), devices));
        devices
    }

    /// Takes a pod of the snapshot off its node. It must run on `node`, and not be taken off yet.
    pub fn evict(&mut self, node: NodeIx, running: &Arc<Running>) {
        let demand = &running.demand;
        if let Some(ask) = &demand.accelerators {
            let devices = self.devices_held_by(node, running);
            self.layer.devices_mut(node).refund(devices, ask.milli);
            let returned = self.devices_returned.entry(node).or_default();
            returned.push((Arc::clone(demand), devices));
        }
        self.layer.refund(node, demand);
        let spreads = !running.terminating;
        self.book.shift(&self.snapshot, node, demand, -1, spreads);
        let evicted = self.evicted.entry(node).or_default();
        evicted.push(Arc::clone(running));
    }

    /// Puts back a pod that [`evict`](Self::evict) took off.
    pub fn restore(&mut self, node: NodeIx, running: &Arc<Running>) {
        let evicted = self.evicted.entry(node).or_default();
        let Some(at) = evicted.iter().rposition(|other| other.id == running.id) else {
            return;
        };
        evicted.swap_remove(at);
        let demand = &running.demand;
        if let Some(ask) = &demand.accelerators {
            let devices = self.devices_held_by(node, running);
            self.layer.devices_mut(node).charge(devices, ask.milli);
            let returned = self.devices_returned.entry(node).or_default();
            let same = (demand, devices);
            if let Some(at) = returned
                .iter()
                .position(|(demand, set)| (demand, *set) == same)
            {
                returned.swap_remove(at);
            }
        }
        self.layer.charge(node, demand);
        let spreads = !running.terminating;
        self.book.shift(&self.snapshot, node, demand, 1, spreads);
    }

    /// Which devices of `node` a pod of the snapshot holds.
    fn devices_held_by(&self, node: NodeIx, running: &Running) -> DeviceSet {
        let held = self.snapshot.node(node).devices_held();
        let mut held = held.iter().filter(|(other, _)| other.id == running.id);
        held.next().map_or(DeviceSet::NONE, |(_, set)| *set)
    }

    /// The pods of the snapshot that are still on `node`: without those that were taken off here, as a search
    /// for room does to see what evictions would change. Pods that were charged here are not among them.
    pub fn running(&self, node: NodeIx) -> impl Iterator<Item = &Arc<Running>> {
        let gone = self.evicted_from(node);
        let there = self.snapshot.node(node).pods().iter();
        there.filter(move |pod| !gone.iter().any(|gone| gone.id == pod.id))
    }

    /// The pods of the snapshot that were taken off `node`.
    pub fn evicted_from(&self, node: NodeIx) -> &[Arc<Running>] {
        self.evicted.get(&node).map_or(&[], Vec::as_slice)
    }

    /// What was placed on `node` here that asks for accelerators, and which it got.
    pub fn devices_given(&self, node: NodeIx) -> impl Iterator<Item = (&Demand, DeviceSet)> {
        let taken = self.devices_taken.get(&node).into_iter().flatten();
        taken.map(|(demand, set)| (&**demand, *set))
    }

    /// How much of an extended resource is free on `node`; below zero where it has shrunk.
    pub fn extended_free(&self, node: NodeIx, resource: &str) -> i64 {
        let row = self.snapshot.node(node);
        let total = row
            .facts()
            .allocatable
            .extended
            .get(resource)
            .copied()
            .unwrap_or(0);
        let placed: i64 = self
            .placed_on(node)
            .filter_map(|demand| demand.requests.extended.get(resource))
            .fold(0, |sum, &amount| sum.saturating_add(amount));
        let evicted: i64 = self
            .evicted_from(node)
            .iter()
            .filter_map(|running| running.demand.requests.extended.get(resource))
            .fold(0, |sum, &amount| sum.saturating_add(amount));
        total
            .saturating_sub(row.extended_used(resource).saturating_sub(evicted))
            .saturating_sub(placed)
    }

    /// The host ports in use on `node`.
    pub fn ports(&self, node: NodeIx) -> impl Iterator<Item = &HostPort> {
        let placed = self.placed_on(node).flat_map(|demand| &demand.host_ports);
        let row = self.snapshot.node(node);
        let evicted = self.evicted_from(node);
        // What the row holds by port does not say whose it is.
        let (all, some): (&[HostPort], &[Arc<Running>]) = match evicted.is_empty() {
            true => (row.ports(), &[]),
            false => (&[], row.pods()),
        };
        let left = some
            .iter()
            .filter(|running| !evicted.iter().any(|gone| gone.id == running.id))
            .flat_map(|running| &running.demand.host_ports);
        all.iter().chain(left).chain(placed)
    }

    /// The pods on `node` that say what they are expected to use hour by hour (1), and those that
    /// were taken off it (−1).
    pub(crate) fn forecasts(&self, node: NodeIx) -> impl Iterator<Item = (&Demand, i64)> {
        let here = self
            .snapshot
            .node(node)
            .pods()
            .iter()
            .map(|pod| (&*pod.demand, 1));
        let gone = self.evicted_from(node).iter().map(|pod| (&*pod.demand, -1));
        let placed = self.placed_on(node).map(|demand| (demand, 1));
        let all = here.chain(gone).chain(placed);
        all.filter(|(demand, _)| demand.forecast.is_some())
    }

    /// Such a pod may be charged later. Rules about the company of pods look at what it asks of
    /// others from now on, so that they can say of a pod that nobody can ever be in its way.
    pub fn expect(&mut self, demand: &Arc<Demand>) {
        self.book.expect(&self.snapshot, demand);
    }

    /// Whether pods run, or may come, whose terms may mean others.
    pub(crate) fn has_terms(&self) -> bool {
        self.snapshot.reaching() > 0 || self.book.has_terms()
    }

    /// What `demand`'s required spread rules count, or its preferred ones.
    pub(crate) fn spreading(&self, demand: &Demand, required: bool) -> Arc<Spreading> {
        self.book.spreading(&self.snapshot, demand, required)
    }

    /// Where the pods are that meet all of `terms`.
    pub(crate) fn company(&self, terms: &[PodTerm]) -> Arc<Company> {
        self.book.company(&self.snapshot, terms)
    }

    /// What has been counted of the company of pods, for a later ledger.
    pub(crate) fn into_counts(self) -> Option<Counts> {
        self.book.into_counts(&self.snapshot)
    }

    /// Takes over what was counted as of another snapshot of the same nodes, given the pods that
    /// came (1) and left (−1) since. Nothing may have been placed here yet.
    pub(crate) fn take_over(
        &mut self,
        counts: Counts,
        changed: impl Iterator<Item = (NodeIx, Arc<Running>, i64)>,
    ) {
        self.book.take_over(counts, &self.snapshot, changed);
    }

    /// Whose the numbered counts are.
    pub(crate) fn origin(&self) -> Arc<()> {
        self.book.origin()
    }

    /// The spread counts of that number, while they are kept.
    pub(crate) fn spreading_numbered(&self, number: u64) -> Option<Arc<Spreading>> {
        self.book.spreading_numbered(number)
    }

    /// The company of that number, while it is kept.
    pub(crate) fn company_numbered(&self, number: u64) -> Option<Arc<Company>> {
        self.book.company_numbered(number)
    }

    /// What pods that run or may come ask of others.
    pub(crate) fn others(&self) -> Arc<Others> {
        self.book.others(&self.snapshot)
    }

    fn placed_on(&self, node: NodeIx) -> impl Iterator<Item = &Demand> {
        self.placed
            .get(&node)
            .into_iter()
            .flatten()
            .map(|demand| &**demand)
    }
}
