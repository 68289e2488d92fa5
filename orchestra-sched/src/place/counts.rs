//! On how many nodes pods fit.

use orchestra_core::time::Timestamp;

use super::plugin::{Cycle, Reach};
use super::share::Groups;
use super::{Framework, Pending};
use crate::snapshot::{Ledger, Snapshot};

impl Framework {
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
        if !self.profile.reserves.is_empty() {
            return None;
        }
        let rows = cycle.ledger.rows();
        let mut fits = vec![true; rows.len()];
        for filter in &self.profile.filters {
            match filter.reach(cycle) {
                Reach::Nothing => {}
                Reach::Fixed | Reach::Node => filter.filter(cycle, rows, &mut fits),
                Reach::Cluster => return None,
            }
        }
        Some(fits.into_iter().filter(|&fits| fits).count())
    }
}
