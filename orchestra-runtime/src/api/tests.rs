//! The verbs and the commit, on the store in memory.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::{
    Guard, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, TXN_OPS_MAX,
    Txn, Versioned, Watch, Write,
};
use orchestra_core::selector::LabelSelector;

use super::fixture::{Widget, client, client_of, widget};
use super::*;
use crate::store::MemoryStore;

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

#[tokio::test(start_paused = true)]
async fn create_fills_in_what_only_the_api_knows() {
    let client = client();
    let api = client.api::<Widget>();
    let mut object = widget("a");
    object.metadata.namespace = "".into();
    object.metadata.resource_version = Revision(99);
    let made = api.create(object).await.unwrap();
    assert_eq!(made.metadata.key(), key("a"));
    assert_eq!(made.metadata.generation, 1);
    assert_eq!(made.metadata.creation_timestamp, Some(client.now()));
    assert_eq!(made.spec.size, 1, "defaults");
    assert_ne!(made.metadata.uid, orchestra_core::meta::Uid::NIL);
    assert_eq!(api.get(&key("a")).await.unwrap(), made);

    let again = api.create(widget("a")).await.unwrap_err();
    assert!(again.is_already_exists());
    assert_eq!(again.subject(), "widgets default/a");
    let absent = api.get(&key("b")).await.unwrap_err();
    assert!(absent.is_not_found());
    assert!(
        absent
            .to_string()
            .starts_with("get widgets default/b: it does not exist")
    );
}

#[tokio::test(start_paused = true)]
async fn a_generated_name_is_retried_when_taken() {
    let client = client();
    let api = client.api::<Widget>();
    // What the next two names will be: a twin of the client's seed.
    let twin = crate::ids::Ids::seeded(1);
    let (first, second) = (twin.name("w-"), twin.name("w-"));
    client
        .store()
        .commit(Txn::new().then(Write::put(
            store_key::<Widget>(&key(&first)),
            b"1{}".to_vec(),
        )))
        .await
        .unwrap();
    let mut object = widget("");
    object.metadata.generate_name = "w-".into();
    assert_eq!(api.create(object).await.unwrap().metadata.name, second);
}

#[tokio::test(start_paused = true)]
async fn what_breaks_rules_is_refused_with_its_path() {
    let api = client().api::<Widget>();
    let mut object = widget("a");
    object.spec.size = 101;
    let error = api.create(object).await.unwrap_err();
    let ApiErrorKind::Invalid(invalid) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(invalid.errors[0].path, "spec.size");
    assert!(api.find(&key("a")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn ten_megabytes_are_refused_before_the_store() {
    let store = Arc::new(MemoryStore::new());
    let api = client_of(store.clone()).api::<Widget>();
    let mut object = widget("a");
    object.spec.data = "x".repeat(10_000_000);
    let error = api.create(object).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ApiErrorKind::TooLarge {
                bytes: 10_000_000..,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(store.stats().revision, Revision(0));
}

#[tokio::test(start_paused = true)]
async fn replace_checks_the_version_and_leaves_the_status() {
    let api = client().api::<Widget>();
    let first = api.create(widget("a")).await.unwrap();
    let mut status = Widget::clone(&first);
    status.status.made = 3;
    status.spec.size = 50;
    let second = api.replace_status(status).await.unwrap();
    assert_eq!(
        (second.status.made, second.spec.size),
        (3, 1),
        "the spec is not touched"
    );
    assert_eq!(second.metadata.generation, 1);

    let mut stale = Widget::clone(&first);
    stale.spec.size = 7;
    let error = api.replace(stale.clone()).await.unwrap_err();
    assert!(error.is_conflict());
    stale.metadata.resource_version = second.metadata.resource_version;
    stale.metadata.labels.insert("x".into(), "y".into());
    let third = api.replace(stale).await.unwrap();
    assert_eq!(
        (third.status.made, third.spec.size),
        (3, 7),
        "the status is not touched"
    );
    assert_eq!(third.metadata.generation, 2);

    let mut labelled = Widget::clone(&third);
    labelled.metadata.labels.clear();
    assert_eq!(
        api.replace(labelled).await.unwrap().metadata.generation,
        2,
        "only labels"
    );
}

#[tokio::test(start_paused = true)]
async fn a_replace_that_changes_nothing_writes_nothing_but_still_checks() {
    let store = Arc::new(MemoryStore::new());
    let api = client_of(store.clone()).api::<Widget>();
    let first = api.create(widget("a")).await.unwrap();
    let before = store.stats().revision;
    assert_eq!(api.replace(Widget::clone(&first)).await.unwrap(), first);
    assert_eq!(store.stats().revision, before);
    api.update(&key("a"), |w| w.spec.size = 2).await.unwrap();
    assert!(
        api.replace(Widget::clone(&first))
            .await
            .unwrap_err()
            .is_conflict()
    );
}

#[tokio::test(start_paused = true)]
async fn identity_cannot_be_changed() {
    let api = client().api::<Widget>();
    let first = api.create(widget("a")).await.unwrap();
    let mut other = Widget::clone(&first);
    other.metadata.uid.0 ^= 1;
    assert!(api.replace(other).await.unwrap_err().is_conflict());
    let mut doomed = Widget::clone(&first);
    doomed.metadata.deletion_timestamp = Some(api.client().now());
    let error = api.replace(doomed).await.unwrap_err();
    assert!(
        error.to_string().contains("metadata.deletionTimestamp"),
        "{error}"
    );
    let mut aged = Widget::clone(&first);
    aged.metadata.creation_timestamp = None;
    aged.metadata.generation = 40;
    assert_eq!(api.replace(aged).await.unwrap(), first);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_holds_a_deleted_object_until_the_last_is_gone() {
    let api = client().api::<Widget>();
    let mut object = widget("a");
    object.metadata.finalizers = vec!["x/1".into(), "x/2".into()];
    api.create(object).await.unwrap();
    let deleted = api
        .delete(&key("a"), DeleteParams::default())
        .await
        .unwrap();
    let Deleted::Marked(marked) = deleted else {
        panic!("{deleted:?}")
    };
    assert_eq!(marked.metadata.deletion_timestamp, Some(api.client().now()));
    let again = api
        .delete(&key("a"), DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(again, Deleted::Marked(marked), "marked once");

    let added = api
        .update(&key("a"), |w| w.metadata.finalizers.push("x/3".into()))
        .await;
    assert!(
        added
            .unwrap_err()
            .to_string()
            .contains("metadata.finalizers")
    );
    api.update(&key("a"), |w| w.metadata.finalizers.retain(|f| f != "x/1"))
        .await
        .unwrap();
    assert!(api.find(&key("a")).await.unwrap().is_some());
    api.update(&key("a"), |w| w.metadata.finalizers.clear())
        .await
        .unwrap();
    assert!(api.find(&key("a")).await.unwrap().is_none());
    let gone = api
        .delete(&key("a"), DeleteParams::default())
        .await
        .unwrap_err();
    assert!(gone.is_not_found());
}

#[tokio::test(start_paused = true)]
async fn propagation_is_marked_by_finalizers() {
    let api = client().api::<Widget>();
    api.create(widget("a")).await.unwrap();
    let how = |p| DeleteParams::default().propagation(p);
    let finalizers = |deleted| match deleted {
        Deleted::Marked(w) => Widget::clone(&w).metadata.finalizers,
        Deleted::Removed(_) => Vec::new(),
    };
    let marked = api
        .delete(&key("a"), how(Propagation::Foreground))
        .await
        .unwrap();
    assert_eq!(finalizers(marked), [FINALIZER_FOREGROUND]);
    let marked = api
        .delete(&key("a"), how(Propagation::Orphan))
        .await
        .unwrap();
    assert_eq!(finalizers(marked), [FINALIZER_ORPHAN]);
    let removed = api
        .delete(&key("a"), how(Propagation::Background))
        .await
        .unwrap();
    assert!(matches!(removed, Deleted::Removed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_delete_meant_for_another_life_is_refused() {
    let api = client().api::<Widget>();
    let first = api.create(widget("a")).await.unwrap();
    api.delete(&key("a"), DeleteParams::default())
        .await
        .unwrap();
    let second = api.create(widget("a")).await.unwrap();
    let old_life = DeleteParams::default().uid(first.metadata.uid);
    assert!(
        api.delete(&key("a"), old_life)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let old_version = DeleteParams {
        resource_version: Some(first.metadata.resource_version),
        ..DeleteParams::default()
    };
    assert!(
        api.delete(&key("a"), old_version)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let this_life = DeleteParams::default().uid(second.metadata.uid);
    assert!(api.delete(&key("a"), this_life).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn lists_select_and_page_at_one_revision() {
    let api = client().api::<Widget>();
    for n in 0..10 {
        let mut object = widget(&format!("w{n}"));
        object
            .metadata
            .labels
            .insert("odd".into(), if n % 2 == 1 { "yes" } else { "no" }.into());
        api.create(object).await.unwrap();
    }
    let odd = || {
        let labels: Labels = [("odd".into(), "yes".into())].into();
        ListParams::namespace("default")
            .matching(LabelSelector::of(labels))
            .limit(2)
    };
    let names = |list: &List<Widget>| {
        list.items
            .iter()
            .map(|w| w.metadata.name.to_string())
            .collect::<Vec<_>>()
    };
    let first = api.list(odd()).await.unwrap();
    assert_eq!(names(&first), ["w1", "w3"]);
    api.delete(&key("w5"), DeleteParams::now()).await.unwrap();
    let token = first.continue_token.clone().unwrap();
    let second = api.list(odd().after(token)).await.unwrap();
    assert_eq!(names(&second), ["w5", "w7"], "as of the first page");
    assert_eq!(second.revision, first.revision);
    let third = api
        .list(odd().after(second.continue_token.unwrap()))
        .await
        .unwrap();
    assert_eq!(
        (names(&third), third.continue_token),
        (vec!["w9".to_owned()], None)
    );

    assert_eq!(
        api.list(ListParams::namespace("defaul"))
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    let error = api.list(odd().after("7:pods/x")).await.unwrap_err();
    assert!(matches!(error.kind(), ApiErrorKind::Invalid(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_lands_wholly_or_not_at_all() {
    let client = client();
    let api = client.api::<Widget>();
    let a = api.create(widget("a")).await.unwrap();
    let b = api.create(widget("b")).await.unwrap();
    api.update_status(&key("b"), |w| w.status.made = 1)
        .await
        .unwrap();

    let mut a2 = Widget::clone(&a);
    a2.spec.size = 9;
    let commit = client
        .commit()
        .replace(a2.clone())
        .create(widget("c"))
        .delete(&*b);
    let error = commit.send().await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.subject(), "widgets default/b");
    assert!(api.find(&key("c")).await.unwrap().is_none());

    let fresh = api.get(&key("b")).await.unwrap();
    let fence = Key::from("fences/1");
    let landed = client
        .commit()
        .replace(a2)
        .create(widget("c"))
        .delete(&*fresh)
        .guard(Guard::Absent(fence.clone()))
        .write(Write::put(fence.clone(), *b"1"))
        .send_all()
        .await
        .unwrap();
    let revision = landed.revision;
    assert_eq!(
        api.get(&key("a")).await.unwrap().metadata.resource_version,
        revision
    );
    assert_eq!(api.get(&key("c")).await.unwrap(), landed.object(1).unwrap());
    assert!(landed.removed(2) && !landed.removed(0));
    assert!(api.find(&key("b")).await.unwrap().is_none());

    let late = client
        .commit()
        .create(widget("d"))
        .guard(Guard::Absent(fence));
    assert!(late.send().await.unwrap_err().is_conflict());
}

#[tokio::test(start_paused = true)]
async fn a_commit_past_its_bound_is_refused_and_an_empty_one_does_nothing() {
    let client = client();
    let full = (0..=TXN_OPS_MAX).fold(client.commit(), |commit, n| {
        commit.create(widget(&format!("w{n}")))
    });
    let error = full.send().await.unwrap_err();
    assert_eq!(
        error.kind(),
        &ApiErrorKind::TooMany {
            ops: TXN_OPS_MAX + 1,
            max: TXN_OPS_MAX
        }
    );
    assert_eq!(client.commit().send().await.unwrap(), Revision(0));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_client_stops_when_another_takes_over() {
    let client = client();
    let fence = Key::from("leader");
    let at = client
        .store()
        .commit(Txn::new().then(Write::put(fence.clone(), *b"me")))
        .await;
    let mine = client.fenced(Guard::At(fence.clone(), at.unwrap()));
    mine.api::<Widget>().create(widget("a")).await.unwrap();
    client
        .store()
        .commit(Txn::new().then(Write::put(fence, *b"you")))
        .await
        .unwrap();
    let error = mine.api::<Widget>().create(widget("b")).await.unwrap_err();
    assert_eq!(error.kind(), &ApiErrorKind::Fenced);
    client.api::<Widget>().create(widget("b")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn concurrent_updates_all_land() {
    let api = client().api::<Widget>();
    api.create(widget("a")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let api = api.clone();
        tasks.spawn(async move {
            for _ in 0..5 {
                tokio::task::yield_now().await;
                api.update(&key("a"), |w| w.spec.size += 1).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let object = api.get(&key("a")).await.unwrap();
    assert_eq!((object.spec.size, object.metadata.generation), (51, 51));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_must_exist() {
    let api = client().api::<Widget>().namespaced("team");
    let mut object = widget("a");
    object.metadata.namespace = "".into();
    let error = api.create(object.clone()).await.unwrap_err();
    assert_eq!(error.kind(), &ApiErrorKind::NoNamespace("team".into()));
    let put = |body: &str| {
        let key = Key::from("namespaces/team");
        let body = format!("1{body}");
        Txn::new().then(Write::put(key, body.into_bytes()))
    };
    let ns = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}}"#;
    api.client().store().commit(put(ns)).await.unwrap();
    api.create(object.clone()).await.unwrap();
    let ending = r#"{"metadata":{"name":"team","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#;
    api.client().store().commit(put(ending)).await.unwrap();
    object.metadata.name = "b".into();
    let error = api.create(object).await.unwrap_err();
    assert_eq!(error.kind(), &ApiErrorKind::NamespaceEnding("team".into()));
}

#[derive(Debug)]
struct AtMost10;

#[async_trait]
impl Admission for AtMost10 {
    fn name(&self) -> &'static str {
        "at-most-10"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        let create = request.is_create();
        let Some(object) = request.object_mut::<Widget>() else {
            return Ok(());
        };
        if object.spec.size > 10 {
            return Err("size is past 10; ask for less".into());
        }
        if create {
            object.metadata.labels.insert("seen".into(), "yes".into());
            request.write(Write::put(Key::from("count"), *b"1"));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_change_refuse_and_add_to_the_transaction() {
    let client = client().with_admission(vec![Arc::new(AtMost10)]);
    let api = client.api::<Widget>();
    let made = api.create(widget("a")).await.unwrap();
    assert_eq!(
        made.metadata.labels.get("seen").map(|v| v.as_str()),
        Some("yes")
    );
    let counted = client
        .store()
        .get(&Key::from("count"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(counted.modified, made.metadata.resource_version);
    let error = api
        .update(&key("a"), |w| w.spec.size = 11)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("refused by at-most-10: size is past 10"),
        "{error}"
    );
}

/// Loses the answers of the first commits: with `lands`, after they landed.
#[derive(Debug)]
struct Lossy {
    inner: MemoryStore,
    lost: AtomicU32,
    lands: bool,
}

#[async_trait]
impl StateStore for Lossy {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }
    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.inner.list(request).await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return self.inner.commit(txn).await;
        }
        self.lost.fetch_sub(1, Ordering::Relaxed);
        if self.lands {
            self.inner.commit(txn).await?;
        }
        Err(StoreError::new(StoreErrorKind::Ambiguous, "commit"))
    }
    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, from).await
    }
    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases()
    }
}

fn lossy(lost: u32, lands: bool) -> Api<Widget> {
    let lost = AtomicU32::new(lost);
    client_of(Arc::new(Lossy {
        inner: MemoryStore::new(),
        lost,
        lands,
    }))
    .api()
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_lands_exactly_once() {
    for lands in [false, true] {
        let api = lossy(1, lands);
        let made = api.create(widget("a")).await.unwrap();
        assert_eq!(made.metadata.resource_version, Revision(1));
        assert_eq!(api.get(&key("a")).await.unwrap(), made);
    }
    for lands in [false, true] {
        let api = lossy(0, lands);
        api.create(widget("a")).await.unwrap();
        let api = lossy(1, lands);
        // The first commit is lost, the second is not.
        api.create(widget("a")).await.unwrap();
        api.delete(&key("a"), DeleteParams::now()).await.unwrap();
        assert!(api.find(&key("a")).await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_stays_unknown_is_said_to_be_unknown() {
    let error = lossy(99, false).create(widget("a")).await.unwrap_err();
    assert_eq!(error.kind(), &ApiErrorKind::Ambiguous);
    assert_eq!(error.retry(), orchestra_core::error::Retry::AfterRefresh);
}
