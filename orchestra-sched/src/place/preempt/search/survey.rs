//! One look at all nodes for a shape of pod that may not come again, where nothing but amounts decides.
//! Most nodes are told by what all their pods of lower priority hold together; who would have to leave
//! is found out only where that could be the best.

use super::{Found, Row, Search};
use crate::place::preempt::candidate::Checks;
use crate::place::preempt::heap::{Bid, enter};
use crate::place::preempt::here::Amounts as Free;
use crate::place::preempt::{Cost, NO_VICTIMS};
use crate::place::{Pending, Profile};
use crate::snapshot::NodeIx;

impl Search {
    /// Looks at all nodes; `None` if more than amounts decides.
    pub(super) fn survey(
        &mut self,
        profile: &Profile,
        checks: &Checks,
        open: Option<&[bool]>,
        pod: &Pending,
    ) -> Option<Found> {
        let asked = checks.asked.as_ref()?;
        let snapshot = self.snapshot.clone();
        let ranks = snapshot.name_ranks();
        let belows = self
            .everywhere
            .take_belows(&snapshot, &mut self.after, pod.priority);
        let mut found = Found {
            best: [None, None],
            candidates: 0,
            no_help: 0,
        };
        for (row, below) in belows.rows().iter().enumerate() {
            if open.is_some_and(|open| !open[row]) {
                found.no_help += 1;
                continue;
            }
            let node = NodeIx::from_row(row);
            let free = Free::free(&self.after, node);
            let fits = |free: Free| asked.fit_in(free.cpu, free.memory, free.storage, free.pods);
            let bid = |cost: Cost| Bid {
                cost,
                rank: ranks[row],
                node,
            };
            if fits(free) {
                found.candidates += 1;
                enter(&mut found.best, bid(NO_VICTIMS));
            } else if below.is_empty() {
                found.no_help += 1;
            } else if fits(below.gone(free)) {
                found.candidates += 1;
                if let Some(worst) = found.best[1]
                    && bid(below.bound(asked, &free)) > worst
                {
                    continue;
                }
                if let Row::Bid(cost) = self.row(profile, checks, None, pod, node) {
                    enter(&mut found.best, bid(cost));
                }
            }
        }
        self.everywhere.give_belows(belows);
        Some(found)
    }
}
