//! Small clusters drawn from a seed, in which everything meets everything.

use std::sync::Arc;

use orchestra_core::kind::pod::{Container, ContainerPort, PodAffinityTerm, Toleration};
use orchestra_core::kind::{Node, Pod, Taint, TaintEffect};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use rand::Rng as _;
use rand_pcg::Pcg64;

use crate::place::{Pending, Plan};
use crate::rng::PlanRng;
use crate::snapshot::{Running, Snapshot, SnapshotBuilder};

/// A small cluster, with pods that run and pods that want a node.
#[derive(Clone, Debug)]
pub struct World {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The pods: those with a `nodeName` run there.
    pub pods: Vec<Pod>,
}

/// Numbers below a bound.
struct Dice(Pcg64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        (self.0.next_u64() % below as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

impl World {
    /// The `n`th world of a seed: up to 8 nodes in up to 3 zones, and up to 24 pods of 4 shapes.
    pub fn draw(seed: u64, n: u64) -> Self {
        let rng = PlanRng::new(seed).part(&format!("world-{n}"));
        let mut dice = Dice(rng.stream("nodes"));
        let nodes: Vec<Node> = (0..dice.roll(9)).map(|n| node(n, &mut dice)).collect();
        let mut dice = Dice(rng.stream("pods"));
        let shapes: Vec<Pod> = (0..4).map(|_| shape(&mut dice)).collect();
        let pods = (0..dice.roll(25)).map(|n| {
            let mut pod = shapes[dice.roll(4)].clone();
            pod.metadata.name = format!("p{n}").into();
            pod.metadata.uid = Uid(n as u128 + 1);
            pod.metadata.creation_timestamp = Some(Timestamp::from_secs(dice.roll(3) as i64));
            if dice.one_in(4) {
                pod.spec.node_name = format!("n{}", dice.roll(8)).into();
            }
            pod
        });
        Self {
            pods: pods.collect(),
            nodes,
        }
    }

    /// A builder that has seen all of it.
    pub fn builder(&self) -> SnapshotBuilder {
        let mut builder = SnapshotBuilder::new();
        for node in &self.nodes {
            builder.apply_node(node);
        }
        for pod in &self.pods {
            builder.apply_pod(pod);
        }
        builder
    }

    /// The cluster as its pods' nodes see it.
    pub fn snapshot(&self) -> Snapshot {
        self.builder().snapshot(Revision(7))
    }

    /// The pods that want a node, in the order in which they were drawn.
    pub fn pending(&self) -> Vec<Pending> {
        let waiting = self.pods.iter().filter(|pod| pod.node_name().is_none());
        waiting.map(|pod| Pending::of(pod, super::NOW)).collect()
    }
}

/// Carries out what `plan` places.
pub(super) fn apply(builder: &mut SnapshotBuilder, pending: &[Pending], plan: &Plan) {
    for placement in &plan.placed {
        let pod = &pending[placement.pending];
        let mut demand = Arc::clone(&pod.demand);
        if let Some(wanted) = &mut Arc::make_mut(&mut demand).accelerators {
            wanted.held = placement.devices;
        }
        let running = Running {
            id: pod.id.clone(),
            demand,
            priority: pod.priority,
            started: None,
            terminating: false,
        };
        builder.set_pod(&placement.node, running);
    }
}

fn node(n: usize, dice: &mut Dice) -> Node {
    let cpu = 500 * dice.roll(9) as u32;
    let mut node = Node::new(format!("n{n}")).capacity(cpu, 1_024 * dice.roll(6) as u32, 8);
    node = node.label(Node::HOSTNAME_LABEL, format!("n{n}"));
    if !dice.one_in(5) {
        node = node.label("topology.kubernetes.io/zone", ["a", "b", "c"][dice.roll(3)]);
    }
    if dice.one_in(3) {
        node = node.label("disk", ["ssd", "hdd"][dice.roll(2)]);
    }
    if dice.one_in(4) {
        let effect = match dice.roll(3) {
            0 => TaintEffect::NoSchedule,
            1 => TaintEffect::NoExecute,
            _ => TaintEffect::PreferNoSchedule,
        };
        node.spec.taints.push(Taint::new("dedicated", effect));
    }
    node.spec.unschedulable = dice.one_in(10);
    node
}

fn shape(dice: &mut Dice) -> Pod {
    let mut container = Container::new("c", "i");
    if !dice.one_in(5) {
        container = container.cpu_milli(250 * (1 + dice.roll(4)) as u32);
    }
    if !dice.one_in(5) {
        container = container.memory_mib(256 * (1 + dice.roll(4)) as u32);
    }
    if dice.one_in(4) {
        container.ports.push(ContainerPort {
            container_port: 80,
            host_port: 80 + dice.roll(2) as u16,
            ..ContainerPort::default()
        });
    }
    let app = ["a", "b"][dice.roll(2)];
    let mut pod = Pod::builder("p").namespace("default").container(container);
    pod = pod.label("app", app).priority(dice.roll(3) as i32);
    if dice.one_in(3) {
        pod.spec.tolerations.push(Toleration::exists("dedicated"));
    }
    if dice.one_in(4) {
        pod = pod.node_selector("disk", "ssd");
    }
    if dice.one_in(4) {
        let away = PodAffinityTerm {
            label_selector: Some(LabelSelector::of([("app".into(), app.into())].into())),
            topology_key: Node::HOSTNAME_LABEL.into(),
            ..PodAffinityTerm::default()
        };
        let affinity = pod.spec.affinity.get_or_insert_default();
        let apart = affinity.pod_anti_affinity.get_or_insert_default();
        apart.required.push(away);
    }
    pod
}
