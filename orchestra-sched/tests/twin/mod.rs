//! The rules once more, as plainly as can be, from the kinds alone.

mod relations;

use std::collections::BTreeMap;

use orchestra_core::kind::pod::PodSpec;
use orchestra_core::kind::{Node, Pod, Taint, TaintEffect, locality};
use orchestra_core::quantity::Quantity;
use relations::Way;

/// Nodes, and what runs on each.
pub(crate) struct Twin {
    nodes: Vec<(Node, Vec<Pod>)>,
}

/// The order in which pods are considered.
pub(crate) fn order(pods: &[&Pod]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pods.len()).collect();
    order.sort_by_key(|&at| {
        let pod = pods[at];
        (
            -pod.spec.priority.unwrap_or(0),
            pod.metadata.creation_timestamp,
            pod.metadata.uid,
        )
    });
    order
}

impl Twin {
    pub(crate) fn new(nodes: &[Node], pods: &[Pod]) -> Self {
        let on = |node: &Node| {
            let here = |pod: &&Pod| pod.spec.node_name == node.metadata.name;
            pods.iter().filter(here).cloned().collect()
        };
        Self {
            nodes: nodes.iter().map(|node| (node.clone(), on(node))).collect(),
        }
    }

    pub(crate) fn run(&mut self, pod: &Pod, node: &str) {
        let (_, pods) = self
            .nodes
            .iter_mut()
            .find(|(n, _)| n.metadata.name == node)
            .unwrap();
        pods.push(pod.clone());
    }

    /// Whether pods that come and go could make it fit somewhere.
    pub(crate) fn may_fit(&self, pod: &Pod) -> bool {
        self.nodes.iter().any(|(node, _)| {
            fits(node, &[], pod)
                && relations::spread(&self.nodes, node, pod) != Way::Never
                && relations::company(&self.nodes, node, pod) != Way::Never
        })
    }

    /// How much of the pod's images is on the node, each the less the fewer nodes have it.
    fn images(&self, node: &Node, pod: &Pod) -> u64 {
        let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
        let containers: Vec<_> = containers.collect();
        let size = |node: &Node, image: &str| {
            let mut images = node.status.images.iter();
            let held = images.find(|held| held.names.iter().any(|name| name == image));
            held.map(|held| held.size_bytes)
        };
        let mut sum = 0;
        for container in &containers {
            let image = match container.image.contains(':') {
                true => container.image.to_string(),
                false => format!("{}:latest", container.image),
            };
            let having = self
                .nodes
                .iter()
                .filter(|(node, _)| size(node, &image).is_some());
            let share = having.count() as f64 / self.nodes.len() as f64;
            sum += (size(node, &image).unwrap_or(0) as f64 * share) as i64;
        }
        let (least, most) = (23 << 20, (1_000 << 20) * containers.len() as i64);
        (100 * (sum.clamp(least, most) - least) / (most - least)) as u64
    }

    /// The highest score, and the nodes that have it.
    pub(crate) fn best(&self, pod: &Pod) -> (u64, Vec<&str>) {
        let fitting: Vec<&(Node, Vec<Pod>)> = self
            .nodes
            .iter()
            .filter(|(node, pods)| {
                fits(node, pods, pod)
                    && relations::spread(&self.nodes, node, pod) == Way::Free
                    && relations::company(&self.nodes, node, pod) == Way::Free
            })
            .collect();
        let candidates: Vec<&Node> = fitting.iter().map(|(node, _)| node).collect();
        let spreads = relations::spread_scores(&self.nodes, &candidates, pod);
        let companies = relations::company_scores(&self.nodes, &candidates, pod);
        let taints: Vec<u64> = fitting
            .iter()
            .map(|(node, _)| soft_taints(node, pod))
            .collect();
        let wishes: Vec<u64> = fitting
            .iter()
            .map(|(node, _)| preferred(node, pod))
            .collect();
        let data: Vec<u64> = (fitting.iter())
            .map(|(node, _)| wanted_data(node, pod))
            .collect();
        // Where no node there is has a soft taint, or the pod no wish, the rule is not asked.
        let any_soft = self.nodes.iter().any(|(node, _)| {
            node.spec
                .taints
                .iter()
                .any(|taint| taint.effect == TaintEffect::PreferNoSchedule)
        });
        let scores: Vec<u64> = fitting
            .iter()
            .enumerate()
            .map(|(i, (node, pods))| {
                let taint = if any_soft {
                    100 - share(taints[i], &taints)
                } else {
                    0
                };
                3 * taint
                    + 2 * share(wishes[i], &wishes)
                    + 2 * spreads[i]
                    + 2 * companies[i]
                    + self.images(node, pod)
                    + share(data[i], &data)
                    + least(node, pods, pod)
                    + balanced(node, pods, pod)
            })
            .collect();
        let best = scores.iter().copied().max().unwrap_or(0);
        let winners = fitting
            .iter()
            .zip(&scores)
            .filter(|(_, score)| **score == best);
        (
            best,
            winners
                .map(|((node, _), _)| node.metadata.name.as_str())
                .collect(),
        )
    }
}

fn share(raw: u64, all: &[u64]) -> u64 {
    (100 * raw)
        .checked_div(all.iter().copied().max().unwrap_or(0))
        .unwrap_or(0)
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.spec
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(taint))
}

fn soft_taints(node: &Node, pod: &Pod) -> u64 {
    let soft =
        |taint: &&Taint| taint.effect == TaintEffect::PreferNoSchedule && !tolerates(pod, taint);
    node.spec.taints.iter().filter(soft).count() as u64
}

fn preferred(node: &Node, pod: &Pod) -> u64 {
    let affinity = pod
        .spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity
        .into_iter()
        .flat_map(|affinity| &affinity.preferred);
    terms
        .filter(|term| {
            term.preference
                .matches(&node.metadata.name, &node.metadata.labels)
        })
        .map(|term| term.weight as u64)
        .sum()
}

fn fits(node: &Node, pods: &[Pod], pod: &Pod) -> bool {
    if node.spec.unschedulable
        && !tolerates(
            pod,
            &Taint::new(Taint::UNSCHEDULABLE, TaintEffect::NoSchedule),
        )
    {
        return false;
    }
    let hard = |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule;
    if node
        .spec
        .taints
        .iter()
        .filter(hard)
        .any(|taint| !tolerates(pod, taint))
    {
        return false;
    }
    if !wanted(node, pod) {
        return false;
    }
    let there = locality::data_of(node);
    let lies_there = |name| there.iter().any(|(held, _)| held == name);
    if !locality::names(pod, locality::NEEDS_ANNOTATION)
        .iter()
        .all(lies_there)
    {
        return false;
    }
    let slots = node
        .status
        .allocatable
        .get("pods")
        .map_or(110, Quantity::as_int);
    if pods.len() as i64 + 1 > slots {
        return false;
    }
    for (name, asked) in pod.requests() {
        let used: i128 = pods.iter().map(|pod| amount(&pod.requests(), &name)).sum();
        let asked = milli(&asked);
        if asked > 0 && used + asked > amount(&node.status.allocatable, &name) {
            return false;
        }
    }
    for (wanted, ip) in ports(pod) {
        for (taken, other) in pods.iter().flat_map(ports) {
            let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
            if wanted == taken && (ip == other || any(&ip) || any(&other)) {
                return false;
            }
        }
    }
    true
}

/// Whether the pod's node selector and node affinity want the node.
fn wanted(node: &Node, pod: &Pod) -> bool {
    let labels = &node.metadata.labels;
    let mut selector = pod.spec.node_selector.iter();
    let affinity = pod
        .spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    selector.all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|required| required.matches(&node.metadata.name, labels))
}

/// The MiB, begun ones counting, of data on the node that the pod wants.
fn wanted_data(node: &Node, pod: &Pod) -> u64 {
    let wants = locality::names(pod, locality::WANTS_ANNOTATION);
    let there = locality::data_of(node).into_iter();
    let bytes: i64 = there
        .filter(|(name, _)| wants.contains(name))
        .map(|(_, size)| size)
        .sum();
    (bytes as u64 >> 20) + u64::from(bytes > 0)
}

fn ports(pod: &Pod) -> Vec<((u16, String), String)> {
    let all = pod
        .spec
        .containers
        .iter()
        .flat_map(|container| &container.ports);
    all.map(|port| {
        (
            (port.host_port, format!("{:?}", port.protocol)),
            port.host_ip.to_string(),
        )
    })
    .collect()
}

fn milli(quantity: &Quantity) -> i128 {
    quantity.as_milli().into()
}

fn amount(list: &BTreeMap<smol_str::SmolStr, Quantity>, name: &str) -> i128 {
    list.get(name).map_or(0, milli)
}

/// What a pod is taken to use of CPU (in thousandths) and memory (in thousandths of a byte).
fn guessed(pod: &Pod) -> [i128; 2] {
    let mut spec: PodSpec = pod.spec.clone();
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        let requests = &mut container.resources.requests;
        requests
            .entry("cpu".into())
            .or_insert("100m".parse().unwrap());
        requests
            .entry("memory".into())
            .or_insert("200Mi".parse().unwrap());
    }
    let requests = spec.requests();
    [amount(&requests, "cpu"), amount(&requests, "memory")]
}

fn least(node: &Node, pods: &[Pod], pod: &Pod) -> u64 {
    let mut sum = (0, 0);
    for (i, name) in ["cpu", "memory"].into_iter().enumerate() {
        let total = amount(&node.status.allocatable, name);
        if total > 0 {
            let used: i128 = pods.iter().chain([pod]).map(|pod| guessed(pod)[i]).sum();
            sum.0 += if used > total {
                0
            } else {
                (total - used) * 100 / total
            };
            sum.1 += 1;
        }
    }
    if sum.1 == 0 {
        0
    } else {
        (sum.0 / sum.1) as u64
    }
}

fn balanced(node: &Node, pods: &[Pod], pod: &Pod) -> u64 {
    let part = |name: &str| {
        let total = amount(&node.status.allocatable, name);
        let used: i128 = pods
            .iter()
            .chain([pod])
            .map(|pod| amount(&pod.requests(), name))
            .sum();
        (used.min(total), total)
    };
    let ((cpu, cpus), (memory, memories)) = (part("cpu"), part("memory"));
    if cpus == 0 || memories == 0 {
        return 100;
    }
    // 100 * (1 - |cpu / cpus - memory / memories| / 2), rounded down.
    let (distance, whole) = ((cpu * memories - memory * cpus).abs(), cpus * memories);
    ((200 * whole - 100 * distance) / (2 * whole)) as u64
}
