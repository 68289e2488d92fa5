//! One node: who would have to leave it.

use std::cmp::Reverse;
use std::sync::Arc;

use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;

use super::{Cost, Victim};
use crate::budget::Budget;
use crate::place::ask::{contain, filter_contained, obstacles_contained};
use crate::place::plugin::{Cycle, Reach};
use crate::place::{Pending, Profile};
use crate::snapshot::{Ledger, NodeIx, Running};

/// Sorts pods by importance, the most important first: by priority, then by start.
pub(super) fn by_importance(pods: &mut [Arc<Running>]) {
    pods.sort_unstable_by(|a, b| {
        let key = |pod: &Running| (Reverse(pod.priority), pod.started.is_none(), pod.started);
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
}

/// The filters that evictions on a node can change, for one shape of pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    /// Of [`Reach::Node`].
    pub(super) by_node: Vec<usize>,
    /// Of [`Reach::Cluster`].
    pub(super) by_cluster: Vec<usize>,
}

impl Checks {
    /// Which filters of `profile` there are for the pod of `cycle`, and which nodes the others let
    /// pass: all, if that is `None`.
    pub(super) fn of(profile: &Profile, cycle: &Cycle<'_>) -> (Self, Option<Vec<bool>>) {
        let mut checks = Self::default();
        let mut passed: Option<Vec<bool>> = None;
        let rows = cycle.ledger.rows();
        for (at, filter) in profile.filters.iter().enumerate() {
            // What panics was reported when the pod found no node, and turns down what it is asked.
            match contain(|| filter.reach(cycle)).unwrap_or(Reach::Cluster) {
                Reach::Nothing => {}
                Reach::Fixed => {
                    let passed = passed.get_or_insert_with(|| vec![true; rows.len()]);
                    let _ = filter_contained(&**filter, cycle, rows, passed);
                }
                Reach::Node => checks.by_node.push(at),
                Reach::Cluster => checks.by_cluster.push(at),
            }
        }
        (checks, passed)
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

/// Takes from `left` what the eviction of `running` spends, and names the first budget that has
/// nothing left.
pub(super) fn spend(budgets: &[Budget], left: &mut [u32], running: &Running) -> Option<usize> {
    let mut violated = None;
    for (at, budget) in budgets.iter().enumerate() {
        if budget.counts(running) {
            match left[at].checked_sub(1) {
                Some(rest) => left[at] = rest,
                None => violated = violated.or(Some(at)),
            }
        }
    }
    violated
}

/// What is looked at on one node.
pub(super) struct Question<'a> {
    pub(super) profile: &'a Profile,
    pub(super) checks: &'a Checks,
    pub(super) budgets: &'a [Budget],
    /// What is left of each budget.
    pub(super) left: &'a [u32],
    pub(super) pod: &'a Pending,
    pub(super) now: Timestamp,
}

impl Question<'_> {
    /// Who of `lower` (the most important first) has to leave `node` for the pod, the most important
    /// first; `None` if it does not fit even without all of them. `ledger` is left as it was found.
    pub(super) fn victims(
        &self,
        ledger: &mut Ledger,
        node: NodeIx,
        lower: &[Arc<Running>],
    ) -> Option<Vec<(usize, Option<usize>)>> {
        for running in lower {
            ledger.evict(node, running);
        }
        if !self.passes(ledger, node) {
            for running in lower {
                ledger.restore(node, running);
            }
            return None;
        }
        let mut violating: Vec<(usize, Option<usize>)> = Vec::new();
        let mut sparing = Vec::with_capacity(lower.len());
        if self.budgets.is_empty() {
            sparing.extend((0..lower.len()).map(|at| (at, None)));
        } else {
            let mut left = self.left.to_vec();
            for (at, running) in lower.iter().enumerate() {
                match spend(self.budgets, &mut left, running) {
                    None => sparing.push((at, None)),
                    violated => violating.push((at, violated)),
                }
            }
        }
        let mut victims = Vec::new();
        for (at, violated) in violating.into_iter().chain(sparing) {
            ledger.restore(node, &lower[at]);
            if !self.passes(ledger, node) {
                ledger.evict(node, &lower[at]);
                victims.push((at, violated));
            }
        }
        for &(at, _) in &victims {
            ledger.restore(node, &lower[at]);
        }
        victims.sort_unstable();
        Some(victims)
    }

    /// Whether the pod can run on `node`.
    pub(super) fn passes(&self, ledger: &Ledger, node: NodeIx) -> bool {
        let cycle = Cycle::new(ledger, self.pod, self.now);
        self.checks.pass(self.profile, &cycle, node)
    }
}

/// What victims cost: positions in `lower`, and the budgets they violate.
pub(super) fn cost(lower: &[Arc<Running>], victims: &[(usize, Option<usize>)]) -> Cost {
    const RAISE: i64 = 1 << 31;
    let highest = victims.first().map(|&(at, _)| lower[at].priority);
    // They are sorted by start within a priority, who has not started last.
    let started = victims.first().and_then(|&(at, _)| lower[at].started);
    let of = |&(at, _): &(usize, Option<usize>)| i64::from(lower[at].priority) + RAISE;
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
pub(super) fn named(
    lower: &[Arc<Running>],
    victims: &[(usize, Option<usize>)],
    budgets: &[Budget],
) -> Vec<Victim> {
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
