//! Questions about a large cluster: how much memory it takes and how long an answer.
//!
//! `cargo bench -p orchestra-sched --bench whatif`, or with other sizes
//! `cargo bench -p orchestra-sched --bench whatif -- 5000 50000`

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestra_core::kind::{Node, Pod};
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Framework, PlanInputs};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, PodId, Running, SnapshotBuilder};
use orchestra_sched::whatif::{Question, headroom, weak_spots};

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

/// How many shapes of pod there are.
const SHAPES: usize = 40;

fn shapes() -> Vec<Pod> {
    let lines: Vec<String> = (0..SHAPES)
        .map(|n| {
            format!(
                "pod app-{n} cpu={}m memory={}Mi label=app=app-{n}",
                200 + n * 10,
                256 + n * 32
            )
        })
        .collect();
    lines.join("\n").parse::<Cluster>().unwrap().pods
}

/// Three zones, equally loaded.
fn build(nodes: usize, pods: usize) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    for n in 0..nodes {
        let node = Node::new(format!("node-{n}")).capacity(8_000, 32_768, 110);
        builder.apply_node(&node.zone(["a", "b", "c"][n % 3]));
    }
    let demands: Vec<Arc<Demand>> = shapes()
        .iter()
        .map(|pod| Arc::new(Demand::of(pod)))
        .collect();
    for n in 0..pods {
        let running = Running {
            id: PodId {
                uid: Uid(n as u128 + 1),
                key: ObjectKey::namespaced("default", format!("app-{}-{n}", n % SHAPES)),
            },
            demand: Arc::clone(&demands[n % SHAPES]),
            priority: 0,
            started: None,
            terminating: false,
        };
        builder.set_pod(&format!("node-{}", n % nodes), running);
    }
    builder
}

/// Resident memory in MB, where Linux says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

fn report(what: &str, took: Duration, note: &str) {
    let memory = resident().map_or_else(String::new, |mb| format!("{mb} MB resident"));
    println!(
        "{what:<44}{:>9.1} ms  {memory:<20}{note}",
        took.as_secs_f64() * 1e3
    );
}

/// The CPU time that this program took, in steps of 10 ms, where Linux says.
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut words = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || words.next().and_then(|word| word.parse::<u64>().ok());
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// CPU time where it is known, so that a busy machine does not show; or else wall time.
fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let (started, before) = (Instant::now(), cpu());
    let result = run();
    let wall = started.elapsed();
    let took = before
        .zip(cpu())
        .map_or(wall, |(before, after)| after - before);
    (took, result)
}

fn main() {
    let mut sizes = std::env::args().filter_map(|word| word.parse::<usize>().ok());
    let nodes = sizes.next().unwrap_or(100_000);
    let pods = sizes.next().unwrap_or(nodes * 10);
    println!("{nodes} nodes, {pods} pods of {SHAPES} shapes");
    let (took, builder) = timed(|| build(nodes, pods));
    report("build", took, "");
    let snapshot = builder.snapshot(Revision(1));
    let framework = Framework::default();
    for (what, question) in [
        ("lose a zone", Question::new().lose_zone("b")),
        ("drain a node", Question::new().drain(["node-7"])),
        (
            "start 1,000 pods",
            Question::new().deploy(&shapes()[0], 1_000),
        ),
    ] {
        let (took, answer) = timed(|| question.ask(&snapshot, &framework, INPUTS).unwrap());
        let note = format!(
            "{} placed, {} stranded",
            answer.placed.len(),
            answer.stranded.len()
        );
        report(what, took, &note);
    }
    let (took, room) =
        timed(|| headroom(&snapshot, &framework, &shapes()[0], 10_000_000, INPUTS).unwrap());
    report("headroom", took, &format!("{} more", room.fit));
    let (took, weak) = timed(|| weak_spots(&snapshot, &framework, INPUTS));
    let note = format!(
        "{} zones, {} nodes cannot be lost",
        weak.zones.len(),
        weak.nodes.len()
    );
    report("what cannot be lost", took, &note);
}
