//! Nodes that go and come back, pods that want one, and an orchestra that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestra_core::chaos::{ChaosStore, Faults, Rates};
use orchestra_core::kind::usage::Usage;
use orchestra_core::kind::{Node, Pod, PriorityClass, Taint, gang};
use orchestra_core::meta::{Condition, ConditionStatus, ObjectKey, condition, set_condition};
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{Observed, RunState};
use orchestra_core::port::store::{Key, ListRequest, StateStore, StateStoreExt};
use orchestra_runtime::agent::{Agent, AgentParts, CachedView, Engine};
use orchestra_runtime::api::Client;
use orchestra_runtime::control_plane::{ControlPlane, ControlSettings};
use orchestra_runtime::driver::sim::{Behavior, Match, SimDriver, SimScript};
use orchestra_runtime::events::recorder;
use orchestra_runtime::ids::Ids;
use orchestra_runtime::meter::{MemoryMeter, Reading};
use orchestra_runtime::net::traffic::NoTraffic;
use orchestra_runtime::probe::Probers;
use orchestra_runtime::secret::StoreSecrets;
use orchestra_sched::place::{
    Framework, Pending, Plan, PlanInputs, Profile, Scheduler, Switch, score,
};
use orchestra_sched::snapshot::Snapshot;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::{Always, Host, World, key, of, pod, seconds, world};

fn plain() -> Value {
    json!({"containers": [{"name": "main", "image": "i"}]})
}

/// A control plane, and agents that can be cut off one by one.
struct Parts {
    client: Client,
    plane: Option<ControlPlane>,
    tasks: JoinSet<()>,
    agents: std::collections::BTreeMap<String, tokio::task::AbortHandle>,
    stop: CancellationToken,
    caches: orchestra_runtime::loops::Caches,
}

impl Parts {
    async fn start(nodes: &[(&str, &str)]) -> Self {
        let host = Host::new(&[], SimScript::new());
        let client = Client::new(
            host.store.clone(),
            host.clock.clone(),
            Arc::new(Ids::seeded(1)),
        );
        let (events, writer) = recorder(&client, "test");
        let plane = ControlPlane::new(&client, ControlSettings::default(), &events, None);
        let caches = plane.caches().clone();
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(writer.run(stop.clone()));
        let mut parts = Self {
            client,
            plane: Some(plane),
            tasks,
            agents: Default::default(),
            stop,
            caches,
        };
        for (name, zone) in nodes {
            parts.agent(name, zone);
        }
        let plane = parts.plane.take().unwrap();
        parts.tasks.spawn(plane.run(parts.stop.clone()));
        seconds(5).await;
        parts
    }

    fn agent(&mut self, name: &str, zone: &str) {
        let mut node = Node::new(name).capacity(8_000, 8_000, 100);
        node.metadata
            .labels
            .insert("topology.kubernetes.io/zone".into(), zone.into());
        let clock = self.client.clock().clone();
        let driver = Arc::new(SimDriver::with_clock(SimScript::new(), 1, clock));
        let (events, _) = recorder(&self.client, "test");
        let engine = Engine {
            driver: driver.clone(),
            prober: Arc::new(Probers::standard(driver)),
            foresight: None,
        };
        let parts = AgentParts {
            client: self.client.clone(),
            view: Arc::new(CachedView::new(self.caches.clone(), name)),
            engines: [("".into(), engine)].into(),
            secrets: Arc::new(StoreSecrets::new(self.client.store().clone())),
            traffic: Arc::new(NoTraffic),
            events,
        };
        let agent = Agent::new(node, parts, Default::default());
        let handle = self.tasks.spawn(agent.run(self.stop.clone()));
        self.agents.insert(name.to_owned(), handle);
    }

    fn cut_off(&mut self, name: &str) {
        self.agents.remove(name).unwrap().abort();
    }

    fn node(&self, name: &str) -> Arc<Node> {
        self.caches.nodes.get(&ObjectKey::cluster(name)).unwrap()
    }

    fn taints(&self, name: &str) -> Vec<String> {
        let node = self.node(name);
        let taints = node.spec.taints.iter();
        taints
            .map(|taint| format!("{}:{:?}", taint.key, taint.effect))
            .collect()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_marked_then_emptied_and_taken_back() {
    let mut parts = Parts::start(&[("a", "z1"), ("b", "z1"), ("c", "z2")]).await;
    let pods = parts.client.api::<Pod>();
    let mut bound = pod("p", plain());
    bound.spec.node_name = "a".into();
    let tolerant = json!([{
        "key": Taint::UNREACHABLE, "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 60
    }]);
    bound.spec.tolerations = serde_json::from_value(tolerant.clone()).unwrap();
    pods.create(bound).await.unwrap();
    seconds(5).await;
    assert!(parts.caches.pods.get(&key("p")).unwrap().is_ready());
    parts.cut_off("a");
    seconds(61).await;
    let node = parts.node("a");
    let ready = condition(&node.status.conditions, Node::READY).unwrap();
    assert_eq!(ready.reason, "NodeStatusUnknown");
    // Whether it still answers is not known: it is out of its services.
    let p = parts.caches.pods.get(&key("p")).unwrap();
    let closed = condition(&p.status.conditions, Pod::READY).unwrap();
    assert_eq!(
        (closed.reason.as_str(), p.is_ready()),
        ("NodeNotReady", false)
    );
    assert_eq!(
        parts.taints("a"),
        [
            format!("{}:NoSchedule", Taint::UNREACHABLE),
            format!("{}:NoExecute", Taint::UNREACHABLE)
        ]
    );
    // One that nobody ever started is told to go as well.
    let mut late = pod("late", plain());
    late.spec.node_name = "a".into();
    late.spec.tolerations = serde_json::from_value(tolerant).unwrap();
    pods.create(late).await.unwrap();
    assert!(!parts.caches.pods.get(&key("p")).unwrap().is_terminating());
    seconds(61).await;
    assert!(parts.caches.pods.get(&key("p")).unwrap().is_terminating());
    assert!(
        parts
            .caches
            .pods
            .get(&key("late"))
            .unwrap()
            .is_terminating()
    );

    parts.agent("a", "z1");
    seconds(60).await;
    assert!(parts.node("a").is_ready());
    assert_eq!(parts.taints("a"), Vec::<String>::new());
    assert!(parts.caches.pods.is_empty());
    parts.end().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_back_are_told_of_in_the_same_order_each_time() {
    let world = Host::new(&["a", "b"], SimScript::new()).start().await;
    let names: Vec<String> = (0..16).map(|n| format!("p{n:02}")).collect();
    for name in &names {
        let mut bound = pod(name, plain());
        bound.spec.node_name = "a".into();
        let stays = json!([{"operator": "Exists"}]);
        bound.spec.tolerations = serde_json::from_value(stays).unwrap();
        world.create(bound).await;
        world.ready(name).await;
    }
    let mut orders = Vec::new();
    for _ in 0..3 {
        let lost = Condition {
            kind: Node::READY.into(),
            status: ConditionStatus::Unknown,
            reason: "Test".into(),
            ..Condition::default()
        };
        let now = world.clock.now();
        let nodes = world.orchestra.api::<Node>();
        let mark = |node: &mut Node| {
            set_condition(&mut node.status.conditions, lost.clone(), now);
        };
        nodes
            .update_status(&ObjectKey::cluster("a"), mark)
            .await
            .unwrap();
        for name in &names {
            world.until::<Pod>(name, |pod| !pod.is_ready()).await;
        }
        let mut told = Vec::new();
        for name in &names {
            let pod = world.ready(name).await;
            told.push((pod.metadata.resource_version, name.clone()));
        }
        told.sort();
        orders.push(told.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[1], orders[2]);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_all_nodes_are_lost_nobody_is_told_to_go() {
    let mut parts = Parts::start(&[("a", "z1"), ("b", "z2"), ("c", "z3")]).await;
    let mut bound = pod("p", plain());
    bound.spec.node_name = "a".into();
    let tolerant = json!([{
        "key": Taint::UNREACHABLE, "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 60
    }]);
    bound.spec.tolerations = serde_json::from_value(tolerant).unwrap();
    parts.client.api::<Pod>().create(bound).await.unwrap();
    seconds(5).await;
    parts.cut_off("a");
    seconds(20).await;
    parts.cut_off("b");
    parts.cut_off("c");
    seconds(600).await;
    for name in ["a", "b", "c"] {
        assert_eq!(
            parts.taints(name),
            [format!("{}:NoSchedule", Taint::UNREACHABLE)]
        );
    }
    let p = parts.caches.pods.get(&key("p")).unwrap();
    // The observer is more likely at fault: what runs goes on being served.
    assert!(!p.is_terminating() && p.is_ready());
    parts.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_was_deleted_is_made_anew() {
    let parts = Parts::start(&[("a", "z1")]).await;
    let lease = ObjectKey::namespaced(orchestra_runtime::agent::LEASE_NAMESPACE, "a");
    let leases = parts.client.api::<orchestra_core::kind::Lease>();
    leases.delete(&lease, Default::default()).await.unwrap();
    seconds(30).await;
    assert!(leases.find(&lease).await.unwrap().is_some());
    assert!(parts.node("a").is_ready());
    parts.end().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_have_ranges_of_their_own_and_cordons_close_them() {
    let host = Host::new(&["a", "b", "c", "d"], SimScript::new());
    let world = host.start().await;
    let nodes = world.orchestra.caches().nodes.list();
    let ranges: std::collections::BTreeSet<_> = nodes
        .iter()
        .map(|node| node.spec.pod_cidr.clone())
        .collect();
    assert_eq!(ranges.len(), 4);
    let api = world.orchestra.api::<Node>();
    for name in ["a", "b", "c"] {
        let close = |node: &mut Node| node.spec.unschedulable = true;
        api.update(&ObjectKey::cluster(name), close).await.unwrap();
    }
    seconds(1).await;
    for n in 0..5 {
        world.create(pod(&format!("p{n}"), plain())).await;
    }
    for n in 0..5 {
        assert_eq!(world.ready(&format!("p{n}")).await.spec.node_name, "d");
    }
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_wakes_when_that_helps() {
    let world = world(SimScript::new()).await;
    let mut big = plain();
    big["nodeSelector"] = json!({"disk": "fast"});
    world.create(pod("p", big)).await;
    let waits = world
        .until::<Pod>("p", |pod| {
            condition(&pod.status.conditions, Pod::SCHEDULED).is_some()
        })
        .await;
    let told = condition(&waits.status.conditions, Pod::SCHEDULED).unwrap();
    assert_eq!(told.reason, "Unschedulable");
    assert!(told.message.contains('1'), "{}", told.message);
    seconds(20).await;
    let begun = world.now();
    let label = |node: &mut Node| {
        node.metadata.labels.insert("disk".into(), "fast".into());
    };
    world
        .orchestra
        .api::<Node>()
        .update(&ObjectKey::cluster("n"), label)
        .await
        .unwrap();
    world.ready("p").await;
    assert!(world.now() <= begun + 1);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn gates_and_other_schedulers_are_respected() {
    let world = world(SimScript::new()).await;
    let mut gated = plain();
    gated["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    world.create(pod("gated", gated)).await;
    let mut foreign = plain();
    foreign["schedulerName"] = json!("mine");
    world.create(pod("foreign", foreign)).await;
    seconds(20).await;
    let pods = &world.orchestra.caches().pods;
    assert!(pods.get(&key("gated")).unwrap().node_name().is_none());
    assert!(pods.get(&key("foreign")).unwrap().node_name().is_none());
    let open = |pod: &mut Pod| pod.spec.scheduling_gates.clear();
    world
        .orchestra
        .api::<Pod>()
        .update(&key("gated"), open)
        .await
        .unwrap();
    world.ready("gated").await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn priorities_come_from_their_class() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let named = |class: &str| {
        let mut spec = plain();
        spec["priorityClassName"] = json!(class);
        spec
    };
    let priority = |pod: Arc<Pod>| pod.spec.priority;
    assert_eq!(priority(world.create(pod("none", plain())).await), Some(0));
    let error = orchestra
        .api::<Pod>()
        .create(pod("p", named("high")))
        .await
        .unwrap_err();
    let text = orchestra_core::error::report(&error).to_string();
    assert!(text.contains("\"high\""), "{text}");
    world.create(PriorityClass::new("high", 1_000)).await;
    let high = world.create(pod("high", named("high"))).await;
    assert_eq!(high.spec.priority, Some(1_000));
    assert!(high.spec.preemption_policy.is_some());
    let mut wrong = pod("wrong", named("high"));
    wrong.spec.priority = Some(7);
    let error = orchestra.api::<Pod>().create(wrong).await.unwrap_err();
    let text = orchestra_core::error::report(&error).to_string();
    assert!(text.contains('7') && text.contains("1000"), "{text}");
    for (class, value) in [
        ("system-cluster-critical", 2_000_000_000),
        ("system-node-critical", 2_000_001_000),
    ] {
        assert_eq!(
            priority(world.create(pod(class, named(class))).await),
            Some(value)
        );
    }
    let everyone = json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": true});
    world.create::<PriorityClass>(of(everyone)).await;
    let usual = world.create(pod("usual", plain())).await;
    assert_eq!(
        (usual.spec.priority, usual.spec.priority_class_name.as_str()),
        (Some(5), "usual")
    );
    let second = json!({"metadata": {"name": "other"}, "value": 6, "globalDefault": true});
    let error = orchestra
        .api::<PriorityClass>()
        .create(of(second))
        .await
        .unwrap_err();
    let text = orchestra_core::error::report(&error).to_string();
    assert!(text.contains("usual"), "{text}");
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_orchestra_frees_everything() {
    for stopped in [true, false] {
        let host = Host::new(&["n"], SimScript::new());
        let store: Arc<dyn StateStore> = host.store.clone();
        let weak = Arc::downgrade(&store);
        drop(store);
        let driver = Arc::downgrade(&host.drivers["n"]);
        let world = host.start().await;
        world.create(pod("p", plain())).await;
        world.ready("p").await;
        let super::world::World {
            orchestra,
            store,
            drivers,
            ..
        } = world;
        drop((store, drivers));
        if stopped {
            orchestra.stop().await;
        } else {
            drop(orchestra);
            // What was cancelled needs a turn to be dropped.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            (weak.strong_count(), driver.strong_count()),
            (0, 0),
            "stopped: {stopped}"
        );
    }
    // One that never ran as well.
    let host = Host::new(&[], SimScript::new());
    let client = Client::new(
        host.store.clone(),
        host.clock.clone(),
        Arc::new(Ids::seeded(1)),
    );
    let weak = Arc::downgrade(&host.store);
    let (events, writer) = recorder(&client, "test");
    let plane = ControlPlane::new(&client, ControlSettings::default(), &events, None);
    drop((plane, events, writer, client, host));
    assert_eq!(weak.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn told_twice_it_ends_at_once_and_leaves_nothing_behind() {
    let world = world(SimScript::new()).await;
    let mut patient = plain();
    patient["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 9}}});
    world.create(pod("p", patient)).await;
    world.ready("p").await;
    let begun = world.clock.now();
    let driver = world.drivers["n"].clone();
    world.orchestra.run_until(seconds(1), seconds(2)).await;
    assert_eq!(world.clock.now().since(begun), Duration::from_secs(3));
    let running = |o: &Observed| matches!(o.state, RunState::Running { .. });
    assert!(
        !driver.observe().iter().any(running),
        "{:?}",
        driver.observe()
    );
}

#[tokio::test(start_paused = true)]
async fn schedulers_are_named_exchanged_and_shadowed_in_a_running_system() {
    let switch = Arc::new(Switch::new(Arc::new(Always("a"))));
    let numbers = Arc::new(MemoryMeter::new());
    let world = {
        let host = Host::new(&["a", "b"], SimScript::new());
        let builder = host.builder();
        let builder = builder
            .scheduler(switch.clone())
            .scheduler_named("to-b", Arc::new(Always("b")))
            .shadow_scheduler(Arc::new(Always("b")))
            .meter(numbers.clone());
        let orchestra = builder.start().await.unwrap();
        host.with(orchestra)
    };
    let home = async |name: &str, scheduler: &str| {
        let mut wanted = pod(name, plain());
        wanted.spec.scheduler_name = scheduler.into();
        world.create(wanted).await;
        world.ready(name).await.spec.node_name.clone()
    };
    assert_eq!(home("first", "").await, "a");
    assert_eq!(home("named", "to-b").await, "b");
    switch.swap(Arc::new(Always("b")));
    assert_eq!(home("second", "").await, "b");
    let counted = |name| numbers.read(name, &[]);
    assert_eq!(
        counted("placement_shadow_differed"),
        Some(Reading::Count(1))
    );
    assert_eq!(counted("placement_shadow_agreed"), Some(Reading::Count(1)));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gang_of_which_a_scheduler_misplaces_one_is_not_placed_at_all() {
    let host = Host::new(&["a"], SimScript::new());
    let orchestra = host.builder().scheduler(Arc::new(Always("a"))).start();
    let world = host.with(orchestra.await.unwrap());
    // Of three there is room for two on a node of 64 cores.
    let member = |name: &str, group: Option<&str>| {
        let mut spec = plain();
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": "30"}});
        let mut pod = pod(name, spec);
        if let Some(group) = group {
            let (label, min) = (gang::LABEL.into(), gang::MIN_ANNOTATION.into());
            pod.metadata.labels.insert(label, group.into());
            pod.metadata.annotations.insert(min, "3".into());
        }
        pod
    };
    let place = async |group: Option<&str>| {
        let names = ["x", "y", "z"];
        let mut commit = world.orchestra.client().commit();
        for name in names {
            commit = commit.create(member(name, group));
        }
        commit.send().await.unwrap();
        seconds(60).await;
        let placed = |name: &&&str| {
            let pod = world.orchestra.caches().pods.get(&key(name)).unwrap();
            pod.node_name().is_some()
        };
        let placed = names.iter().filter(placed).count();
        for name in names {
            world.delete::<Pod>(name).await;
            world.until_gone::<Pod>(name).await;
        }
        placed
    };
    assert_eq!(place(None).await, 2);
    assert_eq!(place(Some("train")).await, 0);
    world.orchestra.stop().await;
}

/// Makes plans in which nobody is mentioned, and counts them.
#[derive(Debug, Default)]
struct Mute(AtomicU64);

impl Scheduler for Mute {
    fn plan(&self, snapshot: &Snapshot, _: &[Pending], _: PlanInputs) -> Plan {
        let plans = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(plans < 1_000, "it is asked without a rest");
        Plan {
            base: snapshot.base(),
            ..Plan::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_says_nothing_of_a_pod_is_asked_again_after_a_rest() {
    let mute = Arc::new(Mute::default());
    let host = Host::new(&["a"], SimScript::new());
    let orchestra = host.builder().scheduler(mute.clone()).start();
    let world = host.with(orchestra.await.unwrap());
    world.create(pod("p", plain())).await;
    seconds(60).await;
    let plans = mute.0.load(Ordering::Relaxed);
    assert!((5..20).contains(&plans), "{plans}");
    let told = "the scheduler neither placed nor refused it";
    assert_eq!(
        told_of_placement(&world, "p"),
        ("SchedulerError".into(), told.into())
    );
    world.orchestra.stop().await;
}

/// Why the pod has no node, in a word and in full.
fn told_of_placement(world: &World, pod: &str) -> (String, String) {
    let pod = world.orchestra.caches().pods.get(&key(pod)).unwrap();
    let told = condition(&pod.status.conditions, Pod::SCHEDULED).unwrap();
    (told.reason.to_string(), told.message.clone())
}

/// Panics, and counts how often.
#[derive(Debug, Default)]
struct Falls(AtomicU64);

impl Scheduler for Falls {
    fn plan(&self, _: &Snapshot, _: &[Pending], _: PlanInputs) -> Plan {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("fell over")
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_scheduler_that_panics_say_so_until_another_places_them() {
    let falls = Arc::new(Falls::default());
    let switch = Arc::new(Switch::new(falls.clone()));
    let host = Host::new(&["a"], SimScript::new());
    let orchestra = host.builder().scheduler(switch.clone()).start();
    let world = host.with(orchestra.await.unwrap());
    world.create(pod("p", plain())).await;
    seconds(60).await;
    let plans = falls.0.load(Ordering::Relaxed);
    assert!((3..30).contains(&plans), "{plans}");
    let told = "the scheduler panicked: fell over";
    assert_eq!(
        told_of_placement(&world, "p"),
        ("SchedulerError".into(), told.into())
    );
    switch.swap(Arc::new(Always("a")));
    assert_eq!(world.ready("p").await.spec.node_name, "a");
    world.orchestra.stop().await;
}

/// An orchestra with a second scheduler, `other`, and a store that takes its time, so that both plan
/// before either has seen what the other placed.
async fn two_schedulers(nodes: &[&str]) -> World {
    let host = Host::new(nodes, SimScript::new());
    let slow = Rates {
        delayed: 1.0,
        ..Rates::NONE
    };
    let faults = Faults::seeded(7, slow, tokio::time::sleep);
    let store = Arc::new(ChaosStore::new(host.store.clone(), faults));
    let other = Arc::new(Framework::default());
    let builder = host.builder().store(store).scheduler_named("other", other);
    let orchestra = builder.start().await.unwrap();
    host.with(orchestra)
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_never_give_the_same_room_twice() {
    let world = two_schedulers(&["a"]).await;
    // A node of 64 cores has room for one of two that come together.
    let half = |name: &str, scheduler: &str| {
        let requests = json!({"cpu": "40"});
        let container = json!({"name": "c", "image": "i", "resources": {"requests": requests}});
        let spec = json!({"containers": [container], "schedulerName": scheduler});
        pod(name, spec)
    };
    for round in 0..3 {
        let names = [format!("p{round}"), format!("q{round}")];
        let client = world.orchestra.client();
        let both = client.commit().create(half(&names[0], ""));
        both.create(half(&names[1], "other")).send().await.unwrap();
        seconds(30).await;
        let placed = |name: &&String| {
            let pod = world.orchestra.caches().pods.get(&key(name)).unwrap();
            pod.node_name().is_some()
        };
        assert_eq!(names.iter().filter(placed).count(), 1, "round {round}");
        for name in &names {
            world.delete::<Pod>(name).await;
            world.until_gone::<Pod>(name).await;
        }
    }
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_break_no_rule_together_that_spans_nodes() {
    let world = two_schedulers(&["a", "b"]).await;
    for node in ["a", "b"] {
        let api = world.orchestra.api::<Node>();
        let in_zone = |node: &mut Node| {
            node.metadata.labels.insert("zone".into(), "z".into());
        };
        let key = ObjectKey::cluster(node);
        api.update(&key, in_zone).await.unwrap();
    }
    let away = |from: &str| {
        let selector = json!({"matchLabels": {"side": from}});
        let term = json!([{"topologyKey": "zone", "labelSelector": selector}]);
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}})
    };
    let never_two = json!([{
        "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2,
        "labelSelector": {"matchLabels": {"kind": "one-of"}}
    }]);
    let spread = json!({"topologySpreadConstraints": never_two});
    // What each of two says of the other, of which there is room for one in the only zone.
    let cases = [
        (
            "both",
            json!({"affinity": away("r")}),
            json!({"affinity": away("l")}),
        ),
        ("one", json!({"affinity": away("r")}), json!({})),
        ("spread", spread.clone(), spread),
    ];
    let rounds = cases.iter().cycle().take(12);
    for (case, left, right) in rounds {
        let named = |side: &str, scheduler: &str, rules: &serde_json::Value| {
            let mut spec = plain();
            spec["schedulerName"] = json!(scheduler);
            for (name, rule) in rules.as_object().unwrap() {
                spec[name] = rule.clone();
            }
            let mut pod = pod(&format!("{case}-{side}"), spec);
            let labels = [("side", side), ("kind", "one-of")];
            let labels = labels.map(|(name, value)| (name.into(), value.into()));
            pod.metadata.labels.extend(labels);
            pod
        };
        let both = [named("l", "", left), named("r", "other", right)];
        let names = both.each_ref().map(|pod| pod.metadata.name.to_string());
        let client = world.orchestra.client();
        let [left, right] = both;
        client
            .commit()
            .create(left)
            .create(right)
            .send()
            .await
            .unwrap();
        seconds(30).await;
        let placed = |name: &&String| {
            let pod = world.orchestra.caches().pods.get(&key(name)).unwrap();
            pod.node_name().is_some()
        };
        assert_eq!(names.iter().filter(placed).count(), 1, "{case}");
        for name in &names {
            world.delete::<Pod>(name).await;
            world.until_gone::<Pod>(name).await;
        }
    }
    // The fence of a node goes with it.
    let fence = Key::from("placements/ghost");
    world
        .store
        .put(fence.clone(), b"".as_slice())
        .await
        .unwrap();
    world.create(Node::new("ghost")).await;
    seconds(1).await;
    let api = world.orchestra.api::<Node>();
    let ghost = ObjectKey::cluster("ghost");
    api.delete(&ghost, Default::default()).await.unwrap();
    seconds(1).await;
    assert_eq!(world.store.get(&fence).await.unwrap(), None);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_go_where_little_is_used_whatever_was_asked_for() {
    let hungry = Behavior::runs().uses(30_000, 8 << 30);
    let script = SimScript::new().when(Match::any().image("hungry"), hungry);
    let host = Host::new(&["a", "b"], script);
    let by_use = Arc::new(Framework::new(Profile::empty().scorer(score::ActualUse, 1)));
    let often = Duration::from_secs(10);
    let builder = host.builder().scheduler(by_use);
    let builder = builder.agent(|agent| agent.usage_every = Some(often));
    let orchestra = builder.start().await.unwrap();
    let world = host.with(orchestra);
    // Nobody asks for anything; what the first one uses is seen.
    let mut first = plain();
    first["containers"][0]["image"] = json!("hungry");
    world.create(pod("first", first)).await;
    let full = world.ready("first").await.spec.node_name.clone();
    seconds(60).await;
    let node = world
        .orchestra
        .caches()
        .nodes
        .get(&ObjectKey::cluster(full.clone()));
    let seen = Usage::of(&node.unwrap()).unwrap();
    assert_eq!((seen.cpu_milli, seen.memory), (30_000, 8 << 30));
    for n in 0..5 {
        let name = format!("p{n}");
        world.create(pod(&name, plain())).await;
        assert_ne!(world.ready(&name).await.spec.node_name, full);
    }
    // What stays as it is is not noted again and again.
    let before = world.store.list(ListRequest::all("nodes/")).await.unwrap();
    seconds(600).await;
    let after = world.store.list(ListRequest::all("nodes/")).await.unwrap();
    assert_eq!(before.items, after.items);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_say_so_stays_on_a_lost_node_for_five_minutes() {
    let world = world(SimScript::new()).await;
    let for_long = |pod: &Pod| -> Vec<(String, Option<i64>)> {
        let all = pod.spec.tolerations.iter();
        all.map(|one| (one.key.to_string(), one.toleration_seconds))
            .collect()
    };
    let silent = world.create(pod("silent", plain())).await;
    let usual = [Taint::NOT_READY, Taint::UNREACHABLE].map(|key| (key.to_owned(), Some(300)));
    assert_eq!(for_long(&silent), usual);
    let mut own = pod("own", plain());
    let stays = json!([{"key": Taint::UNREACHABLE, "operator": "Exists"}]);
    own.spec.tolerations = serde_json::from_value(stays).unwrap();
    let own = world.create(own).await;
    let expected = [
        (Taint::UNREACHABLE.to_owned(), None),
        (Taint::NOT_READY.to_owned(), Some(300)),
    ];
    assert_eq!(for_long(&own), expected);
    world.orchestra.stop().await;
}
