//! One node: who would have to leave it.

use std::sync::Arc;

use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;

use super::here::{Amounts, Holding};
use super::{Cost, Victim};
use crate::budget::Budget;
use crate::place::ask::{contain, filter_contained, obstacles_contained};
use crate::place::kernel::{Asked, Kernel, Rule};
use crate::place::plugin::{Cycle, Reach};
use crate::place::{Pending, Profile};
use crate::snapshot::{Ledger, NodeIx, Running};

/// The filters that evictions on a node can change, for one shape of pod.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    /// How far each filter looks.
    reaches: Vec<Reach>,
    /// Of [`Reach::Node`].
    by_node: Vec<usize>,
    /// Of [`Reach::Cluster`].
    pub(super) by_cluster: Vec<usize>,
    /// What the pod asks, if they are nothing but whether there is as much.
    pub(super) asked: Option<Asked>,
}

impl Checks {
    /// Which filters of `profile` there are for the pod of `cycle`.
    pub(super) fn of(profile: &Profile, cycle: &Cycle<'_>) -> Self {
        // What panics was reported when the pod found no node, and turns down what it is asked.
        let filters = profile.filters.iter();
        let reach = filters.map(|filter| contain(|| filter.reach(cycle)).unwrap_or(Reach::Cluster));
        let reaches: Vec<Reach> = reach.collect();
        let of = |wanted: Reach| -> Vec<usize> {
            let all = reaches.iter().enumerate();
            all.filter(|(_, reach)| **reach == wanted)
                .map(|(at, _)| at)
                .collect()
        };
        let (by_node, by_cluster) = (of(Reach::Node), of(Reach::Cluster));
        let amounts = |&at: &usize| {
            let kernel = contain(|| profile.filters[at].kernel(cycle));
            kernel == Ok(Some(Kernel(Rule::Fit)))
        };
        let plain = by_cluster.is_empty() && !by_node.is_empty() && by_node.iter().all(amounts);
        Self {
            asked: plain.then(|| Asked::of(&cycle.pod.demand)),
            reaches,
            by_node,
            by_cluster,
        }
    }

    /// Whether they are those of another moment.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.reaches == other.reaches
    }

    /// Which nodes the other filters let pass, that no pod changes: all, if `None`.
    pub(super) fn open(&self, profile: &Profile, cycle: &Cycle<'_>) -> Option<Vec<bool>> {
        let mut passed: Option<Vec<bool>> = None;
        let rows = cycle.ledger.rows();
        let filters = profile.filters.iter().zip(&self.reaches);
        for (filter, _) in filters.filter(|(_, reach)| **reach == Reach::Fixed) {
            let passed = passed.get_or_insert_with(|| vec![true; rows.len()]);
            let _ = filter_contained(&**filter, cycle, rows, passed);
        }
        passed
    }

    /// Whether the filters let `node` pass.
    pub(super) fn pass(&self, profile: &Profile, cycle: &Cycle<'_>, node: NodeIx) -> bool {
        let mut fits = [true];
        let row = cycle.ledger.row(node);
        for &at in &self.by_node {
            let _ = filter_contained(&*profile.filters[at], cycle, row, &mut fits);
            if !fits[0] {
                return false;
            }
        }
        let mut others = self.by_cluster.iter().map(|&at| &profile.filters[at]);
        others.all(|filter| obstacles_contained(&**filter, cycle, node, None).is_empty())
    }
}

/// Takes from `left` what an eviction spends that counts against these budgets, and names the first
/// that has nothing left.
pub(super) fn spend(counts: &[u32], left: &mut [u32]) -> Option<usize> {
    let mut violated = None;
    for at in counts.iter().map(|&at| at as usize) {
        match left[at].checked_sub(1) {
            Some(rest) => left[at] = rest,
            None => violated = violated.or(Some(at)),
        }
    }
    violated
}

/// A node with the pod wanting to be there and some of the others gone.
pub(super) trait Trial {
    /// Takes off the `at`-th of those of lower priority.
    fn evict(&mut self, at: usize);
    /// Puts it back.
    fn restore(&mut self, at: usize);
    /// Whether the pod fits.
    fn passes(&self) -> bool;
}

/// Where nothing but amounts decides.
pub(super) struct ByAmounts<'a> {
    pub(super) asked: &'a Asked,
    pub(super) free: Amounts,
    pub(super) lower: &'a [Holding],
}

impl Trial for ByAmounts<'_> {
    fn evict(&mut self, at: usize) {
        self.free.add(&self.lower[at].room);
    }

    fn restore(&mut self, at: usize) {
        self.free.take(&self.lower[at].room);
    }

    fn passes(&self) -> bool {
        let Amounts {
            cpu,
            memory,
            storage,
            pods,
        } = self.free;
        self.asked.fit_in(cpu, memory, storage, pods)
    }
}

/// Where every filter is asked.
pub(super) struct ByFilters<'a> {
    pub(super) profile: &'a Profile,
    pub(super) checks: &'a Checks,
    pub(super) pod: &'a Pending,
    pub(super) now: Timestamp,
    pub(super) ledger: &'a mut Ledger,
    pub(super) node: NodeIx,
    pub(super) lower: &'a [Arc<Running>],
}

impl Trial for ByFilters<'_> {
    fn evict(&mut self, at: usize) {
        self.ledger.evict(self.node, &self.lower[at]);
    }

    fn restore(&mut self, at: usize) {
        self.ledger.restore(self.node, &self.lower[at]);
    }

    fn passes(&self) -> bool {
        let cycle = Cycle::new(self.ledger, self.pod, self.now);
        self.checks.pass(self.profile, &cycle, self.node)
    }
}

/// A victim, by its place among those of lower priority, and the budget that its eviction violates.
pub(super) type Out = (usize, Option<usize>);

/// Finds who of those of lower priority (the most important first) has to leave for the pod, the most
/// important first; false if it does not fit even without all of them. Each counts against the budgets
/// in `lower`, of which `left` is left. The trial ends as it began.
pub(super) fn victims(
    trial: &mut impl Trial,
    lower: &[Vec<u32>],
    left: &[u32],
    victims: &mut Vec<Out>,
) -> bool {
    victims.clear();
    (0..lower.len()).for_each(|at| trial.evict(at));
    if !trial.passes() {
        (0..lower.len()).for_each(|at| trial.restore(at));
        return false;
    }
    let mut spare = |at: usize, violated: Option<usize>| {
        trial.restore(at);
        if !trial.passes() {
            trial.evict(at);
            victims.push((at, violated));
        }
    };
    let spares_all = |&at: &u32| left[at as usize] as usize >= lower.len();
    if lower.iter().flatten().all(spares_all) {
        (0..lower.len()).for_each(|at| spare(at, None));
    } else {
        let mut left = left.to_vec();
        let spent: Vec<Option<usize>> = lower
            .iter()
            .map(|counts| spend(counts, &mut left))
            .collect();
        let first = spent
            .iter()
            .enumerate()
            .filter(|(_, spent)| spent.is_some());
        let then = spent
            .iter()
            .enumerate()
            .filter(|(_, spent)| spent.is_none());
        first
            .chain(then)
            .for_each(|(at, violated)| spare(at, *violated));
    }
    for &(at, _) in victims.iter() {
        trial.restore(at);
    }
    victims.sort_unstable();
    true
}

/// What is added to a priority, so that more victims never sum to less.
pub(super) const RAISE: i64 = 1 << 31;

/// What victims cost.
pub(super) fn cost(lower: &[Holding], victims: &[Out]) -> Cost {
    let highest = victims.first().map(|&(at, _)| lower[at].priority);
    // They are sorted by start within a priority, who has not started last.
    let started = victims.first().and_then(|&(at, _)| lower[at].started);
    let of = |&(at, _): &Out| i64::from(lower[at].priority) + RAISE;
    Cost {
        violations: victims
            .iter()
            .filter(|(_, violates)| violates.is_some())
            .count() as u32,
        highest,
        sum: victims.iter().map(of).fold(0, i64::saturating_add),
        victims: victims.len() as u32,
        started,
    }
}

/// The victims as a plan names them.
pub(super) fn named(lower: &[Arc<Running>], victims: &[Out], budgets: &[Budget]) -> Vec<Victim> {
    let key = |at: usize| -> ObjectKey { budgets[at].key.clone() };
    victims
        .iter()
        .map(|&(at, violated)| Victim {
            pod: lower[at].id.clone(),
            priority: lower[at].priority,
            started: lower[at].started,
            violates: violated.map(key),
        })
        .collect()
}
