//! What people read of a plan.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use orchestra_core::kind::Node;
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::Outlook;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Changes, Framework, Plan, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

fn plan(framework: &Framework, text: &str) -> Plan {
    let cluster: Cluster = text.parse().unwrap();
    framework.plan(&cluster.snapshot(), &cluster.pending(), INPUTS)
}

fn why(text: &str) -> (String, Outlook, Changes) {
    let plan = plan(&Framework::default(), text);
    let why = &plan.unplaced[0].why;
    (why.to_string(), why.outlook, why.helped_by)
}

#[test]
fn explanations_read_as_a_line_and_know_what_would_help() {
    let always = Changes::NODE_ADDED.with(Changes::POD_ITSELF);
    let full = "
        node node*3 cpu=2 memory=4Gi
        node gpu*2 cpu=8 memory=4Gi taint=dedicated=gpu:NoSchedule
        pod a on=node-1 cpu=1500m
        pod b on=node-2 cpu=1
        pod c on=node-3 cpu=2
        pod web cpu=1500m";
    let (line, outlook, helped_by) = why(full);
    assert_eq!(
        line,
        "0/5 nodes fit: 3 lack cpu (nearest node-2 misses 500m), \
         2 have untolerated taint dedicated=gpu"
    );
    assert_eq!(outlook, Outlook::NotNow);
    let helps = always
        .with(Changes::NODE_GREW)
        .with(Changes::POD_REMOVED)
        .with(Changes::NODE_TAINTS);
    assert_eq!(helped_by, helps);

    let (line, outlook, helped_by) =
        why("node n*2 cpu=1 memory=1Gi\npod big cpu=500m memory=1536Mi");
    assert_eq!(
        line,
        "0/2 nodes fit: 2 lack memory (nearest n-1 misses 512Mi)"
    );
    assert_eq!(outlook, Outlook::Never);
    assert_eq!(helped_by, always.with(Changes::NODE_GREW));

    let (line, outlook, _) = why(
        "node a closed\nnode b\nnode c pods=1\npod x on=c\npod y select=disk=ssd port=80 tolerate=k",
    );
    assert_eq!(
        line,
        "0/3 nodes fit: 2 lack label disk=ssd, 1 is closed to new pods"
    );
    assert_eq!(outlook, Outlook::Never);

    let (line, outlook, _) =
        why("node b\nnode c pods=1\npod x on=c\npod y on=b port=80\npod z port=80");
    assert_eq!(
        line,
        "0/2 nodes fit: 1 has host port 0.0.0.0:80/TCP taken, 1 runs as many pods as it may"
    );
    assert_eq!(outlook, Outlook::NotNow);

    assert_eq!(why("pod lonely").0, "there are no nodes; add one");
}

#[test]
fn higher_priority_goes_first_and_then_who_came_first() {
    let plan = plan(
        &Framework::default(),
        "node n cpu=2\npod first cpu=1\npod second cpu=1\npod vip cpu=1 priority=9",
    );
    let placed: Vec<_> = plan
        .placed
        .iter()
        .map(|p| p.pod.key.name.as_str())
        .collect();
    assert_eq!(placed, ["vip", "first"]);
    assert_eq!(plan.unplaced[0].pod.key.name, "second");
}

#[test]
fn a_hundred_thousand_nodes_are_no_drama() {
    let cluster: Cluster = "node n*100000 cpu=4 memory=32Gi\npod p*100 cpu=100m memory=500Mi"
        .parse()
        .unwrap();
    let mut builder = cluster.builder();
    let before = builder.snapshot(orchestra_core::port::store::Revision(1));
    let plan = Framework::default().plan(&before, &cluster.pending(), INPUTS);
    let nodes: BTreeSet<_> = plan.placed.iter().map(|p| &p.node).collect();
    assert_eq!(nodes.len(), 100, "each on a node of its own");
    let changes = builder.apply_node(&Node::new("n-1"));
    assert!(!changes.is_empty());
    assert_ne!(
        before.rows().cpu_total[0],
        builder.snapshot(before.base()).rows().cpu_total[0]
    );
}

#[test]
fn among_many_nodes_what_is_kept_for_like_pods_changes_nothing() {
    // More nodes than keys are kept of, and shapes in turns.
    let mut text = String::new();
    for (zone, cpu) in [("x", 4), ("y", 8), ("z", 6)] {
        text += &format!("node {zone}*3000 cpu={cpu} memory=8Gi zone={zone}\n");
        text += &format!("pod busy{zone}*40 on={zone}-7 cpu=10m\n");
    }
    for n in 0..16 {
        text += &format!(
            "pod web{n} cpu=500m label=app=web spread=zone:1:app=web apart=host:app=web\n\
             pod db{n} memory=3Gi label=app=db apart=host:app=db prefer-near=zone:app=web\n\
             pod plain{n} cpu=2 memory=1Gi\n"
        );
    }
    let nodes = |framework: &Framework| -> Vec<String> {
        let plan = plan(framework, &text);
        let placed = plan.placed.iter();
        placed
            .map(|one| format!("{} {}", one.pod.key.name, one.node))
            .collect()
    };
    let quick = nodes(&Framework::default());
    assert_eq!(quick.len(), 48);
    assert_eq!(quick, nodes(&Framework::default().unshared()));
}
