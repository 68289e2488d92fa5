//! The verbs and the commit, on the store in memory.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use orchestra_core::error::report;
use orchestra_core::kind::{ANNOTATIONS_BYTES_MAX, Pod};
use orchestra_core::meta::{Labels, ObjectKey};
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::{
    Guard, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, TXN_OPS_MAX,
    Txn, Versioned, Watch, Write,
};
use orchestra_core::selector::LabelSelector;

use serde_json::json;

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

#[tokio::test(start_paused = true)]
async fn a_merge_patch_changes_what_it_names() {
    let api = client().api::<Widget>();
    let mut object = widget("a");
    object.metadata.labels = [("x".into(), "1".into()), ("y".into(), "2".into())].into();
    object.spec.size = 4;
    let first = api.create(object).await.unwrap();
    let patch = json!({"metadata": {"labels": {"x": null}}, "spec": {"size": 5},
        "status": {"made": 9}});
    let patched = api.patch(&key("a"), &patch).await.unwrap();
    assert_eq!(patched.metadata.labels.len(), 1);
    assert_eq!((patched.spec.size, patched.status.made), (5, 0));
    let patched = api
        .patch_status(&key("a"), &json!({"status": {"made": 9}}))
        .await
        .unwrap();
    assert_eq!((patched.spec.size, patched.status.made), (5, 9));

    let stale = json!({"metadata": {"resourceVersion": first.metadata.resource_version.to_string()},
        "spec": {"size": 6}});
    assert!(
        api.patch(&key("a"), &stale)
            .await
            .unwrap_err()
            .is_conflict()
    );
    for bad in [
        json!({"metadata": {"name": "b"}}),
        json!({"spec": {"size": "much"}}),
    ] {
        let error = api.patch(&key("a"), &bad).await.unwrap_err();
        assert!(matches!(error.kind(), ApiErrorKind::Invalid(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn apply_creates_changes_takes_out_and_then_rests() {
    let store = Arc::new(MemoryStore::new());
    let api = client_of(store.clone()).api::<Widget>();
    let mut wanted = widget("a");
    wanted.metadata.labels = [("mine".into(), "1".into()), ("old".into(), "1".into())].into();
    wanted.spec.containers = vec![json!({"name": "web", "image": "1"})];
    api.apply(wanted.clone()).await.unwrap();
    // Somebody else adds a label, a container, and a status.
    api.update(&key("a"), |w| {
        w.metadata.labels.insert("theirs".into(), "1".into());
        w.spec.containers.push(json!({"name": "sidecar"}));
    })
    .await
    .unwrap();
    api.update_status(&key("a"), |w| w.status.made = 3)
        .await
        .unwrap();

    wanted.metadata.labels.remove("old");
    wanted.spec.size = 7;
    let applied = api.apply(wanted.clone()).await.unwrap();
    let labels: Vec<_> = applied.metadata.labels.keys().map(|k| k.as_str()).collect();
    assert_eq!(labels, ["mine", "theirs"]);
    assert_eq!(applied.spec.containers.len(), 2);
    assert_eq!((applied.spec.size, applied.status.made), (7, 3));

    let before = store.stats().revision;
    assert_eq!(api.apply(wanted.clone()).await.unwrap(), applied);
    assert_eq!(
        store.stats().revision,
        before,
        "the same again commits nothing"
    );
    // As read from a manifest that was dumped from the API.
    wanted.metadata.uid = applied.metadata.uid;
    wanted.metadata.resource_version = Revision(1);
    assert!(api.apply(wanted).await.unwrap_err().is_conflict());
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_is_selected_and_what_no_longer_is() {
    let api = client().api::<Widget>();
    let labels: Labels = [("on".into(), "yes".into())].into();
    let list = api.list(ListParams::default()).await.unwrap();
    let params = ListParams::default().matching(LabelSelector::of(labels.clone()));
    let mut watch = api.watch(params, list.revision).await.unwrap();
    let mut object = widget("a");
    object.metadata.labels = labels;
    let made = api.create(object).await.unwrap();
    api.create(widget("b")).await.unwrap();
    api.update(&key("b"), |w| w.spec.size = 3).await.unwrap();
    let off = api
        .update(&key("a"), |w| w.metadata.labels.clear())
        .await
        .unwrap();
    api.delete(&key("b"), DeleteParams::now()).await.unwrap();
    api.delete(&key("a"), DeleteParams::now()).await.unwrap();
    let end = api.update_status(&key("a"), |_| ()).await.unwrap_err();
    assert!(end.is_not_found());

    let mut events = Vec::new();
    while events.last() != Some(&WatchEvent::Bookmark(Revision(6))) {
        let event = watch.next().await.unwrap();
        if !matches!(event, WatchEvent::Bookmark(at) if at < Revision(6)) {
            events.push(event);
        }
    }
    let expected = [
        WatchEvent::Applied(made),
        WatchEvent::Deleted {
            key: key("b"),
            revision: Revision(2),
        },
        WatchEvent::Deleted {
            key: key("a"),
            revision: off.metadata.resource_version,
        },
        WatchEvent::Bookmark(Revision(6)),
    ];
    assert_eq!(events, expected);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_labels_are_refused_by_name() {
    let api = client().api::<Widget>();
    let labels = |n: usize| {
        (0..n)
            .map(|n| (format!("l{n}").into(), "".into()))
            .collect()
    };
    let mut object = widget("a");
    object.metadata.labels = labels(1_000);
    let made = api.create(object.clone()).await.unwrap();
    assert_eq!(made.metadata.labels.len(), 1_000);
    object.metadata.name = "b".into();
    object.metadata.labels = labels(100_000);
    let error = api.create(object).await.unwrap_err();
    let ApiErrorKind::Invalid(invalid) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(invalid.errors[0].path, "metadata.labels");
}

#[tokio::test(start_paused = true)]
async fn what_apply_remembers_is_counted_against_nobody() {
    let api = client().api::<Pod>();
    let pod = |vars: usize| {
        let env: Vec<_> = (0..vars)
            .map(|n| json!({"name": format!("N{n}"), "value": format!("v{n}")}))
            .collect();
        let containers = json!([{"name": "c", "image": "i", "env": env}]);
        let body = json!({"metadata": {"name": "a"}, "spec": {"containers": containers}});
        serde_json::from_value::<Pod>(body).unwrap()
    };
    // More names than all annotations may have bytes.
    let made = api.apply(pod(22_000)).await.unwrap();
    let remembered = made.metadata.annotations[ANNOTATION_LAST_APPLIED].len();
    assert!(remembered < ANNOTATIONS_BYTES_MAX, "{remembered}");
    let again = api.apply(pod(22_000)).await.unwrap();
    assert_eq!(again, made);
    let fewer = api.apply(pod(3)).await.unwrap();
    assert_eq!(fewer.spec.containers[0].env.len(), 3);

    let too_large = |error: ApiError| {
        let ApiErrorKind::TooLarge { bytes, max } = *error.kind() else {
            panic!("{error}")
        };
        assert!(bytes > max);
        report(&error).to_string()
    };
    // Too large by what is remembered, and too large whoever writes it.
    let said = too_large(api.apply(pod(30_000)).await.unwrap_err());
    assert!(said.contains("beside the object's own"), "{said}");
    let said = too_large(api.apply(pod(100_000)).await.unwrap_err());
    assert!(!said.contains("remember"), "{said}");
    assert_eq!(fewer, api.get(&key("a")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_bound_pod_ends_with_grace_and_others_go_at_once() {
    let client = client();
    let api = client.api::<Pod>();
    let pod = |name: &str, node: &str| {
        let body = json!({"metadata": {"name": name}, "spec": {"nodeName": node,
            "containers": [{"name": "c", "image": "i"}]}});
        serde_json::from_value::<Pod>(body).unwrap()
    };
    api.create(pod("waiting", "")).await.unwrap();
    let gone = api
        .delete(&key("waiting"), DeleteParams::default())
        .await
        .unwrap();
    assert!(matches!(gone, Deleted::Removed(_)));

    api.create(pod("runs", "n1")).await.unwrap();
    let deleted = api
        .delete(&key("runs"), DeleteParams::default())
        .await
        .unwrap();
    let Deleted::Marked(marked) = deleted else {
        panic!("{deleted:?}")
    };
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    let shorter = DeleteParams {
        grace_seconds: Some(5),
        ..DeleteParams::default()
    };
    let longer = DeleteParams {
        grace_seconds: Some(50),
        ..DeleteParams::default()
    };
    for params in [shorter, longer] {
        let Deleted::Marked(marked) = api.delete(&key("runs"), params).await.unwrap() else {
            panic!("gone")
        };
        assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(5));
    }
    // A status written meanwhile does not end it; its agent does.
    api.update_status(&key("runs"), |p| p.status.message = "ending".into())
        .await
        .unwrap();
    let gone = api.delete(&key("runs"), DeleteParams::now()).await.unwrap();
    assert!(matches!(gone, Deleted::Removed(_)));
}

/// Two who take their finalizers off at once: the object goes, and exactly one sees it go.
#[tokio::test(start_paused = true)]
async fn racing_for_the_last_finalizer_leaves_nothing() {
    let api = client().api::<Widget>();
    let mut object = widget("a");
    object.metadata.finalizers = (0..8).map(|n| format!("x/{n}").into()).collect();
    api.create(object).await.unwrap();
    api.delete(&key("a"), DeleteParams::default())
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let api = api.clone();
        tasks.spawn(async move {
            let mine = format!("x/{n}");
            let a = key("a");
            let done = api.update(&a, |w| w.metadata.finalizers.retain(|f| *f != *mine));
            done.await.unwrap().metadata.finalizers.len()
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(api.find(&key("a")).await.unwrap().is_none());
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
