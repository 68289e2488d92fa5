//! Small clusters whose parts often meet, and changes to them.

use orchestra_core::kind::pod::{
    Affinity, Container, ContainerPort, NodeAffinity, NodeInclusionPolicy, PodAffinity,
    PodAffinityTerm, PodPhase, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
    WhenUnsatisfiable,
};
use orchestra_core::kind::{
    ContainerImage, Namespace, Node, Pod, Protocol, Taint, TaintEffect, forecast, locality,
};
use orchestra_core::meta::{OwnerReference, Uid};
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::{
    LabelSelector, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm,
    PreferredSchedulingTerm,
};
use orchestra_core::time::Timestamp;
use orchestra_sched::place::Changes;
use orchestra_sched::snapshot::{PodId, SnapshotBuilder, Usage};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use smol_str::SmolStr;

const GPU: &str = "example.com/gpu";

/// A builder that has seen all of them.
pub(crate) fn build(nodes: &[Node], pods: &[Pod]) -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    for node in nodes {
        builder.apply_node(node);
    }
    for pod in pods {
        builder.apply_pod(pod);
    }
    builder
}

/// Nodes, and pods of a few shapes, of which some run on them.
pub(crate) fn cluster() -> impl Strategy<Value = (Vec<Node>, Vec<Pod>)> {
    let pods = vec((0usize..4, weighted(0.25, 0usize..8)), 0..24);
    (vec(node_body(), 0..7), vec(pod_body(), 4), pods).prop_map(|(nodes, shapes, pods)| {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .enumerate()
            .map(|(n, node)| name_node(n, node))
            .collect();
        let pods = pods.into_iter().enumerate().map(|(n, (shape, on))| {
            let mut pod = name_pod(n, shapes[shape].clone());
            pod.spec.node_name = on.map(|on| format!("n{on}").into()).unwrap_or_default();
            pod
        });
        (nodes, pods.collect())
    })
}

/// The `n`-th pod.
pub(crate) fn pod(n: usize) -> impl Strategy<Value = Pod> {
    pod_body().prop_map(move |pod| name_pod(n, pod))
}

fn name_node(n: usize, mut node: Node) -> Node {
    node.metadata.name = format!("n{n}").into();
    let labels = &mut node.metadata.labels;
    labels.insert(Node::HOSTNAME_LABEL.into(), format!("n{n}").into());
    node
}

fn name_pod(n: usize, mut pod: Pod) -> Pod {
    pod.metadata.name = format!("p{n}").into();
    pod.metadata.uid = Uid(n as u128 + 1);
    pod
}

fn node_body() -> impl Strategy<Value = Node> {
    let taint = (0..2usize, 0..2usize, 0..3usize).prop_map(|(key, value, effect)| Taint {
        value: ["", "x"][value].into(),
        ..Taint::new(
            ["t0", "t1"][key],
            [
                TaintEffect::NoSchedule,
                TaintEffect::NoExecute,
                TaintEffect::PreferNoSchedule,
            ][effect],
        )
    });
    let labels = vec((0..2usize, 0..3usize), 0..3);
    let amounts = (0i64..5, 0i64..6, 0i64..4, 0i64..3, weighted(0.8, 0i64..6));
    let lies_there = (vec((0usize..3, 0i64..3), 0..2), weighted(0.4, 0usize..3));
    (
        lies_there,
        amounts,
        labels,
        vec(taint, 0..3),
        proptest::bool::weighted(0.1),
    )
        .prop_map(
            |((images, data), (cpu, memory, disk, gpu, pods), labels, taints, closed)| {
                let mut node = Node::new("n")
                    .resource("cpu", Quantity::from_milli(cpu * 500))
                    .resource("memory", Quantity::from_bytes(memory << 28))
                    .resource("ephemeral-storage", Quantity::from_bytes(disk << 20))
                    .resource(GPU, Quantity::from_int(gpu));
                if let Some(pods) = pods {
                    node = node.resource("pods", Quantity::from_int(pods));
                }
                for (key, value) in labels {
                    node = node.label(NODE_LABELS[key], ["1", "2", "x"][value]);
                }
                node.status.images = images
                    .into_iter()
                    .map(|(name, size)| ContainerImage {
                        names: vec![["i:latest", "big:1", "big:2"][name].into()],
                        size_bytes: (size * 700) << 20,
                    })
                    .collect();
                if let Some(data) = data {
                    let data = ["d0=1Gi", "d1=3Gi", "d0=2Gi,d1=1"][data].into();
                    let annotations = &mut node.metadata.annotations;
                    annotations.insert(locality::DATA_ANNOTATION.into(), data);
                }
                node.spec.taints = taints;
                node.spec.unschedulable = closed;
                node
            },
        )
}

fn pod_body() -> impl Strategy<Value = Pod> {
    let container = || {
        let amounts = (
            weighted(0.8, 0i64..5),
            weighted(0.8, 0i64..5),
            weighted(0.2, 0i64..3),
            weighted(0.2, 0i64..2),
            0usize..3,
        );
        amounts.prop_map(|(cpu, memory, disk, gpu, image)| {
            let mut container = Container::new("c", ["i", "big:1", "big:2"][image]);
            let requests = &mut container.resources.requests;
            requests.extend(cpu.map(|n| ("cpu".into(), Quantity::from_milli(n * 100))));
            requests.extend(memory.map(|n| ("memory".into(), Quantity::from_bytes(n << 26))));
            requests
                .extend(disk.map(|n| ("ephemeral-storage".into(), Quantity::from_bytes(n << 20))));
            requests.extend(gpu.map(|n| (GPU.into(), Quantity::from_int(n))));
            container
        })
    };
    let port =
        (0..2usize, 0..3usize, 80u16..82).prop_map(|(protocol, ip, host_port)| ContainerPort {
            container_port: 1,
            host_port,
            host_ip: ["", "10.0.0.1", "10.0.0.2"][ip].into(),
            protocol: [Protocol::Tcp, Protocol::Udp][protocol],
            ..ContainerPort::default()
        });
    let toleration = (0..4usize, 0..4usize).prop_map(|(what, effect)| {
        let toleration = match what {
            0 => Toleration::exists(""),
            1 => Toleration::exists("t0"),
            2 => Toleration::equal("t1", "x"),
            _ => Toleration::exists(Taint::UNSCHEDULABLE),
        };
        let effects = [
            None,
            Some(TaintEffect::NoSchedule),
            Some(TaintEffect::NoExecute),
            Some(TaintEffect::PreferNoSchedule),
        ];
        Toleration {
            effect: effects[effect],
            ..toleration
        }
    });
    let affinity = (
        weighted(0.2, vec(term(), 0..3)),
        vec((1i32..100, term()), 0..3),
    );
    let notes = (weighted(0.2, 0usize..3), weighted(0.2, 0usize..24));
    (
        (weighted(0.5, relations()), notes),
        vec(container(), 1..3),
        weighted(0.3, container()),
        vec(port, 0..2),
        vec(toleration, 0..3),
        weighted(0.2, (0..2usize, 0..3usize)),
        weighted(0.4, affinity),
        (0..3i32, 0i64..3, 0..3usize),
    )
        .prop_map(
            |(
                (relations, notes),
                containers,
                init,
                ports,
                tolerations,
                selector,
                affinity,
                rest,
            )| {
                let mut pod = Pod::builder("p").namespace("default").priority(rest.0);
                pod.metadata.creation_timestamp = Some(Timestamp::from_secs(rest.1));
                pod = pod.label("app", ["a", "b", "c"][rest.2]);
                pod.spec.containers = containers;
                pod.spec.init_containers = init.into_iter().collect();
                // Ports are rarer than pods, else little runs together.
                if rest.2 == 0 {
                    pod.spec.containers[0].ports = ports;
                }
                pod.spec.tolerations = tolerations;
                if let Some((key, value)) = selector {
                    pod = pod.node_selector(NODE_LABELS[key], ["1", "2", "x"][value]);
                }
                if let Some((required, preferred)) = affinity {
                    let node_affinity = NodeAffinity {
                        required: required.map(|node_selector_terms| NodeSelector {
                            node_selector_terms,
                        }),
                        preferred: preferred
                            .into_iter()
                            .map(|(weight, preference)| PreferredSchedulingTerm {
                                weight,
                                preference,
                            })
                            .collect(),
                    };
                    let affinity = Affinity {
                        node_affinity: Some(node_affinity),
                        ..Affinity::default()
                    };
                    pod.spec.affinity = Some(Box::new(affinity));
                }
                if let Some(reads) = notes.0 {
                    let (kind, names) = [
                        (locality::WANTS_ANNOTATION, "d0"),
                        (locality::WANTS_ANNOTATION, "d1,d0"),
                        (locality::NEEDS_ANNOTATION, "d0"),
                    ][reads];
                    pod = pod.annotation(kind, names);
                }
                if let Some(peak) = notes.1 {
                    let mut day = ["100m"; 24];
                    day[peak] = "1500m";
                    pod = pod.annotation(forecast::CPU_ANNOTATION, day.join(","));
                }
                if let Some(relations) = relations {
                    relations.give(&mut pod);
                }
                pod
            },
        )
}

/// What a pod asks of others.
#[derive(Clone, Debug)]
struct Relations {
    other_namespace: bool,
    version: Option<usize>,
    template: Option<usize>,
    spread: Vec<TopologySpreadConstraint>,
    near: PodAffinity,
    away: PodAffinity,
}

impl Relations {
    fn give(self, pod: &mut Pod) {
        if self.other_namespace {
            pod.metadata.namespace = "other".into();
        }
        if let Some(version) = self.version {
            let version = ["1", "2"][version].into();
            pod.metadata.labels.insert("version".into(), version);
        }
        if let Some(template) = self.template {
            let labels = &mut pod.metadata.labels;
            labels.insert(Pod::TEMPLATE_HASH_LABEL.into(), ["a", "b"][template].into());
            pod.metadata.owner_references = vec![OwnerReference {
                controller: Some(true),
                ..OwnerReference::default()
            }];
        }
        pod.spec.topology_spread_constraints = self.spread;
        let affinity = pod.spec.affinity.get_or_insert_default();
        affinity.pod_affinity = Some(self.near);
        affinity.pod_anti_affinity = Some(self.away);
    }
}

const NODE_LABELS: [&str; 2] = ["l0", Node::ZONE_LABEL];
const TOPOLOGIES: [&str; 4] = ["l0", Node::ZONE_LABEL, Node::HOSTNAME_LABEL, "unknown"];

fn relations() -> impl Strategy<Value = Relations> {
    let (near, away) = (pod_affinity(), pod_affinity());
    (
        proptest::bool::weighted(0.2),
        (weighted(0.5, 0usize..2), weighted(0.4, 0usize..2)),
        vec(spread(), 0..3),
        weighted(0.4, near),
        weighted(0.4, away),
    )
        .prop_map(
            |(other_namespace, (version, template), spread, near, away)| Relations {
                other_namespace,
                version,
                template,
                spread,
                near: near.unwrap_or_default(),
                away: away.unwrap_or_default(),
            },
        )
}

fn keys() -> impl Strategy<Value = Vec<SmolStr>> {
    weighted(0.2, 0usize..2).prop_map(|key| {
        let key = key.map(|key| ["version", "unknown"][key].into());
        key.into_iter().collect()
    })
}

fn spread() -> impl Strategy<Value = TopologySpreadConstraint> {
    let policy = || {
        weighted(0.4, any::<bool>()).prop_map(|honor| {
            honor.map(|honor| {
                if honor {
                    NodeInclusionPolicy::Honor
                } else {
                    NodeInclusionPolicy::Ignore
                }
            })
        })
    };
    (
        (1u32..3, 0usize..8, any::<bool>(), weighted(0.2, 1u32..5)),
        selector(),
        (policy(), policy()),
        keys(),
    )
        .prop_map(|(numbers, label_selector, policies, match_label_keys)| {
            let (max_skew, key, required, min_domains) = numbers;
            TopologySpreadConstraint {
                max_skew,
                topology_key: TOPOLOGIES[key.saturating_sub(4)].into(),
                when_unsatisfiable: if required {
                    WhenUnsatisfiable::DoNotSchedule
                } else {
                    WhenUnsatisfiable::ScheduleAnyway
                },
                label_selector,
                min_domains,
                node_affinity_policy: policies.0,
                node_taints_policy: policies.1,
                match_label_keys,
            }
        })
}

fn pod_affinity() -> impl Strategy<Value = PodAffinity> {
    (vec(pod_term(), 0..2), vec((1i32..100, pod_term()), 0..3)).prop_map(|(required, preferred)| {
        PodAffinity {
            required,
            preferred: preferred
                .into_iter()
                .map(|(weight, pod_affinity_term)| WeightedPodAffinityTerm {
                    weight,
                    pod_affinity_term,
                })
                .collect(),
        }
    })
}

fn pod_term() -> impl Strategy<Value = PodAffinityTerm> {
    let namespaces = vec(0usize..2, 0..2).prop_map(|names| {
        let names = names.into_iter().map(|name| ["default", "other"][name]);
        names.map(Into::into).collect::<Vec<SmolStr>>()
    });
    (
        (0usize..8, namespaces, weighted(0.2, any::<bool>())),
        selector(),
        (keys(), keys()),
    )
        .prop_map(|(place, label_selector, keys)| {
            let (key, namespaces, every_namespace) = place;
            PodAffinityTerm {
                label_selector,
                namespaces,
                namespace_selector: every_namespace.map(|every| {
                    let one = [("team".into(), "a".into())].into();
                    if every {
                        LabelSelector::default()
                    } else {
                        LabelSelector::of(one)
                    }
                }),
                topology_key: TOPOLOGIES[key.saturating_sub(4)].into(),
                match_label_keys: keys.0,
                mismatch_label_keys: keys.1,
            }
        })
}

fn selector() -> impl Strategy<Value = Option<LabelSelector>> {
    (0usize..8).prop_map(|which| {
        let text = match which {
            0 => return None,
            1 => return Some(LabelSelector::default()),
            2 => "app=a",
            3 => "app in (a,b)",
            4 => "app notin (a)",
            5 => "app",
            6 => "version=1",
            _ => "!version",
        };
        Some(text.parse().expect("a selector"))
    })
}

fn term() -> impl Strategy<Value = NodeSelectorTerm> {
    use NodeSelectorOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    vec((0..2usize, 0..6usize, 0..2usize), 0..3).prop_map(|expressions| NodeSelectorTerm {
        match_expressions: expressions
            .into_iter()
            .map(|(key, operator, value)| {
                let operator = [In, NotIn, Exists, DoesNotExist, Gt, Lt][operator];
                let values = match operator {
                    Exists | DoesNotExist => vec![],
                    _ => vec![["1", "2"][value].into()],
                };
                NodeSelectorRequirement {
                    key: NODE_LABELS[key].into(),
                    operator,
                    values,
                }
            })
            .collect(),
        match_fields: vec![],
    })
}

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A node appears, or becomes another.
    SetNode(usize, Box<Node>),
    /// A node goes.
    RemoveNode(usize),
    /// A pod goes.
    RemovePod(usize),
    /// A pod ends.
    Finish(usize),
    /// A pod is told to end.
    End(usize),
    /// A pod runs there.
    Run(usize, usize),
    /// A node is seen to use so much CPU, or not looked at.
    Use(usize, Option<i64>),
    /// A namespace belongs to team `a`, or to nobody.
    Name(usize, bool),
}

/// Any change.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0usize..8, node_body()).prop_map(|(n, node)| Change::SetNode(n, Box::new(node))),
        (0usize..8).prop_map(Change::RemoveNode),
        (0usize..24).prop_map(Change::RemovePod),
        (0usize..24).prop_map(Change::Finish),
        (0usize..24).prop_map(Change::End),
        (0usize..8, weighted(0.8, 0i64..5)).prop_map(|(node, cpu)| Change::Use(node, cpu)),
        (0usize..2, any::<bool>()).prop_map(|(name, team)| Change::Name(name, team)),
        (0usize..24, 0usize..8).prop_map(|(pod, node)| Change::Run(pod, node)),
    ]
}

impl Change {
    /// Does it to the lists and to the builder.
    pub(crate) fn apply(
        &self,
        nodes: &mut Vec<Node>,
        pods: &mut Vec<Pod>,
        builder: &mut SnapshotBuilder,
    ) -> Changes {
        let pod_at = |pods: &[Pod], n: usize| {
            pods.iter()
                .position(|pod| pod.metadata.name == format!("p{n}"))
        };
        match self {
            Self::SetNode(n, node) => {
                let node = name_node(*n, (**node).clone());
                nodes.retain(|other| other.metadata.name != node.metadata.name);
                nodes.push(node.clone());
                builder.apply_node(&node)
            }
            Self::RemoveNode(n) => {
                let name = format!("n{n}");
                nodes.retain(|other| other.metadata.name != name);
                builder.remove_node(&name)
            }
            Self::RemovePod(n) => match pod_at(pods, *n) {
                Some(at) => builder.remove_pod(&PodId::of(&pods.swap_remove(at))),
                None => Changes::NONE,
            },
            Self::Finish(n) => match pod_at(pods, *n) {
                Some(at) => {
                    pods[at].status.phase = PodPhase::Succeeded;
                    builder.apply_pod(&pods[at])
                }
                None => Changes::NONE,
            },
            Self::End(n) => match pod_at(pods, *n) {
                Some(at) => {
                    pods[at].metadata.deletion_timestamp = Some(Timestamp::EPOCH);
                    builder.apply_pod(&pods[at])
                }
                None => Changes::NONE,
            },
            Self::Use(node, cpu) => {
                let usage = cpu.map(|cpu| Usage {
                    cpu_milli: cpu * 400,
                    memory: 1 << 26,
                    at: Timestamp::EPOCH,
                });
                builder.set_usage(&format!("n{node}"), usage);
                Changes::NONE
            }
            Self::Name(name, team) => {
                let mut namespace = Namespace::new(["default", "other"][*name]);
                if *team {
                    let labels = &mut namespace.metadata.labels;
                    labels.insert("team".into(), "a".into());
                }
                builder.apply_namespace(&namespace)
            }
            Self::Run(n, node) => match pod_at(pods, *n) {
                Some(at) => {
                    pods[at].spec.node_name = format!("n{node}").into();
                    builder.apply_pod(&pods[at])
                }
                None => Changes::NONE,
            },
        }
    }
}
