//! One pod after another, one thread, each on the state the last one left: snapshot, plan, apply.
//! Every node is looked at. The shapes are those that schedulers of clusters are usually measured
//! with, so that the table can be laid beside theirs.
//!
//! `cargo bench -p orchestra-sched --bench like_for_like [-- NAME…]`

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orchestra_core::kind::pod::{
    Affinity, Container, PodAffinity, PodAffinityTerm, TopologySpreadConstraint,
    WeightedPodAffinityTerm, WhenUnsatisfiable,
};
use orchestra_core::kind::{Node, Pod, gang};
use orchestra_core::meta::{Labels, ObjectKey, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use orchestra_sched::budget::Budget;
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Ledger, Running, SnapshotBuilder};
use rustix::time::{ClockId, clock_gettime};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// Pods placed before the clock starts.
const BEFORE: usize = 1_000;
/// Pods placed under the clock.
const MEASURED: usize = 1_000;

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

struct Workload {
    name: &'static str,
    /// The `n`-th pod under the clock.
    pod: fn(n: usize) -> Pod,
    /// The most that two zones, and the most that one host, may differ by or hold.
    zone_skew_max: usize,
    per_host_max: usize,
}

const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "basic",
        pod: basic,
        zone_skew_max: usize::MAX,
        per_host_max: usize::MAX,
    },
    Workload {
        name: "basic, every shape new",
        pod: unlike,
        zone_skew_max: usize::MAX,
        per_host_max: usize::MAX,
    },
    Workload {
        name: "topology spread, zones",
        pod: |n| spread(n, ZONE),
        zone_skew_max: 5,
        per_host_max: usize::MAX,
    },
    Workload {
        name: "topology spread, hosts",
        pod: |n| spread(n, HOST),
        zone_skew_max: usize::MAX,
        per_host_max: 5,
    },
    Workload {
        name: "required anti-affinity",
        pod: apart,
        zone_skew_max: usize::MAX,
        per_host_max: 1,
    },
    Workload {
        name: "preferred spread, zones",
        pod: |n| rather_spread(n, &[ZONE]),
        zone_skew_max: 1,
        per_host_max: usize::MAX,
    },
    Workload {
        name: "preferred spread, zones and hosts",
        pod: |n| rather_spread(n, &[ZONE, HOST]),
        zone_skew_max: 1,
        per_host_max: 1,
    },
    Workload {
        name: "preferred anti-affinity",
        pod: rather_apart,
        zone_skew_max: usize::MAX,
        per_host_max: 1,
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    println!("| workload | nodes | CPU a pod | pods a CPU second | median | p99 |");
    println!("|---|---|---|---|---|---|");
    for workload in &WORKLOADS {
        if !wanted.is_empty() && !wanted.iter().any(|name| workload.name.contains(&**name)) {
            continue;
        }
        for nodes in [1_000, 5_000, 15_000] {
            measure(workload, nodes);
        }
    }
    if wanted.is_empty() || wanted.iter().any(|name| "preemption".contains(&**name)) {
        for (name, step) in [
            ("preemption, 3 victims", 0),
            ("preemption, 3 victims, every shape new", 1),
        ] {
            for nodes in [1_000, 5_000, 15_000] {
                preempt(name, nodes, step, 0);
            }
        }
        for nodes in [1_000, 5_000, 15_000] {
            let name = "preemption, 3 victims, 20 budgets that change";
            preempt(name, nodes, 0, 20);
        }
    }
    if wanted.is_empty() || wanted.iter().any(|name| "refused".contains(&**name)) {
        for (name, unlike) in [("refused, nodes alike", 0), ("refused, nodes unlike", 7)] {
            for nodes in [1_000, 5_000, 15_000] {
                refuse(name, nodes, unlike);
            }
        }
        for (name, each) in [
            ("refused, gang of 100 that others are in the way of", 3_000),
            ("refused, gang of 100 that never fits", 30_000),
        ] {
            for nodes in [1_000, 5_000, 15_000] {
                refuse_gang(name, nodes, each);
            }
        }
    }
}

/// Every node is full but one; each newcomer is a gang of a new shape whose first has that one.
fn refuse_gang(name: &str, nodes: usize, each: i64) {
    let mut builder = full(nodes, 0, 0);
    let large = Node::new("large").capacity(each as u32, 4_096, 110);
    builder.apply_node(&large);
    let scheduler = Framework::new(Profile::default().without_preemption());
    let mut plans = Vec::new();
    for n in 0..MEASURED {
        let member = |nth: usize| {
            let asked = asking(each, (500 << 20) + n as i64);
            let pod = named(asked, "gang", 4 * nodes + 100 * n + nth);
            let pod = pod.label(gang::LABEL, format!("gang-{n}"));
            let pod = pod.annotation(gang::MIN_ANNOTATION, "100");
            Pending::of(&pod, Timestamp::EPOCH)
        };
        let pending: Vec<Pending> = (0..100).map(member).collect();
        let before = cpu();
        let snapshot = builder.snapshot(Revision(1));
        let plan = scheduler.plan(&snapshot, &pending, INPUTS);
        plans.push(cpu() - before);
        assert_eq!(plan.unplaced.len(), 100);
    }
    report(name, nodes, plans);
}

/// Every node is full; each newcomer, of a new shape, is refused, and told why.
fn refuse(name: &str, nodes: usize, unlike: usize) {
    let builder = full(nodes, unlike, 0);
    let scheduler = Framework::new(Profile::default().without_preemption());
    let (mut plans, mut whys) = (Vec::new(), Vec::new());
    for n in 0..MEASURED {
        let pod = named(asking(3_000, (500 << 20) + n as i64), "high", 4 * nodes + n);
        let pod = Pending::of(&pod, Timestamp::EPOCH);
        let before = cpu();
        let snapshot = builder.snapshot(Revision(1));
        let plan = scheduler.plan(&snapshot, std::slice::from_ref(&pod), INPUTS);
        plans.push(cpu() - before);
        assert_eq!(plan.unplaced.len(), 1);
        let ledger = Ledger::open(&snapshot);
        let before = cpu();
        let why = scheduler.explain(&ledger, &pod, Timestamp::EPOCH);
        whys.push(cpu() - before);
        assert_eq!(why, *plan.unplaced[0].why);
    }
    report(name, nodes, plans);
    report("- of which to say why", nodes, whys);
}

/// Nodes with four pods of 900m each, or of less the more `unlike` they are, of so many `apps`.
fn full(nodes: usize, unlike: usize, apps: usize) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    for n in 0..nodes {
        builder.apply_node(&node(n));
        for nth in 0..4 {
            let less = (4 * n + nth) * unlike % 101;
            let asked = asking(900 - less as i64, (500 << 20) + less as i64);
            let pod = named(asked, "low", 4 * n + nth);
            let pod = match apps {
                0 => pod,
                _ => pod.label("app", format!("app-{}", n % apps)),
            };
            builder.apply_pod(&pod.on_node(format!("node-{n}")));
        }
    }
    builder
}

/// Every node is full of four pods of 900m; each newcomer, of higher priority, asks for 3000m. Its
/// victims leave and it takes their place before the next one comes. With `budgets`, each covers the pods
/// on as many nodes as any other, and one of them moves before each newcomer.
fn preempt(name: &str, nodes: usize, step: usize, budgets: usize) {
    let mut builder = full(nodes, 0, budgets);
    let key = |nth: usize| ObjectKey::namespaced("default", format!("budget-{nth}"));
    let set = |builder: &mut SnapshotBuilder, nth: usize, disruptions_allowed: u32| {
        builder.set_budget(Budget {
            key: key(nth),
            selector: Some(selector(&format!("app-{nth}"))),
            disruptions_allowed,
            disrupted: BTreeSet::new(),
        });
    };
    (0..budgets).for_each(|nth| set(&mut builder, nth, 3));
    let asked = |n: usize| asking(3_000, (500 << 20) + (n * step) as i64);
    let pods: Vec<Pending> = (0..MEASURED)
        .map(|n| named(asked(n).priority(10), "high", 4 * nodes + n))
        .map(|pod| Pending::of(&pod, Timestamp::EPOCH))
        .collect();
    let scheduler = Framework::default();
    let mut times = Vec::with_capacity(pods.len());
    for (n, pod) in pods.iter().enumerate() {
        if budgets > 0 {
            set(&mut builder, n % budgets, 2 + n as u32 % 5);
        }
        let before = cpu();
        let snapshot = builder.snapshot(Revision(1));
        let plan = scheduler.plan(&snapshot, std::slice::from_ref(pod), INPUTS);
        drop(snapshot);
        let preemption = plan.preemptions.first().expect("room can be made");
        assert_eq!(preemption.victims.len(), 3);
        for victim in &preemption.victims {
            builder.remove_pod(&victim.pod);
        }
        builder.set_pod(&preemption.node, running(pod));
        times.push(cpu() - before);
    }
    report(name, nodes, times);
}

fn measure(workload: &Workload, nodes: usize) {
    let mut builder = SnapshotBuilder::new();
    for n in 0..nodes {
        builder.apply_node(&node(n));
    }
    for n in 0..BEFORE {
        let pod = named(basic(n), "before", n).on_node(format!("node-{}", n % nodes));
        builder.apply_pod(&pod);
    }
    let pods: Vec<Pending> = (0..MEASURED)
        .map(|n| named((workload.pod)(n), "pod", BEFORE + n))
        .map(|pod| Pending::of(&pod, Timestamp::EPOCH))
        .collect();
    let scheduler = Framework::default();
    let mut times = Vec::with_capacity(pods.len());
    let mut chosen = Vec::with_capacity(pods.len());
    for pod in &pods {
        let before = cpu();
        let snapshot = builder.snapshot(Revision(1));
        let plan = scheduler.plan(&snapshot, std::slice::from_ref(pod), INPUTS);
        drop(snapshot);
        let node = &plan.placed.first().expect("there is room").node;
        builder.set_pod(node, running(pod));
        times.push(cpu() - before);
        chosen.push(node.clone());
    }
    report(workload.name, nodes, times);
    let (mut hosts, mut zones) = (BTreeMap::new(), [0usize; 3]);
    for node in &chosen {
        *hosts.entry(node).or_insert(0) += 1;
        let n: usize = node.trim_start_matches("node-").parse().unwrap();
        zones[n % 3] += 1;
    }
    let skew = zones.iter().max().unwrap() - zones.iter().min().unwrap();
    let most = hosts.values().max().copied().unwrap_or(0);
    if skew > workload.zone_skew_max || most > workload.per_host_max {
        eprintln!(
            "  {}: the rule was not kept: skew {skew}, {most} on one host",
            workload.name
        );
    }
}

fn running(pod: &Pending) -> Running {
    Running {
        id: pod.id.clone(),
        demand: pod.demand.clone(),
        priority: pod.priority,
        ..Running::default()
    }
}

fn report(name: &str, nodes: usize, mut times: Vec<Duration>) {
    let each = times.iter().sum::<Duration>() / times.len() as u32;
    times.sort_unstable();
    println!(
        "| {name} | {nodes} | {:.2} µs | {:.0} | {:.2} µs | {:.2} µs |",
        micros(each),
        1e6 / micros(each),
        micros(times[times.len() / 2]),
        micros(times[times.len() * 99 / 100]),
    );
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

fn node(n: usize) -> Node {
    let name = format!("node-{n}");
    Node::new(&*name)
        .capacity(4_000, 32 * 1_024, 110)
        .label(ZONE, format!("zone-{}", n % 3))
        .label(HOST, &*name)
}

fn named(mut pod: Pod, prefix: &str, n: usize) -> Pod {
    pod.metadata.name = format!("{prefix}-{n}").into();
    pod.metadata.uid = Uid(n as u128 + 1);
    pod
}

fn asking(cpu_milli: i64, memory: i64) -> Pod {
    let mut main = Container::new("main", "main");
    let requests = &mut main.resources.requests;
    requests.insert("cpu".into(), Quantity::from_milli(cpu_milli));
    requests.insert("memory".into(), Quantity::from_int(memory));
    Pod::builder("pod").namespace("default").container(main)
}

fn basic(_: usize) -> Pod {
    asking(100, 500 * 1_024 * 1_024)
}

fn unlike(n: usize) -> Pod {
    let n = n as i64;
    asking(50 + n % 100, (400 + n * 7 % 211) * 1_024 * 1_024 + n)
}

fn spread(n: usize, key: &str) -> Pod {
    let mut pod = basic(n).label("app", "spread");
    let rules = &mut pod.spec.topology_spread_constraints;
    rules.push(rule(key, 5, WhenUnsatisfiable::DoNotSchedule));
    pod
}

fn rather_spread(n: usize, keys: &[&str]) -> Pod {
    let mut pod = basic(n).label("app", "spread");
    for key in keys {
        let rules = &mut pod.spec.topology_spread_constraints;
        rules.push(rule(key, 1, WhenUnsatisfiable::ScheduleAnyway));
    }
    pod
}

fn rule(key: &str, max_skew: u32, when: WhenUnsatisfiable) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew,
        topology_key: key.into(),
        when_unsatisfiable: when,
        label_selector: Some(selector("spread")),
        ..TopologySpreadConstraint::default()
    }
}

fn selector(app: &str) -> LabelSelector {
    LabelSelector::of(Labels::from([("app".into(), app.into())]))
}

fn apart(n: usize) -> Pod {
    away(
        n,
        PodAffinity {
            required: vec![no_other_here()],
            ..PodAffinity::default()
        },
    )
}

fn rather_apart(n: usize) -> Pod {
    let preferred = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: no_other_here(),
    };
    away(
        n,
        PodAffinity {
            preferred: vec![preferred],
            ..PodAffinity::default()
        },
    )
}

fn no_other_here() -> PodAffinityTerm {
    PodAffinityTerm {
        topology_key: HOST.into(),
        label_selector: Some(selector("apart")),
        ..PodAffinityTerm::default()
    }
}

fn away(n: usize, whom: PodAffinity) -> Pod {
    let mut pod = basic(n).label("app", "apart");
    pod.spec.affinity = Some(Box::new(Affinity {
        pod_anti_affinity: Some(whom),
        ..Affinity::default()
    }));
    pod
}
