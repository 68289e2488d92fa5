//! Pods that are placed together or not at all.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::gang::{self, Gang};
use orchestra_core::kind::{Node, Pod};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::{Explanation, Outlook};
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::queue::{Queue, QueueSettings};
use orchestra_sched::place::{Changes, Framework, Pending, Plan, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{PodId, Running, Snapshot, SnapshotBuilder};
use proptest::prelude::*;
use random::build;
use smol_str::SmolStr;

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
    plan_seeded(text, mins, 1)
}

fn plan_seeded(text: &str, mins: &[(&str, u32)], seed: u64) -> Plan {
    let text = text.replace("gang=", "label=orchestra.dev/pod-group=");
    let cluster: Cluster = text.parse().unwrap();
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(seed),
    };
    Framework::default().plan(&cluster.snapshot(), &pending(&cluster, mins), inputs)
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
        "gang train has places for 3 of 4 pods; for the 4th 0/3 nodes fit: 3 lack cpu (nearest n-1 misses 1)"
    );
}

/// What the first pod of a gang is told, of which so many have to run.
fn told(text: &str, min: u32) -> Arc<Explanation> {
    let plan = plan(text, &[("g", min)]);
    assert_eq!(placed(&plan), [""; 0]);
    Arc::clone(&plan.unplaced[0].why)
}

#[test]
fn a_gang_that_never_fits_is_told_what_is_missing() {
    let why = told("node a cpu=4\nnode b cpu=4\npod g*9 cpu=1 gang=g", 9);
    assert_eq!(why.outlook, Outlook::Never);
    assert_eq!(
        why.report().to_string(),
        "gang g has places for 8 of 9 pods; for the 9th 0/2 nodes fit: 2 lack cpu (nearest a misses 1)\n  \
         NodeResourcesFit turns down 2 (all 2 by itself)\n\
         never on these nodes: with all other pods gone there are places for at most 8 of 9\n  \
         it takes at least 1 more node like a\n  \
         the 9th would run on a, with 1 more cpu\n\
         looked at again when a node is added or a node grows or the pod itself changes or another pod of its \
         gang comes"
    );
    // Whoever else is there does not count.
    let full = "node a cpu=4\nnode b cpu=4\npod low on=a cpu=4\npod g*9 cpu=1 gang=g";
    let why = told(full, 9);
    let never = why.gang.as_ref().unwrap().never.clone().unwrap();
    assert_eq!((never.most, never.more_nodes.unwrap().count), (8, 1));
    let why = told(full, 8);
    assert_eq!(why.outlook, Outlook::NotNow, "others may leave");
    assert!(why.is_helped_by(Changes::POD_REMOVED));
    assert_eq!(
        why.to_string(),
        "gang g has places for 4 of 8 pods; for the 5th 0/2 nodes fit: 2 lack cpu (nearest a misses 1)"
    );
}

#[test]
fn what_a_gang_could_have_at_most_is_counted() {
    let never = |text: &str, min| {
        let why = told(text, min);
        let never = why.gang.as_ref().unwrap().never.clone();
        assert_eq!(never.is_some(), why.outlook == Outlook::Never);
        never.map(|never| (never.most, never.more_nodes.map(|more| more.to_string())))
    };
    let more = |text: &str| Some(text.to_owned());
    let nodes = "node a cpu=4 example.com/gpu=2\nnode b cpu=4\n";
    // Where nothing of it can be for good.
    let taint = "node a cpu=4 taint=t:NoSchedule\nnode b cpu=4\npod g*9 cpu=1 gang=g";
    assert_eq!(never(taint, 9), Some((4, more("2 more nodes like b"))));
    // What only some nodes have, and what none has.
    let gpu = format!("{nodes}pod g*3 example.com/gpu=1 gang=g");
    assert_eq!(never(&gpu, 3), Some((2, more("1 more node like a"))));
    let none = format!("{nodes}pod g*3 cpu=5 gang=g");
    assert_eq!(never(&none, 3), Some((0, None)));
    // Parts that are left over on each node are of no use to pods that are alike.
    let large = format!("{nodes}pod g*3 cpu=3 gang=g");
    assert_eq!(never(&large, 3), Some((2, more("1 more node like a"))));
    // Of several kinds no more than each has places for, and no more than all nodes have.
    let chief = format!("{nodes}pod chief cpu=2 gang=g\npod g*7 cpu=1 gang=g");
    assert_eq!(never(&chief, 8), Some((7, more("1 more node like a"))));
    let giant = format!("{nodes}pod giant cpu=5 gang=g\npod g*7 cpu=1 gang=g");
    assert_eq!(never(&giant, 8), Some((7, None)));
    // Who runs has a place.
    let some = format!("{nodes}pod old on=a cpu=1 gang=g\npod g*9 cpu=1 gang=g");
    assert_eq!(never(&some, 10), Some((9, more("1 more node like a"))));
    // To a profile that does not count amounts, others may leave the port.
    let cluster = "node a cpu=1\npod g*2 cpu=9 port=80 label=orchestra.dev/pod-group=g";
    let cluster: Cluster = cluster.parse().unwrap();
    let free = Profile::default().without("NodeResourcesFit").unwrap();
    let free = Framework::new(free);
    let plan = free.plan(
        &cluster.snapshot(),
        &pending(&cluster, &[("g", 2)]),
        inputs(0),
    );
    let why = &plan.unplaced[0].why;
    assert_eq!(why.outlook, Outlook::NotNow, "{why}");
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
            .starts_with("gang one has 3 of 4 pods; 1 more has to come")
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
fn members_bring_one_another_company() {
    // The first wants to be near one that is placed behind it.
    let text = "
        node a cpu=4 zone=x
        node b cpu=4 zone=y
        pod far on=b label=app=far
        pod worker*2 cpu=1 gang=g near=zone:role=chief
        pod chief cpu=1 gang=g label=role=chief";
    let whole = plan(text, &[("g", 3)]);
    assert_eq!(placed(&whole), ["chief", "worker-1", "worker-2"]);
    // Where that does not make it whole, nobody has a node, and the first is told why it finds none beside the
    // others.
    let narrow = text
        .replace("node a cpu=4", "node a cpu=2")
        .replace("node b cpu=4", "node b cpu=2");
    let none = plan(&narrow, &[("g", 3)]);
    assert_eq!(placed(&none), [""; 0]);
    let told = none.unplaced[0].why.to_string();
    assert!(
        told.starts_with("gang g has places for 2 of 3 pods; for the 3rd 0/2 nodes fit"),
        "{told}"
    );
}

#[test]
fn a_gang_is_tried_again_once_others_brought_it_company() {
    let text = "
        node a*2 cpu=4 zone=x
        pod far on=a-1 label=app=far
        pod train*3 cpu=1 gang=g near=zone:role=cache priority=9
        pod more cpu=6 gang=h
        pod more2 cpu=1 gang=h near=zone:role=cache
        pod cache cpu=1 label=role=cache
        pod late cpu=1 near=zone:role=train
        pod last cpu=1 gang=g label=role=train priority=9";
    let both = plan(text, &[("g", 4), ("h", 2)]);
    assert_eq!(
        placed(&both),
        ["cache", "last", "late", "train-1", "train-2", "train-3"]
    );
    assert_eq!(both.unplaced.len(), 2);
    let told = both.unplaced[0].why.to_string();
    assert!(
        told.starts_with(
            "gang h has places for 1 of 2 pods; for the 2nd 0/2 nodes fit: 2 lack cpu"
        ),
        "{told}"
    );
}

#[test]
fn a_gang_finds_the_rack_that_has_room_for_all_of_it() {
    let mut text = String::new();
    for (rack, nodes) in [("r1", 2), ("r2", 2), ("r3", 4), ("r4", 3)] {
        text += &format!("node {rack}*{nodes} cpu=4 label=rack={rack}\n");
    }
    text += "pod busy*3 on=r3-1 cpu=1\npod other on=r4-1 cpu=2\n";
    let gang = "pod train*12 cpu=1 gang=train label=job=train near=rack:job=train";
    for seed in 0..20 {
        let whole = plan_seeded(&format!("{text}{gang}"), &[("train", 12)], seed);
        assert_eq!(whole.placed.len(), 12);
        assert!(
            whole
                .placed
                .iter()
                .all(|placed| placed.node.starts_with("r3"))
        );
    }
    // None has room for fourteen: what is told is of the rack that has room for most.
    let larger = plan(
        &format!("{text}{}", gang.replace("*12", "*14")),
        &[("train", 14)],
    );
    assert_eq!(placed(&larger), [""; 0]);
    let told = larger.unplaced[0].why.to_string();
    assert!(
        told.starts_with("gang train has places for 13 of 14 pods"),
        "{told}"
    );
}

#[test]
fn the_small_one_leaves_the_large_one_the_node_that_it_fits() {
    let text = "
        node big cpu=9 memory=9Gi
        node small cpu=1 memory=1Gi
        node tiny cpu=1 memory=64Mi
        pod worker cpu=1 memory=1Gi gang=g
        pod chief cpu=9 memory=9Gi gang=g
        pod helper cpu=1 gang=g";
    let names = ["chief", "helper", "worker"];
    assert_eq!(placed(&plan(text, &[("g", 3)])), names);
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
    refused(
        "node n*3 cpu=1
        node m cpu=1
        pod other on=m cpu=1
        pod train*4 cpu=1 label=orchestra.dev/pod-group=train",
    )
}

/// A queue whose gang `train`, of which four have to run, was refused.
fn refused(text: &str) -> (Cluster, SnapshotBuilder, Queue) {
    let cluster: Cluster = text.parse().unwrap();
    let builder = cluster.builder();
    let mut queue = Queue::new(QueueSettings::default());
    for pod in pending(&cluster, &[("train", 4)]) {
        queue.offer(pod);
    }
    let snapshot = builder.snapshot(Revision(1));
    let turn = queue.turn(Timestamp::EPOCH, &snapshot);
    let plan = Framework::default().plan(&snapshot, &turn.pods, inputs(0));
    assert_eq!(plan.unplaced.len(), turn.pods.len());
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
fn a_gang_that_never_fits_is_not_woken_by_pods_that_leave() {
    let text = "
        node n*3 cpu=1
        pod other on=n-1 cpu=1
        pod train*4 cpu=1 label=orchestra.dev/pod-group=train";
    let (cluster, mut builder, mut queue) = refused(text);
    let now = Timestamp::from_secs(1);
    let other = PodId::of(&cluster.pods[0]);
    queue.changed(builder.remove_pod(&other), Some(&"n-1".into()));
    let woken = |queue: &mut Queue, builder: &mut SnapshotBuilder| {
        queue.turn(now, &builder.snapshot(Revision(1))).pods.len()
    };
    assert_eq!(woken(&mut queue, &mut builder), 0);
    // Somebody else gave a fifth of them a node: three are enough now.
    let fifth: Cluster = "pod fifth on=far label=orchestra.dev/pod-group=train"
        .parse()
        .unwrap();
    let mut fifth = fifth.pods[0].clone();
    fifth.metadata.uid = Uid(77);
    let changes = builder.apply_pod(&fifth);
    assert!(changes.meet(Changes::GANG_GREW));
    queue.changed(changes, Some(&"far".into()));
    assert_eq!(woken(&mut queue, &mut builder), 4);
}

#[test]
fn a_gang_that_is_not_complete_is_woken_by_its_own() {
    let text = "
        node n*9 cpu=1
        pod train*3 cpu=1 label=orchestra.dev/pod-group=train";
    let (cluster, mut builder, mut queue) = refused(text);
    let now = Timestamp::from_secs(1);
    let why = queue.refusal(&PodId::of(&cluster.pods[0])).unwrap();
    assert_eq!(
        why.report().to_string(),
        "gang train has 3 of 4 pods; 1 more has to come\n\
         not now: it waits for more of its gang\n\
         looked at again when the pod itself changes or another pod of its gang comes"
    );
    let stranger: Cluster = "pod other on=n-1 label=orchestra.dev/pod-group=other"
        .parse()
        .unwrap();
    let mut stranger = stranger.pods[0].clone();
    stranger.metadata.uid = Uid(77);
    for changes in [
        builder.apply_pod(&stranger),
        Changes::NODE_ADDED,
        Changes::POD_REMOVED,
    ] {
        queue.changed(changes, Some(&"n-1".into()));
        let turn = queue.turn(now, &builder.snapshot(Revision(1)));
        assert_eq!(turn.pods.len(), 0, "{changes}");
    }
    // Fewer of them may be enough once one is gone that asked for more.
    queue.withdraw(&PodId::of(&cluster.pods[0]));
    let turn = queue.turn(now, &builder.snapshot(Revision(1)));
    assert_eq!(turn.pods.len(), 2);
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
fn cluster_with_gangs() -> impl Strategy<Value = (Vec<Node>, Vec<Pod>)> {
    let gangs =
        proptest::collection::vec(proptest::option::weighted(0.5, (0usize..3, 1u32..5)), 24);
    (random::cluster(), gangs).prop_map(|((nodes, mut pods), gangs)| {
        for (pod, gang) in pods.iter_mut().zip(gangs) {
            if let Some((name, min)) = gang {
                pod.metadata
                    .labels
                    .insert(gang::LABEL.into(), ["x", "y", "z"][name].into());
                pod.metadata
                    .annotations
                    .insert(gang::MIN_ANNOTATION.into(), min.to_string().into());
            }
        }
        (nodes, pods)
    })
}

fn waiting(pods: &[Pod]) -> Vec<Pending> {
    let waiting = pods.iter().filter(|pod| pod.node_name().is_none());
    waiting
        .map(|pod| Pending::of(pod, Timestamp::EPOCH))
        .collect()
}

/// Lets the pods that a plan placed run.
fn apply(plan: &Plan, pending: &[Pending], builder: &mut SnapshotBuilder) {
    for placed in &plan.placed {
        let pod = &pending[placed.pending];
        let running = Running {
            id: pod.id.clone(),
            demand: Arc::clone(&pod.demand),
            priority: pod.priority,
            ..Running::default()
        };
        builder.set_pod(&placed.node, running);
    }
}

type GangKey = (SmolStr, SmolStr);

fn gang_of(pod: &Pending) -> Option<GangKey> {
    let gang = pod.gang.as_ref()?;
    Some((pod.id.key.namespace.clone(), gang.name.clone()))
}

/// What the members of each gang were told that was not placed.
fn short_gangs(plan: &Plan, pending: &[Pending]) -> BTreeMap<GangKey, Vec<Arc<Explanation>>> {
    let mut short: BTreeMap<GangKey, Vec<Arc<Explanation>>> = BTreeMap::new();
    for lost in plan.unplaced.iter().filter(|lost| lost.why.gang.is_some()) {
        let gang = gang_of(&pending[lost.pending]).unwrap();
        short.entry(gang).or_default().push(Arc::clone(&lost.why));
    }
    short
}

/// Whether each of a gang asks the same, and nothing of other pods: which of them goes where does not matter.
fn are_alike(pending: &[Pending], gang: &GangKey) -> bool {
    let members = pending
        .iter()
        .filter(|pod| gang_of(pod).as_ref() == Some(gang));
    let demands: Vec<&Arc<_>> = members.map(|pod| &pod.demand).collect();
    demands
        .iter()
        .all(|demand| demand.relations.is_none() && *demand == demands[0])
}

/// How many of a gang find a node if nobody else asks.
fn placed_alone(builder: &mut SnapshotBuilder, pending: &[Pending], gang: &GangKey) -> usize {
    let members = pending
        .iter()
        .filter(|pod| gang_of(pod).as_ref() == Some(gang));
    let members: Vec<Pending> = members.cloned().collect();
    let scheduler = Framework::new(Profile::default().without_preemption());
    let plan = scheduler.plan(&builder.snapshot(Revision(2)), &members, inputs(0));
    plan.placed.len()
}

proptest! {
    #[test]
    fn each_gang_is_whole_or_leaves_no_trace((nodes, pods) in cluster_with_gangs()) {
        let (builder, pending) = (build(&nodes, &pods), waiting(&pods));
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

    #[test]
    fn a_plan_that_is_applied_and_made_again_is_empty((nodes, pods) in cluster_with_gangs()) {
        let (mut builder, pending) = (build(&nodes, &pods), waiting(&pods));
        let scheduler = Framework::new(Profile::default().without_preemption());
        let first = scheduler.plan(&builder.snapshot(Revision(1)), &pending, inputs(0));
        apply(&first, &pending, &mut builder);
        let rest: Vec<Pending> = first.unplaced.iter().map(|lost| pending[lost.pending].clone()).collect();
        let again = scheduler.plan(&builder.snapshot(Revision(2)), &rest, inputs(0));
        prop_assert_eq!(placed(&again), [""; 0]);
    }

    #[test]
    fn a_gang_that_never_fits_does_not_if_all_others_leave((nodes, pods) in cluster_with_gangs()) {
        let pending = waiting(&pods);
        let scheduler = Framework::new(Profile::default().without_preemption());
        let plan = scheduler.plan(&build(&nodes, &pods).snapshot(Revision(1)), &pending, inputs(0));
        for (gang, whys) in short_gangs(&plan, &pending) {
            let never = whys[0].gang.as_ref().unwrap().never.is_some();
            for why in &whys {
                prop_assert_eq!(why.gang.as_ref().unwrap().never.is_some(), never, "one says what all say");
                prop_assert!(!never || why.outlook == Outlook::Never);
                prop_assert!(!never || !why.is_helped_by(Changes::POD_REMOVED.with(Changes::POD_ADDED)));
            }
            let is_member = |pod: &&Pod| gang_of(&Pending::of(pod, Timestamp::EPOCH)).as_ref() == Some(&gang);
            let members: Vec<Pod> = pods.iter().filter(is_member).cloned().collect();
            let found = placed_alone(&mut build(&nodes, &members), &pending, &gang);
            prop_assert!(!never || found == 0, "{} though {}", found, &whys[0]);
        }
    }

    #[test]
    fn a_gang_that_is_not_helped_by_a_change_is_not_placed_by_it(
        (nodes, pods) in cluster_with_gangs(),
        change in random::change(),
    ) {
        let (mut nodes, mut pods) = (nodes, pods);
        let (mut builder, pending) = (build(&nodes, &pods), waiting(&pods));
        let scheduler = Framework::new(Profile::default().without_preemption());
        let plan = scheduler.plan(&builder.snapshot(Revision(1)), &pending, inputs(0));
        apply(&plan, &pending, &mut builder);
        let changes = change.apply(&mut nodes, &mut pods, &mut builder);
        for (gang, whys) in short_gangs(&plan, &pending) {
            // Of others any change may lead to another way of all those in which they are tried.
            if are_alike(&pending, &gang) && !whys.iter().any(|why| why.is_helped_by(changes)) {
                let found = placed_alone(&mut builder, &pending, &gang);
                prop_assert_eq!(found, 0, "{:?} after {:?}", &whys[0], &change);
            }
        }
    }

    #[test]
    fn of_pods_that_are_alike_it_is_known_exactly_whether_they_ever_fit(
        nodes in proptest::collection::vec((0u32..5, 0u32..5, 1u32..5, any::<bool>()), 1..5),
        (cpu, memory) in (0u32..4, 0u32..4),
        (members, spare) in (1u32..12, 0u32..3),
    ) {
        let mut text: String = nodes.iter().enumerate().map(|(n, (cpu, memory, pods, tainted))| {
            let taint = if *tainted { "taint=t:NoSchedule" } else { "" };
            format!("node n{n} cpu={cpu} memory={memory} pods={pods} {taint}\n")
        }).collect();
        text += &format!("pod g*{} cpu={cpu} memory={memory} gang=g", members + spare);
        let plan = |text: &str| plan(text, &[("g", members)]);
        let first = plan(&text);
        let never = |plan: &Plan| plan.unplaced.first().and_then(|lost| {
            let gang = lost.why.gang.as_ref()?;
            gang.never.clone()
        });
        // Nobody else is there, so that it is now or never.
        prop_assert_eq!(never(&first).is_some(), first.placed.is_empty());
        let Some(never) = never(&first) else { return Ok(()) };
        prop_assert!(never.most < members as usize);
        let (cpu, memory, pods, _) = match &never.more_nodes {
            Some(more) => nodes[more.like[1..].parse::<usize>().unwrap()],
            None => {
                prop_assert_eq!(never.most, 0);
                return Ok(());
            }
        };
        let count = never.more_nodes.unwrap().count;
        let with = |more: usize| plan(&format!("node m*{more} cpu={cpu} memory={memory} pods={pods}\n{text}"));
        prop_assert!(!with(count).placed.is_empty());
        prop_assert!(count == 1 || with(count - 1).placed.is_empty());
    }

    #[test]
    fn a_gang_for_one_rack_is_placed_where_any_rack_has_room(
        nodes in proptest::collection::vec((0u32..6, 0usize..4), 1..12),
        (busy, cpu, members) in (0usize..6, 1u32..4, 1u32..9),
        seed in 0u64..8,
    ) {
        let mut text = String::new();
        for (n, (cpu, rack)) in nodes.iter().enumerate() {
            text += &format!("node n{n} cpu={cpu} label=rack={rack}\n");
        }
        let mut room = [0; 4];
        for (n, (has, rack)) in nodes.iter().enumerate() {
            let used = u32::from(n < busy && *has > 0);
            if used > 0 {
                text += &format!("pod busy{n} on=n{n} cpu=1\n");
            }
            room[*rack] += (has - used) / cpu;
        }
        text += &format!("pod g*{members} cpu={cpu} gang=g label=job=g near=rack:job=g");
        let plan = plan_seeded(&text, &[("g", members)], seed);
        let fits = room.iter().any(|&places| places >= members);
        prop_assert_eq!(plan.placed.len(), if fits { members as usize } else { 0 });
    }
}
