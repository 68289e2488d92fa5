//! Who waits, who wakes, and that nobody waits for ever.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::{Node, Pod};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::queue::{Queue, QueueSettings, waits};
use orchestra_sched::place::{Changes, Framework, Pending, Plan, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{PodId, Running, SnapshotBuilder};
use proptest::prelude::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn inputs(secs: i64) -> PlanInputs {
    PlanInputs {
        now: at(secs),
        rng: PlanRng::new(1),
    }
}

/// A cluster and who waits in it.
struct World {
    builder: SnapshotBuilder,
    queue: Queue,
    scheduler: Framework,
}

impl World {
    fn new(text: &str, settings: QueueSettings) -> Self {
        let cluster: Cluster = text.parse().unwrap();
        let mut queue = Queue::new(settings);
        for pod in cluster.pending() {
            queue.offer(pod);
        }
        Self {
            builder: cluster.builder(),
            queue,
            scheduler: Framework::default(),
        }
    }

    /// Plans for who is due, and carries it out. Who was asked about, by name.
    fn turn(&mut self, secs: i64) -> (Vec<String>, Plan) {
        let snapshot = self.builder.snapshot(Revision(1));
        let turn = self.queue.turn(at(secs), &snapshot);
        let plan = self.scheduler.plan(&snapshot, &turn.pods, inputs(secs));
        self.queue.planned(&plan, &turn.pods, at(secs));
        for placed in &plan.placed {
            let pod = &turn.pods[placed.pending];
            let running = Running {
                id: pod.id.clone(),
                demand: Arc::clone(&pod.demand),
                priority: pod.priority,
                started: Some(at(secs)),
                terminating: false,
            };
            let changes = self.builder.set_pod(&placed.node, running);
            self.queue.withdraw(&pod.id);
            self.queue.changed(changes, Some(&placed.node));
        }
        let names = turn.pods.iter().map(|pod| pod.id.key.name.to_string());
        (names.collect(), plan)
    }

    fn end(&mut self, id: &PodId) {
        let node = self.builder.node_of(id).cloned();
        let changes = self.builder.remove_pod(id);
        self.queue.changed(changes, node.as_ref());
    }
}

fn named(world: &World, name: &str) -> PodId {
    let snapshot = world.builder.snapshot(Revision(1));
    let mut pods = snapshot.nodes().flat_map(|(_, node)| node.pods().iter());
    pods.find(|pod| pod.id.key.name == name).unwrap().id.clone()
}

#[test]
fn too_little_wakes_nobody_and_enough_wakes_at_once() {
    let text = "
        node a cpu=4
        node b cpu=1
        pod one on=a cpu=1
        pod two on=a cpu=3
        pod tiny on=b cpu=1
        pod wants cpu=3";
    let mut world = World::new(text, QueueSettings::default());
    assert_eq!(world.turn(0).0, ["wants"]);
    assert_eq!(world.turn(1).0, [""; 0], "nothing happened");
    let (one, two, tiny) = (
        named(&world, "one"),
        named(&world, "two"),
        named(&world, "tiny"),
    );
    world.end(&one);
    assert_eq!(world.turn(2).0, [""; 0], "one core of three");
    world.end(&tiny);
    assert_eq!(world.turn(3).0, [""; 0], "the whole node is too small");
    world.end(&two);
    assert_eq!(world.turn(3).0, ["wants"], "at once");
    assert!(world.queue.is_empty());
}

#[test]
fn room_among_lower_priorities_counts_for_who_preempts() {
    let text = "
        node a cpu=4
        pod high on=a cpu=2 priority=9
        pod low on=a cpu=2 priority=1
        pod wants cpu=4 priority=5";
    let mut world = World::new(text, QueueSettings::default());
    assert_eq!(world.turn(0).1.preemptions, []);
    let high = named(&world, "high");
    world.end(&high);
    let (names, plan) = world.turn(1);
    assert_eq!(names, ["wants"]);
    assert_eq!(plan.preemptions[0].victims[0].pod.key.name, "low");
}

#[test]
fn what_failed_rests_ever_longer_and_what_was_refused_is_reviewed() {
    let mut world = World::new("node a cpu=1\npod x cpu=2", QueueSettings::default());
    assert_eq!(world.turn(0).0, ["x"]);
    assert_eq!(world.queue.next(), Some(at(300)));
    assert_eq!(world.turn(300).0, ["x"]);
    let id = world
        .queue
        .turn(at(600), &world.builder.snapshot(Revision(1)))
        .pods[0]
        .id
        .clone();
    let rests: Vec<_> = (0..6)
        .map(|_| {
            world
                .queue
                .failed(std::slice::from_ref(&id), at(1_000))
                .unwrap()
        })
        .map(|until| until.since(at(1_000)).as_secs())
        .collect();
    assert_eq!(rests, [1, 2, 4, 8, 10, 10]);
    world.queue.changed(Changes::ANY, None);
    assert_eq!(world.turn(1_009).0, [""; 0], "whatever happens");
    assert_eq!(world.turn(1_010).0, ["x"]);
}

#[test]
fn gates_other_schedulers_and_the_end_keep_a_pod_out() {
    let pod = |change: fn(&mut Pod)| {
        let mut pod = Pod::builder("p");
        change(&mut pod);
        waits(&pod, Pod::DEFAULT_SCHEDULER)
    };
    assert!(pod(|_| {}));
    assert!(pod(
        |pod| pod.spec.scheduler_name = Pod::DEFAULT_SCHEDULER.into()
    ));
    assert!(!pod(|pod| pod.spec.scheduler_name = "other".into()));
    assert!(!pod(|pod| pod.spec.node_name = "n".into()));
    assert!(!pod(|pod| pod
        .spec
        .scheduling_gates
        .push(Default::default())));
    assert!(!pod(|pod| pod.metadata.deletion_timestamp = Some(at(1))));
}

#[test]
fn a_turn_is_bounded_and_goes_by_priority() {
    let settings = {
        let mut settings = QueueSettings::default();
        settings.turn_max = 3;
        settings
    };
    let text = "node a cpu=9\npod low*3 cpu=1\npod high*2 cpu=1 priority=7";
    let mut world = World::new(text, settings);
    let snapshot = world.builder.snapshot(Revision(1));
    assert_eq!(
        world.queue.turn(at(0), &snapshot).next,
        Some(at(0)),
        "again at once"
    );
    assert_eq!(world.turn(0).0, ["high-1", "high-2", "low-1"]);
    assert_eq!(world.turn(0).0, ["low-2", "low-3"]);
}

/// Small pods of one core keep coming, one a second, and run for four seconds each on four cores; a
/// large one wants all of them. After how many seconds it has them.
fn large_among_small(settings: QueueSettings) -> Option<i64> {
    let text = "node a cpu=4\npod first*4 on=a cpu=1\npod large cpu=4";
    let mut world = World::new(text, settings);
    let small: Cluster = "pod small cpu=1".parse().unwrap();
    let small = small.pending().remove(0);
    let mut ends: BTreeMap<i64, Vec<PodId>> = BTreeMap::new();
    for n in 1..=4 {
        ends.entry(n)
            .or_default()
            .push(named(&world, &format!("first-{n}")));
    }
    for second in 0..2_000 {
        for id in ends.remove(&second).unwrap_or_default() {
            world.end(&id);
        }
        let mut pod = small.clone();
        pod.id.key.name = format!("small-{second}").into();
        pod.id.uid = orchestra_core::meta::Uid(1_000 + second as u128);
        pod.arrived = at(1_000 + second);
        world.queue.offer(pod);
        let (_, plan) = world.turn(second);
        for placed in &plan.placed {
            if placed.pod.key.name == "large" {
                return Some(second);
            }
            ends.entry(second + 4).or_default().push(placed.pod.clone());
        }
    }
    None
}

#[test]
fn a_large_pod_is_not_passed_for_ever() {
    let mut never = QueueSettings::default();
    never.passes_max = u32::MAX;
    never.patience = Duration::MAX;
    assert_eq!(
        large_among_small(never),
        None,
        "without the bound it starves"
    );
    let placed = large_among_small(QueueSettings::default()).unwrap();
    // Twenty passes, one a second, and the four seconds that pods run.
    assert!(placed <= 30, "{placed}");
    let mut impatient = QueueSettings::default();
    impatient.patience = Duration::from_secs(5);
    assert!(large_among_small(impatient).unwrap() <= 12);
}

proptest! {
    /// Whatever happens on the cluster: who stays asleep would not have been placed.
    #[test]
    fn who_sleeps_would_find_nothing(
        (nodes, pods) in random::cluster(),
        changes in proptest::collection::vec(random::change(), 1..6),
    ) {
        let (mut nodes, mut pods): (Vec<Node>, Vec<Pod>) = (nodes, pods);
        let mut builder = SnapshotBuilder::new();
        for node in &nodes {
            builder.apply_node(node);
        }
        for pod in &pods {
            builder.apply_pod(pod);
        }
        let mut queue = Queue::new(QueueSettings::default());
        let waiting: Vec<&Pod> = pods.iter().filter(|pod| pod.node_name().is_none()).collect();
        let asked: BTreeMap<PodId, Pending> = waiting
            .iter()
            .map(|pod| (PodId::of(pod), Pending::of(pod, at(0))))
            .collect();
        for pod in asked.values() {
            queue.offer(pod.clone());
        }
        // Nobody makes room here: what the plan holds for others would hide what fits.
        let scheduler = Framework::new(
            orchestra_sched::place::Profile::default().without_preemption(),
        );
        let snapshot = builder.snapshot(Revision(1));
        let turn = queue.turn(at(0), &snapshot);
        let plan = scheduler.plan(&snapshot, &turn.pods, inputs(0));
        drop(snapshot);
        queue.planned(&plan, &turn.pods, at(0));
        for placed in &plan.placed {
            let pod = &turn.pods[placed.pending];
            let running = Running {
                id: pod.id.clone(),
                demand: Arc::clone(&pod.demand),
                priority: pod.priority,
                ..Running::default()
            };
            let made = builder.set_pod(&placed.node, running);
            queue.changed(made, Some(&placed.node));
            queue.withdraw(&pod.id);
        }
        for change in changes {
            let before = builder.snapshot(Revision(2));
            let made = change.apply(&mut nodes, &mut pods, &mut builder);
            let after = builder.snapshot(Revision(3));
            // Which node it was on: the one whose row is not what it was.
            let rows = |snapshot: &orchestra_sched::snapshot::Snapshot| -> BTreeMap<_, String> {
                let row = |(at, node): (orchestra_sched::snapshot::NodeIx, _)| {
                    let node: &orchestra_sched::snapshot::NodeRow = node;
                    let (free, rows) = (at.row(), snapshot.rows());
                    let text = format!("{:?} {} {}", node, rows.cpu_free[free], rows.memory_free[free]);
                    (node.name().clone(), text)
                };
                snapshot.nodes().map(row).collect()
            };
            let (was, is) = (rows(&before), rows(&after));
            let mut touched: Vec<_> = was.keys().chain(is.keys()).filter(|name| was.get(*name) != is.get(*name)).collect();
            touched.sort();
            touched.dedup();
            if touched.is_empty() {
                queue.changed(made, None);
            }
            for node in touched {
                queue.changed(made, Some(node));
            }
        }
        let snapshot = builder.snapshot(Revision(4));
        let awake = queue.turn(at(1), &snapshot).pods;
        for (id, pod) in &asked {
            if queue.contains(id) && awake.iter().all(|awake| awake.id != *id) {
                let plan = scheduler.plan(&snapshot, std::slice::from_ref(pod), inputs(1));
                prop_assert_eq!(plan.placed, vec![], "{} slept", id);
            }
        }
    }
}
