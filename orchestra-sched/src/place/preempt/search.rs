//! The search for room, and what it keeps from pod to pod of one plan.

mod survey;

use std::sync::Arc;

use fixedbitset::FixedBitSet;
use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::time::Timestamp;

use super::candidate::{ByAmounts, ByFilters, Checks, Out, Trial, cost, named, spend, victims};
use super::heap::{Bid, Bids};
use super::here::{Amounts as Free, Everywhere};
use super::kept::Kept;
use super::{Choice, Cost, Preemption, Victim};
use crate::fits;
use crate::place::plugin::Cycle;
use crate::place::share::Likeness;
use crate::place::{Pending, Profile};
use crate::snapshot::{Amounts, Demand, Ledger, NodeIx, Running, Snapshot};

/// How many shapes of pod have their answers kept. Each takes some 100 bytes a node.
const MEMOS_MAX: usize = 16;

/// On how many nodes keepers of accounts may turn a pod down before no room is made for it.
const TURNED_DOWN_MAX: usize = 64;

/// Whether keepers of accounts take the pod of a cycle on a node, its victims gone; if so they have claimed it.
pub(in crate::place) type Accepts<'a> = &'a mut dyn FnMut(&Cycle<'_>, NodeIx) -> bool;

/// How many shapes of pod are remembered as asked about once.
const ONCE_MAX: usize = 64;

/// What one plan knows of where room can be made.
#[derive(Clone, Debug)]
pub(in crate::place) struct Search {
    now: Timestamp,
    /// By what pods are told apart.
    likeness: Likeness,
    snapshot: Snapshot,
    /// The cluster with the plan carried out, victims gone and those in their places, but for what is
    /// owed.
    after: Ledger,
    /// The last room that was made: mostly nobody asks what is left after that.
    owed: Option<Owed>,
    /// The rows that changed since the search was opened, in order.
    log: Vec<NodeIx>,
    /// The rows that the plan had changed by then.
    before: Vec<NodeIx>,
    /// How much of the log happened before the plan.
    recalled: usize,
    everywhere: Everywhere,
    /// The rows from which it lacks pods.
    emptied: Vec<NodeIx>,
    /// What is left of each disruption budget.
    left: Vec<u32>,
    memos: Vec<Memo>,
    /// Fingerprints of shapes that were asked about once, with their priorities, the last at the end.
    once: Vec<(u64, i32)>,
    scratch: Vec<Out>,
}

/// Room that was made, and who gets it.
#[derive(Clone, Debug)]
struct Owed {
    node: NodeIx,
    gone: Vec<Arc<Running>>,
    demand: Arc<Demand>,
}

/// The answers for one shape of pod.
#[derive(Clone, Debug)]
pub(super) struct Memo {
    /// One of them.
    pod: Pending,
    fingerprint: u64,
    checks: Checks,
    /// The rows that the filters let pass which no pod changes; all, if `None`.
    open: Option<Vec<bool>>,
    /// The rows where evictions cannot help.
    no_help: FixedBitSet,
    bids: Bids,
    /// Rows to be asked again before anything of the log.
    behind: Vec<NodeIx>,
    /// How much of the log is in.
    synced: usize,
}

impl Memo {
    /// Makes it as small as it can be; how many rows there are to be asked again.
    pub(super) fn tidy(&mut self) -> usize {
        self.bids.tidy();
        self.behind.sort_unstable();
        self.behind.dedup();
        self.behind.len()
    }
}

/// Where room can be made.
struct Found {
    /// The cheapest node, and the one after it.
    best: [Option<Bid>; 2],
    /// On how many nodes it can.
    candidates: usize,
    /// On how many no eviction helps.
    no_help: usize,
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
    /// A search on top of what `ledger` holds, where `before` are the rows that a plan changed so
    /// far. Pods that are not told apart by `likeness` get the same answers. Goes on with what an
    /// earlier plan's search `kept`, as far as that is of use.
    pub(in crate::place) fn open(
        ledger: &Ledger,
        before: &[NodeIx],
        now: Timestamp,
        likeness: Likeness,
        kept: Option<Kept>,
    ) -> Self {
        let snapshot = ledger.snapshot().clone();
        let kept = kept.and_then(|kept| kept.follow(&snapshot));
        let (everywhere, memos, once, mut log) = kept.unwrap_or_else(|| {
            let everywhere = Everywhere::new(snapshot.len());
            (everywhere, Vec::new(), Vec::new(), Vec::new())
        });
        if !memos.is_empty() {
            log.extend(before);
        }
        let budgets = snapshot.budgets().iter();
        Self {
            now,
            likeness,
            after: ledger.clone(),
            owed: None,
            recalled: log.len(),
            log,
            before: before.to_vec(),
            everywhere,
            emptied: Vec::new(),
            left: budgets.map(|budget| budget.disruptions_allowed).collect(),
            memos,
            once,
            scratch: Vec::new(),
            snapshot,
        }
    }

    /// What may serve a later plan's search. Whatever a row said that hangs on what the plan did,
    /// spent budgets included, it is to be asked again, for the plan is not carried out yet.
    pub(in crate::place) fn keep(mut self) -> Kept {
        let mut own = self.before;
        own.extend(&self.log[self.recalled..]);
        for memo in &mut self.memos {
            memo.behind
                .extend(self.log[..self.recalled].iter().skip(memo.synced));
            memo.behind.extend(&own);
            memo.synced = 0;
        }
        let timeless = !self.likeness.knows_time();
        self.memos
            .retain(|memo| timeless && memo.checks.by_cluster.is_empty());
        Kept::new(
            &self.snapshot,
            self.everywhere,
            self.memos,
            self.once,
            &self.emptied,
        )
    }

    /// Takes in that the plan placed a pod.
    pub(in crate::place) fn placed(
        &mut self,
        node: NodeIx,
        demand: &Arc<Demand>,
        devices: DeviceSet,
    ) {
        self.settle();
        self.after.charge_devices(node, demand, devices);
        self.log.push(node);
    }

    /// Takes back that the plan placed a pod.
    pub(in crate::place) fn unplaced(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        self.settle();
        self.after.refund(node, demand);
        self.log.push(node);
    }

    /// Takes in that a pod is on its way to `node`.
    pub(in crate::place) fn put(&mut self, node: NodeIx, demand: &Arc<Demand>) {
        self.settle();
        let devices = self.after.devices_for(node, demand);
        self.placed(node, demand, devices);
    }

    /// Makes the room that was made last.
    fn settle(&mut self) {
        if let Some(Owed { node, gone, demand }) = self.owed.take() {
            gone.iter().for_each(|pod| self.after.evict(node, pod));
            self.after.charge(node, &demand);
        }
    }

    /// Whether the pod fits on `node` once what ends there has ended and all victims are gone; if
    /// so it is there from now on.
    pub(in crate::place) fn holds(
        &mut self,
        profile: &Profile,
        pod: &Pending,
        node: NodeIx,
    ) -> bool {
        self.settle();
        self.everywhere.look(&self.snapshot, &mut self.after, node);
        let cycle = Cycle::new(&self.after, pod, self.now);
        let checks = Checks::of(profile, &cycle);
        let open = checks.open(profile, &cycle);
        let holds = open.is_none_or(|open| open[node.row()]) && checks.pass(profile, &cycle, node);
        if holds {
            self.put(node, &pod.demand);
        }
        holds
    }

    /// Where room can be made for the pod, whose fingerprint that is; from then on it is there, and
    /// its victims are gone. Only where it is accepted, if that is asked.
    pub(in crate::place) fn find(
        &mut self,
        profile: &Profile,
        at: usize,
        pod: &Pending,
        fingerprint: u64,
        accepts: Option<Accepts<'_>>,
    ) -> Option<(NodeIx, Preemption)> {
        self.settle();
        let known = self.known(profile, pod, fingerprint);
        if known.is_none() && accepts.is_none() {
            let checks = Checks::of(profile, &Cycle::new(&self.after, pod, self.now));
            let open = checks.open(profile, &Cycle::new(&self.after, pod, self.now));
            if !self.was_asked(pod, fingerprint)
                && let Some(found) = self.survey(profile, &checks, open.as_deref(), pod)
            {
                return self.propose(profile, &checks, at, pod, found);
            }
        }
        let mut memo = known.unwrap_or_else(|| self.ask(profile, pod, fingerprint));
        let mut found = Found {
            best: memo.bids.best(self.snapshot.name_ranks()),
            candidates: memo.bids.len(),
            no_help: memo.no_help.count_ones(..),
        };
        if let Some(accepts) = accepts {
            found.best = self.accepted(profile, &mut memo, pod, found.best, accepts);
        }
        let found = self.propose(profile, &memo.checks, at, pod, found);
        self.memos.push(memo);
        found
    }

    /// The two best nodes of which the first accepts the pod.
    fn accepted(
        &mut self,
        profile: &Profile,
        memo: &mut Memo,
        pod: &Pending,
        mut best: [Option<Bid>; 2],
        accepts: Accepts<'_>,
    ) -> [Option<Bid>; 2] {
        let mut turned_down: Vec<Bid> = Vec::new();
        while let Some(first) = best[0] {
            let gone = self.victims(profile, &memo.checks, pod, first.node);
            gone.iter()
                .for_each(|pod| self.after.evict(first.node, pod));
            let accepted = accepts(&Cycle::new(&self.after, pod, self.now), first.node);
            gone.iter()
                .rev()
                .for_each(|pod| self.after.restore(first.node, pod));
            if accepted {
                break;
            }
            memo.bids.set(first.node, None, first.rank);
            turned_down.push(first);
            best = match turned_down.len() < TURNED_DOWN_MAX {
                true => memo.bids.best(self.snapshot.name_ranks()),
                false => [None, None],
            };
        }
        for bid in turned_down {
            memo.bids.set(bid.node, Some(bid.cost), bid.rank);
        }
        best
    }

    /// Who has to leave `node` for the pod.
    fn victims(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        pod: &Pending,
        node: NodeIx,
    ) -> Vec<Arc<Running>> {
        let _ = self.row(profile, checks, None, pod, node);
        let here = self.everywhere.look(&self.snapshot, &mut self.after, node);
        let lower = &here.pods[here.below(pod.priority)..];
        self.scratch
            .iter()
            .map(|&(at, _)| lower[at].clone())
            .collect()
    }

    /// Whether there was a question about such a pod before, but not how it was answered. From now on
    /// there was.
    fn was_asked(&mut self, pod: &Pending, fingerprint: u64) -> bool {
        let shape = (fingerprint, pod.priority);
        if let Some(at) = self.once.iter().position(|once| *once == shape) {
            self.once.remove(at);
            return true;
        }
        if self.once.len() == ONCE_MAX {
            self.once.remove(0);
        }
        self.once.push(shape);
        false
    }

    /// Makes room for the pod on the best of the nodes that were found.
    fn propose(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        at: usize,
        pod: &Pending,
        found: Found,
    ) -> Option<(NodeIx, Preemption)> {
        let [first, second] = found.best;
        let first = first?;
        let name = |bid: Bid| self.snapshot.name(bid.node).clone();
        let nodes = self.snapshot.len();
        let why = Choice {
            nodes,
            candidates: found.candidates,
            too_little: nodes - found.no_help - found.candidates,
            no_help: found.no_help,
            cost: first.cost,
            next: second.map(|bid| (name(bid), bid.cost)),
        };
        let preemption = Preemption {
            pending: at,
            pod: pod.id.clone(),
            priority: pod.priority,
            node: name(first),
            victims: self.carry_out(profile, checks, pod, first.node),
            why,
        };
        Some((first.node, preemption))
    }

    /// Takes off `node` who has to leave it for the pod, and puts the pod there.
    fn carry_out(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        pod: &Pending,
        node: NodeIx,
    ) -> Vec<Victim> {
        let _ = self.row(profile, checks, None, pod, node);
        let victims = std::mem::take(&mut self.scratch);
        let snapshot = self.snapshot.clone();
        let here = self.everywhere.look(&snapshot, &mut self.after, node);
        let lower = &here.pods[here.below(pod.priority)..];
        let named = named(lower, &victims, snapshot.budgets());
        let gone: Vec<Arc<Running>> = victims.iter().map(|&(at, _)| lower[at].clone()).collect();
        let counts = &here.counts[here.below(pod.priority)..];
        let counts: Vec<Vec<u32>> = victims.iter().map(|&(at, _)| counts[at].clone()).collect();
        counts.iter().for_each(|counts| self.spend(counts));
        self.everywhere.remove(node, &gone);
        self.emptied.push(node);
        self.owed = Some(Owed {
            node,
            gone,
            demand: Arc::clone(&pod.demand),
        });
        self.log.push(node);
        named
    }

    /// Counts an eviction against these budgets, and has the rows looked at again where that matters.
    fn spend(&mut self, counts: &[u32]) {
        if counts.is_empty() {
            return;
        }
        let before = self.left.clone();
        spend(counts, &mut self.left);
        for (at, (before, left)) in before.iter().zip(&self.left).enumerate() {
            if before != left {
                self.log.extend(self.everywhere.strained(at, *left));
            }
        }
    }

    /// The answers for pods like this one, if they are known, as things are now.
    fn known(&mut self, profile: &Profile, pod: &Pending, fingerprint: u64) -> Option<Memo> {
        let same = |memo: &Memo| {
            (memo.fingerprint, memo.pod.priority) == (fingerprint, pod.priority)
                && self.likeness.same(&memo.pod, pod)
        };
        let known = self.memos.iter().position(same);
        let mut memo = known.map(|at| self.memos.remove(at))?;
        let mut changed = std::mem::take(&mut memo.behind);
        changed.extend(&self.log[memo.synced..]);
        let cycle = Cycle::new(&self.after, pod, self.now);
        if changed.len() > self.snapshot.len()
            || !changed.is_empty() && !memo.checks.by_cluster.is_empty()
            || !memo.checks.are(&Checks::of(profile, &cycle))
        {
            return None;
        }
        for node in changed {
            let row = self.row(profile, &memo.checks, memo.open.as_deref(), pod, node);
            memo.no_help.set(node.row(), matches!(row, Row::NoHelp));
            let rank = self.snapshot.name_ranks()[node.row()];
            memo.bids.set(node, row.cost(), rank);
        }
        memo.synced = self.log.len();
        Some(memo)
    }

    /// Asks every row.
    fn ask(&mut self, profile: &Profile, pod: &Pending, fingerprint: u64) -> Memo {
        if self.memos.len() == MEMOS_MAX {
            self.memos.remove(0);
        }
        let checks = Checks::of(profile, &Cycle::new(&self.after, pod, self.now));
        let rows = (0..self.snapshot.len()).map(NodeIx::from_row);
        if !checks.by_cluster.is_empty() {
            // Who ends elsewhere counts as gone too.
            for node in rows.clone() {
                self.everywhere.look(&self.snapshot, &mut self.after, node);
            }
        }
        let open = checks.open(profile, &Cycle::new(&self.after, pod, self.now));
        let mut no_help = FixedBitSet::with_capacity(self.snapshot.len());
        let mut costs = Vec::with_capacity(self.snapshot.len());
        for node in rows {
            let said = self.row(profile, &checks, open.as_deref(), pod, node);
            no_help.set(node.row(), matches!(said, Row::NoHelp));
            costs.push(said.cost());
        }
        Memo {
            pod: pod.clone(),
            fingerprint,
            checks,
            open,
            no_help,
            bids: Bids::new(costs),
            behind: Vec::new(),
            synced: self.log.len(),
        }
    }

    /// Asks one row; who would have to leave is in `scratch` then.
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
        let here = self.everywhere.look(&self.snapshot, &mut self.after, node);
        let below = here.below(pod.priority);
        let (lower, held) = (&here.pods[below..], &here.held[below..]);
        let (counts, left) = (&here.counts[below..], &self.left);
        let out = &mut self.scratch;
        let is_bid = if let Some(asked) = &checks.asked {
            let mut trial = ByAmounts {
                asked,
                free: Free::free(&self.after, node),
                lower: held,
            };
            if lower.is_empty() && !trial.passes() {
                return Row::NoHelp;
            }
            victims(&mut trial, counts, left, out)
        } else {
            let is_short = short(&self.after, node, &pod.demand, lower);
            let mut trial = ByFilters {
                profile,
                checks,
                pod,
                now: self.now,
                ledger: &mut self.after,
                node,
                lower,
            };
            if lower.is_empty() && !trial.passes() {
                return Row::NoHelp;
            }
            !is_short && victims(&mut trial, counts, left, out)
        };
        match is_bid {
            true => Row::Bid(cost(held, &self.scratch)),
            false => Row::TooLittle,
        }
    }
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
