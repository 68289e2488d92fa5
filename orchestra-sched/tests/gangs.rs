//! Pods that are placed together or not at all.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::Pod;
use orchestra_core::kind::gang::{self, Gang};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::queue::{Queue, QueueSettings};
use orchestra_sched::place::{Changes, Framework, Pending, Plan, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{PodId, Running, Snapshot, SnapshotBuilder};
use proptest::prelude::*;

fn inputs(secs: i64) -> PlanInputs {
    PlanInputs {
        now: Timestamp::from_secs(secs),
        rng: PlanRng::new(1),
    }
}

/// The pending pods, with the minimum of each gang.
fn pending(cluster: &Cluster, mins: &[(&str, u32)]) -> Vec<Pending> {
    let mut pending = cluster.pending();
    for pod in &mut pending {
        if let Some(gang) = &mut pod.gang {
            gang.min = mins.iter().find(|(name, _)| *name == gang.name).unwrap().1;
            gang.timeout = Duration::from_secs(30);
        }
    }
    pending
}

fn plan(text: &str, mins: &[(&str, u32)]) -> Plan {
    let text = text.replace("gang=", "label=orchestra.dev/pod-group=");
    let cluster: Cluster = text.parse().unwrap();
    Framework::default().plan(&cluster.snapshot(), &pending(&cluster, mins), inputs(0))
}

fn placed(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> = plan
        .placed
        .iter()
        .map(|p| p.pod.key.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_gang_without_room_for_all_leaves_it_to_others() {
    let text = "
        node n*3 cpu=1
        pod train*4 cpu=1 gang=train
        pod web*2 cpu=1";
    let plan = plan(text, &[("train", 4)]);
    assert_eq!(placed(&plan), ["web-1", "web-2"]);
    let whys: Vec<String> = plan
        .unplaced
        .iter()
        .map(|lost| lost.why.to_string())
        .collect();
    assert_eq!(whys.len(), 4);
    assert_eq!(
        whys[0],
        "gang train has places for 3 of 4 pods; 1/3 nodes fit: 2 lack cpu (nearest n-1 misses 1)"
    );
}

#[test]
fn of_two_gangs_one_is_whole() {
    let text = "
        node n*4 cpu=1
        pod one*3 cpu=1 gang=one
        pod two*3 cpu=1 gang=two";
    let two = plan(text, &[("one", 3), ("two", 3)]);
    assert_eq!(placed(&two), ["one-1", "one-2", "one-3"]);
    // Who comes first does not matter where the first cannot be whole.
    let other = plan(text, &[("one", 4), ("two", 3)]);
    assert_eq!(placed(&other), ["two-1", "two-2", "two-3"]);
    assert!(
        other.unplaced[0]
            .why
            .to_string()
            .starts_with("gang one has 3 of 4 pods; ")
    );
}

#[test]
fn more_than_the_minimum_is_welcome_and_who_runs_counts() {
    let text = "
        node n*3 cpu=1
        pod old on=n-1 cpu=1 gang=g
        pod more*4 cpu=1 gang=g";
    assert_eq!(placed(&plan(text, &[("g", 3)])).len(), 2);
    assert_eq!(placed(&plan(text, &[("g", 4)])).len(), 0);
}

#[test]
fn members_are_considered_where_the_first_of_them_stands() {
    let text = "
        node n*3 cpu=1
        pod first cpu=1 gang=g priority=5
        pod web*3 cpu=1 priority=3
        pod last cpu=1 gang=g";
    assert_eq!(placed(&plan(text, &[("g", 2)])), ["first", "last", "web-1"]);
}

#[test]
fn room_is_made_for_a_whole_gang_or_not_at_all() {
    let text = "
        node n*3 cpu=1
        pod low*2 on=n-1 cpu=500m
        pod mid on=n-2 cpu=1 priority=5
        pod train*3 cpu=1 gang=train priority=9";
    let made = plan(text, &[("train", 3)]);
    assert_eq!(placed(&made), [""; 0], "not before the room is there");
    let victims: usize = made.preemptions.iter().map(|made| made.victims.len()).sum();
    assert_eq!(
        (made.preemptions.len(), victims, made.held.len()),
        (2, 3, 1)
    );
    let high = text.replace("priority=5", "priority=50");
    let none = plan(&high, &[("train", 3)]);
    assert_eq!(
        (none.preemptions.len(), none.held.len()),
        (0, 0),
        "two would not be enough"
    );
}

/// Small pods of one core keep coming, and run for four seconds each on two nodes; two gangs want both
/// nodes each. When each of them has them, in seconds.
fn gangs_among_small(settings: QueueSettings) -> BTreeMap<String, i64> {
    let text = "node n*2 cpu=4\npod a*2 cpu=4 gang=a\npod b*2 cpu=4 gang=b";
    let text = text.replace("gang=", "label=orchestra.dev/pod-group=");
    let cluster: Cluster = text.parse().unwrap();
    let small: Cluster = "pod small cpu=1".parse().unwrap();
    let small = small.pending().remove(0);
    let (mut builder, mut queue) = (cluster.builder(), Queue::new(settings));
    let mut ends: BTreeMap<i64, Vec<PodId>> = BTreeMap::new();
    let mut whole = BTreeMap::new();
    for second in 0..1_500 {
        for id in ends.remove(&second).unwrap_or_default() {
            let node = builder.node_of(&id).cloned();
            let changes = builder.remove_pod(&id);
            queue.changed(changes, node.as_ref());
        }
        for n in 0..2 {
            let mut pod = small.clone();
            pod.id.key.name = format!("small-{second}-{n}").into();
            pod.id.uid = Uid(1_000 + 2 * second as u128 + n);
            pod.arrived = Timestamp::from_secs(1_000 + second);
            queue.offer(pod);
        }
        if second == 20 {
            // By now the nodes are never empty together.
            pending(&cluster, &[("a", 2), ("b", 2)])
                .into_iter()
                .for_each(|pod| queue.offer(pod));
        }
        let now = Timestamp::from_secs(second);
        let snapshot: Snapshot = builder.snapshot(Revision(1));
        let turn = queue.turn(now, &snapshot);
        let plan = Framework::default().plan(&snapshot, &turn.pods, inputs(second));
        drop(snapshot);
        queue.planned(&plan, &turn.pods, now);
        for placed in &plan.placed {
            let pod = &turn.pods[placed.pending];
            let running = Running {
                id: pod.id.clone(),
                demand: Arc::clone(&pod.demand),
                ..Running::default()
            };
            let changes = builder.set_pod(&placed.node, running);
            queue.changed(changes, Some(&placed.node));
            queue.withdraw(&pod.id);
            if let Some(gang) = &pod.gang {
                whole.insert(gang.name.to_string(), second);
            }
            ends.entry(second + 4).or_default().push(pod.id.clone());
        }
        if whole.len() == 2 {
            break;
        }
    }
    whole
}

#[test]
fn gangs_are_not_passed_for_ever_nor_in_each_others_way() {
    let mut never = QueueSettings::default();
    never.passes_max = u32::MAX;
    never.patience = Duration::MAX;
    assert_eq!(
        gangs_among_small(never),
        BTreeMap::new(),
        "without the bound they starve"
    );
    let whole = gangs_among_small(QueueSettings::default());
    assert!(whole["a"] < 60 && whole["b"] < 80, "{whole:?}");
}

/// A queue whose gang of four found room for three, each of which fits by itself.
fn refused_by_one() -> (Cluster, SnapshotBuilder, Queue) {
    let text = "
        node n*3 cpu=1
        pod train*4 cpu=1 label=orchestra.dev/pod-group=train";
    let cluster: Cluster = text.parse().unwrap();
    let builder = cluster.builder();
    let mut queue = Queue::new(QueueSettings::default());
    for pod in pending(&cluster, &[("train", 4)]) {
        queue.offer(pod);
    }
    let snapshot = builder.snapshot(Revision(1));
    let turn = queue.turn(Timestamp::EPOCH, &snapshot);
    let plan = Framework::default().plan(&snapshot, &turn.pods, inputs(0));
    assert_eq!(plan.unplaced.len(), 4);
    assert!(plan.unplaced[0].why.to_string().contains("3/3 nodes fit"));
    queue.planned(&plan, &turn.pods, Timestamp::EPOCH);
    (cluster, builder, queue)
}

#[test]
fn a_gang_each_of_which_fits_but_not_all_waits_for_room() {
    let (_, builder, mut queue) = refused_by_one();
    let now = Timestamp::from_secs(1);
    let snapshot = builder.snapshot(Revision(1));
    assert!(queue.turn(now, &snapshot).pods.is_empty());
    queue.changed(Changes::POD_REMOVED, Some(&"n-1".into()));
    assert_eq!(queue.turn(now, &snapshot).pods.len(), 4);
}

#[test]
fn a_gang_of_which_one_rests_rests() {
    let (cluster, builder, mut queue) = refused_by_one();
    let members = pending(&cluster, &[("train", 4)]);
    let (one, other) = (&members[0].id, &members[1].id);
    let (at, snapshot) = (Timestamp::from_secs, builder.snapshot(Revision(1)));
    queue.failed(std::slice::from_ref(one), at(1));
    queue.gave_back(other, at(1));
    queue.changed(Changes::POD_REMOVED, Some(&"n-1".into()));
    let turn = queue.turn(at(10), &snapshot);
    assert_eq!((turn.pods.len(), turn.next), (0, Some(at(11))));
    assert_eq!(queue.next(), Some(at(11)));
    assert_eq!(queue.turn(at(11), &snapshot).pods.len(), 4);
}

/// Random clusters some of whose pods are in gangs.
fn with_gangs() -> impl Strategy<Value = (SnapshotBuilder, Vec<Pending>)> {
    let gangs =
        proptest::collection::vec(proptest::option::weighted(0.5, (0usize..3, 1u32..5)), 24);
    (random::cluster(), gangs).prop_map(|((nodes, mut pods), gangs)| {
        let mut builder = SnapshotBuilder::new();
        for node in &nodes {
            builder.apply_node(node);
        }
        for (pod, gang) in pods.iter_mut().zip(gangs) {
            if let Some((name, min)) = gang {
                pod.metadata
                    .labels
                    .insert(gang::LABEL.into(), ["x", "y", "z"][name].into());
                pod.metadata
                    .annotations
                    .insert(gang::MIN_ANNOTATION.into(), min.to_string().into());
            }
            builder.apply_pod(pod);
        }
        let waiting = pods.iter().filter(|pod: &&Pod| pod.node_name().is_none());
        let pending = waiting
            .map(|pod| Pending::of(pod, Timestamp::EPOCH))
            .collect();
        (builder, pending)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn each_gang_is_whole_or_leaves_no_trace((builder, pending) in with_gangs()) {
        let snapshot = builder.snapshot(Revision(1));
        let scheduler = || Framework::new(Profile::default().without_preemption());
        let plan = scheduler().plan(&snapshot, &pending, inputs(0));
        prop_assert_eq!(plan.placed.len() + plan.unplaced.len(), pending.len());
        let mut gangs: BTreeMap<_, (u32, usize)> = BTreeMap::new();
        let key = |pod: &Pending| pod.gang.as_ref().map(|gang: &Gang| (pod.id.key.namespace.clone(), gang.name.clone()));
        for pod in &pending {
            if let (Some(key), Some(gang)) = (key(pod), &pod.gang) {
                let min = &mut gangs.entry(key).or_default().0;
                *min = (*min).max(gang.min);
            }
        }
        for placed in &plan.placed {
            if let Some(key) = key(&pending[placed.pending]) {
                gangs.get_mut(&key).unwrap().1 += 1;
            }
        }
        for ((namespace, name), (min, placed)) in &gangs {
            let running = snapshot.gang_size(namespace, name);
            prop_assert!(*placed == 0 || running + placed >= *min as usize, "{} of {}", placed, min);
        }
        // As if the gangs that found no room had never asked.
        let rest: Vec<Pending> = pending
            .iter()
            .filter(|pod| key(pod).is_none_or(|key| gangs[&key].1 > 0))
            .cloned()
            .collect();
        let without = scheduler().plan(&snapshot, &rest, inputs(0));
        let nodes = |plan: &Plan| -> Vec<_> {
            let mut nodes: Vec<_> = plan.placed.iter().map(|p| (p.pod.clone(), p.node.clone())).collect();
            nodes.sort();
            nodes
        };
        prop_assert_eq!(nodes(&plan), nodes(&without));
    }
}
