//! The same for pods: a few moves after which a cluster is more evenly used.
//!
//! What a node's use costs grows with its square, so that the same pod costs more where much is used
//! than where little is. One move after the other, the one is chosen that gains most; where it goes
//! every rule of the scheduler's profile is asked, with the moves before it carried out. It ends
//! where nothing gains enough any more, and planned again from there it is empty.
//!
//! ```
//! use orchestra_core::time::Timestamp;
//! use orchestra_sched::fixture::Cluster;
//! use orchestra_sched::place::Framework;
//! use orchestra_sched::rebalance::pods::{Limits, rebalance};
//!
//! let cluster: Cluster = "
//!     node full cpu=4 memory=8Gi
//!     node empty cpu=4 memory=8Gi
//!     pod web*3 on=full cpu=1 memory=2Gi
//! ".parse()?;
//! let plan = rebalance(
//!     &cluster.snapshot(),
//!     &Framework::default(),
//!     &Limits::default(),
//!     Timestamp::EPOCH,
//! );
//! assert_eq!(plan.moves.len(), 1);
//! assert_eq!(plan.moves[0].to, "empty");
//! # Ok::<(), orchestra_sched::fixture::FixtureError>(())
//! ```

mod cost;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orchestra_core::time::Timestamp;

use cost::{Costs, Use};
pub use plan::{Move, MovePlan, Share, Stop};

use crate::place::plugin::Cycle;
use crate::place::{Framework, Pending};
use crate::snapshot::{Demand, Future, Ledger, NodeIx, PodId, PodTerm, Running, Snapshot};

/// How far a plan may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many pods may be moved.
    pub moves_max: usize,
    /// What a move must gain to be worth it, in millionths of what the use of one average node
    /// costs when all of one resource is used. At least 1 counts.
    pub gain_min: i64,
    /// How often the rules may be asked about all nodes at once; a plan that needs more ends early
    /// and says so.
    pub looks_max: usize,
}

impl Default for Limits {
    /// 100 moves that gain half a hundredth each; 100,000 looks.
    fn default() -> Self {
        Self {
            moves_max: 100,
            gain_min: 5_000,
            looks_max: 100_000,
        }
    }
}

/// Moves that make a cluster more evenly used, within limits, best first. Every beginning of the
/// plan keeps every rule of the framework's profile.
///
/// A pod that moves is started on its new node before or after it is stopped on the old one; what
/// it requests is free on the new node while it runs on the old. Pods that end stay where they are,
/// and of the pods under a disruption budget at most as many move as it can spare now.
pub fn rebalance(
    snapshot: &Snapshot,
    framework: &Framework,
    limits: &Limits,
    now: Timestamp,
) -> MovePlan {
    let mut run = Run::of(snapshot, framework, limits, now);
    let mut plan = MovePlan {
        base: snapshot.base(),
        before: run.costs.total(),
        ..MovePlan::default()
    };
    plan.stop = loop {
        if plan.moves.len() == limits.moves_max {
            break Stop::Moves;
        }
        match run.best() {
            Some(best) => plan.moves.push(run.carry_out(&best)),
            None if run.looks >= limits.looks_max => break Stop::Looks,
            None => break Stop::NothingGains,
        }
    };
    plan.after = run.costs.total();
    plan
}

/// A pod that could move.
#[derive(Debug)]
struct Mover {
    running: Arc<Running>,
    node: NodeIx,
    /// What it asks elsewhere.
    demand: Arc<Demand>,
    takes: Use,
    /// The disruption budgets that cover it.
    budgets: Vec<usize>,
}

/// The best that was found.
struct Best {
    gain: i64,
    mover: usize,
    to: NodeIx,
}

struct Run<'a> {
    framework: &'a Framework,
    limits: &'a Limits,
    now: Timestamp,
    future: Future,
    costs: Costs,
    movers: Vec<Mover>,
    /// How many pods each disruption budget can spare.
    spare: Vec<u32>,
    looks: usize,
}

impl<'a> Run<'a> {
    fn of(
        snapshot: &Snapshot,
        framework: &'a Framework,
        limits: &'a Limits,
        now: Timestamp,
    ) -> Self {
        let budgets = snapshot.budgets();
        let wanted_near = wanted_near(snapshot);
        let stays = |running: &Running| {
            let demand = &running.demand;
            let labels = snapshot.namespace_labels(&demand.namespace);
            let means = |term: &PodTerm| term.matches(&demand.namespace, labels, &demand.labels);
            running.terminating || wanted_near.iter().any(means)
        };
        let mut movers = Vec::new();
        for (node, row) in snapshot.nodes() {
            for running in row.pods().iter().filter(|running| !stays(running)) {
                let counts = |at: &usize| budgets[*at].counts(running);
                movers.push(Mover {
                    running: Arc::clone(running),
                    node,
                    demand: running.demand.leaving(row.name()),
                    takes: Use::of(&running.demand),
                    budgets: (0..budgets.len()).filter(counts).collect(),
                });
            }
        }
        // Equals by name, so that the order in which they became known does not show.
        movers.sort_by(|a, b| a.running.id.cmp(&b.running.id));
        Self {
            framework,
            limits,
            now,
            future: Future::of(snapshot),
            costs: Costs::of(snapshot),
            movers,
            spare: budgets
                .iter()
                .map(|budget| budget.disruptions_allowed)
                .collect(),
            looks: 0,
        }
    }

    /// The move that gains most, if one gains enough.
    fn best(&mut self) -> Option<Best> {
        let enough = self.limits.gain_min.max(1);
        let mut cheapest: BTreeMap<Use, i64> = BTreeMap::new();
        let mut hopes: Vec<(i64, usize)> = Vec::new();
        for (at, mover) in self.movers.iter().enumerate() {
            if mover.budgets.iter().any(|&budget| self.spare[budget] == 0) {
                continue;
            }
            let costs = &self.costs;
            let takes = mover.takes;
            let adds = *cheapest
                .entry(takes)
                .or_insert_with(|| costs.least_to_add(takes));
            let hope = costs.gain_of_leaving(mover.node, takes) - adds;
            if hope >= enough {
                hopes.push((hope, at));
            }
        }
        hopes.sort_by_key(|&(hope, at)| (std::cmp::Reverse(hope), at));
        let mut best: Option<Best> = None;
        // Like pods on one node are alike in this too.
        let mut asked: BTreeSet<(NodeIx, Use, usize)> = BTreeSet::new();
        let mut kinds = Kinds::default();
        for (hope, at) in hopes {
            if best.as_ref().is_some_and(|best| best.gain >= hope) {
                break;
            }
            let mover = &self.movers[at];
            let kind = kinds.find(&mover.demand, mover.running.priority);
            if !asked.insert((mover.node, mover.takes, kind)) {
                continue;
            }
            if self.looks >= self.limits.looks_max {
                return None;
            }
            self.looks += 1;
            let least = best.as_ref().map_or(enough, |best| best.gain + 1);
            if let Some((to, gain)) = self.best_for(at, least) {
                best = Some(Best {
                    gain,
                    mover: at,
                    to,
                });
            }
        }
        best
    }

    /// Where a pod gains most, if it gains at least so much somewhere.
    fn best_for(&mut self, at: usize, least: i64) -> Option<(NodeIx, i64)> {
        let Mover {
            running,
            node,
            demand,
            takes,
            ..
        } = &self.movers[at];
        let from = self.costs.name(*node).clone();
        self.future.remove_pod(&from, running);
        let pending = pending(running, demand);
        let found = {
            let without = self.future.snapshot();
            let mut ledger = Ledger::open(&without);
            ledger.expect(demand);
            let cycle = Cycle::new(&ledger, &pending, self.now);
            let fits = self.framework.fitting(&cycle);
            let leaving = self.costs.gain_of_leaving(*node, *takes);
            let mut targets: Vec<(i64, NodeIx)> = (cycle.ledger.rows().nodes().zip(fits))
                .filter(|&(to, fits)| fits && to != *node)
                .map(|(to, _)| (leaving - self.costs.cost_of_adding(to, *takes), to))
                .filter(|&(gain, _)| gain >= least)
                .collect();
            let name = |to: NodeIx| self.costs.name(to);
            targets.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| name(a.1).cmp(name(b.1))));
            let mut targets = targets.into_iter();
            targets.find(|&(_, to)| self.framework.reservable(&cycle, to))
        };
        self.future.add_pod(*node, Arc::clone(running));
        found.map(|(gain, to)| (to, gain))
    }

    fn carry_out(&mut self, best: &Best) -> Move {
        let mover = &mut self.movers[best.mover];
        let (from, to) = (mover.node, best.to);
        let before = [from, to].map(|node| self.costs.share(node));
        self.future
            .remove_pod(self.costs.name(from), &mover.running);
        let running = Arc::new(Running {
            demand: Arc::clone(&mover.demand),
            ..Running::clone(&mover.running)
        });
        self.future.add_pod(to, Arc::clone(&running));
        self.costs.shift(from, to, mover.takes);
        mover.running = running;
        mover.node = to;
        for &budget in &mover.budgets {
            self.spare[budget] -= 1;
        }
        let after = [from, to].map(|node| self.costs.share(node));
        Move {
            pod: mover.running.id.clone(),
            from: self.costs.name(from).clone(),
            to: self.costs.name(to).clone(),
            gain: best.gain,
            from_share: (before[0], after[0]),
            to_share: (before[1], after[1]),
        }
    }
}

/// Whom pods require to be near.
fn wanted_near(snapshot: &Snapshot) -> Vec<PodTerm> {
    let mut terms: Vec<PodTerm> = Vec::new();
    let pods = snapshot.nodes().flat_map(|(_, row)| row.pods());
    for relations in pods.filter_map(|running| running.demand.relations.as_deref()) {
        for term in &relations.affinity {
            if !terms.contains(term) {
                terms.push(term.clone());
            }
        }
    }
    terms
}

fn pending(running: &Running, demand: &Arc<Demand>) -> Pending {
    Pending {
        id: PodId::clone(&running.id),
        priority: running.priority,
        demand: Arc::clone(demand),
        ..Pending::default()
    }
}

/// Numbers for pods that ask the same.
#[derive(Default)]
struct Kinds {
    all: Vec<(Arc<Demand>, i32)>,
}

impl Kinds {
    /// How many kinds are compared with; beyond, every pod is a kind of its own.
    const MAX: usize = 256;

    fn find(&mut self, demand: &Arc<Demand>, priority: i32) -> usize {
        let same = |(other, of): &(Arc<Demand>, i32)| {
            *of == priority && (Arc::ptr_eq(other, demand) || other == demand)
        };
        let known = self.all.iter().take(Self::MAX).position(same);
        known.unwrap_or_else(|| {
            self.all.push((Arc::clone(demand), priority));
            self.all.len() - 1
        })
    }
}
