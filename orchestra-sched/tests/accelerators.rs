//! Accelerators: the fast path against a plain twin, and what people read.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use orchestra_core::kind::accelerator::{self, DeviceSet};
use orchestra_core::kind::{Container, Node, Pod};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;
use orchestra_sched::fits;
use orchestra_sched::fixture::Cluster;
use orchestra_sched::place::plugin::{Cycle, DeviceChoice};
use orchestra_sched::place::{Changes, Framework, Pending, PlanInputs, Profile, Scheduler, filter};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{Devices, Ledger, NodeIx, PodId, SnapshotBuilder};
use proptest::collection::vec;
use proptest::prelude::*;

const MODELS: [&str; 3] = ["", "T4", "P100"];

fn node(n: usize, devices: i64, model: usize) -> Node {
    let mut node = Node::new(format!("n{n}"))
        .capacity(64_000, 64_000, 110)
        .resource(accelerator::RESOURCE, Quantity::from_int(devices));
    if model > 0 {
        node = node.label(accelerator::MODEL_LABEL, MODELS[model]);
    }
    node
}

fn pod(n: usize, count: i64, milli: u16, models: usize) -> Pod {
    let container =
        Container::new("c", "i").request(accelerator::RESOURCE, Quantity::from_int(count));
    let mut pod = Pod::builder(format!("p{n}"))
        .container(container)
        .annotation(accelerator::MILLI_ANNOTATION, milli.to_string());
    if models > 0 {
        pod = pod.annotation(
            accelerator::MODELS_ANNOTATION,
            ["", "T4", "T4|P100"][models],
        );
    }
    pod.metadata.uid = Uid(n as u128 + 1);
    pod
}

/// What is left of each device, from the pods alone.
fn plain_free(node: &Node, pods: &[(Pod, DeviceSet)]) -> Vec<i64> {
    let count = node.status.allocatable[accelerator::RESOURCE].as_int();
    let mut free = vec![1_000; count as usize];
    for (pod, set) in pods
        .iter()
        .filter(|(pod, _)| pod.spec.node_name == node.metadata.name)
    {
        let milli: i64 = pod.metadata.annotations[accelerator::MILLI_ANNOTATION]
            .parse()
            .unwrap();
        for device in set.iter() {
            free[device] -= milli;
        }
    }
    free
}

fn plain_fits(node: &Node, free: &[i64], pod: &Pod) -> bool {
    let annotations = &pod.metadata.annotations;
    let count = pod.requests()[accelerator::RESOURCE].as_int();
    if count == 0 {
        return true;
    }
    let model = node
        .metadata
        .labels
        .get(accelerator::MODEL_LABEL)
        .map_or("", |it| it.as_str());
    let named = annotations.get(accelerator::MODELS_ANNOTATION);
    if named.is_some_and(|models| !models.split('|').any(|wanted| wanted == model)) {
        return false;
    }
    let milli: i64 = annotations[accelerator::MILLI_ANNOTATION].parse().unwrap();
    free.iter().filter(|&&free| free >= milli).count() as i64 >= count
}

fn plan(builder: &SnapshotBuilder, pending: &[Pending]) -> orchestra_sched::place::Plan {
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(3),
    };
    Framework::default().plan(&builder.snapshot(Revision(1)), pending, inputs)
}

proptest! {
    /// Pods come one by one and some go; at each step the columns are what the pods that run add up
    /// to, and a pod finds a node exactly if a plain look finds one.
    #[test]
    fn devices_are_counted_and_given_as_a_plain_look_says(
        nodes in vec((0i64..5, 0usize..3), 1..4),
        pods in vec((0i64..4, prop_oneof![1u16..=1000, Just(500), Just(1000)], 0usize..3, 0u8..5, any::<bool>()), 0..24),
    ) {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .enumerate()
            .map(|(n, (devices, model))| node(n, devices, model))
            .collect();
        let mut builder = SnapshotBuilder::new();
        for node in &nodes {
            builder.apply_node(node);
        }
        let mut running: Vec<(Pod, DeviceSet)> = Vec::new();
        for (n, (count, milli, models, leave, says)) in pods.into_iter().enumerate() {
            if leave == 0 && !running.is_empty() {
                let (gone, _) = running.swap_remove(n % running.len());
                builder.remove_pod(&PodId::of(&gone));
            }
            let mut pod = pod(n, count, milli, models);
            let pending = [Pending::of(&pod, Timestamp::EPOCH)];
            let fit = nodes.iter().any(|node| plain_fits(node, &plain_free(node, &running), &pod));
            let plan = plan(&builder, &pending);
            prop_assert_eq!(plan.placed.len() == 1, fit);
            let Some(placed) = plan.placed.first() else { continue };
            prop_assert_eq!(placed.devices.len() as i64, count);
            pod = pod.on_node(placed.node.clone());
            // Whoever placed it may say which devices, or leave it to whoever counts.
            let mut devices = placed.devices;
            if says || n % 2 == 0 {
                pod = pod.annotation(accelerator::DEVICES_ANNOTATION, placed.devices.to_string());
            } else {
                // What is unsaid may be counted elsewhere once others go: say it at once.
                builder.apply_pod(&pod);
                let snapshot = builder.snapshot(Revision(1));
                let at = snapshot.find(&placed.node).unwrap();
                let held = snapshot.node(at).devices_held();
                let of = held.iter().find(|(running, _)| running.id == PodId::of(&pod));
                devices = of.map(|(_, set)| *set).unwrap_or_default();
                prop_assert_eq!(devices, placed.devices);
                pod = pod.annotation(accelerator::DEVICES_ANNOTATION, devices.to_string());
            }
            builder.apply_pod(&pod);
            running.push((pod, devices));
            let snapshot = builder.snapshot(Revision(1));
            for node in &nodes {
                let at = snapshot.find(&node.metadata.name).unwrap();
                let free = snapshot.rows().devices[at.row()].free().iter().map(|&f| i64::from(f));
                let free: Vec<i64> = free.collect();
                prop_assert_eq!(&free, &plain_free(node, &running));
                prop_assert!(free.iter().all(|free| (0..=1000).contains(free)));
            }
        }
        // Taking every pod off again, in a ledger and in the builder, leaves every device free.
        let snapshot = builder.snapshot(Revision(1));
        let mut ledger = Ledger::open(&snapshot);
        for (node, row) in snapshot.nodes() {
            for pod in row.pods() {
                ledger.refund(node, &pod.demand);
            }
            let empty = Devices::new(row.facts().devices);
            prop_assert_eq!(ledger.rows().devices[node.row()], empty);
            for pod in row.pods() {
                ledger.charge(node, &pod.demand);
            }
            prop_assert_eq!(ledger.rows().devices[node.row()], snapshot.rows().devices[node.row()]);
        }
        for (pod, _) in &running {
            builder.remove_pod(&PodId::of(pod));
        }
        for (node, row) in builder.snapshot(Revision(2)).nodes() {
            let devices = Devices::new(row.facts().devices);
            prop_assert_eq!(builder.snapshot(Revision(2)).rows().devices[node.row()], devices);
        }
    }
}

#[test]
fn what_is_in_the_way_is_said_in_devices() {
    let cluster: Cluster = "
        node a cpu=8 memory=8Gi devices=2 model=T4
        node b cpu=8 memory=8Gi devices=1 model=P100
        node c cpu=8 memory=8Gi
        pod one on=a devices=1 share=600
        pod two devices=2 models=T4|A10
        pod three devices=3
    "
    .parse()
    .unwrap();
    let builder = cluster.builder();
    let plan = plan(&builder, &cluster.pending());
    let whys: Vec<String> = plan
        .unplaced
        .iter()
        .map(|unplaced| unplaced.why.to_string())
        .collect();
    assert_eq!(
        whys,
        [
            "0/3 nodes fit: 1 has accelerators P100, 1 has accelerators of no known model, or none, \
             1 lacks whole accelerators (nearest a misses 1)",
            "0/3 nodes fit: 3 lack whole accelerators (nearest a misses 2)",
        ]
    );
    // Two might come to run where one is now, three nowhere: no node has as many.
    let helps = |at: usize| plan.unplaced[at].why.is_helped_by(Changes::POD_REMOVED);
    assert_eq!((helps(0), helps(1)), (true, false));
    let snapshot = builder.snapshot(Revision(1));
    let misfit = fits::fits(&snapshot, "a", &cluster.pending()[0].demand).unwrap_err();
    assert_eq!(
        misfit.to_string(),
        "a does not fit: misses 1 whole accelerators"
    );
}

#[derive(Debug)]
struct Last;

impl DeviceChoice for Last {
    fn choose(&self, cycle: &Cycle<'_>, node: NodeIx) -> Option<DeviceSet> {
        let devices = cycle.ledger.row(node).devices[0];
        Some([devices.len() - 1].into_iter().collect())
    }
}

#[test]
fn a_profile_may_choose_devices_but_not_take_what_is_taken() {
    let cluster: Cluster = "
        node a cpu=8 memory=8Gi devices=3
        pod p*4 devices=1 share=400
    "
    .parse()
    .unwrap();
    let profile = Profile::empty().filter(filter::Accelerators).devices(Last);
    let inputs = PlanInputs {
        now: Timestamp::EPOCH,
        rng: PlanRng::new(1),
    };
    let plan = Framework::new(profile).plan(&cluster.snapshot(), &cluster.pending(), inputs);
    let devices: Vec<String> = plan
        .placed
        .iter()
        .map(|placed| placed.devices.to_string())
        .collect();
    assert_eq!(devices, ["2", "2", "0", "0"]);
}

#[test]
fn two_that_want_the_same_device_are_not_both_committed() {
    let cluster: Cluster = "node a cpu=8 memory=8Gi devices=1\npod p*2 devices=1 share=600"
        .parse()
        .unwrap();
    let mut ledger = Ledger::open(&cluster.snapshot());
    let demands: Vec<_> = cluster
        .pending()
        .iter()
        .map(|pod| Arc::clone(&pod.demand))
        .collect();
    assert!(fits::claim(&mut ledger, "a", &demands[0]).is_ok());
    let misfit = fits::claim(&mut ledger, "a", &demands[1]).unwrap_err();
    assert_eq!(
        misfit.to_string(),
        "a does not fit: misses 1 accelerators with 600m free"
    );
}
