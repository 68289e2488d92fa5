//! Questions about a cluster that is not so, against doing it.

#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::pod::{Container, WhenUnsatisfiable};
use orchestra_core::kind::{Deployment, Node, Pod, validate_object};
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::{Framework, Pending, PlanInputs, Profile, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Demand, SnapshotBuilder};
use orchestra_sched::whatif::{Question, QuestionError, Totals, headroom, weak_spots};
use proptest::prelude::*;
use random::build;

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(3),
};

/// A pod as the API takes it: each container has a name of its own and limits, and owners are named.
fn valid(mut pod: Pod) -> Pod {
    for owner in &mut pod.metadata.owner_references {
        owner.api_version = "apps/v1".into();
        (owner.kind, owner.name) = ("ReplicaSet".into(), "r".into());
        owner.uid = orchestra_core::meta::Uid(7);
    }
    let spec = &mut pod.spec;
    for spread in &mut spec.topology_spread_constraints {
        if spread.when_unsatisfiable == WhenUnsatisfiable::ScheduleAnyway {
            spread.min_domains = None;
        }
        if spread.label_selector.is_none() {
            spread.match_label_keys.clear();
        }
    }
    let containers = spec.init_containers.iter_mut().chain(&mut spec.containers);
    for (nth, container) in containers.enumerate() {
        container.name = format!("c{nth}").into();
        let resources = &mut container.resources;
        resources.limits.clone_from(&resources.requests);
    }
    pod
}

/// Pods that the API takes.
fn valid_pod() -> impl Strategy<Value = Pod> {
    let pods = random::pod(99).prop_map(valid);
    pods.prop_filter("the API takes it", |pod| validate_object(pod).is_ok())
}

/// A pod that is started anew.
fn anew(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.spec.node_name = Default::default();
    pod
}

/// Places `leaving` for real on what `builder` holds: where each goes, and what is free then.
fn really(
    builder: &mut SnapshotBuilder,
    leaving: &[Pod],
) -> (BTreeMap<String, Option<String>>, Totals) {
    let anew: Vec<Pod> = leaving.iter().map(anew).collect();
    // Those of one kind in a row, in the order of the nodes.
    let mut kinds: Vec<Arc<Demand>> = Vec::new();
    let mut pending: Vec<Pending> = anew
        .iter()
        .map(|pod| Pending::of(pod, Timestamp::EPOCH))
        .collect();
    for pod in &mut pending {
        let kind = kinds.iter().position(|kind| *kind == pod.demand);
        let kind = kind.unwrap_or_else(|| {
            kinds.push(Arc::clone(&pod.demand));
            kinds.len() - 1
        });
        pod.arrived = Timestamp::from_secs(kind as i64);
    }
    let plan = Framework::default().plan(&builder.snapshot(Revision(1)), &pending, INPUTS);
    let mut went = BTreeMap::new();
    for placed in &plan.placed {
        let mut pod = anew[placed.pending].clone();
        pod.spec.node_name = placed.node.clone();
        builder.apply_pod(&pod);
        went.insert(placed.pod.to_string(), Some(placed.node.to_string()));
    }
    for unplaced in &plan.unplaced {
        went.insert(unplaced.pod.to_string(), None);
    }
    (went, Totals::of(&builder.snapshot(Revision(2))))
}

fn said(
    question: &Question,
    builder: &SnapshotBuilder,
) -> (BTreeMap<String, Option<String>>, Totals) {
    let answer = question
        .ask(
            &builder.snapshot(Revision(1)),
            &Framework::default(),
            INPUTS,
        )
        .unwrap();
    let placed = answer
        .placed
        .iter()
        .map(|placed| (placed.pod.to_string(), Some(placed.to.to_string())));
    let stranded = answer
        .stranded
        .iter()
        .map(|stranded| (stranded.pod.to_string(), None));
    (placed.chain(stranded).collect(), answer.after)
}

fn cluster() -> impl Strategy<Value = (Vec<Node>, Vec<Pod>)> {
    random::cluster()
        .prop_filter("at least one node", |(nodes, _)| !nodes.is_empty())
        .prop_map(|(nodes, pods)| {
            let zoned = |(n, node): (usize, Node)| node.zone(["a", "b"][n % 2]);
            (nodes.into_iter().enumerate().map(zoned).collect(), pods)
        })
}

proptest! {
    #[test]
    fn a_drain_is_as_it_would_be((nodes, pods) in cluster(), n in 0usize..7) {
        let node = &nodes[n % nodes.len()].metadata.name;
        let said = said(&Question::new().drain([node.clone()]), &build(&nodes, &pods));
        let (gone, stay): (Vec<Pod>, Vec<Pod>) =
            pods.into_iter().partition(|pod| pod.spec.node_name == *node);
        let mut builder = build(&nodes, &stay);
        builder.remove_node(node);
        prop_assert_eq!(said, really(&mut builder, &gone));
    }

    #[test]
    fn a_lost_zone_is_as_it_would_be((nodes, pods) in cluster()) {
        let said = said(&Question::new().lose_zone("a"), &build(&nodes, &pods));
        let lost: Vec<&Node> = nodes.iter().filter(|node| node.zone_name() == "a").collect();
        let is_lost = |pod: &Pod| lost.iter().any(|node| node.metadata.name == pod.spec.node_name);
        let (mut gone, stay): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(is_lost);
        gone.sort_by_key(|pod| pod.spec.node_name.clone());
        let mut builder = build(&nodes, &stay);
        for node in lost {
            builder.remove_node(&node.metadata.name);
        }
        prop_assert_eq!(said, really(&mut builder, &gone));
    }

    #[test]
    fn nothing_is_touched_and_nothing_asked_changes_nothing((nodes, pods) in cluster()) {
        let builder = build(&nodes, &pods);
        let snapshot = builder.snapshot(Revision(1));
        let before = Totals::of(&snapshot);
        let answer = Question::new().lose_zone("a").ask(&snapshot, &Framework::default(), INPUTS);
        prop_assert!(answer.is_ok());
        prop_assert_eq!(&before, &Totals::of(&snapshot));
        let answer = Question::new().ask(&snapshot, &Framework::default(), INPUTS).unwrap();
        prop_assert!(answer.is_fine() && answer.placed.is_empty());
        prop_assert_eq!(&before, &answer.after);
    }

    #[test]
    fn a_look_at_weak_spots_sees_what_trying_each_sees((nodes, pods) in cluster()) {
        let snapshot = build(&nodes, &pods).snapshot(Revision(1));
        let framework = Framework::default();
        let weak = weak_spots(&snapshot, &framework, INPUTS);
        // A look does not evict. A trial may: room is then held for who evicts, and others find none.
        let trial = Framework::new(Profile::default().without_preemption());
        let mut strands: Vec<(String, usize)> = Vec::new();
        for (_, row) in snapshot.nodes() {
            let answer = Question::new().drain([row.name().clone()]).ask(&snapshot, &trial, INPUTS).unwrap();
            if !answer.is_fine() {
                strands.push((row.name().to_string(), answer.stranded.len()));
            }
            let evicting = Question::new().drain([row.name().clone()]).ask(&snapshot, &framework, INPUTS).unwrap();
            // Nor the other way round: who evicts at once does not wait for what others may bring.
            prop_assert!(answer.is_fine() || !evicting.is_fine());
        }
        strands.sort();
        let found: Vec<(String, usize)> =
            weak.nodes.iter().map(|loss| (loss.name.to_string(), loss.stranded)).collect();
        prop_assert_eq!(found, strands);
        prop_assert_eq!(weak.untried, 0);
    }

    #[test]
    fn there_is_room_for_just_so_many((nodes, pods) in cluster(), shape in valid_pod()) {
        let mut builder = build(&nodes, &pods);
        let framework = Framework::default();
        let found = headroom(&builder.snapshot(Revision(1)), &framework, &shape, 300, INPUTS);
        let found = found.unwrap();
        let mut fit = 0;
        while fit < 300 {
            let mut pod = anew(&shape);
            pod.metadata.name = format!("more-{fit}").into();
            pod.metadata.uid = orchestra_core::meta::Uid(1_000 + fit as u128);
            let plan = framework.plan(
                &builder.snapshot(Revision(1)),
                &[Pending::of(&pod, Timestamp::EPOCH)],
                INPUTS,
            );
            let Some(placed) = plan.placed.first() else { break };
            pod.spec.node_name = placed.node.clone();
            builder.apply_pod(&pod);
            fit += 1;
        }
        prop_assert_eq!(found.fit, fit);
        prop_assert_eq!(found.why.is_none(), fit == 300);
    }
}

const SHOP: &str = "
    node a-1 cpu=4 memory=8Gi zone=a
    node a-2 cpu=4 memory=8Gi zone=a
    node b-1 cpu=4 memory=8Gi zone=b
    node b-2 cpu=8 memory=32Gi zone=b taint=dedicated=db:NoSchedule
    pod web*3 on=a-1 cpu=1 memory=1Gi label=app=web
    pod api*2 on=b-1 cpu=1500m memory=1Gi label=app=api
    pod db on=b-2 cpu=6 memory=16Gi tolerate=dedicated=db label=app=db
";

#[test]
fn an_answer_reads_well() {
    let cluster: Cluster = SHOP.parse().unwrap();
    let ask = |question: Question| {
        let answer = question.ask(&cluster.snapshot(), &Framework::default(), INPUTS);
        answer.map_or_else(|error| error.to_string(), |answer| answer.to_string())
    };
    let extra = Node::new("spare").capacity(8_000, 32_768, 110).zone("a");
    let api = &cluster.pods[3];
    let double = [
        ("cpu".into(), "3".parse().unwrap()),
        ("memory".into(), Quantity::from_int(1 << 30)),
    ];
    let labels = [("app".into(), "api".into())];
    let texts = [
        ask(Question::new().drain(["a-1"])),
        ask(Question::new().lose_zone("b")),
        ask(Question::new().lose_zone("b").add_nodes(&extra, 2)),
        ask(Question::new().request("default", labels.into(), &double.into())),
        ask(Question::new().deploy(&anew(api), 12)),
        ask(Question::new().drain(["c-1"])),
        ask(Question::new().lose_zone("c")),
        ask(Question::new().request(
            "default",
            [("app".into(), "none".into())].into(),
            &Default::default(),
        )),
        weak_spots(&cluster.snapshot(), &Framework::default(), INPUTS).to_string(),
        headroom(&cluster.snapshot(), &Framework::default(), api, 100, INPUTS)
            .unwrap()
            .to_string(),
        headroom(&cluster.snapshot(), &Framework::default(), api, 2, INPUTS)
            .unwrap()
            .to_string(),
    ];
    let text = texts.join("\n\n") + "\n";
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/whatif.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_question_may_follow_on_an_answer() {
    let cluster: Cluster = SHOP.parse().unwrap();
    let framework = Framework::default();
    let first = Question::new()
        .drain(["a-1"])
        .ask(&cluster.snapshot(), &framework, INPUTS)
        .unwrap();
    let second = Question::new()
        .drain(["a-2"])
        .ask(&first.future, &framework, INPUTS)
        .unwrap();
    assert_eq!(second.nodes, (3, 2));
    let error = Question::new()
        .drain(["a-1"])
        .ask(&first.future, &framework, INPUTS)
        .unwrap_err();
    assert_eq!(error, QuestionError::NoNode("a-1".into()));
}

#[test]
fn a_deployment_that_is_applied_stands_where_its_pods_stood() {
    let cluster: Cluster = SHOP.parse().unwrap();
    let web = |replicas, cpu: &str| {
        let pod: Cluster = format!("pod w cpu={cpu} memory=1Gi").parse().unwrap();
        let web = Deployment::new("web").template(pod.pods[0].clone());
        web.namespace("default").replicas(replicas)
    };
    let ask = |question: Question| {
        let snapshot = cluster.snapshot();
        question
            .ask(&snapshot, &Framework::default(), INPUTS)
            .unwrap()
    };
    let question = Question::new().apply(&web(4, "2"));
    assert_eq!(
        question.to_string(),
        "end app=web of default, start default/web-1 and 3 more"
    );
    let answer = ask(question);
    // Where others than databases may be, only these have two cores left, once the old ones are gone.
    let mut nodes: Vec<&str> = answer.placed.iter().map(|placed| &*placed.to).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["a-1", "a-1", "a-2", "a-2"]);
    let pods = |totals: &Totals| totals.by_resource["pods"].total - totals.by_resource["pods"].free;
    assert_eq!(pods(&answer.after), pods(&answer.before) - 3 + 4);
    assert!(!ask(Question::new().apply(&web(6, "2"))).is_fine());
    // What it does not select stays, and whoever lost his place and is selected wants none.
    let answer = ask(Question::new()
        .lose_zone("a")
        .end("default", LabelSelector::default()));
    assert_eq!((answer.placed.len(), answer.stranded.len()), (0, 0));
    assert_eq!(pods(&answer.after), 0);
    let answer = ask(Question::new().end("elsewhere", LabelSelector::default()));
    assert_eq!(answer.after, answer.before);
}

#[test]
fn a_namespace_that_is_not_named_is_the_default() {
    let cluster: Cluster = SHOP.parse().unwrap();
    let template: Cluster = "pod w cpu=2 memory=1Gi".parse().unwrap();
    let mut template = template.pods[0].clone();
    template.metadata.namespace = Default::default();
    let unnamed = Deployment::new("web").template(template.clone());
    let unnamed = unnamed.replicas(4);
    let named = unnamed.clone().namespace("default");
    let labels = || [("app".into(), "web".into())].into();
    let cpu = [("cpu".into(), Quantity::from_int(1))].into();
    let selector = || LabelSelector::of(labels());
    let pairs = [
        (
            Question::new().apply(&unnamed),
            Question::new().apply(&named),
        ),
        (
            Question::new().end("", selector()),
            Question::new().end("default", selector()),
        ),
        (
            Question::new().request("", labels(), &cpu),
            Question::new().request("default", labels(), &cpu),
        ),
        (
            Question::new().deploy(&template, 2),
            Question::new().deploy(
                &{
                    let mut named = template.clone();
                    named.metadata.namespace = "default".into();
                    named
                },
                2,
            ),
        ),
    ];
    for (unnamed, named) in pairs {
        assert_eq!(unnamed.to_string(), named.to_string());
        let ask = |question: Question| {
            let answer = question.ask(&cluster.snapshot(), &Framework::default(), INPUTS);
            answer.unwrap().to_string()
        };
        assert_eq!(ask(unnamed), ask(named));
    }
    let answer = Question::new().apply(&unnamed);
    let answer = answer.ask(&cluster.snapshot(), &Framework::default(), INPUTS);
    let answer = answer.unwrap();
    // The three that run are gone, four have come.
    let pods = |totals: &Totals| totals.by_resource["pods"].free;
    assert_eq!(pods(&answer.after), pods(&answer.before) - 1);
}

#[test]
fn what_the_api_would_refuse_is_refused() {
    let cluster: Cluster = SHOP.parse().unwrap();
    let pod = |cpu: &str| {
        let main = Container::new("main", "main").request("cpu", cpu.parse().unwrap());
        Pod::builder("odd").container(main)
    };
    let deployment = Deployment::new("odd").template(pod("-4"));
    let mut lost = Deployment::new("odd").template(pod("1").label("app", "web"));
    lost.spec.selector = LabelSelector::of([("app".into(), "other".into())].into());
    let node = Node::new("odd").resource("cpu", "-1".parse().unwrap());
    let requests = [("cpu".into(), "-500m".parse().unwrap())].into();
    let web = || [("app".into(), "web".into())].into();
    let ask = |question: Question| {
        let answer = question.ask(&cluster.snapshot(), &Framework::default(), INPUTS);
        answer.unwrap_err().to_string()
    };
    for (question, says) in [
        (
            Question::new().deploy(&pod("-1"), 3),
            "Pod default/odd would be refused: spec.containers[0].resources.requests[cpu]: \"-1\" is \
             negative; write 0 or more",
        ),
        (
            Question::new().apply(&deployment),
            "Deployment default/odd would be refused: \
             spec.template.spec.containers[0].resources.requests[cpu]: \"-4\" is negative; write 0 or more",
        ),
        (
            Question::new().apply(&lost),
            "Deployment default/odd would be refused: spec.template.metadata.labels: \"app=web\" does not \
             match spec.selector, app=other; give the template the labels that the selector asks for",
        ),
        (
            Question::new().add_nodes(&node, 1),
            "Node odd would be refused: status.capacity[cpu]: \"-1\" is negative; write 0 or more",
        ),
        (
            Question::new().request("", web(), &requests),
            "what pods are to request would be refused: requests[cpu]: \"-500m\" is negative; write 0 or \
             more",
        ),
        // The first that is wrong is told, whatever comes behind it.
        (
            Question::new()
                .deploy(&pod("-1"), 0)
                .drain(["nowhere"])
                .deploy(&pod("-2"), 1),
            "Pod default/odd would be refused: spec.containers[0].resources.requests[cpu]: \"-1\" is \
             negative; write 0 or more",
        ),
    ] {
        assert!(ask(question.clone()).starts_with(says), "{}", ask(question));
    }
    let room = headroom(
        &cluster.snapshot(),
        &Framework::default(),
        &pod("-1"),
        9,
        INPUTS,
    );
    assert!(matches!(room, Err(QuestionError::Invalid { .. })));
}

#[test]
fn what_is_left_out_has_its_default() {
    let cluster: Cluster = "node a cpu=4 memory=8Gi".parse().unwrap();
    // So may a pod of a fixture that asks for devices.
    let gpu: Cluster = "node g example.com/gpu=1\npod p example.com/gpu=1 devices=2"
        .parse()
        .unwrap();
    let one = Question::new().deploy(&gpu.pods[0], 1);
    assert!(
        one.ask(&gpu.snapshot(), &Framework::default(), INPUTS)
            .is_ok()
    );
    // A limit without a request asks for as much.
    let main = Container::new("main", "main").limit("cpu", "3".parse().unwrap());
    let question = Question::new().deploy(&Pod::builder("big").container(main), 2);
    let answer = question.ask(&cluster.snapshot(), &Framework::default(), INPUTS);
    let answer = answer.unwrap();
    assert_eq!((answer.placed.len(), answer.stranded.len()), (1, 1));
}
