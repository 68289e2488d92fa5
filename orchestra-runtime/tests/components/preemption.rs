//! Room for pods of higher priority, and pods that are passed.

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{Event, Pod, PodDisruptionBudget, gang};
use orchestra_core::meta::condition;
use orchestra_runtime::driver::sim::{Behavior, Match, SimScript};
use orchestra_sched::place::{Pending, Placement, Plan, PlanInputs, Scheduler};
use orchestra_sched::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::world::{Host, World, key, of, pod, seconds};

/// A pod that asks so many cores of the node's 64.
fn asks(cpu: u32, priority: i32) -> Value {
    let requests = json!({"cpu": cpu.to_string()});
    json!({
        "priority": priority,
        "containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}],
    })
}

/// Two pods fill the one node; they take seven seconds to end.
async fn full_world() -> World {
    let slow = Behavior::runs().ignores_term_for(Duration::from_secs(7));
    let script = SimScript::new().when(Match::any().pod("default/low"), slow);
    let world = Host::new(&["a"], script).start().await;
    for name in ["low-1", "low-2"] {
        world.create(pod(name, asks(32, 0))).await;
        world.ready(name).await;
    }
    world
}

fn get(world: &World, name: &str) -> Option<Arc<Pod>> {
    world.orchestra.caches().pods.get(&key(name))
}

async fn told(world: &World, reason: &str) -> Vec<String> {
    let events = world
        .orchestra
        .api::<Event>()
        .list(Default::default())
        .await;
    let events = events.unwrap().items;
    let about = events.iter().filter(|event| event.reason == reason);
    about.map(|event| event.message.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn one_leaves_in_order_and_nobody_steals_its_room() {
    let world = full_world().await;
    let begun = world.now();
    world.create(pod("high", asks(30, 100))).await;
    let nominated = |pod: &Pod| pod.status.nominated_node_name == "a";
    let high = world.until::<Pod>("high", nominated).await;
    assert!(high.node_name().is_none(), "its room is not there yet");

    // The later start has to leave, with its grace.
    seconds(2).await;
    let victim = get(&world, "low-2").unwrap();
    assert!(victim.is_terminating());
    let marked = condition(&victim.status.conditions, Pod::DISRUPTION_TARGET).unwrap();
    assert_eq!(marked.reason, "PreemptionByScheduler");
    assert_eq!(marked.message, "preempted by default/high on node a");
    // What comes meanwhile and would fit into the room does not get it.
    world.create(pod("thief", asks(20, 50))).await;
    world.create(pod("small", asks(2, 0))).await;
    world.ready("high").await;
    assert!(world.now() >= begun + 7, "not before the victim had ended");
    let placed = get(&world, "high").unwrap();
    assert_eq!(placed.status.nominated_node_name, "");

    seconds(60).await;
    assert!(get(&world, "low-2").is_none());
    assert_eq!(
        told(&world, "Preempted").await.len(),
        2,
        "one for each of two"
    );
    // 64 - 30 - 20 leaves 14: the thief has its own victim.
    world.ready("thief").await;
    assert!(get(&world, "low-1").is_none());
    world.ready("small").await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_never_preempts_waits() {
    let world = full_world().await;
    let mut never = asks(30, 100);
    never["preemptionPolicy"] = json!("Never");
    world.create(pod("patient", never)).await;
    seconds(30).await;
    let patient = get(&world, "patient").unwrap();
    assert_eq!(patient.status.nominated_node_name, "");
    let why = condition(&patient.status.conditions, Pod::SCHEDULED).unwrap();
    assert_eq!(
        why.message,
        "0/1 nodes fit: 1 lacks cpu (nearest a misses 30)"
    );
    world.delete::<Pod>("low-1").await;
    world.ready("patient").await;
    assert!(get(&world, "low-2").is_some());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_between_nomination_and_the_end_evicts_nobody_else() {
    let slow = Behavior::runs().ignores_term_for(Duration::from_secs(7));
    let host = Host::new(
        &["a"],
        SimScript::new().when(Match::any().pod("default/low"), slow),
    );
    let next = Host {
        store: host.store.clone(),
        clock: host.clock.clone(),
        drivers: host.drivers.clone(),
        log: host.log.clone(),
    };
    let orchestra = host.builder().leave_workloads().start().await.unwrap();
    let world = host.with(orchestra);
    for name in ["low-1", "low-2"] {
        world.create(pod(name, asks(32, 0))).await;
        world.ready(name).await;
    }
    world.create(pod("high", asks(30, 100))).await;
    let nominated = |pod: &Pod| pod.status.nominated_node_name == "a";
    world.until::<Pod>("high", nominated).await;
    world.orchestra.stop().await;

    let world = next.start().await;
    world.ready("high").await;
    seconds(30).await;
    assert_eq!(
        get(&world, "low-1").unwrap().status.phase,
        PodPhase::Running
    );
    assert!(get(&world, "low-2").is_none());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_counted_and_spared() {
    let world = full_world().await;
    let budget: PodDisruptionBudget = of(json!({
        "metadata": {"name": "keep", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "low-2"}}},
    }));
    world.create(budget).await;
    seconds(1).await;
    let counted = world.orchestra.caches().budgets.get(&key("keep")).unwrap();
    assert_eq!(
        (counted.status.expected_pods, counted.status.current_healthy),
        (1, 1)
    );
    assert_eq!(counted.status.disruptions_allowed, 0);
    // The later start would have to leave, were it not for the budget.
    world.create(pod("high", asks(30, 100))).await;
    world.ready("high").await;
    assert!(get(&world, "low-1").is_none() && get(&world, "low-2").is_some());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gang_is_placed_once_all_of_it_can_be() {
    let world = Host::new(&["a"], SimScript::new()).start().await;
    world.create(pod("other", asks(20, 0))).await;
    world.ready("other").await;
    let member = |n: u32| {
        let mut pod = pod(&format!("train-{n}"), asks(16, 0));
        pod.metadata
            .labels
            .insert(gang::LABEL.into(), "train".into());
        let annotations = &mut pod.metadata.annotations;
        annotations.insert(gang::MIN_ANNOTATION.into(), "3".into());
        pod
    };
    for n in 0..2 {
        world.create(member(n)).await;
    }
    seconds(10).await;
    let why = |name: &str| {
        let pod = get(&world, name).unwrap();
        let told = condition(&pod.status.conditions, Pod::SCHEDULED).cloned();
        (
            pod.node_name().is_some(),
            told.map(|told| told.message).unwrap_or_default(),
        )
    };
    let (placed, message) = why("train-0");
    assert!(
        !placed && message.starts_with("gang train has 2 of 3 pods; "),
        "{message}"
    );
    // The last one comes, and there is room for two of them.
    world.create(member(2)).await;
    seconds(10).await;
    let (placed, message) = why("train-2");
    assert!(
        !placed && message.starts_with("gang train has places for 2 of 3 pods; "),
        "{message}"
    );
    world.delete::<Pod>("other").await;
    for n in 0..3 {
        world.ready(&format!("train-{n}")).await;
    }
    world.orchestra.stop().await;
}

/// Places all on one node but `train-3`, whatever its gang asks for.
#[derive(Debug)]
struct AllButTheLast;

impl Scheduler for AllButTheLast {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], _: PlanInputs) -> Plan {
        let some = pending.iter().enumerate();
        let some = some.filter(|(_, pod)| pod.id.key.name != "train-3");
        let place = |(at, pod): (usize, &Pending)| Placement {
            pending: at,
            pod: pod.id.clone(),
            node: "a".into(),
            ..Placement::default()
        };
        Plan {
            base: snapshot.base(),
            placed: some.map(place).collect(),
            ..Plan::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_gang_says_so_and_nothing_of_it_begins() {
    let host = Host::new(&["a"], SimScript::new());
    let orchestra = host.builder().scheduler(Arc::new(AllButTheLast)).start();
    let world = host.with(orchestra.await.unwrap());
    for n in 0..4 {
        let mut member = pod(&format!("train-{n}"), asks(1, 0));
        let label = (gang::LABEL.into(), "train".into());
        member.metadata.labels.extend([label]);
        let min = (gang::MIN_ANNOTATION.into(), "4".into());
        member.metadata.annotations.extend([min]);
        world.create(member).await;
    }
    seconds(10).await;
    let why = world
        .orchestra
        .ready_within::<Pod>("train-0", Duration::from_secs(1));
    let why = why.await.unwrap_err().to_string();
    assert!(why.ends_with("waits for its gang: 3 of 4 bound"), "{why}");
    let waits = get(&world, "train-0").unwrap();
    assert!(waits.node_name().is_some() && waits.status.pod_ip.is_none());
    assert!(world.log.lock().unwrap().is_empty());
    seconds(52).await;
    let gave = get(&world, "train-0").unwrap();
    assert!(gave.node_name().is_none());
    assert_eq!(told(&world, "GangGaveBack").await.len(), 1);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_pod_is_not_passed_for_ever_by_small_ones() {
    // Small pods run for 20 s and come every 4 s, so that half the node is always taken.
    let script = SimScript::new().when(
        Match::any().pod("default/small"),
        Behavior::exits(Duration::from_secs(20), 0),
    );
    let world = Host::new(&["a"], script).start().await;
    let small = || {
        let mut spec = asks(12, 0);
        spec["restartPolicy"] = json!("Never");
        spec
    };
    for n in 0..4 {
        world.create(pod(&format!("small-{n}"), small())).await;
        seconds(4).await;
    }
    world.create(pod("large", asks(60, 0))).await;
    let mut placed = None;
    for n in 4..200 {
        world.create(pod(&format!("small-{n}"), small())).await;
        seconds(4).await;
        if get(&world, "large").unwrap().node_name().is_some() {
            placed = Some(n);
            break;
        }
    }
    // Passed for a minute; then those that run have 20 s to end.
    let placed = placed.expect("it starves");
    assert!((10..40).contains(&placed), "{placed}");
    world.orchestra.stop().await;
}
