//! What loses its owner, its namespace or its node goes; what is to stay stays.

use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Event, Namespace, Node, Pod, Service,
};
use orchestra_core::meta::ObjectKey;
use orchestra_runtime::api::{DeleteParams, Propagation};
use orchestra_runtime::driver::sim::SimScript;
use serde_json::json;

use super::world::{World, key, of, pod, seconds, world};

fn deployment(namespace: &str) -> Deployment {
    of(json!({
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "i"}]}
            }
        }
    }))
}

async fn with_deployment(propagation: Propagation) -> World {
    let world = world(SimScript::new()).await;
    world.orchestra.apply(deployment("default")).await.unwrap();
    world.orchestra.ready::<Deployment>("web").await.unwrap();
    let params = DeleteParams::default().propagation(propagation);
    world
        .orchestra
        .api::<Deployment>()
        .delete(&key("web"), params)
        .await
        .unwrap();
    world
}

fn pods(world: &World) -> usize {
    world.orchestra.caches().pods.len()
}

#[tokio::test(start_paused = true)]
async fn in_the_background_pods_go_after_their_owner() {
    let world = with_deployment(Propagation::Background).await;
    world.until_gone::<Deployment>("web").await;
    seconds(40).await;
    assert_eq!(pods(&world), 0);
    assert!(world.orchestra.caches().revisions.is_empty());
    assert_eq!(world.drivers["n"].observe(), []);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_the_foreground_the_owner_goes_last() {
    let world = with_deployment(Propagation::Foreground).await;
    let api = world.orchestra.api::<Deployment>();
    assert!(api.find(&key("web")).await.unwrap().is_some());
    world.until_gone::<Deployment>("web").await;
    assert_eq!(pods(&world), 0);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_even_if_they_change_meanwhile() {
    let world = world(SimScript::new()).await;
    world.orchestra.apply(deployment("default")).await.unwrap();
    world.orchestra.ready::<Deployment>("web").await.unwrap();
    let names: Vec<_> = world
        .orchestra
        .caches()
        .pods
        .list()
        .iter()
        .map(|pod| pod.metadata.name.clone())
        .collect();
    let client = world.orchestra.client().clone();
    // Somebody writes their status over and over while they are set free.
    let noise = tokio::spawn(async move {
        for n in 0..200 {
            for name in &names {
                let (api, key) = (client.api::<Pod>(), key(name));
                let changed = api.update_status(&key, |pod| pod.status.message = n.to_string());
                changed.await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    let params = DeleteParams::default().propagation(Propagation::Orphan);
    world
        .orchestra
        .api::<Deployment>()
        .delete(&key("web"), params)
        .await
        .unwrap();
    world.until_gone::<Deployment>("web").await;
    noise.await.unwrap();
    seconds(60).await;
    assert_eq!(pods(&world), 3);
    for pod in world.orchestra.caches().pods.list() {
        assert!(pod.metadata.owner_references.is_empty() && !pod.is_terminating());
    }
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_the_same_name_is_another_owner() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let first = orchestra.apply(deployment("default")).await.unwrap();
    orchestra.ready::<Deployment>("web").await.unwrap();
    world.delete::<Deployment>("web").await;
    let second = orchestra.apply(deployment("default")).await.unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    seconds(60).await;
    let pods = orchestra.caches().pods.list();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert_eq!(pod.metadata.controller().unwrap().uid, second.metadata.uid);
        assert!(pod.is_ready());
    }
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    orchestra.apply(Namespace::new("shop")).await.unwrap();
    orchestra.apply(deployment("shop")).await.unwrap();
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    });
    orchestra.apply::<Service>(of(service)).await.unwrap();
    let map = json!({"metadata": {"name": "conf", "namespace": "shop"}, "data": {"a": "1"}});
    orchestra
        .apply::<orchestra_core::kind::ConfigMap>(of(map))
        .await
        .unwrap();
    let at = ObjectKey::namespaced("shop", "web");
    orchestra.ready_at::<Deployment>(&at).await.unwrap();
    orchestra
        .api::<Namespace>()
        .delete(&ObjectKey::cluster("shop"), Default::default())
        .await
        .unwrap();
    let shop = ObjectKey::cluster("shop");
    let gone = orchestra.wait_for::<Namespace>(&shop, |now| now.is_none());
    assert!(gone.await.is_none());
    let caches = orchestra.caches();
    assert_eq!(
        (
            pods(&world),
            caches.deployments.len(),
            caches.services.len(),
            caches.slices.len()
        ),
        (0, 0, 0, 0)
    );
    let left = orchestra
        .api::<orchestra_core::kind::ConfigMap>()
        .list(Default::default())
        .await;
    assert!(left.unwrap().items.is_empty());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_does_not_exist_go_and_it_is_told() {
    let world = world(SimScript::new()).await;
    let mut lost = pod("p", json!({"containers": [{"name": "main", "image": "i"}]}));
    lost.spec.node_name = "nowhere".into();
    world.create(lost).await;
    world.until_gone::<Pod>("p").await;
    // And those of one that is removed: its agent makes it anew, without them.
    let kept = world
        .create(pod(
            "q",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("q").await;
    let node = ObjectKey::cluster("n");
    world
        .orchestra
        .api::<Node>()
        .delete(&node, Default::default())
        .await
        .unwrap();
    world.until_gone::<Pod>("q").await;
    seconds(60).await;
    let told = world
        .orchestra
        .api::<Event>()
        .list(Default::default())
        .await
        .unwrap();
    let told: Vec<_> = told
        .items
        .iter()
        .filter(|event| event.reason == "NodeNotFound")
        .map(|event| (event.involved_object.name.as_str(), event.message.as_str()))
        .collect();
    let why = |node: &str| {
        format!("removed: there is no node {node:?}, so that nobody would run it or stop it")
    };
    assert_eq!(told, [("p", &*why("nowhere")), ("q", &*why("n"))]);
    assert!(!world.drivers["n"].runs_any_of(kept.metadata.uid));
    assert!(
        world
            .orchestra
            .caches()
            .nodes
            .get(&node)
            .unwrap()
            .is_ready()
    );
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slices_go_with_their_service() {
    let world = world(SimScript::new()).await;
    let service = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"selector": {"app": "p"}, "ports": [{"port": 80}]}
    });
    world.create::<Service>(of(service)).await;
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("p").await;
    seconds(1).await;
    assert_eq!(world.orchestra.caches().slices.len(), 1);
    world.delete::<Service>("p").await;
    seconds(5).await;
    let slices = world
        .orchestra
        .api::<EndpointSlice>()
        .list(Default::default())
        .await
        .unwrap();
    assert!(slices.items.is_empty(), "{:#?}", slices.items);
    let revisions = world
        .orchestra
        .api::<ControllerRevision>()
        .list(Default::default())
        .await;
    assert!(revisions.unwrap().items.is_empty());
    world.orchestra.stop().await;
}
