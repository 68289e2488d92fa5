//! The cluster in virtual time: a story for each fault, seeds, one history a seed, planted bugs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::chaos::Rates;
use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::kind::{Container, Deployment, Node, Pod, Probe, Service, Taint, TaintEffect};
use orchestra_core::port::store::{
    ListRequest, Revision, StateStore, StoreError, StoreErrorKind, Txn,
};
use orchestra_runtime::agent::NodeView;
use orchestra_runtime::driver::sim::{Behavior, Match, SimScript, Span};
use orchestra_runtime::prelude::BoxError;
use orchestra_runtime::sim::{Chaos, Cluster, Fault, Sim};
use orchestra_sched::place::{Pending, Placement, Plan, PlanInputs, Scheduler};
use orchestra_sched::snapshot::Snapshot;
use orchestra_tests::commits::{Commits, OnCommit};

fn container() -> Container {
    Container::new("web", "web")
        .cpu_milli(500)
        .memory_mib(256)
        .port(8080)
}

fn web(replicas: u32) -> Deployment {
    Deployment::new("web")
        .replicas(replicas)
        .container(container())
}

fn probed(image: &str) -> Container {
    Container::new("web", image)
        .cpu_milli(100)
        .port(8080)
        .readiness(Probe::tcp(8080).period(5))
        .liveness(Probe::tcp(8080).period(5))
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

async fn up(sim: &Cluster, replicas: u32) -> Result<(), BoxError> {
    sim.apply(web(replicas)).await?;
    sim.apply(Service::new("web").selector("app", "web").port(80, 8080))
        .await?;
    sim.settle().await?;
    assert_eq!(sim.ready("web"), replicas);
    Ok(())
}

/// Where the pods are.
fn homes(sim: &Cluster) -> Vec<String> {
    let live = |pod: &Arc<Pod>| !pod.is_terminating();
    sim.pods("web")
        .iter()
        .filter(|p| live(p))
        .map(|p| p.spec.node_name.to_string())
        .collect()
}

#[test]
fn a_deployment_comes_up_and_stays() {
    let report = Sim::seed(1)
        .nodes(3)
        .run(async |sim| {
            up(sim, 6).await?;
            sim.still(minutes(60)).await?;
            Ok(())
        })
        .unwrap();
    assert!(report.commits > 20 && report.starts == 6, "{report}");
}

#[test]
fn a_lost_node_is_replaced_and_comes_back() {
    let report = Sim::seed(7)
        .nodes(10)
        .run(async |sim| {
            up(sim, 20).await?;
            sim.fault(Fault::LoseNode("node-3".into())).await?;
            sim.advance(minutes(10)).await;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 20);
            assert!(!homes(sim).contains(&"node-3".to_owned()));
            sim.fault(Fault::ReturnNode("node-3".into())).await?;
            sim.settle().await?;
            sim.still(minutes(60)).await?;
            assert_eq!(sim.ready("web"), 20);
            Ok(())
        })
        .unwrap();
    assert_eq!(report.faults, 2);
}

#[test]
fn a_short_loss_of_power_starts_the_same_pods_anew() {
    Sim::seed(2)
        .run(async |sim| {
            up(sim, 6).await?;
            let before = homes(sim);
            sim.fault(Fault::LoseNode("node-2".into())).await?;
            sim.advance(minutes(2)).await;
            sim.fault(Fault::ReturnNode("node-2".into())).await?;
            sim.settle().await?;
            assert_eq!(homes(sim), before);
            assert_eq!(sim.ready("web"), 6);
            Ok(())
        })
        .unwrap();
}

#[test]
fn behind_a_partition_what_runs_goes_on_and_ends_once_it_heals() {
    Sim::seed(3)
        .nodes(4)
        .run(async |sim| {
            up(sim, 8).await?;
            let running = |sim: &Cluster| sim.driver("node-1").map_or(0, |d| d.observe().len());
            let before = running(sim);
            assert!(before > 0);
            sim.fault(Fault::Partition("node-1".into())).await?;
            sim.advance(minutes(15)).await;
            assert_eq!(running(sim), before, "what runs goes on");
            sim.settle().await?;
            assert!(
                !homes(sim).contains(&"node-1".to_owned()),
                "its pods were replaced"
            );
            sim.fault(Fault::Heal("node-1".into())).await?;
            sim.settle().await?;
            assert_eq!(running(sim), 0, "what was replaced has ended");
            assert_eq!(sim.ready("web"), 8);
            Ok(())
        })
        .unwrap();
}

#[test]
fn pods_of_a_node_that_falls_silent_leave_their_services_until_it_is_heard_again() {
    Sim::seed(8)
        .nodes(4)
        .run(async |sim| {
            up(sim, 8).await?;
            let silent = homes(sim).iter().filter(|home| *home == "node-2").count() as u32;
            let before = homes(sim);
            assert!(silent > 0, "{before:?}");
            sim.fault(Fault::Partition("node-2".into())).await?;
            sim.advance(minutes(2)).await;
            assert_eq!(sim.ready("web"), 8 - silent);
            sim.fault(Fault::Heal("node-2".into())).await?;
            sim.settle().await?;
            assert_eq!((sim.ready("web"), homes(sim)), (8, before));
            Ok(())
        })
        .unwrap();
}

/// Answers that it is not known whether a commit landed which makes a node ready, two seconds after it did.
#[derive(Debug)]
struct Doubts(Arc<AtomicU64>);

#[async_trait]
impl OnCommit for Doubts {
    async fn commit(&self, inner: &dyn StateStore, txn: Txn) -> Result<Revision, StoreError> {
        let key = txn.writes.first().map(|write| write.key().clone());
        let landed = inner.commit(txn).await?;
        let node = key.filter(|key| key.as_str() == "nodes/node-2");
        let left = self.0.load(Ordering::Relaxed).checked_sub(1);
        if let (Some(_), Some(less)) = (node, left) {
            self.0.store(less, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(StoreError::new(StoreErrorKind::Ambiguous, "commit"));
        }
        Ok(landed)
    }
}

#[test]
fn pods_are_served_again_though_nobody_heard_that_their_node_is_back() {
    let doubts = Arc::<AtomicU64>::default();
    let layered = doubts.clone();
    Sim::seed(8)
        .nodes(4)
        .store_layer(move |inner| Commits::layer(inner, Doubts(layered.clone())))
        .run(async |sim| {
            up(sim, 8).await?;
            sim.fault(Fault::Partition("node-2".into())).await?;
            sim.advance(minutes(2)).await;
            assert!(sim.ready("web") < 8);
            // The node is written by others meanwhile, so that it cannot be looked up either.
            doubts.store(1, Ordering::Relaxed);
            sim.fault(Fault::Heal("node-2".into())).await?;
            sim.settle().await?;
            assert_eq!((sim.ready("web"), doubts.load(Ordering::Relaxed)), (8, 0));
            Ok(())
        })
        .unwrap();
}

#[test]
fn two_schedulers_fill_the_same_nodes_to_the_last_core() {
    Sim::seed(9)
        .nodes(4)
        .control(|control| {
            let second = Arc::new(orchestra_sched::place::Framework::default());
            control.schedulers.insert("second".into(), second);
        })
        .run(async |sim| {
            let core = Container::new("main", "main").cpu_milli(1_000);
            let first = Deployment::new("first").replicas(8).container(core.clone());
            let mut second = Deployment::new("second").replicas(8).container(core);
            second.spec.template.spec.scheduler_name = "second".into();
            // Both plan for all their pods at once, on nodes that have room for half of them each.
            sim.apply(first).await?;
            sim.apply(second).await?;
            sim.settle().await?;
            assert_eq!((sim.ready("first"), sim.ready("second")), (8, 8));
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_agent_that_begins_anew_adopts_what_runs() {
    let report = Sim::seed(4)
        .run(async |sim| {
            up(sim, 6).await?;
            for node in sim.nodes() {
                sim.fault(Fault::RestartAgent(node)).await?;
            }
            sim.settle().await?;
            let restarts = |pod: &Arc<Pod>| pod.status.container_statuses[0].restart_count;
            assert!(sim.pods("web").iter().all(|pod| restarts(pod) == 0));
            Ok(())
        })
        .unwrap();
    // Nothing was started twice: adoption finds what runs.
    assert!(report.starts <= 12, "{report}");
}

#[test]
fn the_control_plane_dies_around_each_commit_of_a_rollout() {
    for landed in [false, true] {
        Sim::seed(5)
            .run(async |sim| {
                up(sim, 4).await?;
                sim.apply(web(4).container(Container::new("more", "more")))
                    .await?;
                for _ in 0..12 {
                    sim.fault(Fault::KillControlAtCommit { after: 0, landed })
                        .await?;
                    sim.advance(Duration::from_secs(5)).await;
                }
                sim.settle().await?;
                assert_eq!(sim.ready("web"), 4);
                let both = |pod: &Arc<Pod>| pod.spec.containers.len() == 2;
                assert!(sim.pods("web").iter().all(both));
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn the_control_plane_is_cut_off_while_a_pod_crashes() {
    Sim::seed(6)
        .run(async |sim| {
            up(sim, 3).await?;
            sim.fault(Fault::CutControl).await?;
            sim.apply(web(5)).await?;
            sim.fault(Fault::Crash("default/web".into())).await?;
            sim.advance(minutes(5)).await;
            assert_eq!(sim.ready("web"), 3, "agents restart without it");
            sim.fault(Fault::HealControl).await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 5);
            Ok(())
        })
        .unwrap();
}

#[test]
fn calls_fail_watches_break_and_nothing_is_lost() {
    let report = Sim::seed(8)
        .run(async |sim| {
            sim.fault(Fault::Calls(Rates::each(0.1))).await?;
            sim.apply(web(6)).await?;
            sim.advance(minutes(10)).await;
            sim.fault(Fault::BreakWatches).await?;
            sim.apply(web(9)).await?;
            sim.advance(minutes(10)).await;
            sim.fault(Fault::HealAll).await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 9);
            Ok(())
        })
        .unwrap();
    assert!(report.calls_disturbed > 10, "{report}");
}

#[test]
fn crash_loops_slow_starts_and_hangs_come_right() {
    let script = SimScript::new()
        .when(
            Match::any().image("loops").attempts(0..4),
            Behavior::exits(Duration::from_secs(3), 1),
        )
        .when(
            Match::any().image("slow"),
            Behavior::runs().starts_after(Span::between(
                Duration::from_secs(5),
                Duration::from_secs(50),
            )),
        )
        .when(
            Match::any().image("hangs").attempts(0..1),
            Behavior::runs().hangs_after(Duration::from_secs(30)),
        );
    Sim::seed(9)
        .script(script)
        .run(async |sim| {
            for image in ["loops", "slow", "hangs"] {
                let deployment = Deployment::new(image).replicas(3).container(probed(image));
                sim.apply(deployment).await?;
            }
            sim.advance(minutes(5)).await;
            sim.settle().await?;
            let restarts = |name: &str| {
                let pods = sim.pods(name);
                pods.iter()
                    .map(|p| p.status.container_statuses[0].restart_count)
                    .sum::<u32>()
            };
            assert_eq!(
                (restarts("loops"), restarts("slow"), restarts("hangs")),
                (12, 0, 3)
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_hang_is_found_by_its_liveness_probe() {
    Sim::seed(10)
        .run(async |sim| {
            let deployment = Deployment::new("web").replicas(2).container(probed("web"));
            sim.apply(deployment).await?;
            sim.settle().await?;
            sim.fault(Fault::Hang("default/web".into())).await?;
            sim.settle().await?;
            let pods = sim.pods("web");
            assert!(
                pods.iter()
                    .all(|pod| pod.status.container_statuses[0].restart_count == 1)
            );
            assert_eq!(sim.ready("web"), 2);
            Ok(())
        })
        .unwrap();
}

#[test]
fn closed_and_tainted_nodes_get_nothing_and_are_drained() {
    Sim::seed(11)
        .nodes(3)
        .run(async |sim| {
            sim.fault(Fault::Cordon("node-1".into())).await?;
            let taint = Taint::new("example.com/maintenance", TaintEffect::NoExecute);
            up(sim, 4).await?;
            assert!(!homes(sim).contains(&"node-1".to_owned()));
            sim.fault(Fault::Taint("node-2".into(), taint)).await?;
            sim.settle().await?;
            assert_eq!(homes(sim), ["node-3"; 4]);
            sim.fault(Fault::Uncordon("node-1".into())).await?;
            let key = "example.com/maintenance".into();
            sim.fault(Fault::Untaint("node-2".into(), key)).await?;
            sim.apply(web(12)).await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 12);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_does_not_fit_waits_until_a_machine_comes() {
    Sim::seed(12)
        .nodes(1)
        .run(async |sim| {
            sim.apply(web(12)).await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 8, "4 cores for half a core each");
            sim.add_node(Node::new("late").capacity(4_000, 8_192, 10));
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 12);
            sim.remove_node("late").await?;
            sim.settle().await?;
            assert_eq!(sim.ready("web"), 8);
            Ok(())
        })
        .unwrap();
}

/// A short random run: what matters is that there are many.
fn short(seed: u64) -> Result<orchestra_runtime::sim::Report, orchestra_runtime::sim::Failure> {
    let mut chaos = Chaos::lasting(minutes(25));
    chaos.fault_every = Duration::from_secs(60);
    chaos.fault_max = Duration::from_secs(400);
    chaos.write_every = Duration::from_secs(60);
    chaos.deployments_max = 3;
    chaos.replicas_max = 5;
    Sim::seed(seed).nodes(3).random(chaos)
}

macro_rules! seeds {
    ($($name:ident: $from:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            for seed in $from..$from + 5 {
                let report = short(seed).unwrap();
                assert!(report.commits > 50 && report.faults > 5, "{report}");
            }
        })*
    };
}

seeds! {
    seeds_from_0: 0, seeds_from_5: 5, seeds_from_10: 10,
    seeds_from_15: 15, seeds_from_20: 20, seeds_from_25: 25,
}

#[test]
fn a_step_that_fails_half_way_or_in_doubt_makes_no_pod_twice() {
    // So many pods that one step takes three commits, of which the third is refused: the pass after
    // it once saw the newest revision and not yet its pods.
    let as_then = |nodes, span| {
        let mut chaos = Chaos::sized(nodes, span);
        chaos.gangs_max = 0;
        chaos
    };
    let report = Sim::seed(1)
        .nodes(100)
        .random(as_then(100, minutes(5)))
        .unwrap();
    assert!(report.commits > 900, "{report}");
    // One commit, of which nobody heard whether it had landed.
    Sim::seed(40_195)
        .nodes(4)
        .random(as_then(4, minutes(10)))
        .unwrap();
}

#[test]
fn one_seed_has_one_history_to_the_byte() {
    let (one, two) = (short(77).unwrap(), short(77).unwrap());
    for (a, b) in one.history.iter().zip(&two.history) {
        assert_eq!(a, b);
    }
    assert_eq!(one, two);
    assert_ne!(one.digest, short(78).unwrap().digest);
}

/// Places everything on the first node, whatever room it has.
#[derive(Debug)]
struct Overcommits;

impl Scheduler for Overcommits {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], _: PlanInputs) -> Plan {
        let place = |(n, pod): (usize, &Pending)| Placement {
            pending: n,
            pod: pod.id.clone(),
            node: "node-1".into(),
            devices: DeviceSet::NONE,
            score: 0,
        };
        Plan {
            base: snapshot.base(),
            placed: pending.iter().enumerate().map(place).collect(),
            ..Plan::default()
        }
    }
}

/// The invariant that a run breaks.
fn broken(sim: Sim, story: impl AsyncFnOnce(&Cluster) -> Result<(), BoxError>) -> &'static str {
    let failure = sim.run(story).expect_err("the planted bug was not caught");
    let text = failure.to_string();
    assert!(text.contains("replay: ") && text.contains("seed"), "{text}");
    failure
        .broken()
        .map_or("the story itself", |broken| broken.invariant)
}

#[test]
fn a_scheduler_that_proposes_what_does_not_fit_is_kept_from_it() {
    let sim = Sim::seed(1).scheduler(Arc::new(Overcommits));
    let kept = sim.run(async |sim| {
        let taint = Taint::new("example.com/full", TaintEffect::NoSchedule);
        sim.apply(web(12)).await?;
        sim.advance(Duration::from_secs(600)).await;
        let placed = |sim: &Cluster| {
            let pods = sim.pods("web");
            pods.iter().filter(|pod| pod.node_name().is_some()).count()
        };
        let before = placed(sim);
        assert!((1..12).contains(&before), "{before} of 12 fit on one node");
        // Nor does anybody go to a node that nobody may go to.
        sim.fault(Fault::Taint("node-1".into(), taint)).await?;
        sim.apply(web(24)).await?;
        sim.advance(Duration::from_secs(600)).await;
        assert_eq!(placed(sim), before);
        Ok(())
    });
    kept.expect("what does not fit was kept off");
}

/// Binds all pods of `web` to the first node, past every scheduler.
async fn bind_all(sim: &Cluster) -> Result<(), BoxError> {
    sim.advance(Duration::from_secs(10)).await;
    let api = sim.api::<Pod>();
    for pod in sim.pods("web") {
        let to_first = |pod: &mut Pod| pod.spec.node_name = "node-1".into();
        api.update(&pod.metadata.key(), to_first).await?;
    }
    sim.settle().await?;
    Ok(())
}

/// As many pods as that, for which no scheduler is there.
fn unscheduled(replicas: u32) -> Deployment {
    let mut web = web(replicas);
    web.spec.template.spec.scheduler_name = "nobody".into();
    web
}

#[test]
fn overcommitting_is_caught() {
    let found = broken(Sim::seed(1), async |sim| {
        sim.apply(unscheduled(12)).await?;
        bind_all(sim).await
    });
    assert_eq!(found, "capacity");
}

#[test]
fn looking_past_taints_is_caught() {
    let found = broken(Sim::seed(1), async |sim| {
        let taint = Taint::new("example.com/full", TaintEffect::NoSchedule);
        sim.fault(Fault::Taint("node-1".into(), taint)).await?;
        sim.apply(unscheduled(1)).await?;
        bind_all(sim).await
    });
    assert_eq!(found, "placement");
}

/// Shows every pod for ever, as it was at first.
#[derive(Debug)]
struct Resurrects(Arc<dyn NodeView>, Arc<Mutex<Vec<Arc<Pod>>>>);

#[async_trait]
impl NodeView for Resurrects {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let now = self.0.pods();
        let mut kept = self.1.lock().expect("no poison: it is only locked here");
        let shown = |uid, pods: &[Arc<Pod>]| pods.iter().any(|pod| pod.metadata.uid == uid);
        for pod in &now {
            if !shown(pod.metadata.uid, &kept) {
                kept.push(pod.clone());
            }
        }
        let here = self.0.node().map(|node| node.metadata.name.clone());
        let gone = kept
            .iter()
            .filter(|pod| !shown(pod.metadata.uid, &now) && pod.node_name() == here.as_ref());
        let gone: Vec<_> = gone.cloned().collect();
        now.into_iter().chain(gone).collect()
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.0.node()
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.0.services(namespace)
    }

    async fn changed(&self) {
        self.0.changed().await;
    }
}

#[test]
fn a_view_that_resurrects_is_caught() {
    let kept = Arc::<Mutex<Vec<Arc<Pod>>>>::default();
    let sim = Sim::seed(1).view_layer(move |view| Arc::new(Resurrects(view, kept.clone())));
    let found = broken(sim, async |sim| {
        up(sim, 3).await?;
        sim.delete::<Deployment>("web").await?;
        sim.advance(minutes(1)).await;
        // An agent that begins anew has nothing to go by but its view.
        for node in sim.nodes() {
            sim.fault(Fault::RestartAgent(node)).await?;
        }
        sim.settle().await?;
        Ok(())
    });
    assert_eq!(found, "convergence");
}

/// Says of one commit in so many that it landed, and drops it.
#[derive(Debug)]
struct Loses(AtomicU64);

#[async_trait]
impl OnCommit for Loses {
    async fn commit(&self, inner: &dyn StateStore, txn: Txn) -> Result<Revision, StoreError> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 25 {
            let page = inner.list(ListRequest::all("none/")).await?;
            return Ok(page.revision);
        }
        inner.commit(txn).await
    }
}

#[test]
fn a_store_that_loses_a_write_is_caught() {
    let sim = Sim::seed(1).store_layer(|inner| Commits::layer(inner, Loses(AtomicU64::new(0))));
    let found = broken(sim, async |sim| up(sim, 8).await);
    assert_eq!(found, "no-write-lost");
}

#[test]
fn a_story_that_fails_says_how_to_see_it_again() {
    let failure = Sim::seed(3)
        .replay("just so")
        .run(async |_| Err("as told".into()))
        .expect_err("it fails");
    assert!(failure.broken().is_none());
    assert!(
        failure.to_string().contains("as told\nreplay: just so"),
        "{failure}"
    );
    let panicked = Sim::seed(3)
        .run(async |_| panic!("as told"))
        .expect_err("it fails");
    assert!(
        panicked.to_string().contains("the story panicked: as told"),
        "{panicked}"
    );
}
