//! What is shipped passes the suites for schedulers and plugins, and planted bugs do not.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orchestra_core::conformance::Report;
use orchestra_core::kind::{Node, locality};
use orchestra_core::time::Timestamp;
use orchestra_sched::conformance;
use orchestra_sched::fits::Obstacle;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{
    Cycle, EachNode, EachRow, Filter, PodFields, Reach, Refusal, Reserve, ReserveFactory, Scale,
    Score, Scorer,
};
use orchestra_sched::place::{
    Changes, Framework, Pending, Placement, Plan, PlanInputs, Profile, Scheduler, filter, score,
};
use orchestra_sched::snapshot::{NodeIx, PodId, Rows, Snapshot};
use serde_json::json;

#[test]
fn the_shipped_scheduler_keeps_its_contract() {
    for seed in 1..4 {
        let fresh = || Arc::new(Framework::default()) as Arc<dyn Scheduler>;
        conformance::scheduler::run(fresh, seed).assert_passed();
        let (fast, plain) = (Framework::default(), Framework::default().unshared());
        conformance::scheduler::twins(&fast, &plain, seed).assert_passed();
    }
}

/// What the drawn clusters know nothing of.
const OWN: &str = "
    node full cpu=2 devices=2 model=T4 image=shop:7=300Mi data=orders=2Gi zone=a
    node bare cpu=2 zone=b
    pod shop*2 cpu=1 image=shop:7 data=orders
    pod drawn cpu=1 devices=1 models=T4
    pod first on=full label=app=wide
    pod near prefer-near=zone:app=wide
    pod wide*2 label=app=wide spread=zone:1:app=wide prefer-spread=host:1:app=wide
";

#[test]
fn the_shipped_plugins_keep_their_contract() {
    let mut own: Cluster = OWN.parse().unwrap();
    let needs = locality::NEEDS_ANNOTATION.into();
    let mut needy = own.pods[0].clone();
    needy.metadata.name = "needy".into();
    needy.metadata.annotations.insert(needs, "orders".into());
    own.pods.push(needy);
    let mut rather = own.pods[0].clone();
    rather.metadata.name = "rather".into();
    let in_zone = json!({"key": Node::ZONE_LABEL, "operator": "In", "values": ["a"]});
    let term = json!({"weight": 7, "preference": {"matchExpressions": [in_zone]}});
    let affinity =
        json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}});
    rather.spec.affinity = serde_json::from_value(affinity).unwrap();
    own.pods.push(rather);
    let own = [own];
    let filters: [&dyn Filter; 9] = [
        &filter::NodeUnschedulable,
        &filter::TaintToleration,
        &filter::NodeAffinity,
        &filter::NodePorts,
        &filter::NodeResourcesFit,
        &filter::Accelerators,
        &filter::PodTopologySpread,
        &filter::InterPodAffinity,
        &filter::DataLocality,
    ];
    for one in filters {
        conformance::plugin::filter_in(one, 1, &own).assert_passed();
    }
    // Pods of clusters of text that name a node run there, and where claims can be used is told to
    // snapshots.
    let silent: [&dyn Filter; 2] = [&filter::NodeName, &filter::VolumeBinding];
    for one in silent {
        let found = conformance::plugin::filter_in(one, 1, &own);
        assert_eq!(failed(&found), ["is_put_to_the_test"]);
    }
    let scorers: [&dyn Scorer; 8] = [
        &score::TaintToleration,
        &score::NodeAffinity,
        &score::PodTopologySpread,
        &score::InterPodAffinity,
        &score::LeastAllocated::default(),
        &score::BalancedAllocation,
        &score::ImageLocality,
        &score::MostAllocated::default(),
    ];
    for one in scorers {
        conformance::plugin::scorer_in(one, 1, &own).assert_passed();
    }
}

#[test]
fn a_plugin_that_the_drawn_clusters_do_not_touch_needs_clusters_of_its_own() {
    let golden = |declared| {
        EachNode::new("Gold", declared, Reach::Fixed, |cycle, node| {
            let labels = &cycle.snapshot().node(node).facts().labels;
            let poor = labels.contains_key("gold") && cycle.pod.priority < 100;
            poor.then(|| Obstacle::Other {
                rule: "Gold",
                note: "gold is for the rich".into(),
                curable: false,
                helped_by: Changes::NODE_LABELS,
            })
        })
    };
    let (right, wrong) = (golden(PodFields::PRIORITY), golden(PodFields::NONE));
    for filter in [&right, &wrong] {
        let found = conformance::plugin::filter(filter, 1);
        assert_eq!(failed(&found), ["is_put_to_the_test"]);
        assert!(found.to_string().contains("filter_in"), "{found}");
    }
    let text = "node g label=gold=yes\nnode n\npod poor priority=5\npod rich priority=200";
    let own = [text.parse().unwrap()];
    conformance::plugin::filter_in(&right, 1, &own).assert_passed();
    let found = conformance::plugin::filter_in(&wrong, 1, &own);
    assert_eq!(failed(&found), ["fields_not_declared_do_not_matter"]);
}

#[test]
fn what_a_plugin_looks_at_is_tried_with_what_the_pods_of_its_own_cluster_are() {
    let team = |declared| {
        EachNode::new("Team", declared, Reach::Fixed, |cycle, node| {
            let node = &cycle.snapshot().node(node).facts().labels;
            let theirs = node
                .get("team")
                .filter(|team| cycle.pod.demand.labels.get("team") != Some(*team));
            theirs.map(|team| Obstacle::Other {
                rule: "Team",
                note: format!("it is {team}'s").into(),
                curable: false,
                helped_by: Changes::NODE_LABELS,
            })
        })
    };
    let text = "
        node r label=team=red\nnode b label=team=blue\nnode n
        pod red label=team=red\npod blue label=team=blue\npod none
    ";
    for seed in 1..5 {
        let own = [text.parse().unwrap()];
        conformance::plugin::filter_in(&team(PodFields::LABELS), seed, &own).assert_passed();
        let found = conformance::plugin::filter_in(&team(PodFields::NONE), seed, &own);
        assert_eq!(failed(&found), ["fields_not_declared_do_not_matter"]);
        let text = found.to_string();
        assert!(
            text.contains("add PodFields::LABELS to `depends`"),
            "{text}"
        );
    }
}

fn failed(report: &Report) -> Vec<&'static str> {
    report.failed().map(|check| check.name).collect()
}

/// A scorer with a planted bug.
fn scorer(
    depends: PodFields,
    reach: Reach,
    f: impl Fn(&Cycle<'_>, &Rows<'_>, usize) -> Score + Send + Sync + 'static,
) -> Vec<&'static str> {
    let planted = EachRow::new("planted", depends, reach, Scale::AsIs, f);
    let mut found = failed(&conformance::plugin::scorer(&planted, 1));
    // Some of them say the same of all nodes, and that is not what they are planted for.
    found.retain(|check| *check != "is_put_to_the_test");
    found
}

#[test]
fn scorers_that_depend_on_more_than_they_declare_are_caught() {
    const UNDECLARED: [&str; 1] = ["fields_not_declared_do_not_matter"];
    let by_priority = |cycle: &Cycle<'_>| u32::try_from(cycle.pod.priority.clamp(0, 100)).unwrap();
    assert_eq!(
        scorer(PodFields::REQUESTS, Reach::Fixed, move |cycle, _, _| {
            by_priority(cycle)
        }),
        UNDECLARED
    );
    assert_eq!(
        scorer(PodFields::PRIORITY, Reach::Fixed, move |cycle, _, _| {
            by_priority(cycle)
        }),
        [""; 0]
    );
    let by_time = |cycle: &Cycle<'_>| (cycle.now.since(Timestamp::EPOCH).as_secs() / 3_600) as u32;
    assert_eq!(
        scorer(PodFields::NONE, Reach::Fixed, move |cycle, _, _| by_time(
            cycle
        )),
        UNDECLARED
    );
    let by_name = |cycle: &Cycle<'_>| cycle.pod.id.key.name.len() as u32;
    assert_eq!(
        scorer(PodFields::LABELS, Reach::Fixed, move |cycle, _, _| by_name(
            cycle
        )),
        UNDECLARED
    );
    let by_images = |cycle: &Cycle<'_>| cycle.pod.demand.images.concat().len() as u32;
    let by_hours = |cycle: &Cycle<'_>| u32::from(cycle.pod.demand.forecast.is_some());
    let by_company = |cycle: &Cycle<'_>| u32::from(cycle.pod.demand.relations.is_some());
    for undeclared in [by_images, by_hours, by_company] {
        let found = scorer(PodFields::LABELS, Reach::Fixed, move |cycle, _, _| {
            undeclared(cycle)
        });
        assert_eq!(found, UNDECLARED);
    }
    let free = |rows: &Rows<'_>, i: usize| (rows.cpu_free[i].clamp(0, 10_000) / 100) as u32;
    assert_eq!(
        scorer(PodFields::NONE, Reach::Fixed, move |_, rows, i| free(
            rows, i
        )),
        [
            "placements_beyond_its_reach_do_not_matter",
            "pods_beyond_its_reach_do_not_matter"
        ]
    );
    let crowd = |cycle: &Cycle<'_>, node| cycle.snapshot().node(node).pods().len() as u32;
    assert_eq!(
        scorer(PodFields::NONE, Reach::Fixed, move |cycle, rows, i| crowd(
            cycle,
            rows.node(i)
        )),
        ["pods_beyond_its_reach_do_not_matter"]
    );
    assert_eq!(
        scorer(PodFields::NONE, Reach::Node, move |cycle, rows, i| crowd(
            cycle,
            rows.node(i)
        )),
        [""; 0]
    );
    let crowds = move |cycle: &Cycle<'_>| {
        let nodes = cycle.snapshot().nodes();
        nodes.map(|(node, _)| crowd(cycle, node)).sum::<u32>()
    };
    assert_eq!(
        scorer(PodFields::NONE, Reach::Node, move |cycle, _, _| crowds(
            cycle
        )),
        ["pods_beyond_its_reach_do_not_matter"]
    );
    assert_eq!(
        scorer(PodFields::NONE, Reach::Node, move |_, rows, i| free(
            rows, i
        )),
        [""; 0]
    );
    let others = |cycle: &Cycle<'_>| cycle.snapshot().len() as u32;
    assert_eq!(
        scorer(PodFields::NONE, Reach::Fixed, move |cycle, _, _| others(
            cycle
        )),
        ["other_nodes_do_not_matter"]
    );
    let whole = |rows: &Rows<'_>| rows.len() as u32;
    let alone = scorer(PodFields::NONE, Reach::Node, move |_, rows, _| whole(rows));
    assert!(
        alone.contains(&"one_row_alone_is_answered_alike"),
        "{alone:?}"
    );
    assert_eq!(
        scorer(PodFields::NONE, Reach::Fixed, |_, _, _| 101),
        ["scores_are_in_range"]
    );
    let calls = AtomicUsize::new(0);
    let ever_more = move |_: &Cycle<'_>, _: &Rows<'_>, _: usize| {
        (calls.fetch_add(1, Ordering::Relaxed) % 100) as u32
    };
    let impure = scorer(PodFields::ALL, Reach::Cluster, ever_more);
    assert_eq!(impure, ["equal_questions_get_equal_answers"]);
    let panics = scorer(PodFields::ALL, Reach::Cluster, |_, _, _| panic!("planted"));
    assert!(
        panics.contains(&"equal_questions_get_equal_answers"),
        "{panics:?}"
    );
}

/// A filter that turns down by one rule and explains by another, or sets what others cleared.
#[derive(Debug)]
struct Planted {
    silent: bool,
    sets: bool,
}

impl Filter for Planted {
    fn name(&self) -> &'static str {
        "Planted"
    }

    fn depends(&self) -> PodFields {
        PodFields::NONE
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Fixed
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        for (node, fits) in rows.nodes().zip(fits) {
            match cycle.snapshot().node(node).name().ends_with('1') {
                true => *fits = false,
                false if self.sets => *fits = true,
                false => {}
            }
        }
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        let turns_down = cycle.snapshot().node(node).name().ends_with('1');
        let obstacle = Obstacle::Other {
            rule: "Planted",
            note: "it ends with 1".into(),
            curable: false,
            helped_by: Changes::NONE,
        };
        Vec::from_iter((turns_down && !self.silent).then_some(obstacle))
    }
}

#[test]
fn filters_that_say_one_thing_and_do_another_are_caught() {
    let found = |silent, sets| failed(&conformance::plugin::filter(&Planted { silent, sets }, 1));
    assert_eq!(found(false, false), [""; 0]);
    assert_eq!(found(true, false), ["says_why_exactly_where_it_turns_down"]);
    assert_eq!(found(false, true), ["only_ever_clears"]);
}

/// One licence a node, kept by books with a bug.
#[derive(Debug)]
struct Licences(Bug);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bug {
    None,
    ClaimsWhatItRefuses,
    KeepsWhatIsGivenBack,
    TakesBackFromAnyone,
    NeverRefuses,
    Panics,
}

#[derive(Debug)]
struct Books {
    taken: Vec<(NodeIx, PodId)>,
    bug: Bug,
}

impl ReserveFactory for Licences {
    fn open(&self, _: &Snapshot) -> Box<dyn Reserve> {
        let (taken, bug) = (Vec::new(), self.0);
        Box::new(Books { taken, bug })
    }
}

impl Reserve for Books {
    fn name(&self) -> &'static str {
        "Licences"
    }

    fn reserve(&mut self, cycle: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal> {
        assert!(self.bug != Bug::Panics, "planted");
        let free = self.taken.iter().all(|(at, _)| *at != node) || self.bug == Bug::NeverRefuses;
        if free || self.bug == Bug::ClaimsWhatItRefuses {
            self.taken.push((node, cycle.pod.id.clone()));
        }
        let refusal = Refusal {
            note: "its licence is taken".into(),
            curable: true,
        };
        free.then_some(()).ok_or(refusal)
    }

    fn release(&mut self, pod: &Pending, node: NodeIx) {
        let anyone = self.bug == Bug::TakesBackFromAnyone;
        let claim = |(at, of): &(NodeIx, PodId)| *at == node && (anyone || *of == pod.id);
        match (self.taken.iter().position(claim), self.bug) {
            (_, Bug::KeepsWhatIsGivenBack) => {}
            (Some(claim), _) => drop(self.taken.remove(claim)),
            (None, Bug::TakesBackFromAnyone) => self.bug = Bug::NeverRefuses,
            (None, _) => {}
        }
    }
}

#[test]
fn books_that_break_their_contract_are_caught() {
    let found = |bug| failed(&conformance::plugin::reserve(&Licences(bug), 1));
    assert_eq!(found(Bug::None), [""; 0]);
    assert_eq!(
        found(Bug::ClaimsWhatItRefuses),
        ["what_is_refused_is_not_claimed"]
    );
    let keeps = found(Bug::KeepsWhatIsGivenBack);
    assert!(keeps.contains(&"what_is_given_back_can_be_claimed_again"));
    assert_eq!(
        found(Bug::TakesBackFromAnyone),
        ["giving_back_without_a_claim_is_harmless"]
    );
    assert_eq!(found(Bug::NeverRefuses), ["is_put_to_the_test"]);
    let report = conformance::plugin::reserve(&Licences(Bug::Panics), 1).to_string();
    assert!(report.contains("planted (cluster 0, pod "), "{report}");
}

#[test]
fn a_finding_says_what_to_mend() {
    let narrow = |depends, reach| {
        let f = |cycle: &Cycle<'_>, rows: &Rows<'_>, i: usize| {
            (cycle.pod.priority.clamp(0, 50) + (rows.cpu_free[i] > 1_000) as i32) as Score
        };
        let planted = EachRow::new("Planted", depends, reach, Scale::AsIs, f);
        conformance::plugin::scorer(&planted, 1).to_string()
    };
    let field = narrow(PodFields::NONE, Reach::Node);
    assert!(
        field.contains("add PodFields::PRIORITY to `depends`"),
        "{field}"
    );
    let reach = narrow(PodFields::PRIORITY, Reach::Fixed);
    assert!(reach.contains("declares Reach::Node"), "{reach}");
    let reversed = |_: &Snapshot, plan: &mut Plan| {
        if let Some(last) = plan.unplaced.pop() {
            plan.placed.push(Placement {
                pod: last.pod,
                pending: last.pending,
                node: "n0".into(),
                ..Placement::default()
            });
        }
    };
    let calls = AtomicUsize::new(0);
    let moody = Spoiled(
        Framework::default(),
        move |snapshot: &Snapshot, plan: &mut Plan| {
            if calls.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                reversed(snapshot, plan);
            }
        },
    );
    let moody: Arc<dyn Scheduler> = Arc::new(moody);
    let report = conformance::scheduler::run(|| moody.clone(), 1);
    let told = report.check("equal_inputs_give_equal_plans").unwrap();
    let text = format!("{told:?}");
    assert!(
        text.contains(" nowhere: ") && text.contains(" on n0 with score 0"),
        "{text}"
    );
    assert!(!text.contains("PodId"), "{text}");
}

/// A scheduler that spoils the plans of a good one.
struct Spoiled<F>(Framework, F);

impl<F> std::fmt::Debug for Spoiled<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spoiled")
    }
}

impl<F: Fn(&Snapshot, &mut Plan) + Send + Sync> Scheduler for Spoiled<F> {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], inputs: PlanInputs) -> Plan {
        let mut plan = self.0.plan(snapshot, pending, inputs);
        (self.1)(snapshot, &mut plan);
        plan
    }
}

fn spoiled(
    profile: fn() -> Profile,
    spoil: impl Fn(&Snapshot, &mut Plan) + Clone + Send + Sync + 'static,
) -> Vec<&'static str> {
    let fresh =
        || Arc::new(Spoiled(Framework::new(profile()), spoil.clone())) as Arc<dyn Scheduler>;
    failed(&conformance::scheduler::run(fresh, 1))
}

#[test]
fn schedulers_that_break_their_contract_are_caught() {
    let usual: fn() -> Profile = Profile::default;
    assert_eq!(spoiled(usual, |_, _| {}), [""; 0]);
    let forgets = spoiled(usual, |_, plan| drop(plan.unplaced.pop()));
    assert_eq!(forgets, ["each_pod_is_in_the_plan_once"]);
    let twice = spoiled(usual, |_, plan| {
        plan.placed.extend(plan.placed.last().cloned())
    });
    assert!(twice.contains(&"each_pod_is_in_the_plan_once"), "{twice:?}");
    let careless = spoiled(Profile::empty, |_, _| {});
    assert!(careless.contains(&"what_is_placed_fits"), "{careless:?}");
    let elsewhere = spoiled(usual, |snapshot, plan| {
        if let (Some(placed), Some((_, node))) = (plan.placed.first_mut(), snapshot.nodes().last())
        {
            placed.node = node.name().clone();
        }
    });
    assert!(elsewhere.contains(&"what_is_placed_fits"), "{elsewhere:?}");
    let calls = Arc::new(AtomicUsize::new(0));
    let moody = spoiled(usual, move |_, plan| {
        if calls.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            plan.placed.reverse();
        }
    });
    assert!(
        moody.contains(&"equal_inputs_give_equal_plans"),
        "{moody:?}"
    );
}

#[test]
fn a_fast_path_that_is_wrong_is_told_from_its_twin() {
    let plain = Framework::default().unshared();
    let wrong = Framework::new(Profile::default().scorer(score::MostAllocated::default(), 3));
    let found = failed(&conformance::scheduler::twins(&wrong, &plain, 1));
    assert_eq!(found, ["both_plan_alike"]);
}
