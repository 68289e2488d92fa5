#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::{
    Batch, Key, ListRequest, Page, Revision, StateStore, StateStoreExt, StoreError, StoreErrorKind,
    Txn, Versioned, Watch,
};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::fixture::{Widget, client, client_of, widget};
use crate::api::{Api, DeleteParams, store_key};
use crate::store::MemoryStore;

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

fn on_node(name: &str, node: &str) -> Widget {
    let mut object = widget(name);
    object.spec.node = node.into();
    object
}

fn by_node(client: &Client) -> Cache<Widget> {
    let node = |w: &Widget| (!w.spec.node.is_empty()).then(|| w.spec.node.as_str().into());
    Cache::builder(client).index("node", node).build()
}

fn names(objects: &[Arc<Widget>]) -> Vec<&str> {
    objects.iter().map(|w| w.metadata.name.as_str()).collect()
}

/// Runs the cache for as long as the guard lives.
fn run(cache: &Cache<Widget>) -> tokio_util::sync::DropGuard {
    let cancel = CancellationToken::new();
    let (cache, token) = (cache.clone(), cancel.clone());
    tokio::spawn(async move { cache.run(token).await });
    cancel.drop_guard()
}

#[tokio::test(start_paused = true)]
async fn it_holds_what_the_store_holds_in_order_with_indexes() {
    let client = client();
    let api = client.api::<Widget>();
    for (name, node) in [("c", "n1"), ("a", "n2"), ("b", "n1")] {
        api.create(on_node(name, node)).await.unwrap();
    }
    let cache = by_node(&client);
    let _running = run(&cache);
    cache.synced().await;
    assert_eq!(names(&cache.list()), ["a", "b", "c"]);
    assert_eq!(names(&cache.in_namespace("default")), ["a", "b", "c"]);
    assert!(cache.in_namespace("def").is_empty());
    assert_eq!(names(&cache.by_index("node", "n1")), ["b", "c"]);

    let moved = api
        .update(&key("b"), |w| w.spec.node = "n2".into())
        .await
        .unwrap();
    cache.wait_through(moved.metadata.resource_version).await;
    assert_eq!(names(&cache.by_index("node", "n1")), ["c"]);
    assert_eq!(names(&cache.by_index("node", "n2")), ["a", "b"]);
    assert_eq!(cache.through(), moved.metadata.resource_version);
    assert!(
        Arc::ptr_eq(&cache.get(&key("b")).unwrap(), &moved),
        "not decoded again"
    );
}

#[tokio::test(start_paused = true)]
async fn handlers_see_every_change_in_order_with_old_and_new() {
    let client = client();
    let api = client.api::<Widget>();
    let cache = Cache::<Widget>::new(&client);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    cache.on_change(move |event: &CacheEvent<Widget>| {
        let size = |w: &Option<Arc<Widget>>| w.as_ref().map(|w| w.spec.size);
        log.lock()
            .unwrap()
            .push((event.key.name.clone(), size(&event.old), size(&event.new)));
    });
    let _running = run(&cache);
    cache.synced().await;
    api.create(widget("a")).await.unwrap();
    api.update(&key("a"), |w| w.spec.size = 2).await.unwrap();
    api.delete(&key("a"), DeleteParams::now()).await.unwrap();
    let last = api.create(widget("b")).await.unwrap();
    cache.wait_through(last.metadata.resource_version).await;
    let expected = [
        ("a".into(), None, Some(1)),
        ("a".into(), Some(1), Some(2)),
        ("a".into(), Some(2), None),
        ("b".into(), None, Some(1)),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn only_the_watchers_of_a_value_wake() {
    let client = client();
    let api = client.api::<Widget>();
    let cache = by_node(&client);
    let _running = run(&cache);
    cache.synced().await;
    let mut one = cache.watch_index("node", "n1");
    let mut two = cache.watch_index("node", "n2");
    let quiet = Duration::from_secs(1);

    api.create(on_node("a", "n1")).await.unwrap();
    one.changed().await;
    assert!(tokio::time::timeout(quiet, two.changed()).await.is_err());
    assert!(
        tokio::time::timeout(quiet, one.changed()).await.is_err(),
        "once"
    );

    api.update(&key("a"), |w| w.spec.node = "n2".into())
        .await
        .unwrap();
    one.changed().await;
    two.changed().await;
    api.delete(&key("a"), DeleteParams::now()).await.unwrap();
    two.changed().await;
    assert!(tokio::time::timeout(quiet, one.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    let client = client();
    let api = client.api::<Widget>();
    api.create(widget("a")).await.unwrap();
    let cache = Cache::<Widget>::new(&client);
    let _running = run(&cache);
    cache.synced().await;
    client
        .store()
        .put(store_key::<Widget>(&key("a")), *b"{")
        .await
        .unwrap();
    client
        .store()
        .put(store_key::<Widget>(&key("x")), *b"nonsense")
        .await
        .unwrap();
    let good = api.create(widget("b")).await.unwrap();
    cache.wait_through(good.metadata.resource_version).await;
    assert_eq!(
        names(&cache.list()),
        ["a", "b"],
        "the last good version stays"
    );
}

/// A store whose watches end on demand, and which is then away for some calls.
#[derive(Debug)]
struct Flaky {
    inner: MemoryStore,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    end_watch: Option<StoreErrorKind>,
    lists_away: u32,
    lists: u32,
}

#[async_trait]
impl StateStore for Flaky {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }
    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        {
            let mut faults = self.faults.lock().unwrap();
            faults.lists += 1;
            if faults.lists_away > 0 {
                faults.lists_away -= 1;
                return Err(StoreError::new(StoreErrorKind::Unavailable, "list"));
            }
        }
        self.inner.list(request).await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.inner.commit(txn).await
    }
    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let inner = self.inner.watch(prefix, from).await?;
        Ok(Box::new(FlakyWatch {
            inner,
            faults: self.faults.clone(),
        }))
    }
    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases()
    }
}

struct FlakyWatch {
    inner: Box<dyn Watch>,
    faults: Arc<Mutex<Faults>>,
}

#[async_trait]
impl Watch for FlakyWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let batch = self.inner.next().await?;
        match self.faults.lock().unwrap().end_watch.take() {
            Some(kind) => Err(StoreError::new(kind, "watch")),
            None => Ok(batch),
        }
    }
}

fn flaky() -> (Api<Widget>, Arc<Mutex<Faults>>) {
    let faults = Arc::new(Mutex::new(Faults::default()));
    let store = Flaky {
        inner: MemoryStore::new(),
        faults: faults.clone(),
    };
    (client_of(Arc::new(store)).api(), faults)
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_it_lists_again_and_tells_what_went_missing() {
    for kind in [
        StoreErrorKind::Lagged,
        StoreErrorKind::Compacted {
            oldest: Revision(9),
        },
        StoreErrorKind::Unavailable,
    ] {
        let (api, faults) = flaky();
        for name in ["a", "b", "c"] {
            api.create(widget(name)).await.unwrap();
        }
        let cache = Cache::<Widget>::new(api.client());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let _running = run(&cache);
        cache.synced().await;
        let log = seen.clone();
        cache.on_change(move |event: &CacheEvent<Widget>| {
            log.lock()
                .unwrap()
                .push((event.key.name.to_string(), event.new.is_some()));
        });
        *faults.lock().unwrap() = Faults {
            end_watch: Some(kind),
            lists_away: 3,
            lists: 0,
        };
        api.delete(&key("a"), DeleteParams::now()).await.unwrap();
        api.update(&key("b"), |w| w.spec.size = 5).await.unwrap();
        let last = api.create(widget("d")).await.unwrap();
        cache.wait_through(last.metadata.resource_version).await;
        assert_eq!(names(&cache.list()), ["b", "c", "d"]);
        let expected = [
            ("b".to_owned(), true),
            ("d".to_owned(), true),
            ("a".to_owned(), false),
        ];
        assert_eq!(*seen.lock().unwrap(), expected, "c did not change");
        assert_eq!(faults.lock().unwrap().lists, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn an_absent_store_is_asked_ever_more_rarely() {
    let (api, faults) = flaky();
    faults.lock().unwrap().lists_away = u32::MAX;
    let cache = Cache::<Widget>::new(api.client());
    let _running = run(&cache);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let lists = faults.lock().unwrap().lists;
    assert!((10..25).contains(&lists), "{lists} in two minutes");
    faults.lock().unwrap().lists_away = 0;
    cache.synced().await;
}

proptest! {
    /// Whatever happens, the indexes say what a walk over all objects says.
    #[test]
    fn indexes_agree_with_a_plain_walk(
        steps in prop::collection::vec((0_u8..6, 0_u8..4, any::<bool>()), 1..60),
    ) {
        let by: IndexBy<Widget> = Box::new(|w, found| {
            for part in w.spec.node.split(',').filter(|part| !part.is_empty()) {
                found(part.into());
            }
        });
        let mut state = State::new(vec![("node", by)]);
        let mut plain = BTreeMap::new();
        let mut raise = Vec::new();
        for (n, (name, node, delete)) in steps.into_iter().enumerate() {
            let name = format!("w{name}");
            let node = ["", "n1", "n2", "n1,n2"][usize::from(node)];
            let new = (!delete).then(|| Arc::new(on_node(&name, node)));
            match &new {
                Some(new) => plain.insert(key(&name), new.clone()),
                None => plain.remove(&key(&name)),
            };
            state.apply(key(&name), new, Revision(n as u64), &mut raise);
            prop_assert!(state.all().eq(plain.values()));
            for value in ["n1", "n2"] {
                let walk: BTreeSet<_> = plain
                    .iter()
                    .filter(|(_, w)| w.spec.node.contains(value))
                    .map(|(key, _)| key.name.clone())
                    .collect();
                let found: BTreeSet<_> =
                    state.by_index("node", value).map(|w| w.metadata.name.clone()).collect();
                prop_assert_eq!(found, walk);
            }
        }
    }
}
