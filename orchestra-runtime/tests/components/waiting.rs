//! What those are told who wait for a pod that does not come up.

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::pod::PodSchedulingGate;
use orchestra_core::kind::{Container, Deployment, Node, Pod};
use orchestra_core::meta::condition;
use orchestra_core::port::store::Revision;
use orchestra_runtime::api::ApiError;
use orchestra_runtime::driver::sim::SimScript;
use serde_json::json;

use super::world::{Always, Host, World, key, pod, seconds, world};

const MOMENT: Duration = Duration::from_secs(1);

/// What the wait for a pod says.
async fn why(world: &World, name: &str) -> String {
    let key = key(name);
    let ready = world.orchestra.ready_at_within::<Pod>(&key, MOMENT);
    ready.await.unwrap_err().to_string()
}

async fn gates(world: &World, name: &str, gates: &[&str]) -> Result<Arc<Pod>, ApiError> {
    let gates = gates.iter().map(|gate| PodSchedulingGate {
        name: (*gate).into(),
    });
    let gates: Vec<_> = gates.collect();
    let change = |pod: &mut Pod| pod.spec.scheduling_gates.clone_from(&gates);
    world
        .orchestra
        .api::<Pod>()
        .update(&key(name), change)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_pod_behind_gates_says_so_until_the_last_is_gone() {
    let world = world(SimScript::new()).await;
    let spec = json!({"containers": [{"name": "main", "image": "i"}],
        "schedulingGates": [{"name": "example.com/paid"}, {"name": "example.com/seen"}]});
    let created = world.create(pod("p", spec)).await;
    let told = |pod: &Pod| {
        let told = condition(&pod.status.conditions, Pod::SCHEDULED)?;
        Some((told.reason.to_string(), told.message.clone()))
    };
    let message = "it is behind the scheduling gates example.com/paid, example.com/seen, and waits \
                   until they are taken away";
    assert_eq!(
        told(&created),
        Some(("SchedulingGated".into(), message.into()))
    );
    assert!(
        why(&world, "p")
            .await
            .ends_with(&format!("has no node: {message}"))
    );

    let fewer = gates(&world, "p", &["example.com/seen"]).await.unwrap();
    let message = "it is behind the scheduling gate example.com/seen, and waits until it is taken \
                   away";
    assert_eq!(
        told(&fewer),
        Some(("SchedulingGated".into(), message.into()))
    );
    let none = gates(&world, "p", &[]).await.unwrap();
    assert_eq!(told(&none), None);
    let placed = world.ready("p").await;
    assert_eq!(placed.spec.node_name, "n");

    let error = gates(&world, "p", &["example.com/late"]).await;
    let error = orchestra_core::error::report(&error.unwrap_err()).to_string();
    assert!(
        error.contains(
            "spec.schedulingGates[0].name: \"example.com/late\" is new, and a pod gets no"
        ),
        "{error}"
    );
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_an_agent_is_named() {
    let world = world(SimScript::new()).await;
    let on = |node: &str| json!({"containers": [{"name": "main", "image": "i"}], "nodeName": node});
    let ghost = Node::new("ghost").capacity(1_000, 1_000, 10);
    world.create(ghost).await;
    world.create(pod("p", on("ghost"))).await;
    let said = why(&world, "p").await;
    assert!(
        said.ends_with("; node ghost was never heard: is there an agent?"),
        "{said}"
    );
    let mut web = Deployment::new("web").container(Container::new("main", "i"));
    web.spec.template.spec.node_name = "ghost".into();
    world.orchestra.apply(web).await.unwrap();
    seconds(120).await;
    let ready = world.orchestra.ready_within::<Deployment>("web", MOMENT);
    let said = ready.await.unwrap_err().to_string();
    assert!(
        said.contains("; node ghost is silent since 1970-01-01T00:0")
            && said.ends_with("is there an agent?"),
        "{said}"
    );
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_scheduler_chose_what_does_not_fit_is_told_what() {
    let host = Host::new(&["n"], SimScript::new());
    let stubborn = Arc::new(Always("n"));
    let orchestra = host.builder().scheduler_named("stubborn", stubborn).start();
    let world = host.with(orchestra.await.unwrap());
    let spec = json!({"schedulerName": "stubborn", "containers": [{"name": "main", "image": "i",
        "resources": {"requests": {"cpu": "65"}}}]});
    world.create(pod("p", spec)).await;
    seconds(60).await;
    let said = why(&world, "p").await;
    assert!(
        said.contains("has no node: the scheduler chose what does not fit: ")
            && said.contains("cpu"),
        "{said}"
    );
    // Told once, and not again each time that it is chosen.
    let pod = world.orchestra.caches().pods.get(&key("p")).unwrap();
    let at = pod.metadata.resource_version;
    seconds(600).await;
    let pod = world.orchestra.caches().pods.get(&key("p")).unwrap();
    assert!(at > Revision(0) && pod.metadata.resource_version == at);
    world.orchestra.stop().await;
}
