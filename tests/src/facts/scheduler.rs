//! Placement: the filters and scores of `orchestra_sched::place`, each by itself.

use std::collections::BTreeMap;

use orchestra_core::kind::pod::{Affinity, Container, ContainerPort, NodeAffinity};
use orchestra_core::kind::{Invalid, Namespace, Node, Pod, Protocol};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::{Quantity, ResourceList};
use orchestra_core::time::Timestamp;
use orchestra_sched::fits::{Obstacle, Verdict};
use orchestra_sched::place::plugin::{Cycle, Filter, Scorer};
use orchestra_sched::place::preempt::choose;
use orchestra_sched::place::score::{Point, Shape, Weights};
use orchestra_sched::place::{Pending, Profile, filter, score, scores, scores_among, verdicts};
use orchestra_sched::snapshot::{Ledger, NodeIx, SnapshotBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::{Check, Complaint, read, same};

pub(super) fn check_for(section: &str) -> Option<Check> {
    Some(match section {
        "taint_toleration_filter" => taint_toleration_filter,
        "taint_toleration_score" => taint_toleration_score,
        "node_affinity_filter" => node_affinity_filter,
        "node_affinity_score" => node_affinity_score,
        "node_resources_fit" => node_resources_fit,
        "node_ports" => node_ports,
        "pod_topology_spread_filter" => pod_topology_spread_filter,
        "pod_topology_spread_score" => pod_topology_spread_score,
        "inter_pod_affinity_filter" => inter_pod_affinity_filter,
        "inter_pod_affinity_score" => inter_pod_affinity_score,
        "image_locality_score" => image_locality_score,
        "requested_to_capacity_ratio_score" => requested_to_capacity_ratio,
        "least_allocated_score" => least_allocated,
        "most_allocated_score" => most_allocated,
        "preemption_select_candidate" => preemption_choice,
        _ => return None,
    })
}

fn taint_toleration_filter(row: &Value) -> Result<(), Complaint> {
    let found = filtered(
        &filter::TaintToleration,
        &part(row, "node")?,
        &[],
        &part(row, "pod")?,
    );
    expect_code(row, found.0)
}

fn node_affinity_filter(row: &Value) -> Result<(), Complaint> {
    let node = part(row, "node")?;
    let verdict = filtered(&filter::NodeAffinity, &node, &[], &part(row, "pod")?).0;
    // What an operator requires of every pod binds like what the pod requires.
    let Some(added) = row.get("addedAffinity") else {
        return expect_code(row, verdict);
    };
    let mut pod = Pod::default();
    pod.spec.affinity = Some(Box::new(Affinity {
        node_affinity: Some(read::<NodeAffinity>(added)?),
        ..Affinity::default()
    }));
    expect_code(
        row,
        verdict.max(filtered(&filter::NodeAffinity, &node, &[], &pod).0),
    )
}

fn taint_toleration_score(row: &Value) -> Result<(), Complaint> {
    let nodes: Vec<Node> = part(row, "nodes")?;
    expect_scores(
        row,
        scored(&score::TaintToleration, &nodes, &[], &part(row, "pod")?),
    )
}

fn node_affinity_score(row: &Value) -> Result<(), Complaint> {
    let nodes: Vec<Node> = part(row, "nodes")?;
    let mut pod: Pod = part(row, "pod")?;
    // What an operator prefers for every pod counts like what the pod prefers.
    if let Some(added) = row.get("addedAffinity") {
        let added: NodeAffinity = read(added)?;
        let affinity = pod.spec.affinity.get_or_insert_default();
        let own = affinity.node_affinity.get_or_insert_default();
        own.preferred.extend(added.preferred);
    }
    expect_scores(row, scored(&score::NodeAffinity, &nodes, &[], &pod))
}

fn pod_topology_spread_filter(row: &Value) -> Result<(), Complaint> {
    let nodes: Vec<Node> = part(row, "nodes")?;
    let ledger = ledger(&nodes, &part::<Vec<Pod>>(row, "existingPods")?);
    let pod = Pending::of(&part(row, "pod")?, Timestamp::EPOCH);
    let cycle = Cycle::new(&ledger, &pod, Timestamp::EPOCH);
    let got: BTreeMap<String, String> = verdicts(&filter::PodTopologySpread, &cycle)
        .into_iter()
        .map(|(node, verdict, _)| {
            let name = ledger.snapshot().node(node).name().to_string();
            (name, format!("{verdict:?}"))
        })
        .collect();
    same(&read(&row["expect"])?, &got)
}

fn pod_topology_spread_score(row: &Value) -> Result<(), Complaint> {
    let candidates: Vec<Node> = part(row, "candidateNodes")?;
    let others: Vec<Node> = part(row, "nonCandidateNodes")?;
    let nodes = [candidates.clone(), others].concat();
    expect_scores(
        row,
        scored_among(
            &score::PodTopologySpread,
            &nodes,
            candidates.len(),
            &part::<Vec<Pod>>(row, "existingPods")?,
            &part(row, "pod")?,
            &[],
        ),
    )
}

fn inter_pod_affinity_filter(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    struct Expected {
        code: String,
        #[serde(default)]
        reasons: Vec<String>,
    }
    let nodes: Vec<Node> = part(row, "nodes")?;
    let expected: Vec<Expected> = read(&row["expect"])?;
    let expected: Vec<(String, Vec<String>)> = expected
        .into_iter()
        .map(|Expected { code, reasons }| (code, reasons))
        .collect();
    let pod: Pod = part(row, "pod")?;
    if selects_nonsense(&pod) {
        // Such a pod is refused before it is ever asked where it fits.
        let refused = format!("{:?}", Verdict::UnschedulableAndUnresolvable);
        let codes: Vec<String> = expected.into_iter().map(|(code, _)| code).collect();
        return same(&codes, &vec![refused; nodes.len()]);
    }
    let mut builder = builder(&nodes, &part::<Vec<Pod>>(row, "existingPods")?);
    for namespace in part::<Vec<Namespace>>(row, "namespaces")? {
        builder.apply_namespace(&namespace);
    }
    let ledger = Ledger::open(&builder.snapshot(Revision(1)));
    let pod = Pending::of(&pod, Timestamp::EPOCH);
    let cycle = Cycle::new(&ledger, &pod, Timestamp::EPOCH);
    let answers = verdicts(&filter::InterPodAffinity, &cycle);
    let got: Vec<(String, Vec<String>)> = answers
        .into_iter()
        .map(|(_, verdict, obstacles)| {
            // The tables name the first rule that is broken.
            let reasons = obstacles.first().map(reason).into_iter().collect();
            (format!("{verdict:?}"), reasons)
        })
        .collect();
    same(&expected, &got)
}

/// Whether the rules of pods refuse a selector among its affinity to pods.
fn selects_nonsense(pod: &Pod) -> bool {
    let affinity = pod.spec.affinity.as_deref();
    let sides = affinity.into_iter().flat_map(|affinity| {
        let sides = [&affinity.pod_affinity, &affinity.pod_anti_affinity];
        sides.into_iter().flatten()
    });
    let mut invalid = Invalid::new();
    for term in sides.flat_map(|side| &side.required) {
        let selectors = [&term.label_selector, &term.namespace_selector];
        for selector in selectors.into_iter().flatten() {
            selector.validate("selector", &mut invalid);
        }
    }
    !invalid.errors.is_empty()
}

fn inter_pod_affinity_score(row: &Value) -> Result<(), Complaint> {
    let nodes: Vec<Node> = part(row, "nodes")?;
    expect_scores(
        row,
        scored_among(
            &score::InterPodAffinity,
            &nodes,
            nodes.len(),
            &part::<Vec<Pod>>(row, "existingPods")?,
            &part(row, "pod")?,
            &part::<Vec<Namespace>>(row, "namespaces")?,
        ),
    )
}

/// A pod by what its containers request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Requests {
    containers: Vec<BTreeMap<String, Value>>,
    init_containers: Vec<BTreeMap<String, Value>>,
    overhead: BTreeMap<String, Value>,
}

impl Requests {
    fn pod(&self) -> Result<Pod, Complaint> {
        let container = |list| -> Result<Container, Complaint> {
            let mut container = Container::default();
            container.resources.requests = amounts(list)?;
            Ok(container)
        };
        let mut pod = Pod::default();
        pod.spec.containers = self
            .containers
            .iter()
            .map(container)
            .collect::<Result<_, _>>()?;
        pod.spec.init_containers = self
            .init_containers
            .iter()
            .map(container)
            .collect::<Result<_, _>>()?;
        pod.spec.overhead = amounts(&self.overhead)?;
        Ok(pod)
    }
}

/// `cpuMilli` in thousandths of a core, everything else in whole units or as a quantity.
fn amounts(list: &BTreeMap<String, Value>) -> Result<ResourceList, Complaint> {
    let amount = |(name, amount): (&String, &Value)| {
        let (name, quantity) = match (name.as_str(), amount.as_i64()) {
            ("cpuMilli", Some(milli)) => ("cpu", Quantity::from_milli(milli)),
            (name, Some(whole)) => (name, Quantity::from_int(whole)),
            (name, None) => (name, read(amount)?),
        };
        Ok((name.into(), quantity))
    };
    list.iter().map(amount).collect()
}

/// Takes out what a row says is not to be looked at: `ignoredResources` by name,
/// `ignoredResourceGroups` by what stands before the slash. Beside the pod, or among `args`.
fn leave_out_ignored(row: &Value, pod: &mut Requests) -> Result<(), Complaint> {
    let said = |key: &str| -> Result<Vec<String>, Complaint> {
        let list = row.get(key).or_else(|| row.get("args")?.get(key));
        list.map_or_else(|| Ok(Vec::new()), read)
    };
    let (names, groups) = (said("ignoredResources")?, said("ignoredResourceGroups")?);
    let lists = pod.containers.iter_mut().chain(&mut pod.init_containers);
    for list in lists.chain([&mut pod.overhead]) {
        list.retain(|name, _| {
            let group = name.split_once('/').map(|(group, _)| group);
            !names.contains(name) && !groups.iter().any(|ignored| Some(ignored.as_str()) == group)
        });
    }
    Ok(())
}

fn node_resources_fit(row: &Value) -> Result<(), Complaint> {
    let running: Vec<Requests> = part(row, "podsOnNode")?;
    let running = running
        .iter()
        .map(Requests::pod)
        .collect::<Result<Vec<_>, _>>()?;
    let node = sized("node", &part(row, "allocatable")?)?;
    let mut pod: Requests = part(row, "pod")?;
    leave_out_ignored(row, &mut pod)?;
    let pod = pod.pod()?;
    let (verdict, obstacles) = filtered(&filter::NodeResourcesFit, &node, &running, &pod);
    expect_code(row, verdict)?;
    let Some(expected) = row["expect"].get("reasons") else {
        return Ok(());
    };
    let mut expected: Vec<String> = read(expected)?;
    let mut reasons: Vec<String> = obstacles.iter().map(reason).collect();
    expected.sort();
    reasons.sort();
    same(&expected, &reasons)
}

/// What upstream's table calls it.
fn reason(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Lacks { resource, .. } if resource == "pods" => "Too many pods".to_owned(),
        Obstacle::Lacks { resource, .. } => format!("Insufficient {resource}"),
        Obstacle::NoCompany { .. } => "PodAffinityRules".to_owned(),
        Obstacle::Company { .. } => "PodAntiAffinityRules".to_owned(),
        Obstacle::Unwelcome { .. } => "ExistingPodsAntiAffinityRules".to_owned(),
        other => other.to_string(),
    }
}

fn node_ports(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Ports {
        host_ports: Vec<Port>,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Port {
        protocol: Protocol,
        #[serde(rename = "hostIP")]
        host_ip: String,
        host_port: u16,
    }
    let pod = |ports: &Ports| {
        let port = |port: &Port| ContainerPort {
            protocol: port.protocol,
            host_ip: port.host_ip.as_str().into(),
            host_port: port.host_port,
            ..ContainerPort::default()
        };
        let container = Container {
            ports: ports.host_ports.iter().map(port).collect(),
            ..Container::default()
        };
        Pod::default().container(container)
    };
    let running: Vec<Ports> = part(row, "podsOnNode")?;
    let running: Vec<Pod> = running.iter().map(pod).collect();
    let asking = pod(&part(row, "pod")?);
    let node = Node::new("node");
    expect_code(
        row,
        filtered(&filter::NodePorts, &node, &running, &asking).0,
    )
}

fn least_allocated(row: &Value) -> Result<(), Complaint> {
    allocated(
        row,
        &score::LeastAllocated {
            weights: weights(row)?.0,
            extended: weights(row)?.1,
        },
    )
}

fn most_allocated(row: &Value) -> Result<(), Complaint> {
    allocated(
        row,
        &score::MostAllocated {
            weights: weights(row)?.0,
            extended: weights(row)?.1,
        },
    )
}

fn image_locality_score(row: &Value) -> Result<(), Complaint> {
    let nodes: Vec<Node> = part(row, "nodes")?;
    expect_scores(
        row,
        scored(&score::ImageLocality, &nodes, &[], &part(row, "pod")?),
    )
}

fn requested_to_capacity_ratio(row: &Value) -> Result<(), Complaint> {
    let points: Vec<(u32, u32)> = read(&row["shape"])?;
    let points = points
        .into_iter()
        .map(|(utilization, score)| Point { utilization, score });
    let shape = Shape::new(points).map_err(|error| Complaint::Unreadable(error.to_string()))?;
    allocated(
        row,
        &score::RequestedToCapacityRatio {
            shape,
            weights: weights(row)?.0,
            extended: weights(row)?.1,
        },
    )
}

fn weights(row: &Value) -> Result<(Weights, Vec<(SmolStr, u32)>), Complaint> {
    let said: BTreeMap<String, u32> = match row.get("weights") {
        Some(weights) if weights.is_null() => BTreeMap::new(),
        Some(weights) => read(weights)?,
        None => return Ok((Weights::default(), Vec::new())),
    };
    let of = |name: &str| said.get(name).copied().unwrap_or(0);
    let extended = said
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"))
        .map(|(name, weight)| (name.as_str().into(), *weight));
    let weights = Weights {
        cpu: of("cpu"),
        memory: of("memory"),
    };
    Ok((weights, extended.collect()))
}

fn allocated(row: &Value, scorer: &dyn Scorer) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    struct Machine {
        name: String,
        #[serde(flatten)]
        amounts: BTreeMap<String, Value>,
    }
    #[derive(Debug, Deserialize)]
    struct On {
        node: String,
        requests: BTreeMap<String, Value>,
    }
    let asking = |mut requests: BTreeMap<String, Value>| {
        // The table speaks of requests only: what it leaves out is nothing, not a guess.
        for name in ["cpuMilli", "memory"] {
            requests.entry(name.to_owned()).or_insert(json!(0));
        }
        Requests {
            containers: vec![requests],
            ..Requests::default()
        }
        .pod()
    };
    let machines: Vec<Machine> = part(row, "nodes")?;
    let nodes: Vec<Node> = machines
        .iter()
        .map(|machine| sized(&machine.name, &machine.amounts))
        .collect::<Result<_, _>>()?;
    let mut running = Vec::new();
    for On { node, requests } in part::<Vec<On>>(row, "running")? {
        running.push(asking(requests)?.on_node(node));
    }
    let pod = asking(part(row, "incomingRequests")?)?;
    expect_scores(row, scored(scorer, &nodes, &running, &pod))
}

fn preemption_choice(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    struct Machine {
        name: String,
        allocatable: BTreeMap<String, Value>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asking {
        name: String,
        #[serde(default)]
        node: String,
        #[serde(default)]
        priority: i32,
        #[serde(default)]
        requests: BTreeMap<String, Value>,
        #[serde(default)]
        start_order: i64,
    }
    let asking = |asking: Asking| -> Result<Pod, Complaint> {
        let requests = Requests {
            containers: vec![asking.requests],
            ..Requests::default()
        };
        let mut pod = requests.pod()?.priority(asking.priority);
        pod.metadata.name = asking.name.into();
        pod.spec.node_name = asking.node.into();
        pod.status.start_time = Some(Timestamp::from_secs(asking.start_order));
        Ok(pod)
    };
    let mut builder = SnapshotBuilder::new();
    for machine in part::<Vec<Machine>>(row, "nodes")? {
        builder.apply_node(&sized(&machine.name, &machine.allocatable)?);
    }
    for (nth, running) in part::<Vec<Asking>>(row, "running")?.into_iter().enumerate() {
        let mut pod = asking(running)?;
        pod.metadata.uid = Uid(nth as u128 + 1);
        builder.apply_pod(&pod);
    }
    let now = Timestamp::EPOCH;
    let pod = Pending::of(&asking(part(row, "incoming")?)?, now);
    let found = choose(
        &Profile::default(),
        &builder.snapshot(Revision(1)),
        &pod,
        now,
    );
    let found = found.map(|found| found.node.to_string());
    let expected: Vec<String> = match row.get("expectAnyOf") {
        Some(names) => read(names)?,
        None => Vec::new(),
    };
    match &found {
        Some(node) if expected.contains(node) => Ok(()),
        None if expected.is_empty() => Ok(()),
        _ => same(&expected, &found.into_iter().collect()),
    }
}

fn sized(name: &str, allocatable: &BTreeMap<String, Value>) -> Result<Node, Complaint> {
    let mut node = Node::new(name);
    node.status.allocatable = amounts(allocatable)?;
    Ok(node)
}

/// A member of a row; one that is left out is empty.
fn part<T: serde::de::DeserializeOwned>(row: &Value, name: &str) -> Result<T, Complaint> {
    let said = row.get(name).filter(|part| !part.is_null());
    let absent = match name {
        "running" | "podsOnNode" | "existingPods" | "nodes" | "candidateNodes"
        | "nonCandidateNodes" | "namespaces" => json!([]),
        _ => json!({}),
    };
    read(said.unwrap_or(&absent)).map_err(|complaint| match complaint {
        Complaint::Unreadable(why) => Complaint::Unreadable(format!("{name}: {why}")),
        differs => differs,
    })
}

/// What a filter alone says of a node and a pod.
fn filtered(
    filter: &dyn Filter,
    node: &Node,
    running: &[Pod],
    pod: &Pod,
) -> (Verdict, Vec<Obstacle>) {
    let name = node.metadata.name.clone();
    let running: Vec<Pod> = running
        .iter()
        .map(|pod| pod.clone().on_node(name.clone()))
        .collect();
    let ledger = ledger(std::slice::from_ref(node), &running);
    let pod = Pending::of(pod, Timestamp::EPOCH);
    let answers = verdicts(filter, &Cycle::new(&ledger, &pod, Timestamp::EPOCH));
    answers
        .into_iter()
        .next()
        .map_or((Verdict::Success, Vec::new()), |(_, v, o)| (v, o))
}

/// What a scorer alone makes of each node.
fn scored(
    scorer: &dyn Scorer,
    nodes: &[Node],
    running: &[Pod],
    pod: &Pod,
) -> BTreeMap<String, u32> {
    let ledger = ledger(nodes, running);
    let pod = Pending::of(pod, Timestamp::EPOCH);
    scores(scorer, &Cycle::new(&ledger, &pod, Timestamp::EPOCH))
        .into_iter()
        .map(|(node, score)| (ledger.snapshot().node(node).name().to_string(), score))
        .collect()
}

/// What a scorer alone makes of the first `candidates` of the nodes, where only they fit.
fn scored_among(
    scorer: &dyn Scorer,
    nodes: &[Node],
    candidates: usize,
    running: &[Pod],
    pod: &Pod,
    namespaces: &[Namespace],
) -> BTreeMap<String, u32> {
    let mut builder = builder(nodes, running);
    for namespace in namespaces {
        builder.apply_namespace(namespace);
    }
    let ledger = Ledger::open(&builder.snapshot(Revision(1)));
    let pod = Pending::of(pod, Timestamp::EPOCH);
    let cycle = Cycle::new(&ledger, &pod, Timestamp::EPOCH);
    let fits = |node: NodeIx| {
        let name = ledger.snapshot().node(node).name();
        let mut first = nodes[..candidates].iter();
        first.any(|node| node.metadata.name == *name)
    };
    scores_among(scorer, &cycle, fits)
        .into_iter()
        .map(|(node, score)| (ledger.snapshot().node(node).name().to_string(), score))
        .collect()
}

fn ledger(nodes: &[Node], running: &[Pod]) -> Ledger {
    Ledger::open(&builder(nodes, running).snapshot(Revision(1)))
}

fn builder(nodes: &[Node], running: &[Pod]) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    for node in nodes {
        builder.apply_node(node);
    }
    for (nth, pod) in running.iter().enumerate() {
        let mut pod = pod.clone();
        pod.metadata.uid = Uid(nth as u128 + 1);
        builder.apply_pod(&pod);
    }
    builder
}

fn expect_code(row: &Value, got: Verdict) -> Result<(), Complaint> {
    same(
        &read::<String>(&row["expect"]["code"])?,
        &format!("{got:?}"),
    )
}

fn expect_scores(row: &Value, got: BTreeMap<String, u32>) -> Result<(), Complaint> {
    same(&row["expect"], &json!(got))
}
