//! What the application that embeds it all asks of it.

use std::time::Duration;

use orchestra_core::kind::pod::{PodPhase, PodSchedulingGate};
use orchestra_core::kind::{Deployment, Node, Pod, Service};
use orchestra_core::manifest;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::driver::{Workload, WorkloadDriver};
use orchestra_runtime::Orchestra;
use orchestra_runtime::driver::process::ProcessDriver;
use orchestra_runtime::driver::sim::SimScript;
use orchestra_runtime::driver::task::{ExitCode, TaskContext};
use orchestra_runtime::orchestra::{ExplainError, LogsError, Standing, WaitError};
use serde_json::json;

use super::world::{Host, container, key, of, pod, seconds, world};

#[tokio::test(start_paused = true)]
async fn what_a_container_printed_can_be_read() {
    let chatty = |task: TaskContext| async move {
        task.log("one");
        task.log("two");
        task.stopping().await;
        Ok(())
    };
    let orchestra = Orchestra::builder()
        .proxy(None)
        .task("chatty", chatty)
        .start()
        .await
        .unwrap();
    let api = orchestra.api::<Pod>();
    let containers =
        json!([{"name": "first", "image": "chatty"}, {"name": "second", "image": "chatty"}]);
    api.create(pod("p", json!({"containers": containers})))
        .await
        .unwrap();
    orchestra.ready::<Pod>("p").await.unwrap();
    assert_eq!(orchestra.logs("p").await.unwrap(), "one\ntwo\n");
    let tail = orchestra.logs_at(&key("p"), Some("second"), 4).await;
    assert_eq!(tail.unwrap(), b"two\n");

    let error = orchestra.logs("q").await.unwrap_err();
    assert!(matches!(error, LogsError::NoPod(_)), "{error}");
    let error = orchestra.logs_at(&key("p"), Some("third"), 4).await;
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("no container \"third\"; it has first, second"),
        "{text}"
    );
    let containers = json!([{"name": "main", "image": "chatty"}]);
    let nowhere = json!({"containers": containers, "nodeSelector": {"no": "such"}});
    api.create(pod("r", nowhere)).await.unwrap();
    let text = orchestra.logs("r").await.unwrap_err().to_string();
    assert!(text.contains("no node yet"), "{text}");
    let elsewhere = json!({"containers": containers, "nodeName": "far"});
    api.create(pod("s", elsewhere)).await.unwrap();
    let text = orchestra.logs("s").await.unwrap_err().to_string();
    assert!(text.contains("not one of this process"), "{text}");
    orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn how_a_pod_stands_is_told_of_each() {
    let orchestra = Orchestra::builder()
        .proxy(None)
        .node(Node::new("a").capacity(4_000, 8_192, 10))
        .node(Node::new("b").capacity(2_000, 8_192, 10))
        .task("sleepy", |task: TaskContext| async move {
            task.stopping().await;
            Ok(())
        })
        .start()
        .await
        .unwrap();
    let api = orchestra.api::<Pod>();
    let asks = |cpu: &str| json!({"name": "main", "image": "sleepy", "resources": {"requests": {"cpu": cpu}}});
    let of = |cpu: &str| json!({"containers": [asks(cpu)]});
    api.create(pod("p", of("1"))).await.unwrap();
    orchestra.ready::<Pod>("p").await.unwrap();
    // It runs there, names its node, and is asked about as if it did not.
    let standing = orchestra.explain("p").await.unwrap();
    let Standing::Placed { node, ranking } = &standing else {
        panic!("{standing}");
    };
    let ranking = ranking.as_ref().unwrap();
    assert_eq!((node.as_str(), ranking.fit, ranking.nodes), ("a", 2, 2));
    assert_eq!(ranking.chosen.as_ref().unwrap().node, "a");
    assert_eq!(ranking.runners_up[0].node, "b");
    let text = standing.to_string();
    assert!(
        text.starts_with("has node a: 2/2 nodes fit\na has "),
        "{text}"
    );

    api.create(pod("q", of("3500m"))).await.unwrap();
    let standing = orchestra.explain("q").await.unwrap();
    let Standing::Refused { why, room: None } = &standing else {
        panic!("{standing}");
    };
    assert_eq!((why.nodes, why.fit), (2, 0));
    let text = standing.to_string();
    assert!(
        text.contains("it would run on a, with 500m more cpu"),
        "{text}"
    );

    let mut important = pod("r", of("3500m"));
    important.spec.priority = Some(10);
    important.spec.scheduling_gates.push(PodSchedulingGate {
        name: "example.com/wait".into(),
    });
    api.create(important).await.unwrap();
    let text = orchestra.explain("r").await.unwrap().to_string();
    assert_eq!(
        text,
        "waits until its scheduling gates are taken off: example.com/wait"
    );
    let open = |pod: &mut Pod| pod.spec.scheduling_gates.clear();
    api.update(&key("r"), open).await.unwrap();
    // Either nothing was done yet, or it runs where room was made.
    let standing = orchestra.explain("r").await.unwrap();
    let text = standing.to_string();
    match standing {
        Standing::Refused { room, .. } => assert_eq!(room.unwrap().node, "a"),
        _ => assert!(text.contains("node a"), "{text}"),
    }

    let mut foreign = pod("s", of("1"));
    foreign.spec.scheduler_name = "theirs".into();
    api.create(foreign).await.unwrap();
    let text = orchestra.explain("s").await.unwrap_err().to_string();
    assert!(
        text.contains("scheduler \"theirs\", which is not in this process"),
        "{text}"
    );
    let error = orchestra.explain("t").await.unwrap_err();
    assert!(matches!(error, ExplainError::NoPod(_)), "{error}");
    orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_container_tells_its_last_words_if_asked() {
    let fails = |task: TaskContext| async move {
        for line in 0..100 {
            task.log(format!("line {line}"));
        }
        Err(ExitCode(3).into())
    };
    let orchestra = Orchestra::builder()
        .proxy(None)
        .task("fails", fails)
        .start()
        .await
        .unwrap();
    let containers = json!([
        {"name": "mute", "image": "fails"},
        {"name": "loud", "image": "fails", "terminationMessagePolicy": "FallbackToLogsOnError"},
    ]);
    let never = json!({"restartPolicy": "Never", "containers": containers});
    let api = orchestra.api::<Pod>();
    api.create(pod("p", never)).await.unwrap();
    let failed = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.status.phase == PodPhase::Failed);
    let found = orchestra.wait_for::<Pod>(&key("p"), failed).await.unwrap();
    let message = |name| &container(&found, name).state.terminated().unwrap().message;
    assert_eq!(message("mute"), "");
    assert!(message("loud").starts_with("line 20\n") && message("loud").ends_with("line 99"));
    orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_applied_as_a_whole() {
    let world = world(SimScript::new()).await;
    let text = "
kind: ConfigMap
apiVersion: v1
metadata: {name: colours, namespace: shop}
data: {sky: blue}
---
kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: v1}]}
---
kind: Namespace
apiVersion: v1
metadata: {name: shop}
";
    let found = manifest::load(text).unwrap();
    for _ in 0..2 {
        world.orchestra.apply_all(&found).await.unwrap();
    }
    let web = ObjectKey::namespaced("shop", "web");
    let ready = world.orchestra.ready_at::<Deployment>(&web).await.unwrap();
    assert_eq!(ready.status.available_replicas, 2);
    assert_eq!(ready.metadata.generation, 1, "applied again, it changed");

    // The first one that is refused is named; those before it stand.
    let text = text
        .replace("v1}]", "v2}]")
        .replace("web, namespace: shop", "web, namespace: shut");
    let error = world
        .orchestra
        .apply_all(&manifest::load(&text).unwrap())
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("shut/web") && error.contains("namespace \"shut\""),
        "{error}"
    );
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_address_of_a_service_that_goes_ends() {
    let world = Host::new(&["n"], SimScript::new()).start().await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    let service: Service = of(json!({"metadata": {"name": "web"}, "spec": spec}));
    world.create(service).await;
    // Both before any cache has seen the service.
    let (address, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), world.orchestra.address("web")),
        world.delete::<Service>("web"),
    );
    let error = address.expect("it waits for ever").unwrap_err();
    assert!(matches!(error, WaitError::Gone { .. }), "{error}");
    seconds(1).await;
    world.orchestra.stop().await;
}

#[tokio::test]
async fn a_run_without_a_folder_of_its_own_leaves_none_behind_and_clears_up_after_others() {
    let of_run = |pid| std::env::temp_dir().join(format!("orchestra-{pid}"));
    let folder = of_run(std::process::id());
    // As a run leaves it that was killed: what it ran goes on.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let deserted = of_run(gone.id());
    gone.wait().unwrap();
    let long = format!("85{}.25", std::process::id());
    let driver = ProcessDriver::builder(deserted.join("local")).open().await;
    let driver = driver.unwrap();
    let want = Workload {
        image: "sleep".into(),
        args: vec![long.clone()],
        ..Workload::default()
    };
    driver.ensure(&want).await.unwrap();
    driver.shutdown().await;
    drop(driver);
    assert_eq!(running(&long), 1);

    let orchestra = Orchestra::builder().processes().proxy(None).start().await;
    let orchestra = orchestra.unwrap();
    assert_eq!(running(&long), 0);
    assert!(!deserted.exists());
    let sleeps = json!({"containers": [{"name": "main", "image": "sleep", "args": ["1000"]}]});
    let api = orchestra.api::<Pod>();
    api.create(pod("p", sleeps)).await.unwrap();
    orchestra.ready::<Pod>("p").await.unwrap();
    assert!(folder.exists());
    orchestra.stop().await;
    let found = std::fs::read_dir(&folder).map(|found| found.flatten().collect::<Vec<_>>());
    assert!(found.is_err(), "{found:?}");
}

/// How many processes there are with that word among their arguments.
fn running(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|arg| arg == word.as_bytes())
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_do_not_outlive_an_orchestra_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody else sleeps for so long.
    let long = format!("86{}.25", std::process::id());
    let sleeps = json!({"containers": [{"name": "main", "image": "sleep", "args": [long]}]});
    for round in 0..5 {
        let builder = Orchestra::builder().processes_in(folder.path().join("p"));
        let orchestra = builder.proxy(None).start().await.unwrap();
        let api = orchestra.api::<Pod>();
        for n in 0..5 {
            api.create(pod(&format!("p{n}"), sleeps.clone()))
                .await
                .unwrap();
        }
        // In the first round some are just being started.
        if round > 0 {
            orchestra.ready::<Pod>("p0").await.unwrap();
            assert!(running(&long) > 0);
        }
        drop(orchestra);
        // What was being started as it was dropped may end a moment later.
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while running(&long) > 0 {
            assert!(
                tokio::time::Instant::now() < until,
                "round {round}: it goes on"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
