//! Placement against a plain twin that asks every question of every node for every pod.

#![allow(clippy::unwrap_used, missing_docs)]

mod random;
mod twin;

use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::Outlook;
use orchestra_sched::place::plugin::{Cycle, Filter, PodFields, Scorer};
use orchestra_sched::place::{
    Framework, Pending, Plan, PlanInputs, Profile, Scheduler, filter, score,
};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, Ledger, Relations, Running, Snapshot, SnapshotBuilder};
use proptest::prelude::*;
use random::{build, cluster};

const NOW: Timestamp = Timestamp::EPOCH;

fn inputs(seed: u64) -> PlanInputs {
    PlanInputs {
        now: NOW,
        rng: PlanRng::new(seed),
    }
}

fn pending(pods: &[Pod]) -> Vec<Pending> {
    pods.iter()
        .filter(|pod| pod.node_name().is_none())
        .map(|pod| Pending::of(pod, NOW))
        .collect()
}

fn apply(builder: &mut SnapshotBuilder, pending: &[Pending], plan: &Plan) {
    for placement in &plan.placed {
        let pod = &pending[placement.pending];
        let running = Running {
            id: pod.id.clone(),
            demand: Arc::clone(&pod.demand),
            priority: pod.priority,
            started: None,
            terminating: false,
        };
        builder.set_pod(&placement.node, running);
    }
}

fn plan_of(snapshot: &Snapshot, pending: &[Pending], seed: u64) -> Plan {
    // Room held for pods that wait for others to leave is a matter of its own.
    Framework::new(Profile::default().without_preemption()).plan(snapshot, pending, inputs(seed))
}

proptest! {
    #[test]
    fn every_choice_is_one_the_plain_twin_could_make((nodes, pods) in cluster(), seed: u64) {
        let waiting: Vec<&Pod> = pods.iter().filter(|pod| pod.node_name().is_none()).collect();
        let pending = pending(&pods);
        let plan = plan_of(&build(&nodes, &pods).snapshot(Revision(3)), &pending, seed);
        prop_assert_eq!(plan.base, Revision(3));

        let mut twin = twin::Twin::new(&nodes, &pods);
        let mut placed = plan.placed.iter();
        let mut unplaced = twin::order(&waiting);
        // Who is refused tries again as long as others come: they may be the company it misses.
        loop {
            let tried = std::mem::take(&mut unplaced);
            let rounds = tried.len();
            for at in tried {
                let (score, best) = twin.best(waiting[at]);
                if best.is_empty() {
                    unplaced.push(at);
                    continue;
                }
                let choice = placed.next().unwrap();
                prop_assert_eq!(choice.pending, at);
                prop_assert!(best.contains(&choice.node.as_str()), "{} not in {:?}", choice.node, best);
                prop_assert_eq!(u64::from(choice.score), score);
                twin.run(waiting[at], &choice.node);
            }
            if unplaced.len() == rounds {
                break;
            }
        }
        prop_assert_eq!(placed.next(), None);
        prop_assert_eq!(plan.unplaced.iter().map(|lost| lost.pending).collect::<Vec<_>>(), unplaced);
        for lost in &plan.unplaced {
            prop_assert_eq!(lost.why.fit, 0);
            prop_assert_eq!(lost.why.nodes, nodes.len());
            let never = !twin.may_fit(waiting[lost.pending]);
            prop_assert_eq!(lost.why.outlook == Outlook::Never, never, "{}", lost.why);
        }
    }

    #[test]
    fn sharing_changes_no_plan((nodes, pods) in cluster(), seed: u64) {
        let snapshot = build(&nodes, &pods).snapshot(Revision(1));
        let pending = pending(&pods);
        let shared = Framework::default().plan(&snapshot, &pending, inputs(seed));
        let plain = Framework::default().unshared().plan(&snapshot, &pending, inputs(seed));
        prop_assert_eq!(shared, plain);
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_plan((nodes, pods) in cluster(), seed: u64) {
        let mut builder = build(&nodes, &pods);
        let waiting = pending(&pods);
        let plan = plan_of(&builder.snapshot(Revision(1)), &waiting, seed);
        apply(&mut builder, &waiting, &plan);
        let rest: Vec<Pending> =
            plan.unplaced.iter().map(|lost| waiting[lost.pending].clone()).collect();
        let again = plan_of(&builder.snapshot(Revision(2)), &rest, seed);
        prop_assert_eq!(again.placed, vec![]);
        for (before, after) in plan.unplaced.iter().zip(&again.unplaced) {
            prop_assert_eq!(&before.why, &after.why, "explained as of the plan carried out");
        }
    }

    #[test]
    fn the_order_of_nodes_and_pods_does_not_matter(
        (nodes, pods) in cluster(),
        seed: u64,
        turn in 0usize..8,
    ) {
        let waiting = pending(&pods);
        let one = plan_of(&build(&nodes, &pods).snapshot(Revision(1)), &waiting, seed);
        let mut turned = nodes.clone();
        turned.reverse();
        turned.rotate_left(turn.min(nodes.len()));
        let mut moved: Vec<Pending> = waiting.clone();
        moved.reverse();
        let other = plan_of(&build(&turned, &pods).snapshot(Revision(1)), &moved, seed);
        let names = |plan: &Plan| -> Vec<_> {
            plan.placed.iter().map(|p| (p.pod.clone(), p.node.clone(), p.score)).collect()
        };
        prop_assert_eq!(names(&one), names(&other));
    }

    #[test]
    fn a_snapshot_built_by_change_is_the_one_built_at_once(
        (nodes, pods) in cluster(),
        changes in proptest::collection::vec(random::change(), 0..12),
    ) {
        let (mut nodes, mut pods) = (nodes, pods);
        let mut builder = build(&nodes, &pods);
        let mut kept = Vec::new();
        for change in &changes {
            kept.push((builder.snapshot(Revision(1)), picture(&builder.snapshot(Revision(1)))));
            change.apply(&mut nodes, &mut pods, &mut builder);
        }
        let fresh = build(&nodes, &pods).snapshot(Revision(1));
        prop_assert_eq!(picture(&builder.snapshot(Revision(1))), picture(&fresh));
        for (snapshot, then) in kept {
            prop_assert_eq!(picture(&snapshot), then, "an old snapshot stays as it was");
        }
    }

    #[test]
    fn who_is_not_helped_by_a_change_is_not_placed_by_it(
        (nodes, pods) in cluster(),
        seed: u64,
        change in random::change(),
    ) {
        let (mut nodes, mut pods) = (nodes, pods);
        let mut builder = build(&nodes, &pods);
        let waiting = pending(&pods);
        let plan = plan_of(&builder.snapshot(Revision(1)), &waiting, seed);
        apply(&mut builder, &waiting, &plan);
        let changes = change.apply(&mut nodes, &mut pods, &mut builder);
        let snapshot = builder.snapshot(Revision(2));
        for lost in plan.unplaced.iter().filter(|lost| !lost.why.is_helped_by(changes)) {
            let again = plan_of(&snapshot, &[waiting[lost.pending].clone()], seed);
            prop_assert_eq!(again.placed, vec![], "{:?} after {:?}", &lost.why, &change);
        }
    }

    #[test]
    fn plugins_look_at_nothing_they_do_not_declare((nodes, pods) in cluster(), other in random::pod(0)) {
        let ledger = Ledger::open(&build(&nodes, &pods).snapshot(Revision(1)));
        let other = Pending::of(&other, NOW);
        for pod in pending(&pods) {
            for filter in filters() {
                let changed = replace_undeclared(&pod, &other, filter.depends());
                let answer = |pod: &Pending| {
                    let cycle = Cycle::new(&ledger, pod, NOW);
                    let mut fits = vec![true; ledger.rows().len()];
                    filter.filter(&cycle, ledger.rows(), &mut fits);
                    (filter.reach(&cycle), fits)
                };
                prop_assert_eq!(answer(&pod), answer(&changed), "{}", filter.name());
            }
            for scorer in scorers() {
                let changed = replace_undeclared(&pod, &other, scorer.depends());
                let answer = |pod: &Pending| {
                    let cycle = Cycle::new(&ledger, pod, NOW);
                    let mut out = vec![0; ledger.rows().len()];
                    scorer.score(&cycle, ledger.rows(), &vec![true; out.len()], &mut out);
                    (scorer.reach(&cycle), out)
                };
                prop_assert_eq!(answer(&pod), answer(&changed), "{}", scorer.name());
            }
        }
    }
}

/// Everything a snapshot says of each node, by name.
fn picture(snapshot: &Snapshot) -> Vec<String> {
    let rows = snapshot.rows();
    let ledger = Ledger::open(snapshot);
    let mut all: Vec<String> = snapshot
        .nodes()
        .map(|(at, node)| {
            assert_eq!(snapshot.find(node.name()), Some(at));
            let i = at.row();
            let mut pods: Vec<_> = node
                .pods()
                .iter()
                .map(|pod| pod.id.key.to_string())
                .collect();
            pods.sort();
            let mut ports: Vec<_> = ledger.ports(at).map(ToString::to_string).collect();
            ports.sort();
            let columns = [
                rows.cpu_total[i],
                rows.cpu_free[i],
                rows.cpu_scored[i],
                rows.memory_total[i],
                rows.memory_free[i],
                rows.memory_scored[i],
                rows.storage_free[i],
                rows.pods_free[i],
                ledger.extended_free(at, "example.com/gpu"),
            ];
            format!("{:?} {columns:?} {pods:?} {ports:?}", node.facts())
        })
        .collect();
    all.sort();
    all.push(format!(
        "{} {}",
        snapshot.softly_tainted(),
        snapshot.hard_tainted()
    ));
    all
}

fn filters() -> Vec<Box<dyn Filter>> {
    vec![
        Box::new(filter::NodeName),
        Box::new(filter::NodeUnschedulable),
        Box::new(filter::TaintToleration),
        Box::new(filter::NodeAffinity),
        Box::new(filter::NodePorts),
        Box::new(filter::NodeResourcesFit),
        Box::new(filter::VolumeBinding),
        Box::new(filter::DataLocality),
        Box::new(filter::PodTopologySpread),
        Box::new(filter::InterPodAffinity),
    ]
}

fn scorers() -> Vec<Box<dyn Scorer>> {
    vec![
        Box::new(score::TaintToleration),
        Box::new(score::NodeAffinity),
        Box::new(score::LeastAllocated::default()),
        Box::new(score::MostAllocated::default()),
        Box::new(score::BalancedAllocation),
        Box::new(score::ImageLocality),
        Box::new(score::DataLocality),
        Box::new(score::ActualUse),
        Box::new(score::ExpectedUse::default()),
        Box::new(score::PodTopologySpread),
        Box::new(score::InterPodAffinity),
    ]
}

/// `pod` in the fields of `declared`, `other` in all the rest.
fn replace_undeclared(pod: &Pending, other: &Pending, declared: PodFields) -> Pending {
    let (from, mut changed) = (&pod.demand, Demand::clone(&other.demand));
    if declared.has(PodFields::REQUESTS) {
        changed.requests = from.requests.clone();
        changed.scored = from.scored;
    }
    if declared.has(PodFields::DATA) {
        changed.reads = from.reads.clone();
    }
    if declared.has(PodFields::FORECAST) {
        changed.forecast = from.forecast.clone();
    }
    if declared.has(PodFields::IMAGES) {
        changed.images = from.images.clone();
    }
    let (spreads, relates) = (
        declared.has(PodFields::SPREAD),
        declared.has(PodFields::POD_AFFINITY),
    );
    if spreads || relates {
        changed.namespace = from.namespace.clone();
        changed.labels = from.labels.clone();
        let own = from.relations.as_deref().cloned().unwrap_or_default();
        let mut relations = changed.relations.as_deref().cloned().unwrap_or_default();
        if spreads {
            relations.spread = own.spread;
            relations.prefer_spread = own.prefer_spread;
            relations.spreads_by_default = own.spreads_by_default;
        } else {
            relations.affinity = own.affinity;
            relations.anti_affinity = own.anti_affinity;
            relations.preferred = own.preferred;
        }
        changed.relations = (relations != Relations::default()).then(|| Arc::new(relations));
    }
    if declared.has(PodFields::NODE_NAME) {
        changed.node_name = from.node_name.clone();
    }
    if declared.has(PodFields::NODE_AFFINITY) || spreads {
        changed.node_selector = from.node_selector.clone();
        changed.node_affinity = from.node_affinity.clone();
        changed.preferred_nodes = from.preferred_nodes.clone();
    }
    if declared.has(PodFields::TOLERATIONS) || spreads {
        changed.tolerations = from.tolerations.clone();
    }
    if declared.has(PodFields::HOST_PORTS) {
        changed.host_ports = from.host_ports.clone();
    }
    Pending {
        demand: Arc::new(changed),
        ..other.clone()
    }
}

/// A plugin that looks at more than it declares makes plans that depend on sharing: this is what
/// the comparison above is for.
#[test]
fn a_false_declaration_shows() {
    use orchestra_sched::place::plugin::{EachRow, Reach, Scale};

    let liar = || {
        EachRow::new(
            "liar",
            PodFields::NONE,
            Reach::Fixed,
            Scale::AsIs,
            |cycle, rows, i| {
                let wanted = cycle
                    .pod
                    .demand
                    .labels
                    .get("app")
                    .map_or("", |app| app.as_str());
                let name = cycle.snapshot().node(rows.node(i)).name();
                u32::from(name.ends_with(wanted)) * 100
            },
        )
    };
    let cluster: orchestra_sched::fixture::Cluster =
        "node n-a\nnode n-b\npod one label=app=a\npod two label=app=b"
            .parse()
            .unwrap();
    let (snapshot, pending) = (cluster.snapshot(), cluster.pending());
    let profile = || Profile::empty().scorer(liar(), 1);
    let shared = Framework::new(profile()).plan(&snapshot, &pending, inputs(1));
    let plain = Framework::new(profile())
        .unshared()
        .plan(&snapshot, &pending, inputs(1));
    assert_eq!(
        plain
            .placed
            .iter()
            .map(|p| p.node.as_str())
            .collect::<Vec<_>>(),
        ["n-a", "n-b"]
    );
    assert_ne!(shared, plain);
}
