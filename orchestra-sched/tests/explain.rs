//! What explanations say, word for word, and that what they advise helps.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::kind::pod::Toleration;
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::{Outlook, placement};
use orchestra_sched::fits::{self, Obstacle};
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{Cycle, Filter, PodFields, Reach};
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler, filter};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Ledger, NodeIx, Rows, SnapshotBuilder};
use proptest::prelude::*;

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

fn report(text: &str) -> String {
    let cluster: Cluster = text.parse().unwrap();
    let plan = Framework::default().plan(&cluster.snapshot(), &cluster.pending(), INPUTS);
    plan.unplaced[0].why.report().to_string()
}

#[test]
fn a_refusal_in_full() {
    let text = "
        node node*3 cpu=2 memory=4Gi
        node gpu*2 cpu=8 memory=4Gi taint=dedicated=gpu:NoSchedule taint=cold=:NoExecute
        node far cpu=8 memory=1Gi closed
        pod a on=node-1 cpu=1500m
        pod b on=node-2 cpu=1
        pod c on=node-3 cpu=2
        pod web cpu=1500m memory=2Gi";
    assert_eq!(
        report(text),
        "0/6 nodes fit: 3 lack cpu (nearest node-2 misses 500m), \
         2 have untolerated taint dedicated=gpu, 1 is closed to new pods\n\
         \x20 NodeResourcesFit turns down 4 (3 by itself, 1 whichever pods leave)\n\
         \x20 TaintToleration turns down 2 (all 2 by itself, 2 whichever pods leave)\n\
         \x20 NodeUnschedulable turns down 1 (1 whichever pods leave)\n\
         not now: where only pods are in the way, it waits\n\
         \x20 it would run on node-2, with 500m more cpu\n\
         \x20 it would run on gpu-1, tolerating dedicated=gpu and tolerating cold\n\
         \x20 it would run on far, opened to new pods and with 1Gi more memory\n\
         looked at again when a node is added or a node grows or a node's taints change or a node \
         is opened to new pods or a pod leaves or the pod itself changes"
    );
}

#[test]
fn never_is_said_and_a_label_is_advised() {
    let text = "
        node a cpu=2 label=disk=slow
        node b cpu=1 label=disk=fast
        pod db cpu=1500m select=disk=fast select=zone=x";
    assert_eq!(
        report(text),
        "0/2 nodes fit: 1 lacks label disk=fast, 1 lacks label zone=x\n\
         \x20 NodeAffinity turns down 2 (1 by itself, 2 whichever pods leave)\n\
         \x20 NodeResourcesFit turns down 1 (1 whichever pods leave)\n\
         never on these nodes: a node, or what it asks, has to change\n\
         \x20 it would run on a, labelled disk=fast and labelled zone=x\n\
         \x20 it would run on b, labelled zone=x and with 500m more cpu\n\
         looked at again when a node is added or a node's labels change or the pod itself changes"
    );
}

#[test]
fn a_placed_pod_has_its_scores_and_those_of_the_next() {
    let text = "
        node a cpu=4 memory=8Gi
        node b cpu=4 memory=8Gi taint=old=:PreferNoSchedule
        node c cpu=2 memory=8Gi
        node d cpu=500m memory=8Gi
        pod busy on=a cpu=2 memory=1Gi
        pod web on=a cpu=1 memory=1Gi";
    let cluster: Cluster = text.parse().unwrap();
    let web = cluster
        .pods
        .iter()
        .find(|pod| pod.metadata.name == "web")
        .unwrap();
    let pending = Pending::of(web, Timestamp::EPOCH);
    let ranking = placement(
        &Profile::default(),
        &cluster.snapshot(),
        &pending,
        Timestamp::EPOCH,
    );
    assert_eq!(
        ranking.to_string(),
        "3/4 nodes fit\n\
         a has 425: TaintToleration 100 x 3, LeastAllocated 50, BalancedAllocation 75\n\
         before c has 449: TaintToleration 100 x 3, LeastAllocated 68, BalancedAllocation 81\n\
         before b has 174: TaintToleration 0 x 3, LeastAllocated 81, BalancedAllocation 93"
    );
    // The same sum that a plan gives.
    let mut asked = web.clone();
    asked.spec.node_name = "".into();
    let mut builder = cluster.builder();
    builder.apply_pod(&asked);
    let waiting = [Pending::of(&asked, Timestamp::EPOCH)];
    let plan = Framework::default().plan(&builder.snapshot(Revision(1)), &waiting, INPUTS);
    assert_eq!(plan.placed[0].node, "c");
    let best = placement(
        &Profile::default(),
        &builder.snapshot(Revision(1)),
        &waiting[0],
        INPUTS.now,
    );
    assert_eq!(best.chosen.unwrap().total, plan.placed[0].score);
}

/// Does to the pod and the node what a remedy says. `None` if it is not in our hands.
fn carry_out(
    obstacles: &[Obstacle],
    node: &str,
    pod: &Pending,
    builder: &mut SnapshotBuilder,
) -> Option<Pending> {
    let mut demand = (*pod.demand).clone();
    let snapshot = builder.snapshot(Revision(1));
    let row = snapshot.node(snapshot.find(node).unwrap());
    let mut facts = row.facts().clone();
    for obstacle in obstacles {
        match obstacle {
            Obstacle::Closed => facts.unschedulable = false,
            Obstacle::Taint(taint) => demand.tolerations.push(Toleration {
                effect: Some(taint.effect),
                ..match taint.value.as_str() {
                    "" => Toleration::exists(taint.key.clone()),
                    value => Toleration::equal(taint.key.clone(), value),
                }
            }),
            Obstacle::NodeSelector { key, value } => {
                facts.labels.insert(key.clone(), value.clone());
            }
            Obstacle::Lacks { resource, .. } => {
                let more = obstacle.missing().unwrap();
                match resource.as_str() {
                    "pods" => facts.pods += more,
                    "cpu" => facts.allocatable.cpu_milli += more,
                    "memory" => facts.allocatable.memory += more,
                    "ephemeral-storage" => facts.allocatable.storage += more,
                    other => *facts.allocatable.extended.entry(other.into()).or_default() += more,
                }
            }
            Obstacle::Port(port) => {
                let holds = |pod: &&Arc<orchestra_sched::snapshot::Running>| {
                    pod.demand
                        .host_ports
                        .iter()
                        .any(|held| held.conflicts(port))
                };
                for running in row.pods().iter().filter(holds) {
                    builder.remove_pod(&running.id);
                }
            }
            _ => return None,
        }
    }
    builder.set_node(facts);
    Some(Pending {
        demand: Arc::new(demand),
        ..pod.clone()
    })
}

proptest! {
    #[test]
    fn what_is_advised_is_enough((nodes, pods) in random::cluster()) {
        let mut pods = pods;
        // A label may bring a node into a domain where others have their say.
        for pod in &mut pods {
            pod.spec.topology_spread_constraints.clear();
            if let Some(affinity) = &mut pod.spec.affinity {
                affinity.pod_affinity = None;
                affinity.pod_anti_affinity = None;
            }
        }
        let mut builder = SnapshotBuilder::new();
        for node in &nodes {
            builder.apply_node(node);
        }
        for pod in &pods {
            builder.apply_pod(pod);
        }
        let waiting = pods.iter().filter(|pod| pod.node_name().is_none());
        // Nobody but the one is placed, so that the advice is about the cluster as it is.
        for pod in waiting.map(|pod: &Pod| Pending::of(pod, Timestamp::EPOCH)) {
            let scheduler = Framework::new(Profile::default().without_preemption());
            let plan = scheduler.plan(&builder.snapshot(Revision(1)), std::slice::from_ref(&pod), INPUTS);
            let Some(lost) = plan.unplaced.first() else { continue };
            let why = &lost.why;
            prop_assert_eq!(why.remedies.is_empty(), nodes.is_empty());
            let lasts = |remedy: &orchestra_sched::explain::Remedy| remedy.obstacles.iter().any(Obstacle::lasts);
            if why.outlook == Outlook::Never {
                prop_assert!(why.remedies.iter().all(lasts));
            }
            for rule in &why.rules {
                prop_assert!(rule.alone <= rule.nodes && rule.lasting <= rule.nodes && rule.nodes <= nodes.len());
            }
            for remedy in &why.remedies {
                let mut changed = builder.clone();
                if let Some(pod) = carry_out(&remedy.obstacles, &remedy.node, &pod, &mut changed) {
                    let fits = fits::fits(&changed.snapshot(Revision(2)), &remedy.node, &pod.demand);
                    prop_assert!(fits.is_ok(), "{} was not enough: {:?}", remedy, fits);
                }
            }
        }
    }
}

/// The rule as it is, without saying that it is nothing but arithmetic.
#[derive(Debug)]
struct Plain(filter::NodeResourcesFit);

impl Filter for Plain {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn depends(&self) -> PodFields {
        self.0.depends()
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        self.0.reach(cycle)
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        self.0.filter(cycle, rows, fits);
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        self.0.obstacles(cycle, node)
    }
}

proptest! {
    /// Nodes that merely have too little are counted from the columns; that never shows.
    #[test]
    fn counting_from_columns_says_what_a_close_look_does(
        sizes in proptest::collection::vec((0u32..6, 0u32..6, 0u32..3, 0u8..6, 0u8..9), 1..40),
        asked in (0u32..8, 0u32..8, 0u32..2),
    ) {
        let mut text = String::new();
        for (n, (cpu, memory, pods, closed, gpu)) in sizes.iter().enumerate() {
            // Names in another order than the rows.
            let (name, closed) = (n * 17 % 41, if *closed == 0 { " closed" } else { "" });
            let gpu = if *gpu == 0 { " devices=1" } else { "" };
            let node = format!("node n{name} cpu={cpu} memory={memory}Gi pods={pods}{gpu}{closed}\n");
            text.push_str(&node);
        }
        let (cpu, memory, gpus) = asked;
        let gpus = if gpus > 0 { " devices=1" } else { "" };
        text.push_str(&format!("pod p cpu={cpu} memory={memory}Gi{gpus}\n"));
        let cluster: Cluster = text.parse().unwrap();
        let (snapshot, pending) = (cluster.snapshot(), cluster.pending());
        let why = |profile: Profile| {
            let ledger = Ledger::open(&snapshot);
            Framework::new(profile).explain(&ledger, &pending[0], Timestamp::EPOCH)
        };
        let rest = || {
            Profile::empty()
                .filter(filter::NodeUnschedulable)
                .filter(filter::Accelerators)
        };
        let quick = why(rest().filter(filter::NodeResourcesFit));
        prop_assert_eq!(&quick, &why(rest().filter(Plain(filter::NodeResourcesFit))));
    }
}
