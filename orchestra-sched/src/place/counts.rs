//! On which nodes pods fit, and on how many.

use orchestra_core::time::Timestamp;

use super::ask::{contain, filter_contained};
use super::plugin::{Cycle, Reach};
use super::share::Groups;
use super::{Framework, Pending};
use crate::snapshot::{Ledger, NodeIx, Snapshot};

impl Framework {
    /// By row: whether every filter lets the pod onto the node. None, where a filter panics.
    pub(crate) fn fitting(&self, cycle: &Cycle<'_>) -> Vec<bool> {
        let rows = cycle.ledger.rows();
        let mut fits = vec![true; rows.len()];
        for filter in &self.profile.filters {
            let is_silent = matches!(contain(|| filter.reach(cycle)), Ok(Reach::Nothing));
            if !is_silent && filter_contained(&**filter, cycle, rows, &mut fits).is_err() {
                fits.fill(false);
                break;
            }
        }
        fits
    }

    /// Whether every keeper of accounts lets the pod onto the node.
    pub(crate) fn reservable(&self, cycle: &Cycle<'_>, node: NodeIx) -> bool {
        self.profile.reserves.iter().all(|factory| {
            let asked = contain(|| factory.open(cycle.snapshot()).reserve(cycle, node).is_ok());
            asked.unwrap_or(false)
        })
    }

    /// For each of `pods`, on how many nodes it fits now. `None` where a filter looks beyond the
    /// node, or somebody else has a say: where one goes then changes where another may.
    pub(crate) fn fit_counts(
        &self,
        snapshot: &Snapshot,
        pods: &[Pending],
        now: Timestamp,
    ) -> Vec<Option<usize>> {
        let mut ledger = Ledger::open(snapshot);
        pods.iter().for_each(|pod| ledger.expect(&pod.demand));
        let mut groups = Groups::new(self.fields(), ledger.has_terms());
        let group_of: Vec<usize> = pods.iter().map(|pod| groups.find(pod)).collect();
        let mut counts: Vec<Option<Option<usize>>> = vec![None; groups.len()];
        let each = group_of.iter().zip(pods);
        each.map(|(&group, pod)| {
            *counts[group].get_or_insert_with(|| self.fit_count(&Cycle::new(&ledger, pod, now)))
        })
        .collect()
    }

    fn fit_count(&self, cycle: &Cycle<'_>) -> Option<usize> {
        let is_local = |reach| matches!(reach, Ok(Reach::Nothing | Reach::Fixed | Reach::Node));
        let mut filters = self.profile.filters.iter();
        let local = self.profile.reserves.is_empty()
            && filters.all(|filter| is_local(contain(|| filter.reach(cycle))));
        local.then(|| self.fitting(cycle).into_iter().filter(|&fits| fits).count())
    }
}
