//! Services: an address each, and who answers there.

use std::sync::Arc;

use orchestra_core::conformance;
use orchestra_core::kind::{Container, Deployment, EndpointSlice, Namespace, Pod, Service};
use orchestra_core::port::registry::{Endpoints, ServiceName, ServiceRegistry};
use orchestra_core::time::Timestamp;
use orchestra_runtime::api::Client;
use orchestra_runtime::clock::TokioClock;
use orchestra_runtime::driver::sim::{Behavior, Match, SimScript};
use orchestra_runtime::ids::Ids;
use orchestra_runtime::loops::Caches;
use orchestra_runtime::net::slices::SliceRegistry;
use orchestra_runtime::store::MemoryStore;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::world::{World, key, of, pod, seconds, world};

fn service(name: &str, spec: Value) -> Service {
    of(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
}

async fn endpoints(world: &World, name: &str) -> Endpoints {
    let registry = world.orchestra.registry();
    registry
        .lookup(&ServiceName::new("default", name))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn slices_are_a_registry() {
    let cancel = CancellationToken::new();
    let fresh = || async {
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let client = Client::new(
            Arc::new(MemoryStore::new()),
            clock,
            Arc::new(Ids::seeded(1)),
        );
        let caches = Caches::new(&client);
        let (running, cancel) = (caches.clone(), cancel.clone());
        tokio::spawn(async move { running.run(cancel).await });
        caches.synced().await;
        client.api().create(Namespace::new("other")).await.unwrap();
        Arc::new(SliceRegistry::new(client, caches.slices)) as Arc<dyn ServiceRegistry>
    };
    conformance::registry::run(fresh, tokio::time::sleep)
        .await
        .assert_passed();
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn pods_come_and_go_as_endpoints() {
    let slow = Behavior::runs().ready_after(std::time::Duration::from_secs(10));
    let world = world(SimScript::new().when(Match::any(), slow)).await;
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "other", "port": 81, "targetPort": "missing"}
    ]);
    let spec = json!({"selector": {"app": "p"}, "ports": ports});
    world.create(service("p", spec)).await;
    let spec = json!({
        "terminationGracePeriodSeconds": 20,
        "containers": [{
            "name": "main", "image": "i",
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": {"exec": {"command": ["probe"]}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 9}}}
        }]
    });
    world.create(pod("p", spec)).await;
    seconds(5).await;
    let before = endpoints(&world, "p").await;
    assert_eq!((before.all.len(), before.all[0].ready), (1, false));
    world.ready("p").await;
    seconds(1).await;
    let ready = endpoints(&world, "p").await;
    assert!(ready.all[0].ready && ready.generation > before.generation);
    assert_eq!(ready.all[0].ports[..], [("http".into(), 8080)]);
    world.delete::<Pod>("p").await;
    seconds(2).await;
    let ending = endpoints(&world, "p").await;
    assert!(ending.all[0].terminating && !ending.all[0].ready);
    world.until_gone::<Pod>("p").await;
    seconds(1).await;
    assert!(endpoints(&world, "p").await.all.is_empty());
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn those_that_are_not_ready_are_published_if_asked() {
    let never = Behavior::runs().ready_after(std::time::Duration::from_secs(10_000));
    let world = world(SimScript::new().when(Match::any(), never)).await;
    let spec = json!({
        "selector": {"app": "p"}, "ports": [{"port": 80}], "clusterIP": "None",
        "publishNotReadyAddresses": true
    });
    world.create(service("p", spec)).await;
    let probe = json!({"exec": {"command": ["probe"]}});
    let spec = json!({"containers": [{"name": "main", "image": "i", "readinessProbe": probe}]});
    world.create(pod("p", spec)).await;
    seconds(5).await;
    assert!(endpoints(&world, "p").await.all[0].ready);
    let headless = world.orchestra.caches().services.get(&key("p")).unwrap();
    assert_eq!(headless.cluster_ip(), None);
    // It will never have an address, and asking for it says so.
    let error = world.orchestra.address("p").await.unwrap_err();
    assert!(error.to_string().contains("headless"), "{error}");
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_selector_is_left_alone() {
    let world = world(SimScript::new()).await;
    world
        .create(service("p", json!({"ports": [{"port": 80}]})))
        .await;
    let name = ServiceName::new("default", "p");
    let mut set = Endpoints::default();
    set.generation.0 = 3;
    let _ = world.orchestra.registry().apply(&name, set).await.unwrap();
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("p").await;
    assert_eq!(endpoints(&world, "p").await.generation.0, 3);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_two_services_share_an_address() {
    let world = world(SimScript::new()).await;
    let spec = json!({"selector": {"app": "p"}, "ports": [{"port": 80}]});
    for n in 0..30 {
        world.create(service(&format!("s{n}"), spec.clone())).await;
    }
    seconds(5).await;
    let addresses = |world: &World| {
        let services = world.orchestra.caches().services.list();
        services
            .iter()
            .map(|service| service.cluster_ip().unwrap())
            .collect::<Vec<_>>()
    };
    let mut all = addresses(&world);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 30);
    // One that is freed may be had again.
    world.delete::<Service>("s7").await;
    world.create(service("new", spec)).await;
    seconds(5).await;
    let again = addresses(&world);
    assert_eq!(again.len(), 30);
    assert!(again.iter().all(|address| all.contains(address)));
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_never_goes_back_when_a_service_is_made_anew() {
    let world = world(SimScript::new()).await;
    let spec = json!({"selector": {"app": "p"}, "ports": [{"port": 80}]});
    let name = ServiceName::new("default", "p");
    let mut follower = world.orchestra.registry().follow(&name).await.unwrap();
    let (told, log) = (Arc::new(std::sync::Mutex::new(Vec::new())), ());
    let heard = told.clone();
    let follows = tokio::spawn(async move {
        loop {
            let set = follower.next().await.unwrap();
            heard
                .lock()
                .unwrap()
                .push((set.generation.0, set.all.len()));
        }
    });
    let () = log;
    world
        .create(pod(
            "p",
            json!({"containers": [{"name": "main", "image": "i"}]}),
        ))
        .await;
    world.ready("p").await;
    for _ in 0..3 {
        world.create(service("p", spec.clone())).await;
        seconds(5).await;
        world.delete::<Service>("p").await;
        seconds(5).await;
    }
    world.create(service("p", spec)).await;
    seconds(5).await;
    follows.abort();
    let told = told.lock().unwrap().clone();
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "{told:?}");
    assert_eq!(told.last().unwrap().1, 1, "{told:?}");
    assert!(
        told.iter().filter(|(_, len)| *len == 0).count() >= 3,
        "{told:?}"
    );
    let slices = world
        .orchestra
        .api::<EndpointSlice>()
        .list(Default::default())
        .await
        .unwrap();
    assert_eq!(slices.items.len(), 1);
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn once_a_rollout_is_ready_its_service_knows_the_new_pods_and_no_old_ones() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let web = Service::new("web").selector("app", "web").port(80, 8080);
    orchestra.apply(web).await.unwrap();
    for image in ["v1", "v2", "v3"] {
        let container = Container::new("main", image).port(8080);
        let web = Deployment::new("web").replicas(5).container(container);
        orchestra.apply(web).await.unwrap();
        orchestra.ready::<Deployment>("web").await.unwrap();
        let known = endpoints(&world, "web").await;
        let mut pods = orchestra.caches().pods.list();
        pods.retain(|pod| !pod.is_terminating());
        let images = pods.iter().map(|pod| pod.spec.containers[0].image.as_str());
        assert_eq!(images.collect::<Vec<_>>(), [image; 5]);
        let ready = known.all.iter().filter(|endpoint| endpoint.ready);
        let mut ready: Vec<_> = ready.map(|endpoint| endpoint.pod).collect();
        let mut expected: Vec<_> = pods.iter().map(|pod| pod.metadata.uid).collect();
        ready.sort();
        expected.sort();
        assert_eq!(ready, expected);
    }
    world.orchestra.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_does_not_wait_for_a_service_that_ends() {
    let world = world(SimScript::new()).await;
    let orchestra = &world.orchestra;
    let mut web = Service::new("web").selector("app", "web").port(80, 8080);
    web.metadata.finalizers.push("example.com/hold".into());
    world.create(web).await;
    seconds(1).await;
    let limit = std::time::Duration::from_secs(60);
    let (started, ending) = tokio::join!(
        async {
            let container = Container::new("main", "v1").port(8080);
            let web = Deployment::new("web").replicas(2).container(container);
            orchestra.apply(web).await.unwrap();
            orchestra.ready_within::<Deployment>("web", limit).await
        },
        world.delete::<Service>("web"),
    );
    let () = ending;
    started.unwrap();
    world.orchestra.stop().await;
}
