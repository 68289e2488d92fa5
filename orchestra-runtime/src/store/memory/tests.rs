use super::*;
use orchestra_core::conformance::{self, store::Options};
use orchestra_core::port::store::{Change, Guard, StateStoreExt, Write};

async fn next(watch: &mut Box<dyn Watch>) -> Vec<(String, u64)> {
    let batch = watch.next().await.unwrap();
    batch
        .changes
        .iter()
        .map(|c| (c.key().to_string(), c.revision().0))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_waiting_watch_sees_a_lease_end_although_nobody_calls() {
    let store = MemoryStore::new();
    let started = Instant::now();
    let mut watch = store.watch("".into(), Revision(0)).await.unwrap();
    // The watch waits before there is any lease.
    let waiting = tokio::spawn(async move {
        let first = next(&mut watch).await;
        (first, next(&mut watch).await, Instant::now())
    });
    tokio::task::yield_now().await;
    let long = store.grant(Duration::from_secs(60)).await.unwrap();
    let lease = store.grant(Duration::from_secs(5)).await.unwrap();
    assert!(long < lease);
    for key in ["b", "a"] {
        let put = Write::Put {
            key: key.into(),
            value: [1][..].into(),
            lease: Some(lease),
        };
        store.commit(Txn::new().then(put)).await.unwrap();
    }
    let (first, second, at) = waiting.await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!(second, [("a".into(), 3), ("b".into(), 3)]);
    assert_eq!(at - started, Duration::from_secs(5));
    assert_eq!(store.keep_alive(lease).await.unwrap(), KeptAlive::Ended);
}

#[tokio::test]
async fn history_keeps_its_bounds_and_the_newest_commit() {
    let store = MemoryStore::builder().history_entries(4).build();
    let mut quiet = store.watch("other/".into(), Revision(0)).await.unwrap();
    let mut slow = store.watch("k".into(), Revision(0)).await.unwrap();
    for n in 0..20_u8 {
        store.put("k".into(), [n]).await.unwrap();
    }
    assert_eq!(store.stats().history_entries, 4);
    let error = slow.next().await.unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Compacted {
            oldest: Revision(16)
        }
    );
    assert!(slow.next().await.is_err(), "once failed, always failed");
    assert!(store.watch("k".into(), Revision(15)).await.is_err());
    let mut kept = store.watch("k".into(), Revision(16)).await.unwrap();
    assert_eq!(next(&mut kept).await.len(), 4);
    // Nothing that the quiet one wanted was forgotten: it moves on by a bookmark.
    let bookmark = quiet.next().await.unwrap();
    assert_eq!(
        (bookmark.changes.len(), bookmark.through),
        (0, Revision(20))
    );

    let wide = (0..9).fold(Txn::new(), |txn, n| {
        txn.then(Write::put(format!("w{n}").into(), [n]))
    });
    store.commit(wide).await.unwrap();
    assert_eq!(store.stats().history_entries, 9, "a commit stays whole");
    store.compact(Revision(u64::MAX));
    assert_eq!(store.stats().history_entries, 0);
    assert_eq!(store.stats().keys, 10);
}

#[tokio::test]
async fn a_listing_goes_on_at_its_revision_until_that_is_compacted() {
    let store = MemoryStore::new();
    for key in ["a/1", "a/2", "a/3", "b"] {
        store.put(key.into(), [0]).await.unwrap();
    }
    let first = ListRequest {
        prefix: "a/".into(),
        limit: 1,
        from: None,
    };
    let page = store.list(first.clone()).await.unwrap();
    store.delete("a/2".into()).await.unwrap();
    store.put("a/11".into(), [0]).await.unwrap();
    store.put("a/3".into(), [9]).await.unwrap();
    let rest = ListRequest {
        limit: 9,
        from: page.next,
        ..first.clone()
    };
    let page = store.list(rest.clone()).await.unwrap();
    let seen: Vec<_> = page
        .items
        .iter()
        .map(|i| (i.key.as_str(), i.value[0]))
        .collect();
    assert_eq!(seen, [("a/2", 0), ("a/3", 0)]);
    assert_eq!((page.revision, page.next), (Revision(4), None));
    store.compact(Revision(5));
    let error = store.list(rest).await.unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Compacted {
            oldest: Revision(5)
        }
    );
    let all = store.list(ListRequest::all("a/")).await.unwrap();
    let seen: Vec<_> = all.items.iter().map(|i| i.key.as_str()).collect();
    assert_eq!(seen, ["a/1", "a/11", "a/3"]);
}

#[tokio::test]
async fn a_commit_wakes_only_whom_it_concerns_and_dropped_watches_leave_nothing() {
    let store = MemoryStore::new();
    let watch = store.watch("a/".into(), Revision(0)).await.unwrap();
    let more = store.watch("a/".into(), Revision(0)).await.unwrap();
    assert_eq!(store.stats().watches, 2);
    drop((watch, more));
    assert_eq!(store.stats().watches, 0);
    let mut late = store.watch("a/".into(), Revision(0)).await.unwrap();
    store.put("ab".into(), [0]).await.unwrap();
    store.put("a/ß".into(), [0]).await.unwrap();
    assert_eq!(next(&mut late).await, [("a/ß".to_owned(), 2)]);
}

#[tokio::test]
async fn a_refused_commit_names_the_guard_and_changes_nothing() {
    let store = MemoryStore::new();
    let one = store.create("k".into(), [1]).await.unwrap();
    let txn = Txn::new()
        .when(Guard::At("k".into(), one))
        .when(Guard::Absent("k".into()))
        .then(Write::put("other".into(), [1]));
    let error = store.commit(txn).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.subject()),
        (StoreErrorKind::Conflict, Some("k"))
    );
    assert_eq!(store.stats().revision, one);
    assert!(store.get(&"other".into()).await.unwrap().is_none());
    // Deleting what is not there is a commit without a change.
    assert_eq!(store.delete("none".into()).await.unwrap(), Revision(2));
    let mut watch = store.watch("".into(), Revision(0)).await.unwrap();
    let batch = watch.next().await.unwrap();
    assert!(matches!(&batch.changes[..], [Change::Put(_)]));
    assert_eq!(batch.through, Revision(2));
}

async fn fresh() -> Arc<dyn StateStore> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    conformance::store::run(fresh, tokio::time::sleep)
        .await
        .assert_passed();
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract_on_many_seeds_and_with_little_history() {
    for seed in 2..40 {
        let options = Options {
            seed,
            rounds: 2,
            churn: 300,
            ..Options::default()
        };
        conformance::store::run_with(fresh, tokio::time::sleep, options)
            .await
            .assert_passed();
        let small = || async {
            Arc::new(MemoryStore::builder().history_entries(40).build()) as Arc<dyn StateStore>
        };
        conformance::store::run_with(small, tokio::time::sleep, options)
            .await
            .assert_passed();
    }
}
