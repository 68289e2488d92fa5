//! What `MemoryStore` carries. Run with
//!
//! ```text
//! cargo bench -p orchestra-runtime --bench store
//! ```
//!
//! It prints: single-key commits a second from one task, over few and over many keys; whether
//! 1,000 watches each see every change of 10,000 commits a second, on one prefix and beside
//! others, and how much of the time was idle; and bytes of resident memory per stored object of
//! 1 KB with the history compacted away (Linux only).

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use orchestra_core::port::store::{Key, Revision, StateStore, StateStoreExt};
use orchestra_runtime::store::MemoryStore;

const WATCHES: usize = 1_000;
const COMMITS_PER_S: u64 = 10_000;
const SECONDS: u64 = 3;

fn main() {
    // First: what later parts free would be reused, and not count as grown.
    memory();
    for keys in [1, 1_000, 100_000] {
        commits(keys);
    }
    watches("one prefix, one thread", 1, 1);
    watches("one prefix, two threads", 2, 1);
    watches("100 prefixes, one thread", 1, 100);
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        n => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(n);
            builder
        }
    };
    builder.enable_time().build().unwrap()
}

fn commits(keys: usize) {
    let keys: Vec<_> = (0..keys)
        .map(|n| Key::from(format!("pods/default/web-{n}")))
        .collect();
    let value: std::sync::Arc<[u8]> = vec![7; 256].into();
    let rate = runtime(1).block_on(async {
        let store = MemoryStore::new();
        let mut best = 0.0_f64;
        for _ in 0..5 {
            let (started, count) = (Instant::now(), 300_000);
            for n in 0..count {
                store
                    .put(keys[n * 7_919 % keys.len()].clone(), value.clone())
                    .await
                    .unwrap();
            }
            best = best.max(count as f64 / started.elapsed().as_secs_f64());
        }
        best
    });
    println!("commits, {} keys: {rate:.0}/s", keys.len());
}

fn watches(what: &str, threads: usize, prefixes: usize) {
    let total = COMMITS_PER_S * SECONDS;
    let (seen, late, took) = runtime(threads).block_on(async move {
        let store = MemoryStore::new();
        let started = Instant::now();
        let tasks: Vec<_> = (0..WATCHES)
            .map(|n| {
                let (store, prefix) = (store.clone(), format!("p{}/", n % prefixes));
                let wanted = total / prefixes as u64;
                tokio::spawn(async move {
                    let mut watch = store.watch(prefix.into(), Revision(0)).await.unwrap();
                    let mut seen = 0;
                    while seen < wanted {
                        seen += watch.next().await.unwrap().changes.len() as u64;
                    }
                    seen
                })
            })
            .collect();
        let writer = tokio::spawn(async move {
            let mut late = Duration::ZERO;
            for n in 0..total {
                let due = started + Duration::from_micros(n * 1_000_000 / COMMITS_PER_S);
                // Ten commits a millisecond: the timer knows no less.
                if n % 10 == 0 {
                    tokio::time::sleep_until(due.into()).await;
                    late = late.max(due.elapsed());
                }
                let key = Key::from(format!("p{}/{}", n % prefixes as u64, n % 1_000));
                store.put(key, n.to_be_bytes()).await.unwrap();
            }
            late
        });
        let late = writer.await.unwrap();
        let mut seen = 0;
        for task in tasks {
            seen += task.await.unwrap();
        }
        (seen, late, started.elapsed())
    });
    println!(
        "watches, {what}: {WATCHES} saw {seen} changes of {total} commits in {took:.2?} (none lost; \
         the writer at most {late:.1?} late)"
    );
}

fn memory() {
    let count = 200_000;
    let store = MemoryStore::new();
    let before = resident();
    runtime(1).block_on(async {
        for n in 0..count {
            store
                .put(format!("pods/default/web-{n:06}").into(), vec![7; 1_024])
                .await
                .unwrap();
        }
    });
    store.compact(Revision(u64::MAX));
    match (before, resident()) {
        (Some(before), Some(after)) => {
            let each = after.saturating_sub(before) / count;
            println!("memory: {each} bytes resident per object of 1,024 bytes");
        }
        _ => println!("memory: not measured, /proc/self/statm is not there"),
    }
    assert_eq!(store.stats().keys as u64, count);
}

/// Bytes of resident memory.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}
