//! Deployments: from one template to the next, and back.

use std::time::Duration;

use orchestra_core::kind::{Deployment, Pod};
use orchestra_core::meta::condition;
use orchestra_runtime::driver::sim::{Behavior, Match, SimScript};
use orchestra_runtime::orchestra::{Settlement, Settles, WaitError};
use serde_json::{Value, json};

use super::world::{World, key, of, seconds, world};

pub(crate) fn deployment(replicas: u32, image: &str, more: Value) -> Deployment {
    let mut spec = json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": image}]}
        }
    });
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    of(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}))
}

fn images(world: &World) -> Vec<String> {
    let pods = world.orchestra.caches().pods.list();
    let mut images: Vec<String> = pods
        .iter()
        .filter(|pod| !pod.is_terminating())
        .map(|pod| pod.spec.containers[0].image.to_string())
        .collect();
    images.sort();
    images
}

pub(crate) async fn rolled_out(world: &World, image: &str, replicas: usize) {
    let settled = |found: &Deployment| {
        found.spec.template.spec.containers[0].image == image
            && found.spec.replicas == u32::try_from(replicas).ok()
            && found.settled() == Settlement::Settled
    };
    world.until::<Deployment>("web", settled).await;
    assert_eq!(images(world), vec![image; replicas]);
}

/// Counts pods after every change of one, and keeps the extremes.
fn watch_bounds(world: &World) -> std::sync::Arc<std::sync::Mutex<(usize, usize)>> {
    let bounds = std::sync::Arc::new(std::sync::Mutex::new((0, usize::MAX)));
    let (seen, pods) = (bounds.clone(), world.orchestra.caches().pods.downgrade());
    world.orchestra.caches().pods.on_change(move |_| {
        let Some(pods) = pods.upgrade() else { return };
        let live = pods.list();
        let live = live.iter().filter(|pod| !pod.is_terminating());
        let (mut all, mut ready) = (0, 0);
        for pod in live {
            all += 1;
            ready += usize::from(pod.is_ready());
        }
        let mut seen = seen.lock().unwrap();
        *seen = (seen.0.max(all), seen.1.min(ready));
    });
    bounds
}

fn slow() -> SimScript {
    SimScript::new().when(
        Match::any(),
        Behavior::runs().starts_after(Duration::from_secs(3)),
    )
}

#[tokio::test(start_paused = true)]
async fn a_rollout_keeps_within_its_budget_and_goes_back() {
    let world = world(slow()).await;
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(8, "v1", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v1", 8).await;
    let bounds = watch_bounds(&world);
    orchestra
        .apply(deployment(8, "v2", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v2", 8).await;
    let (most, fewest) = *bounds.lock().unwrap();
    assert!(most <= 10 && fewest >= 6, "{most} pods, {fewest} ready");

    // A third one in the middle of the second's way back.
    orchestra
        .apply(deployment(8, "v1", json!({})))
        .await
        .unwrap();
    seconds(4).await;
    orchestra
        .apply(deployment(8, "v3", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v3", 8).await;
    let (most, fewest) = *bounds.lock().unwrap();
    assert!(most <= 10 && fewest >= 6, "{most} pods, {fewest} ready");

    // And scaled while it is rolled out.
    orchestra
        .apply(deployment(8, "v4", json!({})))
        .await
        .unwrap();
    seconds(1).await;
    orchestra
        .apply(deployment(16, "v4", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v4", 16).await;
    orchestra
        .apply(deployment(0, "v4", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v4", 0).await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn recreate_ends_the_old_before_the_new() {
    let world = world(slow()).await;
    let recreate = json!({"strategy": {"type": "Recreate"}});
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(3, "v1", recreate.clone()))
        .await
        .unwrap();
    rolled_out(&world, "v1", 3).await;
    let mixed = std::sync::Arc::new(std::sync::Mutex::new(false));
    let (seen, pods) = (mixed.clone(), orchestra.caches().pods.downgrade());
    orchestra.caches().pods.on_change(move |_| {
        let Some(pods) = pods.upgrade() else { return };
        let all = pods.list();
        let has = |image: &str| all.iter().any(|pod| pod.spec.containers[0].image == image);
        *seen.lock().unwrap() |= has("v1") && has("v2");
    });
    orchestra
        .apply(deployment(3, "v2", recreate))
        .await
        .unwrap();
    rolled_out(&world, "v2", 3).await;
    assert!(!*mixed.lock().unwrap());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn paused_it_only_scales() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(2, "v1", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v1", 2).await;
    orchestra
        .apply(deployment(4, "v2", json!({"paused": true})))
        .await
        .unwrap();
    seconds(60).await;
    assert_eq!(images(&world), vec!["v1"; 4]);
    let paused = orchestra.caches().deployments.get(&key("web")).unwrap();
    let progressing = condition(&paused.status.conditions, Deployment::PROGRESSING).unwrap();
    assert_eq!(progressing.reason, "DeploymentPaused");
    orchestra
        .apply(deployment(4, "v2", json!({"paused": false})))
        .await
        .unwrap();
    rolled_out(&world, "v2", 4).await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_does_not_move_says_so() {
    let never = Behavior::runs().starts_after(Duration::from_secs(100_000));
    let script = SimScript::new().when(Match::any().image("bad"), never);
    let world = world(script).await;
    let orchestra = &world.orchestra;
    let hurry = json!({"progressDeadlineSeconds": 30});
    orchestra
        .apply(deployment(4, "v1", hurry.clone()))
        .await
        .unwrap();
    rolled_out(&world, "v1", 4).await;
    orchestra.apply(deployment(4, "bad", hurry)).await.unwrap();
    let error = orchestra.ready::<Deployment>("web").await.unwrap_err();
    assert!(error.to_string().contains("progress"), "{error}");
    assert_eq!(images(&world), ["bad", "bad", "v1", "v1", "v1"]);

    let api = orchestra.api::<Deployment>();
    let history = api.history(&key("web")).await.unwrap();
    assert_eq!(
        history.iter().map(|past| past.revision).collect::<Vec<_>>(),
        [1, 2]
    );
    api.rollback(&key("web"), None).await.unwrap();
    rolled_out(&world, "v1", 4).await;
    let history = api.history(&key("web")).await.unwrap();
    assert_eq!(
        history.iter().map(|past| past.revision).collect::<Vec<_>>(),
        [2, 3]
    );
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_to_its_limit_and_can_be_gone_back_to() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let limit = json!({"revisionHistoryLimit": 2});
    for n in 1..=5 {
        let image = format!("v{n}");
        orchestra
            .apply(deployment(2, &image, limit.clone()))
            .await
            .unwrap();
        rolled_out(&world, &image, 2).await;
    }
    seconds(5).await;
    let api = orchestra.api::<Deployment>();
    let history = api.history(&key("web")).await.unwrap();
    let numbers: Vec<i64> = history.iter().map(|past| past.revision).collect();
    assert_eq!(numbers, [3, 4, 5]);
    assert_eq!(history[0].template.spec.containers[0].image, "v3");

    let error = api.rollback(&key("web"), Some(1)).await.unwrap_err();
    let text = orchestra_core::error::report(&error).to_string();
    assert!(
        text.contains("revision 1") && text.contains("3, 4, 5"),
        "{text}"
    );
    api.rollback(&key("web"), Some(3)).await.unwrap();
    rolled_out(&world, "v3", 2).await;
    api.rollback(&key("web"), None).await.unwrap();
    rolled_out(&world, "v5", 2).await;

    orchestra
        .apply(deployment(2, "v5", json!({"paused": true})))
        .await
        .unwrap();
    let error = api.rollback(&key("web"), None).await.unwrap_err();
    let text = orchestra_core::error::report(&error).to_string();
    assert!(text.contains("paused"), "{text}");
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_counts_once_it_has_been_ready_for_long_enough() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(2, "v1", json!({"minReadySeconds": 20})))
        .await
        .unwrap();
    let begun = world.now();
    let ready = |found: &Deployment| found.status.ready_replicas == 2;
    let found = world.until::<Deployment>("web", ready).await;
    assert_eq!(
        (
            found.status.available_replicas,
            found.status.unavailable_replicas
        ),
        (0, 2)
    );
    rolled_out(&world, "v1", 2).await;
    assert_eq!(world.now(), begun + 20);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_pods_are_replaced_and_a_hundred_and_twenty_started() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(120, "v1", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v1", 120).await;
    let pods = orchestra.caches().pods.list();
    world.delete::<Pod>(&pods[0].metadata.name).await;
    orchestra
        .api::<Pod>()
        .update_status(&key(&pods[1].metadata.name), |pod| {
            pod.status.phase = orchestra_core::kind::pod::PodPhase::Failed;
        })
        .await
        .unwrap();
    seconds(60).await;
    rolled_out(&world, "v1", 120).await;
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_somebody_else_has_is_no_obstacle() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    orchestra
        .apply(deployment(2, "v1", json!({})))
        .await
        .unwrap();
    rolled_out(&world, "v1", 2).await;
    let orphan = orchestra_runtime::api::DeleteParams::default()
        .propagation(orchestra_runtime::api::Propagation::Orphan);
    orchestra
        .api::<Deployment>()
        .delete(&key("web"), orphan)
        .await
        .unwrap();
    world.until_gone::<Deployment>("web").await;
    assert_eq!(images(&world).len(), 2);
    // Pods without an owner are nobody's: the new one has pods of its own.
    orchestra
        .apply(deployment(2, "v1", json!({})))
        .await
        .unwrap();
    world
        .until::<Deployment>("web", |found| found.settled() == Settlement::Settled)
        .await;
    assert_eq!(images(&world).len(), 4);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_at_once_are_replaced_ever_more_slowly() {
    let world = world(SimScript::new()).await;
    let mut failing = deployment(1, "v1", json!({}));
    failing.spec.template.spec.runtime_class_name = "nobody-has-it".into();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let pods = seen.clone();
    world.orchestra.caches().pods.on_change(move |event| {
        if let Some(pod) = &event.new {
            pods.lock().unwrap().insert(pod.metadata.uid);
        }
    });
    world.orchestra.apply(failing).await.unwrap();
    seconds(64).await;
    // At once, then after 1, 2, 4, 8, 16 and 32 seconds.
    let made = seen.lock().unwrap().len();
    assert!((5..=9).contains(&made), "{made} pods in 64 s");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_what_for() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let mut large = deployment(2, "v1", json!({}));
    let requests = &mut large.spec.template.spec.containers[0].resources.requests;
    requests.insert(
        "cpu".into(),
        orchestra_core::quantity::Quantity::from_int(1_000),
    );
    orchestra.apply(large).await.unwrap();
    let limit = Duration::from_secs(30);
    let error = orchestra
        .ready_within::<Deployment>("web", limit)
        .await
        .unwrap_err();
    assert!(matches!(error, WaitError::TimedOut { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("0 of 2 pods are available"), "{text}");
    assert!(
        text.contains("has no node: 0/1 nodes fit: 1 lacks cpu (nearest n misses 936)"),
        "{text}"
    );
    // The same stands in its condition, for those who look there.
    let found = orchestra.caches().deployments.get(&key("web")).unwrap();
    let available = condition(&found.status.conditions, Deployment::AVAILABLE).unwrap();
    assert!(available.message.contains("has no node"), "{available:?}");
    world.orchestra.stop().await;
}
