//! Preemption against a plain twin that rebuilds the cluster for every question, and what people read
//! of it.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeSet;
use std::sync::Arc;

use orchestra_core::kind::{Node, Pod};
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::port::store::Revision;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use orchestra_sched::budget::Budget;
use orchestra_sched::fits::{self, Obstacle};
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::preempt::{Preemption, choose};
use orchestra_sched::place::{Framework, Pending, Plan, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, Ledger, PodId, Running, Snapshot, SnapshotBuilder};
use proptest::prelude::*;
use random::cluster;

const NOW: Timestamp = Timestamp::EPOCH;
const INPUTS: PlanInputs = PlanInputs {
    now: NOW,
    rng: PlanRng::new(1),
};

fn build(nodes: &[Node], pods: &[Pod], budgets: &[Budget]) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    for node in nodes {
        builder.apply_node(node);
    }
    for pod in pods {
        builder.apply_pod(pod);
    }
    for budget in budgets {
        builder.set_budget(budget.clone());
    }
    builder
}

fn budget(app: &str, allowed: u32) -> Budget {
    Budget {
        key: ObjectKey::namespaced("default", app),
        selector: Some(LabelSelector::of(Labels::from([(
            "app".into(),
            app.into(),
        )]))),
        disruptions_allowed: allowed,
        disrupted: BTreeSet::new(),
    }
}

/// Full clusters with budgets, whose pods started at different times; half the nodes and pods say no
/// more than amounts, so that they meet.
fn contested() -> impl Strategy<Value = (Vec<Node>, Vec<Pod>, Vec<Budget>)> {
    let on = proptest::option::weighted(0.7, 0usize..8);
    let pods = proptest::collection::vec((on, proptest::option::of(0i64..4)), 24);
    let budgets = proptest::collection::vec((0usize..3, 0u32..3), 0..3);
    (cluster(), pods, budgets).prop_map(|((mut nodes, mut pods), lives, budgets)| {
        for node in nodes.iter_mut().step_by(2) {
            node.spec.taints.clear();
            node.spec.unschedulable = false;
        }
        for (nth, (pod, (on, start))) in pods.iter_mut().zip(lives).enumerate() {
            if nth % 2 == 0 {
                pod.spec.affinity = None;
                pod.spec.node_selector.clear();
            }
            pod.spec.node_name = match on {
                Some(on) if !nodes.is_empty() => nodes[on % nodes.len()].metadata.name.clone(),
                _ => "".into(),
            };
            if pod.spec.node_name.is_empty() {
                pod.spec.priority = pod.spec.priority.map(|priority| priority + 1);
            }
            pod.status.start_time = start.map(Timestamp::from_secs);
        }
        // Two may cover the same pods.
        let budgets = budgets.into_iter().enumerate().map(|(nth, (app, n))| {
            let mut budget = budget(["a", "b", "c"][app], n);
            budget.key.name = format!("budget-{nth}").into();
            budget
        });
        (nodes, pods, budgets.collect())
    })
}

/// A node by what room there costs, and who has to leave, in no order.
type Offer = (u32, Option<i32>, i64, usize, i64, String, BTreeSet<String>);

/// What room on one node costs, from the kinds alone.
fn offer(
    node: &Node,
    nodes: &[Node],
    pods: &[Pod],
    budgets: &[Budget],
    pod: &Pod,
) -> Option<Offer> {
    let name = &node.metadata.name;
    let priority = |pod: &Pod| pod.spec.priority.unwrap_or(0);
    let start = |pod: &Pod| pod.status.start_time.map_or(i64::MAX, |at| at.as_micros());
    let mut lower: Vec<&Pod> = pods
        .iter()
        .filter(|other| other.spec.node_name == *name && priority(other) < priority(pod))
        .collect();
    lower.sort_by_key(|other| (-priority(other), start(other), other.metadata.uid));
    let demand = Demand::of(pod);
    let fits_without = |gone: &[&Pod]| {
        let gone: Vec<_> = gone.iter().map(|gone| gone.metadata.uid).collect();
        let stay = pods
            .iter()
            .filter(|other| !gone.contains(&other.metadata.uid));
        let stay: Vec<Pod> = stay.cloned().collect();
        let snapshot = build(nodes, &stay, &[]).snapshot(Revision(1));
        fits::fits(&snapshot, name, &demand).is_ok()
    };
    if !fits_without(&lower) {
        return None;
    }
    let mut allowed: Vec<i64> = budgets
        .iter()
        .map(|b| b.disruptions_allowed.into())
        .collect();
    let (mut violating, mut sparing) = (Vec::new(), Vec::new());
    for &other in &lower {
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let selector = budget.selector.as_ref().unwrap();
            if budget.key.namespace == other.metadata.namespace
                && selector.matches(&other.metadata.labels)
            {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        if violates {
            violating.push(other)
        } else {
            sparing.push(other)
        }
    }
    let mut gone = lower.clone();
    for &other in violating.iter().chain(&sparing) {
        let without: Vec<&Pod> = gone.iter().copied().filter(|gone| *gone != other).collect();
        if fits_without(&without) {
            gone = without;
        }
    }
    // None of them could stay, were all others gone that are; but where others are company, one
    // that comes back may be what lets another stay.
    let alone =
        demand.relations.is_none() && lower.iter().all(|pod| Demand::of(pod).relations.is_none());
    for &spared in gone.iter().filter(|_| alone) {
        let rest: Vec<&Pod> = gone
            .iter()
            .copied()
            .filter(|gone| *gone != spared)
            .collect();
        assert!(
            !fits_without(&rest),
            "{} left for nothing",
            spared.metadata.name
        );
    }
    let violations = gone.iter().filter(|gone| violating.contains(gone)).count();
    let highest = gone.iter().map(|gone| priority(gone)).max();
    let sum = gone
        .iter()
        .map(|gone| i64::from(priority(gone)) + (1 << 31))
        .sum();
    let earliest = gone
        .iter()
        .filter(|gone| Some(priority(gone)) == highest)
        .map(|gone| start(gone))
        .min();
    let names = gone
        .iter()
        .map(|gone| gone.metadata.name.to_string())
        .collect();
    let late = -earliest.unwrap_or(i64::MAX);
    Some((
        violations as u32,
        highest,
        sum,
        gone.len(),
        late,
        name.to_string(),
        names,
    ))
}

fn names(preemption: &Preemption) -> BTreeSet<String> {
    preemption
        .victims
        .iter()
        .map(|victim| victim.pod.key.name.to_string())
        .collect()
}

/// What the plan says can be had at once, and what once all victims are gone.
fn carried_out(snapshot: &Snapshot, pending: &[Pending], plan: &Plan) {
    let mut ledger = Ledger::open(snapshot);
    for placed in &plan.placed {
        fits::claim(&mut ledger, &placed.node, &pending[placed.pending].demand).unwrap();
    }
    for (at, node) in snapshot.nodes() {
        for running in node.pods().iter().filter(|running| running.terminating) {
            ledger.evict(at, running);
        }
    }
    for preemption in &plan.preemptions {
        let at = snapshot.find(&preemption.node).unwrap();
        for victim in &preemption.victims {
            let here = snapshot.node(at).pods();
            let running = here
                .iter()
                .find(|running| running.id == victim.pod)
                .unwrap();
            assert!(
                ledger
                    .evicted_from(at)
                    .iter()
                    .all(|gone| gone.id != victim.pod)
            );
            assert!(running.priority < pending[preemption.pending].priority);
            ledger.evict(at, running);
        }
    }
    for preemption in &plan.preemptions {
        let demand = &pending[preemption.pending].demand;
        // What they may be near to is asked again when they are placed.
        let at = snapshot.find(&preemption.node).unwrap();
        let lacking = fits::obstacles(&ledger, at, demand);
        let amounts =
            |obstacle: &&Obstacle| matches!(obstacle, Obstacle::Lacks { .. } | Obstacle::Port(_));
        assert_eq!(lacking.iter().find(amounts), None);
        ledger.charge(at, demand);
        assert!(pending[preemption.pending].preempts);
        assert!(
            plan.unplaced
                .iter()
                .any(|lost| lost.pending == preemption.pending)
        );
    }
}

proptest! {
    #[test]
    fn the_node_and_the_victims_are_those_of_the_plain_twin((nodes, pods, budgets) in contested()) {
        let snapshot = build(&nodes, &pods, &budgets).snapshot(Revision(1));
        for pod in pods.iter().filter(|pod| pod.node_name().is_none()) {
            let mut offers: Vec<Offer> = nodes
                .iter()
                .filter_map(|node| offer(node, &nodes, &pods, &budgets, pod))
                .collect();
            offers.sort();
            let found = choose(&Profile::default(), &snapshot, &Pending::of(pod, NOW), NOW);
            let first = offers.first().map(|best| (best.5.clone(), best.6.clone(), best.0));
            let choice = found.as_ref().map(|found| {
                let violations = found.victims.iter().filter(|victim| victim.violates.is_some()).count();
                (found.node.to_string(), names(found), violations as u32)
            });
            prop_assert_eq!(choice, first);
            if let Some(found) = &found {
                prop_assert_eq!(found.why.candidates, offers.len());
                let next = found.why.next.as_ref().map(|(name, _)| name.to_string());
                prop_assert_eq!(next, offers.get(1).map(|next| next.5.clone()));
            }
        }
    }

    #[test]
    fn a_plan_carried_out_is_within_capacity((nodes, pods, budgets) in contested()) {
        let snapshot = build(&nodes, &pods, &budgets).snapshot(Revision(1));
        let waiting = pods.iter().filter(|pod| pod.node_name().is_none());
        let pending: Vec<Pending> = waiting.map(|pod| Pending::of(pod, NOW)).collect();
        let plan = Framework::default().plan(&snapshot, &pending, INPUTS);
        carried_out(&snapshot, &pending, &plan);
        let alone = Framework::default().unshared().plan(&snapshot, &pending, INPUTS);
        prop_assert_eq!(&plan, &alone, "what is kept from pod to pod changes nothing");
    }

    /// One scheduler follows a cluster, as room is made and taken; what it learned never shows.
    #[test]
    fn what_is_kept_from_plan_to_plan_changes_nothing(
        running in proptest::collection::vec((1usize..8, 1u32..5, 0i32..4, 0usize..3), 0..24),
        waiting in proptest::collection::vec((1u32..5, 2i32..6), 1..5),
        budgets in proptest::collection::vec(0u32..3, 3),
        steps in proptest::collection::vec((0usize..36, 1usize..4, 0u8..6, 0usize..24), 1..24),
    ) {
        use std::fmt::Write as _;

        let mut text = String::from("node n*7 cpu=2 pods=5\n");
        for (nth, (on, cpu, priority, app)) in running.iter().enumerate() {
            let (app, cpu) = (["a", "b", "c"][*app], cpu * 300);
            writeln!(text, "pod r{nth} on=n-{on} cpu={cpu}m priority={priority} label=app={app}").unwrap();
        }
        for (nth, (cpu, priority)) in waiting.iter().enumerate() {
            let cpu = cpu * 300;
            writeln!(text, "pod w{nth}*9 cpu={cpu}m priority={priority} label=app=a").unwrap();
        }
        let cluster: Cluster = text.parse().unwrap();
        let mut builder = cluster.builder();
        for (app, allowed) in ["a", "b", "c"].into_iter().zip(&budgets) {
            builder.set_budget(budget(app, *allowed));
        }
        // The shapes in turns.
        let each = cluster.pending();
        let mut pending: Vec<Pending> = (0..each.len())
            .map(|nth| each[nth % waiting.len() * 9 + nth / waiting.len()].clone())
            .collect();
        let scheduler = Framework::default();
        for (from, many, also, which) in steps {
            let from = from % pending.len();
            let some = pending[from..pending.len().min(from + many)].to_vec();
            let snapshot = builder.snapshot(Revision(1));
            let plan = scheduler.plan(&snapshot, &some, INPUTS);
            prop_assert_eq!(&plan, &Framework::default().unshared().plan(&snapshot, &some, INPUTS));
            drop(snapshot);
            for placed in &plan.placed {
                let pod = &some[placed.pending];
                let (id, demand, priority) = (pod.id.clone(), Arc::clone(&pod.demand), pod.priority);
                let running = Running { id, demand, priority, ..Running::default() };
                builder.set_pod(&placed.node, running);
            }
            // Who is to leave may stay for a while, or end slowly.
            for made in plan.preemptions.iter().filter(|_| also != 5) {
                for victim in &made.victims {
                    let pod = cluster.pods.iter().find(|pod| PodId::of(pod) == victim.pod);
                    match pod.filter(|_| also % 2 == 0) {
                        Some(pod) => {
                            let mut pod = pod.clone();
                            pod.metadata.deletion_timestamp = Some(NOW);
                            builder.apply_pod(&pod);
                        }
                        None => _ = builder.remove_pod(&victim.pod),
                    }
                }
                let nominated = pending.iter_mut().find(|pod| pod.id == made.pod);
                nominated.unwrap().nominated = (also == 4).then(|| made.node.clone());
            }
            match also {
                1 => {
                    let allowed = which as u32 / 3 % 3;
                    builder.set_budget(budget(["a", "b", "c"][which % 3], allowed));
                }
                3 if !running.is_empty() => {
                    builder.apply_pod(&cluster.pods[which % running.len()]);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn nominated_pods_land_and_nobody_is_evicted_twice((nodes, pods, budgets) in contested()) {
        // Where who is near whom counts, what is placed meanwhile may rule out what was planned.
        let mut pods = pods;
        for pod in &mut pods {
            pod.spec.affinity = None;
            pod.spec.topology_spread_constraints.clear();
        }
        let snapshot = build(&nodes, &pods, &budgets).snapshot(Revision(1));
        let waiting = pods.iter().filter(|pod| pod.node_name().is_none());
        let mut pending: Vec<Pending> = waiting.map(|pod| Pending::of(pod, NOW)).collect();
        let plan = Framework::default().plan(&snapshot, &pending, INPUTS);
        let mut ending = pods.clone();
        for preemption in &plan.preemptions {
            pending[preemption.pending].nominated = Some(preemption.node.clone());
            for victim in &preemption.victims {
                let pod = ending.iter_mut().find(|pod| PodId::of(pod) == victim.pod).unwrap();
                pod.metadata.deletion_timestamp = Some(NOW);
            }
        }
        // Placed as planned; those nominated wait.
        let mut rest = Vec::new();
        for lost in &plan.unplaced {
            rest.push(pending[lost.pending].clone());
        }
        for placed in &plan.placed {
            let pod = ending.iter_mut().find(|pod| PodId::of(pod) == placed.pod).unwrap();
            pod.spec.node_name = placed.node.clone();
        }
        let snapshot = build(&nodes, &ending, &budgets).snapshot(Revision(2));
        let again = Framework::default().plan(&snapshot, &rest, INPUTS);
        carried_out(&snapshot, &rest, &again);
        let gone: BTreeSet<PodId> = ending
            .iter()
            .filter(|pod| pod.is_terminating())
            .map(PodId::of)
            .collect();
        for victim in again.preemptions.iter().flat_map(|preemption| &preemption.victims) {
            prop_assert!(!gone.contains(&victim.pod));
        }
        let nominated = plan.preemptions.iter().map(|preemption| &preemption.pod);
        let evicting = again.preemptions.iter().map(|preemption| &preemption.pod).collect::<Vec<_>>();
        for pod in nominated {
            prop_assert!(!evicting.contains(&pod), "{} has others evicted twice", pod);
        }
        // With the victims gone they are placed where room was made for them.
        ending.retain(|pod| !pod.is_terminating());
        let snapshot = build(&nodes, &ending, &budgets).snapshot(Revision(3));
        let last = Framework::default().plan(&snapshot, &rest, INPUTS);
        for pod in rest.iter().filter(|pod| pod.nominated.is_some()) {
            let placed = last.placed.iter().find(|placed| placed.pod == pod.id).unwrap();
            prop_assert_eq!(Some(&placed.node), pod.nominated.as_ref());
        }
    }
}

fn plan(text: &str) -> Plan {
    let cluster: Cluster = text.parse().unwrap();
    Framework::default().plan(&cluster.snapshot(), &cluster.pending(), INPUTS)
}

#[test]
fn a_preemption_reads_as_a_line() {
    let text = "
        node a cpu=2
        node b cpu=2
        node c cpu=1
        node d cpu=2 taint=dedicated=db:NoSchedule
        pod low on=a cpu=2
        pod mid on=b cpu=1500m priority=5
        pod tiny on=c cpu=1
        pod db cpu=1500m priority=10
        pod other cpu=1500m priority=10";
    let plan = plan(text);
    let lines: Vec<String> = plan.preemptions.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "default/db (priority 10) gets room on a from default/low (priority 0); room could be \
             made on 2 of 4 nodes (1 would not be enough, on 1 no eviction helps); next was b, with \
             a victim of priority 5 instead of 0",
            "default/other (priority 10) gets room on b from default/mid (priority 5); room could be \
             made on 1 of 4 nodes (1 would not be enough, on 2 no eviction helps)",
        ]
    );
    assert_eq!(
        plan.unplaced[0].why.to_string(),
        "0/4 nodes fit: 3 lack cpu (nearest b misses 1), \
         1 has untolerated taint dedicated=db",
        "as things are"
    );
    assert_eq!(
        plan.unplaced.len(),
        2,
        "nobody is placed before the room is there"
    );
}

#[test]
fn who_never_preempts_does_not_and_equals_are_safe() {
    let cluster: Cluster = "node a cpu=1\npod one on=a cpu=1 priority=3\npod two cpu=1 priority=3"
        .parse()
        .unwrap();
    let mut pending = cluster.pending();
    let nothing = Framework::default().plan(&cluster.snapshot(), &pending, INPUTS);
    assert_eq!(nothing.preemptions, []);
    pending[0].priority = 4;
    let made = Framework::default().plan(&cluster.snapshot(), &pending, INPUTS);
    assert_eq!(made.preemptions.len(), 1);
    pending[0].preempts = false;
    let never = Framework::default().plan(&cluster.snapshot(), &pending, INPUTS);
    assert_eq!(never.preemptions, []);
    pending[0].preempts = true;
    let off = Framework::new(Profile::default().without_preemption());
    assert_eq!(
        off.plan(&cluster.snapshot(), &pending, INPUTS).preemptions,
        []
    );
}

#[test]
fn a_budget_is_spent_from_pod_to_pod_and_violated_last() {
    let cluster: Cluster = "
        node n*3 cpu=1
        pod web-1 on=n-1 cpu=1 label=app=web
        pod web-2 on=n-2 cpu=1 label=app=web
        pod high on=n-3 cpu=1 priority=3
        pod x*3 cpu=1 priority=9"
        .parse()
        .unwrap();
    let mut builder = cluster.builder();
    builder.set_budget(budget("web", 1));
    let plan =
        Framework::default().plan(&builder.snapshot(Revision(1)), &cluster.pending(), INPUTS);
    let lines: Vec<String> = plan
        .preemptions
        .iter()
        .map(|made| format!("{} {}", made.node, made.victims[0]))
        .collect();
    assert_eq!(
        lines,
        [
            "n-1 default/web-1 (priority 0)",
            "n-3 default/high (priority 3)",
            "n-2 default/web-2 (priority 0, against disruption budget default/web)",
        ]
    );
}
