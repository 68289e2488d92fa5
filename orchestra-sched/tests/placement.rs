//! What people read of a plan, and what keepers of accounts can refuse.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use orchestra_core::kind::Node;
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::Outlook;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{Cycle, Refusal, Reserve, ReserveFactory};
use orchestra_sched::place::{Changes, Framework, Pending, Plan, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{NodeIx, Snapshot};

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

/// One licence a node.
#[derive(Debug)]
struct Licences;

#[derive(Debug, Default)]
struct Books {
    taken: BTreeSet<NodeIx>,
}

impl ReserveFactory for Licences {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        Box::new(Books::default())
    }
}

impl Reserve for Books {
    fn name(&self) -> &'static str {
        "Licences"
    }

    fn reserve(&mut self, _: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal> {
        if self.taken.insert(node) {
            return Ok(());
        }
        Err(Refusal {
            note: "its licence is taken".into(),
            curable: true,
        })
    }

    fn release(&mut self, _: &Pending, node: NodeIx) {
        self.taken.remove(&node);
    }
}

/// Refuses one node, always.
#[derive(Debug)]
struct Never(&'static str);

impl ReserveFactory for Never {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        Box::new(Self(self.0))
    }
}

impl Reserve for Never {
    fn name(&self) -> &'static str {
        "Never"
    }

    fn reserve(&mut self, cycle: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal> {
        if cycle.snapshot().node(node).name() == self.0 {
            return Err(Refusal {
                note: "not there".into(),
                curable: false,
            });
        }
        Ok(())
    }

    fn release(&mut self, _: &Pending, _: NodeIx) {}
}

#[test]
fn a_refused_claim_falls_to_the_next_node_and_is_explained() {
    let framework = Framework::new(Profile::default().reserve(Licences).reserve(Never("n-2")));
    let plan = plan(&framework, "node n*3 cpu=8 memory=8Gi\npod p*4 cpu=1");
    let mut nodes: Vec<_> = plan.placed.iter().map(|p| p.node.as_str()).collect();
    nodes.sort_unstable();
    assert_eq!(
        nodes,
        ["n-1", "n-3"],
        "a claim that a later keeper refuses is given back"
    );
    assert_eq!(plan.unplaced.len(), 2);
    let why = &plan.unplaced[0].why;
    assert_eq!(
        why.to_string(),
        "0/3 nodes fit: 2 refused by Licences: its licence is taken, 1 refused by Never: not there"
    );
    assert!(why.is_helped_by(Changes::POD_REMOVED));
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
