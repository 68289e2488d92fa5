//! Moves of pods: every beginning of a plan keeps the rules, each move gains what it says, and planned
//! again from the end there is nothing left.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::sync::Arc;

use orchestra_core::kind::PodDisruptionBudget;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fits::obstacles;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::Framework;
use orchestra_sched::rebalance::pods::{Limits, Move, MovePlan, Stop, rebalance};
use orchestra_sched::snapshot::{Demand, Ledger, Running, Snapshot, SnapshotBuilder};
use proptest::prelude::*;
use random::build;

const NOW: Timestamp = Timestamp::EPOCH;

const SMALL: Limits = Limits {
    moves_max: 1_000,
    gain_min: 1_000,
    looks_max: 100_000,
};

fn plan(snapshot: &Snapshot, limits: &Limits) -> MovePlan {
    rebalance(snapshot, &Framework::default(), limits, NOW)
}

/// Takes the pod off its node, asks every rule about the other, and puts it there.
fn carry_out(builder: &mut SnapshotBuilder, one: &Move) -> Result<(), String> {
    let before = builder.snapshot(Revision(1));
    let row = before.node(before.find(&one.from).ok_or("no such node")?);
    let running = row.pods().iter().find(|running| running.id == one.pod);
    let running = Running::clone(running.ok_or("it does not run there")?);
    builder.remove_pod(&one.pod);
    let without = builder.snapshot(Revision(1));
    let mut demand = Demand::clone(&running.demand);
    demand.node_name = None;
    let to = without.find(&one.to).ok_or("no such node")?;
    let mut ledger = Ledger::open(&without);
    let demand = Arc::new(demand);
    ledger.expect(&demand);
    let found = obstacles(&ledger, to, &demand);
    if !found.is_empty() {
        return Err(format!("{one}: {found:?}"));
    }
    builder.set_pod(&one.to, Running { demand, ..running });
    Ok(())
}

proptest! {
    #[test]
    fn every_beginning_keeps_the_rules_and_the_end_is_the_end((nodes, pods) in random::cluster()) {
        let mut builder = build(&nodes, &pods);
        let first = plan(&builder.snapshot(Revision(1)), &SMALL);
        prop_assert_eq!(first.stop, Stop::NothingGains);
        let mut cost = first.before;
        for one in &first.moves {
            prop_assert!(one.gain >= SMALL.gain_min);
            prop_assert_eq!(carry_out(&mut builder, one), Ok(()));
            // What is left to do costs what was promised.
            let rest = plan(&builder.snapshot(Revision(1)), &Limits { moves_max: 0, ..SMALL });
            cost -= one.gain;
            prop_assert_eq!(rest.before, cost);
        }
        prop_assert_eq!(first.after, cost);
        let again = plan(&builder.snapshot(Revision(1)), &SMALL);
        prop_assert_eq!(again.moves, vec![]);
    }

    #[test]
    fn a_smaller_budget_is_a_beginning_of_a_larger((nodes, pods) in random::cluster(), max in 0usize..4) {
        let snapshot = build(&nodes, &pods).snapshot(Revision(1));
        let whole = plan(&snapshot, &SMALL);
        let part = plan(&snapshot, &Limits { moves_max: max, ..SMALL });
        let len = max.min(whole.moves.len());
        prop_assert_eq!(&part.moves[..], &whole.moves[..len]);
    }

    #[test]
    fn no_single_move_gains_more_than_the_first((nodes, pods) in random::cluster()) {
        let builder = build(&nodes, &pods);
        let snapshot = builder.snapshot(Revision(1));
        let found = plan(&snapshot, &Limits { moves_max: 1, ..SMALL });
        let none = Limits { moves_max: 0, ..SMALL };
        let mut most = 0;
        for (_, row) in snapshot.nodes() {
            for running in row.pods() {
                for (_, to) in snapshot.nodes() {
                    let mut other = builder.clone();
                    let one = Move {
                        pod: running.id.clone(),
                        from: row.name().clone(),
                        to: to.name().clone(),
                        gain: 0,
                        from_share: Default::default(),
                        to_share: Default::default(),
                    };
                    if to.name() != row.name() && carry_out(&mut other, &one).is_ok() {
                        let after = plan(&other.snapshot(Revision(1)), &none).before;
                        most = most.max(found.before - after);
                    }
                }
            }
        }
        let gain = found.moves.first().map_or(0, |one| one.gain);
        // Whom others want near stays, which the trial above does not know.
        let is_free = |running: &Arc<Running>| running.demand.relations.is_none();
        if snapshot.nodes().flat_map(|(_, row)| row.pods()).all(is_free) {
            prop_assert_eq!(gain, if most >= SMALL.gain_min { most } else { 0 });
        } else {
            prop_assert!(gain <= most);
        }
    }
}

const UNEVEN: &str = "
    node full cpu=8 memory=16Gi
    node half cpu=8 memory=16Gi
    node empty cpu=8 memory=16Gi
    node gpu cpu=8 memory=16Gi taint=gpu=yes:NoSchedule
    pod web*4 on=full cpu=1500m memory=2Gi label=app=web
    pod db on=full cpu=1 memory=4Gi label=app=db
    pod api*2 on=half cpu=2 memory=2Gi label=app=api
";

#[test]
fn a_plan_reads_well() {
    let cluster: Cluster = UNEVEN.parse().unwrap();
    let mut builder = cluster.builder();
    let whole = plan(&builder.snapshot(Revision(1)), &Limits::default());
    let one = Limits {
        moves_max: 1,
        ..Limits::default()
    };
    let first = plan(&builder.snapshot(Revision(1)), &one);
    let unasked = Limits {
        looks_max: 0,
        ..Limits::default()
    };
    let none = plan(&builder.snapshot(Revision(1)), &unasked);
    for one in &whole.moves {
        carry_out(&mut builder, one).unwrap();
    }
    let again = plan(&builder.snapshot(Revision(1)), &Limits::default());
    let text = format!("{whole}\n\n{first}\n\n{none}\n\n{again}\n");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rebalance.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_disruption_budget_is_not_overdrawn() {
    let cluster: Cluster = UNEVEN.parse().unwrap();
    let mut builder = cluster.builder();
    let mut budget: PodDisruptionBudget = serde_json::from_str(
        r#"{"metadata": {"name": "web", "namespace": "default"},
            "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}}"#,
    )
    .unwrap();
    for spare in 0..3u32 {
        budget.status.disruptions_allowed = spare;
        builder.apply_budget(&budget);
        let plan = plan(&builder.snapshot(Revision(1)), &SMALL);
        let webs = plan
            .moves
            .iter()
            .filter(|one| one.pod.to_string().contains("web"));
        assert!(webs.count() <= spare as usize, "{plan}");
        assert!(!plan.moves.is_empty(), "the database may move");
    }
}
