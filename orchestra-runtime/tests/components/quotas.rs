//! Quotas: what the pods of a namespace may ask for together.

use orchestra_core::kind::{Container, Deployment, Pod, ResourceQuota};
use orchestra_core::meta::condition;
use orchestra_core::quantity::Quantity;
use orchestra_runtime::api::DeleteParams;
use orchestra_runtime::driver::sim::SimScript;
use serde_json::json;

use super::world::{World, key, pod, seconds, world};

fn half_a_core() -> Container {
    Container::new("main", "i").cpu_milli(500)
}

fn quota(pods: i64, cpu_milli: i64) -> ResourceQuota {
    ResourceQuota::new("all")
        .hard("pods", Quantity::from_int(pods))
        .hard("requests.cpu", Quantity::from_milli(cpu_milli))
}

fn used(world: &World) -> (i64, i64) {
    let quota = world.orchestra.caches().quotas.get(&key("all")).unwrap();
    let used = &quota.status.used;
    (used["pods"].as_int(), used["requests.cpu"].as_milli())
}

#[tokio::test(start_paused = true)]
async fn a_pod_too_many_is_refused_by_name_and_room_comes_back() {
    let world = world(SimScript::new()).await;
    let pods = world.orchestra.api::<Pod>();
    world
        .create(Pod::builder("before").container(half_a_core()))
        .await;
    world.create(quota(2, 1_200)).await;
    seconds(1).await;
    assert_eq!(used(&world), (1, 500), "what was there before counts");
    world
        .create(Pod::builder("second").container(half_a_core()))
        .await;
    let third = Pod::builder("third").container(half_a_core());
    let text = pods.create(third.clone()).await.unwrap_err().to_string();
    assert!(
        text.contains("quota all allows pods 2, 2 is used and 1 more is asked"),
        "{text}"
    );
    // Who does not say what it needs cannot be counted.
    world.orchestra.apply(quota(5, 1_200)).await.unwrap();
    let silent = pod(
        "silent",
        json!({"containers": [{"name": "main", "image": "i"}]}),
    );
    let text = pods.create(silent).await.unwrap_err().to_string();
    assert!(
        text.contains("quota all bounds requests.cpu; give"),
        "{text}"
    );
    let text = pods.create(third.clone()).await.unwrap_err().to_string();
    assert!(
        text.contains("requests.cpu 1200m, 1 is used and 500m more"),
        "{text}"
    );

    pods.delete(&key("second"), DeleteParams::now())
        .await
        .unwrap();
    world.until_gone::<Pod>("second").await;
    seconds(1).await;
    assert_eq!(used(&world), (1, 500));
    pods.create(third).await.unwrap();
    world.ready("third").await;
    assert_eq!(used(&world), (2, 1_000));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_writers_never_get_more_than_is_allowed() {
    let world = world(SimScript::new()).await;
    world.create(quota(10, 2_000)).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let pods = world.orchestra.api::<Pod>();
        writers.spawn(async move {
            let pod = Pod::builder(format!("p{n}")).container(half_a_core());
            pods.create(pod).await.is_ok()
        });
    }
    let landed = writers
        .join_all()
        .await
        .into_iter()
        .filter(|landed| *landed);
    assert_eq!(landed.count(), 4);
    seconds(1).await;
    assert_eq!(used(&world), (4, 2_000));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_starts_what_is_allowed_says_what_is_not_and_goes_on_once_it_is() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    world.create(quota(100, 1_500)).await;
    let web = Deployment::new("web").replicas(5).container(half_a_core());
    orchestra.apply(web).await.unwrap();
    let available = |n| move |web: &Deployment| web.status.available_replicas == n;
    let web = world.until::<Deployment>("web", available(3)).await;
    let failure = condition(&web.status.conditions, Deployment::REPLICA_FAILURE).unwrap();
    assert!(
        failure.message.contains("requests.cpu 1500m"),
        "{failure:?}"
    );
    seconds(600).await;
    assert_eq!(used(&world), (3, 1_500));

    orchestra.apply(quota(100, 3_000)).await.unwrap();
    let web = world.until::<Deployment>("web", available(5)).await;
    assert!(condition(&web.status.conditions, Deployment::REPLICA_FAILURE).is_none());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_what_was_there_before_its_controller_has_seen_it() {
    let world = world(SimScript::new()).await;
    let pods = world.orchestra.api::<Pod>();
    world
        .create(Pod::builder("before").container(half_a_core()))
        .await;
    let quotas = world.orchestra.api::<ResourceQuota>();
    let second = Pod::builder("second").container(half_a_core());
    // Nobody else has its turn in between.
    let (bounded, refused) = tokio::join!(quotas.create(quota(1, 9_000)), pods.create(second));
    bounded.unwrap();
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("quota all allows pods 1, 1 is used"),
        "{text}"
    );
    // Nor does one that is bounded in more than before.
    let more = quota(2, 9_000).hard("limits.cpu", Quantity::from_milli(600));
    world.orchestra.apply(more).await.unwrap();
    seconds(1).await;
    assert_eq!(used(&world), (1, 500));
    world.orchestra.stop().await;
}
