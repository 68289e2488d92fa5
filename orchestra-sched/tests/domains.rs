//! Rules and scores that look at domains, few and many: what is followed domain by domain is what a
//! look at every node says.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use orchestra_core::kind::pod::{
    Affinity, Container, PodAffinity, PodAffinityTerm, TopologySpreadConstraint,
    WeightedPodAffinityTerm, WhenUnsatisfiable,
};
use orchestra_core::kind::{Node, Pod, Taint, TaintEffect};
use orchestra_core::meta::{OwnerReference, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;
use orchestra_sched::place::plugin::{EachRow, PodFields, Reach, Scale};
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Running, SnapshotBuilder};
use proptest::collection::vec;
use proptest::prelude::*;

const ZONE: &str = "topology.kubernetes.io/zone";
const RACK: &str = "example.com/rack";
const KEYS: [&str; 3] = [ZONE, RACK, Node::HOSTNAME_LABEL];

/// More racks than are looked at together, of which most have one node, and three zones, or as many as
/// racks.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (0usize..4, 0usize..8, 1u32..6, proptest::bool::weighted(0.2));
    (vec(node, 20), proptest::bool::weighted(0.3)).prop_map(|(some, many_zones)| {
        let some = some
            .into_iter()
            .map(|(zone, rack, cpu, soft)| (Some(zone), rack, cpu, soft));
        let rest = (8..75).map(|rack| (None, rack, u32::from(rack % 9 == 0), false));
        let nodes = some.chain(rest).enumerate();
        let nodes = nodes.map(|(n, (zone, rack, cpu, soft))| {
            let name = format!("node-{n}");
            let mut node = Node::new(&*name).capacity(cpu * 300, 4_096, 20);
            // A few are in no rack, have no host name, are in no zone.
            if n % 7 != 3 {
                node = node.label(RACK, format!("rack-{rack}"));
            }
            if n % 9 != 4 {
                node = node.label(Node::HOSTNAME_LABEL, &*name);
            }
            if let Some(zone) = zone.or(Some(n % 3)).filter(|zone| *zone < 3) {
                let zone = if many_zones { rack } else { zone };
                node = node.label(ZONE, format!("zone-{zone}"));
            }
            if soft {
                let taint = Taint::new("slow", TaintEffect::PreferNoSchedule);
                node.spec.taints.push(taint);
            }
            node
        });
        nodes.collect()
    })
}

/// What the pods of an application ask of each other, and of those of the next.
fn shape() -> impl Strategy<Value = Pod> {
    let rule = (0usize..3, 1u32..4, proptest::bool::weighted(0.7));
    let term = (0usize..3, 0usize..3, 1i32..100);
    let required = proptest::option::weighted(0.3, (0usize..3, 0usize..3));
    (
        (0usize..3, 1i64..5, proptest::bool::weighted(0.7)),
        vec(rule, 0..3),
        vec(term.clone(), 0..3),
        vec(term, 0..3),
        (required.clone(), required),
    )
        .prop_map(
            |((app, cpu, of_template), rules, near, away, (needs, bars))| {
                let mut main = Container::new("main", "main");
                let requests = &mut main.resources.requests;
                requests.insert("cpu".into(), Quantity::from_milli(cpu * 50));
                let mut pod = Pod::builder("pod")
                    .namespace("default")
                    .label("app", format!("app-{app}"))
                    .container(main);
                if of_template {
                    pod = pod.label(Pod::TEMPLATE_HASH_LABEL, format!("template-{app}"));
                    pod.metadata.owner_references = vec![OwnerReference {
                        controller: Some(true),
                        ..OwnerReference::default()
                    }];
                }
                let of = |app: usize| Some(format!("app=app-{app}").parse().unwrap());
                for (key, max_skew, anyway) in rules {
                    pod.spec
                        .topology_spread_constraints
                        .push(TopologySpreadConstraint {
                            max_skew,
                            topology_key: KEYS[key].into(),
                            when_unsatisfiable: match anyway {
                                true => WhenUnsatisfiable::ScheduleAnyway,
                                false => WhenUnsatisfiable::DoNotSchedule,
                            },
                            label_selector: of(app),
                            ..TopologySpreadConstraint::default()
                        });
                }
                let term = |(key, app): (usize, usize)| PodAffinityTerm {
                    topology_key: KEYS[key].into(),
                    label_selector: of(app),
                    ..PodAffinityTerm::default()
                };
                let side = |preferred: Vec<(usize, usize, i32)>,
                            required: Option<(usize, usize)>| {
                    let weighted = preferred.into_iter().map(|(key, app, weight)| {
                        let pod_affinity_term = term((key, app));
                        WeightedPodAffinityTerm {
                            weight,
                            pod_affinity_term,
                        }
                    });
                    Some(PodAffinity {
                        preferred: weighted.collect(),
                        required: required.map(term).into_iter().collect(),
                    })
                };
                pod.spec.affinity = Some(Box::new(Affinity {
                    pod_affinity: side(near, needs),
                    pod_anti_affinity: side(away, bars),
                    ..Affinity::default()
                }));
                pod
            },
        )
}

fn pending(shapes: &[Pod], which: &[usize]) -> Vec<Pending> {
    let pods = which.iter().enumerate().map(|(n, &which)| {
        let mut pod = shapes[which].clone();
        pod.metadata.name = format!("pod-{n}").into();
        pod.metadata.uid = Uid(n as u128 + 1);
        Pending::of(&pod, Timestamp::EPOCH)
    });
    pods.collect()
}

/// The default rules, and a score that is scaled by the largest.
fn profile() -> Profile {
    let crowd = EachRow::new(
        "room",
        PodFields::NONE,
        Reach::Node,
        Scale::ByMax,
        |_, rows, i| (rows.pods_free[i].max(0) / 2) as u32,
    );
    Profile::default().without_preemption().scorer(crowd, 1)
}

fn inputs(seed: u64) -> PlanInputs {
    PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(seed),
    }
}

proptest! {
    #[test]
    fn a_batch_goes_where_it_would_one_look_at_a_time(
        nodes in nodes(),
        shapes in vec(shape(), 3),
        which in vec(0usize..3, 1..40),
        scaled: bool,
        seed: u64,
    ) {
        let mut builder = SnapshotBuilder::new();
        nodes.iter().for_each(|node| _ = builder.apply_node(node));
        let (snapshot, pending) = (builder.snapshot(Revision(1)), pending(&shapes, &which));
        let profile = || if scaled { profile() } else { Profile::default().without_preemption() };
        let plan = Framework::new(profile()).plan(&snapshot, &pending, inputs(seed));
        let plain = Framework::new(profile()).unshared().plan(&snapshot, &pending, inputs(seed));
        prop_assert_eq!(plan, plain);
    }

    #[test]
    fn one_by_one_goes_where_it_would_without_memory(
        nodes in nodes(),
        shapes in vec(shape(), 3),
        steps in vec((0usize..3, proptest::option::weighted(0.3, 0usize..40), 0usize..30), 1..40),
    ) {
        let mut builder = SnapshotBuilder::new();
        nodes.iter().for_each(|node| _ = builder.apply_node(node));
        let which: Vec<usize> = steps.iter().map(|step| step.0).collect();
        let pending = pending(&shapes, &which);
        let old = Framework::new(profile());
        for (pod, (_, leaves, touched)) in pending.iter().zip(&steps) {
            let snapshot = builder.snapshot(Revision(1));
            let ask = |framework: &Framework| {
                framework.plan(&snapshot, std::slice::from_ref(pod), inputs(1))
            };
            let plan = ask(&old);
            prop_assert_eq!(&plan, &ask(&Framework::new(profile()).unshared()));
            drop(snapshot);
            if let Some(placed) = plan.placed.first() {
                builder.set_pod(&placed.node, Running {
                    id: pod.id.clone(),
                    demand: Arc::clone(&pod.demand),
                    ..Running::default()
                });
            }
            if let Some(gone) = leaves.and_then(|gone| pending.get(gone)) {
                builder.remove_pod(&gone.id);
            }
            if *touched == 0 {
                let node = nodes[0].clone().label(ZONE, format!("zone-{}", which[0]));
                builder.apply_node(&node);
            }
        }
    }
}
