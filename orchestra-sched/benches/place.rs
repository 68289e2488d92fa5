//! Placement, one thread: nodes of 4 CPU, 32 GiB and 110 pods; pods of 100m and 500Mi.
//!
//! `cargo bench -p orchestra-sched --bench place`

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Framework, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Running, SnapshotBuilder};

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

/// `nodes` nodes on which 1,000 pods run, and `pods` more that want to.
fn cluster(nodes: usize, pods: usize) -> (SnapshotBuilder, Cluster) {
    let text = format!(
        "node n*{nodes} cpu=4 memory=32Gi pods=110\npod p*{} cpu=100m memory=500Mi",
        pods + 1_000
    );
    let mut cluster: Cluster = text.parse().unwrap();
    for (n, pod) in cluster.pods.iter_mut().take(1_000).enumerate() {
        pod.spec.node_name = format!("n-{}", n % nodes + 1).into();
    }
    (cluster.builder(), cluster)
}

/// Ten thousand like pods in one plan.
fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch of 10,000 like pods");
    group
        .throughput(Throughput::Elements(10_000))
        .measurement_time(Duration::from_secs(3));
    for nodes in [1_000, 5_000, 15_000, 100_000] {
        let (builder, cluster) = cluster(nodes, 10_000);
        let (snapshot, pending) = (builder.snapshot(Revision(1)), cluster.pending());
        group.bench_function(BenchmarkId::from_parameter(nodes), |b| {
            b.iter(|| black_box(Framework::default().plan(&snapshot, &pending, INPUTS)));
        });
    }
    group.finish();
}

/// A thousand pods of twenty shapes in one plan.
fn shapes(c: &mut Criterion) {
    let mut text = String::from("node n*10000 cpu=4 memory=32Gi pods=110\n");
    for nth in 0..50 {
        for shape in 1..=20 {
            text.push_str(&format!(
                "pod p{nth}-{shape} cpu={}m memory=500Mi\n",
                shape * 10
            ));
        }
    }
    let cluster: Cluster = text.parse().unwrap();
    let (snapshot, pending) = (cluster.snapshot(), cluster.pending());
    let mut group = c.benchmark_group("1,000 pods of 20 shapes, interleaved");
    group
        .throughput(Throughput::Elements(1_000))
        .measurement_time(Duration::from_secs(3));
    group.bench_function(BenchmarkId::from_parameter(10_000), |b| {
        b.iter(|| black_box(Framework::default().plan(&snapshot, &pending, INPUTS)));
    });
    group.finish();
}

/// One pod after another, each on the state the last one left: snapshot, plan, apply.
fn one_by_one(c: &mut Criterion) {
    let mut group = c.benchmark_group("one pod after another, all nodes looked at");
    group
        .throughput(Throughput::Elements(100))
        .measurement_time(Duration::from_secs(3));
    for nodes in [1_000, 5_000, 15_000] {
        let (builder, cluster) = cluster(nodes, 100);
        let pending = cluster.pending();
        group.bench_function(BenchmarkId::from_parameter(nodes), |b| {
            b.iter_batched_ref(
                || builder.clone(),
                |builder| {
                    for pod in &pending {
                        let snapshot = builder.snapshot(Revision(1));
                        let plan =
                            Framework::default().plan(&snapshot, std::slice::from_ref(pod), INPUTS);
                        drop(snapshot);
                        let running = Running {
                            id: pod.id.clone(),
                            demand: pod.demand.clone(),
                            priority: pod.priority,
                            started: None,
                            terminating: false,
                        };
                        builder.set_pod(&plan.placed[0].node, running);
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Full nodes: four pods of 900m on each of 4 cores. Newcomers of a higher priority ask 3 cores, so
/// that three have to leave for each.
fn full(nodes: usize, pods: usize, step: usize) -> (SnapshotBuilder, Cluster) {
    let mut text = format!("node n*{nodes} cpu=4 memory=32Gi pods=110\n");
    for node in 1..=nodes {
        text.push_str(&format!(
            "pod low{node}*4 on=n-{node} cpu=900m memory=500Mi\n"
        ));
    }
    for pod in 0..pods {
        let memory = 500 + pod * step;
        text.push_str(&format!(
            "pod high{pod} cpu=3 memory={memory}Mi priority=10\n"
        ));
    }
    let mut cluster: Cluster = text.parse().unwrap();
    for (n, pod) in cluster.pods.iter_mut().enumerate() {
        pod.status.start_time = Some(Timestamp::from_secs((n * 7919 % 10_007) as i64));
    }
    (cluster.builder(), cluster)
}

/// Pods that find every node full, in one plan.
fn preemption(c: &mut Criterion) {
    let mut group = c.benchmark_group("preemption, three victims each, 5,000 full nodes");
    group
        .measurement_time(Duration::from_secs(3))
        .sample_size(10);
    for (name, pods, step) in [
        ("1,000 like pods", 1_000, 0),
        ("30 pods of 30 shapes", 30, 1),
        ("one pod", 1, 0),
    ] {
        let (builder, cluster) = full(5_000, pods, step);
        let (snapshot, pending) = (builder.snapshot(Revision(1)), cluster.pending());
        group.throughput(Throughput::Elements(pods as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let plan = Framework::default().plan(&snapshot, &pending, INPUTS);
                assert_eq!(plan.preemptions.len(), pods);
                black_box(plan)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batch, shapes, one_by_one, preemption);
criterion_main!(benches);
