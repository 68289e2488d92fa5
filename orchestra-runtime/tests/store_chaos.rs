//! The store behind injected faults: what it may claim, and what callers can rely on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::chaos::{ChaosStore, Fault, Faults, Rates};
use orchestra_core::conformance::{self, store::Options};
use orchestra_core::port::store::{
    Guard, Key, ListRequest, Revision, StateStore, StateStoreExt, StoreErrorKind, Txn, Write,
};
use orchestra_runtime::store::MemoryStore;
use tokio::time::{Instant, sleep};

fn chaotic(faults: &Faults) -> (Arc<dyn StateStore>, ChaosStore) {
    let truth: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    (Arc::clone(&truth), ChaosStore::new(truth, faults.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_healed_or_merely_slow_store_keeps_the_whole_contract() {
    let delayed = Rates {
        delayed: 0.2,
        delay_max: Duration::from_millis(20),
        ..Rates::NONE
    };
    for rates in [Rates::NONE, delayed] {
        let faults = Faults::seeded(3, rates, sleep);
        let fresh = || async { Arc::new(chaotic(&faults).1) as Arc<dyn StateStore> };
        let options = Options {
            rounds: 2,
            churn: 100,
            ..Options::default()
        };
        conformance::store::run_with(fresh, sleep, options)
            .await
            .assert_passed();
    }
}

#[tokio::test(start_paused = true)]
async fn each_scripted_fault_does_what_it_says() {
    use Fault::*;
    let script = [
        Unavailable,
        Lost,
        Ambiguous,
        Duplicated,
        Duplicated,
        Delayed,
    ];
    let faults = Faults::scripted(script, sleep);
    let (truth, store) = chaotic(&faults);
    let key = || Key::from("k");
    let kind = |result: Result<Revision, orchestra_core::port::store::StoreError>| {
        result.map_err(|error| error.kind())
    };
    let newest = async || truth.list(ListRequest::all("")).await.unwrap().revision;

    assert_eq!(
        kind(store.put(key(), *b"1").await),
        Err(StoreErrorKind::Unavailable)
    );
    assert_eq!(
        kind(store.put(key(), *b"2").await),
        Err(StoreErrorKind::Ambiguous)
    );
    assert_eq!(newest().await, Revision(0), "neither landed");
    assert_eq!(
        kind(store.put(key(), *b"3").await),
        Err(StoreErrorKind::Ambiguous)
    );
    assert_eq!(newest().await, Revision(1), "this one landed");
    // A guard that the first landing breaks makes the repetition harmless.
    assert_eq!(
        kind(store.replace(key(), *b"4", Revision(1)).await),
        Ok(Revision(2))
    );
    assert_eq!(newest().await, Revision(2));
    assert_eq!(
        kind(store.put(key(), *b"5").await),
        Err(StoreErrorKind::Ambiguous)
    );
    assert_eq!(newest().await, Revision(4), "it landed twice");
    let before = Instant::now();
    assert_eq!(kind(store.put(key(), *b"6").await), Ok(Revision(5)));
    assert_eq!(before.elapsed(), Rates::NONE.delay_max);
    let injected = faults.injected();
    assert_eq!(
        (injected.total(), injected.duplicated, injected.lost),
        (6, 2, 1)
    );
}

/// A counter that only ever moves by guarded writes, by a client that heals as it should.
#[tokio::test(start_paused = true)]
async fn a_careful_client_loses_and_repeats_nothing() {
    for seed in 0..20 {
        let faults = Faults::seeded(seed, Rates::each(0.08), sleep);
        let (truth, store) = chaotic(&faults);
        let key = Key::from("counter");
        let mut written = 0_u64;
        while written < 200 {
            let Ok(seen) = store.get(&key).await else {
                continue;
            };
            let value = seen.as_ref().map_or(0, |now| {
                u64::from_be_bytes(now.value[..].try_into().unwrap())
            });
            assert!(
                value == written || value == written + 1,
                "{value} after {written}"
            );
            written = value;
            let guard = match &seen {
                Some(now) => Guard::At(key.clone(), now.modified),
                None => Guard::Absent(key.clone()),
            };
            let next = Write::put(key.clone(), (written + 1).to_be_bytes());
            let before = truth.get(&key).await.unwrap();
            match store.commit(Txn::new().when(guard).then(next)).await {
                Ok(at) => {
                    let now = truth.get(&key).await.unwrap().unwrap();
                    assert_eq!(now.modified, at);
                    written += 1;
                }
                Err(error) => match error.kind() {
                    StoreErrorKind::Unavailable => {
                        assert_eq!(truth.get(&key).await.unwrap(), before, "nothing changed");
                    }
                    StoreErrorKind::Ambiguous => {}
                    other => panic!("{other:?} with one writer"),
                },
            }
        }
        assert!(faults.injected().total() > 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_says_so_and_stays_broken() {
    for seed in 0..20 {
        let faults = Faults::seeded(
            seed,
            Rates {
                broken: 0.2,
                ..Rates::NONE
            },
            sleep,
        );
        let (truth, store) = chaotic(&faults);
        let (mut watch, mut seen) = (store.watch("".into(), Revision(0)).await.unwrap(), 0_u64);
        for n in 1..=200_u64 {
            truth.put("k".into(), n.to_be_bytes()).await.unwrap();
            match watch.next().await {
                Ok(batch) => {
                    let revisions: Vec<_> = batch
                        .changes
                        .iter()
                        .map(|change| change.revision().0)
                        .collect();
                    assert_eq!(revisions, (seen + 1..=n).collect::<Vec<_>>());
                    seen = batch.through.0;
                }
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Lagged);
                    assert!(watch.next().await.is_err());
                    watch = store.watch("".into(), Revision(seen)).await.unwrap();
                }
            }
        }
        assert!(faults.injected().broken > 10);
    }
}
