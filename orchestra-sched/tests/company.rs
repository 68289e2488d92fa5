//! Rules about the company of pods, and about what lies on nodes: what people read of them, what they
//! make of odd input, and their scores.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use orchestra_core::kind::forecast;
use orchestra_core::kind::pod::Toleration;
use orchestra_core::kind::{Namespace, Node, Pod, Taint, TaintEffect, locality};
use orchestra_core::meta::{ObjectKey, OwnerReference, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::selector::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use orchestra_core::time::Timestamp;
use orchestra_sched::explain::{Explanation, Outlook};
use orchestra_sched::fits;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{Cycle, Scorer};
use orchestra_sched::place::{
    Changes, Framework, Pending, Plan, PlanInputs, Profile, Scheduler, filter, score, scores,
};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Ledger, SnapshotBuilder, Usage};

const INPUTS: PlanInputs = PlanInputs {
    now: Timestamp::EPOCH,
    rng: PlanRng::new(1),
};

fn cluster(text: &str) -> Cluster {
    text.parse().unwrap()
}

fn plan(builder: &SnapshotBuilder, cluster: &Cluster) -> Plan {
    let snapshot = builder.snapshot(Revision(1));
    Framework::default().plan(&snapshot, &cluster.pending(), INPUTS)
}

fn nodes(plan: &Plan) -> Vec<&str> {
    plan.placed.iter().map(|p| p.node.as_str()).collect()
}

/// Why the only pending pod finds no node.
fn why(text: &str) -> Explanation {
    let cluster = cluster(text);
    let plan = plan(&cluster.builder(), &cluster);
    assert_eq!(nodes(&plan), [""; 0]);
    Explanation::clone(&plan.unplaced[0].why)
}

const ZONES: &str = "
    node a*2 cpu=4 memory=8Gi zone=a
    node b cpu=4 memory=8Gi zone=b
    node c cpu=1 memory=8Gi zone=c
    node d cpu=4 memory=8Gi
";

#[test]
fn a_spread_says_which_domain_has_how_many() {
    let text = format!(
        "{ZONES}
        pod x*2 on=a-1 label=app=web
        pod y*3 on=b label=app=web
        pod web cpu=2 label=app=web spread=zone:1:app=web"
    );
    let why = why(&text);
    assert_eq!(
        why.to_string(),
        "0/5 nodes fit: 3 would be too uneven over topology.kubernetes.io/zone (nearest a-1: \
         topology.kubernetes.io/zone a has 2, the least has 0, maxSkew 1), 1 lacks cpu (nearest c \
         misses 1), 1 lacks label topology.kubernetes.io/zone to spread over"
    );
    assert_eq!(why.outlook, Outlook::NotNow);
    for (change, helps) in [
        (Changes::POD_ADDED, true),
        (Changes::POD_REMOVED, true),
        (Changes::NODE_LABELS, true),
        (Changes::NODE_OPENED, false),
        (Changes::NAMESPACE_LABELS, false),
    ] {
        assert_eq!(why.is_helped_by(change), helps, "{change}");
    }
}

#[test]
fn affinity_says_who_is_missing_and_who_is_in_the_way() {
    let text = format!("{ZONES}\npod db on=c label=app=db\npod web cpu=2 near=zone:app=db");
    let missing = why(&text);
    assert_eq!(
        missing.to_string(),
        "0/5 nodes fit: 2 have no app=db in topology.kubernetes.io/zone a, which it must be near, \
         1 has no app=db in topology.kubernetes.io/zone b, which it must be near, 1 lacks cpu \
         (nearest c misses 1), 1 lacks label topology.kubernetes.io/zone to be near pods by"
    );
    assert_eq!(missing.outlook, Outlook::NotNow, "one may come");
    assert!(missing.is_helped_by(Changes::POD_ADDED));

    let nowhere = why("node n cpu=4 memory=4Gi\npod web near=rack:app=db");
    assert_eq!(nowhere.outlook, Outlook::Never, "no node is in a rack");
    assert!(
        !nowhere.is_helped_by(Changes::POD_ADDED) && nowhere.is_helped_by(Changes::NODE_LABELS)
    );

    let text = "
        node n*2 cpu=4 memory=4Gi
        pod one on=n-1 label=app=web
        pod hermit on=n-2 apart=host:app
        pod two label=app=web apart=host:app=web";
    assert_eq!(
        why(text).to_string(),
        "0/2 nodes fit: 1 has a pod in kubernetes.io/hostname n-2 that wants no app near, \
         1 has app=web in kubernetes.io/hostname n-1, which it must not be near"
    );
}

#[test]
fn the_first_of_its_kind_goes_anywhere_and_the_others_follow() {
    let text = "
        node a*2 cpu=1 memory=4Gi zone=a
        node b*2 cpu=1 memory=4Gi zone=b
        pod w*3 cpu=1 label=app=w near=zone:app=w";
    let cluster = cluster(text);
    let plan = plan(&cluster.builder(), &cluster);
    let zones: Vec<&str> = nodes(&plan).iter().map(|name| &name[..1]).collect();
    assert_eq!(zones.len(), 2);
    assert_eq!(zones[0], zones[1], "and the third finds no room near them");
}

#[test]
fn who_missed_company_that_the_plan_itself_brings_is_placed_too() {
    let text = "
        node n*2 cpu=1 memory=4Gi zone=z
        pod web cpu=1 near=zone:app=db priority=9
        pod db cpu=1 label=app=db";
    let cluster = cluster(text);
    let plan = plan(&cluster.builder(), &cluster);
    let names: Vec<&str> = plan
        .placed
        .iter()
        .map(|p| p.pod.key.name.as_str())
        .collect();
    assert_eq!(names, ["db", "web"]);
}

#[test]
fn namespaces_are_selected_by_their_labels_and_a_change_of_them_helps() {
    let mut cluster = cluster(
        "node n cpu=1 memory=4Gi\npod db on=n namespace=data label=app=db\npod web near=host:app=db",
    );
    let affinity = cluster.pods[1].spec.affinity.as_mut().unwrap();
    let near = &mut affinity.pod_affinity.as_mut().unwrap().required[0];
    near.namespace_selector = Some("team=data".parse().unwrap());
    let mut builder = cluster.builder();
    let refused = plan(&builder, &cluster);
    assert_eq!(nodes(&refused), [""; 0]);
    let mut namespace = Namespace::new("data");
    namespace
        .metadata
        .labels
        .insert("team".into(), "data".into());
    let change = builder.apply_namespace(&namespace);
    assert!(refused.unplaced[0].why.is_helped_by(change), "{change}");
    assert_eq!(nodes(&plan(&builder, &cluster)), ["n"]);
    assert_eq!(builder.apply_namespace(&namespace), Changes::NONE);
    builder.remove_namespace("data");
    assert_eq!(nodes(&plan(&builder, &cluster)), [""; 0]);
}

#[test]
fn the_commit_asks_the_same_with_what_was_placed_before() {
    let cluster = cluster(
        "node n*2 cpu=8 memory=8Gi\npod w*3 label=app=w apart=host:app=w spread=host:1:app=w",
    );
    let mut ledger = Ledger::open(&cluster.snapshot());
    let pending = cluster.pending();
    fits::claim(&mut ledger, "n-1", &pending[0].demand).unwrap();
    let misfit = fits::claim(&mut ledger, "n-1", &pending[1].demand).unwrap_err();
    let rules: Vec<&str> = misfit.obstacles.iter().map(fits::Obstacle::rule).collect();
    assert_eq!(
        rules,
        ["PodTopologySpread", "InterPodAffinity", "InterPodAffinity"]
    );
    let second = fits::claim(&mut ledger, "n-2", &pending[1].demand).unwrap();
    ledger.refund(second, &pending[1].demand);
    fits::claim(&mut ledger, "n-2", &pending[2].demand).unwrap();
}

#[test]
fn pods_of_a_deployment_do_not_crowd_where_most_is_free() {
    let mut all = cluster(
        "node big cpu=64 memory=256Gi zone=a
         node small*2 cpu=4 memory=8Gi zone=b
         pod w*3 cpu=1 memory=1Gi label=pod-template-hash=h",
    );
    let places = |cluster: &Cluster| {
        let plan = plan(&cluster.builder(), cluster);
        let mut nodes: Vec<String> = nodes(&plan).into_iter().map(Into::into).collect();
        nodes.sort_unstable();
        nodes
    };
    assert_eq!(places(&all), ["big", "big", "big"], "nobody keeps them");
    for pod in &mut all.pods {
        pod.metadata.owner_references = vec![OwnerReference {
            controller: Some(true),
            ..OwnerReference::default()
        }];
    }
    assert_eq!(places(&all), ["big", "small-1", "small-2"]);
    // The packing profile of the guide to schedulers, and what it takes for it.
    let usual = || Profile::default().without("LeastAllocated").unwrap();
    let packs = |profile: Profile| {
        let profile = profile.scorer(score::MostAllocated::default(), 1);
        let plan = Framework::new(profile).plan(&all.snapshot(), &all.pending(), INPUTS);
        let nodes: BTreeSet<_> = plan.placed.iter().map(|one| one.node.clone()).collect();
        nodes.len() == 1 && plan.placed.len() == 3
    };
    let unspread = usual()
        .without("BalancedAllocation")
        .and_then(|profile| profile.without("PodTopologySpread"));
    let unspread = unspread.unwrap().filter(filter::PodTopologySpread);
    assert!(!packs(usual()) && packs(unspread));
    let own = cluster("pod x spread=host:3:app=x").pods[0]
        .spec
        .topology_spread_constraints
        .clone();
    for pod in &mut all.pods {
        pod.spec.topology_spread_constraints = own.clone();
    }
    assert_eq!(places(&all), ["big", "big", "big"], "they say themselves");
}

#[test]
fn a_pod_that_ends_no_longer_counts_for_a_spread() {
    let mut cluster = cluster(
        "node n*2 cpu=8 memory=8Gi\npod old on=n-1 label=app=w\npod w label=app=w spread=host:1:app=w select=kubernetes.io/hostname=n-1",
    );
    // The policy leaves n-2 out, so that n-1 alone is compared.
    assert_eq!(nodes(&plan(&cluster.builder(), &cluster)), ["n-1"]);
    cluster.pods[1].spec.topology_spread_constraints[0].node_affinity_policy =
        Some(orchestra_core::kind::pod::NodeInclusionPolicy::Ignore);
    let mut builder = cluster.builder();
    let refused = plan(&builder, &cluster);
    assert_eq!(nodes(&refused), [""; 0]);
    cluster.pods[0].metadata.deletion_timestamp = Some(Timestamp::EPOCH);
    let change = builder.apply_pod(&cluster.pods[0]);
    assert!(refused.unplaced[0].why.is_helped_by(change));
    assert_eq!(nodes(&plan(&builder, &cluster)), ["n-1"]);
}

#[test]
fn odd_selectors_and_keys_have_plain_answers() {
    // Nobody is meant: the spread holds everywhere, the affinity nowhere, the anti-affinity always.
    let base = "node n*2 cpu=1 memory=1Gi\npod x on=n-1 label=app=x\n";
    for (word, places) in [
        ("spread=host:1:app=nobody", 1),
        ("near=host:app=nobody", 0),
        ("apart=host:app=nobody", 1),
        ("spread=rack:1:app=x", 0),
        ("near=rack:app=x", 0),
        ("apart=rack:app=x", 1),
        ("prefer-spread=rack:1:app=x", 1),
        ("prefer-near=rack:app=x", 1),
        ("prefer-apart=rack:app=nobody", 1),
    ] {
        let cluster = cluster(&format!("{base}pod p {word}"));
        assert_eq!(
            nodes(&plan(&cluster.builder(), &cluster)).len(),
            places,
            "{word}"
        );
    }
    let mut none = cluster("node n cpu=1 memory=1Gi\npod p spread=host:1:app near=host:app");
    none.pods[0].spec.topology_spread_constraints[0].label_selector = None;
    none.pods[0].spec.topology_spread_constraints[0].max_skew = u32::MAX;
    let affinity = none.pods[0].spec.affinity.as_mut().unwrap();
    affinity.pod_affinity.as_mut().unwrap().required[0].label_selector = None;
    assert_eq!(nodes(&plan(&none.builder(), &none)), [""; 0]);
}

#[test]
fn ten_thousand_distinct_taints_and_a_node_without_anything() {
    let mut node = Node::new("thorny").capacity(4_000, 4_096, 110);
    node.spec.taints = (0..10_000)
        .map(|n| Taint::new(format!("t{n}"), TaintEffect::NoSchedule))
        .collect();
    let mut builder = SnapshotBuilder::new();
    builder.apply_node(&node);
    builder.apply_node(&Node::default());
    let mut cluster = cluster("pod p cpu=1");
    cluster.pods[0] = (cluster.pods[0].clone()).toleration(Toleration::exists("t0"));
    let refused = plan(&builder, &cluster);
    let why = &refused.unplaced[0].why;
    assert_eq!(
        why.to_string(),
        "0/2 nodes fit: 1 has untolerated taint t1, 1 lacks cpu (nearest  misses 1)"
    );
    cluster.pods[0]
        .spec
        .tolerations
        .push(Toleration::exists(""));
    assert_eq!(nodes(&plan(&builder, &cluster)), ["thorny"]);
}

fn score_of(builder: &SnapshotBuilder, pod: &Pod, now: Timestamp, scorer: &dyn Scorer) -> Vec<u32> {
    let ledger = Ledger::open(&builder.snapshot(Revision(1)));
    let pod = Pending::of(pod, now);
    let all = scores(scorer, &Cycle::new(&ledger, &pod, now));
    all.into_iter().map(|(_, score)| score).collect()
}

#[test]
fn actual_use_is_what_was_seen_with_what_came_since() {
    let cluster = cluster(
        "node n*3 cpu=10 memory=10Gi\npod early on=n-1 cpu=8 memory=8Gi\npod late on=n-1 cpu=1 memory=1Gi\npod p cpu=1 memory=1Gi",
    );
    let mut builder = SnapshotBuilder::new();
    for node in &cluster.nodes {
        builder.apply_node(node);
    }
    for (nth, pod) in cluster.pods.iter().enumerate() {
        let mut pod = pod.clone();
        pod.status.start_time = Some(Timestamp::from_secs(nth as i64 * 100));
        builder.apply_pod(&pod);
    }
    let seen = |cpu_milli, gib: i64| Usage {
        cpu_milli,
        memory: gib << 30,
        at: Timestamp::from_secs(50),
    };
    // n-1 requests 9 of 10, and was seen to use 2 before the late pod came; n-2 has nothing to do
    // and does it with much; n-3 was never looked at.
    builder.set_usage("n-1", Some(seen(2_000, 2)));
    builder.set_usage("n-2", Some(seen(7_000, 5)));
    builder.set_usage("nobody", Some(seen(1, 1)));
    let pod = &cluster.pods[2];
    let score =
        |builder: &SnapshotBuilder| score_of(builder, pod, Timestamp::EPOCH, &score::ActualUse);
    assert_eq!(score(&builder), [60, 30, 90]);
    builder.set_usage("n-2", None);
    assert_eq!(score(&builder), [60, 90, 90]);
    // What a plan places counts before anybody sees it.
    let snapshot = builder.snapshot(Revision(1));
    let mut ledger = Ledger::open(&snapshot);
    let pending = Pending::of(pod, Timestamp::EPOCH);
    ledger.charge(snapshot.find("n-1").unwrap(), &pending.demand);
    let cycle = Cycle::new(&ledger, &pending, Timestamp::EPOCH);
    assert_eq!(scores(&score::ActualUse, &cycle)[0].1, 50);
}

#[test]
fn what_peaks_together_is_kept_apart() {
    let day = |peak: usize| {
        let hours = (0..24).map(|hour| if hour == peak { "6" } else { "1" });
        hours.collect::<Vec<_>>().join(",")
    };
    let shop = |name: &str, peak: usize| {
        let pod = cluster("pod p cpu=2 memory=1Gi").pods.remove(0);
        let mut pod = pod.annotation(forecast::CPU_ANNOTATION, day(peak));
        pod.metadata.name = name.into();
        pod.metadata.uid = Uid(peak as u128 + 1);
        pod
    };
    let mut builder = cluster("node n*2 cpu=16 memory=16Gi").builder();
    builder.apply_pod(&shop("noon", 12).on_node("n-1"));
    builder.apply_pod(&shop("night", 3).on_node("n-2"));
    let scorer = score::ExpectedUse::default();
    // At noon 12 of 16 cores on n-1, at most 7 on n-2; memory is 2 of 16 GiB on both.
    let noon = shop("another", 12);
    let by_day = score_of(&builder, &noon, Timestamp::EPOCH, &scorer);
    assert_eq!(by_day, [(25 + 87) / 2, (56 + 87) / 2]);
    // Whoever looks but two hours ahead at midnight sees no peak at all.
    let soon = score_of(
        &builder,
        &noon,
        Timestamp::EPOCH,
        &score::ExpectedUse::new(2),
    );
    assert_eq!(soon, [(87 + 87) / 2, (87 + 87) / 2]);
    let before_noon = Timestamp::from_secs(11 * 3_600);
    let seen = score_of(&builder, &noon, before_noon, &score::ExpectedUse::new(2));
    assert_eq!(seen, [(25 + 87) / 2, (56 + 87) / 2]);
}

#[test]
fn data_draws_pods_and_binds_them_where_they_need_it() {
    let text = "
        node a cpu=4 memory=8Gi data=orders=10Gi data=logs=30Gi
        node b cpu=4 memory=8Gi data=orders=20Gi
        node c cpu=4 memory=8Gi
        pod report data=orders";
    let cluster = cluster(text);
    let builder = cluster.builder();
    let pod = &cluster.pods[0];
    let score = score_of(&builder, pod, Timestamp::EPOCH, &score::DataLocality);
    assert_eq!(score, [50, 100, 0]);
    assert_eq!(nodes(&plan(&builder, &cluster)), ["b"]);

    let mut needy = cluster.clone();
    needy.pods[0] = pod
        .clone()
        .annotation(locality::NEEDS_ANNOTATION, "logs,maps");
    let refused = plan(&builder, &needy);
    let why = &refused.unplaced[0].why;
    assert_eq!(
        why.to_string(),
        "0/3 nodes fit: 2 lack data logs, 1 lacks data maps"
    );
    assert_eq!(why.outlook, Outlook::Never);
    let mut node = cluster.nodes[0].clone();
    let all = "logs=1,maps=1".into();
    node.metadata
        .annotations
        .insert(locality::DATA_ANNOTATION.into(), all);
    let mut builder = builder;
    assert!(why.is_helped_by(builder.apply_node(&node)));
    assert_eq!(nodes(&plan(&builder, &needy)), ["a"]);
}

#[test]
fn images_draw_pods_the_more_the_more_nodes_have_them() {
    let text = "
        node a cpu=4 memory=8Gi image=shop:latest=800Mi
        node b cpu=4 memory=8Gi image=shop:latest=800Mi image=other:1=9Gi
        node c cpu=4 memory=8Gi
        pod shop image=shop";
    let cluster = cluster(text);
    let mut builder = cluster.builder();
    let score = |builder: &SnapshotBuilder| {
        score_of(
            builder,
            &cluster.pods[0],
            Timestamp::EPOCH,
            &score::ImageLocality,
        )
    };
    // 800 MiB on two of three nodes, from 23 to 1000 MiB.
    assert_eq!(score(&builder), [52, 52, 0]);
    builder.remove_node("b");
    assert_eq!(score(&builder), [38, 0], "on one of two");
    let framework = Framework::default();
    let place = |builder: &SnapshotBuilder| {
        let plan = framework.plan(&builder.snapshot(Revision(1)), &cluster.pending(), INPUTS);
        plan.placed[0].score
    };
    let before = place(&builder);
    // The same scheduler, asked again after an image went, has forgotten what it learned.
    builder.apply_node(&Node::new("a").capacity(4_000, 8_192, 110));
    builder.remove_node("c");
    assert_eq!(before - place(&builder), 38);
}

#[test]
fn storage_binds_pods_to_the_nodes_it_can_be_used_from() {
    let mut cluster =
        cluster("node a cpu=4 memory=8Gi zone=a\nnode b cpu=4 memory=8Gi zone=b\npod p");
    let volume =
        serde_json::json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "disk" } }]);
    cluster.pods[0].spec.volumes = serde_json::from_value(volume).unwrap();
    let claim = ObjectKey::namespaced("default", "disk");
    let only = |zone: &str| NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: vec![NodeSelectorRequirement {
                key: Node::ZONE_LABEL.into(),
                values: vec![zone.into()],
                ..NodeSelectorRequirement::default()
            }],
            ..NodeSelectorTerm::default()
        }],
    };
    let mut builder = cluster.builder();
    let framework = Framework::default();
    let place = |builder: &SnapshotBuilder| {
        framework.plan(&builder.snapshot(Revision(1)), &cluster.pending(), INPUTS)
    };
    assert_eq!(place(&builder).placed.len(), 1, "nothing is known of it");
    for zone in ["a", "b"] {
        builder.set_volume(claim.clone(), only(zone));
        assert_eq!(nodes(&place(&builder)), [zone], "by the same scheduler");
    }
    builder.set_volume(claim.clone(), only("c"));
    let refused = place(&builder);
    let why = &refused.unplaced[0].why;
    assert_eq!(
        why.to_string(),
        "0/2 nodes fit: 2 are out of reach of claim default/disk"
    );
    assert!(why.is_helped_by(builder.set_volume(claim.clone(), only("a"))));
    assert_eq!(builder.set_volume(claim.clone(), only("a")), Changes::NONE);
    assert_eq!(builder.remove_volume(&claim), Changes::VOLUMES);
}
