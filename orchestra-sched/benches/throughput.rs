//! Batches: what a placement costs in CPU time of one thread, by the size of the cluster; and what a
//! large cluster weighs. Each scheduler is a new one, so that nothing is known beforehand.
//!
//! `cargo bench -p orchestra-sched --bench throughput [-- NODES… NAMES…]`

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::time::Duration;

use orchestra_core::kind::Pod;
use orchestra_core::kind::pod::WhenUnsatisfiable::{self, DoNotSchedule, ScheduleAnyway};
use orchestra_core::kind::pod::{
    Affinity, PodAffinity, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use orchestra_core::meta::Labels;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Framework, Pending, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Snapshot, SnapshotBuilder};
use rustix::time::{ClockId, clock_gettime};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const PODS: usize = 10_000;

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

fn main() {
    let args = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let (sizes, wanted): (Vec<String>, Vec<String>) =
        args.partition(|arg| arg.parse::<usize>().is_ok());
    let mut sizes: Vec<usize> = sizes.iter().filter_map(|size| size.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 5_000, 15_000, 100_000];
    }
    println!(
        "| batch of {PODS} pods | nodes | CPU a pod | pods a CPU second | page faults a plan |"
    );
    println!("|---|---|---|---|---|");
    for (name, shape) in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|some| name.contains(&**some)) {
            continue;
        }
        for &nodes in &sizes {
            let (snapshot, pending) = cluster(nodes, |n, pod| {
                let app = format!("app-{}", n / 1_000);
                shape(pod, &app)
            });
            measure(name, nodes, &snapshot, &pending);
        }
    }
}

type Shape = fn(Pod, &str) -> Pod;

/// Ten applications of 1,000 pods, and what the pods of one ask of each other.
const SHAPES: [(&str, Shape); 7] = [
    ("basic", |pod, _| pod),
    ("forty shapes in turns", in_turns),
    ("zone spread and host anti-affinity", |pod, app| {
        apart(spread(pod, app, ZONE, DoNotSchedule), app)
    }),
    ("preferred zone spread", |pod, app| {
        spread(pod, app, ZONE, ScheduleAnyway)
    }),
    ("preferred zone and host spread", |pod, app| {
        let pod = spread(pod, app, ZONE, ScheduleAnyway);
        spread(pod, app, HOST, ScheduleAnyway)
    }),
    ("preferred host anti-affinity", rather_apart),
    ("required zone affinity", together),
];

/// The median of 21, or of as many as take five seconds.
fn measure(name: &str, nodes: usize, snapshot: &Snapshot, pending: &[Pending]) {
    let (mut times, mut faults): (Vec<Duration>, Vec<u64>) = (Vec::new(), Vec::new());
    while times.len() < 21 && times.iter().sum::<Duration>() < Duration::from_secs(5) {
        let scheduler = Framework::default();
        let faults_before = page_faults();
        let before = cpu();
        let plan = scheduler.plan(snapshot, pending, INPUTS);
        times.push(cpu() - before);
        faults.push(page_faults() - faults_before);
        assert!(plan.placed.len() > PODS * 99 / 100, "{}", plan.placed.len());
    }
    times.sort_unstable();
    faults.sort_unstable();
    let each = times[times.len() / 2].as_nanos() as f64 / PODS as f64;
    let (per_second, faults) = (1e9 / each, faults[faults.len() / 2]);
    println!("| {name} | {nodes} | {each:.0} ns | {per_second:.0} | {faults} |");
}

/// Pages that the system gave to this process so far; 0 where it does not say.
fn page_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let minor = fields.split_whitespace().nth(7);
    minor.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nodes of 4 cores, 32 GiB and 110 pods on which 1,000 pods run, and pods of 100m and 500 MiB.
fn cluster(nodes: usize, shape: impl Fn(usize, Pod) -> Pod) -> (Snapshot, Vec<Pending>) {
    let text = format!(
        "node n*{nodes} cpu=4 memory=32Gi pods=110\npod p*{} cpu=100m memory=500Mi",
        PODS + 1_000
    );
    let cluster: Cluster = text.parse().unwrap();
    let mut builder = SnapshotBuilder::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        let (name, zone) = (node.metadata.name.clone(), format!("zone-{}", n % 3));
        builder.apply_node(&node.clone().label(HOST, name).label(ZONE, zone));
    }
    let mut pods = cluster.pods.into_iter();
    for (n, mut pod) in pods.by_ref().take(1_000).enumerate() {
        pod.spec.node_name = format!("n-{}", n % nodes + 1).into();
        builder.apply_pod(&pod);
    }
    let pending = pods.enumerate().map(|(n, pod)| shape(n, pod));
    let pending = pending
        .map(|pod| Pending::of(&pod, Timestamp::EPOCH))
        .collect();
    (builder.snapshot(Revision(1)), pending)
}

/// Each asks a little more than the last, forty times, and then from the beginning.
fn in_turns(mut pod: Pod, _: &str) -> Pod {
    let nth = (pod.metadata.uid.0 % 40) as i64;
    let requests = &mut pod.spec.containers[0].resources.requests;
    requests.insert("cpu".into(), Quantity::from_milli(80 + nth));
    pod
}

fn of(app: &str) -> LabelSelector {
    LabelSelector::of(Labels::from([("app".into(), app.into())]))
}

fn spread(pod: Pod, app: &str, key: &str, when_unsatisfiable: WhenUnsatisfiable) -> Pod {
    let mut pod = pod.label("app", app);
    let rules = &mut pod.spec.topology_spread_constraints;
    rules.push(TopologySpreadConstraint {
        max_skew: 5,
        topology_key: key.into(),
        when_unsatisfiable,
        label_selector: Some(of(app)),
        ..TopologySpreadConstraint::default()
    });
    pod
}

fn term(app: &str, key: &str) -> PodAffinityTerm {
    PodAffinityTerm {
        topology_key: key.into(),
        label_selector: Some(of(app)),
        ..PodAffinityTerm::default()
    }
}

/// No two of one application on a host.
fn apart(pod: Pod, app: &str) -> Pod {
    let required = vec![term(app, HOST)];
    keep_away(pod, app, required, Vec::new())
}

fn rather_apart(pod: Pod, app: &str) -> Pod {
    let preferred = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: term(app, HOST),
    };
    keep_away(pod, app, Vec::new(), vec![preferred])
}

fn keep_away(
    pod: Pod,
    app: &str,
    required: Vec<PodAffinityTerm>,
    preferred: Vec<WeightedPodAffinityTerm>,
) -> Pod {
    let mut pod = pod.label("app", app);
    pod.spec.affinity = Some(Box::new(Affinity {
        pod_anti_affinity: Some(PodAffinity {
            required,
            preferred,
        }),
        ..Affinity::default()
    }));
    pod
}

/// All of one application in one zone.
fn together(pod: Pod, app: &str) -> Pod {
    let mut pod = pod.label("app", app);
    pod.spec.affinity = Some(Box::new(Affinity {
        pod_affinity: Some(PodAffinity {
            required: vec![term(app, ZONE)],
            ..PodAffinity::default()
        }),
        ..Affinity::default()
    }));
    pod
}
