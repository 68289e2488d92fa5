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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use orchestra_core::meta::{Labels, ObjectKey};
    use orchestra_core::port::store::Revision;
    use orchestra_core::selector::LabelSelector;
    use orchestra_core::time::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;
    use crate::fixture::Cluster;
    use crate::place::plugin::PodFields;
    use crate::place::share::Likeness;
    use crate::snapshot::Ledger;

    const NOW: Timestamp = Timestamp::EPOCH;

    proptest! {
        /// Pod after pod, each with those before it in their places.
        #[test]
        fn a_survey_finds_what_asking_each_node_finds(
            running in proptest::collection::vec(
                (1usize..9, 1u32..9, 0u32..5, -1i32..3, proptest::option::of(0i64..4), 0usize..3), 0..40),
            waiting in proptest::collection::vec((1u32..20, 0u32..8, 0i32..4), 1..6),
            budgets in proptest::collection::vec(0u32..4, 0..3),
        ) {
            // Names in another order than the rows.
            let mut text = String::new();
            for nth in [3, 8, 1, 5, 2, 7, 4, 6] {
                writeln!(text, "node n-{nth} cpu=2 memory=1Gi pods=6").unwrap();
            }
            for (nth, (on, cpu, memory, priority, _, app)) in running.iter().enumerate() {
                let (cpu, memory) = (cpu * 100, memory * 100);
                writeln!(
                    text,
                    "pod r{nth} on=n-{on} cpu={cpu}m memory={memory}Mi priority={priority} label=app=a{app}",
                ).unwrap();
            }
            for (nth, (cpu, memory, priority)) in waiting.iter().enumerate() {
                let (cpu, memory) = (cpu * 100, memory * 100);
                writeln!(text, "pod w{nth} cpu={cpu}m memory={memory}Mi priority={priority}").unwrap();
            }
            let mut cluster: Cluster = text.parse().unwrap();
            for (pod, (.., started, _)) in cluster.pods.iter_mut().zip(&running) {
                pod.status.start_time = started.map(Timestamp::from_secs);
            }
            let mut builder = cluster.builder();
            for (app, &disruptions_allowed) in budgets.iter().enumerate() {
                let labels = Labels::from([("app".into(), format!("a{app}").into())]);
                builder.set_budget(Budget {
                    key: ObjectKey::namespaced("default", format!("b{app}")),
                    selector: Some(LabelSelector::of(labels)),
                    disruptions_allowed,
                    disrupted: BTreeSet::new(),
                });
            }
            let (snapshot, profile) = (builder.snapshot(Revision(1)), Profile::default());
            let likeness = Likeness::new(PodFields::ALL, true);
            let open = || Search::open(&Ledger::open(&snapshot), &[], NOW, likeness, None);
            let (mut quick, mut plain) = (open(), open());
            for (nth, pod) in cluster.pending().iter().enumerate() {
                let shape = nth as u64;
                // As if it had been asked about before.
                plain.once.push((shape, pod.priority));
                let found = quick.find(&profile, nth, pod, shape, None);
                prop_assert_eq!(found, plain.find(&profile, nth, pod, shape, None));
                prop_assert_eq!((quick.memos.len(), plain.memos.len()), (0, nth + 1));
            }
        }
    }
}
