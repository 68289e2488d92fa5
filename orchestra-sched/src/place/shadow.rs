//! A scheduler that votes without deciding, to be tried beside the real one.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::{Pending, Plan, PlanInputs, Scheduler};
use crate::explain::Ranking;
use crate::snapshot::{PodId, Snapshot};

/// A pod on which two plans differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vote {
    /// The pod.
    pub pod: PodId,
    /// Where the real plan puts it, if anywhere.
    pub real: Option<SmolStr>,
    /// Where the shadow would, if anywhere.
    pub shadow: Option<SmolStr>,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |node: &Option<SmolStr>| match node {
            Some(node) => format!("to {node}"),
            None => "nowhere".to_owned(),
        };
        let (real, shadow) = (place(&self.real), place(&self.shadow));
        write!(
            f,
            "{} goes {real}, the shadow would send it {shadow}",
            self.pod
        )
    }
}

/// What two schedulers said of the same question.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ballot {
    /// How many pods were asked about.
    pub pods: usize,
    /// Those on which they differ, in the order of the real plan: first the placed, then the
    /// unplaced.
    pub differing: Vec<Vote>,
    /// What the shadow panicked with, if it did; then it counts as agreeing.
    pub panicked: Option<String>,
}

impl Ballot {
    /// Compares two plans for the same pods.
    pub fn of(real: &Plan, shadow: &Plan) -> Self {
        let voted: BTreeMap<usize, &SmolStr> = shadow
            .placed
            .iter()
            .map(|placed| (placed.pending, &placed.node))
            .collect();
        let placed = real
            .placed
            .iter()
            .map(|placed| (placed.pending, &placed.pod, Some(&placed.node)));
        let unplaced = real
            .unplaced
            .iter()
            .map(|unplaced| (unplaced.pending, &unplaced.pod, None));
        let mut ballot = Self::default();
        for (pending, pod, real) in placed.chain(unplaced) {
            ballot.pods += 1;
            let shadow = voted.get(&pending).copied();
            if real != shadow {
                ballot.differing.push(Vote {
                    pod: pod.clone(),
                    real: real.cloned(),
                    shadow: shadow.cloned(),
                });
            }
        }
        ballot
    }
}

/// A real scheduler, which decides, and one in its shadow, which is asked the same and reported.
///
/// The shadow changes nothing: its plan is thrown away, its panic is contained. It is asked after
/// the real one, on the same thread, so that each plan takes as long as both.
pub struct Shadow<F> {
    real: Arc<dyn Scheduler>,
    shadow: Arc<dyn Scheduler>,
    report: F,
}

impl<F: Fn(&Ballot) + Send + Sync> Shadow<F> {
    /// `report` is called after every plan. It must not wait.
    pub fn new(real: Arc<dyn Scheduler>, shadow: Arc<dyn Scheduler>, report: F) -> Self {
        Self {
            real,
            shadow,
            report,
        }
    }
}

impl<F> fmt::Debug for Shadow<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("real", &self.real)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

impl<F: Fn(&Ballot) + Send + Sync> Scheduler for Shadow<F> {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], inputs: PlanInputs) -> Plan {
        let plan = self.real.plan(snapshot, pending, inputs);
        // A scheduler that panicked may be left in any state, but nobody relies on the shadow's.
        let shadow = || self.shadow.plan(snapshot, pending, inputs);
        let ballot = match catch_unwind(AssertUnwindSafe(shadow)) {
            Ok(shadow) => Ballot::of(&plan, &shadow),
            Err(panic) => Ballot {
                pods: pending.len(),
                panicked: Some(
                    panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                        .unwrap_or_else(|| "no message".to_owned()),
                ),
                ..Ballot::default()
            },
        };
        (self.report)(&ballot);
        plan
    }

    /// That of the real one.
    fn ranking(&self, snapshot: &Snapshot, pod: &Pending, now: Timestamp) -> Option<Ranking> {
        self.real.ranking(snapshot, pod, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use orchestra_core::time::Timestamp;

    use super::*;
    use crate::fixture::Cluster;
    use crate::place::{Framework, Profile, Switch};
    use crate::rng::PlanRng;

    #[derive(Debug)]
    struct Panics;

    impl Scheduler for Panics {
        fn plan(&self, _: &Snapshot, _: &[Pending], _: PlanInputs) -> Plan {
            panic!("no idea")
        }
    }

    fn cluster() -> (Snapshot, Vec<Pending>) {
        let cluster: Cluster = "
            node a cpu=4 memory=8Gi
            node b cpu=8 memory=8Gi taint=x=y:NoSchedule
            pod web*2 cpu=3 memory=1Gi
        "
        .parse()
        .unwrap();
        (cluster.snapshot(), cluster.pending())
    }

    fn inputs() -> PlanInputs {
        PlanInputs {
            now: Timestamp::EPOCH,
            rng: PlanRng::new(1),
        }
    }

    /// Knows no rules at all.
    fn careless() -> Arc<dyn Scheduler> {
        Arc::new(Framework::new(Profile::empty()))
    }

    #[test]
    fn a_shadow_changes_nothing_and_its_differences_are_told() {
        let (snapshot, pending) = cluster();
        let real: Arc<dyn Scheduler> = Arc::new(Framework::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        for shadow in [careless(), real.clone(), Arc::new(Panics)] {
            let seen = seen.clone();
            let report = move |ballot: &Ballot| seen.lock().unwrap().push(ballot.clone());
            let both = Shadow::new(real.clone(), shadow, report);
            let plan = both.plan(&snapshot, &pending, inputs());
            assert_eq!(plan, real.plan(&snapshot, &pending, inputs()));
        }
        let seen = seen.lock().unwrap();
        let unplaced = seen[0].differing.iter().find(|vote| vote.real.is_none());
        assert!(unplaced.unwrap().shadow.is_some(), "{:?}", seen[0]);
        assert_eq!((seen[1].pods, seen[1].differing.len()), (2, 0));
        assert_eq!(seen[2].panicked.as_deref(), Some("no idea"));
    }

    #[test]
    fn a_switch_asks_whoever_it_was_told_last() {
        let (snapshot, pending) = cluster();
        let switch = Switch::new(Arc::new(Framework::default()));
        assert_eq!(switch.plan(&snapshot, &pending, inputs()).placed.len(), 1);
        let before = switch.swap(careless());
        assert_eq!(switch.plan(&snapshot, &pending, inputs()).placed.len(), 2);
        switch.swap(before);
        assert_eq!(switch.plan(&snapshot, &pending, inputs()).placed.len(), 1);
    }
}
