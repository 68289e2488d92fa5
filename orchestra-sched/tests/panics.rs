//! A plugin that panics is contained and named, and the others go on.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use orchestra_core::time::Timestamp;
use orchestra_sched::fits::Obstacle;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{
    Cycle, EachRow, Filter, PodFields, Reach, Refusal, Reserve, ReserveFactory, Scale,
};
use orchestra_sched::place::{Fault, Framework, Pending, Plan, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{NodeIx, Rows, Snapshot};

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

const CLUSTER: &str = "
    node a cpu=4
    node b cpu=8
    pod well cpu=1
    pod ill cpu=1 label=app=ill
    pod well-too cpu=1";

fn plan(framework: &Framework) -> Plan {
    let cluster: Cluster = CLUSTER.parse().unwrap();
    framework.plan(&cluster.snapshot(), &cluster.pending(), INPUTS)
}

fn is_ill(cycle: &Cycle<'_>) -> bool {
    cycle.pod.demand.labels.contains_key("app")
}

fn names(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
    let placed = plan.placed.iter().map(|one| one.pod.key.name.as_str());
    let unplaced = plan.unplaced.iter().map(|one| one.pod.key.name.as_str());
    (placed.collect(), unplaced.collect())
}

/// Panics in one of its methods for pods with a label.
#[derive(Debug)]
struct Touchy(&'static str);

impl Touchy {
    fn in_method(&self, method: &str, cycle: &Cycle<'_>) {
        assert!(
            self.0 != method || !is_ill(cycle),
            "no {method} for this one"
        );
    }
}

impl Filter for Touchy {
    fn name(&self) -> &'static str {
        "Touchy"
    }

    fn depends(&self) -> PodFields {
        PodFields::LABELS
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        self.in_method("reach", cycle);
        Reach::Node
    }

    fn filter(&self, cycle: &Cycle<'_>, _: Rows<'_>, fits: &mut [bool]) {
        self.in_method("filter", cycle);
        if self.0 == "obstacles" && is_ill(cycle) {
            fits.fill(false);
        }
    }

    fn obstacles(&self, cycle: &Cycle<'_>, _: NodeIx) -> Vec<Obstacle> {
        self.in_method("obstacles", cycle);
        Vec::new()
    }
}

#[test]
fn a_filter_that_panics_turns_nodes_down_and_is_named() {
    let framework = Framework::new(Profile::default().filter(Touchy("filter")));
    // Twice, as what was learned must not hide it.
    for _ in 0..2 {
        let plan = plan(&framework);
        assert_eq!(names(&plan), (vec!["well", "well-too"], vec!["ill"]));
        let [fault] = &plan.faults[..] else {
            panic!("{:?}", plan.faults)
        };
        assert_eq!(
            (fault.plugin, fault.pod.key.name.as_str()),
            ("Touchy", "ill")
        );
        assert_eq!(fault.note, "it panicked: no filter for this one");
        assert_eq!(
            plan.unplaced[0].why.to_string(),
            "0/2 nodes fit: 2 refused by Touchy: it panicked: no filter for this one"
        );
    }
}

#[test]
fn a_filter_that_panics_elsewhere_is_contained_too() {
    let reach = plan(&Framework::new(Profile::default().filter(Touchy("reach"))));
    assert_eq!(names(&reach).0.len(), 3, "its filter still answers");
    assert_eq!(reach.faults[0].plugin, "Touchy");

    let obstacles = plan(&Framework::new(
        Profile::default().filter(Touchy("obstacles")),
    ));
    assert_eq!(names(&obstacles).1, ["ill"]);
    assert_eq!(
        obstacles.unplaced[0].why.to_string(),
        "0/2 nodes fit: 2 refused by Touchy: it panicked: no obstacles for this one"
    );
}

#[test]
fn a_scorer_that_panics_scores_nothing_and_is_named() {
    for reach in [Reach::Fixed, Reach::Node, Reach::Cluster] {
        let scorer = || {
            EachRow::new(
                "Moody",
                PodFields::LABELS,
                reach,
                Scale::AsIs,
                |cycle, _, i| {
                    assert!(!is_ill(cycle), "not now");
                    u32::from(i == 0) * 100
                },
            )
        };
        let plan = plan(&Framework::new(Profile::empty().scorer(scorer(), 1)));
        assert_eq!(names(&plan).0.len(), 3);
        let scores: Vec<u32> = plan.placed.iter().map(|one| one.score).collect();
        assert_eq!(scores, [100, 0, 100]);
        assert_eq!(plan.faults.len(), 1, "{:?}", plan.faults);
        assert_eq!(plan.faults[0].note, "it panicked: not now");
    }
}

/// Books that panic on one node.
#[derive(Debug)]
struct Torn;

impl ReserveFactory for Torn {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        Box::new(Self)
    }
}

impl Reserve for Torn {
    fn name(&self) -> &'static str {
        "Torn"
    }

    fn reserve(&mut self, cycle: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal> {
        assert_ne!(cycle.snapshot().node(node).name(), "b", "a page is missing");
        Ok(())
    }

    fn release(&mut self, _: &Pending, _: NodeIx) {}
}

#[test]
fn books_that_panic_refuse_that_node_and_are_named() {
    let plan = plan(&Framework::new(Profile::default().reserve(Torn)));
    assert!(plan.placed.iter().all(|one| one.node == "a"));
    assert_eq!(plan.placed.len(), 3);
    assert_eq!(plan.faults[0].plugin, "Torn");
    assert!(plan.faults[0].note.contains("a page is missing"));
}

/// Books that panic when they are opened, and when they are given something back.
#[derive(Debug)]
struct Burnt;

impl ReserveFactory for Burnt {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        panic!("nothing but ashes")
    }
}

#[test]
fn books_that_cannot_be_opened_refuse_everybody_and_are_named() {
    let plan = plan(&Framework::new(
        Profile::default().reserve(Torn).reserve(Burnt),
    ));
    assert_eq!(plan.placed, []);
    let why = plan.unplaced[0].why.to_string();
    assert!(why.contains("nothing but ashes"), "{why}");
    let note = |fault: &Fault| fault.note.contains("nothing but ashes");
    assert!(plan.faults.iter().any(note), "{:?}", plan.faults);
}
