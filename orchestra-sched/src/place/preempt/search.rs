//! The search for room, and what it keeps from pod to pod of one plan.

use std::sync::Arc;

use fixedbitset::FixedBitSet;
use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::time::Timestamp;

use super::candidate::{Checks, Question, by_importance, cost, named, spend};
use super::heap::Bids;
use super::{Choice, Cost, Preemption, Victim};
use crate::budget::Budget;
use crate::fits;
use crate::place::plugin::Cycle;
use crate::place::{Pending, Profile};
use crate::snapshot::{Amounts, Demand, Ledger, NodeIx, NodeRow, Running, Snapshot};

/// How many shapes of pod have their answers kept within one plan. Each takes some 100 bytes a node.
const MEMOS_MAX: usize = 16;

/// What one plan knows of where room can be made.
#[derive(Clone, Debug)]
pub(in crate::place) struct Search {
    now: Timestamp,
    snapshot: Snapshot,
    /// The cluster with the plan carried out, victims gone and those in their places.
    after: Ledger,
    /// The rows that changed since the search was opened, in order.
    log: Vec<NodeIx>,
    /// By row, once looked at: the pods that are left of the snapshot and do not end, the most
    /// important first.
    here: Vec<Option<Vec<Arc<Running>>>>,
    /// What is left of each disruption budget.
    left: Vec<u32>,
    /// By budget, once one was spent: the rows where pods count against it, and how many.
    covered: Option<Vec<Vec<(NodeIx, u32)>>>,
    memos: Vec<Memo>,
}

/// The answers for one shape of pod.
#[derive(Clone, Debug)]
struct Memo {
    group: usize,
    priority: i32,
    checks: Checks,
    /// The rows that the filters let pass which no pod changes; all, if `None`.
    open: Option<Vec<bool>>,
    /// The rows where evictions cannot help.
    no_help: FixedBitSet,
    bids: Bids,
    /// How much of the log is in.
    synced: usize,
}

/// What a row says.
enum Row {
    NoHelp,
    TooLittle,
    Bid(Cost),
}

impl Row {
    fn cost(&self) -> Option<Cost> {
        match self {
            Self::Bid(cost) => Some(*cost),
            _ => None,
        }
    }
}

impl Search {
    /// A search on top of what `ledger` holds.
    pub(in crate::place) fn open(ledger: &Ledger, now: Timestamp) -> Self {
        let snapshot = ledger.snapshot().clone();
        let budgets = snapshot.budgets().iter();
        Self {
            now,
            after: ledger.clone(),
            log: Vec::new(),
            here: vec![None; snapshot.len()],
            left: budgets.map(|budget| budget.disruptions_allowed).collect(),
            covered: None,
            memos: Vec::new(),
            snapshot,
        }
    }

    /// Takes in that the plan placed a pod.
    pub(in crate::place) fn placed(
        &mut self,
        node: NodeIx,
        demand: &Arc<Demand>,
        devices: DeviceSet,
    ) {
        self.after.charge_devices(node, demand, devices);
        self.log.push(node);
    }

    /// Takes back that the plan placed a pod.
    pub(in crate::place) fn unplaced(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        self.after.refund(node, demand);
        self.log.push(node);
    }

    /// Takes in that a pod is on its way to `node`.
    pub(in crate::place) fn put(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        let devices = self.after.devices_for(node, demand);
        self.placed(node, demand, devices);
    }

    /// Whether the pod fits on `node` once what ends there has ended and all victims are gone; if
    /// so it is there from now on.
    pub(in crate::place) fn holds(
        &mut self,
        profile: &Profile,
        pod: &Pending,
        node: NodeIx,
    ) -> bool {
        self.look(node);
        let cycle = Cycle::new(&self.after, pod, self.now);
        let (checks, open) = Checks::of(profile, &cycle);
        let holds = open.is_none_or(|open| open[node.row()]) && checks.pass(profile, &cycle, node);
        if holds {
            self.put(node, &pod.demand);
        }
        holds
    }

    /// Where room can be made for the pod; from then on it is there, and its victims are gone. Pods
    /// that the filters of `profile` can tell apart differ in `group`.
    pub(in crate::place) fn find(
        &mut self,
        profile: &Profile,
        at: usize,
        pod: &Pending,
        group: usize,
    ) -> Option<(NodeIx, Preemption)> {
        let mut memo = self.memo(profile, pod, group);
        let found = memo.bids.best().map(|(first, second)| {
            let node = first.node;
            let (nodes, no_help) = (self.snapshot.len(), memo.no_help.count_ones(..));
            let why = Choice {
                nodes,
                candidates: memo.bids.len(),
                too_little: nodes - no_help - memo.bids.len(),
                no_help,
                cost: first.cost,
                next: second.map(|bid| (bid.name, bid.cost)),
            };
            let preemption = Preemption {
                pending: at,
                pod: pod.id.clone(),
                priority: pod.priority,
                node: first.name,
                victims: self.carry_out(profile, &memo.checks, pod, node),
                why,
            };
            (node, preemption)
        });
        self.memos.push(memo);
        found
    }

    /// Takes off `node` who has to leave it for the pod, and puts the pod there.
    fn carry_out(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        pod: &Pending,
        node: NodeIx,
    ) -> Vec<Victim> {
        let snapshot = self.snapshot.clone();
        let (question, ledger, here) = self.question(profile, checks, pod, node);
        let lower = lower(here, pod.priority);
        let victims = question.victims(ledger, node, lower).unwrap_or_default();
        let named = named(lower, &victims, snapshot.budgets());
        let gone: Vec<Arc<Running>> = victims.iter().map(|&(at, _)| lower[at].clone()).collect();
        for running in &gone {
            self.after.evict(node, running);
            self.spend(running);
        }
        if let Some(here) = &mut self.here[node.row()] {
            here.retain(|running| gone.iter().all(|gone| gone.id != running.id));
        }
        self.put(node, &pod.demand);
        named
    }

    /// Counts an eviction against the budgets, and has the rows looked at again where that matters.
    fn spend(&mut self, running: &Running) {
        let budgets = self.snapshot.budgets();
        let before = self.left.clone();
        spend(budgets, &mut self.left, running);
        for (at, (before, left)) in before.iter().zip(&self.left).enumerate() {
            if before == left {
                continue;
            }
            let covered = self.covered.get_or_insert_with(|| {
                let count = |budget: &Budget| {
                    let counts = |node: &NodeRow| {
                        node.pods().iter().filter(|pod| budget.counts(pod)).count() as u32
                    };
                    let rows = self.snapshot.nodes().map(|(row, node)| (row, counts(node)));
                    rows.filter(|(_, count)| *count > 0).collect()
                };
                budgets.iter().map(count).collect()
            });
            // As many as are left may go without a word: rows that hold no more stay as they are.
            let strained = covered[at].iter().filter(|(_, count)| count > left);
            self.log.extend(strained.map(|(row, _)| *row));
        }
    }

    /// The answers for pods like this one, as things are now.
    fn memo(&mut self, profile: &Profile, pod: &Pending, group: usize) -> Memo {
        let same = |memo: &Memo| (memo.group, memo.priority) == (group, pod.priority);
        let known = self.memos.iter().position(same);
        let Some(mut memo) = known.map(|at| self.memos.remove(at)) else {
            return self.ask(profile, pod, group);
        };
        let changed = self.log.len() - memo.synced;
        if changed > self.here.len() || (changed > 0 && !memo.checks.by_cluster.is_empty()) {
            return self.ask(profile, pod, group);
        }
        for at in memo.synced..self.log.len() {
            let node = self.log[at];
            let row = self.row(profile, &memo.checks, memo.open.as_deref(), pod, node);
            memo.no_help.set(node.row(), matches!(row, Row::NoHelp));
            memo.bids
                .set(node, row.cost(), self.snapshot.node(node).name());
        }
        memo.synced = self.log.len();
        memo
    }

    /// Asks every row.
    fn ask(&mut self, profile: &Profile, pod: &Pending, group: usize) -> Memo {
        if self.memos.len() == MEMOS_MAX {
            self.memos.remove(0);
        }
        let cycle = Cycle::new(&self.after, pod, self.now);
        let (checks, open) = Checks::of(profile, &cycle);
        let nodes = self.snapshot.len();
        let mut no_help = FixedBitSet::with_capacity(nodes);
        let mut costs = Vec::with_capacity(nodes);
        for row in 0..nodes {
            let said = self.row(
                profile,
                &checks,
                open.as_deref(),
                pod,
                NodeIx::from_row(row),
            );
            no_help.set(row, matches!(said, Row::NoHelp));
            costs.push(said.cost());
        }
        Memo {
            group,
            priority: pod.priority,
            checks,
            open,
            no_help,
            bids: Bids::new(costs, |node| self.snapshot.node(node).name().clone()),
            synced: self.log.len(),
        }
    }

    /// Asks one row.
    fn row(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        open: Option<&[bool]>,
        pod: &Pending,
        node: NodeIx,
    ) -> Row {
        if open.is_some_and(|open| !open[node.row()]) {
            return Row::NoHelp;
        }
        let (question, ledger, here) = self.question(profile, checks, pod, node);
        let lower = lower(here, pod.priority);
        if lower.is_empty() && !question.passes(ledger, node) {
            return Row::NoHelp;
        }
        if short(ledger, node, &pod.demand, lower) {
            return Row::TooLittle;
        }
        match question.victims(ledger, node, lower) {
            Some(victims) => Row::Bid(cost(lower, &victims)),
            None => Row::TooLittle,
        }
    }

    /// The question who has to leave `node` for the pod, the ledger to ask it of, and who is there.
    fn question<'a>(
        &'a mut self,
        profile: &'a Profile,
        checks: &'a Checks,
        pod: &'a Pending,
        node: NodeIx,
    ) -> (Question<'a>, &'a mut Ledger, &'a [Arc<Running>]) {
        self.look(node);
        let question = Question {
            profile,
            checks,
            budgets: self.snapshot.budgets(),
            left: &self.left,
            pod,
            now: self.now,
        };
        let here = self.here[node.row()].as_deref().unwrap_or_default();
        (question, &mut self.after, here)
    }

    /// Takes in who is on `node`, and takes off who ends there.
    fn look(&mut self, node: NodeIx) {
        let slot = &mut self.here[node.row()];
        if slot.is_none() {
            let mut here = self.snapshot.node(node).pods().to_vec();
            here.retain(|running| {
                if running.terminating {
                    self.after.evict(node, running);
                }
                !running.terminating
            });
            by_importance(&mut here);
            *slot = Some(here);
        }
    }
}

/// Those of `here` that have a lower priority.
fn lower(here: &[Arc<Running>], priority: i32) -> &[Arc<Running>] {
    &here[here.partition_point(|running| running.priority >= priority)..]
}

/// Whether even all of `lower` hold too little for `demand`. Looks at the columns only: most nodes
/// that cannot help are known by that.
fn short(ledger: &Ledger, node: NodeIx, demand: &Demand, lower: &[Arc<Running>]) -> bool {
    let row = ledger.row(node);
    let asked = &demand.requests;
    let freed = |amount: fn(&Amounts) -> i64| -> i64 {
        let held = lower.iter().map(|running| amount(&running.demand.requests));
        held.fold(0, i64::saturating_add)
    };
    let lacks = |asked: i64, free: i64, amount: fn(&Amounts) -> i64| {
        fits::lacks(asked, free) && fits::lacks(asked, free.saturating_add(freed(amount)))
    };
    lacks(asked.cpu_milli, row.cpu_free[0], |held| held.cpu_milli)
        || lacks(asked.memory, row.memory_free[0], |held| held.memory)
        || lacks(asked.storage, row.storage_free[0], |held| held.storage)
}
