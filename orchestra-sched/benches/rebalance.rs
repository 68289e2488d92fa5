//! Moves of pods on clusters of which every third node is nearly full and every third empty.
//!
//! `cargo bench -p orchestra-sched --bench rebalance`

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::Framework;
use orchestra_sched::rebalance::pods::{Limits, rebalance};

/// Ten pods of ten shapes on each of two thirds of the nodes.
fn cluster(nodes: usize) -> Cluster {
    let mut text = format!("node n*{nodes} cpu=8 memory=32Gi pods=110\n");
    for node in (1..=nodes).filter(|node| node % 3 != 0) {
        for shape in 1..=10 {
            let (cpu, memory) = (shape * 100, shape * 512);
            text.push_str(&format!(
                "pod p{shape}-{node} on=n-{node} cpu={cpu}m memory={memory}Mi\n"
            ));
        }
    }
    text.parse().unwrap()
}

fn moves(c: &mut Criterion) {
    let mut group = c.benchmark_group("100 moves, every rule asked");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(10);
    for nodes in [100, 1_000, 5_000] {
        let snapshot = cluster(nodes).snapshot();
        let framework = Framework::default();
        group.bench_function(BenchmarkId::from_parameter(nodes), |b| {
            b.iter(|| {
                let limits = Limits::default();
                let plan = rebalance(&snapshot, &framework, &limits, Timestamp::EPOCH);
                black_box(plan)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, moves);
criterion_main!(benches);
