//! Games on small traces: against a plain twin, and what tables that cannot be read say.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::place::packing::{Learning, Workload, orchestra};
use orchestra_sched::place::plugin::{Cycle, DeviceChoice, EachRow, PodFields, Reach, Scale};
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler as _, filter};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, NodeIx, PodId, SnapshotBuilder};
use orchestra_sched::trace::{Learner, Outcome, Policies, Policy, Trace, play};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const MODELS: [&str; 3] = ["T4", "P100", "G2"];

#[derive(Clone, Debug)]
struct PlainNode {
    cpu: i64,
    memory: i64,
    devices: Vec<i64>,
    model: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct PlainPod {
    cpu: i64,
    memory: i64,
    count: i64,
    milli: i64,
    spec: &'static str,
}

impl PlainPod {
    fn takes(&self, model: &str) -> bool {
        self.spec.is_empty() || self.spec.split('|').any(|wanted| wanted == model)
    }
}

impl PlainNode {
    fn fits(&self, pod: &PlainPod) -> bool {
        let free = self
            .devices
            .iter()
            .filter(|&&free| free >= pod.milli)
            .count() as i64;
        self.cpu >= pod.cpu
            && self.memory >= pod.memory
            && (pod.count == 0 || (free >= pod.count && pod.takes(self.model)))
    }

    /// Every set of devices that would do, lowest numbers first.
    fn sets(&self, pod: &PlainPod) -> Vec<Vec<usize>> {
        let fitting: Vec<usize> = (0..self.devices.len())
            .filter(|&at| self.devices[at] >= pod.milli)
            .collect();
        match pod.count {
            0 => vec![vec![]],
            1 if pod.milli < 1_000 => fitting.into_iter().map(|at| vec![at]).collect(),
            count => vec![fitting.into_iter().take(count as usize).collect()],
        }
    }

    fn with(&self, pod: &PlainPod, set: &[usize]) -> Self {
        let mut node = self.clone();
        node.cpu -= pod.cpu;
        node.memory -= pod.memory;
        for &at in set {
            node.devices[at] -= pod.milli;
        }
        node
    }

    /// The tightest device for a share, the first free ones for others.
    fn usual(&self, pod: &PlainPod) -> Vec<usize> {
        let sets = self.sets(pod);
        let tight = |set: &&Vec<usize>| set.first().map(|&at| self.devices[at]);
        sets.iter().min_by_key(tight).unwrap().clone()
    }

    fn idle(&self) -> i64 {
        self.devices.iter().sum()
    }
}

/// The commonest kinds up to 95 % of the pods, with their shares.
fn target(pods: &[PlainPod]) -> Vec<(PlainPod, f64)> {
    let mut counts: BTreeMap<(i64, i64, i64, &str), (usize, PlainPod)> = BTreeMap::new();
    for pod in pods {
        let key = (pod.cpu, pod.milli, pod.count, pod.spec);
        counts.entry(key).or_insert((0, *pod)).0 += 1;
    }
    let mut order: Vec<_> = counts.into_iter().collect();
    order.sort_by(|a, b| (b.1.0, &b.0).cmp(&(a.1.0, &a.0)));
    let all = pods.len() as f64;
    let (mut seen, mut kinds) = (0.0, Vec::new());
    for (_, (count, pod)) in order {
        if seen >= 95.0 * all / 100.0 {
            break;
        }
        seen += count as f64;
        kinds.push((pod, count as f64 / all));
    }
    let share = |(pod, share): (PlainPod, f64)| (pod, share / (seen / all));
    kinds.into_iter().map(share).collect()
}

/// Added up by what is in the way: CPU and devices, devices, CPU, nothing but that no device is
/// wanted (and with too little CPU), the model.
fn fragment(node: &PlainNode, target: &[(PlainPod, f64)]) -> f64 {
    let mut sums = [0.0; 6];
    for (kind, share) in target {
        let enough = |free: &&i64| **free >= kind.milli;
        let devices = node.devices.iter().filter(enough).count() as i64 >= kind.count;
        let cpu = node.cpu >= kind.cpu;
        let small: i64 = node.devices.iter().filter(|free| !enough(free)).sum();
        let (way, lost) = if kind.count == 0 {
            (if cpu { 3 } else { 4 }, node.idle())
        } else if !kind.takes(node.model) {
            (5, node.idle())
        } else if cpu && devices {
            (1, small)
        } else if devices {
            (2, node.idle())
        } else {
            (if cpu { 1 } else { 0 }, node.idle())
        };
        sums[way] += share * lost as f64;
    }
    sums.iter().sum()
}

/// A score in hundredths, rounded down, and the devices.
fn plain_score(
    policy: &str,
    node: &PlainNode,
    pod: &PlainPod,
    most: (f64, f64),
    target: &[(PlainPod, f64)],
) -> (i64, Vec<usize>) {
    // What is a whole number but for rounding is one.
    let floor = |score: f64| (score + 1e-9).floor() as i64;
    let asked = (pod.count * pod.milli) as f64;
    match policy {
        "best-fit" => {
            let left = node.with(pod, &node.usual(pod));
            let part = left.cpu as f64 / most.0 / 2.0 + left.idle() as f64 / most.1 / 2.0;
            (floor((1.0 - part) * 100.0), node.usual(pod))
        }
        "dot-product" => {
            let dot = node.cpu as f64 * pod.cpu as f64 / most.0 / most.0
                + node.idle() as f64 * asked / most.1 / most.1;
            (floor((1.0 - dot / 2.0) * 100.0), node.usual(pod))
        }
        "fgd" => {
            let before = fragment(node, target);
            let score = |set: &Vec<usize>| {
                let shrinks = before - fragment(&node.with(pod, set), target);
                (1.0 / (1.0 + (-shrinks / 1_000.0).exp()) * 100.0).floor() as i64
            };
            let mut best: Option<(i64, Vec<usize>)> = None;
            for set in node.sets(pod) {
                if best.as_ref().is_none_or(|(other, _)| score(&set) > *other) {
                    best = Some((score(&set), set));
                }
            }
            best.unwrap()
        }
        _ => (0, node.usual(pod)),
    }
}

/// Rows `pod,node,gpus` as a plain look at every node for every pod gives them.
fn plain_game(policy: &str, nodes: &[PlainNode], pods: &[PlainPod]) -> Vec<String> {
    let most = (
        nodes.iter().map(|node| node.cpu).max().unwrap_or(0).max(1) as f64,
        nodes.iter().map(PlainNode::idle).max().unwrap_or(0).max(1) as f64,
    );
    let target = target(pods);
    let mut nodes = nodes.to_vec();
    let mut rows = Vec::new();
    for pod in pods {
        let mut best: Option<(i64, usize, Vec<usize>)> = None;
        for (at, node) in nodes.iter().enumerate().filter(|(_, node)| node.fits(pod)) {
            let (score, set) = plain_score(policy, node, pod, most, &target);
            if best.as_ref().is_none_or(|(other, _, _)| score > *other) {
                best = Some((score, at, set));
            }
        }
        rows.push(match best {
            None => "unscheduled".to_owned(),
            Some((_, at, set)) => {
                nodes[at] = nodes[at].with(pod, &set);
                let set: Vec<String> = set.iter().map(usize::to_string).collect();
                format!("n{at} {}", set.join("-"))
            }
        });
    }
    rows
}

fn rows(outcome: &Outcome) -> Vec<String> {
    let row = |place: &Option<orchestra_sched::trace::Place>| match place {
        None => "unscheduled".to_owned(),
        Some(place) => format!("{} {}", place.node, place.devices),
    };
    outcome.places.iter().map(row).collect()
}

fn trace(nodes: &[PlainNode], pods: &[PlainPod]) -> Trace {
    let mut node_table = String::from("sn,cpu_milli,memory_mib,gpu,model\n");
    let mut ranks = String::from("sn,tie_rank\n");
    for (at, node) in nodes.iter().enumerate() {
        let (devices, model) = (node.devices.len(), node.model);
        let _ = writeln!(
            node_table,
            "n{at},{},{},{devices},{model}",
            node.cpu, node.memory
        );
        let _ = writeln!(ranks, "n{at},{at}");
    }
    let mut pod_table = String::from("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n");
    for (at, pod) in pods.iter().enumerate() {
        let PlainPod {
            cpu,
            memory,
            count,
            milli,
            spec,
        } = pod;
        let _ = writeln!(pod_table, "p{at},{cpu},{memory},{count},{milli},{spec}");
    }
    Trace::openb(&node_table, &pod_table)
        .unwrap()
        .with_ranks(&ranks)
        .unwrap()
}

fn nodes() -> impl Strategy<Value = Vec<PlainNode>> {
    let node = (1i64..20, 1i64..20, 0usize..5, 0usize..3);
    let node = node.prop_map(|(cpu, memory, devices, model)| PlainNode {
        cpu: cpu * 1_000,
        memory: memory * 1_000,
        devices: vec![1_000; devices],
        model: MODELS[model],
    });
    vec(node, 1..6)
}

fn pods() -> impl Strategy<Value = Vec<PlainPod>> {
    vec(pod(), 1..50)
}

fn pod() -> impl Strategy<Value = PlainPod> {
    let milli = prop_oneof![Just(1_000i64), Just(470), Just(810), 1i64..1_000];
    let pod = (0i64..6, 0i64..6, 0i64..4, milli, 0usize..8);
    pod.prop_map(|(cpu, memory, count, milli, spec)| PlainPod {
        cpu: cpu * 700,
        memory: memory * 900,
        count,
        milli: match count {
            0 => 0,
            1 => milli,
            _ => 1_000,
        },
        spec: match (count, spec) {
            (1.., 0) => "T4",
            (1.., 1) => "P100|G2",
            (1.., 2) => "G2|P100|P100",
            _ => "",
        },
    })
}

proptest! {
    #[test]
    fn games_are_what_a_plain_look_at_every_node_gives(nodes in nodes(), pods in pods()) {
        let trace = trace(&nodes, &pods);
        for name in ["first-fit", "best-fit", "dot-product", "fgd"] {
            let policy = Policies::known().make(name, &trace).unwrap();
            let outcome = play(&trace, &policy, 1, |_| {});
            prop_assert_eq!(rows(&outcome), plain_game(name, &nodes, &pods), "{}", name);
            prop_assert_eq!(outcome.spurned, 0);
        }
    }
}

proptest! {
    // Tables that take a while to compute, for each.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 32))]

    /// Whatever the policy: nothing beyond capacity, nobody left out who fitted, the account right,
    /// and the same again with the same seed.
    #[test]
    fn every_policy_keeps_the_rules(nodes in nodes(), pods in pods(), seed in 0u64..4) {
        let trace = trace(&nodes, &pods);
        for name in Policies::known().names() {
            let policy = Policies::known().make(name, &trace).unwrap();
            let outcome = play(&trace, &policy, seed, |_| {});
            let mut left = nodes.clone();
            let mut used = 0;
            for (pod, place) in pods.iter().zip(&outcome.places) {
                let Some(place) = place else {
                    prop_assert!(!left.iter().any(|node| node.fits(pod)), "{} spurns {:?}", name, pod);
                    continue;
                };
                let at: usize = place.node[1..].parse().unwrap();
                let set: Vec<usize> = place.devices.iter().collect();
                prop_assert!(left[at].fits(pod) && set.len() as i64 == pod.count, "{}", name);
                left[at] = left[at].with(pod, &set);
                prop_assert!(left[at].devices.iter().all(|&free| free >= 0), "{}", name);
                used += pod.count * pod.milli;
            }
            prop_assert_eq!(outcome.points.last().map_or(0, |point| point.used_milli), used);
            prop_assert_eq!(&outcome, &play(&trace, &policy, seed, |_| {}));
        }
    }

    /// Nothing of the future is used: whatever comes later, and whether anything does, what came before was
    /// placed the same; with a workload to go by and without.
    #[test]
    fn a_game_cut_short_went_the_same_up_to_there(
        nodes in nodes(),
        // Each kind costs a column of every table, and pods of a trace are of few kinds.
        kinds in vec(pod(), 1..7),
        picks in [vec(any::<Index>(), 33..100), vec(any::<Index>(), 1..100), vec(any::<Index>(), 1..100)],
    ) {
        let [first, later, expected] = picks.map(|picks| {
            let pods = picks.iter().map(|pick| *pick.get(&kinds));
            pods.collect::<Vec<PlainPod>>()
        });
        let games = |pods: &[PlainPod]| {
            let mut trace = trace(&nodes, pods);
            trace.workload = Workload::default();
            let unknown = play(&trace, &Policies::known().make("orchestra", &trace).unwrap(), 1, |_| {});
            trace.workload = workload(&expected);
            let known = play(&trace, &Policies::known().make("orchestra", &trace).unwrap(), 1, |_| {});
            [rows(&unknown), rows(&known)]
        };
        let short = games(&first);
        let long = games(&[first.clone(), later].concat());
        for (short, long) in short.iter().zip(&long) {
            prop_assert_eq!(short, &long[..first.len()]);
        }
    }
}

fn workload(pods: &[PlainPod]) -> Workload {
    let node = PlainNode {
        cpu: 1,
        memory: 1,
        devices: vec![],
        model: "",
    };
    let trace = trace(&[node], pods);
    Workload::of(trace.pods.iter().map(|pod| &*pod.demand))
}

/// Plays first fit until `after` pods have come, and then by `then`.
#[derive(Clone, Debug)]
struct Later {
    after: usize,
    then: &'static str,
    trace: Arc<Trace>,
}

impl Learner for Later {
    fn fork(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn arrive(&mut self, _: &Demand) -> Option<Policy> {
        let now = self.after == 0;
        self.after = self.after.wrapping_sub(1);
        now.then(|| Policies::known().make(self.then, &self.trace).unwrap())
    }
}

/// A learner's answer holds from the pod that it was told of, and no game leaves a trace in the policy.
#[test]
fn a_learner_changes_the_policy_from_the_pod_it_is_told_of() {
    let trace = Arc::new(Trace::generated(3));
    let alone = |name: &str| {
        let policy = Policies::known().make(name, &trace).unwrap();
        rows(&play(&trace, &policy, 1, |_| {}))
    };
    let (first_fit, best_fit) = (alone("first-fit"), alone("best-fit"));
    let game = |after| {
        let trace = Arc::clone(&trace);
        let then = "best-fit";
        let policy = Policy::first_fit("later").learner(Later {
            after,
            then,
            trace: Arc::clone(&trace),
        });
        let game = rows(&play(&trace, &policy, 1, |_| {}));
        assert_eq!(game, rows(&play(&trace, &policy, 1, |_| {})));
        game
    };
    assert_ne!(first_fit, best_fit);
    assert_eq!(game(0), best_fit);
    assert_eq!(game(usize::MAX), first_fit);
    let between = game(40);
    assert_eq!(between[..40], first_fit[..40]);
    assert_ne!(between, first_fit);
}

/// Where pods come as expected ours stays as it is; where others come it learns.
#[test]
fn ours_learns_where_what_comes_is_not_what_was_expected() {
    let other = workload(
        &[PlainPod {
            cpu: 4_000,
            memory: 15_000,
            count: 1,
            milli: 160,
            spec: "",
        }; 1_000],
    );
    for seed in 1..3 {
        let trace = Trace::generated(seed);
        let lessons = |expected: Workload| {
            let mut learning = Learning::new(expected, &trace.nodes);
            let arrive =
                |pod: &orchestra_sched::trace::TracePod| learning.arrive(&pod.demand).is_some();
            trace
                .pods
                .iter()
                .map(arrive)
                .filter(|learned| *learned)
                .count()
        };
        // Looks at 32, 64 and 128 pods.
        assert!((128..256).contains(&trace.pods.len()));
        assert_eq!(lessons(trace.workload.clone()), 0);
        assert_eq!(lessons(other.clone()), 3);
        assert_eq!(lessons(Workload::default()), 3);
    }
    let trace = Trace::generated(7);
    let fixed = orchestra(&other, &trace.nodes);
    let fixed = Policy::scored("fixed", fixed.clone()).devices(fixed);
    let learning = Learning::new(other, &trace.nodes);
    let start = learning.packing();
    let learning = Policy::scored("learning", start.clone())
        .devices(start)
        .learner(learning);
    let used = |policy: &Policy| play(&trace, policy, 1, |_| {}).allocated_percent();
    let (fixed, learning) = (used(&fixed), used(&learning));
    assert!(learning > fixed, "{learning} {fixed}");
}

/// A scorer that looks at the whole cluster, and one that looks at which pod it is, are asked anew for
/// every pod.
#[test]
fn what_looks_further_is_asked_each_time() {
    let trace = Trace::generated(3);
    let by = |reach, depends| {
        let scorer = EachRow::new("Free", depends, reach, Scale::AsIs, |_, rows, i| {
            (rows.devices[i].free_milli() / 100) as u32
        });
        play(&trace, &Policy::scored("free", scorer), 1, |_| {})
    };
    let row = by(Reach::Node, PodFields::REQUESTS);
    assert_eq!(row, by(Reach::Cluster, PodFields::REQUESTS));
    assert_eq!(row, by(Reach::Node, PodFields::ALL));
}

#[test]
fn tables_that_cannot_be_read_say_where() {
    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn0,1000,1000,1,T4\n";
    const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np0,1,1,1,500,\n";
    let nodes = |row: &str| {
        Trace::openb(&format!("{NODES}{row}"), PODS)
            .unwrap_err()
            .to_string()
    };
    let pods = |row: &str| {
        Trace::openb(NODES, &format!("{PODS}{row}"))
            .unwrap_err()
            .to_string()
    };
    let ranks = |text: &str| {
        let trace = Trace::openb(NODES, PODS).unwrap();
        trace.with_ranks(text).unwrap_err().to_string()
    };
    let said = [
        nodes("n1,x,1000,1,T4"),
        nodes("n1,1000,-5,1,T4"),
        nodes("n1,1000,1000,17,T4"),
        nodes("n0,1000,1000,1,T4"),
        nodes("n1,1000,1000"),
        pods("\np1,1,1,1.5,500,"),
        pods("p1,1,1,1,0,"),
        pods(",1,1,1,500,"),
        pods("p1,1,99999999999999999999,1,500,"),
        Trace::openb("", PODS).unwrap_err().to_string(),
        Trace::openb("sn,cpu_milli\nn0,1\n", PODS)
            .unwrap_err()
            .to_string(),
        Trace::openb("\u{feff}sn,cpu_milli\n\n", PODS)
            .unwrap_err()
            .to_string(),
        ranks("sn,tie_rank\nn7,1"),
        ranks("sn,tie_rank\nn0,first"),
    ];
    let expected = [
        r#"nodes, line 3, column 2 (cpu_milli): "x" is no whole number from 0 to 9007199254740992"#,
        r#"nodes, line 3, column 3 (memory_mib): "-5" is no whole number from 0 to 8589934592"#,
        r#"nodes, line 3, column 4 (gpu): "17" is no whole number from 0 to 16"#,
        r#"nodes, line 3, column 1 (sn): "n0" is no name of its own; name each node once"#,
        r#"nodes, line 3: "n1,1000,1000" has 3 fields; write 5, as many as the header"#,
        r#"pods, line 4, column 4 (num_gpu): "1.5" is no whole number from 0 to 4294967295"#,
        r#"pods, line 3, column 5 (gpu_milli): "0" of a device is nothing; write 1 to 1000"#,
        r#"pods, line 3, column 1 (name): "" is no name of its own; name each pod once"#,
        r#"pods, line 3, column 3 (memory_mib): "99999999999999999999" is no whole number from 0 to 8589934592"#,
        r#"nodes, line 1: "" is no header; begin with the names of the columns"#,
        r#"nodes, line 1: "sn,cpu_milli" lacks a column memory_mib; add it"#,
        r#"nodes, line 1: "sn,cpu_milli" is all there is; write at least one row below it"#,
        r#"tie ranks, line 2, column 1 (sn): "n7" is no node of this trace"#,
        r#"tie ranks, line 2, column 2 (tie_rank): "first" is no whole number from 0 to 4294967295"#,
    ];
    assert_eq!(said, expected);
}

/// The packing rules stand in a profile of the ordinary framework as well, and declare what they depend
/// on: asked as seldom as they say, they plan what they plan when asked about everything.
#[test]
fn a_profile_packs_too() {
    let trace = Trace::generated(5);
    let mut builder = SnapshotBuilder::new();
    for node in &trace.nodes {
        builder.set_node(node.clone());
    }
    let pending: Vec<Pending> = trace
        .pods
        .iter()
        .enumerate()
        .map(|(nth, pod)| Pending {
            id: PodId {
                uid: Uid(nth as u128 + 1),
                ..PodId::default()
            },
            arrived: Timestamp::from_secs(nth as i64),
            demand: Arc::clone(&pod.demand),
            ..Pending::default()
        })
        .collect();
    let orchestra = orchestra(&trace.workload, &trace.nodes);
    let framework = || {
        let profile = Profile::empty()
            .filter(filter::NodeResourcesFit)
            .filter(filter::Accelerators)
            .scorer(orchestra.clone(), 1)
            .devices(orchestra.clone());
        Framework::new(profile)
    };
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(1),
    };
    let snapshot = builder.snapshot(Revision(1));
    let plan = framework().plan(&snapshot, &pending, inputs);
    assert_eq!(
        plan,
        framework().unshared().plan(&snapshot, &pending, inputs)
    );
    let placed = |pod: &Pending| plan.placed.iter().any(|placed| placed.pod == pod.id);
    let milli = |pod: &Pending| {
        let ask = pod.demand.accelerators.as_ref();
        ask.map_or(0, |ask| i64::from(ask.count) * i64::from(ask.milli))
    };
    let used: i64 = pending.iter().filter(|pod| placed(pod)).map(milli).sum();
    assert!(used * 100 > trace.device_milli() * 94, "{used}");
}

#[test]
fn a_small_trace_ends_as_it_did() {
    let trace = Trace::generated(7);
    let line = |name: &str| {
        let policy = Policies::known().make(name, &trace).unwrap();
        let outcome = play(&trace, &policy, 1, |_| {});
        let last = outcome.points.last().unwrap();
        format!(
            "{name}: {:.2} % used, {:.2} % in fragments, {} of {} unplaced",
            outcome.allocated_percent(),
            outcome.fragment_percent(last),
            outcome.unplaced.total(),
            trace.pods.len()
        )
    };
    let lines: Vec<String> = Policies::known().names().map(line).collect();
    assert_eq!(
        lines,
        [
            "best-fit: 93.91 % used, 6.02 % in fragments, 41 of 189 unplaced",
            "dot-product: 93.49 % used, 6.40 % in fragments, 41 of 189 unplaced",
            "fgd: 94.90 % used, 4.83 % in fragments, 33 of 189 unplaced",
            "first-fit: 94.90 % used, 4.85 % in fragments, 33 of 189 unplaced",
            "gpu-clustering: 94.21 % used, 5.56 % in fragments, 33 of 189 unplaced",
            "gpu-packing: 94.69 % used, 5.10 % in fragments, 41 of 189 unplaced",
            "orchestra: 96.20 % used, 3.73 % in fragments, 37 of 189 unplaced",
            "random: 88.97 % used, 10.52 % in fragments, 32 of 189 unplaced",
        ]
    );
}

#[test]
fn an_unknown_policy_is_told_what_there_is() {
    let error = Policies::known()
        .make("bestfit", &Trace::generated(1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no policy \"bestfit\"; choose among best-fit, dot-product, fgd, first-fit, \
         gpu-clustering, gpu-packing, orchestra, random"
    );
}

/// What a policy of one's own may do: it panics for pods without devices, and does not know which devices
/// to take.
#[test]
fn a_policy_that_panics_ends_no_game_and_is_named() {
    #[derive(Debug)]
    struct Lost;
    impl DeviceChoice for Lost {
        fn choose(&self, _: &Cycle<'_>, _: NodeIx) -> Option<DeviceSet> {
            panic!("no devices for this one")
        }
    }
    impl Learner for Lost {
        fn fork(&self) -> Box<dyn Learner> {
            Box::new(Self)
        }

        fn arrive(&mut self, _: &Demand) -> Option<Policy> {
            panic!("learnt nothing")
        }
    }
    let trace = Trace::generated(7);
    let touchy = |reach| {
        let depends = PodFields::REQUESTS.with(PodFields::ACCELERATORS);
        EachRow::new("Touchy", depends, reach, Scale::AsIs, |cycle, _, _| {
            assert!(
                cycle.pod.demand.accelerators.is_some(),
                "no scores for this one"
            );
            0
        })
    };
    let plain = Policies::known().make("first-fit", &trace).unwrap();
    let plain = play(&trace, &plain, 1, |_| {});
    assert_eq!(plain.faults, []);
    for reach in [Reach::Node, Reach::Cluster] {
        let policy = Policy::scored("touchy", touchy(reach))
            .devices(Lost)
            .learner(Lost);
        let outcome = play(&trace, &policy, 1, |_| {});
        // All score 0, and the tightest devices are taken.
        assert_eq!(outcome.places, plain.places);
        let faults = outcome.faults.iter();
        let mut faults: Vec<_> = faults.map(|it| (it.plugin, it.note.as_str())).collect();
        faults.sort_unstable();
        assert_eq!(
            faults,
            [
                ("DeviceChoice", "it panicked: no devices for this one"),
                ("Learner", "it panicked: learnt nothing"),
                ("Touchy", "it panicked: no scores for this one")
            ]
        );
    }
}
