//! What it costs to turn a pod into bytes and back: paid for each commit and each watch event.
//! `cargo bench -p orchestra-core --bench codec`

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use orchestra_core::codec::{decode, encode};
use orchestra_core::kind::Pod;
use orchestra_core::port::store::{Revision, Versioned};

/// A pod as a deployment makes it and an agent has reported on it.
const POD: &str = r#"{
  "apiVersion": "v1", "kind": "Pod",
  "metadata": {
    "name": "web-7d4b9c6f5d-x2x7k", "namespace": "shop",
    "labels": {"app.kubernetes.io/name": "web", "pod-template-hash": "7d4b9c6f5d"},
    "uid": "123e4567-e89b-12d3-a456-426614174000", "generation": 1,
    "creationTimestamp": "2026-11-23T09:00:00Z",
    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
      "name": "web-7d4b9c6f5d", "uid": "123e4567-e89b-12d3-a456-426614174001", "controller": true}]
  },
  "spec": {
    "containers": [{
      "name": "web", "image": "registry.example.com/web:1.27", "args": ["--listen", ":8080"],
      "ports": [{"name": "http", "containerPort": 8080}],
      "env": [{"name": "MODE", "value": "production"}],
      "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
      "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}
    }],
    "nodeName": "node-17", "nodeSelector": {"zone": "a"}
  },
  "status": {
    "phase": "Running", "podIP": "127.1.0.17",
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T09:00:03Z"}]
  }
}"#;

fn codec(c: &mut Criterion) {
    let mut pod: Pod = serde_json::from_str(POD).unwrap();
    let value = encode(&pod).unwrap();
    pod.metadata.resource_version = Revision(4_711);
    let stored = Versioned {
        key: "pods/shop/web-7d4b9c6f5d-x2x7k".into(),
        value: value.clone(),
        created: Revision(4_000),
        modified: Revision(4_711),
        lease: None,
    };
    assert_eq!(decode::<Pod>(&stored).unwrap(), pod);

    let mut group = c.benchmark_group(format!("codec/pod of {} bytes", value.len()));
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode(black_box(&pod)).unwrap()));
    group.bench_function("decode", |b| {
        b.iter(|| decode::<Pod>(black_box(&stored)).unwrap())
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
