//! A pod's life, as its driver and its status tell it.

use std::time::Duration;

use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{ConfigMap, Pod};
use orchestra_core::port::driver::{DriverErrorKind, WorkloadDriver};
use orchestra_runtime::api::DeleteParams;
use orchestra_runtime::driver::sim::{Behavior, Match, SimScript};
use serde_json::json;

use super::world::{Host, container, key, pod, seconds, world};

fn when(name: &str, behavior: Behavior) -> SimScript {
    SimScript::new().when(Match::any().container(name), behavior)
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order_and_sidecars_before_the_rest() {
    let second = Duration::from_secs(1);
    let script = SimScript::new()
        .when(Match::any().container("first"), Behavior::exits(second, 0))
        .when(Match::any().container("second"), Behavior::exits(second, 0));
    let world = world(script).await;
    let spec = json!({
        "initContainers": [
            {"name": "first", "image": "i"},
            {"name": "side", "image": "i", "restartPolicy": "Always"},
            {"name": "second", "image": "i"}
        ],
        "containers": [{"name": "main", "image": "i"}]
    });
    world.create(pod("p", spec)).await;
    world.ready("p").await;
    assert_eq!(
        world.log(),
        [
            "start first 0",
            "start side 0",
            "start second 0",
            "start main 0"
        ]
    );
    world.delete::<Pod>("p").await;
    world.until_gone::<Pod>("p").await;
    let stops: Vec<String> = world
        .log()
        .into_iter()
        .filter(|line| line.starts_with("stop "))
        .collect();
    assert_eq!(stops[..2], ["stop main 30", "stop second 30"]);
    assert_eq!(stops.len(), 4);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_back_off_to_the_digit() {
    let second = Duration::from_secs(1);
    let world = world(when("main", Behavior::exits(second, 1))).await;
    let begun = world.now();
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    let waits = |pod: &Pod| {
        let status = container(pod, "main");
        let waiting = status.state.waiting();
        status.restart_count == 1
            && waiting.is_some_and(|waiting| waiting.reason == "CrashLoopBackOff")
    };
    let seen = world
        .until::<Pod>("p", |pod| {
            !pod.status.container_statuses.is_empty() && waits(pod)
        })
        .await;
    assert_eq!(seen.status.phase, PodPhase::Running);
    assert!(!seen.is_ready());
    assert_eq!(
        container(&seen, "main")
            .last_state
            .terminated()
            .unwrap()
            .exit_code,
        1
    );
    seconds(1_000).await;
    // One second of running, then the rest: 0, 10, 20, 40, 80, 160, 300.
    let mut expected = vec![begun];
    for rest in [0, 10, 20, 40, 80, 160, 300, 300] {
        expected.push(expected.last().unwrap() + 1 + rest);
    }
    assert_eq!(world.when("start main"), expected);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restart_policies_decide_who_runs_again() {
    let second = Duration::from_secs(1);
    for (policy, code, phase, starts) in [
        ("Never", 0, PodPhase::Succeeded, 1),
        ("Never", 3, PodPhase::Failed, 1),
        ("OnFailure", 0, PodPhase::Succeeded, 1),
    ] {
        let world = world(when("main", Behavior::exits(second, code))).await;
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "main", "image": "i"}]});
        world.create(pod("p", spec)).await;
        world.phase("p", phase).await;
        seconds(100).await;
        assert_eq!(world.when("start main").len(), starts, "{policy} {code}");
        // One that has ended goes at once.
        world.delete::<Pod>("p").await;
        world.until_gone::<Pod>("p").await;
        world.orchestra.stop().await;
    }
    let fails_twice = Behavior::exits(second, 0).crashes(2, second, 1);
    let world = world(when("main", fails_twice)).await;
    let spec =
        json!({"restartPolicy": "OnFailure", "containers": [{"name": "main", "image": "i"}]});
    world.create(pod("p", spec)).await;
    let done = world.phase("p", PodPhase::Succeeded).await;
    assert_eq!(container(&done, "main").restart_count, 2);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let world = world(when("init", Behavior::exits(Duration::from_secs(1), 1))).await;
    let spec = |policy: &str| {
        json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "init", "image": "i"}],
            "containers": [{"name": "main", "image": "i"}]
        })
    };
    world.create(pod("p", spec("Never"))).await;
    world.phase("p", PodPhase::Failed).await;
    assert_eq!(world.when("start main").len(), 0);
    world.create(pod("again", spec("Always"))).await;
    seconds(60).await;
    assert_eq!(world.when("start init 3").len(), 1);
    let waiting = world.phase("again", PodPhase::Pending).await;
    assert!(!waiting.is_ready());
    // Deleted in the middle of a back-off.
    world.delete::<Pod>("again").await;
    let begun = world.now();
    world.until_gone::<Pod>("again").await;
    assert!(world.now() <= begun + 1);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_in_order() {
    let slow = Behavior::runs().ignores_term_for(Duration::from_secs(4));
    let world = world(when("main", slow)).await;
    let spec = json!({"containers": [{
        "name": "main", "image": "i",
        "lifecycle": {
            "postStart": {"exec": {"command": ["begin"]}},
            "preStop": {"sleep": {"seconds": 7}}
        }
    }]});
    world.create(pod("p", spec)).await;
    world.ready("p").await;
    world.delete::<Pod>("p").await;
    let begun = world.now();
    world.until_gone::<Pod>("p").await;
    assert_eq!(
        world.log(),
        [
            "start main 0",
            "exec main begin",
            "stop main 23",
            "stopped main"
        ]
    );
    assert_eq!(world.when("stop main"), [begun + 7]);
    assert_eq!(world.now(), begun + 11);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_all_of_the_grace_leaves_two_seconds() {
    let world = world(SimScript::new()).await;
    let spec = json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [{
            "name": "main", "image": "i",
            "lifecycle": {"preStop": {"sleep": {"seconds": 60}}}
        }]
    });
    world.create(pod("p", spec)).await;
    world.ready("p").await;
    world.delete::<Pod>("p").await;
    let begun = world.now();
    world.until_gone::<Pod>("p").await;
    assert_eq!(world.log(), ["start main 0", "stop main 2", "stopped main"]);
    assert_eq!(world.when("stop main"), [begun + 5]);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_shortens_the_grace() {
    let deaf = Behavior::runs().ignores_term_for(Duration::from_secs(10_000));
    let world = world(when("main", deaf)).await;
    let spec = json!({
        "terminationGracePeriodSeconds": 1000,
        "containers": [{"name": "main", "image": "i"}]
    });
    world.create(pod("p", spec.clone())).await;
    world.ready("p").await;
    world.delete::<Pod>("p").await;
    seconds(10).await;
    let begun = world.now();
    let sooner = DeleteParams {
        grace_seconds: Some(5),
        ..DeleteParams::default()
    };
    world
        .orchestra
        .api::<Pod>()
        .delete(&key("p"), sooner)
        .await
        .unwrap();
    world.until_gone::<Pod>("p").await;
    assert_eq!(world.now(), begun + 5);

    // By force: the object goes at once, the workload right after it.
    let second = world.create(pod("q", spec)).await;
    world.ready("q").await;
    world
        .orchestra
        .api::<Pod>()
        .delete(&key("q"), DeleteParams::now())
        .await
        .unwrap();
    world.until_gone::<Pod>("q").await;
    seconds(1).await;
    assert!(!world.drivers["n"].runs_any_of(second.metadata.uid));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_while_it_starts_does_not_stay_behind() {
    let slow = Behavior::runs().starts_after(Duration::from_secs(20));
    let world = world(when("main", slow)).await;
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world
        .until::<Pod>("p", |pod| pod.node_name().is_some())
        .await;
    seconds(5).await;
    world.delete::<Pod>("p").await;
    world.until_gone::<Pod>("p").await;
    seconds(60).await;
    assert_eq!(world.drivers["n"].observe(), []);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sick_container_is_restarted_after_its_hook() {
    let sick = Behavior::runs();
    let script = SimScript::new()
        .when(
            Match::any().container("main").attempts(0..1),
            Behavior::runs()
                .sick_after(Duration::from_secs(20))
                .ignores_term_for(Duration::from_secs(2)),
        )
        .when(Match::any(), sick);
    let world = world(script).await;
    let spec = json!({"containers": [{
        "name": "main", "image": "i",
        "lifecycle": {"preStop": {"exec": {"command": ["goodbye"]}}},
        "livenessProbe": {
            "exec": {"command": ["probe"]}, "periodSeconds": 5,
            "terminationGracePeriodSeconds": 3
        }
    }]});
    let begun = world.now();
    world.create(pod("p", spec)).await;
    world.ready("p").await;
    // While it is being stopped nobody is sent to it any more.
    let ending = world.until::<Pod>("p", |pod| !pod.is_ready()).await;
    let main = container(&ending, "main");
    assert!(
        main.state.running().is_some() && main.restart_count == 0,
        "{main:?}"
    );
    let restarted = world
        .until::<Pod>("p", |pod| {
            pod.is_ready() && container(pod, "main").restart_count == 1
        })
        .await;
    assert_eq!(restarted.status.phase, PodPhase::Running);
    let last = container(&restarted, "main").last_state.terminated();
    let why = &last.unwrap().message;
    assert!(why.starts_with("it failed its liveness probe: "), "{why}");
    assert_eq!(
        world.log(),
        [
            "start main 0",
            "exec main goodbye",
            "stop main 3",
            "stopped main",
            "start main 1"
        ]
    );
    // Three failures in a row, five seconds apart.
    let at = world.when("start main 1")[0] - begun;
    assert!((30..=35).contains(&at), "{at}");
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_startup_and_gates() {
    let script = when(
        "main",
        Behavior::runs().ready_after(Duration::from_secs(12)),
    );
    let world = world(script).await;
    let spec = json!({
        "readinessGates": [{"conditionType": "example.com/open"}],
        "containers": [{
            "name": "main", "image": "i",
            "startupProbe": {"exec": {"command": ["probe"]}, "periodSeconds": 5, "failureThreshold": 10},
            "readinessProbe": {"exec": {"command": ["probe"]}, "periodSeconds": 1}
        }]
    });
    world.create(pod("p", spec)).await;
    let started = world
        .until::<Pod>("p", |pod| {
            pod.status
                .container_statuses
                .iter()
                .any(|status| status.ready)
        })
        .await;
    assert!(world.now() >= 12 && !started.is_ready());
    assert_eq!(container(&started, "main").started, Some(true));
    let api = world.orchestra.api::<Pod>();
    api.update_status(&key("p"), |pod| {
        let open = serde_json::from_value(json!({"type": "example.com/open", "status": "True"}));
        pod.status.conditions.push(open.unwrap());
    })
    .await
    .unwrap();
    // The gate's condition is somebody else's, and stays; the next report opens the pod.
    world.ready("p").await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_does_not_outlive_its_deadline() {
    let world = world(SimScript::new()).await;
    let spec = json!({
        "activeDeadlineSeconds": 40,
        "containers": [{"name": "main", "image": "i"}]
    });
    world.create(pod("p", spec)).await;
    world.ready("p").await;
    let begun = world.now();
    let late = world.phase("p", PodPhase::Failed).await;
    assert_eq!(late.status.reason, "DeadlineExceeded");
    assert_eq!(world.now(), begun + 40);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_runtime_class_fails_the_pod_by_name() {
    let world = world(SimScript::new()).await;
    let spec = json!({"runtimeClassName": "vm", "containers": [{"name": "main", "image": "i"}]});
    world.create(pod("p", spec)).await;
    let refused = world.phase("p", PodPhase::Failed).await;
    assert_eq!(refused.status.reason, "UnknownRuntimeClass");
    assert!(
        refused.status.message.contains("\"vm\""),
        "{}",
        refused.status.message
    );
    assert!(refused.status.message.contains("sim"));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn configuration_that_is_missing_is_waited_for() {
    let world = world(SimScript::new()).await;
    let spec = json!({"containers": [{
        "name": "main", "image": "i",
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "a"}}}]
    }]});
    world.create(pod("p", spec)).await;
    let waits = world
        .until::<Pod>("p", |pod| {
            let mut all = pod.status.container_statuses.iter();
            all.any(|s| {
                s.state
                    .waiting()
                    .is_some_and(|w| w.reason == "CreateContainerConfigError")
            })
        })
        .await;
    let message = &container(&waits, "main").state.waiting().unwrap().message;
    assert!(message.contains("default/later"), "{message}");
    let map = json!({"metadata": {"name": "later", "namespace": "default"}, "data": {"a": "1"}});
    world.create::<ConfigMap>(super::world::of(map)).await;
    world.ready("p").await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_is_asked_again() {
    let script = when(
        "main",
        Behavior::runs().refuses(1, DriverErrorKind::Exhausted),
    );
    let world = world(script).await;
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    seconds(30).await;
    let log = world.log();
    assert!(log.len() >= 4, "{log:?}");
    let seen = world.orchestra.caches().pods.get(&key("p")).unwrap();
    assert_eq!(
        container(&seen, "main").state.waiting().unwrap().reason,
        "RunContainerError"
    );
    world.delete::<Pod>("p").await;
    world.until_gone::<Pod>("p").await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_adopted_and_stays_ready() {
    let host = Host::new(&["n"], SimScript::new());
    let (store, drivers, clock) = (host.store.clone(), host.drivers.clone(), host.clock.clone());
    let orchestra = host.builder().leave_workloads().start().await.unwrap();
    let first = host.with(orchestra);
    let spec = json!({
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{
            "name": "main", "image": "i",
            "readinessProbe": {"exec": {"command": ["probe"]}, "initialDelaySeconds": 30}
        }]
    });
    first.create(pod("p", spec)).await;
    let before = first.ready("p").await;
    first.orchestra.stop().await;
    let left = drivers["n"].observe();
    assert_eq!(left.len(), 2);

    let mut again = Host::new(&["n"], SimScript::new());
    (again.store, again.drivers, again.clock) = (store, drivers.clone(), clock);
    let second = again.start().await;
    seconds(5).await;
    let after = second.orchestra.caches().pods.get(&key("p")).unwrap();
    assert!(after.is_ready(), "{:#?}", after.status);
    assert_eq!(after.status.pod_ip, before.status.pod_ip);
    assert_eq!(container(&after, "main").restart_count, 0);
    seconds(100).await;
    assert!(
        second
            .orchestra
            .caches()
            .pods
            .get(&key("p"))
            .unwrap()
            .is_ready()
    );
    assert_eq!(drivers["n"].observe(), left);
    second.orchestra.stop().await;
    assert!(drivers["n"].observe().iter().all(|o| !left.contains(o)));
}

#[tokio::test(start_paused = true)]
async fn strays_are_stopped_before_anything_starts() {
    let host = Host::new(&["n"], SimScript::new());
    let driver = host.drivers["n"].clone();
    let stray = orchestra_core::port::driver::Workload {
        image: "i".into(),
        ..Default::default()
    };
    driver.ensure(&stray).await.unwrap();
    driver.set_reachable(false);
    let waking = driver.clone();
    let (world, ()) = tokio::join!(host.start(), async move {
        seconds(10).await;
        waking.set_reachable(true);
    });
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("p").await;
    let stop = world
        .log()
        .iter()
        .position(|line| line.starts_with("stop "))
        .unwrap();
    let start = world
        .log()
        .iter()
        .position(|line| line.starts_with("start "))
        .unwrap();
    assert!(stop < start, "{:?}", world.log());
    assert_eq!(driver.observe().len(), 1);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_is_another_pod() {
    let world = world(SimScript::new()).await;
    let spec = json!({"containers": [{"name": "main", "image": "i"}]});
    let first = world.create(pod("p", spec.clone())).await;
    world.ready("p").await;
    world
        .orchestra
        .api::<Pod>()
        .delete(&key("p"), DeleteParams::now())
        .await
        .unwrap();
    let second = world.create(pod("p", spec)).await;
    let ready = world
        .until::<Pod>("p", |pod| {
            pod.metadata.uid == second.metadata.uid && pod.is_ready()
        })
        .await;
    assert_eq!(container(&ready, "main").restart_count, 0);
    seconds(1).await;
    assert!(!world.drivers["n"].runs_any_of(first.metadata.uid));
    assert!(world.drivers["n"].runs_any_of(second.metadata.uid));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_says_what_became_of_its_pods() {
    let world = world(SimScript::new()).await;
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("p").await;
    let client = world.orchestra.client().clone();
    world.orchestra.stop().await;
    let left = client.api::<Pod>().get(&key("p")).await.unwrap();
    assert_eq!(
        (left.status.phase, left.status.reason.as_str()),
        (PodPhase::Failed, "Terminated")
    );
}
