#![allow(clippy::unwrap_used)]

use super::*;
use orchestra_core::meta::Uid;
use orchestra_core::port::probe::{ProbeSpec, ProbeTarget, Prober, Verdict};
use tokio::time::Instant;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn want(pod: u128, image: &str, attempt: u32) -> Workload {
    Workload {
        id: WorkloadId {
            pod: Uid(pod),
            container: "main".into(),
        },
        attempt,
        pod_name: format!("default/{image}-{pod}"),
        image: image.into(),
        ..Workload::default()
    }
}

fn driver() -> Arc<SimDriver> {
    let script = SimScript::new()
        .when(
            Match::any().image("slow"),
            Behavior::runs().starts_after(s(3)).ready_after(s(5)),
        )
        .when(Match::any().image("job"), Behavior::exits(s(60), 0))
        .when(
            Match::any().image("flaky"),
            Behavior::runs().crashes(2, s(10), 7),
        )
        .when(
            Match::any().image("deaf"),
            Behavior::runs().ignores_term_for(s(20)),
        )
        .when(
            Match::any().image("sick"),
            Behavior::runs().sick_after(s(9)),
        )
        .when(
            Match::any().image("hangs"),
            Behavior::runs().hangs_after(s(9)),
        )
        .when(
            Match::any().image("absent").attempts(0..1),
            Behavior::runs().refuses(1, DriverErrorKind::Invalid),
        )
        .when(
            Match::any().image("random"),
            Behavior::exits(Span::between(s(1), s(1000)), 1),
        );
    Arc::new(SimDriver::new(script, 7))
}

#[tokio::test(start_paused = true)]
async fn crashes_come_as_often_as_scripted_and_on_time() {
    let driver = driver();
    let start = Instant::now();
    for attempt in 0..2 {
        driver.ensure(&want(1, "flaky", attempt)).await.unwrap();
        let exit = driver.wait(&want(1, "flaky", 0).id).await.unwrap();
        assert_eq!((exit.code, exit.reason.as_str()), (7, "Error"));
        assert_eq!(start.elapsed(), s(10) * (attempt + 1));
    }
    driver.ensure(&want(1, "flaky", 2)).await.unwrap();
    let still = tokio::time::timeout(s(100_000), driver.wait(&want(1, "flaky", 0).id)).await;
    assert!(still.is_err(), "the third attempt stays up");
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_goes_on_when_its_call_is_dropped_and_is_not_begun_twice() {
    let driver = driver();
    let slow = want(1, "slow", 0);
    assert!(
        tokio::time::timeout(s(1), driver.ensure(&slow))
            .await
            .is_err()
    );
    assert_eq!(driver.survey().await.unwrap(), []);
    let seen = driver.ensure(&slow).await.unwrap();
    assert_eq!(
        seen.state,
        RunState::Running {
            since: Timestamp::from_secs(3)
        }
    );
}

#[tokio::test(start_paused = true)]
async fn the_grace_decides_how_a_deaf_workload_ends() {
    for (grace, took, code) in [(s(30), s(20), 143), (s(5), s(5), 137), (s(0), s(0), 137)] {
        let driver = driver();
        driver.ensure(&want(1, "deaf", 0)).await.unwrap();
        let start = Instant::now();
        driver.stop(&want(1, "deaf", 0).id, grace).await.unwrap();
        assert_eq!(start.elapsed(), took);
        assert_eq!(
            driver.wait(&want(1, "deaf", 0).id).await.unwrap().code,
            code
        );
    }
}

async fn probe(driver: &Arc<SimDriver>, pod: u128) -> Option<bool> {
    let target = ProbeTarget {
        workload: want(pod, "", 0).id,
        address: None,
    };
    let spec = ProbeSpec::Tcp {
        host: None,
        port: 80,
    };
    let answer = tokio::time::timeout(s(1), async {
        SimProber::new(Arc::clone(driver))
            .probe(&target, &spec)
            .await
            .unwrap()
    });
    answer
        .await
        .ok()
        .map(|verdict| matches!(verdict, Verdict::Pass { .. }))
}

#[tokio::test(start_paused = true)]
async fn probes_see_unready_well_sick_hanging_and_gone() {
    let driver = driver();
    for (pod, image) in [(1, "sick"), (2, "hangs"), (3, "slow")] {
        driver.ensure(&want(pod, image, 0)).await.unwrap();
    }
    // "slow" took 3 s to start, so the others run since 3 s.
    assert_eq!(
        (probe(&driver, 1).await, probe(&driver, 2).await),
        (Some(true), Some(true))
    );
    assert_eq!(probe(&driver, 3).await, Some(false));
    tokio::time::sleep(s(6)).await;
    assert_eq!(
        (probe(&driver, 1).await, probe(&driver, 2).await),
        (Some(false), None)
    );
    assert_eq!(
        (probe(&driver, 3).await, probe(&driver, 4).await),
        (Some(true), Some(false))
    );
    assert!(driver.set_healthy(&want(1, "", 0).id, true));
    assert!(driver.set_hanging(&want(3, "", 0).id, true));
    assert_eq!(
        (probe(&driver, 1).await, probe(&driver, 3).await),
        (Some(true), None)
    );
    assert!(driver.crash(&want(1, "", 0).id));
    assert_eq!(probe(&driver, 1).await, Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_forgets_everything_and_its_waiters_learn_it() {
    let driver = driver();
    for pod in 0..10 {
        driver.ensure(&want(pod, "web", 0)).await.unwrap();
    }
    let id = want(3, "web", 0).id;
    let (exit, lost) = tokio::join!(driver.wait(&id), async { driver.lose_all() });
    assert_eq!((exit.unwrap().reason.as_str(), lost), ("Lost", 10));
    assert_eq!(driver.survey().await.unwrap(), []);
    assert_eq!(
        driver.wait(&id).await.unwrap_err().kind(),
        DriverErrorKind::Unknown
    );
    driver.ensure(&want(3, "web", 0)).await.unwrap();
    driver.set_reachable(false);
    assert_eq!(
        driver.survey().await.unwrap_err().kind(),
        DriverErrorKind::Unavailable
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_and_usage_follow_the_script() {
    let driver = driver();
    let error = driver.ensure(&want(1, "absent", 0)).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Invalid);
    driver.ensure(&want(1, "absent", 1)).await.unwrap();
    let id = want(1, "absent", 1).id;
    driver.set_usage(&id, 500, 1 << 20);
    tokio::time::sleep(s(10)).await;
    driver.set_usage(&id, 2000, 2 << 20);
    tokio::time::sleep(s(1)).await;
    let usage = driver.usage().unwrap().usage(&id).await.unwrap();
    assert_eq!((usage.cpu_micros, usage.memory_bytes), (7_000_000, 2 << 20));
}

/// 100,000 workloads: one record each, the same history for the same seed in any order.
#[tokio::test(start_paused = true)]
async fn many_workloads_are_cheap_and_their_fate_does_not_depend_on_order() {
    let mut histories = Vec::new();
    for reverse in [false, true] {
        let driver = driver();
        let mut pods = (0..100_000_u128).collect::<Vec<_>>();
        if reverse {
            pods.reverse();
        }
        for pod in pods {
            driver.ensure(&want(pod, "random", 0)).await.unwrap();
        }
        tokio::time::sleep(s(500)).await;
        let survey = driver.survey().await.unwrap();
        assert_eq!(survey.len(), 100_000);
        assert!(survey.is_sorted_by(|a, b| a.id < b.id));
        let ended = survey
            .iter()
            .filter(|seen| matches!(seen.state, RunState::Ended(_)))
            .count();
        assert!((45_000..55_000).contains(&ended), "{ended}");
        histories.push(survey);
    }
    assert!(histories[0] == histories[1]);
}

/// Counts the probes that are really run.
#[derive(Debug)]
struct Counting(SimProber, std::sync::atomic::AtomicU64);

#[async_trait]
impl Prober for Counting {
    async fn probe(
        &self,
        target: &ProbeTarget,
        spec: &ProbeSpec,
    ) -> Result<Verdict, orchestra_core::port::probe::ProbeError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.probe(target, spec).await
    }
}

/// What a probed workload of that image goes through while it is disturbed, how many probes
/// counted as begun, and how many were run.
async fn probed(image: &str, foreseen: bool) -> (Vec<String>, u64, u64) {
    use crate::probe::{ProbeWheel, WatchedProbe, WatchedProbes, WheelLimits};
    use orchestra_sched::health::tracker::ProbePolicy;

    let driver = driver();
    let clock = driver.held.clock.clone();
    let prober = Arc::new(Counting(SimProber::new(driver.clone()), 0.into()));
    let mut wheel = ProbeWheel::new(prober.clone(), clock, WheelLimits::default());
    if foreseen {
        wheel = wheel.foreseeing(Arc::new(SimProber::new(driver.clone())));
    }
    let handle = wheel.handle();
    let turning = tokio::spawn(wheel.run(tokio_util::sync::CancellationToken::new()));
    let probe = |period, failure_threshold| WatchedProbe {
        spec: ProbeSpec::Tcp {
            host: None,
            port: 80,
        },
        policy: ProbePolicy {
            period: s(period),
            failure_threshold,
            ..ProbePolicy::default()
        },
    };
    let probes = WatchedProbes {
        startup: None,
        liveness: Some(probe(7, 3)),
        readiness: Some(probe(10, 1)),
    };
    let workload = want(1, image, 0);
    let health = handle.watch(workload.id.clone(), probes);
    let began = Instant::now();
    let story = async {
        driver.ensure(&workload).await.unwrap();
        health.on_started(None, 0);
        let millis = Duration::from_millis;
        tokio::time::sleep(millis(41_500)).await;
        driver.set_healthy(&workload.id, false);
        tokio::time::sleep(millis(10_000)).await;
        driver.set_healthy(&workload.id, true);
        tokio::time::sleep(millis(100_000)).await;
        driver.set_reachable(false);
        tokio::time::sleep(millis(30_000)).await;
        driver.set_reachable(true);
        tokio::time::sleep(millis(7_200_000)).await;
        health.on_deleted();
        tokio::time::sleep(millis(100_000)).await;
        driver.crash(&workload.id);
        tokio::time::sleep(millis(100_300)).await;
    };
    let mut watched = health.subscribe();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        // It ends with the wheel and the container's health, who hold the sender.
        while watched.changed().await.is_ok() {
            let state = watched.borrow_and_update().clone();
            seen.push(format!("{:?} {state:?}", began.elapsed()));
        }
        seen
    });
    story.await;
    drop(health);
    tokio::time::sleep(s(1)).await;
    let stats = handle.stats();
    turning.abort();
    drop(handle);
    let seen = watching.await.unwrap();
    (seen, stats.begun, prober.1.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn probes_that_are_known_to_pass_are_counted_and_change_nothing() {
    for image in ["well", "slow", "job", "flaky", "sick", "hangs"] {
        let (plain, begun, ran) = probed(image, false).await;
        let (foreseen, also_begun, ran_foreseen) = probed(image, true).await;
        assert_eq!(plain, foreseen, "{image}");
        assert_eq!((begun, begun), (also_begun, ran), "{image}");
        assert!(plain.len() > 1, "{image}: {plain:?}");
        if image == "well" {
            assert!(ran > 1_500 && ran_foreseen < 40, "{ran} {ran_foreseen}");
        }
    }
}
