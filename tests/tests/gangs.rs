//! Gangs that one commit cannot hold, in virtual time: nothing of one runs before enough are bound, and what
//! cannot be completed is given back, whatever happens between two commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::kind::{Container, Node, Pod, Service, gang};
use orchestra_core::meta::{Condition, ConditionStatus, ObjectKey, condition, set_condition};
use orchestra_core::port::store::{Key, Revision, StateStore, StoreError, StoreErrorKind, Txn};
use orchestra_runtime::agent::NodeView;
use orchestra_runtime::api::ListParams;
use orchestra_runtime::prelude::BoxError;
use orchestra_runtime::sim::{Cluster, Fault, Sim};
use orchestra_sched::place::Framework;
use orchestra_tests::commits::{Commits, OnCommit};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Commits that place pods, under the control of a test.
#[derive(Debug, Default)]
struct Binds {
    /// How long each takes.
    takes_ms: AtomicU64,
    /// How many more land; the others are refused as if somebody had changed the node.
    land: AtomicU64,
    landed: AtomicU64,
}

impl Binds {
    fn new(land: u64, takes_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            takes_ms: AtomicU64::new(takes_ms),
            land: AtomicU64::new(land),
            landed: AtomicU64::new(0),
        })
    }

    fn let_land(&self, more: u64) {
        self.land.store(more, Ordering::Relaxed);
    }

    fn landed(&self) -> u64 {
        self.landed.load(Ordering::Relaxed)
    }

    /// A simulation whose store is under this control.
    fn watch(self: &Arc<Self>, sim: Sim) -> Sim {
        let binds = self.clone();
        sim.store_layer(move |inner| Commits::layer(inner, Watched(binds.clone())))
    }
}

#[derive(Debug)]
struct Watched(Arc<Binds>);

#[async_trait]
impl OnCommit for Watched {
    async fn commit(&self, inner: &dyn StateStore, txn: Txn) -> Result<Revision, StoreError> {
        let places = |key: &Key| key.as_str().starts_with("placements/");
        if !txn.writes.iter().any(|write| places(write.key())) {
            return inner.commit(txn).await;
        }
        let takes = self.0.takes_ms.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        let land = &self.0.land;
        let left = land.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(StoreError::new(StoreErrorKind::Conflict, "commit"));
        }
        let landed = inner.commit(txn).await;
        let count = u64::from(landed.is_ok());
        self.0.landed.fetch_add(count, Ordering::Relaxed);
        landed
    }
}

/// A member that asks for so much, of a gang of which `min` have to have nodes.
fn member(gang: &str, n: u32, min: u32, cpu_milli: u32) -> Pod {
    Pod::builder(format!("{gang}-{n}"))
        .label(gang::LABEL, gang)
        .annotation(gang::MIN_ANNOTATION, min.to_string())
        .container(Container::new("main", "main").cpu_milli(cpu_milli))
}

async fn create(sim: &Cluster, pods: impl IntoIterator<Item = Pod>) -> Result<(), BoxError> {
    let pods: Vec<Pod> = pods.into_iter().collect();
    for some in pods.chunks(100) {
        let mut commit = sim.client().commit();
        for pod in some {
            commit = commit.create(pod.clone());
        }
        commit.send().await?;
    }
    Ok(())
}

async fn pods(sim: &Cluster) -> Result<Vec<Arc<Pod>>, BoxError> {
    let api = sim.api::<Pod>();
    Ok(api.list(ListParams::namespace("default")).await?.items)
}

/// How a gang stands: how many of it there are, have nodes, wait there, and run.
async fn standing(sim: &Cluster, gang: &str) -> Result<[usize; 4], BoxError> {
    let all = pods(sim).await?;
    let of = |pod: &&Arc<Pod>| {
        pod.metadata
            .labels
            .get(gang::LABEL)
            .is_some_and(|g| g == gang)
    };
    let members: Vec<&Arc<Pod>> = all.iter().filter(of).collect();
    let count = |which: &dyn Fn(&Pod) -> bool| members.iter().filter(|pod| which(pod)).count();
    Ok([
        members.len(),
        count(&|pod| pod.node_name().is_some()),
        count(&|pod| gang::gate(pod).is_some()),
        count(&|pod| pod.is_ready()),
    ])
}

#[test]
fn a_large_gang_starts_once_all_of_it_are_bound_and_a_small_one_at_once() {
    let binds = Binds::new(u64::MAX, 100);
    let sim = binds.watch(Sim::seed(1).nodes(4));
    let report = sim.run(async |sim| {
        create(sim, (0..40).map(|n| member("small", n, 40, 10))).await?;
        sim.advance(Duration::from_millis(150)).await;
        // As ever: one commit, and no gate.
        assert_eq!(standing(sim, "small").await?, [40, 40, 0, 40]);
        assert_eq!(binds.landed(), 1);
        create(sim, (0..300).map(|n| member("large", n, 300, 10))).await?;
        sim.advance(Duration::from_millis(250)).await;
        let [_, bound, gated, ready] = standing(sim, "large").await?;
        assert_eq!((bound, gated, ready), (224, 224, 0));
        sim.settle().await?;
        assert_eq!(standing(sim, "large").await?, [300, 300, 0, 300]);
        assert_eq!(binds.landed(), 4);
        sim.still(secs(3_600)).await?;
        Ok(())
    });
    assert_eq!(report.unwrap().starts, 340);
}

#[test]
fn a_thousand_on_three_hundred_nodes_take_their_nodes_and_then_start() {
    let binds = Binds::new(u64::MAX, 100);
    let sim = binds.watch(Sim::seed(8).nodes(300));
    let report = sim.run(async |sim| {
        create(sim, (0..1_000).map(|n| member("train", n, 1_000, 500))).await?;
        let begun = sim.now();
        while standing(sim, "train").await?[3] < 1_000 {
            let [_, bound, _, ready] = standing(sim, "train").await?;
            assert!(
                ready == 0 || bound == 1_000,
                "{ready} run, and {bound} are bound"
            );
            assert!(sim.now() < begun + secs(60), "{bound} are bound");
            sim.advance(Duration::from_millis(50)).await;
        }
        assert!((25..=30).contains(&binds.landed()), "{}", binds.landed());
        Ok(())
    });
    assert_eq!(report.unwrap().starts, 1_000);
}

#[test]
fn what_a_scheduler_left_behind_that_is_no_more_is_given_back() {
    Sim::seed(9)
        .run(async |sim| {
            let api = sim.api::<Pod>();
            let of_nobody = |n| {
                let mut pod = member("train", n, 5, 10);
                pod.spec.scheduler_name = "nobody".into();
                pod
            };
            create(sim, (0..5).map(of_nobody)).await?;
            let bind = async |n: u32| {
                let key = ObjectKey::namespaced("default", format!("train-{n}"));
                let now = sim.now();
                let closed = Condition {
                    kind: gang::BOUND.into(),
                    status: ConditionStatus::False,
                    ..Condition::default()
                };
                let close = |pod: &mut Pod| {
                    set_condition(&mut pod.status.conditions, closed.clone(), now);
                };
                api.update_status(&key, close).await?;
                let to = |pod: &mut Pod| pod.spec.node_name = "node-1".into();
                api.update(&key, to).await.map(drop)
            };
            for n in 0..3 {
                bind(n).await?;
            }
            sim.advance(secs(50)).await;
            assert_eq!(standing(sim, "train").await?, [5, 3, 3, 0]);
            sim.advance(secs(15)).await;
            assert_eq!(standing(sim, "train").await?, [5, 0, 0, 0]);
            // And where it had gone on, it would have been let start.
            for n in 0..5 {
                bind(n).await?;
            }
            sim.settle().await?;
            assert_eq!(standing(sim, "train").await?, [5, 5, 0, 5]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn of_more_than_enough_the_first_commit_that_is_enough_starts() {
    let binds = Binds::new(1, 0);
    let sim = binds.watch(Sim::seed(2).nodes(4));
    sim.run(async |sim| {
        create(sim, (0..200).map(|n| member("train", n, 100, 10))).await?;
        sim.advance(secs(1)).await;
        assert_eq!(standing(sim, "train").await?, [200, 112, 0, 112]);
        binds.let_land(u64::MAX);
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [200, 200, 0, 200]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_control_plane_dies_around_each_commit_of_a_gang() {
    for landed in [false, true] {
        for after in 0..6 {
            let report = Sim::seed(3).nodes(4).run(async |sim| {
                sim.fault(Fault::KillControlAtCommit { after, landed })
                    .await?;
                create(sim, (0..250).map(|n| member("train", n, 250, 10))).await?;
                sim.settle().await?;
                assert_eq!(standing(sim, "train").await?, [250, 250, 0, 250]);
                Ok(())
            });
            assert_eq!(report.unwrap().starts, 250, "{after} {landed}");
        }
    }
}

#[test]
fn what_a_conflict_stops_is_completed_or_given_back_in_time() {
    let binds = Binds::new(1, 0);
    let sim = binds.watch(Sim::seed(4).nodes(4));
    sim.run(async |sim| {
        create(sim, (0..200).map(|n| member("train", n, 200, 60))).await?;
        sim.advance(secs(10)).await;
        assert_eq!(standing(sim, "train").await?, [200, 112, 112, 0]);
        let told = pods(sim).await?;
        let told = told.iter().find_map(|pod| gang::gate(pod));
        assert_eq!(
            told.unwrap().message,
            "waits for its gang: 112 of 200 bound"
        );
        // The rest lands after all.
        binds.let_land(u64::MAX);
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [200, 200, 0, 200]);

        // Another one never gets its second half, and others want the room.
        for n in 0..200 {
            sim.delete::<Pod>(&format!("train-{n}")).await?;
        }
        sim.settle().await?;
        binds.let_land(1);
        create(sim, (0..200).map(|n| member("late", n, 200, 60))).await?;
        sim.advance(secs(50)).await;
        assert_eq!(standing(sim, "late").await?, [200, 112, 112, 0]);
        sim.advance(secs(12)).await;
        assert_eq!(standing(sim, "late").await?, [200, 0, 0, 0]);
        binds.let_land(u64::MAX);
        sim.settle().await?;
        assert_eq!(standing(sim, "late").await?, [200, 200, 0, 200]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn members_on_a_lost_node_go_elsewhere_and_the_others_wait_for_them() {
    let binds = Binds::new(1, 0);
    let sim = binds.watch(Sim::seed(5).nodes(4));
    sim.run(async |sim| {
        let patient = |n| member("train", n, 200, 60).annotation(gang::TIMEOUT_ANNOTATION, "3600");
        create(sim, (0..200).map(patient)).await?;
        sim.advance(secs(10)).await;
        sim.fault(Fault::LoseNode("node-2".into())).await?;
        sim.advance(secs(120)).await;
        // It is known to be lost: nobody waits there any more, and the others do.
        let [_, bound, gated, ready] = standing(sim, "train").await?;
        assert!(
            (60..112).contains(&bound) && gated == bound && ready == 0,
            "{bound}"
        );
        binds.let_land(u64::MAX);
        sim.advance(secs(120)).await;
        let [_, _, gated, ready] = standing(sim, "train").await?;
        assert_eq!(
            (gated, ready),
            (bound, 0),
            "three nodes have no room for 200"
        );
        sim.add_node(Node::new("late").capacity(4_000, 16_384, 110));
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [200, 200, 0, 200]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn of_two_gangs_that_fit_one_at_a_time_one_runs_and_then_the_other() {
    for seed in 0..4 {
        let binds = Binds::new(u64::MAX, 50);
        let sim = binds.watch(Sim::seed(seed).nodes(4));
        let sim = sim.control(|control| {
            let second = Arc::new(Framework::default());
            control.schedulers.insert("second".into(), second);
        });
        let report = sim.run(async |sim| {
            // Each asks for 12 of 16 cores.
            let first = (0..200).map(|n| member("first", n, 200, 60));
            let second = (0..200).map(|n| {
                let mut pod = member("second", n, 200, 60);
                pod.spec.scheduler_name = "second".into();
                pod
            });
            let both: Vec<Pod> = first.zip(second).flat_map(|(a, b)| [a, b]).collect();
            create(sim, both).await?;
            sim.settle().await?;
            let (first, second) = (
                standing(sim, "first").await?,
                standing(sim, "second").await?,
            );
            let (whole, none) = ([200, 200, 0, 200], [200, 0, 0, 0]);
            let (runs, waits) = match first == whole {
                true => ("first", "second"),
                false => ("second", "first"),
            };
            assert!([first, second].contains(&whole) && [first, second].contains(&none));
            sim.still(secs(3_600)).await?;
            for n in 0..200 {
                sim.delete::<Pod>(&format!("{runs}-{n}")).await?;
            }
            sim.settle().await?;
            assert_eq!(standing(sim, waits).await?, whole);
            Ok(())
        });
        assert_eq!(report.unwrap().starts, 400);
    }
}

#[test]
fn members_are_deleted_agents_begin_anew_and_a_node_is_drained_while_a_gang_waits() {
    let binds = Binds::new(1, 0);
    let sim = binds.watch(Sim::seed(6).nodes(4));
    let report = sim.run(async |sim| {
        let patient = |n| member("train", n, 150, 10).annotation(gang::TIMEOUT_ANNOTATION, "3600");
        create(sim, (0..150).map(patient)).await?;
        sim.advance(secs(5)).await;
        assert_eq!(standing(sim, "train").await?, [150, 112, 112, 0]);
        for node in sim.nodes() {
            sim.fault(Fault::RestartAgent(node)).await?;
        }
        sim.advance(secs(5)).await;
        // A drain tells those that wait on the node to go, as it does those that run.
        let taint = orchestra_core::kind::Taint::new(
            "example.com/maintenance",
            orchestra_core::kind::TaintEffect::NoExecute,
        );
        let node = "node-1".into();
        sim.fault(Fault::Taint(node, taint)).await?;
        sim.advance(secs(60)).await;
        let [there, bound, gated, ready] = standing(sim, "train").await?;
        assert!(
            there < 150 && bound == gated && ready == 0,
            "{there} {bound}"
        );
        // Their owner would make others; here it is their user.
        for n in 0..150 {
            let key = ObjectKey::namespaced("default", format!("train-{n}"));
            if sim.api::<Pod>().find(&key).await?.is_none() {
                create(sim, [patient(n)]).await?;
            }
        }
        binds.let_land(u64::MAX);
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [150, 150, 0, 150]);
        Ok(())
    });
    assert_eq!(report.unwrap().starts, 150);
}

#[test]
fn a_member_that_is_replaced_waits_for_enough_again() {
    let sim = Sim::seed(7).nodes(4);
    sim.run(async |sim| {
        create(sim, (0..200).map(|n| member("train", n, 200, 10))).await?;
        sim.settle().await?;
        for n in 0..2 {
            sim.delete::<Pod>(&format!("train-{n}")).await?;
        }
        sim.settle().await?;
        // One of two: too few, and what runs goes on.
        create(sim, [member("train", 0, 200, 10)]).await?;
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [199, 198, 0, 198]);
        create(sim, [member("train", 1, 200, 10)]).await?;
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [200, 200, 0, 200]);
        let key = ObjectKey::namespaced("default", "train-0");
        let replaced = sim.api::<Pod>().get(&key).await?;
        let bound = condition(&replaced.status.conditions, gang::BOUND);
        assert!(bound.is_some(), "fewer than 200 ran, so it waited");
        Ok(())
    })
    .unwrap();
}

#[test]
fn nobody_joins_a_gang_of_which_one_went_unseen() {
    let binds = Binds::new(u64::MAX, 0);
    let sim = binds.watch(Sim::seed(3).nodes(4));
    sim.run(async |sim| {
        create(sim, (0..4).map(|n| member("train", n, 4, 10))).await?;
        sim.settle().await?;
        assert_eq!(binds.landed(), 1);
        // While the commit that lets a fifth join is on its way, one of the four that it counts is told to end.
        binds.takes_ms.store(1_000, Ordering::Relaxed);
        create(sim, [member("train", 4, 4, 10)]).await?;
        sim.advance(Duration::from_millis(500)).await;
        sim.delete::<Pod>("train-0").await?;
        sim.advance(Duration::from_millis(700)).await;
        assert_eq!(binds.landed(), 1, "it does not land");
        sim.settle().await?;
        assert_eq!(standing(sim, "train").await?, [4, 4, 0, 4]);
        assert_eq!(binds.landed(), 2);
        Ok(())
    })
    .unwrap();
}

/// Shows no gate.
#[derive(Debug)]
struct Gateless(Arc<dyn NodeView>);

#[async_trait]
impl NodeView for Gateless {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let open = |pod: Arc<Pod>| {
            let mut open = Pod::clone(&pod);
            open.status.conditions.retain(|one| one.kind != gang::BOUND);
            if gang::gate(&pod).is_some() {
                Arc::new(open)
            } else {
                pod
            }
        };
        self.0.pods().into_iter().map(open).collect()
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
fn an_agent_that_starts_what_waits_is_caught() {
    let binds = Binds::new(1, 0);
    let sim = binds.watch(Sim::seed(1).nodes(4));
    let sim = sim.view_layer(|view| Arc::new(Gateless(view)));
    let failure = sim.run(async |sim| {
        create(sim, (0..150).map(|n| member("train", n, 150, 10))).await?;
        sim.advance(secs(30)).await;
        Ok(())
    });
    let failure = failure.expect_err("the planted bug was not caught");
    assert_eq!(failure.broken().unwrap().invariant, "gang");
}
