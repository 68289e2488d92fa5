//! What a large cluster weighs, and what one change to it costs: 100,000 nodes and 1,000,000 pods
//! of 2,000 deployments.
//!
//! `cargo bench -p orchestra-sched --bench footprint [-- NODES PODS]`

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::time::Duration;

use orchestra_core::kind::pod::Container;
use orchestra_core::kind::{Node, Pod};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;
use orchestra_sched::place::{Framework, PlanInputs};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::SnapshotBuilder;
use orchestra_sched::whatif::Question;
use rustix::time::{ClockId, clock_gettime};

const DEPLOYMENTS: usize = 2_000;
const CHANGES: usize = 10_000;

fn main() {
    let mut args = std::env::args().filter_map(|arg| arg.parse().ok());
    let nodes: usize = args.next().unwrap_or(100_000);
    let pods: usize = args.next().unwrap_or(1_000_000);
    let mut builder = SnapshotBuilder::new();
    for n in 0..nodes {
        builder.apply_node(&node(n));
    }
    for n in 0..pods {
        builder.apply_pod(&pod(n, n % nodes));
    }
    println!("{nodes} nodes, {pods} pods: {} MB resident", resident_mb());

    let each = |time: Duration| time.as_nanos() as f64 / 1_000.0 / CHANGES as f64;
    let before = cpu();
    for n in 0..CHANGES {
        builder.apply_pod(&pod(n, (n + 1) % nodes));
    }
    println!(
        "a pod moves, no snapshot held: {:.2} µs",
        each(cpu() - before)
    );
    let mut held = builder.snapshot(Revision(1));
    let before = cpu();
    for n in 0..CHANGES {
        builder.apply_pod(&pod(n, n % nodes));
        held = builder.snapshot(Revision(n as u64));
    }
    println!(
        "a pod moves, the last snapshot held: {:.2} µs",
        each(cpu() - before)
    );

    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(1),
    };
    let before = cpu();
    let answer = Question::new()
        .lose_zone("zone-0")
        .ask(&held, &Framework::default(), inputs);
    println!(
        "what if a zone is lost: {:.2} s, {} pods find no node",
        (cpu() - before).as_secs_f64(),
        answer.unwrap().stranded.len()
    );
    println!("{} MB resident", resident_mb());
}

fn node(n: usize) -> Node {
    let name = format!("node-{n}");
    Node::new(&*name)
        .capacity(16_000, 64 * 1_024, 110)
        .label("kubernetes.io/hostname", &*name)
        .label("topology.kubernetes.io/zone", format!("zone-{}", n % 3))
        .label("node.kubernetes.io/instance-type", "standard-16")
}

fn pod(n: usize, on: usize) -> Pod {
    let deployment = n % DEPLOYMENTS;
    let mut main = Container::new("main", "main");
    let requests = &mut main.resources.requests;
    requests.insert(
        "cpu".into(),
        Quantity::from_milli(500 + deployment as i64 % 7 * 100),
    );
    requests.insert("memory".into(), Quantity::from_bytes(1 << 30));
    let mut pod = Pod::builder(format!("app-{deployment}-{n:07x}"))
        .namespace(format!("team-{}", deployment % 50))
        .label("app", format!("app-{deployment}"))
        .label("pod-template-hash", format!("{deployment:08x}"))
        .container(main)
        .on_node(format!("node-{on}"));
    pod.metadata.uid = Uid(n as u128 + 1);
    pod
}

/// Resident memory of this process, from the kernel.
fn resident_mb() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096 / 1_000_000
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
