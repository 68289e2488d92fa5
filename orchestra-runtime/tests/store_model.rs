//! Any history of commits on `MemoryStore` reads, pages and watches like a plain list of states.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use orchestra_core::port::store::{
    Change, Cursor, Guard, Key, ListRequest, Revision, StateStore, Txn, Versioned, Write,
};
use orchestra_runtime::store::MemoryStore;
use proptest::prelude::*;

const KEYS: [&str; 5] = ["a", "a/1", "a/2", "ab", "b"];
const PREFIXES: [&str; 4] = ["", "a", "a/", "b"];

#[derive(Clone, Debug)]
struct Step {
    key: usize,
    delete: bool,
    /// Guards on the key as it stood that many commits ago.
    guard: Option<usize>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..KEYS.len(),
        any::<bool>(),
        proptest::option::of(0_usize..3),
    )
        .prop_map(|(key, delete, guard)| Step { key, delete, guard });
    proptest::collection::vec(step, 1..60)
}

type State = BTreeMap<Key, Versioned>;

async fn check(steps: Vec<Step>, limit: usize) {
    let store = MemoryStore::new();
    let mut states = vec![State::new()];
    let mut log: Vec<Change> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let key = Key::from(KEYS[step.key]);
        let now = states.last().unwrap().clone();
        let past = &states[states.len() - 1 - step.guard.unwrap_or(0).min(states.len() - 1)];
        let mut txn = Txn::new();
        let mut holds = true;
        if step.guard.is_some() {
            let seen = past.get(&key).map(|then| then.modified);
            holds = seen == now.get(&key).map(|now| now.modified);
            txn =
                txn.when(seen.map_or(Guard::Absent(key.clone()), |at| Guard::At(key.clone(), at)));
        }
        let value = (n as u64).to_be_bytes();
        txn = txn.then(match step.delete {
            true => Write::Delete(key.clone()),
            false => Write::put(key.clone(), value),
        });
        let result = store.commit(txn).await;
        assert_eq!(result.is_ok(), holds, "{step:?}: {result:?}");
        let Ok(at) = result else { continue };
        assert_eq!(at, Revision(states.len() as u64));
        let mut next = now.clone();
        if step.delete {
            if next.remove(&key).is_some() {
                log.push(Change::Delete { key, at });
            }
        } else {
            let created = now.get(&key).map_or(at, |before| before.created);
            let put = Versioned {
                key: key.clone(),
                value: value.as_slice().into(),
                created,
                modified: at,
                lease: None,
            };
            next.insert(key, put.clone());
            log.push(Change::Put(put));
        }
        states.push(next);
    }
    for (at, state) in states.iter().enumerate() {
        for prefix in PREFIXES {
            compare(&store, state, &log, prefix, Revision(at as u64), limit).await;
        }
    }
}

/// Lists `prefix` in the past, page by page, and watches it from there.
async fn compare(
    store: &MemoryStore,
    state: &State,
    log: &[Change],
    prefix: &str,
    at: Revision,
    limit: usize,
) {
    let mut seen = Vec::new();
    // The smallest key behind which everything lies: nothing here is named that.
    let mut from = Some(Cursor {
        after: "\u{0}".into(),
        at,
    });
    while let Some(cursor) = from {
        let request = ListRequest {
            prefix: prefix.into(),
            limit,
            from: Some(cursor),
        };
        let page = store.list(request).await.unwrap();
        assert!(page.items.len() <= limit && page.revision == at);
        seen.extend(page.items);
        from = page.next;
    }
    let under = |key: &Key| key.as_str().starts_with(prefix);
    let wanted: Vec<_> = state
        .values()
        .filter(|now| under(&now.key))
        .cloned()
        .collect();
    assert_eq!(seen, wanted, "{prefix:?} at {at}");

    let wanted: Vec<_> = log
        .iter()
        .filter(|c| c.revision() > at && under(c.key()))
        .cloned()
        .collect();
    let mut watch = store.watch(prefix.into(), at).await.unwrap();
    let mut told = Vec::new();
    while told.len() < wanted.len() {
        told.extend(watch.next().await.unwrap().changes);
    }
    assert_eq!(told, wanted, "watch of {prefix:?} from {at}");
}

proptest! {
    #[test]
    fn a_history_reads_like_its_states(steps in steps(), limit in 1_usize..4) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(check(steps, limit));
    }
}
