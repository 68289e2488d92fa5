//! What plans learn serves the next, and never shows.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::sync::Arc;

use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{EachRow, PodFields, Reach, Scale};
use orchestra_sched::place::score::{Point, Shape};
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler, score};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Running, SnapshotBuilder};
use proptest::prelude::*;

/// The default rules, and one scorer of each other kind.
fn profile() -> Profile {
    let requests = PodFields::REQUESTS;
    Profile::default()
        .scorer(
            EachRow::new(
                "crowd",
                requests,
                Reach::Node,
                Scale::ByMax,
                |cycle, rows, i| cycle.snapshot().node(rows.node(i)).pods().len() as u32,
            ),
            2,
        )
        .scorer(
            EachRow::new("room", requests, Reach::Node, Scale::AsIs, |_, rows, i| {
                rows.pods_free[i].clamp(0, 100) as u32
            }),
            1,
        )
        .scorer(
            EachRow::new("size", requests, Reach::Fixed, Scale::AsIs, |_, rows, i| {
                (rows.cpu_total[i] / 100).clamp(0, 100) as u32
            }),
            1,
        )
        .scorer(
            EachRow::new(
                "moment",
                PodFields::NOW,
                Reach::Fixed,
                Scale::AsIs,
                |cycle, rows, i| {
                    (u32::from(cycle.now > Timestamp::from_secs(1)) + rows.node(i).row() as u32) % 3
                },
            ),
            1,
        )
        .scorer(
            EachRow::new(
                "rank",
                PodFields::NODES,
                Reach::Fixed,
                Scale::AsIs,
                |cycle, rows, i| {
                    let mine = cycle.snapshot().node(rows.node(i)).name();
                    let nodes = cycle.snapshot().nodes();
                    nodes.filter(|(_, other)| other.name() < mine).count() as u32
                },
            ),
            1,
        )
        .scorer(
            EachRow::new(
                "all",
                requests,
                Reach::Cluster,
                Scale::ByMaxReversed,
                |_, rows, i| (rows.cpu_free[i] - rows.cpu_free.iter().min().unwrap()) as u32,
            ),
            1,
        )
}

/// The rules that are shipped but not in the default profile.
fn others() -> Profile {
    let points = [(0, 0), (60, 10), (100, 2)];
    let shape = Shape::new(points.map(|(utilization, score)| Point { utilization, score }));
    Profile::default()
        .scorer(score::ActualUse, 3)
        .scorer(score::ExpectedUse::new(2), 2)
        .scorer(score::MostAllocated::default(), 1)
        .scorer(
            score::RequestedToCapacityRatio {
                extended: vec![("example.com/gpu".into(), 2)],
                ..score::RequestedToCapacityRatio::new(shape.unwrap())
            },
            2,
        )
}

fn without_cluster() -> Profile {
    Profile::default().scorer(
        EachRow::new(
            "crowd",
            PodFields::NONE,
            Reach::Node,
            Scale::ByMaxReversed,
            |cycle, rows, i| cycle.snapshot().node(rows.node(i)).pods().len() as u32,
        ),
        2,
    )
}

fn run(builder: &mut SnapshotBuilder, pod: &Pending, node: &str) {
    let running = Running {
        id: pod.id.clone(),
        demand: Arc::clone(&pod.demand),
        priority: pod.priority,
        ..Running::default()
    };
    builder.set_pod(node, running);
}

proptest! {
    /// One scheduler follows a cluster from plan to plan, many pods at a time and one by one; a
    /// new one, without memory, is asked the same each time.
    #[test]
    fn a_scheduler_that_remembers_plans_like_one_that_does_not(
        (nodes, pods) in random::cluster(),
        changes in proptest::collection::vec(random::change(), 1..24),
        seeds in proptest::collection::vec(0u64..2, 1..24),
        which in 0usize..4,
    ) {
        let profile = || match which {
            0 => Profile::default(),
            1 => without_cluster(),
            2 => others(),
            _ => profile(),
        };
        let (mut nodes, mut pods) = (nodes, pods);
        let mut builder = SnapshotBuilder::new();
        for node in &nodes {
            builder.apply_node(node);
        }
        for pod in &pods {
            builder.apply_pod(pod);
        }
        let pending: Vec<Pending> = pods
            .iter()
            .map(|pod| {
                let mut pod = pod.clone();
                pod.spec.node_name = Default::default();
                pod.metadata.name = format!("new-{}", pod.metadata.name).into();
                pod.metadata.uid.0 += 1_000;
                Pending::of(&pod, Timestamp::EPOCH)
            })
            .collect();
        let old = Framework::new(profile());
        for (step, change) in changes.iter().enumerate() {
            change.apply(&mut nodes, &mut pods, &mut builder);
            let snapshot = builder.snapshot(Revision(step as u64));
            let inputs = PlanInputs {
                now: Timestamp::from_secs(step as i64 / 4),
                rng: PlanRng::new(seeds[step % seeds.len()]),
            };
            let ask = |pods: &[Pending]| {
                let plan = old.plan(&snapshot, pods, inputs);
                assert_eq!(plan, Framework::new(profile()).unshared().plan(&snapshot, pods, inputs));
                assert_eq!(plan.faults, []);
                plan
            };
            let from = step % pending.len().max(1);
            let some = &pending[from..pending.len().min(from + 3)];
            let plan = ask(some);
            for pod in some {
                let _ = ask(std::slice::from_ref(pod));
            }
            if step % 3 == 0 {
                let _ = ask(&pending);
            }
            if let Some(placed) = plan.placed.first() {
                run(&mut builder, &some[placed.pending], &placed.node);
            }
        }
    }
}

#[test]
fn two_clusters_and_a_clone_do_not_meet_in_one_memory() {
    let cluster = |text: &str| -> orchestra_sched::fixture::Cluster { text.parse().unwrap() };
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(1),
    };
    let scheduler = Framework::default();
    let one = cluster("node a cpu=4\nnode b cpu=2\npod p cpu=1");
    let other = cluster("node b cpu=4\nnode a cpu=2\npod p cpu=1");
    let (mut first, second) = (one.builder(), other.builder());
    let pending = one.pending();
    let node = |builder: &SnapshotBuilder| {
        let plan = scheduler.plan(&builder.snapshot(Revision(1)), &pending, inputs);
        plan.placed[0].node.clone()
    };
    for _ in 0..3 {
        assert_eq!((node(&first).as_str(), node(&second).as_str()), ("a", "b"));
    }
    let clone = first.clone();
    first.remove_node("a");
    for _ in 0..3 {
        assert_eq!((node(&first).as_str(), node(&clone).as_str()), ("b", "a"));
    }
}

/// A node's CPU, memory and pods.
fn capacity() -> impl Strategy<Value = (i64, i64, i64)> {
    let cpu = prop_oneof![Just(0), Just(4_000), 1i64..200_000];
    let memory = prop_oneof![Just(0), Just(1 << 35), 1i64..1 << 40];
    (cpu, memory, 0i64..8)
}

fn asked() -> impl Strategy<Value = (i64, i64)> {
    let cpu = prop_oneof![Just(0), 1i64..8_000, (1i64..40).prop_map(|n| n * 100)];
    let memory = prop_oneof![Just(0), 1i64..1 << 36, (1i64..64).prop_map(|n| n << 29)];
    (cpu, memory)
}

proptest! {
    /// Shapes that come once are found by bounds, and go where a look at everything would put them.
    #[test]
    fn a_shape_nobody_has_seen_goes_where_it_would_without_bounds(
        nodes in proptest::collection::vec(capacity(), 1..80),
        pods in proptest::collection::vec(asked(), 1..40),
        weights in (0u32..4, 0u32..4, 0u32..4),
        seed in 0u64..2,
        together in any::<bool>(),
    ) {
        use orchestra_core::kind::pod::Container;
        use orchestra_core::kind::{Node, Pod};
        use orchestra_core::meta::Uid;
        use orchestra_core::quantity::Quantity;
        use orchestra_sched::place::{filter, score};

        let profile = || {
            Profile::empty()
                .filter(filter::NodeUnschedulable)
                .filter(filter::NodeResourcesFit)
                .scorer(score::LeastAllocated::default(), weights.0)
                .scorer(score::MostAllocated::default(), weights.1)
                .scorer(score::BalancedAllocation, weights.2)
        };
        let mut builder = SnapshotBuilder::new();
        for (n, (cpu, memory, pods)) in nodes.iter().enumerate() {
            let mut node = Node::new(format!("n{n}")).capacity(*cpu as u32, 0, *pods as u32);
            let list = &mut node.status.allocatable;
            list.insert("memory".into(), Quantity::from_int(*memory));
            node.spec.unschedulable = n % 7 == 3;
            builder.apply_node(&node);
        }
        let pending: Vec<Pending> = pods
            .iter()
            .enumerate()
            .map(|(n, (cpu, memory))| {
                let mut main = Container::new("c", "i");
                let requests = &mut main.resources.requests;
                requests.insert("cpu".into(), Quantity::from_milli(*cpu));
                requests.insert("memory".into(), Quantity::from_int(*memory));
                let mut pod = Pod::builder(format!("p{n}")).container(main);
                pod.metadata.uid = Uid(n as u128 + 1);
                Pending::of(&pod, Timestamp::EPOCH)
            })
            .collect();
        let inputs = PlanInputs { now: Timestamp::EPOCH, rng: PlanRng::new(seed) };
        let old = Framework::new(profile());
        for pods in pending.chunks(if together { 7 } else { 1 }) {
            let snapshot = builder.snapshot(Revision(1));
            let plan = old.plan(&snapshot, pods, inputs);
            let plain = Framework::new(profile()).unshared().plan(&snapshot, pods, inputs);
            prop_assert_eq!(&plan, &plain);
            for placed in plan.placed.iter().step_by(2) {
                run(&mut builder, &pods[placed.pending], &placed.node);
            }
        }
    }
}

/// A scorer may look at other nodes than the one it scores, as that of images does: how many have the
/// image.
#[test]
fn nodes_that_get_an_image_change_what_it_is_worth_elsewhere() {
    let cluster = "
        node has cpu=8 memory=8Gi image=shop:7=900Mi
        node bare*40 cpu=9 memory=8Gi
        pod shop*2 cpu=1 memory=1Gi image=shop:7
    ";
    let cluster: Cluster = cluster.parse().unwrap();
    let used = Framework::default();
    let mut builder = cluster.builder();
    let pending = cluster.pending();
    for n in 0..6 {
        let snapshot = builder.snapshot(Revision(n));
        let (now, rng) = (Timestamp::from_secs(9), PlanRng::new(1));
        let seen = used.plan(&snapshot, &pending[..1], PlanInputs { now, rng });
        let fresh = Framework::default().plan(&snapshot, &pending[..1], PlanInputs { now, rng });
        assert_eq!(seen, fresh, "with {n} nodes more");
        // Now the one, now the other gets the image too.
        let more = format!("node bare-{} cpu=9 memory=8Gi image=shop:7=900Mi", n + 1);
        builder.apply_node(&more.parse::<Cluster>().unwrap().nodes[0]);
    }
}
