//! What keepers of accounts can refuse: nodes, and room that would be made for a pod.

#![allow(clippy::unwrap_used, missing_docs)]

use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{Cycle, Refusal, Reserve, ReserveFactory};
use orchestra_sched::place::{Changes, Framework, Pending, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, NodeIx, PodId, Snapshot};

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

/// Licences by node: so many as its label `licences` says.
#[derive(Debug)]
struct Licences;

#[derive(Debug, Default)]
struct Claims(Vec<(NodeIx, PodId)>);

impl ReserveFactory for Licences {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        Box::new(Claims::default())
    }
}

impl Reserve for Claims {
    fn name(&self) -> &'static str {
        "Licences"
    }
    fn reserve(&mut self, cycle: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal> {
        let wants = |demand: &Demand| demand.labels.contains_key("licence");
        if !wants(&cycle.pod.demand) {
            return Ok(());
        }
        let labels = &cycle.snapshot().node(node).facts().labels;
        let all = labels.get("licences").map_or(0, |all| all.parse().unwrap());
        let running = cycle.ledger.running(node);
        let running = running.filter(|pod| wants(&pod.demand)).count();
        let claimed = self.0.iter().filter(|(at, _)| *at == node).count();
        if running + claimed >= all {
            return Err(Refusal {
                note: "no licence is left".into(),
                curable: true,
            });
        }
        self.0.push((node, cycle.pod.id.clone()));
        Ok(())
    }
    fn release(&mut self, pod: &Pending, node: NodeIx) {
        self.0.retain(|claim| *claim != (node, pod.id.clone()));
    }
}

/// Books that cannot be opened.
#[derive(Debug)]
struct Broken;

impl ReserveFactory for Broken {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        panic!("no books")
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
    let cluster: Cluster = "
        node n*3 cpu=8 memory=8Gi label=licences=1
        pod p*4 cpu=1 label=licence=yes"
        .parse()
        .unwrap();
    let plan = framework.plan(&cluster.snapshot(), &cluster.pending(), INPUTS);
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
        "0/3 nodes fit: 2 refused by Licences: no licence is left, 1 refused by Never: not there"
    );
    assert!(why.is_helped_by(Changes::POD_REMOVED));
}

/// Who is evicted from where for whom, and who is placed where.
fn outcome(text: &str, framework: &Framework) -> (Vec<String>, Vec<String>) {
    let cluster: Cluster = text.parse().unwrap();
    let plan = framework.plan(&cluster.snapshot(), &cluster.pending(), INPUTS);
    let made = plan.preemptions.iter().map(|made| {
        let victims = made
            .victims
            .iter()
            .map(|victim| victim.pod.key.name.as_str());
        let victims: Vec<&str> = victims.collect();
        format!(
            "{} on {}: {}",
            made.pod.key.name,
            made.node,
            victims.join(" ")
        )
    });
    let placed = plan.placed.iter();
    let placed = placed.map(|placed| format!("{} on {}", placed.pod.key.name, placed.node));
    (made.collect(), placed.collect())
}

#[test]
fn no_room_is_made_where_accounts_turn_the_pod_down() {
    let licensed = || Framework::new(Profile::default().reserve(Licences));
    // None anywhere: nobody is evicted for it, and what is free stays free.
    let none = "
        node a cpu=4
        pod low on=a cpu=1 priority=1
        pod high cpu=3 label=licence=yes priority=100
        pod other cpu=3 priority=1";
    let (made, placed) = outcome(none, &licensed());
    assert_eq!((made, placed), (vec![], vec!["other on a".to_owned()]));
    let full = none.replace("low on=a cpu=1", "low on=a cpu=3");
    assert_eq!(outcome(&full, &licensed()), (vec![], vec![]));
    let broken = Framework::new(Profile::default().reserve(Broken));
    assert_eq!(outcome(&full, &broken), (vec![], vec![]));
    // Only where there is one, though others are cheaper to make room on.
    let one = "
        node a cpu=4
        node b cpu=4 label=licences=1
        pod low on=a cpu=3 priority=1
        pod mid on=b cpu=3 priority=5
        pod high cpu=3 label=licence=yes priority=100
        pod second cpu=3 label=licence=yes priority=90";
    let (made, placed) = outcome(one, &licensed());
    assert_eq!((made, placed), (vec!["high on b: mid".to_owned()], vec![]));
    // Who holds it can be evicted for it, where accounts go by who still runs.
    let held = one.replace("mid on=b cpu=3", "mid on=b cpu=1 label=licence=yes");
    let held = held.replace("high cpu=3", "high cpu=4");
    let (made, _) = outcome(&held, &licensed());
    assert_eq!(made, ["high on b: mid"]);
}
